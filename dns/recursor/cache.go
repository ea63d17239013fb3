package recursor

import (
	"container/list"
	"sync"

	miekg "github.com/miekg/dns"

	"postrider/internal/clock"
)

const (
	cnameType = uint16(miekg.TypeCNAME)
	dsType    = uint16(miekg.TypeDS)
	// popularHits is how often an answer was asked for before it is worth to be
	// fetched again ahead of its end.
	popularHits = 3
)

// space tells apart what the cache keeps under one key.
type space uint8

const (
	pieces   space = iota
	cuts           // delegations
	failures       // questions that nobody could answer
	spans          // NSEC and NSEC3 records
	soas           // what belongs to the spans of a zone
)

type slot struct {
	space space
	key
}

// cache keeps pieces and delegations in a set number of octets; the least
// recently used go first. Pieces stay after their end, for RFC 8767, as long as
// there is room.
type cache struct {
	clock clock.Clock
	max   int

	mu      sync.Mutex
	entries map[slot]*list.Element // of *entry
	recent  list.List              // the most recently used in front
	bytes   int
	denials map[string]*denials // by zone
}

// entry is one thing that is kept: slot.space says which.
type entry struct {
	slot    slot
	piece   *piece
	cut     *cut
	span    *span
	denials *denials
	cost    int
	hits    int // since it was put in
}

func newCache(maxBytes int, c clock.Clock) *cache {
	return &cache{clock: c, max: maxBytes, entries: map[slot]*list.Element{}, denials: map[string]*denials{}}
}

// piece returns what is known about a question, over or not: the caller looks
// at its time.
func (c *cache) piece(k key) *piece {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	var over *piece
	for _, s := range [...]key{k, {k.name, cnameType}, {k.name, anyType}} {
		el, ok := c.entries[slot{pieces, s}]
		if !ok {
			continue
		}
		e := el.Value.(*entry)
		if s.typ == cnameType && k.typ != cnameType && e.piece.kind != alias {
			continue // that it is no alias says nothing about other types
		}
		left := e.piece.left(now)
		if left > 0 {
			c.recent.MoveToFront(el)
			e.hits++
			return e.piece
		}
		if left < -maxStale || e.piece.security == Bogus {
			c.removeLocked(el)
			continue
		}
		if over == nil {
			over = e.piece
		}
	}
	return over
}

// popular tells that a piece was used since it came.
func (c *cache) popular(p *piece) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.entries[slot{pieces, p.slot()}]
	return ok && el.Value.(*entry).hits >= popularHits
}

// put keeps a piece for its TTL, unless that is 0.
func (c *cache) put(p *piece) {
	if p.ttl <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := p.slot()
	if s.typ == anyType { // what the name had is gone
		c.dropLocked(slot{pieces, p.key})
		c.dropLocked(slot{pieces, key{p.key.name, cnameType}})
	} else {
		c.dropLocked(slot{pieces, key{p.key.name, anyType}})
		if p.kind == alias {
			c.dropLocked(slot{pieces, p.key})
		} else if p.key.typ != dsType {
			c.dropLocked(slot{pieces, key{p.key.name, cnameType}})
		}
	}
	c.dropLocked(slot{failures, p.key})
	c.insertLocked(&entry{slot: slot{pieces, s}, piece: p, cost: p.cost()})
}

// failure returns the failure that is kept of a question, nil if there is none.
func (c *cache) failure(k key) *piece {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.entries[slot{failures, k}]
	if !ok {
		return nil
	}
	p := el.Value.(*entry).piece
	if p.left(c.clock.Now()) <= 0 {
		c.removeLocked(el)
		return nil
	}
	return p
}

// fail keeps a failure beside what may still be known of the name.
func (c *cache) fail(p *piece) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.insertLocked(&entry{slot: slot{failures, p.key}, piece: p, cost: p.cost()})
}

// validated puts a piece in the place of the one that it was made of, if that
// is still there.
func (c *cache) validated(old, new *piece) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.entries[slot{pieces, old.slot()}]
	if !ok || el.Value.(*entry).piece != old {
		return
	}
	e := el.Value.(*entry)
	n := new.cost()
	c.bytes += n - e.cost
	e.piece, e.cost = new, n
}

// delegation returns the delegation of a zone, nil if none is known.
func (c *cache) delegation(zone string) *cut {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.entries[slot{cuts, key{name: zone}}]
	if !ok {
		return nil
	}
	e := el.Value.(*entry)
	if !c.clock.Now().Before(e.cut.expires()) {
		c.removeLocked(el)
		return nil
	}
	c.recent.MoveToFront(el)
	e.hits++
	return e.cut
}

func (c *cache) delegate(d *cut) {
	if d.ttl <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.insertLocked(&entry{slot: slot{cuts, key{name: d.zone}}, cut: d, cost: d.cost()})
}

func (c *cache) insertLocked(e *entry) {
	c.dropLocked(e.slot)
	if e.cost > c.max/4 { // one answer does not push all others out
		if e.denials != nil {
			e.denials.removed = true
			delete(c.denials, e.slot.name)
		}
		return
	}
	c.entries[e.slot] = c.recent.PushFront(e)
	c.bytes += e.cost
	if e.span != nil {
		c.addSpanLocked(e.span)
	}
	for c.bytes > c.max {
		c.removeLocked(c.recent.Back())
	}
}

func (c *cache) dropLocked(s slot) {
	if el, ok := c.entries[s]; ok {
		c.removeLocked(el)
	}
}

func (c *cache) removeLocked(el *list.Element) {
	e := c.recent.Remove(el).(*entry)
	delete(c.entries, e.slot)
	c.bytes -= e.cost
	switch {
	case e.span != nil:
		c.dropSpanLocked(e.span)
	case e.denials != nil:
		e.denials.removed = true
		delete(c.denials, e.slot.name) // its spans, of no use now, go in their time
	}
}

// since returns the entries, the most recently used first, at most n.
func (c *cache) since(n int) []entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []entry
	for el := c.recent.Front(); el != nil && len(all) < n; el = el.Next() {
		all = append(all, *el.Value.(*entry))
	}
	return all
}

// flush removes what is kept of a name and of all below it.
func (c *cache) flush(under func(name string) bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for el := c.recent.Front(); el != nil; {
		next := el.Next()
		if under(el.Value.(*entry).slot.name) {
			c.removeLocked(el)
			n++
		}
		el = next
	}
	return n
}
