package imap

import (
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// fold makes texts comparable without regard to case.
func fold(s string) string { return strings.ToLower(s) }

// containsText tells whether a folded text is in what r reads, without holding
// more of it than a chunk.
func containsText(r io.Reader, text string) (bool, error) {
	if text == "" {
		return true, nil
	}
	var window string // folded, not searched beyond its last len(text)-1 octets
	buf := make([]byte, 8<<10)
	held := 0 // octets of an incomplete rune at the start of buf
	for {
		n, err := r.Read(buf[held:])
		n += held
		whole := n
		if err == nil {
			whole = completeRunes(buf[:n])
		}
		window += fold(string(buf[:whole]))
		held = copy(buf, buf[whole:n])
		if strings.Contains(window, text) {
			return true, nil
		}
		window = window[max(0, len(window)-len(text)+1):]
		switch {
		case err == io.EOF:
			return false, nil
		case err != nil:
			return false, err
		}
	}
}

// completeRunes is the length of b without an incomplete rune at its end.
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

// intersect is what two lists of spans, each in order, have in common.
func intersect(a, b []span) []span {
	var out []span
	for len(a) > 0 && len(b) > 0 {
		sp := span{max(a[0].lo, b[0].lo), min(a[0].hi, b[0].hi)}
		if sp.lo < sp.hi {
			out = append(out, sp)
		}
		if a[0].hi < b[0].hi {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// contains tells whether an index is in one of spans, which are in order.
func contains(spans []span, i int) bool {
	_, found := slices.BinarySearchFunc(spans, i, func(sp span, i int) int {
		switch {
		case sp.hi <= i:
			return -1
		case sp.lo > i:
			return 1
		}
		return 0
	})
	return found
}
