package own

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"blitiri.com.ar/go/spf"
	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

const (
	// maxSPFTerms is how many terms of a record may ask the DNS (RFC 7208
	// section 4.6.4).
	maxSPFTerms = 10
	// maxSPFWalk bounds what is counted of a record that has more.
	maxSPFWalk = 40
)

// checkSPF looks at the policies of the domain, and of the server's own name,
// which the empty sender of bounces is judged by (RFC 7208 section 2.3).
func (c *checker) checkSPF(ctx context.Context) {
	names := []string{c.o.Domain}
	if c.o.Ours != nil && c.o.Ours.Host != c.o.Domain {
		names = append(names, c.o.Ours.Host)
	}
	for _, name := range names {
		c.checkPolicy(ctx, name)
	}
}

func (c *checker) checkPolicy(ctx context.Context, name string) {
	texts, err := c.texts(ctx, name)
	if unknown(err) {
		c.add(Warning, "spf", name, "postrider dns query "+bare(name)+" TXT --trace", "could not be looked up: %v", err)
		return
	}
	policies := slices.DeleteFunc(texts, func(s string) bool { return !isSPF(s) })
	switch len(policies) {
	case 0:
		severity := Warning
		if c.o.Ours != nil && name != c.o.Domain {
			severity = Note
		}
		c.add(severity, "spf", name, c.spfToPublish(name), "has no SPF record: anybody may use its name as a sender")
		return
	case 1:
	default:
		c.add(Error, "spf", name, "make one record of them", "has %d SPF records, and must have one (RFC 7208 section 3.2): %q", len(policies), policies)
		return
	}
	policy := policies[0]
	terms, err := parseSPF(policy)
	if err != nil {
		c.add(Error, "spf", name, c.spfToPublish(name), "%q: %v (RFC 7208 section 4.6)", policy, err)
		return
	}
	w := &spfWalk{c: c}
	w.walk(ctx, name, terms)
	if w.err != nil {
		c.add(Error, "spf", name, "mend or remove that term", "%q: %v", policy, w.err)
		return
	}
	if w.lookups > maxSPFTerms {
		c.add(Error, "spf", name, "leave out what nobody sends from, or write networks (ip4:, ip6:) in place of include: and a:",
			"asks the DNS in %s terms, and %d are the most (RFC 7208 section 4.6.4): receivers take it for broken", w.count(), maxSPFTerms)
		return
	}
	well := c.checkTerms(name, policy, terms)
	well = c.evaluate(ctx, name, policy) && well
	if well {
		c.add(OK, "spf", name, "", "%q, with %d of %d terms that ask the DNS", policy, w.lookups, maxSPFTerms)
	}
}

// spfToPublish is our own policy for a name; else one to begin with.
func (c *checker) spfToPublish(name string) string {
	if c.o.Ours != nil {
		for _, r := range c.o.Ours.Records() {
			if r.Type == "TXT" && r.Name == name {
				return publish(r)
			}
		}
	}
	return fmt.Sprintf(`publish: %s %d IN TXT "v=spf1 mx -all"`, name, TTL)
}

// checkTerms tells of what is allowed and unwise.
func (c *checker) checkTerms(name, policy string, terms []spfTerm) (well bool) {
	well = true
	for i, t := range terms {
		switch {
		case t.name == "ptr":
			c.add(Note, "spf", name, "", "%q uses ptr, which is slow and should not be used (RFC 7208 section 5.5)", policy)
		case t.name == "all" && t.qualifier == '+':
			well = false
			c.add(Error, "spf", name, c.spfToPublish(name), "%q lets everybody send in its name", policy)
		case t.name == "all" && i < len(terms)-1 && !terms[i+1].modifier:
			c.add(Note, "spf", name, "", "%q: what stands behind all is never looked at", policy)
		}
	}
	return well
}

// evaluate asks whether each of our addresses passes.
func (c *checker) evaluate(ctx context.Context, name, policy string) (well bool) {
	if c.o.Ours == nil {
		return true
	}
	addrs := c.o.Ours.Addresses
	if len(addrs) == 0 {
		addrs, _, _ = c.addressesOf(ctx, c.o.Ours.Host) // none: a finding already
	}
	well = true
	for _, a := range addrs {
		result, err := spf.CheckHostWithSender(net.IP(a.AsSlice()), bare(c.o.Ours.Host), "postmaster@"+bare(name),
			spf.WithContext(ctx), spf.WithResolver(spfResolver{c}))
		switch result {
		case spf.Pass:
		case spf.TempError:
			well = false
			c.add(Warning, "spf", name, "look again later", "could not be evaluated for %s: %v", a, err)
		case spf.PermError:
			well = false
			c.add(Error, "spf", name, c.spfToPublish(name), "%q is broken: %v", policy, err)
		default:
			well = false
			mend := c.spfToPublish(name)
			if strings.Contains(mend, strconv.Quote(policy)) {
				mend = "publish the MX and address records that it names"
			}
			c.add(Error, "spf", name, mend, "%q says %s of this server's address %s: its mail looks forged", policy, result, a)
		}
	}
	return well
}

