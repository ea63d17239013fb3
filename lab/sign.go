package lab

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
	"postrider/dns/zone"
)

// signatureLife is how long the lab's signatures hold, so that a jump of the clock
// seldom passes it; Resign makes new ones then.
const signatureLife = 365 * 24 * time.Hour

// signer signs the zones of the lab. Each has one key of its own, which lives as
// long as the lab.
type signer struct {
	clock *Clock

	mu   sync.Mutex
	keys map[string]*dnssec.Key // by zone
}

// key is that of a zone.
func (s *signer) key(origin string) (*dnssec.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[origin]; k != nil {
		return k, nil
	}
	k, err := dnssec.GenerateKey(origin, dnssec.CSK, miekg.ED25519, keyTTL)
	if err == nil {
		s.keys[origin] = k
	}
	return k, err
}

// keyTTL is the TTL of DNSKEY records, in seconds.
const keyTTL = 3600

// sign makes the signed version of a zone; old is the signed one before it, or
// nil.
func (s *signer) sign(z *Zone, old, next *zone.Zone) (*zone.Zone, error) {
	k, err := s.key(next.Origin())
	if err != nil {
		return nil, err
	}
	p := dnssec.Policy{Algorithm: miekg.ED25519, SingleKey: true, NSEC3: z.NSEC3, Validity: signatureLife}
	now, err := dnssec.NewSigning(p, s.clock.Now(), k)
	if err != nil {
		return nil, err
	}
	signed, _, err := next.Sign(zone.SignOptions{Signing: now, Old: old, Scan: old != nil})
	return signed, err
}

// makeZones makes the zones of the world, signed where it says so: those below
// first, since the zone above needs their DS records.
func (l *Lab) makeZones() (map[string]*zone.Zone, error) {
	out := map[string]*zone.Zone{}
	order := make([]*Zone, len(l.world.Zones))
	for i := range l.world.Zones {
		order[i] = &l.world.Zones[i]
	}
	slices.SortStableFunc(order, func(a, b *Zone) int {
		return cmp.Compare(miekg.CountLabel(miekg.Fqdn(b.Name)), miekg.CountLabel(miekg.Fqdn(a.Name)))
	})
	for _, z := range order {
		made, err := l.makeZone(&l.world, z)
		if err != nil {
			return nil, fmt.Errorf("zone %s: %w", z.Name, err)
		}
		out[z.Name] = made
	}
	return out, nil
}

// makeZone makes one zone of a world.
func (l *Lab) makeZone(w *World, z *Zone) (*zone.Zone, error) {
	rrs, err := w.zoneRecords(z)
	if err != nil {
		return nil, err
	}
	for i := range w.Zones {
		below := &w.Zones[i]
		if !below.Signed || below.Undelegated || w.parent(below.Name) != z.Name {
			continue
		}
		ds, err := l.delegationSigner(below)
		if err != nil {
			return nil, err
		}
		rrs = append(rrs, ds)
	}
	made, err := zone.New(miekg.CanonicalName(z.Name), rrs)
	if err != nil || !z.Signed {
		return made, err
	}
	return l.signer.sign(z, nil, made)
}

// delegationSigner is the DS record of a zone for the zone above.
func (l *Lab) delegationSigner(z *Zone) (*miekg.DS, error) {
	k, err := l.signer.key(miekg.CanonicalName(z.Name))
	if err != nil {
		return nil, err
	}
	return k.DS(), nil
}

// anchors are the keys that the lab's resolvers trust: that of its root, if it is
// signed.
func (l *Lab) anchors() ([]miekg.RR, error) {
	for i := range l.world.Zones {
		if z := &l.world.Zones[i]; z.Name == "." && z.Signed {
			ds, err := l.delegationSigner(z)
			return []miekg.RR{ds}, err
		}
	}
	return nil, nil
}
