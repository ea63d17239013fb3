package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
	"postrider/dns/own"
	dnsserver "postrider/dns/server"
	"postrider/dns/zone"
)

// Own says which zones of our own records the name server serves and keeps
// current.
type Own struct {
	Zones     []string // canonical
	Servers   []own.NameServer
	Addresses []netip.Addr // of this server; none: those of its interfaces
	Files     []string     // with more records for the zones
	Sign      bool
}

// zone describes a zone without its keys.
func (o *Own) zone(name, hostname string) own.Zone {
	z := own.Zone{Name: name, Servers: o.Servers}
	if len(z.Servers) == 0 {
		z.Servers = []own.NameServer{{Name: miekg.CanonicalName(hostname)}}
	}
	return z
}

// ownLook spaces the looks at what the records are made of: certificates are
// renewed and addresses change without a word to us.
const ownLook = 10 * time.Minute

// ownZones keeps the zones of our own records current. The version that is
// served is the name server's, and durable there; only what is needed to decide
// whether to make another one is here.
type ownZones struct {
	n    *Node
	kick chan struct{} // a look is wanted now

	mu   sync.Mutex
	own  Own
	said map[string]string // the last error of each zone, as it was logged
}

func newOwnZones(n *Node) *ownZones {
	return &ownZones{n: n, kick: make(chan struct{}, 1), own: n.options.DNS.Own, said: map[string]string{}}
}

// look wants the zones to be looked at soon.
func (o *ownZones) look() {
	if o == nil {
		return
	}
	select {
	case o.kick <- struct{}{}:
	default: // one look is enough
	}
}

// set replaces what is served.
func (o *ownZones) set(to Own) {
	o.mu.Lock()
	o.own = to
	o.mu.Unlock()
	o.look()
}

// run looks at the zones, now and then and when it is wanted, until ctx ends.
func (o *ownZones) run(ctx context.Context) {
	if o == nil {
		return
	}
	for {
		o.mu.Lock()
		none := len(o.own.Zones) == 0
		o.mu.Unlock()
		t := o.n.options.Clock.NewTimer(ownLook)
		due := t.Chan()
		if none {
			t.Stop()
			due = nil
		}
		select {
		case <-due:
		case <-o.kick:
		case <-ctx.Done():
			t.Stop()
			return
		}
		t.Stop()
		o.refresh(ctx)
	}
}

// refresh makes a new version of each zone that is not as it should be. What
// cannot be made is logged once, and the version that is served stays.
func (o *ownZones) refresh(ctx context.Context) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, name := range o.own.Zones {
		err := o.refreshZoneLocked(ctx, name)
		if ctx.Err() != nil {
			return
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != o.said[name] && err != nil {
			o.n.log.Error("our own zone cannot be made; the last version stays", "zone", name, "err", err)
		}
		o.said[name] = text
	}
}

func (o *ownZones) refreshZoneLocked(ctx context.Context, name string) error {
	have, err := o.n.dns.Zone(name)
	if err != nil && !errors.Is(err, dnsserver.ErrNoZone) {
		return err
	}
	serial := uint32(o.n.options.Clock.Now().Unix())
	if have != nil {
		serial = later(have.Serial(), serial)
	}
	next, err := o.makeLocked(ctx, name, serial)
	if err != nil || have != nil && have.Says(next) && (o.own.Sign || !have.Signed()) {
		return err
	}
	if err := o.n.dns.Publish(next); err != nil {
		return err
	}
	o.n.log.Info("our own zone has changed", "zone", name, "records", next.Len())
	return nil
}

// makeLocked makes a version without signatures.
func (o *ownZones) makeLocked(ctx context.Context, name string, serial uint32) (*zone.Zone, error) {
	domains, err := o.n.Directory.Domains(ctx)
	if err != nil {
		return nil, err
	}
	z := o.own.zone(name, o.n.options.Hostname)
	var list []*own.Domain
	for _, d := range domains {
		described, err := o.n.describe(d, nil, o.own)
		if err != nil {
			return nil, err
		}
		list = append(list, described)
	}
	slices.SortStableFunc(list, func(a, b *own.Domain) int { return related(b.Name, name) - related(a.Name, name) })
	var more []miekg.RR
	for _, path := range o.own.Files {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("dns.own_records: %w", err)
		}
		rrs, err := own.ReadMore(f, name, path)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("dns.own_records: %w", err)
		}
		more = append(more, rrs...)
	}
	rrs, err := z.Records(serial, list, more)
	if err != nil {
		return nil, err
	}
	return zone.New(name, rrs)
}

// related is 1 for a domain that is in a zone, or above it.
func related(domain, zone string) int {
	if miekg.IsSubDomain(zone, domain) || miekg.IsSubDomain(domain, zone) {
		return 1
	}
	return 0
}

// described are the zones as a domain's records name them.
func (o *ownZones) described() (list []own.Zone) {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, name := range o.own.Zones {
		z := o.own.zone(name, o.n.options.Hostname)
		keys, advice, err := o.n.dns.Keys(name)
		for _, ds := range keys {
			z.DS = append(z.DS, fmt.Sprintf("%d %d %d %s", ds.KeyTag, ds.Algorithm, ds.DigestType, ds.Digest))
		}
		if err == nil && len(keys) == 0 { // the zone's signatures have to be known everywhere first
			z.Wait = strings.Join(advice, "; ")
		}
		list = append(list, z)
	}
	return list
}

// config is a zone as the name server knows it.
func (o *Own) config(name string) dnsserver.ZoneConfig {
	c := dnsserver.ZoneConfig{Name: name}
	if o.Sign {
		// The longest TTL is that of our own records; what own_records adds may
		// stay longer in caches, which matters to a zone that was served unsigned.
		c.Sign = &dnssec.Policy{KeyTTL: own.TTL * time.Second, MaxTTL: own.TTL * time.Second, Propagation: time.Minute}
		if len(o.Servers) > 1 {
			c.Sign.Propagation = time.Hour // until the others have it
		}
	}
	return c
}

// later is a serial behind have: the time, if it is, so that it goes on growing
// after everything here was lost (RFC 1982).
func later(have, now uint32) uint32 {
	if zone.SerialLess(have, now) {
		return now
	}
	return zone.NextSerial(have)
}
