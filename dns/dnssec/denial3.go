package dnssec

import (
	"strings"

	"github.com/miekg/dns"

	"postrider/dns/names"
)

// chain3 is the NSEC3 records of one zone with equal parameters, and the hashes
// computed so far.
type chain3 struct {
	zone    string
	records []*dns.NSEC3
	owners  []string // hash of each record, upper case
	hashes  map[string]string
	budget  *budget
}

// newChain3 takes the records that a validator may use: SHA-1, flags known
// (RFC 5155 sections 8.1 and 8.2), owner directly below the zone, and all with
// the parameters of the first; two chains at once are for a zone in transition,
// whose server answers from one of them.
func newChain3(b *budget, zone string, records []*dns.NSEC3) *chain3 {
	c := &chain3{zone: zone, hashes: make(map[string]string), budget: b}
	for _, rr := range records {
		owner := dns.CanonicalName(rr.Hdr.Name)
		if rr.Hash != dns.SHA1 || rr.Flags&^1 != 0 || owner == "." || names.Parent(owner) != zone {
			continue
		}
		if len(c.records) > 0 && (rr.Iterations != c.records[0].Iterations || !strings.EqualFold(rr.Salt, c.records[0].Salt)) {
			continue
		}
		c.records = append(c.records, rr)
		label := owner[:len(owner)-len(zone)]
		c.owners = append(c.owners, strings.ToUpper(strings.TrimSuffix(label, ".")))
	}
	return c
}

// hash is the hash of a name in upper-case base32.
func (c *chain3) hash(name string) (string, error) {
	if h, ok := c.hashes[name]; ok {
		return h, nil
	}
	if err := c.budget.hash(); err != nil {
		return "", err
	}
	rr := c.records[0]
	h := dns.HashName(name, rr.Hash, rr.Iterations, rr.Salt)
	c.hashes[name] = h
	return h, nil
}

// match is the record at the name's hash, or nil.
func (c *chain3) match(name string) (*dns.NSEC3, error) {
	h, err := c.hash(name)
	if err != nil {
		return nil, err
	}
	for i, owner := range c.owners {
		if owner == h {
			return c.records[i], nil
		}
	}
	return nil, nil
}

// cover is a record whose span contains the name's hash, or nil.
func (c *chain3) cover(name string) (*dns.NSEC3, error) {
	h, err := c.hash(name)
	if err != nil {
		return nil, err
	}
	for i, owner := range c.owners {
		next := strings.ToUpper(c.records[i].NextDomain)
		inside := owner < h && h < next
		if next <= owner { // the last of the chain
			inside = h > owner || h < next
		}
		if inside && h != owner {
			return c.records[i], nil
		}
	}
	return nil, nil
}

// encloser3 is a proof of the closest encloser (RFC 5155 section 8.3).
type encloser3 struct {
	name  string     // "" = not proven
	match *dns.NSEC3 // at name
	next  *dns.NSEC3 // covers the name one label longer
}

// closest finds the closest provable encloser of a name that does not exist.
func (c *chain3) closest(name string) (encloser3, error) {
	for next, up := name, name; up != c.zone; next = up {
		up = names.Parent(up)
		match, err := c.match(up)
		if err != nil {
			return encloser3{}, err
		}
		if match == nil {
			continue
		}
		if delegates(match.TypeBitMap) || has(match.TypeBitMap, dns.TypeDNAME) {
			return encloser3{}, nil // the parent's side of a cut, or redirected
		}
		cover, err := c.cover(next)
		if err != nil || cover == nil {
			return encloser3{}, err
		}
		return encloser3{up, match, cover}, nil
	}
	return encloser3{}, nil
}

// denyHashed follows RFC 5155 sections 8.4 to 8.8.
func denyHashed(b *budget, zone, name string, typ uint16, records []*dns.NSEC3) (Denial, error) {
	c := newChain3(b, zone, records)
	if len(c.records) == 0 {
		return Denial{}, nil
	}
	if n := c.records[0].Iterations; n > maxIterations {
		return Denial{Iterations: n}, nil
	}
	match, err := c.match(name)
	if err != nil {
		return Denial{}, err
	}
	if match != nil {
		if !lacks(match.TypeBitMap, zone, name, typ) {
			return Denial{}, nil
		}
		return Denial{Existence: NoData, Delegation: typ == dns.TypeDS && has(match.TypeBitMap, dns.TypeNS), Used: []dns.RR{match}}, nil
	}
	e, err := c.closest(name)
	if err != nil || e.name == "" {
		return Denial{}, err
	}
	d := Denial{Existence: Expands, Encloser: e.name, OptOut: e.next.Flags&1 != 0, Used: []dns.RR{e.match, e.next}}
	return c.wildcard(d, typ)
}

// wildcard completes a proof that a name does not exist by what is known about
// the wildcard at its closest encloser.
func (c *chain3) wildcard(d Denial, typ uint16) (Denial, error) {
	star := names.Wildcard(d.Encloser)
	w, err := c.match(star)
	if err != nil {
		return Denial{}, err
	}
	if w != nil {
		if lacks(w.TypeBitMap, c.zone, star, typ) && !delegates(w.TypeBitMap) {
			d.Existence = NoData
			d.Used = append(d.Used, w)
		}
		return d, nil
	}
	w, err = c.cover(star)
	if err != nil {
		return Denial{}, err
	}
	if w != nil {
		d.Existence = NoName
		d.Used = append(d.Used, w)
	}
	return d, nil
}

// nextCloser proves, with NSEC3, that the name one label below encloser on the
// way to name does not exist (RFC 5155 section 8.8).
func nextCloser(b *budget, zone, encloser, name string, records []dns.RR) (Denial, error) {
	var hashed []*dns.NSEC3
	for _, rr := range records {
		if rr, ok := rr.(*dns.NSEC3); ok {
			hashed = append(hashed, rr)
		}
	}
	c := newChain3(b, zone, hashed)
	if len(c.records) == 0 || !above(encloser, name) {
		return Denial{}, nil
	}
	rr, err := c.cover(names.Tail(name, dns.CountLabel(encloser)+1))
	if err != nil || rr == nil {
		return Denial{}, err
	}
	return Denial{Existence: Expands, Encloser: encloser, OptOut: rr.Flags&1 != 0, Used: []dns.RR{rr}}, nil
}
