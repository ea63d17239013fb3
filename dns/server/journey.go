package server

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/exchange"
	"postrider/dns/zone"
	"postrider/internal/journey"
)

const (
	// maxSaid is how many records of a message an event names.
	maxSaid = 8
	// maxKept is how many octets of a transfer's first message an event keeps.
	maxKept = 4096
)

// listened tells whether somebody wants to know what is asked and answered.
// Nothing of it is looked at otherwise.
func (s *Server) listened() bool { return s.journey.Wants(journey.NameserverReply) }

// recordQuery tells what a client asks.
func (s *Server) recordQuery(q *query, c *client) {
	attrs := append(q.about(), journey.Attr{Key: "transport", Value: c.transport.String()})
	var flags []string
	for _, f := range []struct {
		set  bool
		name string
	}{{q.flags&flagRD != 0, "rd"}, {q.flags&flagCD != 0, "cd"}, {q.do, "do"}, {q.tsigAt > 0, "signed"}} {
		if f.set {
			flags = append(flags, f.name)
		}
	}
	if len(flags) > 0 {
		attrs = append(attrs, journey.Attr{Key: "flags", Value: strings.Join(flags, " ")})
	}
	if q.opcode == miekg.OpcodeUpdate {
		attrs = append(attrs, updates(q.wire)...)
	}
	s.journey.Record(journey.Event{Kind: journey.NameserverQuery, Peer: c.addr.String(), Attrs: attrs, Wire: q.wire})
}

// about is what a message of a client is about.
func (q *query) about() []journey.Attr {
	name, typ := "", ""
	if q.questions == 1 {
		name, typ = shown(q.question().Name), miekg.Type(q.qtype).String()
	}
	return about(q.opcode, name, typ)
}

func about(opcode int, name, typ string) []journey.Attr {
	attrs := make([]journey.Attr, 0, 12)
	attrs = append(attrs, journey.Attr{Key: "name", Value: name}, journey.Attr{Key: "type", Value: typ})
	if opcode != miekg.OpcodeQuery {
		attrs = append(attrs, journey.Attr{Key: "opcode", Value: miekg.OpcodeToString[opcode]})
	}
	return attrs
}

// updates are the prerequisites and the changes of an UPDATE, in words (RFC 2136
// sections 2.4 and 2.5).
func updates(wire []byte) []journey.Attr {
	var m miekg.Msg
	if m.Unpack(wire) != nil {
		return nil
	}
	var attrs []journey.Attr
	for _, rr := range m.Answer[:min(len(m.Answer), maxSaid)] {
		attrs = append(attrs, journey.Attr{Key: "prerequisite", Value: "if " + spoken(rr, "there is", "there is", "there is no")})
	}
	for _, rr := range m.Ns[:min(len(m.Ns), maxSaid)] {
		attrs = append(attrs, journey.Attr{Key: "change", Value: spoken(rr, "add", "delete all", "delete")})
	}
	return attrs
}

// spoken is a record of an update with the word for its class.
func spoken(rr miekg.RR, in, anyClass, none string) string {
	h := rr.Header()
	word := map[uint16]string{miekg.ClassANY: anyClass, miekg.ClassNONE: none}[h.Class]
	if word == "" {
		word = in
	}
	text := strings.TrimSpace(strings.TrimPrefix(rr.String(), h.String()))
	if h.Rdlength == 0 {
		text = ""
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s %s", word, shown(h.Name), miekg.Type(h.Rrtype), text))
}

// fate is what becomes of a reply.
type fate struct {
	limited limited
	hot     bool   // the octets were ready
	reason  string // for which something was refused or not sent
}

// recordReply tells what a client is answered: wire, or nothing.
func (s *Server) recordReply(q *query, c *client, e *entry, wire []byte, f fate) {
	attrs := q.about()
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, journey.Attr{Key: key, Value: value})
		}
	}
	switch f.limited {
	case withhold:
		add("limit", "withheld for its rate")
	case slip:
		add("limit", "cut short for its rate")
	}
	var m miekg.Msg
	if len(wire) > 0 && m.Unpack(wire) == nil {
		for _, a := range replied(&m) {
			add(a.Key, a.Value)
		}
	}
	if e != nil {
		for _, a := range e.provenance(f.hot) {
			add(a.Key, a.Value)
		}
	}
	add("reason", f.reason)
	s.journey.Record(journey.Event{Kind: journey.NameserverReply, Peer: c.addr.String(), Attrs: attrs, Wire: wire})
}

// provenance is where an answer is from.
func (e *entry) provenance(hot bool) []journey.Attr {
	var attrs []journey.Attr
	switch {
	case e.flags&flagAA != 0 && e.from != nil:
		attrs = append(attrs, journey.Attr{Key: "zone", Value: shown(e.from.name)})
	case e.origin == asked && hot, e.origin == cached:
		attrs = append(attrs, journey.Attr{Key: "cache", Value: "hit"}, journey.Attr{Key: "security", Value: e.says})
	case e.origin == asked:
		attrs = append(attrs, journey.Attr{Key: "cache", Value: "miss"}, journey.Attr{Key: "security", Value: e.says})
	}
	for _, x := range e.errors {
		text := miekg.ExtendedErrorCodeToString[x.code]
		if x.text != "" {
			text += ": " + x.text
		}
		attrs = append(attrs, journey.Attr{Key: "extended", Value: text})
	}
	return attrs
}

