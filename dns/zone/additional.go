package zone

import miekg "github.com/miekg/dns"

// maxExtra bounds the additional section: what does not fit a message, or costs
// more than it helps, is left out.
const maxExtra = 256

// target is the name whose addresses are useful with a record: those of name
// servers (RFC 1034 section 4.3.2), mail exchangers (RFC 1035 section 3.3.9),
// services (RFC 2782), and the like. It is "" for other records.
func target(rr miekg.RR) string {
	switch rr := rr.(type) {
	case *miekg.NS:
		return rr.Ns
	case *miekg.MX:
		return rr.Mx
	case *miekg.SRV:
		return rr.Target
	case *miekg.SVCB:
		return service(rr)
	case *miekg.HTTPS:
		return service(&rr.SVCB)
	case *miekg.AFSDB:
		return rr.Hostname
	case *miekg.KX:
		return rr.Exchanger
	case *miekg.RT:
		return rr.Host
	}
	return ""
}

// service is the host of a service binding: "." means its owner, but in an
// alias it means that there is no service (RFC 9460 section 2.5).
func service(rr *miekg.SVCB) string {
	if rr.Target == "." && rr.Priority != 0 {
		return rr.Hdr.Name
	}
	return rr.Target
}

// additional adds the addresses, in this zone, of the hosts that a set names.
func (a *answering) additional(s *rrset) {
	for _, rr := range s.records(false) {
		if len(a.r.Extra) >= maxExtra {
			return
		}
		t := target(rr)
		if t == "" {
			continue
		}
		var l labels
		if t = canonical(t); t == "" || !l.split(t) || l.below(a.z.origin, a.z.labels) < 0 {
			continue
		}
		n, _ := a.z.raw(&l)
		if n == nil {
			continue
		}
		a.include(n.data(miekg.TypeA))
		a.include(n.data(miekg.TypeAAAA))
	}
}

// include adds a set that no section has yet.
func (a *answering) include(s *rrset) {
	if s == nil || has(a.r.Extra, s.all[0]) || has(a.r.Answer, s.all[0]) {
		return
	}
	a.r.Extra = join(a.r.Extra, s.records(a.o.DNSSEC))
}

func has(list []miekg.RR, rr miekg.RR) bool {
	for _, r := range list {
		if r == rr {
			return true
		}
	}
	return false
}
