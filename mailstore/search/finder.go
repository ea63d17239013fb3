package search

import "bytes"

// finder looks for a text in a long one by that of its octets which is likely
// the rarest: package bytes goes by the first two, and where these are common is
// several times slower.
type finder struct {
	text   []byte
	anchor int // of the rarest octet in text
}

// rarity is the order in which octets are preferred, for what is not in it is
// the least: the capitals of folded text by how rare they are in European
// languages, and then digits.
const rarity = "QXZJWKVYBFPGHMDCU0123456789.-@'_LOTSRNIAE "

func newFinder(text string) finder {
	f := finder{text: []byte(text)}
	best := len(rarity) + 1
	for i, c := range f.text {
		rank := bytes.IndexByte([]byte(rarity), c)
		if rank < 0 {
			rank = len(rarity) // beyond ASCII the first octets of characters are common, others less so
			if c >= 0x80 && c < 0xc0 {
				rank = 20
			}
		}
		if rank < best {
			best, f.anchor = rank, i
		}
	}
	return f
}

// next is where the text stands in b at or after from; -1 is nowhere.
func (f *finder) next(b []byte, from int) int {
	if len(f.text) == 0 {
		return from
	}
	c := f.text[f.anchor]
	misses := 0
	for at := from; at+len(f.text) <= len(b); at++ {
		i := bytes.IndexByte(b[at+f.anchor:], c)
		if i < 0 {
			return -1
		}
		at += i
		if bytes.HasPrefix(b[at:], f.text) {
			return at
		}
		if misses++; misses > 16+(at-from)/16 { // it is common here
			i := bytes.Index(b[at:], f.text)
			if i < 0 {
				return -1
			}
			return at + i
		}
	}
	return -1
}
