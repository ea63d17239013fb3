package zone

import (
	"slices"

	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

// maxExtra bounds the additional section: what does not fit a message, or costs
// more than it helps, is left out.
const maxExtra = 256

// target is the name whose addresses are useful with a record: those of name
// servers (RFC 1034 section 4.3.2), mail exchangers (RFC 1035 section 3.3.9),
// services (RFC 2782), and the like. It is "" for other records.
// A service binding may mean its owner, which is another where a wildcard is
// expanded.
func target(rr miekg.RR, owner string) string {
	switch rr := rr.(type) {
	case *miekg.NS:
		return rr.Ns
	case *miekg.MX:
		return rr.Mx
	case *miekg.SRV:
		return rr.Target
	case *miekg.SVCB:
		return service(rr, owner)
	case *miekg.HTTPS:
		return service(&rr.SVCB, owner)
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
func service(rr *miekg.SVCB, owner string) string {
	if rr.Target == "." && rr.Priority != 0 {
		return owner
	}
	return rr.Target
}

// additional adds the addresses, in this zone, of the hosts that a set names, and
// to service bindings those of their targets (RFC 9460 section 4.1).
func (a *answering) additional(s *rrset, owner string) {
	for _, rr := range s.records(false) {
		if len(a.r.Extra) >= maxExtra {
			return
		}
		t := target(rr, owner)
		if t == "" {
			continue
		}
		var l labels
		if t = names.Canonical(t); t == "" || !l.split(t) || l.below(a.z.origin, a.z.labels) < 0 {
			continue
		}
		n, _ := a.z.raw(&l)
		if n == nil {
			a.expanded(&l, s.typ)
			continue
		}
		a.include(n.data(miekg.TypeA))
		a.include(n.data(miekg.TypeAAAA))
		if s.typ == miekg.TypeSVCB || s.typ == miekg.TypeHTTPS {
			a.include(n.data(s.typ))
		}
	}
}

// expanded adds what a wildcard gives to a host, named by records of type by, that
// does not exist itself.
func (a *answering) expanded(l *labels, by uint16) {
	n, _, p := a.z.search(l, l.n-a.z.labels, miekg.TypeA)
	if p != missing {
		return
	}
	w := n.kids.get("*")
	if w == nil {
		return
	}
	types := [...]uint16{miekg.TypeA, miekg.TypeAAAA, by}
	useful := types[:2]
	if by == miekg.TypeSVCB || by == miekg.TypeHTTPS {
		useful = types[:]
	}
	for _, typ := range useful {
		s := w.data(typ)
		if s == nil || slices.ContainsFunc(a.r.Extra, func(rr miekg.RR) bool {
			return rr.Header().Name == l.name && rr.Header().Rrtype == typ
		}) {
			continue
		}
		a.r.Extra = join(a.r.Extra, synthesise(l.name, s.records(a.o.DNSSEC)))
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
