package transfer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"postrider/mailstore"
)

// forwarded is the keyword that the flag P (passed) stands for.
const forwarded = "$Forwarded"

// maxLetters is how many keywords have letters in a folder, a to z.
const maxLetters = 26

// maildirFlags are the letters of a file's name, in their order there.
const maildirFlags = "DFPRST"

// maildirName is the name of a file in cur.
type maildirName struct {
	base    string // all before the flags: the message's identity
	system  mailstore.SystemFlags
	passed  bool
	letters []int // keywords, 0 for a
	exact   bool  // the file has the octets as they are: line ends are not changed
}

// parseMaildirName reads a file's name. Flags that Maildir does not know are
// left out.
func parseMaildirName(s string) maildirName {
	base, info, _ := strings.Cut(s, ":")
	n := maildirName{base: base, exact: slices.Contains(strings.Split(base, ","), "exact")}
	flags, ok := strings.CutPrefix(info, "2,")
	if !ok {
		return n
	}
	flags, _, _ = strings.Cut(flags, ",")
	for _, c := range flags {
		switch {
		case c == 'P':
			n.passed = true
		case c >= 'a' && c <= 'z':
			if i := int(c - 'a'); !slices.Contains(n.letters, i) {
				n.letters = append(n.letters, i)
			}
		default:
			n.system |= maildirFlag(c)
		}
	}
	slices.Sort(n.letters)
	return n
}

func maildirFlag(c rune) mailstore.SystemFlags {
	switch c {
	case 'D':
		return mailstore.Draft
	case 'F':
		return mailstore.Flagged
	case 'R':
		return mailstore.Answered
	case 'S':
		return mailstore.Seen
	case 'T':
		return mailstore.Deleted
	}
	return 0
}

// String is the name of the file.
func (n maildirName) String() string {
	var b strings.Builder
	b.WriteString(n.base + ":2,")
	for _, c := range maildirFlags {
		if c == 'P' && n.passed || n.system&maildirFlag(c) != 0 {
			b.WriteRune(c)
		}
	}
	for _, i := range n.letters {
		b.WriteByte(byte('a' + i))
	}
	return b.String()
}

// maildirBase makes the part of a name before the flags. serial puts the files
// in order; size is of the file, wide with every line end as CRLF.
func maildirBase(now int64, serial int, size, wide int64, exact bool) string {
	s := fmt.Sprintf("%d.M%09dP1.postrider,S=%d,W=%d", now, serial, size, wide)
	if exact {
		s += ",exact"
	}
	return s
}

// compareNatural orders names so that numbers in them count as numbers: the
// order in which messages came into a Maildir.
func compareNatural(a, b string) int {
	for a != "" && b != "" {
		na, nb := leadingDigits(a), leadingDigits(b)
		if na > 0 && nb > 0 {
			x, y := strings.TrimLeft(a[:na], "0"), strings.TrimLeft(b[:nb], "0")
			if c := len(x) - len(y); c != 0 {
				return c
			}
			if c := strings.Compare(x, y); c != 0 {
				return c
			}
			a, b = a[na:], b[nb:]
			continue
		}
		if a[0] != b[0] {
			return int(a[0]) - int(b[0])
		}
		a, b = a[1:], b[1:]
	}
	return len(a) - len(b)
}

func leadingDigits(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }

// parseKeywords reads a file dovecot-keywords: "0 name", a line each.
func parseKeywords(text string) map[int]string {
	names := make(map[int]string)
	for line := range strings.Lines(text) {
		number, name, ok := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		n, err := strconv.Atoi(number)
		if ok && err == nil && n >= 0 && n < maxLetters && name != "" {
			names[n] = name
		}
	}
	return names
}
