package dnssec

import (
	"github.com/miekg/dns"
)

// anchors are the trusted keys by zone.
type anchors struct {
	configured map[string][]dns.RR
}

func openAnchors(rrs []dns.RR) (*anchors, error) {
	a := &anchors{configured: make(map[string][]dns.RR)}
	for _, rr := range rrs {
		rr = dns.Copy(rr)
		if err := checkAnchor(rr); err != nil {
			return nil, err
		}
		name := rr.Header().Name
		a.configured[name] = append(a.configured[name], rr)
	}
	return a, nil
}

// closestAnchor is the deepest zone at or above name that has an anchor.
func (v *Validator) closestAnchor(name string) (zone string, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for {
		if len(v.anchors.configured[name]) > 0 {
			return name, true
		}
		if name == "." {
			return "", false
		}
		name = parent(name)
	}
}

// anchorsOf are the keys of a zone that are trusted now.
func (v *Validator) anchorsOf(zone string) []dns.RR {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.anchors.configured[zone]
}
