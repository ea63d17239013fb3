package dns

import (
	"container/list"
	"sync"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/internal/clock"
)

const (
	defaultCacheEntries = 20_000
	// maxCacheBytes bounds the memory of the cache, as cost counts it.
	maxCacheBytes = 32 << 20
)

// anyType is the type under which the cache keeps that a name does not exist,
// which holds for every type.
const anyType Type = 0

// cache keeps steps until they expire; the least recently used go first when
// it is full.
type cache struct {
	clock      clock.Clock
	maxEntries int

	mu      sync.Mutex
	entries map[question]*list.Element // of *entry
	recent  list.List                  // the most recently used in front
	bytes   int
}

type entry struct {
	q       question
	step    step
	expires time.Time
	cost    int
}

func newCache(maxEntries int, c clock.Clock) *cache {
	return &cache{clock: c, maxEntries: maxEntries, entries: map[question]*list.Element{}}
}

// get returns what is known about a question.
func (c *cache) get(q question) (step, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	for _, key := range [...]question{q, {q.name, anyType}} {
		el, ok := c.entries[key]
		if !ok {
			continue
		}
		e := el.Value.(*entry)
		if !now.Before(e.expires) {
			c.removeLocked(el)
			continue
		}
		c.recent.MoveToFront(el)
		s := e.step
		s.cached, s.left = true, e.expires.Sub(now)
		return s, true
	}
	return step{}, false
}

// put keeps a step for its TTL.
func (c *cache) put(q question, s step) {
	if s.ttl <= 0 || c.maxEntries <= 0 {
		return
	}
	if s.outcome == notExist && s.aliases == 0 {
		q.typ = anyType
	}
	e := &entry{q: q, step: s, cost: cost(q, s)}
	c.mu.Lock()
	defer c.mu.Unlock()
	e.expires = c.clock.Now().Add(s.ttl)
	if old, ok := c.entries[q]; ok {
		c.removeLocked(old)
	}
	c.entries[q] = c.recent.PushFront(e)
	c.bytes += e.cost
	for c.recent.Len() > c.maxEntries || c.bytes > maxCacheBytes {
		c.removeLocked(c.recent.Back())
	}
}

func (c *cache) removeLocked(el *list.Element) {
	e := c.recent.Remove(el).(*entry)
	delete(c.entries, e.q)
	c.bytes -= e.cost
}

// cost estimates the memory of an entry from above: the records' octets, and
// what Go's values take around them.
func cost(q question, s step) int {
	n := 512 + 2*len(q.name) + len(s.name)
	for _, rr := range s.records {
		n += 256 + 2*miekg.Len(rr)
	}
	return n
}
