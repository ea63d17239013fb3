package zone

import (
	"slices"

	miekg "github.com/miekg/dns"
)

// A version of a zone shares nodes with others. The owner of a node, a list or
// a part of one is the edit that made it, which alone may change it in place;
// every other edit copies it first. Once an edit is done, nobody owns its nodes.

// node is a name of the zone, with or without records.
type node struct {
	owner *edit
	name  string // canonical
	key   string // its leftmost label, as octets
	sets  []rrset
	kids  *kids // nil: none
	has   traits
}

// traits says which sets that steer the search a node has.
type traits uint8

const (
	hasNS traits = 1 << iota
	hasCNAME
	hasDNAME
	hasNSEC
)

// rrset is the records of one type at a name, followed by the signatures that
// cover them: what is needed is one slice, with or without them.
type rrset struct {
	typ uint16
	n   int        // records; the rest of all are RRSIGs
	all []miekg.RR // len == cap, so that append copies
}

// records is the set without, or with, its signatures.
func (s *rrset) records(signed bool) []miekg.RR {
	if s == nil {
		return nil
	}
	if signed {
		return s.all
	}
	return s.all[:s.n:s.n]
}

func (s *rrset) signatures() []miekg.RR { return s.all[s.n:] }

// set finds the records of a type, which may be none but signatures; nil if
// there is nothing.
func (n *node) set(typ uint16) *rrset {
	for i := range n.sets {
		if n.sets[i].typ >= typ {
			if n.sets[i].typ == typ {
				return &n.sets[i]
			}
			return nil
		}
	}
	return nil
}

// data is like set, for records that are there.
func (n *node) data(typ uint16) *rrset {
	if s := n.set(typ); s != nil && s.n > 0 {
		return s
	}
	return nil
}

// empty tells that nothing is at the name: it may be an empty non-terminal.
func (n *node) empty() bool { return len(n.sets) == 0 }

// mark notes what the node has, after its sets have changed.
func (n *node) mark() {
	n.has = 0
	for i := range n.sets {
		if n.sets[i].n == 0 {
			continue
		}
		switch n.sets[i].typ {
		case miekg.TypeNS:
			n.has |= hasNS
		case miekg.TypeCNAME:
			n.has |= hasCNAME
		case miekg.TypeDNAME:
			n.has |= hasDNAME
		case miekg.TypeNSEC:
			n.has |= hasNSEC
		}
	}
}

// maxChunk is how many children stand in one part of a list. A change copies one
// part and the list of parts: of a million children some 150 KB.
const maxChunk = 256

// kids is the children of a node, ordered by key.
type kids struct {
	owner  *edit
	first  index    // the first key of each chunk
	chunks []*chunk // none is empty
}

type chunk struct {
	owner *edit
	keys  index
	nodes []*node
}

// index is sorted keys. Their first octets stand together in memory, since a
// search in a large zone costs as much as it must wait for memory.
type index struct {
	heads []uint64
	keys  []string
}

// headOf is the first eight octets of a key, in an order that is the keys', as far
// as they go.
func headOf(key string) uint64 {
	if len(key) >= 8 {
		return uint64(key[0])<<56 | uint64(key[1])<<48 | uint64(key[2])<<40 | uint64(key[3])<<32 |
			uint64(key[4])<<24 | uint64(key[5])<<16 | uint64(key[6])<<8 | uint64(key[7])
	}
	var h uint64
	for i := range len(key) {
		h |= uint64(key[i]) << (56 - 8*i)
	}
	return h
}

