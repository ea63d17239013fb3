package zone

import (
	"slices"
	"strings"

	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

// member3 tells that a name has an NSEC3 record (RFC 5155 section 7.1): it has
// authoritative data, is an empty non-terminal or a delegation; with opt-out only
// a delegation that is signed.
func (s *signer) member3(n *node, p position) bool {
	switch p {
	case delegation:
		return !s.OptOut || n.data(miekg.TypeDS) != nil
	case inside:
		return n.kids != nil || member(n, p)
	}
	return false
}

// types3 is the bitmap of an NSEC3 record. RRSIG is there if anything is signed
// at the name, which the record itself is not (RFC 5155 section 3.1.8).
func types3(n *node, p position) []uint16 {
	signed := slices.ContainsFunc(n.sets, func(set rrset) bool { return set.n > 0 && signs(p, set.typ) && set.typ != miekg.TypeNSEC })
	if signed {
		return bitmap(n, p, miekg.TypeRRSIG)
	}
	return bitmap(n, p)
}

func (s *signer) nsec3(hash, next string, types []uint16) *miekg.NSEC3 {
	owner := names.Below(hash, s.z.origin)
	rr := &miekg.NSEC3{Hdr: s.header(owner, miekg.TypeNSEC3, s.ttl), Hash: miekg.SHA1, HashLength: 20,
		NextDomain: strings.ToUpper(next), TypeBitMap: types}
	if s.OptOut {
		rr.Flags = 1
	}
	return rr
}

// chain3 gives every member its NSEC3 record, in a zone that has none.
func (s *signer) chain3() error {
	type link struct {
		hash  string
		types []uint16
	}
	var links []link
	s.view().visit(func(n *node, p position) bool {
		if s.member3(n, p) {
			links = append(links, link{hashName(n.name, param3), types3(n, p)})
		}
		return true
	})
	slices.SortFunc(links, func(a, b link) int { return strings.Compare(a.hash, b.hash) })
	for i, l := range links {
		next := links[(i+1)%len(links)].hash
		rr := s.nsec3(l.hash, next, l.types)
		if err := s.e.put(rr.Hdr.Name, true, miekg.TypeNSEC3, []miekg.RR{rr}); err != nil {
			return err
		}
	}
	return nil
}

// mendChain3 corrects the NSEC3 records of names that changed, and of those whose
// hashes come before.
func (s *signer) mendChain3(changed []string) error {
	types := make(map[string][]uint16) // by hash, of members that changed
	links := make(map[string]bool)     // hashes
	v := s.view()
	var gone []string
	for _, name := range changed {
		var l labels
		l.split(name)
		hash := hashName(name, param3)
		n, p := v.raw(&l)
		if n != nil && s.member3(n, p) {
			types[hash] = types3(n, p)
			links[hash] = true
			if v.hashes.get(hash) == nil { // its next name follows when all are in
				rr := s.nsec3(hash, hash, types[hash])
				if err := s.e.put(rr.Hdr.Name, true, miekg.TypeNSEC3, []miekg.RR{rr}); err != nil {
					return err
				}
			}
		} else if v.hashes.get(hash) != nil {
			if err := s.e.put(names.Below(hash, s.z.origin), true, miekg.TypeNSEC3, nil); err != nil {
				return err
			}
			gone = append(gone, hash)
		}
		v = s.view()
	}
	for _, hash := range slices.Concat(gone, sorted(types)) {
		links[v.hashes.beside(hash, -1).key] = true
	}
	for hash := range links {
		if err := s.mendLink3(hash, types); err != nil {
			return err
		}
	}
	return nil
}

func sorted(m map[string][]uint16) []string {
	var list []string
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// mendLink3 gives one record its next hash, and its bitmap if that changed.
func (s *signer) mendLink3(hash string, types map[string][]uint16) error {
	hashes := s.e.hashes
	n := hashes.get(hash)
	have := n.data(miekg.TypeNSEC3)
	t, changed := types[hash]
	if !changed {
		t = have.all[0].(*miekg.NSEC3).TypeBitMap
	}
	want := s.nsec3(hash, hashes.beside(hash, 1).key, t)
	if have.n == 1 && same(have.all[0], want) && s.kept(have, miekg.TypeNSEC3) {
		return nil
	}
	s.jobs = append(s.jobs, job{want.Hdr.Name, true, miekg.TypeNSEC3})
	return s.e.put(want.Hdr.Name, true, miekg.TypeNSEC3, []miekg.RR{want})
}

// beside is the child after (step 1) or before (-1) a key, round the ends. There
// must be one.
func (k *kids) beside(key string, step int) *node {
	c, i, found := k.search(key)
	if step > 0 && found {
		i++
	}
	if step < 0 {
		i--
	}
	switch {
	case i < 0:
		c = (c + len(k.chunks) - 1) % len(k.chunks)
		i = len(k.chunks[c].nodes) - 1
	case i >= len(k.chunks[c].nodes):
		c = (c + 1) % len(k.chunks)
		i = 0
	}
	return k.chunks[c].nodes[i]
}
