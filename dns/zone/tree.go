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
	first  []string // the first key of each chunk
	chunks []*chunk // none is empty
}

type chunk struct {
	owner *edit
	keys  []string
	nodes []*node
}

// search finds the place of key: chunk and index in it, and whether it is there.
// If not, the place is where it would be inserted.
func (k *kids) search(key string) (c, i int, found bool) {
	if k == nil || len(k.chunks) == 0 {
		return 0, 0, false
	}
	c, found = slices.BinarySearch(k.first, key)
	if found {
		return c, 0, true
	}
	if c > 0 {
		c--
	}
	i, found = slices.BinarySearch(k.chunks[c].keys, key)
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
	return &kids{owner: e, first: slices.Clone(k.first), chunks: slices.Clone(k.chunks)}
}

// ownChunk makes a part of an owned list changeable.
func (k *kids) ownChunk(c int) *chunk {
	if old := k.chunks[c]; old.owner != k.owner {
		k.chunks[c] = &chunk{k.owner, slices.Clone(old.keys), slices.Clone(old.nodes)}
	}
	return k.chunks[c]
}

// put inserts or replaces a child of an owned list.
func (k *kids) put(n *node) {
	if len(k.chunks) == 0 {
		k.first = append(k.first, n.key)
		k.chunks = append(k.chunks, &chunk{k.owner, []string{n.key}, []*node{n}})
		return
	}
	c, i, found := k.search(n.key)
	ch := k.ownChunk(c)
	if found {
		ch.nodes[i] = n
		return
	}
	ch.keys = slices.Insert(ch.keys, i, n.key)
	ch.nodes = slices.Insert(ch.nodes, i, n)
	k.first[c] = ch.keys[0]
	if len(ch.keys) <= maxChunk {
		return
	}
	half := len(ch.keys) / 2
	if c == len(k.chunks)-1 && i == len(ch.keys)-1 {
		half = len(ch.keys) - 1 // names that come in order fill their chunks
	}
	right := &chunk{k.owner, slices.Clone(ch.keys[half:]), slices.Clone(ch.nodes[half:])}
	clear(ch.nodes[half:])
	ch.keys, ch.nodes = ch.keys[:half], ch.nodes[:half]
	k.first = slices.Insert(k.first, c+1, right.keys[0])
	k.chunks = slices.Insert(k.chunks, c+1, right)
}

// remove takes a child out of an owned list.
func (k *kids) remove(key string) {
	c, i, found := k.search(key)
	if !found {
		return
	}
	ch := k.ownChunk(c)
	ch.keys = slices.Delete(ch.keys, i, i+1)
	ch.nodes = slices.Delete(ch.nodes, i, i+1)
	switch {
	case len(ch.keys) == 0:
		k.first = slices.Delete(k.first, c, c+1)
		k.chunks = slices.Delete(k.chunks, c, c+1)
	case c > 0 && len(ch.keys)+len(k.chunks[c-1].keys) <= maxChunk/2:
		left := k.ownChunk(c - 1)
		left.keys = append(left.keys, ch.keys...)
		left.nodes = append(left.nodes, ch.nodes...)
		k.first = slices.Delete(k.first, c, c+1)
		k.chunks = slices.Delete(k.chunks, c, c+1)
	default:
		k.first[c] = ch.keys[0]
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
