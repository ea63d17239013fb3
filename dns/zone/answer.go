package zone

import (
	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

// maxChain is how many aliases an answer follows within the zone.
const maxChain = 16

// AnswerOptions says what the asker wants to know besides.
type AnswerOptions struct {
	DNSSEC   bool // signatures and proofs, if the zone has them (RFC 4035 section 3.1)
	Minimal  bool // nothing that the answer does not need: no NS records beside it, addresses only in referrals
	OneOfANY bool // for ANY, one set instead of all (RFC 8482 section 4.1)
}

// Result is what a zone says to a question. The slices, and the records in
// them, are shared with the zone and with other results: they must not be
// written to (appending copies).
type Result struct {
	Rcode         int // NOERROR, NXDOMAIN, YXDOMAIN, or REFUSED for names outside
	Authoritative bool
	Answer        []miekg.RR
	Ns            []miekg.RR
	Extra         []miekg.RR
}

// Answer answers a question by RFC 1034 section 4.3.2, with the wildcards of RFC
// 4592, DNAME of RFC 6672 and the proofs of RFC 4035 section 3.1 and RFC 5155
// section 7.2. The class of the question is not looked at. Aliases are followed
// as long as they lead to names of this zone. A name outside the zone is REFUSED;
// a question about a name at or below a delegation gets a referral, which has no
// answer and is not authoritative.
func (z *Zone) Answer(q miekg.Question, o AnswerOptions) Result {
	a := answering{z: z, q: q, o: o, proofs: o.DNSSEC && z.Signed()}
	name := names.Canonical(q.Name)
	if name == "" || !a.l.split(name) {
		return Result{Rcode: miekg.RcodeRefused}
	}
	depth := a.l.below(z.origin, z.labels)
	if depth < 0 {
		return Result{Rcode: miekg.RcodeRefused}
	}
	a.owner = q.Name
	a.r.Authoritative = true
	for a.hops = 0; a.hops < maxChain; a.hops++ {
		a.seen[a.hops] = a.l.name
		next := a.step(depth)
		if next == "" {
			break
		}
		a.owner = next
		name = names.Canonical(next)
		if name == "" || !a.l.split(name) {
			break
		}
		if depth = a.l.below(z.origin, z.labels); depth < 0 {
			break // RFC 1034 section 4.3.2 step 3a goes on at step 1, in another zone
		}
		if a.met(name) {
			break
		}
	}
	return a.r
}

// answering is a question on its way to the answer.
type answering struct {
	z      *Zone
	q      miekg.Question
	o      AnswerOptions
	proofs bool
	r      Result
	l      labels // of the name that is looked for
	owner  string // the same, as it is to be spelled in synthesised records
	hops   int
	seen   [maxChain]string
}

// met tells that the chain has been at a name before.
func (a *answering) met(name string) bool {
	for _, s := range a.seen[:a.hops+1] {
		if s == name {
			return true
		}
	}
	return false
}

// step answers for one name. It returns the name at which to go on, or "".
func (a *answering) step(depth int) string {
	n, left, p := a.z.search(&a.l, depth, a.q.Qtype)
	switch p {
	case delegation:
		a.refer(n)
		return ""
	case redirected:
		return a.redirect(n, left)
	case inside:
		return a.match(n)
	}
	if w := n.kids.get("*"); w != nil {
		return a.wildcard(n, w, left)
	}
	a.r.Rcode = miekg.RcodeNameError
	a.deny(proof{encloser: n, left: left, noName: true})
	return ""
}

// match answers from the node of the name itself.
func (a *answering) match(n *node) string {
	if a.q.Qtype == miekg.TypeANY || a.q.Qtype == miekg.TypeRRSIG {
		if a.gather(n, func(rrs []miekg.RR) []miekg.RR { return rrs }) {
			a.authority(n)
		} else {
			a.deny(proof{node: n})
		}
		return ""
	}
	if s := n.data(a.q.Qtype); s != nil {
		a.r.Answer = join(a.r.Answer, s.records(a.o.DNSSEC))
		a.finish(s, n)
		return ""
	}
	if n.has&hasCNAME != 0 {
		s := n.data(miekg.TypeCNAME)
		a.r.Answer = join(a.r.Answer, s.records(a.o.DNSSEC))
		return s.all[0].(*miekg.CNAME).Target
	}
	a.deny(proof{node: n})
	return ""
}

// wildcard answers from the source of synthesis below the closest encloser, with
// left labels of the name unmatched (RFC 4592 section 3.3).
func (a *answering) wildcard(encloser, w *node, left int) string {
	if a.q.Qtype == miekg.TypeANY || a.q.Qtype == miekg.TypeRRSIG {
		if a.gather(w, func(rrs []miekg.RR) []miekg.RR { return synthesise(a.owner, rrs) }) {
			a.authority(nil)
			a.prove(proof{encloser: encloser, left: left, expanded: true})
		} else {
			a.deny(proof{encloser: encloser, left: left, node: w})
		}
		return ""
	}
	s := w.data(a.q.Qtype)
	next := ""
	if s == nil && w.has&hasCNAME != 0 {
		s = w.data(miekg.TypeCNAME)
		next = s.all[0].(*miekg.CNAME).Target
	}
	if s == nil {
		a.deny(proof{encloser: encloser, left: left, node: w})
		return ""
	}
	a.r.Answer = join(a.r.Answer, synthesise(a.owner, s.records(a.o.DNSSEC)))
	if next == "" {
		a.finish(s, nil)
	}
	a.prove(proof{encloser: encloser, left: left, expanded: true})
	return next
}

// synthesise gives records of a wildcard the owner name that was asked for.
func synthesise(owner string, rrs []miekg.RR) []miekg.RR {
	out := make([]miekg.RR, len(rrs))
	for i, rr := range rrs {
		out[i] = miekg.Copy(rr)
		out[i].Header().Name = owner
	}
	return out
}

// gather answers ANY with all records at a node, or those of one set, and RRSIG
// with all signatures. It tells whether there are any.
func (a *answering) gather(n *node, as func([]miekg.RR) []miekg.RR) bool {
	before := len(a.r.Answer)
	for i := range n.sets {
		s := &n.sets[i]
		if a.q.Qtype == miekg.TypeRRSIG {
			a.r.Answer = join(a.r.Answer, as(s.signatures()))
			continue
		}
		if s.n == 0 || s.typ == miekg.TypeNSEC && !a.o.DNSSEC {
			continue // RFC 4035 section 3.1: no NSEC without DO
		}
		a.r.Answer = join(a.r.Answer, as(s.records(a.o.DNSSEC)))
		if !a.o.Minimal {
			a.additional(s, a.owner)
		}
		if a.o.OneOfANY {
			break
		}
	}
	return len(a.r.Answer) > before
}

// finish ends a positive answer with what else may be useful (RFC 1034 section
// 4.3.2 step 6). n is nil for synthesised answers.
func (a *answering) finish(s *rrset, n *node) {
	if a.o.Minimal {
		return
	}
	a.additional(s, a.owner)
	a.authority(n)
}

// authority adds the zone's name servers, unless the answer is they.
func (a *answering) authority(n *node) {
	if a.o.Minimal || n == a.z.apex && (a.q.Qtype == miekg.TypeNS || a.q.Qtype == miekg.TypeANY) {
		return
	}
	ns := a.z.apex.data(miekg.TypeNS)
	a.r.Ns = join(a.r.Ns, ns.records(a.o.DNSSEC))
	a.additional(ns, a.z.origin)
}

// refer sends the asker to the name servers of a delegation.
func (a *answering) refer(n *node) {
	// After an alias of ours the answer begins with authoritative data, and AA
	// speaks of that (RFC 1035 section 4.1.1).
	a.r.Authoritative = len(a.r.Answer) > 0
	ns := n.data(miekg.TypeNS)
	a.r.Ns = join(a.r.Ns, ns.records(false))
	// RFC 4035 section 3.1.4, RFC 5155 section 7.2.7. In an unsigned zone a DS
	// record is worth nothing.
	if ds := n.data(miekg.TypeDS); ds != nil && a.proofs {
		a.r.Ns = join(a.r.Ns, ds.records(true))
	} else {
		a.prove(proof{node: n})
	}
	a.additional(ns, a.z.origin)
}

// redirect rewrites a name below a DNAME record, left labels below it (RFC 6672
// section 3.2).
func (a *answering) redirect(n *node, left int) string {
	s := n.data(miekg.TypeDNAME)
	a.r.Answer = join(a.r.Answer, s.records(a.o.DNSSEC))
	d := s.all[0].(*miekg.DNAME)
	spelled := a.l.name
	if len(a.owner) == len(spelled) {
		spelled = a.owner // the same but for case, which is kept (RFC 4343 section 4)
	}
	end := len(spelled)
	if left < a.l.n {
		end = int(a.l.off[left])
	}
	target := spelled[:end]
	if d.Target != "." {
		target += d.Target
	}
	var wire [names.MaxWire + 1]byte
	if size, err := miekg.PackDomainName(target, wire[:], 0, nil, false); err != nil || size > names.MaxWire {
		a.r.Rcode = miekg.RcodeYXDomain
		return ""
	}
	a.r.Answer = append(a.r.Answer, &miekg.CNAME{
		Hdr:    miekg.RR_Header{Name: a.owner, Rrtype: miekg.TypeCNAME, Class: miekg.ClassINET, Ttl: d.Hdr.Ttl},
		Target: target,
	})
	if a.q.Qtype == miekg.TypeCNAME || miekg.IsSubDomain(n.name, names.Canonical(d.Target)) {
		return "" // the answer, or a name that grows with each redirection
	}
	return target
}

// deny ends a negative answer (RFC 2308 section 2).
func (a *answering) deny(p proof) {
	a.r.Ns = join(a.r.Ns, a.z.negative.records(a.o.DNSSEC))
	a.prove(p)
}

// join appends, and shares what it can.
func join(to, rrs []miekg.RR) []miekg.RR {
	if len(to) == 0 {
		return rrs[:len(rrs):len(rrs)]
	}
	return append(to, rrs...)
}
