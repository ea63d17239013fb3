package lab

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
	"postrider/dns/recursor"
	"postrider/dns/server"
	"postrider/internal/journey"
	"postrider/internal/wire"
)

// nameServer is a name server of the lab: the dns service on a host's sockets.
type nameServer struct {
	server   *server.Server
	streams  *wire.Server
	resolver *recursor.Resolver // of a resolver; nil: authoritative alone
	door     *door
	settings server.Settings
}

const (
	nameHot   = 256 << 10 // octets of answers kept ready by each
	nameCache = 4 << 20   // octets of each resolver's cache
	nameEnd   = time.Second
	nameZones = 1000 // whose place in the chain of trust a resolver remembers
)

// startNames starts all name servers: those that have zones, then, since they have
// to know the root's key, the resolvers.
func (l *Lab) startNames() error {
	start := func(resolvers bool) error {
		for _, m := range l.machines {
			if m.names == nil || (m.host.Kind == KindResolver) != resolvers {
				continue
			}
			if err := m.startNameServer(); err != nil {
				return fmt.Errorf("%s: %w", m.host.Name, err)
			}
		}
		return nil
	}
	if err := start(false); err != nil {
		return err
	}
	if err := l.serveZones(); err != nil {
		return err
	}
	return start(true)
}

// The key that those have who may change dynamic zones: anybody in the lab.
const (
	UpdateKeyName      = "lab."
	UpdateKeyAlgorithm = "hmac-sha256"
)

// UpdateKey is the secret of that key, in base64. The lab is a place to try
// things out: it is no secret.
func UpdateKey() string {
	mac := hmac.New(sha256.New, []byte("postrider lab"))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// everywhere is the lab's network.
var everywhere = netip.MustParsePrefix("127.0.0.0/8")

// primaryConfig is how the primary serves a zone.
func (l *Lab) primaryConfig(z *Zone) server.ZoneConfig {
	c := server.ZoneConfig{Name: miekg.CanonicalName(z.Name), Sign: z.policy(), AllowTransfer: server.ACL{Networks: l.nearby()}}
	for _, h := range l.secondaries(z) {
		c.Notify = append(c.Notify, server.Remote{Addr: netip.AddrPortFrom(h.Address, 53).String()})
	}
	if z.Dynamic {
		c.AllowUpdate = server.ACL{Keys: []string{UpdateKeyName}}
	}
	return c
}

// nearby has the networks whose hosts may ask for everything.
func (l *Lab) nearby() []netip.Prefix {
	if l.o.Listen != "" {
		return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	}
	return []netip.Prefix{everywhere}
}

// secondaries are the hosts that serve a zone as secondaries, replicas included.
func (l *Lab) secondaries(z *Zone) []*Host {
	w := l.World()
	var out []*Host
	for i := range w.Hosts {
		h := &w.Hosts[i]
		if slices.Contains(z.Secondary, h.Name) || h.ReplicaOf != "" && (h.ReplicaOf == z.Primary || slices.Contains(z.Secondary, h.ReplicaOf)) {
			out = append(out, h)
		}
	}
	return out
}

// serveSecondaries has the secondaries of a zone transfer it.
func (l *Lab) serveSecondaries(z *Zone) error {
	primary, ok := l.World().Host(z.Primary)
	if !ok {
		return fmt.Errorf("zone %s: there is no host %q", z.Name, z.Primary)
	}
	for _, h := range l.secondaries(z) {
		m, err := l.machine(h.Name)
		if err != nil {
			return err
		}
		c := server.ZoneConfig{Name: miekg.CanonicalName(z.Name), AllowTransfer: server.ACL{Networks: l.nearby()},
			Primaries: []server.Remote{{Addr: netip.AddrPortFrom(primary.Address, 53).String()}}}
		if err := m.serveZone(c, nil); err != nil {
			return fmt.Errorf("zone %s at %s: %w", z.Name, h.Name, err)
		}
	}
	return nil
}

// startNameServer runs the dns service of a host.
func (m *machine) startNameServer() error {
	l, h := m.lab, m.host
	key, err := server.ParseKey(UpdateKeyName, UpdateKeyAlgorithm, UpdateKey())
	if err != nil {
		return err
	}
	ns := &nameServer{settings: server.Settings{Keys: []*server.Key{key}, RateLimit: server.RateLimit{PerSecond: h.RateLimit}}}
	signed := slices.ContainsFunc(l.World().Zones, func(z Zone) bool { return z.Signed && z.Primary == h.Name })
	dir := ""
	if signed || l.o.Keep != "" {
		dir = m.dir()
	}
	o := server.Options{Dir: dir, HotOctets: nameHot, Clock: l.clock, Dial: l.network.dialer(h),
		Journey: journey.New(journey.Options{Node: h.Name, Clock: l.clock, Parent: l.journey})}
	switch {
	case h.Kind == KindResolver:
		if ns.resolver, err = l.newResolver(h); err != nil {
			return err
		}
		o.Recursor, ns.settings.Recursion = ns.resolver, l.nearby()
	case l.chained() != nil:
		o.Recursor, ns.settings.Recursion = &chain{lab: l, machine: m}, l.chained()
	}
	if ns.server, err = server.New(o); err != nil {
		return err
	}
	if err := ns.server.Configure(ns.settings); err != nil {
		return err
	}
	m.server = ns
	if err := ns.server.ServePacket(&packetDoor{UDPConn: m.names.udp, network: l.network, host: h}); err != nil {
		return err
	}
	ns.streams = wire.NewServer(wire.ServerOptions{Clock: l.clock})
	ns.door = newDoor(l.network, h, m.names.port, m.names.tcp, func() {})
	ns.streams.Serve(ns.door, ns.server.Protocol("dns", nil))
	return nil
}

// close ends the service.
func (ns *nameServer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), nameEnd)
	defer cancel()
	_ = ns.streams.Shutdown(ctx) // an error tells that connections were cut
	ns.server.Close()
	if ns.resolver != nil {
		ns.resolver.Close()
	}
	ns.door.Close()
}

