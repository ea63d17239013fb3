package dnssec

import (
	"fmt"
	"time"

	"github.com/miekg/dns"

	"postrider/dns/names"
)

// key is a DNSKEY with its tag computed once.
type key struct {
	*dns.DNSKEY
	tag uint16
}

// zoneKeys are those of a set that may verify signatures: keys of zones,
// protocol 3, not revoked (RFC 4034 section 2.1, RFC 5011 section 2.1), of an
// algorithm that is supported. No more than maxKeys are looked at.
func zoneKeys(set *rrset) []key {
	var list []key
	for i, rr := range set.rrs {
		k, ok := rr.(*dns.DNSKEY)
		if i >= maxKeys {
			break
		}
		if ok && usableKey(k) {
			list = append(list, key{k, k.KeyTag()})
		}
	}
	return list
}

func usableKey(k *dns.DNSKEY) bool {
	return k.Flags&dns.ZONE != 0 && k.Flags&dns.REVOKE == 0 && k.Protocol == 3 && supportedAlgorithm(k.Algorithm)
}

// checked is a signature that holds.
type checked struct {
	sig      *dns.RRSIG
	wildcard string        // the wildcard that the set was made from; ""
	lifetime time.Duration // how long the set may be kept
}

// verifySet checks a set against the keys of the zone that should have signed
// it. One valid signature is enough (RFC 6840 section 5.11). The error is a
// *failure that tells of the signature that came closest.
func verifySet(b *budget, now time.Time, set *rrset, zone string, keys []key) (checked, error) {
	var worst *failure
	for i, sig := range set.sigs {
		if i >= maxSignaturesPerSet {
			break
		}
		err := verifySignature(b, now, set, sig, zone, keys)
		if err == nil {
			return accept(now, set, sig), nil
		}
		f := asFailure(err)
		if worst == nil || closeness(f.code) > closeness(worst.code) {
			worst = f
		}
		if b.failures >= maxFailures || b.verifications >= maxVerifications {
			return checked{}, f
		}
	}
	if worst == nil {
		return checked{}, bogus(dns.ExtendedErrorCodeRRSIGsMissing, "the %s records of %s have no signature, but %s is a signed zone",
			dns.Type(set.typ), set.name, zone)
	}
	return checked{}, worst
}

// closeness ranks reasons: of several signatures a person wants to hear about the
// one that nearly held.
func closeness(code uint16) int {
	switch code {
	case dns.ExtendedErrorCodeSignatureExpired, dns.ExtendedErrorCodeSignatureNotYetValid:
		return 3
	case dns.ExtendedErrorCodeDNSBogus:
		return 2
	case dns.ExtendedErrorCodeDNSKEYMissing:
		return 1
	}
	return 0
}

// accept computes what a valid signature says of its set.
func accept(now time.Time, set *rrset, sig *dns.RRSIG) checked {
	c := checked{sig: sig}
	// RFC 4035 section 5.3.3.
	left := int32(sig.Expiration - uint32(now.Unix()))
	c.lifetime = time.Duration(min(set.ttl(), sig.OrigTtl, sig.Hdr.Ttl, uint32(max(left, 0)))) * time.Second
	if n := ownLabels(set.name); int(sig.Labels) < n {
		c.wildcard = names.Wildcard(names.Tail(set.name, int(sig.Labels)))
	}
	return c
}

// ownLabels counts as the Labels field of a signature does: neither the root nor
// a leading asterisk (RFC 4034 section 3.1.3).
func ownLabels(name string) int {
	n := dns.CountLabel(name)
	if isWildcard(name) {
		n--
	}
	return n
}

func isWildcard(name string) bool { return len(name) >= 2 && name[:2] == "*." }

