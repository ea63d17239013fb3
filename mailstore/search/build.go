package search

import "slices"

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
	vocabulary
	last []uint32    // the last document of each term, plus one
	has  [][]hasTerm // in chunks, so that none is copied to grow
}

type hasTerm struct{ term, doc uint32 }

const hasChunk = 4096 // entries, at most

// Octets in memory for a term and for an entry, about.
const (
	termCost  = 32
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
			b.put(columnKind(k), []byte(partial))
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
func (b *builder) term(k columnKind, s []byte) {
	if b.terms[k] >= maxTerms {
		b.partial[k] = true
		return
	}
	if b.put(k, s) {
		b.terms[k]++
	}
}

// put tells whether the term is new to the document.
func (b *builder) put(k columnKind, s []byte) bool {
	c := &b.columns[k]
	i, fresh := c.number(s)
	switch {
	case fresh:
		c.last = append(c.last, 0)
		b.size += termCost + len(s)
	case c.last[i] == b.docs:
		return false
	}
	c.last[i] = b.docs
	n := len(c.has) - 1
	if n < 0 || len(c.has[n]) == cap(c.has[n]) {
		n++
		c.has = append(c.has, make([]hasTerm, 0, min(max(len(c.last), 16), hasChunk)))
	}
	c.has[n] = append(c.has[n], hasTerm{i, b.docs - 1})
	b.size += entryCost
	return true
}

// lists sorts the documents by term: those of term i are docs[from[i]:from[i+1]].
func (c *buildColumn) lists() (docs, from []uint32) {
	from = make([]uint32, len(c.last)+1)
	n := 0
	for _, chunk := range c.has {
		n += len(chunk)
		for _, h := range chunk {
			from[h.term+1]++
		}
	}
	for i := range c.last {
		from[i+1] += from[i]
	}
	docs = make([]uint32, n)
	at := slices.Clone(from)
	for _, chunk := range c.has {
		for _, h := range chunk {
			docs[at[h.term]] = h.doc
			at[h.term]++
		}
	}
	return docs, from
}

func (b *builder) words(k columnKind, s []byte) {
	for start, end := nextWord(s, 0); start < len(s); start, end = nextWord(s, end) {
		if end-start <= maxWord {
			b.term(k, s[start:end])
			continue
		}
		pieces(s[start:end], maxWord, func(p []byte) { b.term(k, p) })
	}
}

func (b *builder) field(name, value string) {
	b.words(headWords, append([]byte(name), ": "...))
	text := []byte(value)
	b.words(headWords, text)
	for f, n := range headerNames {
		if n == name {
			pieces(text, maxValue, func(p []byte) { b.term(columnKind(f), p) })
		}
	}
}

func (b *builder) filename(name string) { b.words(headWords, []byte(name)) }

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

func (b *builder) end() { b.words(bodyWords, b.text) }

// write writes the segment.
func (b *builder) write(w *segmentWriter) error {
	for k := range b.columns {
		c := &b.columns[k]
		w.begin(columnKind(k))
		docs, from := c.lists()
		for _, i := range c.sorted() {
			if err := w.put(c.term(i), docs[from[i]:from[i+1]]); err != nil {
				return err
			}
		}
		if err := w.end(); err != nil {
			return err
		}
	}
	return nil
}
