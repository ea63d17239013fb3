package server

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	miekg "github.com/miekg/dns"
)

// Settings is what may change while a server runs.
type Settings struct {
	Zones []ZoneConfig
	Keys  []*Key
	// Recursion has the networks whose clients get answers about all names;
	// others get those of our zones alone.
	Recursion []netip.Prefix
	RateLimit RateLimit
	// Minimal leaves out of answers what was not asked for and is not needed.
	Minimal bool
	// FixedOrder turns the rotation of address records off.
	FixedOrder bool
	// LocalZones answers clients with recursion about localhost and the
	// reverse zones of private addresses from here (RFC 6761, RFC 6303), as
	// far as Zones has none of them: such questions tell nobody outside
	// anything but what our networks look like.
	LocalZones bool
	// MaxUDP is the size of the largest datagram that we send and take; 0 =
	// 1232 octets.
	MaxUDP int
}

// ACL is who may do something: whose address is in one of the networks, or who
// signs with one of the keys.
type ACL struct {
	Networks []netip.Prefix
	Keys     []string // names
}

// allows decides about a request that was signed with a key; nil: not signed.
func (a ACL) allows(from netip.Addr, key *Key) bool {
	return contains(a.Networks, from) || key != nil && slices.Contains(a.Keys, key.Name)
}

// Remote is another name server.
type Remote struct {
	Addr string // "192.0.2.1:53"
	Key  string // the name of the key that we sign with; "" = none
}

// setup is one version of the settings. It never changes.
type setup struct {
	Settings
	zones   map[string]*served
	local   map[string]*served // LocalZones
	keys    map[string]*Key
	limiter *limiter
	rotate  bool
}

func newSetup(o Settings) *setup {
	if o.MaxUDP == 0 {
		o.MaxUDP = defaultMaxUDP
	}
	o.MaxUDP = min(max(o.MaxUDP, minUDP), largestUDP)
	o.Zones = slices.Clone(o.Zones) // check writes to them
	u := &setup{Settings: o, zones: map[string]*served{}, keys: map[string]*Key{}, rotate: !o.FixedOrder}
	for _, k := range o.Keys {
		u.keys[k.Name] = k
	}
	u.limiter = newLimiter(o.RateLimit)
	return u
}

// find returns the zone that a question is about: the closest one above its
// name. The type DS is found above the zone of its name, where we have both
// (RFC 4035 section 3.1.4.1).
func find(zones map[string]*served, name string, typ uint16) *served {
	if len(zones) == 0 {
		return nil
	}
	var apex *served
	for off, end := 0, false; !end; off, end = miekg.NextLabel(name, off) {
		z := zones[name[off:]]
		if z == nil {
			continue
		}
		if off == 0 && typ == miekg.TypeDS && name != "." {
			apex = z
			continue
		}
		return z
	}
	if z := zones["."]; z != nil {
		return z
	}
	return apex
}

// Configure replaces the settings: all of them, or none where an error says
// what is wrong. Zones whose configuration did not change go on as they are;
// but the files of primary zones are read again.
func (s *Server) Configure(o Settings) error {
	s.configure.Lock()
	defer s.configure.Unlock()
	if s.base.Err() != nil {
		return errClosed
	}
	old, next := s.setup.Load(), newSetup(o)
	if err := next.check(); err != nil {
		return err
	}
	var errs []error
	for i := range next.Zones {
		c := &next.Zones[i]
		z, err := s.open(c, old.zones[c.Name])
		if err != nil {
			errs = append(errs, fmt.Errorf("zone %s: %w", shown(c.Name), err))
			continue
		}
		next.zones[c.Name] = z
	}
	if len(errs) > 0 {
		for name, z := range next.zones {
			if old.zones[name] != z {
				z.stop()
			}
		}
		for _, z := range old.zones {
			z.freeze(false)
		}
		return errors.Join(errs...)
	}
	if next.limiter != nil && old.limiter != nil && next.limiter.PerSecond == old.limiter.PerSecond {
		next.limiter.seed, next.limiter.shards = old.limiter.seed, old.limiter.shards // a reload pardons nobody
	}
	if next.LocalZones && s.recursor != nil {
		next.local = localZones(next.zones)
	}
	s.setup.Store(next)
	for name, z := range old.zones {
		if next.zones[name] != z {
			z.stop()
		}
	}
	for i := range next.Zones {
		next.zones[next.Zones[i].Name].commit(&next.Zones[i])
	}
	return nil
}

// Reload reads the files of primary zones again. An error names each that could
// not be read, and goes on as it was.
func (s *Server) Reload() error {
	s.configure.Lock()
	defer s.configure.Unlock()
	if s.base.Err() != nil {
		return errClosed
	}
	var errs []error
	for _, z := range s.setup.Load().zones {
		if err := z.reload(z.conf()); err != nil {
			errs = append(errs, fmt.Errorf("zone %s: %w", shown(z.name), err))
		}
	}
	return errors.Join(errs...)
}

// check finds what no server can do.
func (u *setup) check() error {
	var errs []error
	seen := map[string]bool{}
	for i := range u.Zones {
		c := &u.Zones[i]
		fail := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("zone %s: %w", shown(c.Name), fmt.Errorf(format, args...)))
		}
		if _, ok := miekg.IsDomainName(c.Name); !ok || c.Name == "" {
			fail("not a domain name")
		}
		c.Name = miekg.CanonicalName(c.Name)
		if seen[c.Name] {
			fail("is there twice")
		}
		seen[c.Name] = true
		for _, list := range [][]Remote{c.Primaries, c.Notify} {
			for _, r := range list {
				if _, err := netip.ParseAddrPort(r.Addr); err != nil {
					fail("%q is not an address with a port, such as 192.0.2.1:53", r.Addr)
				}
				if r.Key != "" && u.keys[miekg.CanonicalName(r.Key)] == nil {
					fail("there is no key %s", r.Key)
				}
			}
		}
		for _, list := range []*ACL{&c.AllowTransfer, &c.AllowUpdate} {
			list.Keys = slices.Clone(list.Keys)
			for j, name := range list.Keys {
				if list.Keys[j] = miekg.CanonicalName(name); u.keys[list.Keys[j]] == nil {
					fail("there is no key %s", name)
				}
			}
		}
	}
	return errors.Join(errs...)
}

// shown is a zone's name for people.
func shown(name string) string {
	if len(name) > 1 && name[len(name)-1] == '.' {
		return name[:len(name)-1]
	}
	return name
}
