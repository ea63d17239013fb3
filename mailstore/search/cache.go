package search

import (
	"container/list"
	"sync"
)

// cache keeps decoded columns and places, which never change, within a bound.
type cache struct {
	limit int // octets

	mu    sync.Mutex
	used  int
	items map[cacheKey]*list.Element
	order *list.List // of *cacheItem, the last used first
}

type cacheKey struct {
	places bool // rather than a column
	id     int64
}

type cacheItem struct {
	key   cacheKey
	value any
	size  int
}

func newCache(limit int) *cache {
	return &cache{limit: limit, items: make(map[cacheKey]*list.Element), order: list.New()}
}

// get gives what is kept, or what load makes, which is kept then.
func (c *cache) get(key cacheKey, load func() (value any, size int, err error)) (any, error) {
	c.mu.Lock()
	if e := c.items[key]; e != nil {
		c.order.MoveToFront(e)
		value := e.Value.(*cacheItem).value
		c.mu.Unlock()
		return value, nil
	}
	c.mu.Unlock()
	value, size, err := load()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.items[key] != nil || size > c.limit {
		return value, nil
	}
	c.items[key] = c.order.PushFront(&cacheItem{key, value, size})
	for c.used += size; c.used > c.limit; {
		e := c.order.Back()
		old := e.Value.(*cacheItem)
		c.order.Remove(e)
		delete(c.items, old.key)
		c.used -= old.size
	}
	return value, nil
}

// clear forgets all.
func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.items)
	c.order.Init()
	c.used = 0
}
