package server

import (
	"context"
	"hash/maphash"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/recursor"
)

// Recursor looks names up for clients: a *recursor.Resolver.
type Recursor interface {
	Resolve(ctx context.Context, q miekg.Question, ask recursor.Ask) recursor.Answer
	// Generation changes when answers that were given before are to be
	// forgotten.
	Generation() uint64
}

// anyTTL is how long the answer to ANY holds.
const anyTTL = 3600

// resolve answers by recursion, beginning with what our zones say.
func (s *Server) resolve(ctx context.Context, at *setup, q *query, c *client, now time.Time) *entry {
	question := q.question()
	m := miekg.Msg{Question: []miekg.Question{question}}
	m.RecursionAvailable = true
	if question.Qtype == miekg.TypeANY {
		// RFC 8482 section 4.2: whatever the name has, this is the answer.
		m.Answer = []miekg.RR{&miekg.HINFO{Cpu: "RFC8482",
			Hdr: miekg.RR_Header{Name: question.Name, Rrtype: miekg.TypeHINFO, Class: miekg.ClassINET, Ttl: anyTTL}}}
		return newEntry(&m)
	}
	a := s.authoritative(at, question, q.do)
	if a != nil && !a.incomplete() {
		return s.entryOf(at, a, c)
	}
	target := question
	if a != nil && a.next != "" {
		target.Name = a.next
		m.Authoritative = a.msg.Authoritative
		m.Answer = append(m.Answer, a.msg.Answer...)
	}
	generation := s.recursor.Generation()
	r := s.recursor.Resolve(ctx, target, recursor.Ask{CheckingDisabled: q.flags&flagCD != 0, NoRecursion: q.flags&flagRD == 0})
	m.Rcode = r.Rcode
	m.Answer = append(m.Answer, plain(r.Answer, q.do, question.Qtype)...)
	m.Ns = plain(r.Ns, q.do, question.Qtype)
	if q.flags&flagRD == 0 || !at.Minimal {
		m.Extra = plain(r.Extra, q.do, question.Qtype)
	}
	e := newEntry(&m)
	e.secure = r.Authenticated && a == nil
	if e.origin, e.says = asked, r.Security.String(); r.FromCache {
		e.origin = cached
	}
	for _, x := range r.ExtendedErrors {
		e.errors = append(e.errors, extended{x.Code, x.Text})
	}
	e.kind = maphash.String(s.seed, question.Name)
	if len(m.Answer) == 0 {
		e.kind = maphash.String(s.seed, soaName(m.Ns)+"-")
	}
	if a == nil && r.FreshUntil.After(now) {
		e.stored, e.until, e.generation = now.UnixNano(), r.FreshUntil.UnixNano(), generation
	}
	return e
}

// plain is the records without those that only clients of DNSSEC have asked for
// (RFC 4035 section 3.2.1), unless the question was about their type.
func plain(records []miekg.RR, do bool, typ uint16) []miekg.RR {
	if do {
		return records
	}
	out := records[:0:0]
	for _, rr := range records {
		switch t := rr.Header().Rrtype; t {
		case miekg.TypeRRSIG, miekg.TypeNSEC, miekg.TypeNSEC3:
			if t != typ {
				continue
			}
		}
		out = append(out, rr)
	}
	return out
}

func soaName(records []miekg.RR) string {
	for _, rr := range records {
		if rr.Header().Rrtype == miekg.TypeSOA {
			return miekg.CanonicalName(rr.Header().Name)
		}
	}
	return ""
}
