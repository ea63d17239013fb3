package mta

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// NormalizeDomain returns the one form of a domain name that the system uses:
// lower-case A-labels (RFC 5890) without a final dot. An
// address literal becomes "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC 5321
// section 4.1.3). The error is an *AddressError.
func NormalizeDomain(s string) (string, error) {
	if s == "" {
		return "", badAddress("the domain is missing")
	}
	if s[0] == '[' {
		return normalizeLiteral(s)
	}
	d := s
	if !isPlainDomain(s) {
		var err error
		if d, err = idna.Lookup.ToASCII(s); err != nil {
			return "", badAddress("the domain has characters or a form that no domain name can have")
		}
		// The mapping may not produce what would not map to itself.
		if again, err := idna.Lookup.ToASCII(d); err != nil || again != d {
			return "", badAddress("the domain has characters or a form that no domain name can have")
		}
	}
	return d, checkDomain(d)
}

// isPlainDomain tells that s is its own normal form: lower-case letters, digits,
// hyphens and dots, and no label that needs IDNA to judge.
func isPlainDomain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.':
		case c == '-':
			if strings.HasPrefix(s[i:], "--") {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// checkDomain holds d, in lower-case ASCII, to Domain of RFC 5321 section 4.1.2
// and to the lengths of RFC 1035 section 2.3.4.
func checkDomain(d string) error {
	if len(d) > maxDomain {
		return badAddress("the domain is longer than 255 octets")
	}
	for label := range strings.SplitSeq(d, ".") {
		switch {
		case label == "":
			return badAddress("a dot is misplaced in the domain")
		case len(label) > 63:
			return badAddress("a part of the domain is longer than 63 octets")
		case label[0] == '-' || label[len(label)-1] == '-':
			return badAddress("a part of the domain begins or ends with a hyphen")
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return badAddress("the domain has characters or a form that no domain name can have")
			}
		}
	}
	if c := d[len(d)-1]; '0' <= c && c <= '9' {
		if _, err := netip.ParseAddr(d); err == nil {
			return badAddress("an IP address must stand in brackets, as in [192.0.2.1]")
		}
	}
	return nil
}

func normalizeLiteral(s string) (string, error) {
	const tag = "[IPv6:"
	bad := badAddress("the address literal must be like [192.0.2.1] or [IPv6:2001:db8::1]")
	if len(s) < 2 || s[len(s)-1] != ']' {
		return "", bad
	}
	inner, six := s[1:len(s)-1], false
	if len(s) > len(tag) && strings.EqualFold(s[:len(tag)], tag) {
		inner, six = s[len(tag):len(s)-1], true
	}
	ip, err := netip.ParseAddr(inner)
	if err != nil || ip.Zone() != "" || ip.Is4() == six {
		return "", bad
	}
	return Literal(ip), nil
}

// Literal is the address literal that stands for ip in a domain's place.
func Literal(ip netip.Addr) string {
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return "[" + ip.String() + "]"
	}
	return "[IPv6:" + ip.String() + "]"
}
