package zone

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

var (
	// ErrInvalid is wrapped by errors about records that make no zone.
	ErrInvalid = errors.New("not a valid zone")
	// ErrTooLarge is wrapped by errors about a limit that was passed.
	ErrTooLarge = errors.New("zone too large")
)

// Zone is one version of a zone. It never changes; all methods may be called
// concurrently. The zero value is none.
type Zone struct {
	origin string
	labels int // of the origin
	apex   *node
	hashes *kids // nodes of NSEC3 records, by hash
	count  int

	soa      *miekg.SOA
	negative rrset             // the SOA of negative answers, and its signatures
	nsec3    *miekg.NSEC3PARAM // nil: no NSEC3 chain
	nsec     bool
}

// New makes a zone of records, which it copies. Their order does not matter and
// duplicates count once; of different TTLs in one set the lowest counts for all
// (RFC 2181 section 5.2). Errors wrap ErrInvalid or ErrTooLarge: a record outside
// the zone, no SOA or NS record at the origin, an alias beside other data.
func New(origin string, rrs []miekg.RR) (*Zone, error) {
	e, err := newEdit(origin)
	if err != nil {
		return nil, err
	}
	var c copier
	for _, rr := range rrs {
		own, err := c.copy(rr)
		if err != nil {
			return nil, err
		}
		if err := e.add(own); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return e.load()
}

func newEdit(origin string) (*edit, error) {
	name := names.Canonical(origin)
	var l labels
	if name == "" || !l.split(name) {
		return nil, fmt.Errorf("%w: its origin %q is not a domain name", ErrInvalid, origin)
	}
	e := &edit{origin: name, labels: l.n}
	e.apex = &node{owner: e, name: name}
	return e, nil
}

// load ends the first edit of a zone.
func (e *edit) load() (*Zone, error) {
	var err error
	e.apex.walk(func(n *node) bool {
		n.levelTTLs()
		err = e.check(n)
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	return e.finish()
}

// levelTTLs gives the records of each set one TTL. Only load may call it, on
// records that nobody else has seen.
func (n *node) levelTTLs() {
	for _, s := range n.sets {
		low := ^uint32(0)
		for _, rr := range s.all[:s.n] {
			low = min(low, rr.Header().Ttl)
		}
		for _, rr := range s.all[:s.n] {
			rr.Header().Ttl = low
		}
	}
}

// finish makes the version that the edit has arrived at.
func (e *edit) finish() (*Zone, error) {
	z := &Zone{origin: e.origin, labels: e.labels, apex: e.apex, hashes: e.hashes, count: e.count}
	soa := z.apex.data(miekg.TypeSOA)
	if soa == nil || soa.n != 1 {
		return nil, fmt.Errorf("%w: %s needs one SOA record, and has %d", ErrInvalid, z.origin, len(soa.records(false)))
	}
	if z.apex.data(miekg.TypeNS) == nil {
		return nil, fmt.Errorf("%w: %s has no NS record (RFC 1035 section 5.2)", ErrInvalid, z.origin)
	}
	z.soa = soa.all[0].(*miekg.SOA)
	z.negative = *soa
	z.negative.all = slices.Clone(soa.all)
	for i, rr := range soa.all {
		// RFC 2308 section 3: a negative answer is kept for the lesser of the
		// SOA's TTL and its minimum field.
		if ttl := min(z.soa.Hdr.Ttl, z.soa.Minttl); rr.Header().Ttl != ttl {
			rr = miekg.Copy(rr)
			rr.Header().Ttl = ttl
			z.negative.all[i] = rr
		}
	}
	if p := z.apex.data(miekg.TypeNSEC3PARAM); p != nil {
		// RFC 5155 section 4.1.2: with other flags it is not in use.
		for _, rr := range p.records(false) {
			if p := rr.(*miekg.NSEC3PARAM); p.Flags == 0 && p.Hash == miekg.SHA1 && p.Iterations <= maxIterations {
				z.nsec3 = p
				break
			}
		}
	}
	z.nsec = z.nsec3 == nil && z.apex.has&hasNSEC != 0
	return z, nil
}

// Origin is the name of the zone.
func (z *Zone) Origin() string { return z.origin }

// SOA is the record at the origin.
func (z *Zone) SOA() *miekg.SOA { return z.soa }

// Serial is that of the SOA record.
func (z *Zone) Serial() uint32 { return z.soa.Serial }

// Len is the number of records.
func (z *Zone) Len() int { return z.count }

// Signed tells that the zone has a chain of NSEC or NSEC3 records.
func (z *Zone) Signed() bool { return z.nsec || z.nsec3 != nil }

// Find gives the records of a type at a name, whether or not a delegation hides
// them: for RRSIG all signatures, for ANY everything. It is nil if there are none.
func (z *Zone) Find(name string, typ uint16) []miekg.RR {
	e := edit{origin: z.origin, labels: z.labels, apex: z.apex, hashes: z.hashes}
	name = names.Canonical(name)
	var found []miekg.RR
	for _, n := range []*node{e.node(name, false), e.node(name, true)} {
		if n == nil {
			continue
		}
		switch typ {
		case miekg.TypeANY:
			for i := range n.sets {
				found = append(found, n.sets[i].all...)
			}
		case miekg.TypeRRSIG:
			for i := range n.sets {
				found = append(found, n.sets[i].signatures()...)
			}
		default:
			if s := n.data(typ); s != nil {
				return s.records(false)
			}
		}
	}
	return found
}

// Exists tells whether a name is in the zone, as an empty non-terminal too (RFC
// 4592 section 2.2.2), whether or not a delegation hides it.
func (z *Zone) Exists(name string) bool {
	e := edit{origin: z.origin, labels: z.labels, apex: z.apex}
	return e.node(names.Canonical(name), false) != nil
}

// All yields every record once: the SOA record first (RFC 5936 section 2.2), then
// names in canonical order, each with its types by number and each set followed
// by its signatures, then NSEC3 records.
func (z *Zone) All() iter.Seq[miekg.RR] {
	return func(yield func(miekg.RR) bool) {
		if !yield(z.soa) {
			return
		}
		all := func(n *node) bool {
			for i := range n.sets {
				for _, rr := range n.sets[i].all {
					if rr != miekg.RR(z.soa) && !yield(rr) {
						return false
					}
				}
			}
			return true
		}
		if z.apex.walk(all) {
			z.hashes.each(all)
		}
	}
}