// verifySignature follows RFC 4035 section 5.3.1, in the order of cost.
func verifySignature(b *budget, now time.Time, set *rrset, sig *dns.RRSIG, zone string, keys []key) error {
	what := "the signature over " + dns.Type(set.typ).String() + " of " + set.name
	if dns.CanonicalName(sig.SignerName) != zone || !dns.IsSubDomain(zone, set.name) {
		return bogus(dns.ExtendedErrorCodeRRSIGsMissing, "%s was made by %s and not by its zone %s", what, sig.SignerName, zone)
	}
	labels := ownLabels(set.name)
	if int(sig.Labels) > labels || int(sig.Labels) < dns.CountLabel(zone) || int(sig.Labels) < labels && !set.expandable() {
		return bogus(dns.ExtendedErrorCodeDNSBogus, "%s says %d labels, which cannot be", what, sig.Labels)
	}
	if err := checkTime(now, sig, what); err != nil {
		return err
	}
	if !supportedAlgorithm(sig.Algorithm) {
		return bogus(dns.ExtendedErrorCodeUnsupportedDNSKEYAlgorithm, "%s is of %s, which is not supported", what, algorithmName(sig.Algorithm))
	}
	return tryKeys(b, set, sig, what, keys)
}

// tryKeys verifies with each key that has the tag and algorithm of the
// signature, up to maxSameTag.
func tryKeys(b *budget, set *rrset, sig *dns.RRSIG, what string, keys []key) error {
	tried, weak := 0, false
	for _, k := range keys {
		if k.tag != sig.KeyTag || k.Algorithm != sig.Algorithm {
			continue
		}
		if tried++; tried > maxSameTag {
			return bogus(dns.ExtendedErrorCodeDNSBogus, "%s could be by more than %d keys with tag %d", what, maxSameTag, sig.KeyTag)
		}
		if err := b.verify(); err != nil {
			return err
		}
		if sig.Verify(k.DNSKEY, set.rrs) == nil {
			return nil
		}
		weak = weak || shortRSA(k)
		if err := b.fail(); err != nil {
			return err
		}
	}
	if tried == 0 {
		return bogus(dns.ExtendedErrorCodeDNSKEYMissing, "%s is by key %d (%s), which is not among the keys of its zone",
			what, sig.KeyTag, algorithmName(sig.Algorithm))
	}
	why := "the records or the signature were changed"
	if weak {
		why = fmt.Sprintf("RSA keys of fewer than %d bits are not used", minRSA)
	}
	return bogus(dns.ExtendedErrorCodeDNSBogus, "%s by key %d (%s) is wrong: %s", what, sig.KeyTag, algorithmName(sig.Algorithm), why)
}

// minRSA is the least modulus in bits that package crypto/rsa verifies with.
const minRSA = 1024

// shortRSA tells an RSA key below minRSA, by the length of its text: 4 characters
// are 3 octets, and the exponent takes few.
func shortRSA(k key) bool {
	switch k.Algorithm {
	case dns.RSASHA1, dns.RSASHA1NSEC3SHA1, dns.RSASHA256, dns.RSASHA512:
		return len(k.PublicKey)/4*3 < minRSA/8
	}
	return false
}

// checkTime compares with serial arithmetic (RFC 4034 section 3.1.5).
func checkTime(now time.Time, sig *dns.RRSIG, what string) error {
	present := uint32(now.Unix())
	switch {
	case int32(sig.Expiration-sig.Inception) < 0:
		return bogus(dns.ExtendedErrorCodeSignatureExpiredBeforeValid, "%s ends (%s) before it begins (%s)", what,
			sigTime(now, sig.Expiration), sigTime(now, sig.Inception))
	case int32(sig.Expiration-present) < 0:
		return bogus(dns.ExtendedErrorCodeSignatureExpired, "%s by key %d expired at %s; it is now %s", what, sig.KeyTag,
			sigTime(now, sig.Expiration), now.UTC().Format(time.RFC3339))
	case int32(present-sig.Inception) < 0:
		return bogus(dns.ExtendedErrorCodeSignatureNotYetValid, "%s by key %d is valid from %s on; it is now %s", what, sig.KeyTag,
			sigTime(now, sig.Inception), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// sigTime is the time nearest to now that has this serial.
func sigTime(now time.Time, serial uint32) string {
	d := int32(serial - uint32(now.Unix()))
	return now.Add(time.Duration(d) * time.Second).UTC().Truncate(time.Second).Format(time.RFC3339)
}
