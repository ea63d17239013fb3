package search

import (
	"maps"
	"slices"
	"strings"
)

// Limits of what the index keeps of one message. Beyond them it says that it
// does not know, and the message is read.
const (
	maxIndexed = 1 << 20 // octets of text of the body, folded
	maxTerms   = 20000   // terms of one message in one column
)

// builder makes a segment in memory: the documents of one batch.
type builder struct {
	docs    uint32 // the number of the next document
	columns [columnKinds]buildColumn
	size    int // octets that it takes, about

	partial [columnKinds]bool // of the document in hand
	terms   [columnKinds]int
	text    []byte // of the body, of the part in hand
	indexed int    // of maxIndexed
}

// buildColumn is a column in the making. That a document has a term is an entry
// in one list for all, in order of the documents: a list for each term would cost
// more than all the rest.
type buildColumn struct {
	index map[string]uint32 // the terms, numbered as they came
	last  []uint32          // the last document of each term, plus one
	has   []hasTerm
}

type hasTerm struct{ term, doc uint32 }

// Octets in memory for a term and for an entry, about.
const (
	termCost  = 80
	entryCost = 10
)

// next begins a document and returns its number.
func (b *builder) next() uint32 {
	b.partial = [columnKinds]bool{}
	b.terms = [columnKinds]int{}
	b.indexed = 0
	b.docs++
	return b.docs - 1
}

// done ends the document in hand.
func (b *builder) done() {
	for k, is := range b.partial {
		if is {
			b.put(columnKind(k), partial)
		}
	}
}

// unknown makes the document in hand one whose text has to be read.
func (b *builder) unknown() {
	for k := range b.partial {
		b.partial[k] = true
	}
}

// term adds a term to the document in hand.
func (b *builder) term(k columnKind, s string) {
	if b.terms[k] >= maxTerms {
		b.partial[k] = true
		return
	}
	if b.put(k, s) {
		b.terms[k]++
	}
}

// put tells whether the term is new to the document.
func (b *builder) put(k columnKind, s string) bool {
	c := &b.columns[k]
	i, ok := c.index[s]
	switch {
	case !ok:
		if c.index == nil {
			c.index = make(map[string]uint32)
		}
		i = uint32(len(c.last))
		c.index[strings.Clone(s)] = i
		c.last = append(c.last, 0)
		b.size += termCost + len(s)
	case c.last[i] == b.docs:
		return false
	}
	c.last[i] = b.docs
	c.has = append(c.has, hasTerm{i, b.docs - 1})
	b.size += entryCost
	return true
}

// lists sorts the documents by term: those of term i are docs[from[i]:from[i+1]].
func (c *buildColumn) lists() (docs, from []uint32) {
	from = make([]uint32, len(c.last)+1)
	for _, h := range c.has {
		from[h.term+1]++
	}
	for i := range c.last {
		from[i+1] += from[i]
	}
	docs = make([]uint32, len(c.has))
	at := slices.Clone(from)
	for _, h := range c.has {
		docs[at[h.term]] = h.doc
		at[h.term]++
	}
	return docs, from
}

func (b *builder) words(k columnKind, s string) {
	for start, end := nextWord(s, 0); start < len(s); start, end = nextWord(s, end) {
		if end-start <= maxWord {
			b.term(k, s[start:end])
			continue
		}
		pieces(s[start:end], maxWord, func(p string) { b.term(k, p) })
	}
}

func (b *builder) field(name, value string) {
	b.words(headWords, name+": ")
	b.words(headWords, value)
	for f, n := range headerNames {
		if n == name {
			pieces(value, maxValue, func(p string) { b.term(columnKind(f), p) })
		}
	}
}

func (b *builder) filename(name string) { b.words(headWords, name) }

func (b *builder) begin() bool {
	b.text = b.text[:0]
	if b.indexed >= maxIndexed {
		b.partial[bodyWords] = true
		return false
	}
	return true
}

func (b *builder) add(piece []byte) bool {
	n := min(len(piece), maxIndexed-b.indexed)
	b.text = append(b.text, piece[:n]...)
	b.indexed += n
	if n < len(piece) {
		b.partial[bodyWords] = true
		return false
	}
	return true
}

func (b *builder) end() { b.words(bodyWords, string(b.text)) }

// write writes the segment.
func (b *builder) write(w *segmentWriter) error {
	for k := range b.columns {
		c := &b.columns[k]
		w.begin(columnKind(k))
		docs, from := c.lists()
		for _, term := range slices.Sorted(maps.Keys(c.index)) {
			i := c.index[term]
			if err := w.put([]byte(term), docs[from[i]:from[i+1]]); err != nil {
				return err
			}
		}
		if err := w.end(); err != nil {
			return err
		}
	}
	return nil
}
