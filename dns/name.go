package dns

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	miekg "github.com/miekg/dns"
	"golang.org/x/net/idna"
)

// maxName is the number of octets of a name on the wire, the root's included
// (RFC 1035 section 2.3.4).
const maxName = 255

// normalize gives the one spelling under which a name is asked, compared and
// kept: fully qualified, lower case, A-labels, in presentation form. A name
// that no zone can hold does not exist.
func normalize(s string) (string, error) {
	switch {
	case s == ".":
		return s, nil
	case isNormal(s):
		return s + ".", nil
	}
	name := s
	if !isASCII(name) {
		// Underscores pass: _dmarc.bücher.example is asked for.
		p := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(false))
		a, err := p.ToASCII(name)
		if err != nil || !utf8.ValidString(name) {
			return "", fmt.Errorf("%w: %q is not an internationalised domain name", ErrNotExist, s)
		}
		name = a
	}
	name = strings.TrimSuffix(name, ".") + "."
	// Round trip over the wire: it checks the limits of 63 and 255 octets, and
	// leaves one spelling of escaped octets.
	var wire [maxName + 1]byte
	n, err := miekg.PackDomainName(name, wire[:], 0, nil, false)
	if err != nil || n > maxName || name == "." {
		return "", fmt.Errorf("%w: %q is not a domain name (labels have 1 to 63 octets, names up to 253)", ErrNotExist, s)
	}
	name, _, err = miekg.UnpackDomainName(wire[:n], 0)
	if err != nil {
		return "", fmt.Errorf("%w: %q is not a domain name", ErrNotExist, s)
	}
	return miekg.CanonicalName(name), nil
}

// isNormal tells that s lacks no more than the final dot: lower-case letters,
// digits and hyphens in labels of good length, as almost all names are.
func isNormal(s string) bool {
	if len(s) > maxName-2 {
		return false
	}
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-':
			label++
		case c == '.' && label > 0:
			label = 0
		default:
			return false
		}
		if label > 63 {
			return false
		}
	}
	return label > 0
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// plain is a name from an answer as our callers see it: lower case, without
// the final dot; the root is ".".
func plain(name string) string {
	name = miekg.CanonicalName(name)
	if name == "." {
		return name
	}
	return strings.TrimSuffix(name, ".")
}

// reverse is the name under which the PTR records of an address are
// (RFC 1035 section 3.5, RFC 3596 section 2.5).
func reverse(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	var b strings.Builder
	if a.Is4() {
		ip := a.As4()
		for i := len(ip) - 1; i >= 0; i-- {
			fmt.Fprintf(&b, "%d.", ip[i])
		}
		return b.String() + "in-addr.arpa."
	}
	ip := a.As16()
	for i := len(ip) - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "%x.%x.", ip[i]&15, ip[i]>>4)
	}
	return b.String() + "ip6.arpa."
}

// unescape turns a character-string of a TXT record, which miekg/dns keeps in
// presentation form, back into its octets.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out = append(out, s[i])
			continue
		}
		if i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 10, 8); err == nil {
				out = append(out, byte(n))
				i += 3
				continue
			}
		}
		i++
		out = append(out, s[i])
	}
	return string(out)
}
