package zone

import (
	"fmt"
	"slices"
	"strings"

	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

// Limits on what one name may hold. A set must fit a message of 64 KiB, and
// each record added is compared with those of its set.
const (
	maxSet   = 1000 // records, and signatures, of one type at one name
	maxTypes = 256  // types at one name
)

// edit is a change of a zone under way. It starts from a version, which stays
// as it is, and ends in another; it is for one goroutine.
type edit struct {
	origin string
	labels int // of the origin
	apex   *node
	hashes *kids // NSEC3 records, by hash
	count  int   // records
}

// edit begins a change of the zone.
func (z *Zone) edit() *edit {
	return &edit{origin: z.origin, labels: z.labels, apex: z.apex, hashes: z.hashes, count: z.count}
}

// covered is the type that a record stands with: its own, or what it signs.
func covered(rr miekg.RR) uint16 {
	if sig, ok := rr.(*miekg.RRSIG); ok {
		return sig.TypeCovered
	}
	return rr.Header().Rrtype
}

// isSig tells a signature, which stands behind the records that it covers.
func isSig(rr miekg.RR) bool { return rr.Header().Rrtype == miekg.TypeRRSIG }

// locate cuts a canonical name and tells how deep below the origin it is.
func (e *edit) locate(name string, l *labels) (int, error) {
	if name == "" || !l.split(name) {
		return 0, fmt.Errorf("%q is not a domain name", name)
	}
	depth := l.below(e.origin, e.labels)
	if depth < 0 {
		return 0, fmt.Errorf("%s is outside the zone %s", name, e.origin)
	}
	return depth, nil
}

// node finds a name, or nil. In hashes are the nodes of NSEC3 records.
func (e *edit) node(name string, hashes bool) *node {
	var l labels
	depth, err := e.locate(name, &l)
	if err != nil {
		return nil
	}
	if hashes {
		if depth != 1 {
			return nil
		}
		return e.hashes.get(l.key(0))
	}
	n := e.apex
	for i := depth - 1; i >= 0 && n != nil; i-- {
		n = n.kids.get(l.key(i))
	}
	return n
}

// own makes a node changeable.
func (n *node) own(e *edit) *node {
	if n.owner == e {
		return n
	}
	c := *n
	c.owner = e
	c.sets = slices.Clone(n.sets)
	return &c
}

// change calls f with the changeable node of a name, which it makes, and all
// above it, if it is not there. A node that is left with nothing goes, and so do
// the empty non-terminals that led to it.
func (e *edit) change(name string, hashes bool, f func(*node) error) error {
	var l labels
	depth, err := e.locate(name, &l)
	if err != nil {
		return err
	}
	if hashes {
		if depth != 1 {
			return fmt.Errorf("%s: an NSEC3 record stands one label below the origin (RFC 5155 section 3)", name)
		}
		e.hashes = e.hashes.own(e)
		return e.changeIn(e.hashes, &l, 0, f)
	}
	e.apex = e.apex.own(e)
	return e.descend(e.apex, &l, depth, f)
}

// descend goes from an owned node down to the name that is depth labels below.
func (e *edit) descend(n *node, l *labels, depth int, f func(*node) error) error {
	if depth == 0 {
		err := f(n)
		n.mark()
		return err
	}
	n.kids = n.kids.own(e)
	err := e.changeIn(n.kids, l, depth-1, f)
	if len(n.kids.chunks) == 0 {
		n.kids = nil
	}
	return err
}

// changeIn goes on in the child of an owned list that label i names.
func (e *edit) changeIn(k *kids, l *labels, i int, f func(*node) error) error {
	key := l.key(i)
	n := k.get(key)
	if n == nil {
		// Names outlive the message or the file that they came from.
		n = &node{owner: e, name: strings.Clone(l.from(i)), key: strings.Clone(key)}
	} else {
		n = n.own(e)
	}
	err := e.descend(n, l, i, f)
	if n.empty() && n.kids == nil {
		k.remove(key)
	} else {
		k.put(n)
	}
	return err
}

// add puts a record into the zone. One that is there already, but for its TTL,
// is replaced.
func (e *edit) add(rr miekg.RR) error {
	typ := covered(rr)
	return e.change(names.Canonical(rr.Header().Name), typ == miekg.TypeNSEC3, func(n *node) error {
		i, found := slices.BinarySearchFunc(n.sets, typ, func(s rrset, t uint16) int { return int(s.typ) - int(t) })
		if !found {
			if len(n.sets) == maxTypes {
				return fmt.Errorf("%s has more than %d types of records", n.name, maxTypes)
			}
			n.sets = slices.Insert(n.sets, i, rrset{typ: typ})
		}
		old := n.sets[i]
		if at := old.index(rr); at >= 0 {
			if old.all[at].Header().Ttl == rr.Header().Ttl {
				return nil
			}
			n.sets[i] = old.with(at, rr)
			return nil
		}
		if isSig(rr) && len(old.all)-old.n >= maxSet || !isSig(rr) && old.n >= maxSet {
			return fmt.Errorf("%s has more than %d records of type %s", n.name, maxSet, miekg.Type(typ))
		}
		e.count++
		n.sets[i] = old.plus(rr)
		return nil
	})
}

// remove takes a record out of the zone, whatever its TTL, and tells whether it
// was there.
func (e *edit) remove(rr miekg.RR) bool {
	typ := covered(rr)
	hashes := typ == miekg.TypeNSEC3
	name := names.Canonical(rr.Header().Name)
	n := e.node(name, hashes)
	if n == nil || n.set(typ) == nil || n.set(typ).index(rr) < 0 {
		return false
	}
	// The node is there, so that change fails at nothing.
	_ = e.change(name, hashes, func(n *node) error {
		i := slices.IndexFunc(n.sets, func(s rrset) bool { return s.typ == typ })
		at := n.sets[i].index(rr)
		e.count--
		n.sets[i] = n.sets[i].minus(at)
		if len(n.sets[i].all) == 0 {
			n.sets = slices.Delete(n.sets, i, i+1)
		}
		return nil
	})
	return true
}

// index finds a record in the set, whatever its TTL.
func (s *rrset) index(rr miekg.RR) int {
	from, to := 0, s.n
	if isSig(rr) {
		from, to = s.n, len(s.all)
	}
	for i := from; i < to; i++ {
		if miekg.IsDuplicate(s.all[i], rr) {
			return i
		}
	}
	return -1
}

// with, plus and minus give the set with one record replaced, more or less.
func (s rrset) with(at int, rr miekg.RR) rrset {
	s.all = slices.Clone(s.all)
	s.all[at] = rr
	return s
}

func (s rrset) plus(rr miekg.RR) rrset {
	at := len(s.all)
	if !isSig(rr) {
		at = s.n
		s.n++
	}
	all := make([]miekg.RR, len(s.all)+1)
	copy(all, s.all[:at])
	all[at] = rr
	copy(all[at+1:], s.all[at:])
	s.all = all
	return s
}

func (s rrset) minus(at int) rrset {
	all := make([]miekg.RR, len(s.all)-1)
	copy(all, s.all[:at])
	copy(all[at:], s.all[at+1:])
	if at < s.n {
		s.n--
	}
	s.all = all
	return s
}
