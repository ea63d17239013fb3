package mta

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Limits of RFC 5321 section 4.5.3.1, in octets. A path counts with its angle
// brackets, and a local part with the quotes that it needs.
const (
	maxLocal  = 64
	maxDomain = 255
	maxPath   = 256
)

// Address is a mailbox address (RFC 5321 section 4.1.2, RFC 6531). Addresses
// made by ParseAddress and ParsePath are normalised and comparable with ==.
type Address struct {
	Local  string // unquoted, NFC; case is kept
	Domain string // lower-case A-labels or an address literal such as "[192.0.2.1]"; "" only for the bare name postmaster
}

// AddressError says what is wrong with an address or a domain. Its text holds
// nothing of the input and is safe to show to a peer.
type AddressError struct{ Reason string }

func (e *AddressError) Error() string { return e.Reason }

func badAddress(reason string) error { return &AddressError{Reason: reason} }

// IsZero tells whether a is the null reverse-path.
func (a Address) IsZero() bool { return a == Address{} }

// ASCII tells whether a can go to a peer that does not offer SMTPUTF8.
func (a Address) ASCII() bool { return isASCII(a.Local) && isASCII(a.Domain) }

// Fold returns a in the form in which addresses of this server are kept and compared:
// the local part in NFC and without regard to case.
func (a Address) Fold() Address {
	if isASCII(a.Local) {
		a.Local = strings.ToLower(a.Local)
	} else {
		a.Local = norm.NFC.String(cases.Fold().String(norm.NFC.String(a.Local)))
	}
	return a
}

// Base is a without its subaddress: bob for bob+list.
func (a Address) Base() Address {
	if i := strings.IndexByte(a.Local, '+'); i > 0 {
		a.Local = a.Local[:i]
	}
	return a
}

// String is the address as it stands within the angle brackets of a path: the
// local part is quoted where it has to be. The null reverse-path is "".
func (a Address) String() string {
	local := a.Local
	if !a.IsZero() && !isDotString(local) {
		local = quoteLocal(local)
	}
	if a.Domain == "" {
		return local
	}
	return local + "@" + a.Domain
}

// ParseAddress reads an address that a person wrote: user@domain, with a quoted
// local part where needed, the domain in any script, or the bare name
// postmaster. Nothing but spaces may stand around it. The error is an
// *AddressError.
func ParseAddress(s string) (Address, error) {
	a, rest, err := parseMailbox(strings.Trim(s, " "))
	switch {
	case err != nil:
		return Address{}, err
	case rest != "":
		return Address{}, badAddress("something follows the address")
	}
	return a, nil
}

// ParsePath reads the argument of MAIL after "FROM:" and of RCPT after "TO:"
// (RFC 5321 section 4.1.2): an address in angle brackets, the null path <>, or,
// as people type it, an address without brackets. A source route is read and
// dropped (RFC 5321 appendix C). rest is what follows the path, without leading
// spaces: the parameters. The error is an *AddressError.
func ParsePath(s string) (a Address, rest string, err error) {
	s = strings.TrimLeft(s, " ")
	switch {
	case s == "":
		return Address{}, "", badAddress("the address is missing")
	case s[0] != '<':
		a, rest, err = parseMailbox(s)
	case strings.HasPrefix(s, "<>"):
		rest = s[len("<>"):]
	default:
		a, rest, err = parseBracketed(s)
	}
	if err != nil {
		return Address{}, "", err
	}
	if rest != "" && rest[0] != ' ' {
		return Address{}, "", badAddress("a space must follow the address")
	}
	return a, strings.Trim(rest, " "), nil
}

// parseBracketed reads Path of RFC 5321 section 4.1.2; s begins with "<".
func parseBracketed(s string) (Address, string, error) {
	inner, err := skipSourceRoute(s[1:])
	if err != nil {
		return Address{}, "", err
	}
	a, rest, err := parseMailbox(inner)
	switch {
	case err != nil:
		return Address{}, "", err
	case rest == "" || rest[0] != '>':
		return Address{}, "", badAddress("the closing > is missing")
	case len(s)-len(rest)+1 > maxPath:
		return Address{}, "", badAddress("the path is longer than 256 octets")
	}
	return a, rest[1:], nil
}

// skipSourceRoute returns s after an A-d-l: "@one,@two:".
func skipSourceRoute(s string) (string, error) {
	if !strings.HasPrefix(s, "@") {
		return s, nil
	}
	end := strings.IndexByte(s, ':')
	if end < 0 || end > maxPath {
		return "", badAddress("the local part is missing")
	}
	for hop := range strings.SplitSeq(s[:end], ",") {
		if !strings.HasPrefix(hop, "@") {
			return "", badAddress("the source route is malformed")
		}
		if _, err := NormalizeDomain(hop[1:]); err != nil {
			return "", badAddress("the source route is malformed")
		}
	}
	return s[end+1:], nil
}

