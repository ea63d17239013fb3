package imap

import (
	"strings"

	"golang.org/x/text/unicode/norm"

	"postrider/mailstore"
)

// pattern is a mailbox pattern of LIST: "*" stands for anything, "%" for
// anything but "/" (RFC 9051 section 6.3.9).
type pattern struct {
	text  string
	inbox string // for the name INBOX, which is without regard to case
}

// newPattern joins reference and pattern; ok is false where no name can match.
func newPattern(reference, text string) (p pattern, ok bool) {
	text = norm.NFC.String(reference + text)
	if first := text[:min(len(text), len(mailstore.Inbox))]; strings.EqualFold(first, mailstore.Inbox) {
		if rest := text[len(first):]; rest == "" || strings.ContainsRune("/*%", rune(rest[0])) {
			text = mailstore.Inbox + rest
		}
	}
	// Wildcards in a row say no more than one: "*", where there is one.
	var b strings.Builder
	for i := 0; i < len(text); {
		j := i
		for j < len(text) && (text[j] == '*' || text[j] == '%') {
			j++
		}
		switch {
		case j == i:
			b.WriteByte(text[i])
			i++
			continue
		case strings.Contains(text[i:j], "*"):
			b.WriteByte('*')
		default:
			b.WriteByte('%')
		}
		i = j
	}
	text = b.String()
	return pattern{text, strings.ToUpper(text)}, len(text) <= 2*mailstore.MaxNameLength
}

func (p pattern) match(name string) bool {
	if name == mailstore.Inbox {
		return matches(p.inbox, name)
	}
	return matches(p.text, name)
}

// matches follows all ways through the pattern at once: its work is bounded by
// the product of the two lengths, and is near their sum where wildcards are few.
func matches(pattern, name string) bool {
	// at has the positions in the pattern that the name so far leads to.
	at, next := make([]bool, len(pattern)+1), make([]bool, len(pattern)+1)
	first := 0 // at is false before
	at[0] = true
	for i := 0; i <= len(name); i++ {
		for j := first; j < len(pattern); j++ {
			if at[j] && (pattern[j] == '*' || pattern[j] == '%') {
				at[j+1] = true // it stands for nothing
			}
		}
		if i == len(name) {
			break
		}
		lowest := len(pattern) + 1
		clear(next)
		for j := first; j < len(pattern); j++ {
			if !at[j] {
				continue
			}
			to := -1
			switch c := pattern[j]; {
			case c == '*', c == '%' && name[i] != '/':
				to = j
			case c == name[i] && c != '%':
				to = j + 1
			}
			if to >= 0 {
				next[to] = true
				lowest = min(lowest, to)
			}
		}
		if lowest > len(pattern) {
			return false
		}
		at, next, first = next, at, lowest
	}
	return at[len(pattern)]
}
