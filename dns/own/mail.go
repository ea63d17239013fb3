package own

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	miekg "github.com/miekg/dns"

	"postrider/mta"
)

// checkMX looks at where mail for the domain goes (RFC 5321 section 5.1).
func (c *checker) checkMX(ctx context.Context) {
	rrs, alias, err := c.lookup(ctx, c.o.Domain, miekg.TypeMX)
	if alias != "" {
		c.add(Warning, "mx", c.o.Domain, "", "the domain is an alias of %s: its mail addresses are rewritten by some senders (RFC 5321 section 2.3.5)", bare(alias))
	}
	switch {
	case unknown(err):
		c.add(Error, "mx", c.o.Domain, "postrider dns query "+bare(c.o.Domain)+" MX --trace", "its MX records could not be had: %v", err)
		return
	case err != nil:
		c.noMX(ctx, err)
		return
	}
	for _, rr := range rrs {
		if mx, ok := rr.(*miekg.MX); ok {
			c.mx = append(c.mx, mx)
		}
	}
	slices.SortStableFunc(c.mx, func(a, b *miekg.MX) int { return cmp.Compare(a.Preference, b.Preference) })
	if slices.ContainsFunc(c.mx, func(mx *miekg.MX) bool { return mx.Mx == "." }) {
		c.nullMX()
		return
	}
	if len(c.mx) > maxMX {
		c.add(Note, "mx", c.o.Domain, "", "only the first %d of %d mail exchangers are looked at", maxMX, len(c.mx))
		c.mx = c.mx[:maxMX]
	}
	well := true
	for _, mx := range c.mx {
		well = c.checkExchanger(ctx, mx) && well
	}
	if well {
		var names []string
		for _, mx := range c.mx {
			names = append(names, fmt.Sprintf("%d %s", mx.Preference, bare(mx.Mx)))
		}
		c.add(OK, "mx", c.o.Domain, "", "mail goes to %s", strings.Join(names, ", "))
	}
}

// noMX is a domain without MX records: its own addresses take its mail.
func (c *checker) noMX(ctx context.Context, why error) {
	if c.expects("MX") {
		return // checkExpected says so, with the record
	}
	if addrs, _, err := c.addressesOf(ctx, c.o.Domain); err == nil {
		c.add(Warning, "mx", c.o.Domain, fmt.Sprintf("publish: %s %d IN MX 10 %s", c.o.Domain, TTL, c.o.Domain),
			"has no MX record; mail goes to its own address %s (RFC 5321 section 5.1)", addrs[0])
		return
	}
	c.add(Error, "mx", c.o.Domain, fmt.Sprintf("publish: %s %d IN MX 10 and the name of the mail server, or MX 0 . when it takes no mail", c.o.Domain, TTL),
		"mail cannot reach it: %v, nor an address", why)
}

// nullMX is RFC 7505.
func (c *checker) nullMX() {
	switch {
	case len(c.mx) > 1:
		c.add(Error, "mx", c.o.Domain, "remove the record MX "+fmt.Sprint(c.mx[0].Preference)+" . or all others",
			"has a null MX beside other ones (RFC 7505 section 3)")
	case c.expects("MX"):
		// checkExpected names the record that is missing.
		c.add(Error, "mx", c.o.Domain, "remove the record MX "+fmt.Sprint(c.mx[0].Preference)+" .", "says that it takes no mail (null MX)")
	default:
		c.add(OK, "mx", c.o.Domain, "", "says that it takes no mail (null MX)")
	}
	c.mx = nil
}

func (c *checker) checkExchanger(ctx context.Context, mx *miekg.MX) (well bool) {
	host := miekg.CanonicalName(mx.Mx)
	if a, err := netip.ParseAddr(bare(host)); err == nil {
		c.add(Error, "mx", c.o.Domain, fmt.Sprintf("publish: %s %d IN MX %d and the name that has the address %s", c.o.Domain, TTL, mx.Preference, a),
			"the MX record names the address %s, and must name a host (RFC 5321 section 5.1)", a)
		return false
	}
	addrs, alias, err := c.addressesOf(ctx, host)
	well = true
	if alias != "" {
		well = false
		c.add(Error, "mx", c.o.Domain, fmt.Sprintf("publish: %s %d IN MX %d %s", c.o.Domain, TTL, mx.Preference, alias),
			"the mail exchanger %s is an alias, which no MX record may name (RFC 2181 section 10.3)", bare(host))
	}
	if err != nil {
		if !c.isOurs(host) { // else checkExpected names its addresses
			c.add(Error, "mx", host, fmt.Sprintf("publish: %s %d IN A and its address", host, TTL), "the mail exchanger has no address: %v", err)
		}
		return false
	}
	for _, a := range addrs {
		why := mta.NotPublic(a)
		if mta.Unreachable(a) {
			why = "an address that nobody can reach"
		}
		switch {
		case why == "":
		case c.o.Ours != nil && c.o.Ours.LoopbackOnly && c.isOurs(host):
			c.add(Note, "mx", host, "", "%s is %s: this server is for trial", a, why)
		default:
			well = false
			c.add(Error, "mx", host, fmt.Sprintf("publish its public address in place of %s", a), "%s is %s: no mail server of others can reach it", a, why)
		}
	}
	return well
}

