package dnssec

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/miekg/dns"
)

func itoa(n int) string { return strconv.Itoa(n) }

// canonical is the one spelling of a name that text may write in several: lower
// case, final dot, octets that are not printable escaped as miekg unpacks them.
func canonical(name string) (string, error) {
	var wire [256]byte
	n, err := dns.PackDomainName(dns.Fqdn(name), wire[:], 0, nil, false)
	if err != nil {
		return "", fmt.Errorf("%q is not a domain name", name)
	}
	text, _, err := dns.UnpackDomainName(wire[:n], 0)
	if err != nil {
		return "", fmt.Errorf("%q is not a domain name", name)
	}
	return dns.CanonicalName(text), nil
}

// parent is the name without its first label; the root has none and is its own.
func parent(name string) string {
	i, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[i:]
}

// tail is the last n labels of name.
func tail(name string, n int) string {
	if n <= 0 {
		return "."
	}
	at := dns.Split(name)
	if n >= len(at) {
		return name
	}
	return name[at[len(at)-n]:]
}

// above says that name is strictly below ancestor.
func above(ancestor, name string) bool {
	return ancestor != name && dns.IsSubDomain(ancestor, name)
}

// wildcardOf is the wildcard at name.
func wildcardOf(name string) string {
	if name == "." {
		return "*."
	}
	return "*." + name
}

// compareNames orders names as RFC 4034 section 6.1 does: label by label from
// the root, each as octets in lower case, a missing label first. Both must be
// valid names.
func compareNames(a, b string) int {
	if a == b {
		return 0
	}
	x, y := wireLabels(a), wireLabels(b)
	for i := 1; i <= len(x) && i <= len(y); i++ {
		if c := bytes.Compare(x[len(x)-i], y[len(y)-i]); c != 0 {
			return c
		}
	}
	return len(x) - len(y)
}

// wireLabels are the labels of a name as octets in lower case, without the root.
func wireLabels(name string) [][]byte {
	var buf [256]byte
	end, err := dns.PackDomainName(name, buf[:], 0, nil, false)
	if err != nil {
		return nil
	}
	labels := make([][]byte, 0, 8)
	for i := 0; i < end && buf[i] != 0; {
		n := int(buf[i])
		label := buf[i+1 : i+1+n]
		for j, c := range label {
			if 'A' <= c && c <= 'Z' {
				label[j] = c + 'a' - 'A'
			}
		}
		labels = append(labels, label)
		i += 1 + n
	}
	return labels
}

// commonAncestor is the longest name that both names are at or below.
func commonAncestor(a, b string) string { return tail(a, dns.CompareDomainName(a, b)) }
