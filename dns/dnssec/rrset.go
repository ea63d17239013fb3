package dnssec

import (
	"slices"

	"github.com/miekg/dns"
)

// rrset is the records of one name, class and type in one section of a message,
// with the signatures over them.
type rrset struct {
	name  string // canonical
	typ   uint16
	class uint16
	rrs   []dns.RR // headers carry name as it is written here
	sigs  []*dns.RRSIG
}

// groupSets makes sets of the records of a section, in the order in which each
// set is first seen. Pseudo-records are left out, and so are signatures over
// nothing.
func groupSets(section []dns.RR) []*rrset {
	type key struct {
		name       string
		typ, class uint16
	}
	var list []*rrset
	index := make(map[key]*rrset)
	for _, rr := range section {
		h := rr.Header()
		if h.Rrtype == dns.TypeRRSIG || h.Rrtype == dns.TypeOPT {
			continue
		}
		k := key{dns.CanonicalName(h.Name), h.Rrtype, h.Class}
		s := index[k]
		if s == nil {
			s = &rrset{name: k.name, typ: k.typ, class: k.class}
			index[k] = s
			list = append(list, s)
		}
		if h.Name != k.name { // a set is verified under one spelling of its name
			rr = dns.Copy(rr)
			rr.Header().Name = k.name
		}
		s.rrs = append(s.rrs, rr)
	}
	for _, rr := range section {
		sig, ok := rr.(*dns.RRSIG)
		if !ok {
			continue
		}
		k := key{dns.CanonicalName(sig.Hdr.Name), sig.TypeCovered, sig.Hdr.Class}
		if s := index[k]; s != nil {
			if sig.Hdr.Name != k.name {
				sig = dns.Copy(sig).(*dns.RRSIG)
				sig.Hdr.Name = k.name
			}
			s.sigs = append(s.sigs, sig)
		}
	}
	return list
}

// find returns the set of a name and type, or nil.
func find(sets []*rrset, name string, typ uint16) *rrset {
	for _, s := range sets {
		if s.name == name && s.typ == typ {
			return s
		}
	}
	return nil
}

// signers are the zones that claim to have signed the set and may have: those
// at or above its name; for DS strictly above, for keys and SOA the name itself
// (RFC 4035 section 5.3.1). Deepest first, each once.
func (s *rrset) signers() []string {
	var list []string
	for _, sig := range s.sigs {
		name := dns.CanonicalName(sig.SignerName)
		if s.signedBy(name) && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	slices.SortFunc(list, func(a, b string) int { return dns.CountLabel(b) - dns.CountLabel(a) })
	return list
}

// signedBy says that a zone of that name can have this set.
func (s *rrset) signedBy(zone string) bool {
	switch s.typ {
	case dns.TypeDS:
		return above(zone, s.name)
	case dns.TypeDNSKEY, dns.TypeSOA, dns.TypeNSEC3PARAM, dns.TypeCDS, dns.TypeCDNSKEY:
		return zone == s.name
	}
	return dns.IsSubDomain(zone, s.name)
}

// expandable says that the set may have come from a wildcard. Most of those of
// the protocol itself never do: a key or a zone cut that is spread over many names
// would say things that its zone never said (RFC 4592 section 4). NSEC records do,
// as answers, but prove nothing then.
func (s *rrset) expandable() bool {
	switch s.typ {
	case dns.TypeNSEC3, dns.TypeNSEC3PARAM, dns.TypeDNSKEY, dns.TypeDS, dns.TypeSOA, dns.TypeNS, dns.TypeDNAME:
		return false
	}
	return true
}

// ttl is the least TTL of the records, in seconds.
func (s *rrset) ttl() uint32 {
	least := s.rrs[0].Header().Ttl
	for _, rr := range s.rrs[1:] {
		least = min(least, rr.Header().Ttl)
	}
	return least
}
