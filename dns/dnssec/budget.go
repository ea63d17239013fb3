package dnssec

import "github.com/miekg/dns"

// Bounds of the work that one call of Validate does. An honest answer stays far
// below: a chain of six zones takes about fifteen checks of signatures, a
// negative answer three more.
const (
	maxFetches       = 64  // DS and DNSKEY answers per call
	maxVerifications = 128 // signatures computed per call
	maxFailures      = 16  // of those, how many may be wrong
	maxHashes        = 160 // names hashed for NSEC3 per call
	maxSets          = 100 // record sets of one message that are checked

	maxSignaturesPerSet = 8  // signatures of one record set that are looked at
	maxSameTag          = 4  // keys with one tag and algorithm that are tried
	maxKeys             = 64 // keys of one zone that are looked at
	maxDS               = 16 // DS records of one delegation that are looked at
)

// Iterations of NSEC3 (RFC 9276 section 3.2). A proof with more than
// maxIterations is not computed, and its zone's denials are insecure; with more
// than refuseIterations the answer is refused.
const (
	maxIterations    = 50
	refuseIterations = 500
)

// budget counts the work of one call of Validate.
type budget struct {
	fetches, verifications, failures, hashes int
}

func (b *budget) spend(count *int, limit int, what string) error {
	if *count >= limit {
		return bogus(dns.ExtendedErrorCodeDNSBogus, "validation would take more than %d %s", limit, what)
	}
	*count++
	return nil
}

func (b *budget) fetch() error  { return b.spend(&b.fetches, maxFetches, "fetches of keys") }
func (b *budget) verify() error { return b.spend(&b.verifications, maxVerifications, "signatures") }
func (b *budget) fail() error   { return b.spend(&b.failures, maxFailures, "wrong signatures") }
func (b *budget) hash() error   { return b.spend(&b.hashes, maxHashes, "hashes of names") }
