package mailstore

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Limits of mailbox names.
const (
	MaxNameLength = 500 // octets
	MaxNameDepth  = 32  // levels
)

// Inbox is the name of the mailbox that mail arrives in.
const Inbox = "INBOX"

// CleanName normalises a mailbox name: NFC (RFC 5198), and INBOX in capitals,
// also as the first level. ErrName says what is wrong with one that cannot be:
// it is empty, too long, too deep, not UTF-8, or has an empty level or a control
// character.
func CleanName(name string) (string, error) {
	if len(name) > MaxNameLength {
		return "", fmt.Errorf("%w: longer than %d octets", ErrName, MaxNameLength)
	}
	if !utf8.ValidString(name) {
		return "", fmt.Errorf("%w: not UTF-8", ErrName)
	}
	for _, r := range name {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == unicode.ReplacementChar {
			return "", fmt.Errorf("%w: has a control character", ErrName)
		}
	}
	name = norm.NFC.String(name)
	if len(name) > MaxNameLength {
		return "", fmt.Errorf("%w: longer than %d octets", ErrName, MaxNameLength)
	}
	levels := strings.Split(name, "/")
	if len(levels) > MaxNameDepth {
		return "", fmt.Errorf("%w: more than %d levels", ErrName, MaxNameDepth)
	}
	for _, level := range levels {
		if level == "" {
			return "", fmt.Errorf("%w: empty, or has an empty level", ErrName)
		}
	}
	if first, rest, below := strings.Cut(name, "/"); strings.EqualFold(first, Inbox) {
		name = Inbox
		if below {
			name += "/" + rest
		}
	}
	return name, nil
}
