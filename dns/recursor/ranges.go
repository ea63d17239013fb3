package recursor

import (
	"slices"
	"sort"
	"strings"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
	"postrider/dns/names"
)

const (
	// maxSpans bounds the proofs kept of one zone, since they are kept in order.
	maxSpans = 4096
	// maxProofLabels bounds the names hashed for one look at NSEC3 proofs, and
	// maxIterations the work for each (RFC 9276 section 3.2).
	maxProofLabels = 12
	maxIterations  = 10
)

// span is a validated NSEC or NSEC3 record with its signatures: between its
// owner and the next name of its zone there is nothing, and that holds for
// names that nobody asked for yet (RFC 8198).
type span struct {
	zone    string
	order   string // its place among those of the zone
	rr      miekg.RR
	sigs    []miekg.RR
	expires time.Time
}

// denials are the spans of one zone in order, all of one kind.
type denials struct {
	spans   []*span
	soa     []miekg.RR // with signatures, for answers made of spans
	until   time.Time  // how long soa holds
	nsec3   *miekg.NSEC3
	removed bool
}

// learn keeps the proofs of a secure negative answer.
func (c *cache) learn(zone string, p *piece, proofs []miekg.RR) {
	if p.kind != noData && p.kind != notExist {
		return
	}
	var soa []miekg.RR
	for _, rr := range p.ns {
		if covers(rr, zone, miekg.TypeSOA) {
			soa = append(soa, rr)
		}
	}
	if len(soa) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.denials[zone]
	if d == nil {
		d = &denials{}
		c.denials[zone] = d
		c.insertLocked(&entry{slot: slot{soas, key{name: zone}}, denials: d, cost: 512 + 2*len(zone) + cost(soa)})
		if d.removed {
			return // larger than the cache likes
		}
	}
	d.soa, d.until = soa, p.expires()
	for _, rr := range proofs {
		s := &span{zone: zone, rr: rr, expires: p.expires()}
		for _, sig := range p.ns {
			if _, ok := sig.(*miekg.RRSIG); ok && covers(sig, miekg.CanonicalName(rr.Header().Name), rr.Header().Rrtype) {
				s.sigs = append(s.sigs, sig)
			}
		}
		if d.accepts(s) {
			c.insertLocked(&entry{slot: slot{spans, key{s.order, rr.Header().Rrtype}}, span: s, cost: 384 + 3*len(s.order) + cost([]miekg.RR{rr}) + cost(s.sigs)})
		}
	}
}

// covers tells that a record is of a name and type, or a signature of such.
func covers(rr miekg.RR, name string, typ uint16) bool {
	t := rr.Header().Rrtype
	if sig, ok := rr.(*miekg.RRSIG); ok {
		t = sig.TypeCovered
	}
	return t == typ && miekg.CanonicalName(rr.Header().Name) == name
}

// accepts gives a span its place, or says that it is not to be kept: spans of
// one zone are all of the same kind.
func (d *denials) accepts(s *span) bool {
	if len(s.sigs) == 0 || len(d.spans) >= maxSpans {
		return false
	}
	switch rr := s.rr.(type) {
	case *miekg.NSEC:
		s.order = s.zone + " " + names.Order(miekg.CanonicalName(rr.Hdr.Name))
		return d.nsec3 == nil
	case *miekg.NSEC3:
		if rr.Iterations > maxIterations || rr.Flags&1 != 0 || rr.Hash != miekg.SHA1 {
			return false // opt-out leaves room for what is not denied: RFC 8198 section 5.2
		}
		if d.nsec3 != nil && (d.nsec3.Salt != rr.Salt || d.nsec3.Iterations != rr.Iterations) || d.nsec3 == nil && len(d.spans) > 0 {
			return false // the zone changes; the old ones end soon
		}
		d.nsec3 = rr
		s.order = s.zone + " " + strings.ToLower(miekg.SplitDomainName(rr.Hdr.Name)[0])
		return true
	}
	return false
}

// addSpanLocked puts a span in its place.
func (c *cache) addSpanLocked(s *span) {
	d := c.denials[s.zone]
	i, found := slices.BinarySearchFunc(d.spans, s.order, func(s *span, o string) int { return strings.Compare(s.order, o) })
	if found {
		d.spans[i] = s
		return
	}
	d.spans = slices.Insert(d.spans, i, s)
}

