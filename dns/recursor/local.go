package recursor

import (
	"net/netip"
	"slices"

	miekg "github.com/miekg/dns"
)

const localTTL = 3600

// local answers names that the DNS must not be asked for: localhost is this
// host, and .invalid and .onion do not exist (RFC 6761 sections 6.3 and 6.4,
// RFC 7686).
func local(k key) (Answer, bool) {
	labels := miekg.SplitDomainName(k.name)
	if len(labels) == 0 || !slices.Contains([]string{"localhost", "invalid", "onion"}, labels[len(labels)-1]) {
		return Answer{}, false
	}
	if labels[len(labels)-1] != "localhost" {
		return Answer{Rcode: miekg.RcodeNameError}, true
	}
	ans := Answer{}
	switch k.typ {
	case miekg.TypeA:
		ans.Answer = []miekg.RR{addressRecord(k.name, netip.MustParseAddr("127.0.0.1"), localTTL)}
	case miekg.TypeAAAA:
		ans.Answer = []miekg.RR{addressRecord(k.name, netip.IPv6Loopback(), localTTL)}
	}
	return ans, true
}