// search finds the place of a key, or where it would be.
func (x *index) search(key string) (int, bool) {
	h := headOf(key)
	lo, hi := 0, len(x.heads)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if x.heads[m] < h || x.heads[m] == h && x.keys[m] < key {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo, lo < len(x.keys) && x.keys[lo] == key
}

func (x *index) insert(i int, key string) {
	x.heads = slices.Insert(x.heads, i, headOf(key))
	x.keys = slices.Insert(x.keys, i, key)
}

func (x *index) remove(i int) {
	x.heads = slices.Delete(x.heads, i, i+1)
	x.keys = slices.Delete(x.keys, i, i+1)
}

func (x *index) set(i int, key string) { x.heads[i], x.keys[i] = headOf(key), key }

// from is a copy of the keys from place i on.
func (x *index) from(i int) index {
	return index{slices.Clone(x.heads[i:]), slices.Clone(x.keys[i:])}
}

// search finds the place of key: chunk and index in it, and whether it is there.
// If not, the place is where it would be inserted.
func (k *kids) search(key string) (c, i int, found bool) {
	if k == nil || len(k.chunks) == 0 {
		return 0, 0, false
	}
	c, found = k.first.search(key)
	if found {
		return c, 0, true
	}
	if c > 0 {
		c--
	}
	i, found = k.chunks[c].keys.search(key)
	return c, i, found
}

// get is the child of that key, or nil.
func (k *kids) get(key string) *node {
	c, i, found := k.search(key)
	if !found {
		return nil
	}
	return k.chunks[c].nodes[i]
}

// own makes the list changeable by e.
func (k *kids) own(e *edit) *kids {
	switch {
	case k == nil:
		return &kids{owner: e}
	case k.owner == e:
		return k
	}
	return &kids{owner: e, first: k.first.from(0), chunks: slices.Clone(k.chunks)}
}

// ownChunk makes a part of an owned list changeable.
func (k *kids) ownChunk(c int) *chunk {
	if old := k.chunks[c]; old.owner != k.owner {
		k.chunks[c] = &chunk{k.owner, old.keys.from(0), slices.Clone(old.nodes)}
	}
	return k.chunks[c]
}

// put inserts or replaces a child of an owned list.
func (k *kids) put(n *node) {
	if len(k.chunks) == 0 {
		k.first.insert(0, n.key)
		ch := &chunk{owner: k.owner, nodes: []*node{n}}
		ch.keys.insert(0, n.key)
		k.chunks = append(k.chunks, ch)
		return
	}
	c, i, found := k.search(n.key)
	ch := k.ownChunk(c)
	if found {
		ch.nodes[i] = n
		return
	}
	ch.keys.insert(i, n.key)
	ch.nodes = slices.Insert(ch.nodes, i, n)
	k.first.set(c, ch.keys.keys[0])
	if len(ch.nodes) <= maxChunk {
		return
	}
	half := len(ch.nodes) / 2
	if c == len(k.chunks)-1 && i == len(ch.nodes)-1 {
		half = len(ch.nodes) - 1 // names that come in order fill their chunks
	}
	right := &chunk{k.owner, ch.keys.from(half), slices.Clone(ch.nodes[half:])}
	clear(ch.nodes[half:])
	ch.keys.heads, ch.keys.keys, ch.nodes = ch.keys.heads[:half], ch.keys.keys[:half], ch.nodes[:half]
	k.first.insert(c+1, right.keys.keys[0])
	k.chunks = slices.Insert(k.chunks, c+1, right)
}

// remove takes a child out of an owned list.
func (k *kids) remove(key string) {
	c, i, found := k.search(key)
	if !found {
		return
	}
	ch := k.ownChunk(c)
	ch.keys.remove(i)
	ch.nodes = slices.Delete(ch.nodes, i, i+1)
	switch {
	case len(ch.nodes) == 0:
		k.first.remove(c)
		k.chunks = slices.Delete(k.chunks, c, c+1)
	case c > 0 && len(ch.nodes)+len(k.chunks[c-1].nodes) <= maxChunk/2:
		left := k.ownChunk(c - 1)
		left.keys.heads = append(left.keys.heads, ch.keys.heads...)
		left.keys.keys = append(left.keys.keys, ch.keys.keys...)
		left.nodes = append(left.nodes, ch.nodes...)
		k.first.remove(c)
		k.chunks = slices.Delete(k.chunks, c, c+1)
	default:
		k.first.set(c, ch.keys.keys[0])
	}
}

// each yields the children in order until yield tells to stop; it tells whether
// it went to the end.
func (k *kids) each(yield func(*node) bool) bool {
	if k == nil {
		return true
	}
	for _, c := range k.chunks {
		for _, n := range c.nodes {
			if !yield(n) {
				return false
			}
		}
	}
	return true
}

// walk yields a node and everything below it in canonical order (RFC 4034
// section 6.1), empty non-terminals too.
func (n *node) walk(yield func(*node) bool) bool {
	return yield(n) && n.kids.each(func(k *node) bool { return k.walk(yield) })
}