func (c *checker) isOurs(host string) bool { return c.o.Ours != nil && c.o.Ours.Host == host }

// expects tells whether our server has a record of this type to publish.
func (c *checker) expects(typ string) bool {
	return c.o.Ours != nil && slices.ContainsFunc(c.o.Ours.Records(), func(r Record) bool { return r.Type == typ })
}

// rrset is what we expect under one name and type.
type rrset struct {
	name    string
	typ     uint16
	records []Record
}

// checkExpected compares what our server honours with what the world is told.
func (c *checker) checkExpected(ctx context.Context) {
	if c.o.Ours == nil {
		return
	}
	var sets []rrset
	for _, r := range c.o.Ours.Records() {
		typ := miekg.StringToType[r.Type]
		switch {
		case r.Place == Reverse, r.Place == Unknown, typ == miekg.TypeTXT, r.Place == Parent && typ != miekg.TypeDS:
			continue // checkPTR, checkSPF and checkParent; and what is not known cannot be compared
		}
		i := slices.IndexFunc(sets, func(s rrset) bool { return s.name == r.Name && s.typ == typ })
		if i < 0 {
			sets = append(sets, rrset{name: r.Name, typ: typ})
			i = len(sets) - 1
		}
		sets[i].records = append(sets[i].records, r)
	}
	for _, s := range sets {
		c.compare(ctx, s)
	}
}

// compare looks at one record set, as the resolver knows it and as the zone's
// own servers say now.
func (c *checker) compare(ctx context.Context, s rrset) {
	check := strings.ToLower(s.records[0].Type)
	seen, alias, err := c.lookup(ctx, s.name, s.typ)
	if unknown(err) {
		if s.typ != miekg.TypeMX { // checkMX has said so
			c.add(Warning, check, s.name, "postrider dns query "+bare(s.name)+" "+s.records[0].Type+" --trace", "could not be looked up: %v", err)
		}
		return
	}
	if now, ok := c.authoritative(ctx, s.name, s.typ); ok {
		if !equalSets(seen, now) {
			c.add(Note, check, s.name, "", "the resolver still has an older answer than the zone's own servers")
		}
		seen = now
	}
	if alias != "" && (s.typ == miekg.TypeA || s.typ == miekg.TypeAAAA) && s.name == c.o.Ours.Host {
		c.add(Warning, check, s.name, "", "the server's name is an alias of %s", bare(alias))
	}
	published := data(seen)
	well := true
	for _, r := range s.records {
		rr, err := r.RR()
		if err != nil || slices.Contains(published, dataOf(rr)) {
			continue
		}
		well = false
		c.missing(check, r)
	}
	well = c.judgeExtra(s, check, seen) && well
	if well && s.typ != miekg.TypeMX { // checkMX has said so
		c.add(OK, check, s.name, "", "is %s", strings.Join(published, ", "))
	}
}

// missing is a record of ours that the world does not know.
func (c *checker) missing(check string, r Record) {
	severity := Warning
	switch {
	case r.Type == "MX" || r.Type == "A" || r.Type == "AAAA":
		severity = Error
	case r.Type == "SRV" && strings.HasSuffix(r.Data, " ."), r.Type == "CAA":
		severity = Note // programs find out without
	case r.Type == "NS":
		severity = Error
	case r.Type == "TLSA" && !c.secure:
		severity = Note // it would not count
	}
	mend := publish(r)
	switch r.Place {
	case Served:
		mend = "this server serves it: let the zone above name this server (postrider dns records " + bare(c.o.Domain) + ")"
	case Parent:
		mend = fmt.Sprintf("have the zone above publish: %s %d IN %s %s", r.Name, r.TTL, r.Type, r.Data)
	}
	c.add(severity, check, r.Name, mend, "is missing: %s", r.About)
}

// judgeExtra tells of records beside ours.
func (c *checker) judgeExtra(s rrset, check string, seen []miekg.RR) (well bool) {
	well = true
	ours := make([]string, 0, len(s.records))
	for _, r := range s.records {
		if rr, err := r.RR(); err == nil {
			ours = append(ours, dataOf(rr))
		}
	}
	for _, rr := range seen {
		if slices.Contains(ours, dataOf(rr)) {
			continue
		}
		switch rr := rr.(type) {
		case *miekg.MX:
			if miekg.CanonicalName(rr.Mx) == c.o.Ours.Host || rr.Mx == "." { // with another preference; nullMX
				well = false
				continue
			}
			c.add(Note, check, s.name, "", "mail goes to %s, too: it must know how to pass it on", bare(rr.Mx))
		case *miekg.A, *miekg.AAAA:
			well = false
			c.add(Warning, check, s.name, "remove the record "+rr.Header().Name+" "+s.records[0].Type+" "+dataOf(rr)+", or let this server listen there",
				"has the address %s, which is not one of this server's", dataOf(rr))
		case *miekg.TLSA:
			if rr.Usage != 3 && rr.Usage != 2 {
				c.add(Note, check, s.name, "", "has a record with usage %d, which mail servers ignore (RFC 7672 section 3.1.3)", rr.Usage)
				continue
			}
			well = false
			c.add(Warning, check, s.name, "remove the record TLSA "+dataOf(rr), "has a record for a key that is not this server's: %.40s", dataOf(rr))
		case *miekg.SRV:
			well = false
			c.add(Warning, check, s.name, "remove the record SRV "+dataOf(rr), "mail programs are sent to %s port %d", bare(rr.Target), rr.Port)
		}
	}
	return well
}

