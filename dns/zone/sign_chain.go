package zone

import (
	"slices"

	miekg "github.com/miekg/dns"
)

// member tells that a name has an NSEC record: it has authoritative data, or is a
// delegation (RFC 4035 section 2.3).
func member(n *node, p position) bool {
	if p == delegation {
		return true
	}
	if p != inside {
		return false
	}
	return slices.ContainsFunc(n.sets, func(s rrset) bool { return s.n > 0 && s.typ != miekg.TypeNSEC })
}

// bitmap lists the types that a denial of the name says are there. extra is what
// the denial itself adds to it.
func bitmap(n *node, p position, extra ...uint16) []uint16 {
	var list []uint16
	for _, s := range n.sets {
		if s.n > 0 && s.typ != miekg.TypeNSEC && (p == inside || s.typ == miekg.TypeNS || s.typ == miekg.TypeDS) {
			list = append(list, s.typ)
		}
	}
	list = append(list, extra...)
	slices.Sort(list)
	return slices.Compact(list)
}

// chain gives every member its NSEC record, in a zone that has none.
func (s *signer) chain() error {
	type link struct {
		name  string
		types []uint16
	}
	var links []link
	s.view().visit(func(n *node, p position) bool {
		if member(n, p) {
			links = append(links, link{n.name, bitmap(n, p, miekg.TypeNSEC, miekg.TypeRRSIG)})
		}
		return true
	})
	for i, l := range links {
		next := links[(i+1)%len(links)].name
		if err := s.e.put(l.name, false, miekg.TypeNSEC, []miekg.RR{s.nsec(l.name, next, l.types)}); err != nil {
			return err
		}
	}
	return nil
}

func (s *signer) nsec(name, next string, types []uint16) *miekg.NSEC {
	return &miekg.NSEC{Hdr: s.header(name, miekg.TypeNSEC, s.ttl), NextDomain: next, TypeBitMap: types}
}

// nextMember is the member after a name in canonical order, the apex after the
// last.
func (z *Zone) nextMember(l *labels) string {
	if n := z.after(z.apex, l, l.n-z.labels); n != nil {
		return n.name
	}
	return z.origin
}

// barren tells that nothing below the node is a member.
func (z *Zone) barren(n *node) bool {
	return n != z.apex && n.has&hasNS != 0 || n.has&hasDNAME != 0
}

func (z *Zone) memberAt(n *node) bool {
	if n != z.apex && n.has&hasNS != 0 {
		return true
	}
	return member(n, inside)
}

// after looks below n for the first member after the name that is left labels
// below it.
func (z *Zone) after(n *node, l *labels, left int) *node {
	if z.barren(n) || n.kids == nil {
		return nil
	}
	c, i := 0, 0
	if left > 0 {
		var found bool
		c, i, found = n.kids.search(l.key(left - 1))
		if found {
			if r := z.after(n.kids.chunks[c].nodes[i], l, left-1); r != nil {
				return r
			}
			i++
		}
	}
	for ; c < len(n.kids.chunks); c, i = c+1, 0 {
		for _, k := range n.kids.chunks[c].nodes[i:] {
			if r := z.first(k); r != nil {
				return r
			}
		}
	}
	return nil
}

// first is the first member at or below n.
func (z *Zone) first(n *node) *node {
	if z.memberAt(n) {
		return n
	}
	if z.barren(n) {
		return nil
	}
	var found *node
	n.kids.each(func(k *node) bool {
		found = z.first(k)
		return found == nil
	})
	return found
}

// prevMember is the member before a name; before the first is the last.
func (z *Zone) prevMember(l *labels) string {
	n := z.preceding(z.apex, l, l.n-z.labels)
	if n == nil {
		n = z.lastMember(z.apex)
	}
	return n.name
}

func (z *Zone) preceding(n *node, l *labels, left int) *node {
	if left == 0 {
		return nil
	}
	if !z.barren(n) && n.kids != nil {
		c, i, found := n.kids.search(l.key(left - 1))
		if found {
			if r := z.preceding(n.kids.chunks[c].nodes[i], l, left-1); r != nil {
				return r
			}
		}
		for ; c >= 0; c-- {
			for i--; i >= 0; i-- {
				if r := z.lastMember(n.kids.chunks[c].nodes[i]); r != nil {
					return r
				}
			}
			if c > 0 {
				i = len(n.kids.chunks[c-1].nodes)
			}
		}
	}
	if z.memberAt(n) {
		return n
	}
	return nil
}

// lastMember is the last member at or below n.
func (z *Zone) lastMember(n *node) *node {
	if !z.barren(n) && n.kids != nil {
		for c := len(n.kids.chunks) - 1; c >= 0; c-- {
			for _, k := range slices.Backward(n.kids.chunks[c].nodes) {
				if r := z.lastMember(k); r != nil {
					return r
				}
			}
		}
	}
	if z.memberAt(n) {
		return n
	}
	return nil
}

// mendChain corrects the NSEC records of names that changed, and of those before
// them.
func (s *signer) mendChain(names []string) error {
	v := s.view()
	links := make(map[string]bool)
	for _, name := range names {
		var l labels
		l.split(name)
		n, p := v.raw(&l)
		switch {
		case n != nil && member(n, p):
			links[name] = true
		case n != nil && n.set(miekg.TypeNSEC) != nil:
			if err := s.e.put(name, false, miekg.TypeNSEC, nil); err != nil {
				return err
			}
			v = s.view()
		}
		links[v.prevMember(&l)] = true
	}
	for name := range links {
		v = s.view()
		var l labels
		l.split(name)
		n, p := v.raw(&l)
		want := s.nsec(name, v.nextMember(&l), bitmap(n, p, miekg.TypeNSEC, miekg.TypeRRSIG))
		if have := n.data(miekg.TypeNSEC); have != nil && have.n == 1 && same(have.all[0], want) && s.kept(n.set(miekg.TypeNSEC), miekg.TypeNSEC) {
			continue
		}
		if err := s.e.put(name, false, miekg.TypeNSEC, []miekg.RR{want}); err != nil {
			return err
		}
		s.jobs = append(s.jobs, job{name, false, miekg.TypeNSEC})
	}
	return nil
}

// kept tells that the signatures of a set that did not change will do.
func (s *signer) kept(set *rrset, typ uint16) bool {
	due, good := s.Good(typ, set.signatures())
	if good {
		s.note(due)
	}
	return good
}
