package dns

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/exchange"
	"postrider/internal/journey"
)

// maxSaid is how many records of an answer an event names.
const maxSaid = 8

// said are records in the form of zone files. They are made once, when an answer
// comes, and not for each who gets it from the cache.
func said(records []miekg.RR) []string {
	list := make([]string, 0, min(len(records), maxSaid))
	for _, rr := range records[:min(len(records), maxSaid)] {
		list = append(list, printable(data(rr)))
	}
	return list
}

// recordAnswer tells the journey what a lookup was told, for the message that it is
// for.
func (r *Resolver) recordAnswer(ctx context.Context, q question, s *step) {
	if !r.journey.Wants(journey.DNSAnswer) {
		return
	}
	scope := journey.ScopeOf(ctx)
	attrs := make([]journey.Attr, 0, 10)
	attrs = append(attrs, journey.Attr{Key: "name", Value: undotted(q.name)}, journey.Attr{Key: "type", Value: q.typ.String()})
	switch s.outcome {
	case found:
		for _, text := range s.said {
			attrs = append(attrs, journey.Attr{Key: "answer", Value: text})
		}
	case alias:
		attrs = append(attrs, journey.Attr{Key: "answer", Value: "an alias of " + plain(s.name)})
	case noData:
		attrs = append(attrs, journey.Attr{Key: "rcode", Value: "no such record"})
	case notExist:
		attrs = append(attrs, journey.Attr{Key: "rcode", Value: "NXDOMAIN"})
	case failed:
		attrs = append(attrs, journey.Attr{Key: "rcode", Value: "not known: " + s.err.Error()})
	}
	if s.aliases > 0 && s.outcome != alias {
		attrs = append(attrs, journey.Attr{Key: "canonical", Value: plain(s.name)})
	}
	ttl := s.ttl
	if s.cached {
		attrs = append(attrs, journey.Attr{Key: "cache", Value: "hit"})
		ttl = s.left
	}
	attrs = append(attrs, journey.Attr{Key: "ttl", Value: strconv.Itoa(int(ttl / time.Second))})
	if s.security != "" {
		attrs = append(attrs, journey.Attr{Key: "security", Value: s.security})
	}
	r.journey.Record(journey.Event{Kind: journey.DNSAnswer, Message: scope.Message, Session: scope.Session, Peer: s.server,
		Attrs: attrs, RFC: "RFC 1034 section 5.3.1"})
}

// recordHosts tells that the hosts file answered.
func (r *Resolver) recordHosts(ctx context.Context, name string, typ Type, answers []string) {
	if !r.journey.Wants(journey.DNSAnswer) {
		return
	}
	scope := journey.ScopeOf(ctx)
	attrs := []journey.Attr{{Key: "name", Value: strings.TrimSuffix(name, ".")}, {Key: "type", Value: typ.String()}, {Key: "cache", Value: "hosts file"}}
	for _, a := range answers[:min(len(answers), maxSaid)] {
		attrs = append(attrs, journey.Attr{Key: "answer", Value: a})
	}
	r.journey.Record(journey.Event{Kind: journey.DNSAnswer, Message: scope.Message, Session: scope.Session, Attrs: attrs})
}

func addressTexts(list []netip.Addr) []string {
	texts := make([]string, len(list))
	for i, a := range list {
		texts[i] = a.String()
	}
	return texts
}

// recordQuery tells what is asked of a server.
func (s *stub) recordQuery(ctx context.Context, network, server string, q question, wire []byte) {
	if !s.journey.Wants(journey.DNSQuery) {
		return
	}
	scope := journey.ScopeOf(ctx)
	s.journey.Record(journey.Event{Kind: journey.DNSQuery, Message: scope.Message, Session: scope.Session, Peer: server, Wire: wire,
		Attrs: []journey.Attr{{Key: "name", Value: plain(q.name)}, {Key: "type", Value: q.typ.String()}, {Key: "transport", Value: network}}})
}

// recordReply tells what the server said to it.
func (s *stub) recordReply(ctx context.Context, server string, q question, began time.Time, reply *exchange.Reply, err error) {
	if !s.journey.Wants(journey.DNSReply) {
		return
	}
	scope := journey.ScopeOf(ctx)
	e := journey.Event{Kind: journey.DNSReply, Message: scope.Message, Session: scope.Session, Peer: server,
		Attrs: []journey.Attr{{Key: "name", Value: plain(q.name)}, {Key: "type", Value: q.typ.String()},
			{Key: "took", Value: s.clock.Now().Sub(began).Round(10 * time.Microsecond).String()}}}
	if err != nil {
		e.Attrs = append(e.Attrs, journey.Attr{Key: "rcode", Value: "nothing of use: " + err.Error()})
	} else {
		e.Wire = reply.Wire
		e.Attrs = append(e.Attrs, journey.Attr{Key: "rcode", Value: exchange.RcodeText(reply.Msg.Rcode)},
			journey.Attr{Key: "flags", Value: strings.Join(flagsOf(reply.Msg), " ")})
		for _, text := range said(reply.Msg.Answer) {
			e.Attrs = append(e.Attrs, journey.Attr{Key: "answer", Value: text})
		}
	}
	s.journey.Record(e)
}

// flagsOf are the names of the bits that are set in a header.
func flagsOf(m *miekg.Msg) []string {
	var list []string
	for _, f := range flags {
		if f.set(m) {
			list = append(list, f.name)
		}
	}
	return list
}
