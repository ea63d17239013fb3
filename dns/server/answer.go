package server

import (
	"hash/maphash"

	miekg "github.com/miekg/dns"

	"postrider/dns/zone"
)

// Extended errors that are ours (RFC 8914 section 4).
const (
	edeNotReady         = 14
	edeProhibited       = 18
	edeNotAuthoritative = 20
)

// maxZones bounds the zones of ours that one alias after another leads through.
const maxZones = 8

// local answers from our own zones, or refuses. pending means that the answer
// takes more than this server has.
func (s *Server) local(at *setup, q *query, c *client) (e *entry, pending bool) {
	switch {
	case q.class != miekg.ClassINET:
		return refusal(q, miekg.RcodeRefused), false
	case q.qtype == miekg.TypeAXFR, q.qtype == miekg.TypeIXFR:
		return nil, true
	case q.qtype == miekg.TypeMAILA, q.qtype == miekg.TypeMAILB, q.qtype == miekg.TypeTKEY:
		return refusal(q, miekg.RcodeNotImplemented), false
	case q.qtype == miekg.TypeOPT, q.qtype == miekg.TypeTSIG, q.qtype == miekg.TypeNone:
		return refusal(q, miekg.RcodeFormatError), false
	}
	question := q.question()
	a := s.authoritative(at, question, q.do)
	recursion := c.recursion && q.flags&flagRD != 0
	if a == nil && c.recursion {
		if a = s.localZone(at, question, q.do); a == nil {
			return nil, true
		}
	}
	if a == nil {
		code := uint16(edeNotAuthoritative)
		text := ""
		if s.recursor != nil {
			code, text = edeProhibited, "recursion is for listed networks"
		}
		return refusal(q, miekg.RcodeRefused, extended{code, text}), false
	}
	if recursion && a.incomplete() {
		return nil, true
	}
	return s.entryOf(at, a, c), false
}

// refusal is an answer without records that is not kept.
func refusal(q *query, rcode int, errs ...extended) *entry {
	var w worker
	e := w.failure(q, rcode, errs...)
	return e
}

// ours is an answer from zones of ours.
type ours struct {
	msg    miekg.Msg
	zone   *zone.Zone // the first one
	served *served
	// next is the name outside our zones where a chain of aliases leads; ""
	// where it ends here.
	next     string
	chained  bool // through more than one zone
	referral bool
	errors   []extended
	failed   bool
}

// incomplete tells whether a resolver would go on from here.
func (a *ours) incomplete() bool { return !a.failed && (a.next != "" || a.referral) }

// authoritative answers from the zones that are served; nil where none of them
// has the name.
func (s *Server) authoritative(at *setup, question miekg.Question, do bool) *ours {
	z := find(at.zones, question.Name, question.Qtype)
	if z == nil {
		return nil
	}
	a := &ours{served: z}
	a.msg.Question = []miekg.Question{question}
	seen := map[string]bool{}
	for name := question.Name; ; {
		version := z.current.Load()
		if version == nil || z.expired.Load() {
			if name == question.Name {
				// RFC 1035 section 4.3.5: what has expired is not given out.
				a.failed, a.msg.Rcode = true, miekg.RcodeServerFailure
				a.errors = append(a.errors, extended{edeNotReady, "the zone is not loaded or has expired"})
			} else {
				a.next = name
			}
			return a
		}
		if a.zone == nil {
			a.zone = version
		}
		r := version.Answer(miekg.Question{Name: name, Qtype: question.Qtype, Qclass: question.Qclass}, zone.AnswerOptions{DNSSEC: do, Minimal: at.Minimal, OneOfANY: true})
		a.add(&r)
		target := chainEnd(name, question.Qtype, r.Answer)
		if target == "" || miekg.IsSubDomain(version.Origin(), target) && find(at.zones, target, question.Qtype) == z {
			return a
		}
		seen[name] = true
		next := find(at.zones, target, question.Qtype)
		if next == nil || seen[target] || len(seen) == maxZones {
			a.next = target
			return a
		}
		a.chained = true
		z, name = next, target
	}
}

// add puts a zone's answer behind those of the zones before it.
func (a *ours) add(r *zone.Result) {
	first := len(a.msg.Answer) == 0
	a.msg.Rcode = r.Rcode
	if first {
		a.msg.Authoritative = r.Authoritative
	}
	a.referral = !r.Authoritative && r.Rcode == miekg.RcodeSuccess && len(r.Answer) == 0 && len(r.Ns) > 0
	a.msg.Answer = append(a.msg.Answer, r.Answer...)
	a.msg.Ns, a.msg.Extra = r.Ns, r.Extra
}

// chainEnd returns the name at the end of the aliases in an answer that has no
// record of the type that was asked for; "" for any other answer.
func chainEnd(name string, typ uint16, records []miekg.RR) string {
	if typ == miekg.TypeCNAME || typ == miekg.TypeANY {
		return ""
	}
	end := ""
	for _, rr := range records {
		switch h := rr.Header(); {
		case h.Rrtype == typ:
			return ""
		case h.Rrtype == miekg.TypeCNAME:
			end = miekg.CanonicalName(rr.(*miekg.CNAME).Target)
		}
	}
	return end
}

// entryOf packs an answer of ours.
func (s *Server) entryOf(at *setup, a *ours, c *client) *entry {
	q := a.msg.Question[0]
	a.msg.Response = true
	a.msg.RecursionAvailable = c.recursion
	e := newEntry(&a.msg)
	e.referral, e.errors = a.referral, a.errors
	e.kind = s.kind(a, q.Name)
	if !a.chained && !a.failed {
		e.from, e.zone = a.served, a.zone
	}
	return e
}

// kind is what an answer's rate is counted by: its name; for what does not
// exist the zone, since there are as many such names as an attacker likes.
func (s *Server) kind(a *ours, name string) uint64 {
	if a.msg.Rcode != miekg.RcodeSuccess || len(a.msg.Answer) == 0 {
		name = a.served.name + "-"
	}
	return maphash.String(s.seed, name)
}
