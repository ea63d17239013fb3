package dnssec

import (
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/miekg/dns"
)

// Policy is how a zone is signed. The zero value is a good one: a KSK and a ZSK
// of ECDSA P-256, NSEC, signatures for 14 days.
type Policy struct {
	Algorithm uint8 // of keys that are made; 0 means dns.ECDSAP256SHA256

	// SingleKey: one key signs everything (CSK), instead of a KSK and a ZSK.
	SingleKey bool

	// NSEC3 hashes the names in denials (RFC 5155), without salt and iterations as
	// RFC 9276 section 3.1 wants it; OptOut leaves unsigned delegations out of
	// the chain.
	NSEC3, OptOut bool

	Validity time.Duration // of a signature; 0 means 14 days
	Refresh  time.Duration // a signature with less left is made anew; 0 means a third of Validity
	Jitter   time.Duration // by how much Validity is shortened at most; 0 means an eighth of it

	KeyTTL time.Duration // of DNSKEY records; 0 means an hour
	MaxTTL time.Duration // the longest TTL in the zone; 0 means a day, or Refresh if that is less

	// Propagation is how long a new version needs to reach all secondaries; 0
	// means an hour.
	Propagation time.Duration

	ZSKLifetime time.Duration // until the next one takes over; 0 = never
	KSKLifetime time.Duration // of a KSK or CSK; 0 = never

	// ParentTTL is that of the DS records at the parent; 0 means a day.
	ParentTTL time.Duration
}

// inceptionAge is how far in the past signatures begin, for clocks that are slow
// (RFC 6781 section 4.4.2.2).
const inceptionAge = time.Hour

// withDefaults fills in what is zero, and says what cannot be.
func (p Policy) withDefaults() (Policy, error) {
	for _, d := range []struct {
		value *time.Duration
		byDef time.Duration
	}{
		{&p.Validity, 14 * 24 * time.Hour},
		{&p.KeyTTL, time.Hour},
		{&p.Propagation, time.Hour},
		{&p.ParentTTL, 24 * time.Hour},
	} {
		if *d.value == 0 {
			*d.value = d.byDef
		}
	}
	if p.Refresh == 0 {
		p.Refresh = p.Validity / 3
	}
	if p.MaxTTL == 0 {
		p.MaxTTL = min(24*time.Hour, p.Refresh)
	}
	if p.Jitter == 0 {
		p.Jitter = p.Validity / 8
	}
	if p.Algorithm == 0 {
		p.Algorithm = dns.ECDSAP256SHA256
	}
	return p, p.check()
}

// Check says what of the policy cannot be.
func (p Policy) Check() error {
	_, err := p.withDefaults()
	return err
}

func (p Policy) check() error {
	switch {
	case p.Algorithm != dns.ECDSAP256SHA256 && p.Algorithm != dns.ED25519:
		return fmt.Errorf("signing policy: keys of %s are not made here", algorithmName(p.Algorithm))
	case p.OptOut && !p.NSEC3:
		return errors.New("signing policy: opt-out needs NSEC3")
	case min(p.Validity, p.Refresh, p.Jitter, p.KeyTTL, p.MaxTTL, p.Propagation, p.ParentTTL, p.ZSKLifetime, p.KSKLifetime) < 0:
		return errors.New("signing policy: a negative time")
	case p.Validity < time.Minute || p.Validity > 10*365*24*time.Hour:
		return errors.New("signing policy: signatures are valid between a minute and ten years")
	case p.Refresh+p.Jitter >= p.Validity:
		return errors.New("signing policy: refresh and jitter together must be shorter than the validity")
	case p.MaxTTL > p.Refresh:
		// Else a copy in a cache outlives its signature (RFC 6781 section 4.4.2).
		return fmt.Errorf("signing policy: the longest TTL (%s) must not exceed the time left when signatures are made anew (%s)", p.MaxTTL, p.Refresh)
	}
	return nil
}

