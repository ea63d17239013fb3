package dnssec

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"postrider/dns/names"
)

// zone is what is known about a name as a place where a zone may begin.
type zone struct {
	name    string
	cut     bool // a zone begins here; false: the name is inside the zone above
	nothing bool // proven: neither the name nor anything below exists
	keys    []key
	failure *failure  // why it is not secure; nil = secure, or not a cut
	until   time.Time // when this must be learnt anew
	chain   []string  // a line for each zone from the anchor down
}

// How long what was learnt is kept. The TTLs of the records decide within these.
const (
	maxZoneAge = 24 * time.Hour
	bogusAge   = 30 * time.Second // RFC 4035 section 4.7
)

// run is one call of Validate.
type run struct {
	v      *Validator
	fetch  Fetcher
	now    time.Time
	budget budget
	seen   map[string]*zone // what this run found, however short its TTL
}

func (v *Validator) newRun(f Fetcher) *run {
	return &run{v: v, fetch: f, now: v.clock.Now(), seen: make(map[string]*zone)}
}

// set checks a record set, and says which zone signed it. The error is a
// *failure.
func (r *run) set(ctx context.Context, set *rrset) (checked, *zone, error) {
	var last error
	for _, signer := range set.signers() {
		z, err := r.walk(ctx, signer)
		if err != nil {
			return checked{}, z, err
		}
		if z.name != signer {
			last = bogus(dns.ExtendedErrorCodeRRSIGsMissing, "the signature over %s of %s is by %s, which is not a zone", dns.Type(set.typ), set.name, signer)
			continue
		}
		c, err := verifySet(&r.budget, r.now, set, z.name, z.keys)
		if err == nil {
			return c, z, nil
		}
		last = err
	}
	// Not signed, or not by keys that hold: fine only where nothing is signed.
	z, err := r.zoneOf(ctx, set.name, set.typ)
	if err != nil {
		return checked{}, z, err
	}
	if last == nil {
		_, last = verifySet(&r.budget, r.now, set, z.name, z.keys)
	}
	if last == nil { // the walk found keys that the signer's name did not lead to
		last = bogus(dns.ExtendedErrorCodeDNSBogus, "the signature over %s of %s names a wrong zone", dns.Type(set.typ), set.name)
	}
	return checked{}, z, last
}

// zoneOf finds the zone that has the records of a name and type: for DS the one
// above a cut at the name.
func (r *run) zoneOf(ctx context.Context, name string, typ uint16) (*zone, error) {
	if typ == dns.TypeDS && name != "." {
		name = names.Parent(name)
	}
	return r.walk(ctx, name)
}

// walk follows the chain from the closest anchor down to name, and returns the
// deepest zone at or above it. The error, a *failure, says why that zone is not
// secure.
func (r *run) walk(ctx context.Context, name string) (*zone, error) {
	top, trust, err := r.v.closestAnchor(name)
	if err != nil {
		return nil, err
	}
	z, err := r.place(ctx, nil, top, trust)
	if err != nil {
		return z, err
	}
	for n := dns.CountLabel(top) + 1; n <= dns.CountLabel(name); n++ {
		below, err := r.place(ctx, z, names.Tail(name, n), nil)
		if err != nil {
			return below, err
		}
		if below.cut {
			z = below
		}
		if below.nothing {
			break
		}
	}
	return z, nil
}

// place learns what is at a name below the secure zone up, or at an anchor, whose
// keys trust names, if up is nil; from the cache if it can.
func (r *run) place(ctx context.Context, up *zone, name string, trust []dns.RR) (*zone, error) {
	z := r.seen[name]
	if z == nil {
		z = r.v.zones.get(name, r.now)
	}
	if z == nil {
		var keep bool
		if z, keep = r.learn(ctx, up, name, trust); keep {
			r.v.zones.put(z)
		}
	}
	r.seen[name] = z
	if z.failure != nil {
		return z, z.failure
	}
	return z, nil
}

// learn asks for the records of a cut. Failures to fetch are not kept: the
// fetcher knows best when to try again.
func (r *run) learn(ctx context.Context, up *zone, name string, trust []dns.RR) (z *zone, keep bool) {
	z = &zone{name: name, cut: true, until: r.now.Add(maxZoneAge)}
	if up != nil {
		z.chain = up.chain[:len(up.chain):len(up.chain)]
	}
	var err error
	if up != nil {
		trust, err = r.delegation(ctx, up, z)
	}
	if err == nil && z.cut {
		err = r.keys(ctx, z, trust, up == nil)
	}
	if err == nil {
		return z, true
	}
	z.failure = asFailure(err)
	z.chain = append(z.chain, fmt.Sprintf("%s: %s: %s", name, z.failure.security, z.failure.text))
	if z.failure.security == Bogus {
		z.until = r.now.Add(bogusAge)
	}
	return z, !z.failure.unreachable
}

