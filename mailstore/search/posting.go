package search

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// errDamaged: bytes of the index are not what was written.
var errDamaged = errors.New("the search index is damaged")

// bitset is a set of small numbers.
type bitset struct {
	words []uint64
	n     int // numbers in the set
}

// newBitset makes an empty set of numbers below limit.
func newBitset(limit int) *bitset { return &bitset{words: make([]uint64, (limit+63)/64)} }

func (s *bitset) has(i int) bool {
	return i>>6 < len(s.words) && s.words[i>>6]&(1<<(i&63)) != 0
}

func (s *bitset) add(i int) {
	if bit := uint64(1) << (i & 63); s.words[i>>6]&bit == 0 {
		s.words[i>>6] |= bit
		s.n++
	}
}

func (s *bitset) clear() {
	clear(s.words)
	s.n = 0
}

// and keeps what is also in other, a set of the same limit.
func (s *bitset) and(other *bitset) {
	s.n = 0
	for i := range s.words {
		s.words[i] &= other.words[i]
		s.n += bits.OnesCount64(s.words[i])
	}
}

// or adds the numbers of part, each with base added to it; they are below the
// limit of s.
func (s *bitset) or(part *bitset, base int) {
	for i, w := range part.words {
		s.orAt(base+i<<6, w)
	}
}

// orBitmap adds the numbers of a bitmap, each with base added to it; they are below
// the limit of s.
func (s *bitset) orBitmap(b []byte, base int) {
	for ; len(b) > 0; base += 64 {
		var w uint64
		if len(b) >= 8 {
			w, b = binary.LittleEndian.Uint64(b), b[8:]
		} else {
			var last [8]byte
			copy(last[:], b)
			w, b = binary.LittleEndian.Uint64(last[:]), nil
		}
		s.orAt(base, w)
	}
}

// orAt adds 64 numbers from one that need not be a multiple of 64.
func (s *bitset) orAt(first int, w uint64) {
	at, shift := first>>6, first&63
	if low := w << shift; low != 0 {
		s.orWord(at, low)
	}
	if high := w >> (64 - shift); high != 0 {
		s.orWord(at+1, high)
	}
}

// orWord adds the numbers of one word.
func (s *bitset) orWord(i int, w uint64) {
	s.n += bits.OnesCount64(w &^ s.words[i])
	s.words[i] |= w
}

// A list of documents, numbers below that of the documents in the segment, is
// its length times two, plus one where a bitmap follows, and otherwise the
// first number and then each distance less one; all are varints.

// appendList encodes docs, which are sorted, for a segment of size documents.
func appendList(dst []byte, docs []uint32, size int) []byte {
	if asBitmap(len(docs), size) {
		dst = binary.AppendUvarint(dst, uint64(len(docs))<<1|1)
		at := len(dst)
		dst = append(dst, make([]byte, (size+7)/8)...)
		for _, d := range docs {
			dst[at+int(d>>3)] |= 1 << (d & 7)
		}
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(len(docs))<<1)
	next := uint32(0)
	for _, d := range docs {
		dst = binary.AppendUvarint(dst, uint64(d-next))
		next = d + 1
	}
	return dst
}

// asBitmap tells whether n of size documents are written as a bitmap.
func asBitmap(n, size int) bool { return n > (size+7)/8 }

// openList reads the head of an encoded list, and tells what follows: count
// numbers, or a bitmap, of which the length and the bits at its end are right.
func openList(b []byte, size int) (count int, bitmap bool, rest []byte, err error) {
	head, n := binary.Uvarint(b)
	if n <= 0 || head>>1 > uint64(size) {
		return 0, false, nil, errDamaged
	}
	b = b[n:]
	bitmap = head&1 != 0
	if bitmap && (len(b) != (size+7)/8 || size%8 != 0 && b[len(b)-1]>>(size%8) != 0) {
		return 0, false, nil, errDamaged
	}
	return int(head >> 1), bitmap, b, nil
}