// Signing is how a zone is to be signed at one moment: the keys, and what a
// Policy says. A Ring makes one; for a zone with fixed keys NewSigning does.
type Signing struct {
	Zone string
	Now  time.Time

	Keys    []*Key // all published
	KeySigs []*Key // those that sign DNSKEY, CDS and CDNSKEY
	Sigs    []*Key // those that sign everything else: one per algorithm

	// CDS and CDNSKEY are the records to publish at the apex (RFC 7344, RFC
	// 8078); nil = none.
	CDS, CDNSKEY []dns.RR

	// Remove: the zone is to be unsigned, with all DNSSEC records taken out.
	Remove bool

	NSEC3, OptOut bool
	KeyTTL        uint32 // seconds

	validity, refresh, jitter time.Duration
}

// NewSigning signs with fixed keys by a policy, whose lifetimes do not count. KSK
// and CSK keys sign the keys, ZSK keys, or CSK keys if there are none, the rest.
func NewSigning(p Policy, now time.Time, keys ...*Key) (Signing, error) {
	p, err := p.withDefaults()
	if err != nil {
		return Signing{}, err
	}
	if len(keys) == 0 {
		return Signing{}, errors.New("signing: no keys")
	}
	s := p.signing(keys[0].record.Hdr.Name, now)
	for _, k := range keys {
		if k.record.Hdr.Name != s.Zone {
			return Signing{}, fmt.Errorf("signing: keys of %s and %s", s.Zone, k.record.Hdr.Name)
		}
		if k.SEP() {
			s.KeySigs = append(s.KeySigs, k)
		} else {
			s.Sigs = append(s.Sigs, k)
		}
	}
	s.Keys = keys
	if len(s.Sigs) == 0 {
		s.Sigs = s.KeySigs
	}
	if len(s.KeySigs) == 0 {
		s.KeySigs = s.Sigs
	}
	return s, nil
}

func (p Policy) signing(zone string, now time.Time) Signing {
	return Signing{Zone: zone, Now: now, NSEC3: p.NSEC3, OptOut: p.OptOut, KeyTTL: uint32(p.KeyTTL / time.Second),
		validity: p.Validity, refresh: p.Refresh, jitter: p.Jitter}
}

// signersOf are the keys that sign a type.
func (s *Signing) signersOf(typ uint16) []*Key {
	switch typ {
	case dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY:
		return s.KeySigs
	}
	return s.Sigs
}

// Sign makes the signatures over one set. Their ends are spread, by name and
// type, so that they do not all fall due at once.
func (s *Signing) Sign(set []dns.RR) ([]dns.RR, error) {
	h := set[0].Header()
	f := fnv.New32a()
	fmt.Fprintf(f, "%s %d %d", h.Name, h.Rrtype, s.Now.Unix())
	end := s.validity - time.Duration(float64(s.jitter)*float64(f.Sum32())/(1<<32))
	var sigs []dns.RR
	for _, k := range s.signersOf(h.Rrtype) {
		sig, err := k.Sign(set, s.Now.Add(-inceptionAge), s.Now.Add(end))
		if err != nil {
			return nil, err
		}
		sigs = append(sigs, sig)
	}
	return sigs, nil
}

// Good says whether the signatures that a set of the type has will do: one by a
// published key for each algorithm that signs; for the set of keys one by each
// key that signs it; with enough time left, and no others. due is when they will
// not do any more.
func (s *Signing) Good(typ uint16, sigs []dns.RR) (due time.Time, good bool) {
	signers := s.signersOf(typ)
	if len(sigs) != len(signers) {
		return time.Time{}, false
	}
	keys := s.Keys
	if typ == dns.TypeDNSKEY || typ == dns.TypeCDS || typ == dns.TypeCDNSKEY {
		keys = signers
	}
	seen := make(map[uint16]bool)
	for _, rr := range sigs {
		sig, ok := rr.(*dns.RRSIG)
		if !ok || seen[sig.KeyTag] || !madeBy(keys, sig) {
			return time.Time{}, false
		}
		seen[sig.KeyTag] = true
		left := time.Duration(int32(sig.Expiration-uint32(s.Now.Unix()))) * time.Second
		if left <= s.refresh {
			return time.Time{}, false
		}
		if d := s.Now.Add(left - s.refresh); due.IsZero() || d.Before(due) {
			due = d
		}
	}
	return due, true
}

func madeBy(keys []*Key, sig *dns.RRSIG) bool {
	for _, k := range keys {
		if k.tag == sig.KeyTag && k.record.Algorithm == sig.Algorithm {
			return true
		}
	}
	return false
}
