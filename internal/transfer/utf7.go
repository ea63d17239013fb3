package transfer

import (
	"encoding/base64"
	"encoding/binary"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Modified UTF-7 (RFC 3501 section 5.1.3) is how Maildir++ writes the names of
// folders. The full stop separates levels there; within one it is encoded, too,
// as Courier does it.

// utf7Alphabet is that of RFC 3501: "," for "/".
func utf7Encoding() *base64.Encoding {
	return base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)
}

// encodeLevel writes one level of a mailbox name.
func encodeLevel(s string) string {
	var b strings.Builder
	var wide []rune
	flush := func() {
		if len(wide) == 0 {
			return
		}
		var octets []byte
		for _, u := range utf16.Encode(wide) {
			octets = binary.BigEndian.AppendUint16(octets, u)
		}
		b.WriteString("&" + utf7Encoding().EncodeToString(octets) + "-")
		wide = wide[:0]
	}
	for _, r := range s {
		if r < ' ' || r > '~' || r == '.' || r == '/' {
			wide = append(wide, r)
			continue
		}
		flush()
		b.WriteRune(r)
		if r == '&' {
			b.WriteByte('-')
		}
	}
	flush()
	return b.String()
}

// decodeLevel reads one level. What is not modified UTF-7 is taken as it is:
// some servers write UTF-8.
func decodeLevel(s string) string {
	var b strings.Builder
	for rest := s; rest != ""; {
		plain, shifted, found := strings.Cut(rest, "&")
		b.WriteString(plain)
		if !found {
			break
		}
		code, after, ended := strings.Cut(shifted, "-")
		if !ended {
			return s
		}
		rest = after
		if code == "" {
			b.WriteByte('&')
			continue
		}
		octets, err := utf7Encoding().DecodeString(code)
		if err != nil || len(octets)%2 != 0 {
			return s
		}
		units := make([]uint16, len(octets)/2)
		for i := range units {
			units[i] = binary.BigEndian.Uint16(octets[2*i:])
		}
		for _, r := range utf16.Decode(units) {
			if r == utf8.RuneError {
				return s
			}
			b.WriteRune(r)
		}
	}
	return b.String()
}
