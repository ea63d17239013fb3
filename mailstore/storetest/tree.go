package storetest

import "math/rand/v2"

// tree is a sorted map that never changes: put and remove make a new one that
// shares what is the same. Keeping an old one is a snapshot. It is a treap.
type tree[K, V any] struct {
	compare func(a, b K) int
	root    *node[K, V]
}

type node[K, V any] struct {
	key         K
	value       V
	priority    uint64
	left, right *node[K, V]
}

func (t tree[K, V]) get(key K) (V, bool) {
	for n := t.root; n != nil; {
		switch c := t.compare(key, n.key); {
		case c == 0:
			return n.value, true
		case c < 0:
			n = n.left
		default:
			n = n.right
		}
	}
	var zero V
	return zero, false
}

func (t tree[K, V]) put(key K, value V) tree[K, V] {
	less, more := t.split(t.root, key)
	one := &node[K, V]{key: key, value: value, priority: rand.Uint64()}
	return tree[K, V]{t.compare, merge(merge(less, one), more)}
}

func (t tree[K, V]) remove(key K) tree[K, V] {
	less, more := t.split(t.root, key)
	return tree[K, V]{t.compare, merge(less, more)}
}

// split cuts a tree into what is before key and what is after it.
func (t tree[K, V]) split(n *node[K, V], key K) (less, more *node[K, V]) {
	if n == nil {
		return nil, nil
	}
	c := t.compare(key, n.key)
	if c == 0 {
		return n.left, n.right
	}
	half := *n
	if c < 0 {
		less, half.left = t.split(n.left, key)
		return less, &half
	}
	half.right, more = t.split(n.right, key)
	return &half, more
}

// merge joins two trees of which the first is wholly before the second.
func merge[K, V any](a, b *node[K, V]) *node[K, V] {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.priority > b.priority:
		top := *a
		top.right = merge(a.right, b)
		return &top
	default:
		top := *b
		top.left = merge(a, b.left)
		return &top
	}
}

// from calls fn for each entry with a key not before start, until fn returns false.
func (t tree[K, V]) from(start K, fn func(K, V) bool) {
	t.walk(t.root, start, fn)
}

func (t tree[K, V]) walk(n *node[K, V], start K, fn func(K, V) bool) bool {
	if n == nil {
		return true
	}
	after := t.compare(n.key, start) >= 0
	if after && !t.walk(n.left, start, fn) {
		return false
	}
	if after && !fn(n.key, n.value) {
		return false
	}
	return t.walk(n.right, start, fn)
}