// ask fetches, and hands the answer to check; a bogus answer is asked for once
// more from elsewhere, if the fetcher can.
func (r *run) ask(ctx context.Context, name string, typ uint16, check func(*dns.Msg) error) error {
	err := r.askOnce(ctx, r.fetch.Fetch, name, typ, check)
	again, ok := r.fetch.(Refetcher)
	if err == nil || !ok || asFailure(err).security != Bogus {
		return err
	}
	return r.askOnce(ctx, again.Refetch, name, typ, check)
}

func (r *run) askOnce(ctx context.Context, get func(context.Context, string, uint16) (*dns.Msg, error),
	name string, typ uint16, check func(*dns.Msg) error) error {
	if err := r.budget.fetch(); err != nil {
		return err
	}
	m, err := get(ctx, name, typ)
	if err != nil {
		return unreachable(name, typ, err)
	}
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return unreachable(name, typ, fmt.Errorf("the answer was %s", dns.RcodeToString[m.Rcode]))
	}
	return check(m)
}

// delegation asks the zone up for the DS records of z. It returns those that are
// supported; or z.cut is false; or the error says that z is insecure or bogus.
func (r *run) delegation(ctx context.Context, up, z *zone) (trust []dns.RR, err error) {
	err = r.ask(ctx, z.name, dns.TypeDS, func(m *dns.Msg) error {
		sets := groupSets(m.Answer)
		if set := find(sets, z.name, dns.TypeDS); set != nil {
			c, err := verifySet(&r.budget, r.now, set, up.name, up.keys)
			if err != nil {
				return err
			}
			z.expire(r.now, c.lifetime)
			trust, err = supportedDS(set)
			return err
		}
		if r.aliased(sets, up, z) {
			return nil
		}
		return r.noDelegation(m, up, z)
	})
	return trust, err
}

// aliased says that the answer proves an alias in the zone up at or above z. An
// alias has no NS beside it, and below a DNAME there is nothing: no cut.
func (r *run) aliased(sets []*rrset, up, z *zone) bool {
	for i, set := range sets {
		here := set.typ == dns.TypeCNAME && set.name == z.name
		if i >= maxSets || !here && (set.typ != dns.TypeDNAME || !above(set.name, z.name)) {
			continue
		}
		c, err := verifySet(&r.budget, r.now, set, up.name, up.keys)
		if err == nil && c.wildcard == "" {
			z.cut, z.nothing = false, !here
			z.expire(r.now, c.lifetime)
			return true
		}
	}
	return false
}

// noDelegation judges an answer without DS: an insecure delegation, or no
// delegation at all, each proven by the zone up.
func (r *run) noDelegation(m *dns.Msg, up, z *zone) error {
	var proofs []dns.RR
	var last error
	age := maxZoneAge
	for i, set := range groupSets(m.Ns) {
		if i == maxSets {
			break
		}
		if set.typ != dns.TypeNSEC && set.typ != dns.TypeNSEC3 {
			continue
		}
		c, err := verifySet(&r.budget, r.now, set, up.name, up.keys)
		if err != nil {
			last = err
			continue
		}
		if c.wildcard != "" {
			continue
		}
		age = min(age, c.lifetime)
		proofs = append(proofs, set.rrs...)
	}
	d, err := deny(&r.budget, up.name, z.name, dns.TypeDS, proofs)
	if err != nil {
		return err
	}
	z.expire(r.now, age)
	switch {
	case d.Iterations > 0:
		return tooManyIterations(up.name, d.Iterations)
	case d.Existence == NoData && d.Delegation:
		return insecure(0, "%s proves that %s is delegated without DS: it is not signed", up.name, z.name)
	case d.OptOut:
		return insecure(0, "%s proves by opt-out that %s has no DS: it is not signed", up.name, z.name)
	case d.Existence == NoData:
		z.cut = false
		return nil
	case d.Existence == NoName, d.Existence == Expands:
		z.cut, z.nothing = false, true
		return nil
	case last != nil:
		return last
	}
	return bogus(dns.ExtendedErrorCodeNSECMissing, "%s neither has a DS for %s nor proves that there is none", up.name, z.name)
}

