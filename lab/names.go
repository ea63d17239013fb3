package lab

import (
	"fmt"
	"strings"
	"time"

	miekg "github.com/miekg/dns"
)

// defaultTTL is the TTL of records that say none.
const defaultTTL = 5 * time.Minute

// zoneRecords makes a zone: its SOA and NS records, addresses of the hosts that
// have their names in it, delegations to the zones below with glue where that is
// needed, pointers if it is for the way back, and the lines of the world file.
func (w *World) zoneRecords(z *Zone) ([]miekg.RR, error) {
	origin := miekg.CanonicalName(z.Name)
	ttl := time.Duration(z.TTL)
	if ttl == 0 {
		ttl = defaultTTL
	}
	header := func(name string, t uint16) miekg.RR_Header {
		return miekg.RR_Header{Name: name, Rrtype: t, Class: miekg.ClassINET, Ttl: uint32(ttl / time.Second)}
	}
	rrs := []miekg.RR{&miekg.SOA{Hdr: header(origin, miekg.TypeSOA), Ns: miekg.Fqdn(z.Primary), Mbox: "hostmaster." + strings.TrimPrefix(origin, "."),
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 432000, Minttl: uint32(min(ttl, time.Hour) / time.Second)}}
	if origin == "." {
		rrs[0].(*miekg.SOA).Mbox = "hostmaster.root-servers.net."
	}
	servers := func(owner string, z *Zone) {
		for _, s := range append([]string{z.Primary}, z.Secondary...) {
			rrs = append(rrs, &miekg.NS{Hdr: header(owner, miekg.TypeNS), Ns: miekg.Fqdn(s)})
		}
	}
	address := func(h *Host) {
		rrs = append(rrs, &miekg.A{Hdr: header(miekg.CanonicalName(h.Name), miekg.TypeA), A: h.Address.AsSlice()})
	}
	servers(origin, z)
	reachable := map[string]bool{} // name servers of the zones below
	for _, below := range w.delegated(z) {
		servers(miekg.CanonicalName(below.Name), below)
		for _, s := range append([]string{below.Primary}, below.Secondary...) {
			reachable[s] = true
		}
	}
	for i := range w.Hosts {
		h := &w.Hosts[i]
		switch home := w.enclosing(h.Name); {
		case origin == "in-addr.arpa.":
			reverse, err := miekg.ReverseAddr(h.Address.String())
			if err != nil {
				return nil, err
			}
			rrs = append(rrs, &miekg.PTR{Hdr: header(reverse, miekg.TypePTR), Ptr: miekg.Fqdn(h.Name)})
		// Glue is the address of a name server that lives in a zone below, or
		// nobody could reach it (RFC 1034 section 4.2.1).
		case home == z.Name, reachable[h.Name] && within(home, z.Name):
			address(h)
		}
	}
	p := miekg.NewZoneParser(strings.NewReader(z.Records), origin, "")
	p.SetDefaultTTL(uint32(ttl / time.Second))
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		rrs = append(rrs, rr)
	}
	return rrs, p.Err()
}

// delegated are the zones directly below a zone that it refers to.
func (w *World) delegated(z *Zone) []*Zone {
	var out []*Zone
	for i := range w.Zones {
		if below := &w.Zones[i]; !below.Undelegated && below.Name != "." && within(below.Name, z.Name) && w.parent(below.Name) == z.Name {
			out = append(out, below)
		}
	}
	return out
}

// within tells whether a name is another one or below it. Both are as the lab
// writes them, where a dot alone is the root.
func within(name, above string) bool {
	return above == "." || name == above || strings.HasSuffix(name, above) && name[len(name)-len(above)-1] == '.'
}

// enclosing is the zone of the world that a name is in; "" = none.
func (w *World) enclosing(name string) string {
	best := ""
	for i := range w.Zones {
		if z := w.Zones[i].Name; within(name, z) && len(z) >= len(best) {
			best = z
		}
	}
	return best
}

// parent is the zone above a zone; "" = none.
func (w *World) parent(zone string) string {
	if zone == "." {
		return ""
	}
	_, above, _ := strings.Cut(zone, ".")
	if above == "" {
		return w.enclosing(".")
	}
	return w.enclosing(above)
}

// hints are the root servers, as a resolver knows them before it asked anybody.
func (w *World) hints() string {
	var b strings.Builder
	for i := range w.Zones {
		if w.Zones[i].Name != "." {
			continue
		}
		for _, s := range append([]string{w.Zones[i].Primary}, w.Zones[i].Secondary...) {
			if h, ok := w.Host(s); ok {
				fmt.Fprintf(&b, ". 3600000 NS %s\n%s 3600000 A %s\n", miekg.Fqdn(s), miekg.Fqdn(s), h.Address)
			}
		}
	}
	return b.String()
}
