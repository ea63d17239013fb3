package syntax

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// maxQuoted is the longest text that goes out between quotes.
const maxQuoted = 4096

// AppendNumber appends a number.
func AppendNumber[N ~int | ~int64 | ~uint32 | ~uint64](dst []byte, n N) []byte {
	return strconv.AppendInt(dst, int64(n), 10)
}

// AppendString appends a string: quoted where every client can read that, else a
// literal.
func AppendString(dst []byte, s string) []byte { return appendString(dst, s, false) }

// AppendUTF8 appends a string for a client that takes UTF-8 between quotes
// (RFC 9051 section 4.3, RFC 6855).
func AppendUTF8(dst []byte, s string) []byte { return appendString(dst, s, true) }

func appendString(dst []byte, s string, wide bool) []byte {
	if len(s) > maxQuoted || wide && !utf8.ValidString(s) {
		return AppendLiteral(dst, s)
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == 0 || c == '\r' || c == '\n' || c >= 0x80 && !wide {
			return AppendLiteral(dst, s)
		}
	}
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}

// AppendNString appends a string, or NIL for none.
func AppendNString(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "NIL"...)
	}
	return AppendString(dst, s)
}

// AppendLiteral appends a literal. It must not hold NUL.
func AppendLiteral(dst []byte, s string) []byte {
	dst = AppendAnnouncement(dst, int64(len(s)), false)
	return append(dst, s...)
}

// AppendAnnouncement appends what stands before the octets of a literal; binary
// ones may hold NUL (RFC 3516).
func AppendAnnouncement(dst []byte, size int64, binary bool) []byte {
	if binary {
		dst = append(dst, '~')
	}
	dst = append(dst, '{')
	dst = strconv.AppendInt(dst, size, 10)
	return append(dst, "}\r\n"...)
}

// AppendAString appends an astring: an atom where that is one.
func AppendAString(dst []byte, s string) []byte {
	if s == "" || len(s) > maxQuoted || len(s) == 3 && (s[0]|0x20 == 'n') { // NIL
		return AppendString(dst, s)
	}
	for i := 0; i < len(s); i++ {
		if !isAtomChar(s[i]) {
			return AppendString(dst, s)
		}
	}
	return append(dst, s...)
}

// AppendMailbox appends the name of a mailbox in UTF-8: as it is for a client
// that takes UTF-8, else in modified UTF-7. INBOX is an atom, all others are
// quoted.
func AppendMailbox(dst []byte, name string, wide bool) []byte {
	switch {
	case name == "INBOX":
		return append(dst, name...)
	case wide:
		return AppendUTF8(dst, name)
	}
	return AppendString(dst, EncodeUTF7(name))
}

// AppendDateTime appends a date-time in quotes, in UTC as the store keeps it.
func AppendDateTime(dst []byte, t time.Time) []byte {
	dst = append(dst, '"')
	y, m, d := t.Date()
	if d < 10 {
		dst = append(dst, '0')
	}
	dst = strconv.AppendInt(dst, int64(d), 10)
	dst = append(dst, '-')
	dst = append(dst, m.String()[:3]...)
	dst = append(dst, '-')
	dst = appendPadded(dst, y, 4)
	dst = append(dst, ' ')
	hour, minute, second := t.Clock()
	dst = appendPadded(dst, hour, 2)
	dst = append(dst, ':')
	dst = appendPadded(dst, minute, 2)
	dst = append(dst, ':')
	dst = appendPadded(dst, second, 2)
	dst = append(dst, ' ')
	_, zone := t.Zone()
	sign := byte('+')
	if zone < 0 {
		sign, zone = '-', -zone
	}
	dst = append(dst, sign)
	dst = appendPadded(dst, zone/3600, 2)
	dst = appendPadded(dst, zone/60%60, 2)
	return append(dst, '"')
}

func appendPadded(dst []byte, n, width int) []byte {
	n = max(n, 0)
	for limit := 10; width > 1; width-- {
		if n < limit*pow10(width-2) {
			dst = append(dst, '0')
			continue
		}
		break
	}
	return strconv.AppendInt(dst, int64(n), 10)
}

func pow10(n int) int {
	p := 1
	for ; n > 0; n-- {
		p *= 10
	}
	return p
}