// newResolver makes the recursive part of a resolver.
func (l *Lab) newResolver(h *Host) (*recursor.Resolver, error) {
	hints, err := recursor.ReadHints(strings.NewReader(l.world.hints()), "the lab's root")
	if err != nil {
		return nil, err
	}
	var validator *dnssec.Validator
	anchors, err := l.anchors()
	if err == nil && anchors != nil && !h.Trusting && !h.Chained {
		validator, err = dnssec.New(dnssec.Options{Anchors: anchors, Clock: l.clock, Zones: nameZones})
	}
	if err != nil {
		return nil, err
	}
	return recursor.New(recursor.Options{
		Hints: hints, Validator: validator, Chained: h.Chained, Local: []netip.Prefix{everywhere}, NoIPv6: true, CacheBytes: nameCache,
		Dial: l.network.dialer(h), Clock: l.clock, Observe: l.observer(h),
	})
}

// cache is what the resolver of the machine remembers.
func (m *machine) cache() []CacheEntry {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := []CacheEntry{}
	if m.server == nil || m.server.resolver == nil {
		return out
	}
	for _, r := range m.server.resolver.Snapshot(maxTable) {
		out = append(out, CacheEntry{Name: r.Name, Type: r.Type, Rank: r.Rank, Data: r.Data, TTL: Duration(r.TTL), Left: Duration(r.Left),
			Security: r.Security, Zone: r.Zone, Server: r.Server, Hits: r.Hits})
	}
	slices.SortFunc(out, func(a, b CacheEntry) int { return strings.Compare(a.Name+" "+a.Type, b.Name+" "+b.Type) })
	return out
}

func (m *machine) flushCache() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.server == nil || m.server.resolver == nil {
		return fmt.Errorf("%s is no resolver", m.host.Name)
	}
	m.server.resolver.Flush(".")
	return nil
}

// packetDoor is the UDP socket of a name server: what is lost on the way does not
// come through, and somebody on the way may answer first.
type packetDoor struct {
	*net.UDPConn
	network *network
	host    *Host
}

// ReadFrom waits for a datagram that gets through.
func (d *packetDoor) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		size, addr, err := d.UDPConn.ReadFrom(p)
		if err != nil {
			return size, addr, err
		}
		n := d.network
		n.busy.Add(1)
		from := n.caller(addrPort(addr))
		n.mu.Lock()
		w := n.wayLocked(from, d.host)
		if from == nil {
			t := n.trips[[2]string{"", d.host.Name}]
			t.RoundTrips, t.Sent = t.RoundTrips+1, t.Sent+size
			n.trips[[2]string{"", d.host.Name}] = t
		}
		n.mu.Unlock()
		if w.down || from == nil && w.loss > 0 && n.chance(w.loss) {
			continue
		}
		if from != nil { // the lab's own connections have seen to the rest
			return size, net.UDPAddrFromAddrPort(netip.AddrPortFrom(from.Address, addrPort(addr).Port())), nil
		}
		if answer, by := forge(w.tamper, p[:size]); answer != nil {
			n.mu.Lock()
			n.spendLocked(by.ID)
			n.mu.Unlock()
			_, _ = d.UDPConn.WriteTo(answer, addr)
			continue
		}
		return size, addr, nil
	}
}

// WriteTo answers a host of the lab where it really is, and a program outside when
// the answer would come there.
func (d *packetDoor) WriteTo(p []byte, addr net.Addr) (int, error) {
	n := d.network
	real := n.real(addrPort(addr))
	if n.caller(real) == nil {
		n.mu.Lock()
		rtt := n.wayLocked(nil, d.host).rtt
		n.mu.Unlock()
		if rtt > 0 {
			d.later(p, addr, rtt)
			return len(p), nil
		}
	}
	return d.UDPConn.WriteTo(p, net.UDPAddrFromAddrPort(real))
}
