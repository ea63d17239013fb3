// Package names has what is done with domain names all over the DNS packages:
// their one spelling, their ancestors, their order. Where it is not said
// otherwise a name is canonical: lower case, final dot, and octets that are not
// printable escaped as the library unpacks them.
package names

import (
	"strings"

	miekg "github.com/miekg/dns"
)

// MaxWire is the number of octets of a name on the wire, the root's included
// (RFC 1035 section 2.3.4).
const MaxWire = 255

// Canonical gives the one spelling by which names are compared. It allocates only
// if name is spelled otherwise. A name that is none, or too long, is ""; but that
// labels of a name in that spelling are none, or too long, is not looked for.
func Canonical(name string) string {
	plain := len(name) > 0 && name[len(name)-1] == '.' && len(name) < MaxWire
	for i := 0; plain && i < len(name); i++ {
		c := name[i]
		plain = c != '\\' && (c < 'A' || c > 'Z')
	}
	if plain {
		return name
	}
	var wire [MaxWire + 1]byte
	n, err := miekg.PackDomainName(miekg.Fqdn(name), wire[:], 0, nil, false)
	if err != nil || n > MaxWire {
		return ""
	}
	out, _, err := miekg.UnpackDomainName(wire[:n], 0)
	if err != nil {
		return ""
	}
	return miekg.CanonicalName(out)
}

// Parent is the name without its first label; that of the root is the root.
func Parent(name string) string {
	i, end := miekg.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[i:]
}

// Tail is the last n labels of a name, or all of it if it has no more.
func Tail(name string, n int) string {
	if n <= 0 {
		return "."
	}
	i, start := miekg.PrevLabel(name, n)
	if start {
		return name
	}
	return name[i:]
}

// Below is the name that a label makes with the name above it.
func Below(label, name string) string {
	if name == "." {
		return label + "."
	}
	return label + "." + name
}

// Wildcard is the wildcard at a name.
func Wildcard(name string) string { return Below("*", name) }

// Order is a name as octets that sort as RFC 4034 section 6.1 has it: labels
// from the root on, in lower case, each ended by an octet that comes before all
// others. Any spelling does; of what is no name it is "", as of the root.
func Order(name string) string {
	var wire [MaxWire + 1]byte
	n, err := miekg.PackDomainName(name, wire[:], 0, nil, false)
	if err != nil {
		return ""
	}
	var at [MaxWire / 2]int // where each label begins
	labels := 0
	for i := 0; i < n && wire[i] != 0; i += 1 + int(wire[i]) {
		at[labels] = i
		labels++
	}
	b := make([]byte, 0, n)
	for i := labels - 1; i >= 0; i-- {
		for _, c := range wire[at[i]+1 : at[i]+1+int(wire[at[i]])] {
			switch {
			case c <= 1:
				b = append(b, 1, c+1)
			case 'A' <= c && c <= 'Z':
				b = append(b, c-'A'+'a')
			default:
				b = append(b, c)
			}
		}
		b = append(b, 0)
	}
	return string(b)
}

// Compare orders names as RFC 4034 section 6.1 does.
func Compare(a, b string) int {
	if a == b {
		return 0
	}
	return strings.Compare(Order(a), Order(b))
}

// Unescape turns \DDD and \X of the library's presentation form, of a label or a
// character-string, into octets. What is no octet, as \999, stands for itself.
func Unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out = append(out, s[i])
			continue
		}
		if i+3 < len(s) {
			if c, ok := decimal(s[i+1 : i+4]); ok {
				out = append(out, c)
				i += 3
				continue
			}
		}
		i++
		out = append(out, s[i])
	}
	return string(out)
}

// decimal is the octet that three digits mean.
func decimal(s string) (c byte, ok bool) {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = 10*n + int(s[i]-'0')
	}
	return byte(n), n <= 255
}
