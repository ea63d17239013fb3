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
	at, shift := base>>6, base&63
	for i, w := range part.words {
		if low := w << shift; low != 0 {
			s.orWord(at+i, low)
		}
		if high := w >> (64 - shift); high != 0 {
			s.orWord(at+i+1, high)
		}
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
	bitmap := len(docs) > (size+7)/8
	head := uint64(len(docs)) << 1
	if bitmap {
		head |= 1
	}
	dst = binary.AppendUvarint(dst, head)
	if bitmap {
		at := len(dst)
		dst = append(dst, make([]byte, (size+7)/8)...)
		for _, d := range docs {
			dst[at+int(d>>3)] |= 1 << (d & 7)
		}
		return dst
	}
	next := uint32(0)
	for _, d := range docs {
		dst = binary.AppendUvarint(dst, uint64(d-next))
		next = d + 1
	}
	return dst
}

// readList calls fn for each document of an encoded list, in order, until fn
// returns false.
func readList(b []byte, size int, fn func(doc uint32) bool) error {
	head, n := binary.Uvarint(b)
	count := head >> 1
	if n <= 0 || count > uint64(size) {
		return errDamaged
	}
	b = b[n:]
	if head&1 != 0 {
		return readBitmap(b, size, fn)
	}
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
		if !fn(uint32(next)) {
			return nil
		}
		next++
	}
	return nil
}

// addList adds the documents of an encoded list to a set of that size.
func addList(b []byte, size int, set *bitset) error {
	head, n := binary.Uvarint(b)
	if n <= 0 || head&1 == 0 {
		return readList(b, size, func(doc uint32) bool {
			set.add(int(doc))
			return true
		})
	}
	b = b[n:]
	if head>>1 > uint64(size) || len(b) != (size+7)/8 || size%8 != 0 && b[len(b)-1]>>(size%8) != 0 {
		return errDamaged
	}
	i := 0
	for ; len(b) >= 8; b = b[8:] {
		set.orWord(i, binary.LittleEndian.Uint64(b))
		i++
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		set.orWord(i, binary.LittleEndian.Uint64(last[:]))
	}
	return nil
}

func readBitmap(b []byte, size int, fn func(doc uint32) bool) error {
	if len(b) != (size+7)/8 {
		return errDamaged
	}
	for i, c := range b {
		for ; c != 0; c &= c - 1 {
			d := i<<3 + bits.TrailingZeros8(c)
			if d >= size {
				return errDamaged
			}
			if !fn(uint32(d)) {
				return nil
			}
		}
	}
	return nil
}
