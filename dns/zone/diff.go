package zone

import (
	"errors"
	"fmt"
	"slices"

	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

// ErrMismatch is wrapped by the error of Apply when the difference is not one
// from this version of the zone.
var ErrMismatch = errors.New("the difference does not fit the zone")

// Diff is what leads from one version of a zone to another: one part of an
// incremental transfer (RFC 1995 section 4). Deleted and Added hold no SOA record.
type Diff struct {
	From, To       *miekg.SOA
	Deleted, Added []miekg.RR
}

// Len is the number of records that the difference is written with.
func (d Diff) Len() int { return 2 + len(d.Deleted) + len(d.Added) }

// Empty tells that nothing changes, not even the SOA record.
func (d Diff) Empty() bool {
	return len(d.Deleted) == 0 && len(d.Added) == 0 && same(d.From, d.To)
}

// same tells that two records are equal, TTL included.
func same(a, b miekg.RR) bool {
	return a == b || a.Header().Ttl == b.Header().Ttl && miekg.IsDuplicate(a, b)
}

// Between gives the difference from one version to another of one zone. A record
// whose TTL alone has changed is deleted and added. It costs little where the
// versions share, as those that Update makes do.
func Between(from, to *Zone) Diff {
	d := Diff{From: from.soa, To: to.soa}
	d.node(from.apex, to.apex)
	d.kids(from.hashes, to.hashes)
	return d
}

// Says tells that the version, signed or not, says what one without signatures
// does, but for the serial.
func (z *Zone) Says(plain *Zone) bool {
	soa := miekg.Copy(plain.soa).(*miekg.SOA)
	soa.Serial = z.soa.Serial
	if !same(soa, z.soa) {
		return false
	}
	d := Between(z, plain)
	return !slices.ContainsFunc(slices.Concat(d.Deleted, d.Added), func(rr miekg.RR) bool { return !ofSigner(rr.Header().Rrtype) })
}

// ofSigner tells the types that Sign adds.
func ofSigner(typ uint16) bool {
	switch typ {
	case miekg.TypeRRSIG, miekg.TypeNSEC, miekg.TypeNSEC3, miekg.TypeNSEC3PARAM, miekg.TypeDNSKEY, miekg.TypeCDS, miekg.TypeCDNSKEY:
		return true
	}
	return false
}

// node adds what differs at two nodes of one name, of which one may be nil, and
// below them.
func (d *Diff) node(from, to *node) {
	if from == to {
		return
	}
	var none node
	if from == nil {
		from = &none
	}
	if to == nil {
		to = &none
	}
	d.sets(from.sets, to.sets)
	d.kids(from.kids, to.kids)
}

func (d *Diff) sets(from, to []rrset) {
	for len(from) > 0 || len(to) > 0 {
		switch {
		case len(to) == 0 || len(from) > 0 && from[0].typ < to[0].typ:
			d.records(from[0].all, nil)
			from = from[1:]
		case len(from) == 0 || to[0].typ < from[0].typ:
			d.records(nil, to[0].all)
			to = to[1:]
		default:
			d.records(from[0].all, to[0].all)
			from, to = from[1:], to[1:]
		}
	}
}

func (d *Diff) records(from, to []miekg.RR) {
	if len(from) > 0 && len(from) == len(to) && &from[0] == &to[0] {
		return
	}
	missing := func(from, to []miekg.RR, list *[]miekg.RR) {
		for _, rr := range from {
			if rr.Header().Rrtype != miekg.TypeSOA && !slices.ContainsFunc(to, func(o miekg.RR) bool { return same(rr, o) }) {
				*list = append(*list, rr)
			}
		}
	}
	missing(from, to, &d.Deleted)
	missing(to, from, &d.Added)
}

// kids merges two lists of children, and passes over the parts that they share.
func (d *Diff) kids(from, to *kids) {
	if from == to {
		return
	}
	a, b := cursor{k: from}, cursor{k: to}
	for {
		if a.i == 0 && b.i == 0 && a.chunk() != nil && a.chunk() == b.chunk() {
			a.c++
			b.c++
			continue
		}
		x, y := a.node(), b.node()
		switch {
		case x == nil && y == nil:
			return
		case y == nil || x != nil && x.key < y.key:
			d.node(x, nil)
			a.next()
		case x == nil || y.key < x.key:
			d.node(nil, y)
			b.next()
		default:
			d.node(x, y)
			a.next()
			b.next()
		}
	}
}

// cursor is a place in a list of children.
type cursor struct {
	k    *kids
	c, i int
}

func (c *cursor) chunk() *chunk {
	if c.k == nil || c.c >= len(c.k.chunks) {
		return nil
	}
	return c.k.chunks[c.c]
}

func (c *cursor) node() *node {
	if ch := c.chunk(); ch != nil {
		return ch.nodes[c.i]
	}
	return nil
}

func (c *cursor) next() {
	if c.i++; c.i == len(c.chunk().nodes) {
		c.c, c.i = c.c+1, 0
	}
}

// Apply makes the version that the difference leads to. It must begin at this
// version's serial, delete what is there and add what is not; else the error wraps
// ErrMismatch, and a secondary transfers the zone whole (RFC 1995 section 4). If
// the outcome is no zone, it wraps ErrInvalid.
func (z *Zone) Apply(d Diff) (*Zone, error) {
	if d.From == nil || d.To == nil || d.From.Serial != z.soa.Serial {
		return nil, fmt.Errorf("%w: %s is at serial %d", ErrMismatch, z.origin, z.soa.Serial)
	}
	if names.Canonical(d.To.Hdr.Name) != z.origin {
		return nil, fmt.Errorf("%w: its SOA record is of %s", ErrMismatch, d.To.Hdr.Name)
	}
	e := z.edit()
	e.remove(z.soa)
	for _, rr := range d.Deleted {
		if rr.Header().Rrtype == miekg.TypeSOA || !e.remove(rr) {
			return nil, fmt.Errorf("%w: there is no record %q to delete", ErrMismatch, rr)
		}
	}
	var c copier
	for _, rr := range append([]miekg.RR{d.To}, d.Added...) {
		own, err := c.copy(rr)
		if err != nil {
			return nil, err
		}
		before := e.count
		if err := e.add(own); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		if e.count == before {
			return nil, fmt.Errorf("%w: the record %q is there already", ErrMismatch, rr)
		}
	}
	for _, rr := range d.Added {
		n := e.node(names.Canonical(rr.Header().Name), covered(rr) == miekg.TypeNSEC3)
		if err := e.check(n); err != nil {
			return nil, err
		}
	}
	return e.finish()
}
