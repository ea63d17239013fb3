package own

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

// nameserver is one name server of the zone, and what it says at one address.
type nameserver struct {
	name   string
	addr   netip.Addr
	serial uint32
	ns     []string // sorted
	err    error    // it is lame, or does not answer
}

// checkZone finds the zone that the domain is in, and compares what its parent
// and its own servers say about it (RFC 1034 section 4.2.2, RFC 1912 section
// 2.8).
func (c *checker) checkZone(ctx context.Context) {
	apex, err := c.apex(ctx, c.o.Domain)
	switch {
	case err != nil && !unknown(err):
		c.gone = true
		c.add(Error, "zone", c.o.Domain, "register it, or add it to the zone above", "the domain does not exist in the DNS")
		return
	case err != nil && c.deaf(ctx):
		c.gone = true
		return
	case err != nil:
		c.add(Error, "zone", c.o.Domain, "postrider dns query "+bare(c.o.Domain)+" SOA --trace", "its zone could not be found: %v", err)
		return
	}
	c.zone = apex
	rrs, _, err := c.lookup(ctx, apex, miekg.TypeNS)
	if err != nil {
		c.add(Error, "zone", apex, "publish an NS record for each name server in the zone", "the zone's NS records: %v", err)
		return
	}
	child := nsNames(rrs)
	c.add(OK, "zone", apex, "", "has the name servers %s", join(child))
	if len(child) < 2 {
		c.add(Note, "zone", apex, "", "one name server is all there is: when it is down, mail waits and the domain cannot be found (RFC 1034 section 4.1)")
	}
	c.servers = c.askServers(ctx, child)
	c.judgeServers()
	if apex != "." {
		c.checkParent(ctx, apex, child)
	}
}

// apex is the zone of a name, by the SOA record of an answer about it.
func (c *checker) apex(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	a, err := c.o.Asker.Resolve(ctx, name, miekg.TypeSOA)
	if err != nil {
		return "", err
	}
	if _, alias, _ := pick(a.Msg, name, miekg.TypeSOA); alias != "" && name != "." {
		return c.apex(ctx, names.Parent(name)) // an alias is no apex, and all else is of its target
	}
	for _, rr := range append(slices.Clone(a.Answer), a.Ns...) {
		owner := miekg.CanonicalName(rr.Header().Name)
		if _, ok := rr.(*miekg.SOA); !ok || !miekg.IsSubDomain(owner, name) {
			continue
		}
		if a.Rcode == miekg.RcodeNameError {
			return owner, errNoName
		}
		return owner, nil
	}
	if a.Rcode == miekg.RcodeNameError {
		return "", errNoName
	}
	return "", fmt.Errorf("%w: %s without an SOA record", errNoAnswer, rcode(a.Rcode))
}

