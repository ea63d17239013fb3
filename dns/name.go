package dns

import (
	"fmt"
	"net/netip"
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
			return "", fmt.Errorf("%w: %q is not an internationalised domain name (IDNA, RFC 5891): %s", ErrNotExist, s, idnaFault(name, p))
		}
		name = a
	}
	name = strings.TrimSuffix(name, ".") + "."
	// Round trip over the wire: it checks the limits of 63 and 255 octets, and
	// leaves one spelling of escaped octets.
	var wire [maxName + 1]byte
	n, err := miekg.PackDomainName(name, wire[:], 0, nil, false)
	if err != nil || n > maxName || name == "." {
		return "", fmt.Errorf("%w: %q is not a domain name: %s (RFC 1035 section 2.3.4)", ErrNotExist, s, nameFault(name))
	}
	name, _, err = miekg.UnpackDomainName(wire[:n], 0)
	if err != nil {
		return "", fmt.Errorf("%w: %q is not a domain name", ErrNotExist, s)
	}
	return miekg.CanonicalName(name), nil
}

// ParseName gives the one spelling of a name: lower case, A-labels (RFC 5890),
// with the final dot. The name is taken as absolute, with a final dot or without.
// An error wraps ErrNotExist and says which label breaks which rule.
func ParseName(s string) (string, error) { return normalize(s) }

// maxLabel is the number of octets of a label (RFC 1035 section 2.3.4).
const maxLabel = 63

// nameFault says what is wrong with a name that does not go onto the wire;
// name has a final dot.
func nameFault(name string) string {
	if name == "." {
		return "it is empty"
	}
	octets, total, label := 0, 1, 0 // of this label; of the name on the wire
	start := 0
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '\\' && i+3 < len(name) && isDigits(name[i+1:i+4]):
			octets++
			i += 3
		case c == '\\':
			octets++
			i++
		case c != '.':
			octets++
		default:
			label++
			switch {
			case octets == 0 && label == 1:
				return "it begins with a dot"
			case octets == 0:
				return fmt.Sprintf("label %d is empty: there are two dots in a row", label)
			case octets > maxLabel:
				return fmt.Sprintf("label %d, %q, has %d octets, and %d are the most", label, name[start:i], octets, maxLabel)
			}
			total += 1 + octets
			octets, start = 0, i+1
		}
	}
	if total > maxName {
		return fmt.Sprintf("it has %d octets on the wire, and %d are the most", total, maxName)
	}
	return "its escapes with a backslash are not complete"
}

func isDigits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}

// idnaFault names the label that IDNA refuses.
func idnaFault(name string, p *idna.Profile) string {
	if !utf8.ValidString(name) {
		return "it is not in UTF-8"
	}
	for i, label := range strings.FieldsFunc(name, func(c rune) bool { return strings.ContainsRune(labelDots, c) }) {
		if _, err := p.ToASCII(label); err != nil {
			return fmt.Sprintf("label %d, %q, has characters that no label may have, or in an order that none may have", i+1, label)
		}
	}
	return "its labels do not go together"
}

// labelDots separate labels (RFC 3490 section 3.1; UTS 46 section 4.5).
const labelDots = ".\u3002\uff0e\uff61"

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
		if label > maxLabel {
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
func plain(name string) string { return undotted(miekg.CanonicalName(name)) }

// undotted is a canonical name without the final dot; the root is ".".
func undotted(name string) string {
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