// texts are the TXT records of a name, each with its strings joined (RFC 7208
// section 3.3).
func (c *checker) texts(ctx context.Context, name string) (list []string, err error) {
	rrs, _, err := c.lookup(ctx, name, miekg.TypeTXT)
	for _, rr := range rrs {
		if txt, ok := rr.(*miekg.TXT); ok {
			list = append(list, names.Unescape(strings.Join(txt.Txt, "")))
		}
	}
	return list, err
}

func isSPF(s string) bool {
	version, _, _ := strings.Cut(s, " ")
	return strings.EqualFold(version, "v=spf1")
}

// spfTerm is one mechanism or modifier.
type spfTerm struct {
	qualifier byte // of a mechanism: + - ~ ?
	name      string
	value     string // behind ":" or "=", with the prefix lengths; "" = none
	modifier  bool
}

// domain is the name in the term's value; fallback when it has none, and ""
// when it is a macro, which depends on the sender.
func (t spfTerm) domain(fallback string) string {
	name, _, _ := strings.Cut(t.value, "/")
	switch {
	case name == "":
		return fallback
	case strings.Contains(name, "%"):
		return ""
	}
	return miekg.CanonicalName(name)
}

// asks tells whether the term counts against the limit.
func (t spfTerm) asks() bool {
	return slices.Contains([]string{"include", "a", "mx", "ptr", "exists", "redirect"}, t.name)
}

// parseSPF reads a policy; an error names the term that breaks the grammar of
// RFC 7208 section 12.
func parseSPF(policy string) (terms []spfTerm, err error) {
	for i, word := range strings.Fields(policy) {
		if i == 0 {
			continue // the version
		}
		t, err := parseTerm(word)
		if err != nil {
			return nil, err
		}
		if once := t.name == "redirect" || t.name == "exp"; once && slices.ContainsFunc(terms, func(o spfTerm) bool { return o.name == t.name }) {
			return nil, fmt.Errorf("%q: there may be only one %s", word, t.name)
		}
		terms = append(terms, t)
	}
	return terms, nil
}

func parseTerm(word string) (t spfTerm, err error) {
	t.qualifier = '+'
	rest := word
	if strings.ContainsRune("+-~?", rune(word[0])) {
		t.qualifier, rest = word[0], word[1:]
	}
	end := strings.IndexAny(rest, ":=/")
	if end < 0 {
		end = len(rest)
	}
	t.name, t.value = strings.ToLower(rest[:end]), rest[end:]
	if strings.HasPrefix(t.value, "=") {
		if rest != word || !isModifierName(t.name) {
			return t, fmt.Errorf("%q is not a term", word)
		}
		t.modifier, t.value = true, t.value[1:]
		if t.name == "redirect" || t.name == "exp" {
			return t, checkDomain(word, t.value)
		}
		return t, nil
	}
	colon := strings.HasPrefix(t.value, ":")
	t.value = strings.TrimPrefix(t.value, ":")
	switch t.name {
	case "all":
		if colon || t.value != "" {
			return t, fmt.Errorf("%q: all takes no value", word)
		}
	case "include", "exists", "ptr":
		if t.name == "ptr" && !colon && t.value == "" {
			return t, nil
		}
		if !colon {
			return t, fmt.Errorf("%q needs a domain", word)
		}
		return t, checkDomain(word, t.value)
	case "a", "mx":
		if colon {
			name, _, _ := strings.Cut(t.value, "/")
			if err := checkDomain(word, name); err != nil {
				return t, err
			}
		}
		return t, checkLengths(word, t.value)
	case "ip4", "ip6":
		return t, checkNetwork(word, t)
	default:
		return t, fmt.Errorf("%q is not a mechanism: those are all, include, a, mx, ptr, ip4, ip6 and exists", word)
	}
	return t, nil
}

func isModifierName(s string) bool {
	for i, c := range s {
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789-_.", c)) {
			return false
		}
	}
	return s != ""
}

// checkDomain looks at the name in a term. One with macros depends on the sender.
func checkDomain(word, name string) error {
	if strings.Contains(name, "%") {
		return nil
	}
	_, ok := miekg.IsDomainName(name)
	if name == "" || name == "." {
		return fmt.Errorf("%q needs a domain", word)
	}
	if !ok || strings.ContainsAny(name, "/\\") {
		return fmt.Errorf("%q: %q is not a domain", word, name)
	}
	return nil
}

