package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
	"postrider/dns/server"
	"postrider/dns/zone"
	"postrider/internal/journey"
)

// signatureLife is how long the lab's signatures hold. Their servers make new ones
// in time; this is for a jump of the clock that is longer than any.
const signatureLife = maxJump + 60*24*time.Hour

// policy is how a zone of the lab is signed.
func (z *Zone) policy() *dnssec.Policy {
	if !z.Signed {
		return nil
	}
	return &dnssec.Policy{Algorithm: miekg.ED25519, SingleKey: true, NSEC3: z.NSEC3, Validity: signatureLife}
}

// serveZones has the primaries serve their zones: those below first, since the
// zone above needs their DS records, and those of one depth at once, since each
// waits for the disk.
func (l *Lab) serveZones() error {
	w := l.World()
	depths := map[int][]*Zone{}
	for i := range w.Zones {
		z := &w.Zones[i]
		n := miekg.CountLabel(miekg.Fqdn(z.Name))
		depths[n] = append(depths[n], z)
	}
	for _, n := range slices.Backward(slices.Sorted(maps.Keys(depths))) {
		if err := each(depths[n], func(z *Zone) error {
			if err := l.servePrimary(w, z); err != nil {
				return fmt.Errorf("zone %s: %w", z.Name, err)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for i := range w.Zones {
		if err := l.serveSecondaries(&w.Zones[i]); err != nil {
			return err
		}
	}
	return nil
}

// each does something to all of a list at once.
func each[T any](list []T, do func(T) error) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, one := range list {
		wg.Go(func() { errs[i] = do(one) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// servePrimary makes a zone and has its primary serve and sign it. A version that
// an earlier run left in the same folder stays.
func (l *Lab) servePrimary(w *World, z *Zone) error {
	m, err := l.machine(z.Primary)
	if err != nil {
		return err
	}
	rrs, err := w.zoneRecords(z)
	if err != nil {
		return err
	}
	for _, below := range w.delegated(z) {
		if !below.Signed {
			continue
		}
		ds, err := l.delegationSigners(below)
		if err != nil {
			return err
		}
		rrs = append(rrs, ds...)
	}
	made, err := zone.New(miekg.CanonicalName(z.Name), rrs)
	if err != nil {
		return err
	}
	return m.serveZone(l.primaryConfig(z), made)
}

// served is a zone as one of its servers has it now.
func (l *Lab) served(z *Zone, host string) (*zone.Zone, error) {
	m, err := l.machine(host)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	ns := m.server
	m.mu.Unlock()
	if ns == nil {
		return nil, fmt.Errorf("%s serves no zone", host)
	}
	return ns.server.Zone(miekg.CanonicalName(z.Name))
}

// spread waits until the secondaries of a zone have what its primary has, and names
// one that does not get it in time: because it is down, perhaps.
func (l *Lab) spread(ctx context.Context, z *Zone) (late string, err error) {
	ctx, cancel := context.WithTimeout(ctx, spreadPatience)
	defer cancel()
	f := l.journey.Follow(journey.Filter{})
	defer f.Close()
	for {
		first, err := l.served(z, z.Primary)
		if err != nil {
			return "", err
		}
		late = ""
		for _, h := range l.secondaries(z) {
			if copied, err := l.served(z, h.Name); err != nil || copied.Serial() != first.Serial() {
				late = h.Name
			}
		}
		if late == "" || l.moment(ctx, f) != nil {
			return late, nil
		}
	}
}

// spreadPatience is how long a registration waits for the secondaries.
const spreadPatience = 5 * time.Second

// delegationSigners are the DS records of a zone for the zone above, of the keys
// that it serves.
func (l *Lab) delegationSigners(z *Zone) ([]miekg.RR, error) {
	now, err := l.served(z, z.Primary)
	if err != nil {
		return nil, err
	}
	var out []miekg.RR
	for _, rr := range now.Find(now.Origin(), miekg.TypeDNSKEY) {
		if k := rr.(*miekg.DNSKEY); k.Flags&miekg.SEP != 0 {
			ds := k.ToDS(miekg.SHA256)
			if ds == nil {
				return nil, fmt.Errorf("a key of %s has no DS record", z.Name)
			}
			out = append(out, ds)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s is not signed", z.Name)
	}
	return out, nil
}

// anchors are the keys that the lab's resolvers trust: those of its root, if it is
// signed.
func (l *Lab) anchors() ([]miekg.RR, error) {
	w := l.World()
	for i := range w.Zones {
		if z := &w.Zones[i]; z.Name == "." && z.Signed {
			return l.delegationSigners(z)
		}
	}
	return nil, nil
}

const (
	hintsFile   = "root.hints"  // the lab's root servers
	anchorsFile = "root.anchor" // DS records of the lab's root
)

// writeRoot leaves in the lab's folder what a resolver outside of it begins with:
// the root servers and, if the root is signed, its keys.
func (l *Lab) writeRoot() error {
	if err := os.WriteFile(filepath.Join(l.dir, hintsFile), []byte(l.world.hints()), 0o644); err != nil {
		return err
	}
	anchors, err := l.anchors()
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, rr := range anchors {
		fmt.Fprintln(&b, rr)
	}
	return os.WriteFile(filepath.Join(l.dir, anchorsFile), []byte(b.String()), 0o644)
}

// serveZone adds a zone to those that the machine serves; z is nil for a
// secondary.
func (m *machine) serveZone(c server.ZoneConfig, z *zone.Zone) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	ns := m.server
	if ns == nil {
		return errors.New("it is no name server")
	}
	settings := ns.settings
	settings.Zones = append(slices.DeleteFunc(slices.Clone(settings.Zones), func(o server.ZoneConfig) bool { return o.Name == c.Name }), c)
	if err := ns.server.Configure(settings); err != nil {
		return err
	}
	ns.settings = settings
	if z == nil {
		return nil
	}
	if _, err := ns.server.Zone(z.Origin()); err == nil {
		return nil
	}
	return ns.server.Publish(z)
}