// supportedDS picks the DS records that can be used; insecure if there are none
// (RFC 4035 section 5.2). SHA-1 does not count beside a better digest for the
// same key's algorithm (RFC 4509 section 3).
func supportedDS(set *rrset) ([]dns.RR, error) {
	var list []dns.RR
	better := make(map[uint8]bool)
	code := dns.ExtendedErrorCodeUnsupportedDNSKEYAlgorithm
	for i, rr := range set.rrs {
		ds, ok := rr.(*dns.DS)
		if !ok || i >= maxDS {
			break
		}
		switch {
		case !supportedAlgorithm(ds.Algorithm):
		case !supportedDigest(ds.DigestType):
			code = dns.ExtendedErrorCodeUnsupportedDSDigestType
		default:
			list = append(list, ds)
			better[ds.Algorithm] = better[ds.Algorithm] || ds.DigestType != dns.SHA1
		}
	}
	if len(list) == 0 {
		return nil, insecure(code, "no DS of %s has an algorithm and digest that are supported here", set.name)
	}
	kept := list[:0]
	for _, rr := range list {
		if ds := rr.(*dns.DS); ds.DigestType != dns.SHA1 || !better[ds.Algorithm] {
			kept = append(kept, rr)
		}
	}
	return kept, nil
}

// keys asks for the keys of z and checks that one that is trusted signed them
// all.
func (r *run) keys(ctx context.Context, z *zone, trust []dns.RR, anchor bool) error {
	return r.ask(ctx, z.name, dns.TypeDNSKEY, func(m *dns.Msg) error {
		set := find(groupSets(m.Answer), z.name, dns.TypeDNSKEY)
		if set == nil {
			return bogus(dns.ExtendedErrorCodeDNSKEYMissing, "%s has no DNSKEY records, but %s", z.name, trustedBy(trust, anchor))
		}
		c, err := r.checkKeys(set, trust, anchor)
		if err != nil {
			return err
		}
		z.keys = zoneKeys(set)
		z.expire(r.now, c.lifetime)
		z.chain = append(z.chain, fmt.Sprintf("%s: secure: its keys are signed by %d (%s) until %s; %s", z.name, c.sig.KeyTag,
			algorithmName(c.sig.Algorithm), sigTime(r.now, c.sig.Expiration), trustedBy(trust, anchor)))
		return nil
	})
}

// checkKeys verifies a set of keys with those of its own that are trusted (RFC
// 4035 section 5.2).
func (r *run) checkKeys(set *rrset, trust []dns.RR, anchor bool) (checked, error) {
	var entry []key
	for _, k := range zoneKeys(set) {
		for _, t := range trust {
			if trusts(t, k) {
				entry = append(entry, k)
				break
			}
		}
	}
	if len(entry) == 0 {
		code := dns.ExtendedErrorCodeDNSKEYMissing
		if noZoneKey(set) {
			code = dns.ExtendedErrorCodeNoZoneKeyBitSet
		}
		return checked{}, bogus(code, "none of the keys of %s is the one that %s", set.name, trustedBy(trust, anchor))
	}
	return verifySet(&r.budget, r.now, set, set.name, entry)
}

func noZoneKey(set *rrset) bool {
	for _, rr := range set.rrs {
		if k, ok := rr.(*dns.DNSKEY); ok && k.Flags&dns.ZONE != 0 {
			return false
		}
	}
	return true
}

// trusts says that a DS or DNSKEY record stands for the key.
func trusts(anchor dns.RR, k key) bool {
	switch a := anchor.(type) {
	case *dns.DS:
		if a.KeyTag != k.tag || a.Algorithm != k.Algorithm {
			return false
		}
		ds := k.ToDS(a.DigestType)
		return ds != nil && strings.EqualFold(ds.Digest, a.Digest)
	case *dns.DNSKEY:
		return a.Algorithm == k.Algorithm && a.PublicKey == k.PublicKey
	}
	return false
}

// trustedBy is for people: what leads to the keys.
func trustedBy(trust []dns.RR, anchor bool) string {
	var tags []string
	for _, rr := range trust {
		switch a := rr.(type) {
		case *dns.DS:
			tags = append(tags, strconv.Itoa(int(a.KeyTag)))
		case *dns.DNSKEY:
			tags = append(tags, strconv.Itoa(int(a.KeyTag())))
		}
	}
	list := strings.Join(tags, ", ")
	if anchor {
		return "a trust anchor names key " + list
	}
	return "the DS names key " + list
}

// expire shortens the time for which z is kept.
func (z *zone) expire(now time.Time, age time.Duration) {
	if t := now.Add(age); t.Before(z.until) {
		z.until = t
	}
}
