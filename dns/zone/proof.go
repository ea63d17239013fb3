package zone

import (
	"strings"

	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

// maxIterations is how often a zone may have its NSEC3 hashes iterated: with
// more it counts as unsigned, since each question would cost too much (RFC 9276
// section 3.1 wants 0).
const maxIterations = 150

// maxSkipped bounds the search for the nearest name that has an NSEC record, in
// zones where many have none that should.
const maxSkipped = 1000

// proof says what the denial records of an answer must show.
type proof struct {
	node     *node // has no such type: the name itself, or its wildcard
	encloser *node // the closest encloser of a name that does not exist
	left     int   // how many labels of the name are below the encloser
	noName   bool  // neither the name nor a wildcard for it exists
	expanded bool  // the answer came from a wildcard, so the name does not exist
}

// prove adds denial records with their signatures, if the asker wants them.
func (a *answering) prove(p proof) {
	switch {
	case !a.proofs:
	case a.z.nsec3 != nil:
		a.proveNSEC3(p)
	default:
		a.proveNSEC(p)
	}
}

// denial adds the NSEC or NSEC3 set of a node, once.
func (a *answering) denial(n *node, typ uint16) {
	if n == nil {
		return
	}
	if s := n.data(typ); s != nil && !has(a.r.Ns, s.all[0]) {
		a.r.Ns = join(a.r.Ns, s.records(true))
	}
}

// proveNSEC is RFC 4035 sections 3.1.3.1 to 3.1.3.4.
func (a *answering) proveNSEC(p proof) {
	if p.node != nil {
		if p.node.has&hasNSEC != 0 {
			a.denial(p.node, miekg.TypeNSEC)
		} else {
			// An empty non-terminal: the record before it shows, by its next
			// name, that it is one.
			var l labels
			l.split(p.node.name)
			a.denial(a.z.before(&l), miekg.TypeNSEC)
		}
	}
	if p.encloser != nil {
		a.denial(a.z.before(&a.l), miekg.TypeNSEC)
	}
	if p.noName {
		var l labels
		l.split(names.Wildcard(p.encloser.name))
		a.denial(a.z.before(&l), miekg.TypeNSEC)
	}
}

// before is the last node with an NSEC record at or before a name of the zone.
func (z *Zone) before(l *labels) *node {
	f := finder{l: l, budget: maxSkipped}
	return f.before(z.apex, l.n-z.labels, z.apex)
}

type finder struct {
	l      *labels
	budget int
}

// before looks in n and below it, where left labels of the name are to match.
func (f *finder) before(n *node, left int, apex *node) *node {
	if left > 0 && !(n != apex && n.has&hasNS != 0) && n.kids != nil {
		c, i, found := n.kids.search(f.l.key(left - 1))
		if found {
			if r := f.before(n.kids.chunks[c].nodes[i], left-1, apex); r != nil {
				return r
			}
		}
		if r := f.last(n.kids, c, i-1); r != nil {
			return r
		}
	}
	if n.has&hasNSEC != 0 {
		return n
	}
	return nil
}

// last is the last node with an NSEC record among the children up to place c, i
// and below them. What is below a delegation or DNAME has none.
func (f *finder) last(k *kids, c, i int) *node {
	for ; c >= 0 && len(k.chunks) > 0; c-- {
		nodes := k.chunks[c].nodes
		for ; i >= 0; i-- {
			if f.budget--; f.budget < 0 {
				return nil
			}
			n := nodes[i]
			if n.kids != nil && n.has&(hasNS|hasDNAME) == 0 {
				if r := f.last(n.kids, len(n.kids.chunks)-1, len(n.kids.chunks[len(n.kids.chunks)-1].nodes)-1); r != nil {
					return r
				}
			}
			if n.has&hasNSEC != 0 {
				return n
			}
		}
		if c > 0 {
			i = len(k.chunks[c-1].nodes) - 1
		}
	}
	return nil
}

// proveNSEC3 is RFC 5155 sections 7.2.1 to 7.2.7.
func (a *answering) proveNSEC3(p proof) {
	switch {
	case p.expanded: // 7.2.6: the next closer name does not exist
		a.cover(a.l.from(p.left - 1))
	case p.noName: // 7.2.2
		encloser := a.enclose(p.encloser.name, a.l.from(p.left-1))
		a.cover(names.Wildcard(encloser))
	case p.encloser != nil: // 7.2.5: the wildcard has no such type
		a.enclose(p.encloser.name, a.l.from(p.left-1))
		if n := a.z.matching(p.node.name); n != nil {
			a.denial(n, miekg.TypeNSEC3)
		}
	default: // 7.2.3, 7.2.4, 7.2.7
		if n := a.z.matching(p.node.name); n != nil {
			a.denial(n, miekg.TypeNSEC3)
			return
		}
		// Opt-out: an unsigned delegation, or what leads to it, is in no chain.
		var l labels
		l.split(p.node.name)
		if l.n > a.z.labels {
			a.enclose(l.from(1), p.node.name)
		}
	}
}

// enclose adds the closest encloser proof of RFC 5155 section 7.2.1: the record
// of the nearest name above, beginning with encloser, that has one, and the record
// that covers the name one label longer. It returns that encloser.
func (a *answering) enclose(encloser, next string) string {
	var l labels
	l.split(encloser)
	for i := 0; i <= l.n-a.z.labels; i++ {
		name := l.from(i)
		if n := a.z.matching(name); n != nil {
			a.denial(n, miekg.TypeNSEC3)
			a.cover(next)
			return name
		}
		next = name
	}
	return encloser
}

// cover adds the record whose span holds the hash of a name.
func (a *answering) cover(name string) {
	a.denial(a.z.covering(name), miekg.TypeNSEC3)
}

// matching is the node of the NSEC3 record for a name, or nil.
func (z *Zone) matching(name string) *node {
	n := z.hashes.get(hashName(name, z.nsec3))
	if n == nil || !z.inChain(n) {
		return nil
	}
	return n
}

// covering is the node of the NSEC3 record that is the last before the hash of
// a name; before the first is the last of all. It is the name's own if there is
// one, as for the wildcard of an encloser above the real one, which opt-out has
// left out of the chain: such a denial cannot be proved.
func (z *Zone) covering(name string) *node {
	if z.hashes == nil || len(z.hashes.chunks) == 0 {
		return nil
	}
	c, i, found := z.hashes.search(hashName(name, z.nsec3))
	if !found {
		i--
	}
	for budget := maxSkipped; budget > 0; budget-- {
		for i < 0 {
			if c--; c < 0 {
				c = len(z.hashes.chunks) - 1
			}
			i = len(z.hashes.chunks[c].nodes) - 1
		}
		if n := z.hashes.chunks[c].nodes[i]; z.inChain(n) {
			return n
		}
		i--
	}
	return nil
}

// inChain tells that a record is of the chain in use: there may be others while
// one takes another's place.
func (z *Zone) inChain(n *node) bool {
	s := n.data(miekg.TypeNSEC3)
	if s == nil {
		return false
	}
	r := s.all[0].(*miekg.NSEC3)
	return r.Hash == z.nsec3.Hash && r.Iterations == z.nsec3.Iterations && r.Salt == z.nsec3.Salt
}

// hashName is the hash of a canonical name (RFC 5155 section 5), in lower case.
func hashName(name string, p *miekg.NSEC3PARAM) string {
	return strings.ToLower(miekg.HashName(name, miekg.SHA1, p.Iterations, p.Salt))
}
