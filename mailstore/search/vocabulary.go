package search

import (
	"bytes"
	"hash/maphash"
	"slices"
)

// vocabulary numbers terms as they come, from 0. They stand behind each other in
// one slice, found by a table of hashes: without a pointer in it, however many
// terms there are, the garbage collector has nothing to look at.
type vocabulary struct {
	text  []byte
	ends  []uint32 // of each term in text
	slots []slot   // a power of two of them, at most half of them taken
	seed  maphash.Seed
}

// slot is a place in the table: term is a number plus one, 0 for none.
type slot struct{ hash, term uint32 }

const firstSlots = 256

func (v *vocabulary) len() int { return len(v.ends) }

func (v *vocabulary) term(i uint32) []byte {
	if i == 0 {
		return v.text[:v.ends[0]]
	}
	return v.text[v.ends[i-1]:v.ends[i]]
}

// number is the number of a term; fresh tells that it was not there before.
func (v *vocabulary) number(term []byte) (i uint32, fresh bool) {
	if 2*len(v.ends) >= len(v.slots) {
		v.grow()
	}
	hash := uint32(maphash.Bytes(v.seed, term))
	mask := uint32(len(v.slots) - 1)
	at := hash & mask
	for ; v.slots[at].term != 0; at = (at + 1) & mask {
		if s := v.slots[at]; s.hash == hash && bytes.Equal(v.term(s.term-1), term) {
			return s.term - 1, false
		}
	}
	v.text = append(v.text, term...)
	v.ends = append(v.ends, uint32(len(v.text)))
	i = uint32(len(v.ends))
	v.slots[at] = slot{hash, i}
	return i - 1, true
}

// grow makes room in the table.
func (v *vocabulary) grow() {
	if len(v.slots) == 0 {
		v.seed = maphash.MakeSeed()
	}
	old := v.slots
	v.slots = make([]slot, max(2*len(old), firstSlots))
	mask := uint32(len(v.slots) - 1)
	for _, s := range old {
		if s.term == 0 {
			continue
		}
		at := s.hash & mask
		for v.slots[at].term != 0 {
			at = (at + 1) & mask
		}
		v.slots[at] = s
	}
}

// sorted lists the numbers of the terms in the order of their octets.
func (v *vocabulary) sorted() []uint32 {
	list := make([]uint32, v.len())
	for i := range list {
		list[i] = uint32(i)
	}
	slices.SortFunc(list, func(a, b uint32) int { return bytes.Compare(v.term(a), v.term(b)) })
	return list
}
