package search

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"sort"
)

// A column holds, for one kind of text in one segment, its terms in order, each
// with the list of documents that have it. The terms are words, or whole values
// of a header field; the term partial stands for "there is more than the terms
// say".
//
// Written, each term is the length of what it has in common with the one before,
// the length of the rest, the rest, and the length of its list, varints all;
// then follow the number of terms and a CRC-32C, four octets each. The lists
// stand one behind the other in a stream of their own.

// columnKind says what a column is about.
type columnKind int

const (
	subjectValues columnKind = iota // as Field: Subject to Bcc
	fromValues
	toValues
	ccValues
	bccValues
	headWords // of header fields, their names included, and of names of attachments
	bodyWords
	columnKinds
)

// partial is the term of documents whose text the column has not in full.
const partial = "\x01"

const (
	maxTerm       = maxValue  // octets
	maxColumn     = 256 << 20 // octets of terms in one column
	columnTrailer = 8
)

// castagnoli makes CRC-32C sums.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// columnWriter writes the terms of a column.
type columnWriter struct {
	out   []byte
	last  []byte
	count uint32
}

// put adds the next term, whose list is so long.
func (w *columnWriter) put(term []byte, list int) {
	same := 0
	for same < len(term) && same < len(w.last) && term[same] == w.last[same] {
		same++
	}
	w.out = binary.AppendUvarint(w.out, uint64(same))
	w.out = binary.AppendUvarint(w.out, uint64(len(term)-same))
	w.out = append(w.out, term[same:]...)
	w.out = binary.AppendUvarint(w.out, uint64(list))
	w.last = append(w.last[:0], term...)
	w.count++
}

func (w *columnWriter) finish() []byte {
	w.out = binary.BigEndian.AppendUint32(w.out, w.count)
	return seal(w.out)
}

// seal appends a checksum.
func seal(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// unseal checks the checksum and takes it off.
func unseal(b []byte) ([]byte, error) {
	n := len(b) - 4
	if n < 0 || crc32.Checksum(b[:n], castagnoli) != binary.BigEndian.Uint32(b[n:]) {
		return nil, errDamaged
	}
	return b[:n], nil
}

// column is a column's terms in memory: zero octets stand between them.
type column struct {
	text   []byte
	starts []uint32 // of each term in text, and of one behind the last
	ends   []uint32 // of each list in the stream
}

// decodeColumn reads what columnWriter has written.
func decodeColumn(b []byte) (*column, error) {
	b, err := unseal(b)
	if err != nil || len(b) < 4 {
		return nil, errDamaged
	}
	count := int(binary.BigEndian.Uint32(b[len(b)-4:]))
	b = b[:len(b)-4]
	if count > len(b)/3 {
		return nil, errDamaged
	}
	c := &column{
		text:   make([]byte, 1, 1+len(b)+count),
		starts: make([]uint32, 0, count+1),
		ends:   make([]uint32, 0, count),
	}
	var last []byte
	end := uint64(0)
	for range count {
		same, n := binary.Uvarint(b)
		b = b[max(n, 0):]
		rest, n2 := binary.Uvarint(b)
		b = b[max(n2, 0):]
		if n <= 0 || n2 <= 0 || same > uint64(len(last)) || rest > uint64(len(b)) || same+rest > maxTerm {
			return nil, errDamaged
		}
		start := len(c.text)
		c.text = append(append(c.text, last[:same]...), b[:rest]...)
		b = b[rest:]
		term := c.text[start:]
		list, n := binary.Uvarint(b)
		if n <= 0 || len(c.text) > maxColumn || len(c.starts) > 0 && bytes.Compare(term, last) <= 0 {
			return nil, errDamaged
		}
		b = b[n:]
		if end += list; end > 1<<31 {
			return nil, errDamaged
		}
		last = slices.Clip(term)
		c.starts = append(c.starts, uint32(start))
		c.ends = append(c.ends, uint32(end))
		c.text = append(c.text, 0)
	}
	c.starts = append(c.starts, uint32(len(c.text)))
	if len(b) > 0 {
		return nil, errDamaged
	}
	return c, nil
}

// size is the memory that the column takes.
func (c *column) size() int { return cap(c.text) + 4*cap(c.starts) + 4*cap(c.ends) + 128 }

func (c *column) len() int { return len(c.ends) }

func (c *column) term(i int) []byte { return c.text[c.starts[i] : c.starts[i+1]-1] }

// list is where the list of term i stands in the stream.
func (c *column) list(i int) (from, to uint32) {
	if i > 0 {
		from = c.ends[i-1]
	}
	return from, c.ends[i]
}

// find is the index of the first term that is not before s.
func (c *column) find(s string) int {
	return sort.Search(c.len(), func(i int) bool { return string(c.term(i)) >= s })
}

// exact calls fn with the index of the term s.
func (c *column) exact(s string, fn func(term int) bool) {
	if i := c.find(s); i < c.len() && string(c.term(i)) == s {
		fn(i)
	}
}

// prefix calls fn for each term that begins with s until it returns false.
func (c *column) prefix(s string, fn func(term int) bool) {
	for i := c.find(s); i < c.len() && bytes.HasPrefix(c.term(i), []byte(s)) && fn(i); i++ {
	}
}

// inside calls fn for each term that s is a part of, with right at its end,
// until it returns false. The terms are looked through as they stand: at a few
// octets in each nanosecond that is faster than the index of trigrams that it
// would replace could be kept, and it works for the shortest keys.
func (c *column) inside(s string, right bool, fn func(term int) bool) {
	if right {
		s += "\x00"
	}
	f := newFinder(s)
	for at, i := 0, 0; i < c.len(); i++ {
		if s != "" {
			if at = f.next(c.text, at); at < 0 {
				return
			}
			i = c.at(i, uint32(at))
		}
		if !fn(i) {
			return
		}
		at = int(c.starts[i+1])
	}
}

// at is the index of the term in which the octet at stands; it is not before
// term i.
func (c *column) at(i int, at uint32) int {
	step := 1
	for i+step < c.len() && c.starts[i+step] <= at {
		i += step
		step *= 2
	}
	hi := min(i+step, c.len())
	return i + sort.Search(hi-i, func(k int) bool { return c.starts[i+k+1] > at })
}

// terms calls fn for each term that p stands for; see piece.
func (c *column) terms(p piece, fn func(term int) bool) {
	switch {
	case p.fuzzy:
		c.fuzzy(p.text, fn)
	case p.left && p.right:
		c.exact(p.text, fn)
	case p.left:
		c.prefix(p.text, fn)
	default:
		c.inside(p.text, p.right, fn)
	}
}