// replied is what a reply says.
func replied(m *miekg.Msg) []journey.Attr {
	attrs := []journey.Attr{{Key: "rcode", Value: exchange.RcodeText(m.Rcode)}}
	records := m.Answer
	for _, rr := range records[:min(len(records), maxSaid)] {
		if rr.Header().Rrtype != miekg.TypeRRSIG {
			attrs = append(attrs, journey.Attr{Key: "answer", Value: strings.TrimPrefix(rr.String(), rr.Header().String())})
		}
	}
	if len(records) == 0 {
		records = m.Ns // a denial or a referral is kept, too
	}
	ttl := uint32(1 << 31)
	for _, rr := range records {
		ttl = min(ttl, rr.Header().Ttl)
	}
	if ttl < 1<<31 && m.Opcode == miekg.OpcodeQuery {
		attrs = append(attrs, journey.Attr{Key: "ttl", Value: strconv.Itoa(int(ttl))})
	}
	return attrs
}

// recordBusy tells of a message that is not answered since too much is in hand.
func (s *Server) recordBusy(c *client, msg []byte) {
	var q query
	if v, _ := q.read(msg); v == proceed && s.listened() {
		s.recordReply(&q, c, nil, nil, fate{reason: "too much is in hand"})
	}
}

// recordChange tells that a version of the zone is served, in place of the one before
// or, if that is nil, of none.
func (z *served) recordChange(before, next *zone.Zone) {
	if !z.s.journey.Wants(journey.ZoneChanged) {
		return
	}
	attrs := []journey.Attr{{Key: "zone", Value: shown(z.name)}, newest(next.Serial()), {Key: "records", Value: strconv.Itoa(next.Len())}}
	if before != nil {
		attrs = append(attrs, journey.Attr{Key: "before", Value: strconv.FormatUint(uint64(before.Serial()), 10)})
		if before.Says(next) {
			attrs = append(attrs, journey.Attr{Key: "why", Value: "it says the same, with other signatures"})
		}
	}
	z.s.journey.Record(journey.Event{Kind: journey.ZoneChanged, Attrs: attrs})
}

func newest(n uint32) journey.Attr {
	return journey.Attr{Key: "serial", Value: strconv.FormatUint(uint64(n), 10)}
}

// recordSent tells of a transfer that went out, or as far as it did.
func (s *Server) recordSent(w *work, o *outgoing, version uint32, changes int, err error) {
	attrs := append(w.q.about(), journey.Attr{Key: "rcode", Value: "NOERROR"}, newest(version),
		journey.Attr{Key: "records", Value: strconv.Itoa(o.records)}, journey.Attr{Key: "messages", Value: strconv.Itoa(o.messages)})
	if changes > 0 {
		attrs = append(attrs, journey.Attr{Key: "changes", Value: strconv.Itoa(changes)})
	}
	if err != nil {
		attrs = append(attrs, journey.Attr{Key: "reason", Value: "it broke off: " + err.Error()})
	}
	s.journey.Record(journey.Event{Kind: journey.NameserverReply, Peer: w.addr.String(), Attrs: attrs, Wire: o.first})
}

// zoneAsk is what we ask of another name server, or tell it, for the journey.
type zoneAsk struct {
	s         *Server
	addr      string
	opcode    int
	name, typ string
	began     time.Time
}

// asking records that m goes out as wire; nil where nobody wants to know.
func (s *Server) asking(network, addr string, m *miekg.Msg, wire []byte) *zoneAsk {
	if !s.journey.Wants(journey.ZoneQuery) || len(m.Question) != 1 {
		return nil
	}
	a := &zoneAsk{s: s, addr: addr, opcode: m.Opcode, name: shown(m.Question[0].Name), typ: miekg.Type(m.Question[0].Qtype).String(), began: s.clock.Now()}
	s.journey.Record(journey.Event{Kind: journey.ZoneQuery, Peer: addr, Wire: wire,
		Attrs: append(about(a.opcode, a.name, a.typ), journey.Attr{Key: "transport", Value: network})})
	return a
}

// said records the reply.
func (a *zoneAsk) said(wire []byte, err error) {
	if a == nil {
		return
	}
	var m miekg.Msg
	var attrs []journey.Attr
	if m.Unpack(wire) == nil {
		attrs = replied(&m)
	}
	a.record(wire, err, attrs)
}

// brought records what a transfer brought.
func (a *zoneAsk) brought(in *incoming, err error) {
	attrs := []journey.Attr{{Key: "rcode", Value: "NOERROR"}}
	if in.first != nil {
		attrs = append(attrs, newest(in.first.Serial))
	}
	attrs = append(attrs, journey.Attr{Key: "records", Value: strconv.Itoa(in.count)})
	if n := len(in.diffs); n > 0 {
		attrs = append(attrs, journey.Attr{Key: "changes", Value: strconv.Itoa(n)})
	}
	a.record(nil, err, attrs)
}

func (a *zoneAsk) record(wire []byte, err error, attrs []journey.Attr) {
	if err != nil {
		attrs = []journey.Attr{{Key: "rcode", Value: "nothing of use: " + err.Error()}}
	}
	attrs = append(append(about(a.opcode, a.name, a.typ), attrs...),
		journey.Attr{Key: "took", Value: a.s.clock.Now().Sub(a.began).Round(10 * time.Microsecond).String()})
	a.s.journey.Record(journey.Event{Kind: journey.ZoneReply, Peer: a.addr, Attrs: attrs, Wire: wire})
}
