package zone

import (
	"slices"

	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

// follow signs what differs from the old version, and looks at everything else
// if scan is true.
func (s *signer) follow(scan bool) error {
	if err := s.apex(); err != nil {
		return err
	}
	names := s.affected()
	for _, name := range names {
		if err := s.resign(name); err != nil {
			return err
		}
	}
	mend := s.mendChain
	if s.NSEC3 {
		mend = s.mendChain3
	}
	if err := mend(names); err != nil {
		return err
	}
	if scan {
		s.scan()
	}
	return nil
}

// affected are the names at which something is to be looked at, in order: those
// with a record that changed; those below, where a delegation or a DNAME came or
// went and with it what is authoritative; and those above, which may have become
// empty non-terminals or ceased to be.
func (s *signer) affected() []string {
	now := s.view()
	d := Between(s.old, now)
	set := make(map[string]bool)
	for _, rr := range slices.Concat(d.Deleted, d.Added) {
		name, typ := names.Canonical(rr.Header().Name), covered(rr)
		if typ == miekg.TypeNSEC3 {
			continue // mended by the names that they speak of
		}
		cuts := (typ == miekg.TypeNS || typ == miekg.TypeDNAME) && name != s.z.origin || typ == miekg.TypeDNAME
		if set[name] && !cuts {
			continue
		}
		s.add(set, name)
		if cuts {
			for _, z := range []*Zone{s.old, now} {
				var l labels
				l.split(name)
				if n, _ := z.raw(&l); n != nil {
					n.walk(func(k *node) bool { s.add(set, k.name); return true })
				}
			}
		}
	}
	list := make([]string, 0, len(set))
	for name := range set {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// add puts a name and those above it, up to the apex, into the set.
func (s *signer) add(set map[string]bool, name string) {
	var l labels
	l.split(name)
	for i := 0; i <= l.n-s.z.labels; i++ {
		if up := l.from(i); set[up] && i > 0 {
			return
		} else {
			set[up] = true
		}
	}
}

// resign looks at the sets of a name other than its denial: what the old version
// has likewise, signed, keeps its signatures.
func (s *signer) resign(name string) error {
	var l labels
	l.split(name)
	n, p := s.view().raw(&l)
	if n == nil {
		return nil
	}
	was, old := s.old.raw(&l)
	for _, set := range slices.Clone(n.sets) {
		switch {
		case set.typ == miekg.TypeNSEC:
			continue
		case set.n == 0 || !signs(p, set.typ):
			if len(set.all) > set.n {
				if err := s.e.put(name, false, set.typ, set.records(false)); err != nil {
					return err
				}
			}
			continue
		case was != nil && signs(old, set.typ) && unchanged(was.data(set.typ), &set) && s.kept(&set, set.typ):
			continue
		}
		s.jobs = append(s.jobs, job{name, false, set.typ})
	}
	return nil
}

// unchanged tells that a set has the records and signatures of the old one.
func unchanged(old, set *rrset) bool {
	return old != nil && sameSet(old.records(true), set.records(true))
}

// scan looks at every signature of the zone.
func (s *signer) scan() {
	v := s.view()
	v.visit(func(n *node, p position) bool {
		for i := range n.sets {
			set := &n.sets[i]
			if set.n > 0 && signs(p, set.typ) && !s.kept(set, set.typ) {
				s.jobs = append(s.jobs, job{n.name, false, set.typ})
			}
		}
		return true
	})
	v.hashes.each(func(n *node) bool {
		if set := n.data(miekg.TypeNSEC3); set != nil && !s.kept(set, miekg.TypeNSEC3) {
			s.jobs = append(s.jobs, job{n.name, true, miekg.TypeNSEC3})
		}
		return true
	})
}