// dropSpanLocked takes it out again.
func (c *cache) dropSpanLocked(s *span) {
	d := c.denials[s.zone]
	if d == nil {
		return
	}
	i, found := slices.BinarySearchFunc(d.spans, s.order, func(s *span, o string) int { return strings.Compare(s.order, o) })
	if found && d.spans[i] == s {
		d.spans = slices.Delete(d.spans, i, i+1)
	}
	if len(d.spans) == 0 {
		d.nsec3 = nil
	}
}

// prove makes a negative answer of what is known of the neighbours; nil if that
// does not prove it (RFC 8198 section 5).
func (c *cache) prove(k key) *piece {
	switch k.typ {
	case miekg.TypeANY, miekg.TypeRRSIG, miekg.TypeNSEC, miekg.TypeNSEC3:
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.denials) == 0 {
		return nil
	}
	zone, d := c.denialsLocked(k)
	now := c.clock.Now()
	if d == nil || len(d.spans) == 0 || !now.Before(d.until) {
		return nil
	}
	found := d.candidates(zone, k.name, now)
	var records []miekg.RR
	for _, s := range found {
		records = append(records, s.rr)
	}
	proof := dnssec.Deny(zone, k.name, k.typ, records)
	if proof.OptOut || proof.Existence != dnssec.NoName && proof.Existence != dnssec.NoData {
		return nil
	}
	p := &piece{key: k, kind: noData, zone: zone, stored: now, checked: true, security: Secure}
	if proof.Existence == dnssec.NoName {
		p.kind = notExist
	}
	p.ns = slices.Clone(d.soa)
	until := d.until
	for _, s := range found {
		if slices.Contains(proof.Used, s.rr) {
			p.ns = append(append(p.ns, s.rr), s.sigs...)
			if s.expires.Before(until) {
				until = s.expires
			}
			if el, ok := c.entries[slot{spans, key{s.order, s.rr.Header().Rrtype}}]; ok {
				c.recent.MoveToFront(el)
			}
		}
	}
	p.ttl = until.Sub(now)
	return p
}

// denialsLocked are those of the deepest zone that is known to hold a name.
func (c *cache) denialsLocked(k key) (string, *denials) {
	name := k.name
	if k.typ == miekg.TypeDS && name != "." {
		name = names.Parent(name)
	}
	for {
		if d := c.denials[name]; d != nil {
			return name, d
		}
		if name == "." {
			return "", nil
		}
		name = names.Parent(name)
	}
}

// candidates are the spans that may speak about a name: its own, and those of
// the wildcard that might answer for it.
func (d *denials) candidates(zone, name string, now time.Time) []*span {
	var list []*span
	add := func(o string) *span {
		s := d.at(zone+" "+o, now)
		if s != nil && !slices.Contains(list, s) {
			list = append(list, s)
		}
		return s
	}
	if d.nsec3 == nil {
		s := add(names.Order(name))
		if s == nil {
			return nil
		}
		if e := dnssec.Deny(zone, name, miekg.TypeA, []miekg.RR{s.rr}).Encloser; e != "" {
			add(names.Order(names.Wildcard(e)))
		}
		return list
	}
	if miekg.CountLabel(name)-miekg.CountLabel(zone) > maxProofLabels {
		return nil
	}
	hash := func(n string) string {
		return strings.ToLower(miekg.HashName(n, miekg.SHA1, d.nsec3.Iterations, d.nsec3.Salt))
	}
	for n := name; ; n = names.Parent(n) { // RFC 5155 section 8.3
		h := hash(n)
		if s := add(h); s != nil && strings.HasSuffix(s.order, " "+h) {
			if n != name {
				add(hash(names.Wildcard(n)))
			}
			return list
		}
		if n == zone {
			return nil
		}
	}
}

// at is the span at a place or before it; the last one of the zone for a place
// before all. One that is over does not count.
func (d *denials) at(o string, now time.Time) *span {
	i := sort.Search(len(d.spans), func(i int) bool { return d.spans[i].order > o })
	if i == 0 {
		i = len(d.spans)
	}
	if i == 0 || !now.Before(d.spans[i-1].expires) {
		return nil
	}
	return d.spans[i-1]
}
