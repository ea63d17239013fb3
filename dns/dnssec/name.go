package dnssec

import (
	"fmt"

	"github.com/miekg/dns"

	"postrider/dns/names"
)

// canonical is the one spelling of a name that text may write in several.
func canonical(name string) (string, error) {
	c := names.Canonical(name)
	if _, ok := dns.IsDomainName(c); c == "" || !ok {
		return "", fmt.Errorf("%q is not a domain name", name)
	}
	return c, nil
}

// above says that name is strictly below ancestor.
func above(ancestor, name string) bool {
	return ancestor != name && dns.IsSubDomain(ancestor, name)
}

// commonAncestor is the longest name that both names are at or below.
func commonAncestor(a, b string) string { return names.Tail(a, dns.CompareDomainName(a, b)) }