// readNumbers calls fn for each document of a list that is no bitmap, in order.
func readNumbers(b []byte, count, size int, fn func(doc uint32)) error {
	next := uint64(0)
	for ; count > 0; count-- {
		if len(b) > 0 && b[0] < 0x80 {
			next += uint64(b[0])
			b = b[1:]
		} else {
			d, n := binary.Uvarint(b)
			if n <= 0 || d >= uint64(size) {
				return errDamaged
			}
			next += d
			b = b[n:]
		}
		if next >= uint64(size) {
			return errDamaged
		}
		fn(uint32(next))
		next++
	}
	return nil
}

// addList adds the documents of an encoded list for a segment of size documents
// to a set of that size.
func addList(b []byte, size int, set *bitset) error {
	count, bitmap, b, err := openList(b, size)
	if err != nil {
		return err
	}
	if bitmap {
		set.orBitmap(b, 0)
		return nil
	}
	return readNumbers(b, count, size, func(doc uint32) { set.add(int(doc)) })
}

// joined is the list of one term in several segments that are merged. What is in few
// documents is joined as numbers, what is in many by bits.
type joined struct {
	size  int // documents of the merged segment
	parts []part
	count int // documents in the parts
	docs  []uint32
	set   *bitset // empty between terms
	live  *bitset // of the merged segment; nil = all
}

// part is a list, opened, of size documents that begin at base.
type part struct {
	list              []byte
	bitmap            bool
	count, size, base int
}

func newJoined(size int, live *bitset) *joined {
	return &joined{size: size, set: newBitset(size), live: live}
}

// add adds a list, which must not change before append, of a segment of size
// documents that begins at base; lists come in the order of their segments.
func (j *joined) add(list []byte, size, base int) error {
	p := part{size: size, base: base}
	var err error
	if p.count, p.bitmap, p.list, err = openList(list, size); err != nil {
		return err
	}
	j.parts = append(j.parts, p)
	j.count += p.count
	return nil
}

// append encodes what was added, and begins the next term; empty tells that
// nothing of it is live.
func (j *joined) append(dst []byte) (list []byte, empty bool, err error) {
	defer func() { j.parts, j.count = j.parts[:0], 0 }()
	// A word of the set costs about as much as two numbers.
	if j.live == nil && j.count < j.size/32 {
		j.docs = j.docs[:0]
		for i := range j.parts {
			if err := j.parts[i].numbers(func(doc uint32) { j.docs = append(j.docs, doc) }); err != nil {
				return dst, false, err
			}
		}
		return appendList(dst, j.docs, j.size), len(j.docs) == 0, nil
	}
	defer j.set.clear()
	for i := range j.parts {
		p := &j.parts[i]
		if p.bitmap {
			j.set.orBitmap(p.list, p.base)
		} else if err := p.numbers(func(doc uint32) { j.set.add(int(doc)) }); err != nil {
			return dst, false, err
		}
	}
	if j.live != nil {
		j.set.and(j.live)
	}
	return j.set.appendList(dst, j.size), j.set.n == 0, nil
}

// numbers calls fn for each document of the merged segment, in order.
func (p *part) numbers(fn func(doc uint32)) error {
	if !p.bitmap {
		return readNumbers(p.list, p.count, p.size, func(doc uint32) { fn(uint32(p.base) + doc) })
	}
	for i, c := range p.list {
		for ; c != 0; c &= c - 1 {
			fn(uint32(p.base + i<<3 + bits.TrailingZeros8(c)))
		}
	}
	return nil
}

// appendList is the function of that name for a set.
func (s *bitset) appendList(dst []byte, size int) []byte {
	if asBitmap(s.n, size) {
		dst = binary.AppendUvarint(dst, uint64(s.n)<<1|1)
		end := len(dst) + (size+7)/8
		for _, w := range s.words {
			dst = binary.LittleEndian.AppendUint64(dst, w)
		}
		return dst[:end]
	}
	dst = binary.AppendUvarint(dst, uint64(s.n)<<1)
	next := 0
	for i, w := range s.words {
		for ; w != 0; w &= w - 1 {
			d := i<<6 + bits.TrailingZeros64(w)
			dst = binary.AppendUvarint(dst, uint64(d-next))
			next = d + 1
		}
	}
	return dst
}
