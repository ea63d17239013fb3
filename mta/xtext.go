package mta

import (
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-smtp"
)

const hexDigits = "0123456789ABCDEF"

// EncodeXtext writes s, printable US-ASCII, as xtext (RFC 3461 section 4).
// Any other octet is encoded too, so that the result is always one word.
func EncodeXtext(s string) string {
	b := make([]byte, 0, len(s)+8)
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '+' || c == '=' {
			b = append(b, '+', hexDigits[c>>4], hexDigits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

// DecodeXtext reads xtext. What it stands for must be printable US-ASCII
// (RFC 3461 sections 4.2 and 4.4), so that no line end comes through it. The
// error is an *AddressError.
func DecodeXtext(s string) (string, error) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c <= ' ' || c > '~' || c == '=':
			return "", badAddress("not valid xtext")
		case c == '+':
			if i+2 >= len(s) {
				return "", badAddress("not valid xtext")
			}
			hi, lo := strings.IndexByte(hexDigits, s[i+1]), strings.IndexByte(hexDigits, s[i+2])
			if hi < 0 || lo < 0 {
				return "", badAddress("not valid xtext")
			}
			c = byte(hi<<4 | lo)
			i += 2
		}
		if c < ' ' || c > '~' {
			return "", badAddress("it stands for characters that are not printable")
		}
		b = append(b, c)
	}
	return string(b), nil
}

// maxORCPT bounds the decoded address of ORCPT; RFC 3461 section 4.2 gives the
// whole parameter 500 octets.
const maxORCPT = 500

// ParseORCPT reads the value of an ORCPT parameter: "rfc822;" and xtext, or
// "utf-8;" and utf-8-addr-xtext or utf-8-addr-unitext (RFC 6533 section 3).
// The error is an *AddressError.
func ParseORCPT(s string) (smtp.DSNAddressType, string, error) {
	kind, value, ok := strings.Cut(s, ";")
	if !ok || value == "" || len(s) > maxORCPT {
		return "", "", badAddress("ORCPT must be like rfc822;user@example.com")
	}
	switch {
	case strings.EqualFold(kind, string(smtp.DSNAddressTypeRFC822)):
		a, err := DecodeXtext(value)
		return smtp.DSNAddressTypeRFC822, a, err
	case strings.EqualFold(kind, string(smtp.DSNAddressTypeUTF8)):
		a, err := decodeUTF8Addr(value)
		return smtp.DSNAddressTypeUTF8, a, err
	}
	return "", "", badAddress("the address type of ORCPT must be rfc822 or utf-8")
}

// FormatORCPT is the value of an ORCPT parameter that ParseORCPT reads back.
func FormatORCPT(kind smtp.DSNAddressType, addr string) string {
	if kind == smtp.DSNAddressTypeUTF8 {
		return "utf-8;" + encodeUTF8Addr(addr)
	}
	return "rfc822;" + EncodeXtext(addr)
}

// encodeUTF8Addr writes utf-8-addr-xtext, which passes every peer: QCHAR as it
// is, all else as \x{HEX}.
func encodeUTF8Addr(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r > ' ' && r <= '~' && r != '\\' && r != '+' && r != '=' {
			b.WriteRune(r)
			continue
		}
		b.WriteString(`\x{`)
		digits := 2
		for digits < 6 && r>>(4*digits) != 0 {
			digits++
		}
		for d := digits - 1; d >= 0; d-- {
			b.WriteByte(hexDigits[r>>(4*d)&15])
		}
		b.WriteByte('}')
	}
	return b.String()
}

func decodeUTF8Addr(s string) (string, error) {
	bad := badAddress("not a valid utf-8 address")
	var b strings.Builder
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '\\':
			r, n := unicodeEscape(s[i:])
			if n == 0 {
				return "", bad
			}
			b.WriteRune(r)
			i += n
		case c <= ' ' || c == '+' || c == '=' || c == 0x7f:
			return "", bad
		case c < utf8.RuneSelf:
			b.WriteByte(c)
			i++
		default:
			n := wideRune(s[i:])
			if n == 0 {
				return "", bad
			}
			b.WriteString(s[i : i+n])
			i += n
		}
	}
	return b.String(), nil
}

// unicodeEscape reads \x{HEX} at the front of s: two to six upper-case digits
// that name a character which is not a control.
func unicodeEscape(s string) (r rune, n int) {
	end := strings.IndexByte(s, '}')
	if !strings.HasPrefix(s, `\x{`) || end < 5 || end > 9 {
		return 0, 0
	}
	for i := 3; i < end; i++ {
		d := strings.IndexByte(hexDigits, s[i])
		if d < 0 {
			return 0, 0
		}
		r = r<<4 | rune(d)
	}
	if !utf8.ValidRune(r) || r < ' ' || r == 0x7f || r > 0x7f && wideRune(string(r)) == 0 {
		return 0, 0
	}
	return r, end + 1
}
