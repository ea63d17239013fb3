package dnssec

import (
	"container/list"
	"sync"
	"time"
)

// zoneCache remembers zones up to a number; the one not used for longest goes
// first.
type zoneCache struct {
	limit int

	mu     sync.Mutex
	byName map[string]*list.Element
	order  *list.List // of *zone, last used first
}

func newZoneCache(limit int) *zoneCache {
	return &zoneCache{limit: limit, byName: make(map[string]*list.Element), order: list.New()}
}

// get returns what is known and not too old, or nil.
func (c *zoneCache) get(name string, now time.Time) *zone {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byName[name]
	if e == nil {
		return nil
	}
	z := e.Value.(*zone)
	if !now.Before(z.until) {
		c.removeLocked(e)
		return nil
	}
	c.order.MoveToFront(e)
	return z
}

// put remembers z, which must not change any more.
func (c *zoneCache) put(z *zone) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byName[z.name]; e != nil {
		c.removeLocked(e)
	}
	c.byName[z.name] = c.order.PushFront(z)
	for c.order.Len() > c.limit {
		c.removeLocked(c.order.Back())
	}
}

func (c *zoneCache) removeLocked(e *list.Element) {
	c.order.Remove(e)
	delete(c.byName, e.Value.(*zone).name)
}

func (c *zoneCache) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.byName)
	c.order.Init()
}