// authoritative is what a server of the zone says now; false when none was
// asked or when the name is in another zone.
func (c *checker) authoritative(ctx context.Context, name string, typ uint16) ([]miekg.RR, bool) {
	if c.zone == "" || !miekg.IsSubDomain(c.zone, name) || name == c.zone && typ == miekg.TypeDS { // DS is the parent's
		return nil, false
	}
	for _, s := range c.servers {
		if s.err != nil {
			continue
		}
		one, cancel := context.WithTimeout(ctx, askTime)
		m, err := c.o.Asker.Ask(one, s.addr, name, typ)
		cancel()
		if err != nil || !m.Authoritative {
			continue
		}
		rrs, _, err := pick(m, name, typ)
		if err == nil || errors.Is(err, errNoName) || errors.Is(err, errNoRecord) {
			return rrs, true
		}
	}
	return nil, false
}

// dataOf is the data of a record in one spelling.
func dataOf(rr miekg.RR) string {
	same := miekg.Copy(rr)
	switch r := same.(type) {
	case *miekg.MX:
		r.Mx = miekg.CanonicalName(r.Mx)
	case *miekg.SRV:
		r.Target = miekg.CanonicalName(r.Target)
	case *miekg.PTR:
		r.Ptr = miekg.CanonicalName(r.Ptr)
	case *miekg.NS:
		r.Ns = miekg.CanonicalName(r.Ns)
	case *miekg.DS:
		r.Digest = strings.ToLower(r.Digest)
	case *miekg.TLSA:
		r.Certificate = strings.ToLower(r.Certificate)
	}
	return strings.TrimPrefix(same.String(), same.Header().String())
}

func data(rrs []miekg.RR) (list []string) {
	for _, rr := range rrs {
		list = append(list, dataOf(rr))
	}
	slices.Sort(list)
	return list
}

func equalSets(a, b []miekg.RR) bool { return slices.Equal(data(a), data(b)) }

// checkPTR looks at the names of our addresses, which receivers of mail compare
// with ours: each needs one that leads back to it (RFC 1912 section 2.1).
func (c *checker) checkPTR(ctx context.Context) {
	if c.o.Ours == nil {
		return
	}
	host := c.o.Ours.Host
	addrs := c.o.Ours.Addresses
	if len(addrs) == 0 {
		var err error
		if addrs, _, err = c.addressesOf(ctx, host); err != nil {
			return // its missing addresses are a finding already
		}
	}
	for _, a := range addrs {
		severity := Error
		if mta.NotPublic(a) != "" && c.o.Ours.LoopbackOnly {
			severity = Note // a trial: nobody gives such addresses names
		}
		c.checkReverse(ctx, a, host, severity)
	}
}

// checkReverse looks at the name of one address; severity is that of a wrong
// one.
func (c *checker) checkReverse(ctx context.Context, a netip.Addr, host string, severity Severity) {
	reverse, err := miekg.ReverseAddr(a.String())
	if err != nil {
		return // no address of the Internet
	}
	mend := fmt.Sprintf("ask where the address comes from for: %s IN PTR %s", reverse, host)
	rrs, _, err := c.lookup(ctx, reverse, miekg.TypePTR)
	if unknown(err) {
		if severity == Error {
			severity = Warning
		}
		c.add(severity, "ptr", a.String(), "postrider dns query "+a.String()+" --trace", "its name could not be looked up: %v", err)
		return
	}
	if err != nil {
		c.add(severity, "ptr", a.String(), mend, "has no name: %v; many servers refuse mail from such an address", err)
		return
	}
	var names []string
	for _, rr := range rrs {
		if ptr, ok := rr.(*miekg.PTR); ok {
			names = append(names, miekg.CanonicalName(ptr.Ptr))
		}
	}
	if !slices.Contains(names, host) {
		c.add(severity, "ptr", a.String(), mend, "has the name %s, and this server says %s", join(names), bare(host))
		return
	}
	addrs, _, err := c.addressesOf(ctx, host)
	if err != nil || !slices.Contains(addrs, a) {
		c.add(Error, "ptr", a.String(), fmt.Sprintf("publish: %s %d IN %s %s", host, TTL, addressType(a), a), "its name %s does not lead back to it", bare(host))
		return
	}
	c.add(OK, "ptr", a.String(), "", "has the name %s, which leads back to it", bare(host))
}