// parseMailbox reads Mailbox of RFC 5321 section 4.1.2, or the name
// postmaster, from the front of s.
func parseMailbox(s string) (a Address, rest string, err error) {
	if s == "" {
		return Address{}, "", badAddress("the address is missing")
	}
	if s[0] == '"' {
		a.Local, rest, err = parseQuoted(s)
	} else {
		a.Local, rest, err = parseDotString(s)
	}
	if err != nil {
		return Address{}, "", err
	}
	if !isASCII(a.Local) {
		a.Local = norm.NFC.String(a.Local)
	}
	if !strings.HasPrefix(rest, "@") {
		if !isASCII(a.Local) || !strings.EqualFold(a.Local, "postmaster") {
			if i := strings.IndexByte(rest, '@'); i > 0 && !strings.Contains(rest[:i], ">") {
				return Address{}, "", badAddress("the name before the @ has a space or another character that only a quoted name may have")
			}
			return Address{}, "", badAddress("the address needs a domain, as in user@example.com")
		}
		a.Local = "postmaster"
		return a, rest, nil
	}
	end := domainEnd(rest[1:])
	if a.Domain, err = NormalizeDomain(rest[1 : 1+end]); err != nil {
		return Address{}, "", err
	}
	if err = checkLengths(a); err != nil {
		return Address{}, "", err
	}
	return a, rest[1+end:], nil
}

// domainEnd finds where a domain or an address literal ends.
func domainEnd(s string) int {
	stop := " >"
	if strings.HasPrefix(s, "[") {
		if i := strings.IndexByte(s, ']'); i >= 0 {
			return i + 1
		}
	}
	if i := strings.IndexAny(s, stop); i >= 0 {
		return i
	}
	return len(s)
}

func checkLengths(a Address) error {
	whole := len(a.String())
	switch {
	case whole-len(a.Domain)-1 > maxLocal:
		return badAddress("the local part is longer than 64 octets")
	case whole+len("<>") > maxPath:
		return badAddress("the path is longer than 256 octets")
	}
	return nil
}

// parseDotString reads Dot-string from the front of s.
func parseDotString(s string) (local, rest string, err error) {
	i, dot := 0, true // whether a dot may not stand at i
	for i < len(s) {
		c := s[i]
		switch {
		case c == '.':
			if dot {
				return "", "", badAddress("a dot is misplaced in the local part")
			}
			dot = true
			i++
			continue
		case c < utf8.RuneSelf:
			if !isAtext(c) {
				if c == '@' || c == ' ' || c == '>' {
					return endDotString(s, i, dot)
				}
				return "", "", badAddress("the local part has a character that needs quotes")
			}
			i++
		default:
			n := wideRune(s[i:])
			if n == 0 {
				return "", "", badAddress("the local part is not valid UTF-8 text")
			}
			i += n
		}
		dot = false
	}
	return endDotString(s, i, dot)
}

func endDotString(s string, i int, dot bool) (local, rest string, err error) {
	switch {
	case i == 0:
		return "", "", badAddress("the local part is missing")
	case dot:
		return "", "", badAddress("a dot is misplaced in the local part")
	}
	return s[:i], s[i:], nil
}

// parseQuoted reads Quoted-string from the front of s.
func parseQuoted(s string) (local, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); {
		c := s[i]
		switch {
		case c == '"':
			if b.Len() == 0 {
				return "", "", badAddress("the local part is empty")
			}
			return b.String(), s[i+1:], nil
		case c >= utf8.RuneSelf:
			n := wideRune(s[i:])
			if n == 0 {
				return "", "", badAddress("the local part is not valid UTF-8 text")
			}
			b.WriteString(s[i : i+n])
			i += n
			continue
		case c == '\\':
			i++
			if i == len(s) {
				return "", "", badAddress("the closing quote is missing")
			}
			c = s[i]
		}
		if c < ' ' || c > '~' {
			return "", "", badAddress("the local part has a control character")
		}
		b.WriteByte(c)
		i++
	}
	return "", "", badAddress("the closing quote is missing")
}

// wideRune is the length of the UTF8-non-ascii character at the front of s; 0
// when it is malformed or a control character.
func wideRune(s string) int {
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && n == 1 || unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
		return 0
	}
	return n
}

// isDotString tells whether a valid local part can stand without quotes.
func isDotString(s string) bool {
	dot := true
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			if dot {
				return false
			}
			dot = true
		case c >= utf8.RuneSelf || isAtext(c):
			dot = false
		default:
			return false
		}
	}
	return !dot
}

func quoteLocal(s string) string {
	b := make([]byte, 0, len(s)+4)
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return string(append(b, '"'))
}

// isAtext tells whether c is atext of RFC 5322 section 3.2.3.
func isAtext(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
