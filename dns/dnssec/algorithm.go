package dnssec

import (
	"strconv"

	"github.com/miekg/dns"
)

// What this package validates of RFC 8624 section 3.1: every algorithm whose
// validation is required, but not those that must not be validated (RSAMD5, DSA)
// nor GOST and Ed448, which are optional there. A zone that is signed only by
// other algorithms is insecure (RFC 4035 section 5.2).
func supportedAlgorithm(a uint8) bool {
	switch a {
	case dns.RSASHA1, dns.RSASHA1NSEC3SHA1, dns.RSASHA256, dns.RSASHA512,
		dns.ECDSAP256SHA256, dns.ECDSAP384SHA384, dns.ED25519:
		return true
	}
	return false
}

// The digests of RFC 8624 section 3.3 that must be validated.
func supportedDigest(d uint8) bool {
	switch d {
	case dns.SHA1, dns.SHA256, dns.SHA384:
		return true
	}
	return false
}

// algorithmName is for people.
func algorithmName(a uint8) string {
	if s, ok := dns.AlgorithmToString[a]; ok {
		return s
	}
	return "algorithm " + strconv.Itoa(int(a))
}
