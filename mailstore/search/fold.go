package search

import (
	"encoding/binary"
	"slices"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/unicode/norm"
)

// Fold makes texts comparable by their octets, as i;unicode-casemap does (RFC
// 5051): each character in title case and decomposed, diacritics kept as
// characters of their own. It goes further in three ways, on both sides of each
// comparison: what a decomposition gives is made title case in turn (so that a
// ligature equals its letters), white space and control characters in a row are
// one space (so that a text is found across the ends of its lines), and an
// octet that is not UTF-8 counts as Windows-1252.
func Fold(s string) string {
	var f folder
	return string(f.append(make([]byte, 0, len(s)+8), []byte(s), true))
}

// whole folds complete characters behind dst.
func (f *folder) whole(dst, src []byte) []byte {
	space := f.space
	for i := 0; i < len(src); {
		var n int
		dst, n, space = appendASCII(dst, src[i:], space)
		if i += n; i == len(src) {
			break
		}
		r, n := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && n == 1 {
			r = charmap.Windows1252.DecodeByte(src[i])
		}
		i += n
		dst, space = appendFolded(dst, f.rune(r), space)
	}
	f.space = space
	return dst
}

// appendASCII folds the n octets of ASCII that src begins with.
func appendASCII(dst, src []byte, space bool) (_ []byte, n int, _ bool) {
	dst = slices.Grow(dst, len(src))
	room := dst[len(dst) : len(dst)+len(src)]
	at := 0
	for n < len(src) && src[n] < utf8.RuneSelf {
		if n+8 <= len(src) {
			if folded, last, ok := foldEight(binary.LittleEndian.Uint64(src[n:]), space); ok {
				binary.LittleEndian.PutUint64(room[at:], folded)
				n, at, space = n+8, at+8, last
				continue
			}
		}
		t := asciiFold[src[n]]
		n++
		if is := t == ' '; !is || !space {
			room[at] = t
			at++
			space = is
		}
	}
	return dst[:len(dst)+at], n, space
}

// foldEight folds eight octets at once, the first of them the lowest of x, where
// none is beyond ASCII or a control, and no space follows another one. space
// tells whether one stands before them, last whether the last of them is one.
func foldEight(x uint64, space bool) (folded uint64, last, ok bool) {
	const ones = 0x0101010101010101
	const high = 0x80 * ones // answers stand in the highest bit of each octet
	before := uint64(0)
	if space {
		before = 0x80
	}
	bad := x | (x + ones) | ^((x | high) - ' '*ones) // beyond ASCII, 0x7f, below the space
	spaces := ^((x ^ ' '*ones) + 0x7f*ones) & high
	bad |= spaces & (spaces<<8 | before)
	lower := (x + (0x80-'a')*ones) &^ (x + (0x80-'z'-1)*ones) & high
	return x - lower>>2, spaces>>63 != 0, bad&high == 0
}

// asciiFold is the folding of one ASCII character.
var asciiFold = func() (table [utf8.RuneSelf]byte) {
	for c := range table {
		table[c] = byte(unicode.ToTitle(rune(c)))
		if c < ' ' || c == 0x7f {
			table[c] = ' '
		}
	}
	return table
}()

// commonRunes is how many characters have their folding in a table: those of
// the Latin, Greek, Cyrillic, Hebrew and Arabic scripts.
const commonRunes = 0x700

var commonFold = func() (table [commonRunes]string) {
	for r := range table {
		table[r] = string(slowFoldRune(nil, rune(r)))
	}
	return table
}()

// rune is the folding of one character beyond ASCII.
func (f *folder) rune(r rune) string {
	if r < commonRunes {
		return commonFold[r]
	}
	if f.recent == nil {
		return string(slowFoldRune(nil, r))
	}
	known := &f.recent[r%recentRunes]
	if known.r != r {
		*known = foldedRune{r, string(slowFoldRune(nil, r))}
	}
	return known.folded
}

// appendFolded appends a folding in which there may be spaces.
func appendFolded(dst []byte, folded string, space bool) ([]byte, bool) {
	if folded[0] != ' ' && (len(folded) == 1 || folded[len(folded)-1] >= utf8.RuneSelf && len(folded) <= utf8.UTFMax) {
		return append(dst, folded...), false
	}
	for i := range len(folded) {
		c := folded[i]
		if c == ' ' && space {
			continue
		}
		dst, space = append(dst, c), c == ' '
	}
	return dst, space
}

// slowFoldRune appends the folding of one character.
func slowFoldRune(dst []byte, r rune) []byte {
	if unicode.IsSpace(r) || r < ' ' || r == 0x7f {
		return append(dst, ' ')
	}
	r = unicode.ToTitle(r)
	var one [utf8.UTFMax]byte
	src := one[:utf8.EncodeRune(one[:], r)]
	var room [64]byte
	parts := norm.NFKD.Append(room[:0], src...)
	if string(parts) == string(src) {
		return append(dst, src...)
	}
	for _, part := range string(parts) {
		dst = slowFoldRune(dst, part)
	}
	return dst
}

// folder folds a text that comes in pieces.
type folder struct {
	space  bool                     // what was folded ends in one
	held   []byte                   // octets of a character that is not complete
	recent *[recentRunes]foldedRune // nil for texts that are not worth it
}

// recentRunes is of how many characters a folder remembers the folding.
const recentRunes = 512

type foldedRune struct {
	r      rune
	folded string
}

func (f *folder) reset() { f.space, f.held = false, f.held[:0] }

// append folds the next piece behind dst; with last, the text ends with it.
func (f *folder) append(dst, src []byte, last bool) []byte {
	for len(f.held) > 0 && len(src) > 0 && !utf8.FullRune(f.held) {
		f.held = append(f.held, src[0])
		src = src[1:]
	}
	if len(f.held) > 0 && (last || utf8.FullRune(f.held)) {
		// What was held may turn out to be no character: all its octets but
		// the last are then octets of their own, and that begins anew.
		whole := completeRunes(f.held)
		if last && len(src) == 0 {
			whole = len(f.held)
		}
		dst = f.whole(dst, f.held[:whole])
		f.held = append(f.held[:0], f.held[whole:]...)
		if len(f.held) > 0 {
			return f.append(dst, src, last)
		}
	}
	whole := len(src)
	if !last {
		whole = completeRunes(src)
	}
	dst = f.whole(dst, src[:whole])
	f.held = append(f.held, src[whole:]...)
	return dst
}

// completeRunes is the length of b without an incomplete character at its end.
func completeRunes(b []byte) int {
	for i := len(b) - 1; i >= max(0, len(b)-utf8.UTFMax); i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return i
			}
			break
		}
	}
	return len(b)
}
