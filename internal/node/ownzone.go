package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns"
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
const ownLook = time.Minute

// parentLook spaces the questions to the zones above.
const parentLook = time.Hour

// ownZones keeps the zones of our own records current. The version that is
// served is the name server's, and durable there; only what is needed to decide
// whether to make another one is here.
type ownZones struct {
	n        *Node
	resolver *dns.Resolver
	kick     chan struct{} // a look is wanted now

	mu    sync.Mutex
	own   Own
	rings map[string]*dnssec.Ring
	due   map[string]time.Time // when signatures or keys want to be looked at
	said  map[string]string    // the last error of each zone, as it was logged
	asked time.Time            // when the zones above were last asked
}

func newOwnZones(n *Node) (*ownZones, error) {
	resolver, err := n.newResolver("")
	if err != nil {
		return nil, err
	}
	return &ownZones{n: n, resolver: resolver, kick: make(chan struct{}, 1), own: n.options.DNS.Own, rings: map[string]*dnssec.Ring{}, due: map[string]time.Time{}, said: map[string]string{}}, nil
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
		o.askParents(ctx)
		t := o.n.options.Clock.NewTimer(ownLook)
		select {
		case <-t.Chan():
		case <-o.kick:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return
		}
		o.refresh(ctx)
	}
}

// askParents tells the keys which of them the zone above names, by which a key
// that takes over from another one knows that its time has come.
func (o *ownZones) askParents(ctx context.Context) {
	o.mu.Lock()
	rings := maps.Clone(o.rings)
	now := o.n.options.Clock.Now()
	if !o.own.Sign || now.Sub(o.asked) < parentLook {
		rings = nil
	} else {
		o.asked = now
	}
	o.mu.Unlock()
	for name, ring := range rings {
		a, err := o.resolver.Query(ctx, name, dns.Type(miekg.TypeDS))
		if err != nil || a.Message().Rcode != miekg.RcodeSuccess {
			continue // another time
		}
		var seen []*miekg.DS
		for _, rr := range a.Message().Answer {
			if ds, ok := rr.(*miekg.DS); ok && miekg.CanonicalName(ds.Hdr.Name) == name {
				seen = append(seen, ds)
			}
		}
		if err := ring.ParentDS(seen); err != nil {
			o.n.log.Error("keep what the zone above says of our keys", "zone", name, "err", err)
		}
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
	now := o.n.options.Clock.Now()
	serial := uint32(now.Unix())
	if have != nil {
		serial = have.Serial()
	}
	plain, err := o.plainLocked(ctx, name, serial)
	if err != nil {
		return err
	}
	next := plain
	if have != nil {
		if next, err = follow(have, plain, now); err != nil {
			return err
		}
	}
	switch {
	case o.own.Sign && (next != have || !now.Before(o.due[name])):
		next, err = o.signLocked(name, next, have)
	case !o.own.Sign && have != nil && have.Signed():
		next, err = withSerial(plain, later(have.Serial(), now))
	}
	if err != nil || next == have {
		return err
	}
	if err := o.n.dns.Publish(next); err != nil {
		return err
	}
	o.n.log.Info("our own zone has changed", "zone", name, "serial", next.Serial(), "records", next.Len())
	return nil
}

// plainLocked makes the zone without signatures.
func (o *ownZones) plainLocked(ctx context.Context, name string, serial uint32) (*zone.Zone, error) {
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
		if ring := o.rings[name]; o.own.Sign && ring != nil {
			for _, ds := range ring.DS() {
				z.DS = append(z.DS, fmt.Sprintf("%d %d %d %s", ds.KeyTag, ds.Algorithm, ds.DigestType, ds.Digest))
			}
			if len(z.DS) == 0 { // its signatures have to be known everywhere first
				z.Wait = strings.Join(ring.Advice(), "; ")
			}
		}
		list = append(list, z)
	}
	return list
}

func (o *ownZones) ringLocked(name string) (*dnssec.Ring, error) {
	if r := o.rings[name]; r != nil {
		return r, nil
	}
	dir := filepath.Join(o.n.options.DataDir, "dns", "keys", fileName(name))
	// The longest TTL is that of our own records; what own_records adds may stay
	// longer in caches, which matters to a zone that was served unsigned before.
	policy := dnssec.Policy{KeyTTL: own.TTL * time.Second, MaxTTL: own.TTL * time.Second, Propagation: time.Minute}
	if len(o.own.Servers) > 1 {
		policy.Propagation = time.Hour // until the others have it
	}
	r, err := dnssec.OpenRing(dir, name, policy, dnssec.RingOptions{Clock: o.n.options.Clock})
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", name, err)
	}
	o.rings[name] = r
	return r, nil
}

// fileName is a zone's name as that of a folder.
func fileName(zone string) string {
	var b []byte
	for _, c := range []byte(zone) {
		if c == '/' || c == '\\' || c < '!' || c > '~' {
			b = fmt.Appendf(b, "%%%02x", c)
			continue
		}
		b = append(b, c)
	}
	return string(b)
}

// signLocked signs next, which was made from have.
func (o *ownZones) signLocked(name string, next, have *zone.Zone) (*zone.Zone, error) {
	ring, err := o.ringLocked(name)
	if err != nil {
		return nil, err
	}
	signing, again, err := ring.Step()
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", name, err)
	}
	signed, due, err := next.Sign(zone.SignOptions{Signing: signing, Old: have, Scan: true})
	if err != nil {
		return nil, err
	}
	if due.IsZero() || !again.IsZero() && again.Before(due) {
		due = again
	}
	o.due[name] = due
	if have != nil && zone.Between(have, signed).Empty() {
		return have, nil
	}
	return signed, nil
}

// follow is the version after have that says what plain says; have itself when
// that says so already.
func follow(have, plain *zone.Zone, now time.Time) (*zone.Zone, error) {
	var rrs []miekg.RR
	for rr := range have.All() {
		if !ofSigner(rr.Header().Rrtype) {
			rrs = append(rrs, rr)
		}
	}
	bare, err := zone.New(have.Origin(), rrs)
	if err != nil {
		return nil, err
	}
	diff := zone.Between(bare, plain)
	if diff.Empty() {
		return have, nil
	}
	to := *plain.SOA()
	to.Serial = later(have.Serial(), now)
	diff.From, diff.To = have.SOA(), &to
	return have.Apply(diff)
}

// ofSigner tells the types that signing adds.
func ofSigner(typ uint16) bool {
	switch typ {
	case miekg.TypeRRSIG, miekg.TypeNSEC, miekg.TypeNSEC3, miekg.TypeNSEC3PARAM, miekg.TypeDNSKEY, miekg.TypeCDS, miekg.TypeCDNSKEY:
		return true
	}
	return false
}

// later is a serial behind another one: the time, so that it goes on growing
// after everything here was lost (RFC 1982).
func later(serial uint32, now time.Time) uint32 {
	if t := uint32(now.Unix()); int32(t-serial) > 0 {
		return t
	}
	return serial + 1
}

func withSerial(z *zone.Zone, serial uint32) (*zone.Zone, error) {
	var rrs []miekg.RR
	for rr := range z.All() {
		if soa, ok := rr.(*miekg.SOA); ok {
			other := *soa
			other.Serial = serial
			rr = &other
		}
		rrs = append(rrs, rr)
	}
	return zone.New(z.Origin(), rrs)
}
