package search

import "strings"

// Limits of words and values in the index. A text that goes beyond them is
// answered by reading the message.
const (
	maxWord   = 128  // octets; a longer word is kept in pieces of that size
	maxInWord = 64   // octets of a key that surely lie in one piece
	maxValue  = 2048 // octets of a header field; a longer one is kept in pieces
	maxInside = 256  // octets of a key that surely lie in one piece of a value
)

// class is what an octet of a folded text is for words.
type class byte

const (
	separates class = iota
	joins           // belongs to a word between two octets that do
	belongs
	begins3 // the first octet of three that may be a mark of punctuation
)

// classes: letters, digits and all beyond ASCII make words, but for general
// punctuation (U+2000 to U+207F) and that of CJK (U+3000 to U+303F).
var classes = func() (table [256]class) {
	for c := range table {
		switch {
		case isAlnum(byte(c)) || c >= 0x80:
			table[c] = belongs
		case strings.ContainsRune(".-_@'", rune(c)):
			table[c] = joins
		}
	}
	table[0xe2], table[0xe3] = begins3, begins3
	return table
}()

// octets is a text in either form.
type octets interface{ string | []byte }

// inWord tells whether the octet at i begins or goes on with a word.
func inWord[T octets](s T, i int) bool {
	switch classes[s[i]] {
	case belongs:
		return true
	case begins3:
		return !punctuates(s, i)
	}
	return false
}

// punctuates tells whether a mark of punctuation beyond ASCII begins at i.
func punctuates[T octets](s T, i int) bool {
	return i+2 < len(s) && (s[i] == 0xe2 && s[i+1]&^1 == 0x80 || s[i] == 0xe3 && s[i+1] == 0x80)
}

// nextWord finds the first word at or after i: start == len(s) where there is
// none. Words are what separators stand between; where a text has a word, a key
// that is a part of the word has the same octets as one word, whatever stands
// around it.
func nextWord[T octets](s T, i int) (start, end int) {
	for i < len(s) && !inWord(s, i) {
		if classes[s[i]] == begins3 {
			i += 2
		}
		i++
	}
	start = i
	for i < len(s) {
		// By far the most first: a switch costs a fifth more.
		c := classes[s[i]]
		if c == belongs {
			i++
			continue
		}
		if c == separates || c == joins && (i+1 == len(s) || !inWord(s, i+1)) || c == begins3 && punctuates(s, i) {
			return start, i
		}
		i++
	}
	return start, i
}

// pieces calls fn with s, or, where it is longer than size, with pieces of that
// size so that every part of s up to half of size lies within one. The first
// begins and the last ends as s does.
func pieces(s []byte, size int, fn func([]byte)) {
	for len(s) > size {
		fn(s[:size])
		s = s[min(size-size/2, len(s)-size):]
	}
	fn(s)
}

// piece is one word of a key, or a part of one.
type piece struct {
	text        string
	left, right bool // it begins, or ends, where a word of the text does
	fuzzy       bool // diacritics make no difference; left and right say nothing then
}

// wordsOf takes the words out of a key. alone tells that the key is one word
// and found exactly where a word contains it.
func wordsOf(key string) (list []piece, alone bool) {
	for start, end := nextWord(key, 0); start < len(key); start, end = nextWord(key, end) {
		p := piece{
			text: key[start:end],
			// What joins at the edge of the key may do so in the text, too.
			left:  start > 0 && !(start == 1 && classes[key[0]] == joins),
			right: end < len(key) && !(end == len(key)-1 && classes[key[end]] == joins),
		}
		if len(p.text) > maxInWord {
			p = piece{text: p.text[:maxInWord]}
		}
		list = append(list, p)
	}
	return list, len(list) == 1 && list[0].text == key
}
