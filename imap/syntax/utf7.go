package syntax

import (
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrUTF7 is a mailbox name that is not in modified UTF-7.
var ErrUTF7 = errors.New("not in modified UTF-7")

// utf7 is its base64 (RFC 3501 section 5.1.3).
var utf7 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

// EncodeUTF7 writes a mailbox name in UTF-8 in modified UTF-7.
func EncodeUTF7(name string) string {
	plain := true
	for i := 0; i < len(name); i++ {
		if c := name[i]; c < ' ' || c >= 0x7f || c == '&' {
			plain = false
			break
		}
	}
	if plain {
		return name
	}
	var out strings.Builder
	var units []uint16
	flush := func() {
		if len(units) == 0 {
			return
		}
		b := make([]byte, 0, 2*len(units))
		for _, u := range units {
			b = append(b, byte(u>>8), byte(u))
		}
		out.WriteByte('&')
		out.WriteString(utf7.EncodeToString(b))
		out.WriteByte('-')
		units = units[:0]
	}
	for _, r := range name {
		switch {
		case r < ' ' || r >= 0x7f:
			units = utf16.AppendRune(units, r)
			continue
		case r == '&':
			flush()
			out.WriteString("&-")
			continue
		}
		flush()
		out.WriteByte(byte(r))
	}
	flush()
	return out.String()
}

// DecodeUTF7 reads a mailbox name in modified UTF-7. Octets beyond ASCII, which
// cannot be in one, are taken for the UTF-8 that they likely are. What could
// have been written without base64 is an error (RFC 3501 section 5.1.3), so that
// no two spellings name one mailbox.
func DecodeUTF7(s string) (string, error) {
	if strings.IndexByte(s, '&') < 0 {
		return s, nil
	}
	var out strings.Builder
	for s != "" {
		i := strings.IndexByte(s, '&')
		if i < 0 {
			out.WriteString(s)
			break
		}
		out.WriteString(s[:i])
		s = s[i+1:]
		end := strings.IndexByte(s, '-')
		if end < 0 {
			return "", ErrUTF7
		}
		run := s[:end]
		s = s[end+1:]
		if run == "" {
			out.WriteByte('&')
			continue
		}
		if err := decodeRun(&out, run); err != nil {
			return "", err
		}
		if strings.HasPrefix(s, "&") && !strings.HasPrefix(s, "&-") {
			return "", ErrUTF7 // two runs where one would do
		}
	}
	return out.String(), nil
}

func decodeRun(out *strings.Builder, run string) error {
	b, err := utf7.DecodeString(run)
	if err != nil || len(b)%2 != 0 || utf7.EncodeToString(b) != run {
		return ErrUTF7
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = uint16(b[2*i])<<8 | uint16(b[2*i+1])
	}
	for i := 0; i < len(units); i++ {
		r := rune(units[i])
		if utf16.IsSurrogate(r) {
			if i+1 == len(units) {
				return ErrUTF7
			}
			if r = utf16.DecodeRune(r, rune(units[i+1])); r == utf8.RuneError {
				return ErrUTF7
			}
			i++
		}
		if r >= ' ' && r < 0x7f {
			return ErrUTF7
		}
		out.WriteRune(r)
	}
	return nil
}
