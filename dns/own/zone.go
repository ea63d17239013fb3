package own

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	miekg "github.com/miekg/dns"
)

// Zone is a zone with our own records that the server serves itself and keeps
// current: the zone of a domain, or a part that its zone delegates to us.
type Zone struct {
	Name    string       // canonical
	Servers []NameServer // at least one; the first is the primary
	// DS are the records that the zone above needs, as their data; none: the zone
	// is not signed, or Wait says why it is too early.
	DS   []string
	Wait string
}

// NameServer is one of a zone.
type NameServer struct {
	Name string // canonical
	// Addresses are needed of a server whose name is in the zone, unless it is
	// ourselves.
	Addresses []netip.Addr
}

// The times of an SOA record, in seconds: how often a secondary asks, how soon
// again, how long it goes on alone, and how long it is believed that something
// does not exist (RFC 1912 section 2.2, RFC 2308 section 5).
const (
	soaRefresh, soaRetry, soaExpire, soaMinimum = 3600, 900, 1209600, 300
	// maxExtra bounds a file of more records, in octets.
	maxExtra = 16 << 20
)

// inZones says of each record whether a zone that we serve ourselves has it, and
// adds what has to be published elsewhere to delegate those zones.
func (d *Domain) inZones(list []Record) []Record {
	for i, r := range list {
		for _, z := range d.Zones {
			if miekg.IsSubDomain(z.Name, r.Name) && r.Place != Unknown {
				list[i].Place = Served
			}
		}
	}
	for _, z := range d.Zones {
		place := InZone // a part of the domain, which its zone delegates
		if z.Name == d.Name || !miekg.IsSubDomain(d.Name, z.Name) {
			place = Parent
		}
		for _, s := range z.Servers {
			list = append(list, Record{z.Name, TTL, "NS", s.Name, place, "this server answers for the names below"})
			if !miekg.IsSubDomain(z.Name, s.Name) {
				continue
			}
			for _, a := range d.addressesOfServer(s) {
				list = append(list, Record{s.Name, TTL, addressType(a), a.String(), place, "the name server's address (glue)"})
			}
		}
		if len(z.DS) == 0 && z.Wait != "" {
			list = append(list, Record{z.Name, TTL, "DS", "(not yet)", Unknown, z.Wait})
		}
		for _, ds := range z.DS {
			list = append(list, Record{z.Name, TTL, "DS", ds, place, "the key that the zone is signed with"})
		}
	}
	return list
}

func (d *Domain) addressesOfServer(s NameServer) []netip.Addr {
	if len(s.Addresses) == 0 && s.Name == d.Host {
		return d.Addresses
	}
	return s.Addresses
}

func addressType(a netip.Addr) string {
	if a.Is6() {
		return "AAAA"
	}
	return "A"
}

// Records are those of the zone: its SOA and NS records, what the domains have in
// it, and more. An error says what is missing.
func (z Zone) Records(serial uint32, domains []*Domain, more []miekg.RR) ([]miekg.RR, error) {
	if len(z.Servers) == 0 {
		return nil, fmt.Errorf("zone %s: it has no name server", z.Name)
	}
	contact := z.Name
	if len(domains) > 0 {
		contact = domains[0].Name
	}
	list := []Record{{z.Name, TTL, "SOA", fmt.Sprintf("%s postmaster.%s %d %d %d %d %d", z.Servers[0].Name, strings.TrimPrefix(contact, "."), serial,
		soaRefresh, soaRetry, soaExpire, soaMinimum), InZone, ""}}
	for _, s := range z.Servers {
		list = append(list, Record{z.Name, TTL, "NS", s.Name, InZone, ""})
		for _, a := range s.Addresses {
			list = append(list, Record{s.Name, TTL, addressType(a), a.String(), InZone, ""})
		}
	}
	for _, d := range domains {
		for _, r := range d.Records() {
			if r.Place != Unknown && r.Place != Parent && r.Type != "NS" && r.Type != "DS" {
				list = append(list, r)
			}
		}
	}
	var out []miekg.RR
	for _, r := range list {
		if !miekg.IsSubDomain(z.Name, r.Name) {
			continue
		}
		rr, err := r.RR()
		if err != nil {
			return nil, err
		}
		out = append(out, rr)
	}
	return z.complete(out, more)
}

// complete adds more records, those of the zone's own apex excepted, and sees
// that each name server in the zone has an address.
func (z Zone) complete(list, more []miekg.RR) ([]miekg.RR, error) {
	for _, rr := range more {
		h := rr.Header()
		name := miekg.CanonicalName(h.Name)
		if !miekg.IsSubDomain(z.Name, name) || h.Rrtype == miekg.TypeSOA || h.Rrtype == miekg.TypeNS && name == z.Name {
			continue
		}
		list = append(list, rr)
	}
	for _, s := range z.Servers {
		if miekg.IsSubDomain(z.Name, s.Name) && !slices.ContainsFunc(list, func(rr miekg.RR) bool {
			_, ok := address(rr)
			return ok && miekg.CanonicalName(rr.Header().Name) == s.Name
		}) {
			return nil, fmt.Errorf("zone %s: the address of its name server %s is not known: give it in [dns] own_addresses, or behind its name in own_servers", z.Name, s.Name)
		}
	}
	return list, nil
}

// ReadMore reads a file with more records for a zone, in the form of zone files;
// names are relative to the zone.
func ReadMore(r io.Reader, zone, file string) (list []miekg.RR, err error) {
	limited := &io.LimitedReader{R: r, N: maxExtra + 1}
	p := miekg.NewZoneParser(limited, zone, file)
	p.SetDefaultTTL(TTL)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		list = append(list, rr)
	}
	if err := p.Err(); err != nil {
		return nil, err
	}
	if limited.N == 0 {
		return nil, errors.New("it has more than 16 MiB")
	}
	return list, nil
}