// nsNames are the names in NS records, sorted.
func nsNames(rrs []miekg.RR) (names []string) {
	for _, rr := range rrs {
		if ns, ok := rr.(*miekg.NS); ok {
			names = append(names, miekg.CanonicalName(ns.Ns))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func join(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = bare(n)
	}
	return strings.Join(out, ", ")
}

// askServers asks each server of the zone, at each of its addresses, what it
// says about the zone.
func (c *checker) askServers(ctx context.Context, names []string) (list []nameserver) {
	if len(names) > maxServers {
		c.add(Note, "zone", c.zone, "", "only the first %d name servers are looked at", maxServers)
		names = names[:maxServers]
	}
	for _, name := range names {
		addrs, alias, err := c.addressesOf(ctx, name)
		if alias != "" {
			c.add(Error, "delegation", c.zone, fmt.Sprintf("name the server itself: publish: %s IN NS %s", c.zone, alias),
				"the name server %s is an alias, which no NS record may name (RFC 2181 section 10.3)", bare(name))
		}
		if err != nil {
			list = append(list, nameserver{name: name, err: fmt.Errorf("its address: %w", err)})
			continue
		}
		for _, a := range addrs {
			list = append(list, nameserver{name: name, addr: a})
		}
	}
	var wg sync.WaitGroup
	for i := range list {
		if list[i].err == nil {
			wg.Go(func() { c.askServer(ctx, &list[i]) })
		}
	}
	wg.Wait()
	return list
}

// askServer fills in what one server says.
func (c *checker) askServer(ctx context.Context, s *nameserver) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	for _, typ := range []uint16{miekg.TypeSOA, miekg.TypeNS} {
		m, err := c.o.Asker.Ask(ctx, s.addr, c.zone, typ)
		if err != nil {
			s.err = err
			return
		}
		rrs, _, err := pick(m, c.zone, typ)
		switch {
		case err != nil:
			s.err = err
			return
		case !m.Authoritative:
			s.err = fmt.Errorf("its answer is not authoritative")
			return
		case typ == miekg.TypeNS:
			s.ns = nsNames(rrs)
		default:
			if soa, ok := rrs[0].(*miekg.SOA); ok {
				s.serial = soa.Serial
			}
		}
	}
}

// judgeServers tells which servers do not serve the zone, and whether those
// that do agree.
func (c *checker) judgeServers() {
	var good []nameserver
	for _, s := range c.servers {
		if s.err == nil {
			good = append(good, s)
		}
	}
	if len(good) == 0 && len(c.servers) > 0 {
		mend := "publish the addresses of its name servers"
		if a := c.servers[0].addr; a.IsValid() {
			mend = "postrider dns query " + bare(c.zone) + " SOA --no-recursion --server " + a.String()
		}
		c.add(Warning, "delegation", c.zone, mend,
			"none of its name servers answers us directly (%s: %v); what follows is the resolver's word alone", bare(c.servers[0].name), c.servers[0].err)
		return
	}
	for _, s := range c.servers {
		if s.err != nil {
			c.add(Error, "delegation", c.zone, "let that server serve the zone, or remove its NS record here and at the parent",
				"the name server %s (%s) does not serve it: %v", bare(s.name), serverText(s), s.err)
		}
	}
	same := true
	for _, s := range good[1:] {
		if s.serial != good[0].serial {
			same = false
			c.add(Warning, "delegation", c.zone, "see why the transfer to the one with the older serial fails",
				"%s has serial %d and %s has %d", bare(good[0].name), good[0].serial, bare(s.name), s.serial)
		}
		if !slices.Equal(s.ns, good[0].ns) {
			same = false
			c.add(Warning, "delegation", c.zone, "let all of them serve the same version of the zone",
				"%s names the servers %s, and %s names %s", bare(good[0].name), join(good[0].ns), bare(s.name), join(s.ns))
		}
	}
	if same {
		at := make([]string, len(good))
		for i, s := range good {
			at[i] = s.addr.String()
		}
		c.add(OK, "delegation", c.zone, "", "its name servers at %s answer with authority and with serial %d", strings.Join(at, ", "), good[0].serial)
	}
}

func serverText(s nameserver) string {
	if !s.addr.IsValid() {
		return "without address"
	}
	return s.addr.String()
}

// checkParent compares the delegation with the zone.
func (c *checker) checkParent(ctx context.Context, apex string, child []string) {
	parent, err := c.apex(ctx, names.Parent(apex))
	if err != nil && parent == "" {
		c.add(Note, "delegation", apex, "", "the zone above could not be found: %v", err)
		return
	}
	m, from, err := c.askParent(ctx, parent, apex)
	if err != nil {
		c.add(Note, "delegation", apex, "", "the zone above, %s, could not be asked: %v", parent, err)
		return
	}
	rrs := m.Ns
	if got, _, err := pick(m, apex, miekg.TypeNS); err == nil {
		rrs = got // the same server serves both zones
	}
	atParent := nsNames(slices.DeleteFunc(slices.Clone(rrs), func(rr miekg.RR) bool { return miekg.CanonicalName(rr.Header().Name) != apex }))
	if len(atParent) == 0 {
		c.add(Error, "delegation", apex, fmt.Sprintf("have NS records put into %s: %s", parent, join(child)), "the zone above, %s, does not delegate it (says %s)", parent, from)
		return
	}
	same := true
	for _, n := range atParent {
		if !slices.Contains(child, n) {
			same = false
			c.add(Warning, "delegation", apex, fmt.Sprintf("publish: %s %d IN NS %s, or have it removed from %s", apex, TTL, n, parent),
				"the zone above names the server %s, and the zone itself does not", bare(n))
		}
	}
	for _, n := range child {
		if !slices.Contains(atParent, n) {
			same = false
			c.add(Warning, "delegation", apex, fmt.Sprintf("have NS %s put into %s, or remove it from the zone", n, parent),
				"the zone names the server %s, and the zone above does not", bare(n))
		}
	}
	if c.checkGlue(m, apex, parent, atParent) && same {
		c.add(OK, "delegation", apex, "", "the zone above, %s, names the same servers", parent)
	}
}

// askParent asks the servers of the zone above, one after the other, for the
// delegation.
func (c *checker) askParent(ctx context.Context, parent, apex string) (m *miekg.Msg, from netip.Addr, err error) {
	rrs, _, err := c.lookup(ctx, parent, miekg.TypeNS)
	if err != nil {
		return nil, from, err
	}
	err = errNoAnswer
	tries := 0
	for _, name := range nsNames(rrs) {
		addrs, _, e := c.addressesOf(ctx, name)
		if e != nil {
			err = e
		}
		for _, a := range addrs {
			if tries++; tries > 3 {
				return nil, from, err
			}
			one, cancel := context.WithTimeout(ctx, askTime)
			m, e := c.o.Asker.Ask(one, a, apex, miekg.TypeNS)
			cancel()
			switch {
			case e != nil:
				err = e
			case m.Rcode != miekg.RcodeSuccess && m.Rcode != miekg.RcodeNameError:
				err = fmt.Errorf("%s says %s", a, rcode(m.Rcode))
			default:
				return m, a, nil
			}
		}
	}
	return nil, from, err
}

// checkGlue compares the addresses that come with a delegation with those that
// the zone itself has for its servers; it is true when all is well.
func (c *checker) checkGlue(m *miekg.Msg, apex, parent string, names []string) bool {
	if m.Authoritative {
		return true // parent and child are one server: it sends no glue
	}
	well := true
	for _, n := range names {
		if !miekg.IsSubDomain(apex, n) {
			continue
		}
		var glue []netip.Addr
		for _, rr := range m.Extra {
			if a, ok := address(rr); ok && miekg.CanonicalName(rr.Header().Name) == n {
				glue = append(glue, a)
			}
		}
		var own []netip.Addr
		for _, s := range c.servers {
			if s.name == n && s.addr.IsValid() {
				own = append(own, s.addr)
			}
		}
		if len(glue) == 0 {
			well = false
			c.add(Error, "delegation", apex, fmt.Sprintf("have the addresses of %s put into %s beside its NS record", bare(n), parent),
				"the zone above gives no address of %s, which is in the zone itself: nobody can reach it (glue, RFC 1034 section 4.2.1)", bare(n))
			continue
		}
		for _, a := range glue {
			if len(own) > 0 && !slices.Contains(own, a) {
				well = false
				c.add(Error, "delegation", apex, fmt.Sprintf("have the address of %s in %s changed to %s", bare(n), parent, own[0]),
					"the zone above says that %s has the address %s, and the zone says %s", bare(n), a, own[0])
			}
		}
	}
	return well
}

// checkSecurity tells what DNSSEC says of the zone.
func (c *checker) checkSecurity(ctx context.Context) {
	if c.zone == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	a, err := c.o.Asker.Resolve(ctx, c.zone, miekg.TypeSOA)
	if err != nil {
		c.add(Warning, "dnssec", c.zone, "postrider dns query "+bare(c.zone)+" SOA --dnssec", "could not be looked at: %v", err)
		return
	}
	switch a.Security {
	case "secure":
		c.secure = true
		c.add(OK, "dnssec", c.zone, "", "the zone is signed, and its signatures hold")
	case "insecure":
		c.add(Note, "dnssec", c.zone, "", "the zone is not signed: its records can be forged, and TLSA records do not count")
	case "bogus":
		c.add(Error, "dnssec", c.zone, "postrider dns query "+bare(c.zone)+" SOA --trace --dnssec", "its signatures do not hold, and who validates does not find the domain: %s", a.Why)
	case "indeterminate":
		c.add(Note, "dnssec", c.zone, "", "nobody knows whether it should be signed: %s", a.Why)
	}
}
