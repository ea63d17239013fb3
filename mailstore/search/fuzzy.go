package search

import (
	"bytes"
	"encoding/binary"
	"unicode"
	"unicode/utf8"
)

// A fuzzy key (RFC 6203) is found where it is a part of a text when the
// diacritics of both are left out. The index has words with their diacritics: of
// those beyond ASCII each is looked at without them.

// NewFuzzyKey is NewKey for a text whose diacritics make no difference.
func NewFuzzyKey(field Field, name, text string) Key {
	k := NewKey(field, name, "")
	k.text, k.fuzzy = FoldFuzzy(text), true
	return k
}

// Words splits a text into its words: those that a lookup finds without reading
// messages. It may have none.
func Words(text string) []string {
	var list []string
	text = Fold(text)
	for start, end := nextWord(text, 0); start < len(text); start, end = nextWord(text, end) {
		list = append(list, text[start:end])
	}
	return list
}

// FoldFuzzy is Fold without the diacritics, for SEARCH=FUZZY.
func FoldFuzzy(s string) string { return string(plain(nil, []byte(Fold(s)))) }

// plain appends folded text without its diacritics. What is no character, since
// a term was cut within it, stays.
func plain(dst, folded []byte) []byte {
	for i := 0; i < len(folded); {
		if folded[i] < utf8.RuneSelf {
			dst = append(dst, folded[i])
			i++
			continue
		}
		r, n := utf8.DecodeRune(folded[i:])
		if !isMark(r) {
			dst = append(dst, folded[i:i+n]...)
		}
		i += n
	}
	return dst
}

// isMark tells whether a character is a diacritic.
func isMark(r rune) bool {
	const first, last = 0x300, 0x36f // the usual ones; others begin behind them
	if r <= last {
		return r >= first
	}
	return unicode.Is(unicode.Mn, r)
}

// beyond calls fn with the index of each term that is not all ASCII, until it
// returns false.
func (c *column) beyond(fn func(term int) bool) {
	for at, i := 0, 0; i < c.len(); i++ {
		n := notASCII(c.text[at:])
		if at+n == len(c.text) {
			return
		}
		i = c.at(i, uint32(at+n))
		if !fn(i) {
			return
		}
		at = int(c.starts[i+1])
	}
}

// notASCII is the length of the ASCII that b begins with.
func notASCII(b []byte) int {
	i := 0
	for i+8 <= len(b) && binary.LittleEndian.Uint64(b[i:])&0x8080808080808080 == 0 {
		i += 8
	}
	for i < len(b) && b[i] < utf8.RuneSelf {
		i++
	}
	return i
}

// fuzzy calls fn for each term that s is a part of when diacritics are left out,
// until it returns false.
func (c *column) fuzzy(s string, fn func(term int) bool) {
	more := true
	c.inside(s, false, func(term int) bool {
		more = fn(term)
		return more
	})
	if !more {
		return
	}
	text := []byte(s)
	var room []byte
	c.beyond(func(term int) bool {
		t := c.term(term)
		room = plain(room[:0], t)
		if len(room) == len(t) || !bytes.Contains(room, text) || bytes.Contains(t, text) {
			return true
		}
		return fn(term)
	})
}

// cut adds the documents with a term beyond ASCII that may be a piece of a
// longer one: with its diacritics, a key may not lie within one piece.
func (c *openColumn) cut(set *bitset) error {
	var err error
	c.beyond(func(term int) bool {
		if len(c.term(term)) >= c.longest {
			err = c.read(term, set)
		}
		return err == nil
	})
	return err
}
