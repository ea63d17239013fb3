package server

import (
	"encoding/binary"
	"errors"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/zone"
)

const (
	// maxTransfers bounds the zone transfers that go out at once.
	maxTransfers = 20
	// transferSize is when a message of a transfer is full. Names beyond 16 KiB
	// cannot be pointed to, so that longer messages are compressed less.
	transferSize = 16 << 10
)

// transfer answers AXFR and IXFR (RFC 5936, RFC 1995).
func (s *Server) transfer(at *setup, w *work) {
	question := w.q.question()
	z := at.zones[question.Name]
	if z == nil || w.q.class != miekg.ClassINET {
		s.fail(w, miekg.RcodeNotAuth) // RFC 5936 section 2.2.1
		return
	}
	if !z.conf().AllowTransfer.allows(w.addr, w.signer()) {
		s.log.Info("zone transfer refused", "zone", shown(z.name), "client", w.addr.String())
		w.fate.reason = "not of those who may have the whole zone"
		s.fail(w, miekg.RcodeRefused)
		return
	}
	version := z.current.Load()
	if version == nil || z.expired.Load() {
		s.fail(w, miekg.RcodeServerFailure)
		return
	}
	if w.transport == UDP {
		// AXFR is not defined over UDP (RFC 5936 section 4.2). To IXFR the
		// present SOA is an answer: whoever lacks more comes over TCP (RFC
		// 1995 section 2).
		if w.q.qtype == miekg.TypeAXFR {
			s.fail(w, miekg.RcodeFormatError)
			return
		}
		m := miekg.Msg{Question: []miekg.Question{question}, Answer: []miekg.RR{version.SOA()}}
		m.Authoritative = true
		s.reply(w, newEntry(&m))
		return
	}
	select {
	case s.transfers <- struct{}{}:
		defer func() { <-s.transfers }()
	default:
		w.fate.reason = "too many transfers at once"
		s.fail(w, miekg.RcodeServerFailure)
		return
	}
	out := &outgoing{w: w, now: s.clock.Now, question: question}
	var err error
	diffs := z.since(w, version)
	switch {
	case w.q.qtype == miekg.TypeIXFR && diffs != nil:
		err = out.changes(version, diffs)
	default:
		err = out.whole(version)
	}
	if w.listened {
		s.recordSent(w, out, version.Serial(), len(diffs), err)
	}
	if err != nil {
		s.log.Info("zone transfer broken off", "zone", shown(z.name), "client", w.addr.String(), "err", err)
		return
	}
	s.stats.Transfers.Add(1)
	s.log.Info("zone sent", "zone", shown(z.name), "client", w.addr.String(), "serial", version.Serial(), "messages", out.messages, "changes", len(diffs))
}

// signer is the key that the request is signed with, or nil.
func (w *work) signer() *Key {
	if w.signed == nil {
		return nil
	}
	return w.signed.key
}

// since returns the changes that lead from the version a client of IXFR has to
// the present one: none, not nil, for a client that has it or a newer one; nil
// where they are not known or longer than the zone.
func (z *served) since(w *work, version *zone.Zone) []zone.Diff {
	if w.q.qtype != miekg.TypeIXFR {
		return nil
	}
	var m miekg.Msg
	if m.Unpack(w.msg) != nil || len(m.Ns) != 1 {
		return nil
	}
	soa, ok := m.Ns[0].(*miekg.SOA)
	if !ok {
		return nil
	}
	if !newer(version.Serial(), soa.Serial) {
		return []zone.Diff{}
	}
	diffs := z.files.since(soa.Serial, version.Serial())
	size := 0
	for _, d := range diffs {
		size += d.Len()
	}
	if size > version.Len() {
		return nil
	}
	return diffs
}

// newer compares serial numbers (RFC 1982 section 3.2). Of two that are half
// the circle apart neither is newer.
func newer(a, b uint32) bool { return zone.SerialLess(b, a) }

// outgoing writes the messages of a transfer.
type outgoing struct {
	w        *work
	now      func() time.Time
	question miekg.Question
	buf      []byte
	off      int
	count    int // records in buf
	names    map[string]int
	messages int
	records  int    // in all messages
	first    []byte // the beginning of the first message, if somebody listens
}

// whole sends every record, the SOA first and again last.
func (o *outgoing) whole(z *zone.Zone) error {
	for rr := range z.All() {
		if err := o.add(rr); err != nil {
			return err
		}
	}
	if err := o.add(z.SOA()); err != nil {
		return err
	}
	return o.flush()
}

// changes sends differences, each between the SOA records of its versions. None:
// the client is up to date, and the SOA says so.
func (o *outgoing) changes(z *zone.Zone, diffs []zone.Diff) error {
	records := []miekg.RR{z.SOA()}
	for _, d := range diffs {
		records = append(append(append(append(records, d.From), d.Deleted...), d.To), d.Added...)
	}
	if len(diffs) > 0 {
		records = append(records, z.SOA())
	}
	for _, rr := range records {
		if err := o.add(rr); err != nil {
			return err
		}
	}
	return o.flush()
}

// begin starts a message. The question is in the first alone.
func (o *outgoing) begin() error {
	if o.buf == nil {
		o.buf = make([]byte, maxMessage)
	}
	clear(o.buf[:headerSize])
	binary.BigEndian.PutUint16(o.buf, o.w.q.id)
	binary.BigEndian.PutUint16(o.buf[2:], flagQR|flagAA)
	o.names, o.off, o.count = map[string]int{}, headerSize, 0
	if o.messages > 0 {
		return nil
	}
	off, err := miekg.PackDomainName(o.question.Name, o.buf, o.off, o.names, true)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint16(o.buf[off:], o.question.Qtype)
	binary.BigEndian.PutUint16(o.buf[off+2:], o.question.Qclass)
	o.buf[5] = 1
	o.off = off + 4
	return nil
}

// maxTransferMessage leaves room for a signature.
const maxTransferMessage = maxMessage - 1024

func (o *outgoing) add(rr miekg.RR) error {
	if o.off == 0 {
		if err := o.begin(); err != nil {
			return err
		}
	}
	off, err := miekg.PackRR(miekg.Copy(rr), o.buf[:maxTransferMessage], o.off, o.names, true)
	if err != nil && o.count > 0 { // it does not fit behind the others
		if err := o.flush(); err != nil {
			return err
		}
		return o.add(rr)
	} else if err != nil {
		return errors.New("a record does not fit a message")
	}
	o.off = off
	o.count++
	if o.off >= transferSize {
		return o.flush()
	}
	return nil
}

// flush sends the message under way, if there is one.
func (o *outgoing) flush() error {
	if o.off == 0 || o.count == 0 {
		return nil
	}
	binary.BigEndian.PutUint16(o.buf[6:], uint16(o.count))
	msg := o.buf[:o.off:o.off]
	if o.w.signed != nil {
		msg = o.w.signed.sign(msg, o.now(), 0)
	}
	if o.w.listened && o.messages == 0 {
		o.first = append(o.first, msg[:min(len(msg), maxKept)]...)
	}
	o.off = 0
	o.messages++
	o.records += o.count
	return o.w.send(msg)
}