// checkLengths looks at the prefix lengths behind a domain: /24, //64, /24//64.
func checkLengths(word, value string) error {
	_, lengths, has := strings.Cut(value, "/")
	if !has || strings.Contains(value, "%") {
		return nil
	}
	four, six, dual := strings.Cut(lengths, "/")
	if dual {
		four, six = strings.TrimSuffix(four, "/"), strings.TrimPrefix(six, "/")
	}
	for i, s := range []string{four, six} {
		if s == "" && (i == 1 && !dual || i == 0 && dual) {
			continue
		}
		if n, err := strconv.ParseUint(s, 10, 8); err != nil || n > []uint64{32, 128}[i] {
			return fmt.Errorf("%q: %q is not the length of a prefix", word, s)
		}
	}
	return nil
}

func checkNetwork(word string, t spfTerm) error {
	p, err := netip.ParsePrefix(t.value)
	if err != nil {
		a, aerr := netip.ParseAddr(t.value)
		if aerr != nil {
			return fmt.Errorf("%q: %q is not a network", word, t.value)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4() != (t.name == "ip4") {
		return fmt.Errorf("%q: %q is of the other family", word, t.value)
	}
	return nil
}

// spfWalk counts the terms of a policy, and of those that it includes, that ask
// the DNS.
type spfWalk struct {
	c       *checker
	lookups int
	err     error // an included policy is missing or broken
}

func (w *spfWalk) count() string {
	if w.lookups >= maxSPFWalk {
		return fmt.Sprintf("more than %d", maxSPFWalk-1)
	}
	return strconv.Itoa(w.lookups)
}

func (w *spfWalk) walk(ctx context.Context, name string, terms []spfTerm) {
	all := slices.ContainsFunc(terms, func(t spfTerm) bool { return t.name == "all" })
	for _, t := range terms {
		if w.err != nil || w.lookups >= maxSPFWalk || t.name == "all" {
			return // what stands behind all is never looked at, nor a redirect beside it
		}
		if !t.asks() || t.name == "redirect" && all {
			continue
		}
		w.lookups++
		to := t.domain(name)
		if t.name != "include" && t.name != "redirect" || to == "" {
			continue
		}
		nested, err := w.policy(ctx, to)
		if err != nil {
			w.err = fmt.Errorf("%s of %s: %w", t.name, bare(to), err)
			return
		}
		w.walk(ctx, to, nested)
	}
}

// policy is that of an included name; none is an error (RFC 7208 section 5.2).
func (w *spfWalk) policy(ctx context.Context, name string) ([]spfTerm, error) {
	texts, err := w.c.texts(ctx, name)
	if unknown(err) {
		return nil, err
	}
	policies := slices.DeleteFunc(texts, func(s string) bool { return !isSPF(s) })
	if len(policies) != 1 {
		return nil, fmt.Errorf("it has %d SPF records, and must have one", len(policies))
	}
	return parseSPF(policies[0])
}

// spfResolver lets the library ask as we do.
type spfResolver struct{ c *checker }

// failure is an error as the library reads it.
func failure(name string, err error) error {
	return &net.DNSError{Err: err.Error(), Name: name, IsNotFound: !unknown(err), IsTemporary: unknown(err)}
}

func (r spfResolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	list, err := r.c.texts(ctx, miekg.CanonicalName(name))
	if err != nil {
		return nil, failure(name, err)
	}
	return list, nil
}

func (r spfResolver) LookupMX(ctx context.Context, name string) (list []*net.MX, err error) {
	rrs, _, err := r.c.lookup(ctx, miekg.CanonicalName(name), miekg.TypeMX)
	if err != nil {
		return nil, failure(name, err)
	}
	for _, rr := range rrs {
		if mx, ok := rr.(*miekg.MX); ok {
			list = append(list, &net.MX{Host: mx.Mx, Pref: mx.Preference})
		}
	}
	return list, nil
}

func (r spfResolver) LookupIPAddr(ctx context.Context, host string) (list []net.IPAddr, err error) {
	addrs, _, err := r.c.addressesOf(ctx, miekg.CanonicalName(host))
	if err != nil {
		return nil, failure(host, err)
	}
	for _, a := range addrs {
		list = append(list, net.IPAddr{IP: a.AsSlice()})
	}
	return list, nil
}

func (r spfResolver) LookupAddr(ctx context.Context, addr string) (names []string, err error) {
	reverse, err := miekg.ReverseAddr(addr)
	if err != nil {
		return nil, failure(addr, errors.Join(errNoName, err))
	}
	rrs, _, err := r.c.lookup(ctx, reverse, miekg.TypePTR)
	if err != nil {
		return nil, failure(addr, err)
	}
	for _, rr := range rrs {
		if ptr, ok := rr.(*miekg.PTR); ok {
			names = append(names, ptr.Ptr)
		}
	}
	return names, nil
}
