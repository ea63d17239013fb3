package dns

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/names"
	"postrider/dns/recursor"
	"postrider/internal/clock"
	"postrider/internal/journey"
)

// Options has what a Resolver needs; the zero value asks the system's servers
// and reads no hosts file.
type Options struct {
	// Servers are recursive name servers, "ip" or "ip:port", at most 8.
	// None: those of /etc/resolv.conf, which is read again when it changes.
	Servers []string
	// HostsFile is the path of a hosts file, which goes before the DNS for
	// addresses and their names; "" = off.
	HostsFile string
	// Search replaces the suffixes of resolv.conf that Query appends to names
	// without a dot.
	Search []string
	// Timeout and Attempts replace those of resolv.conf (5 seconds for a
	// server's answer, 2 rounds over all servers); 0 = as there.
	Timeout  time.Duration
	Attempts int
	// CacheSize is the number of answers kept; 0 = 20,000, below 0 = none.
	CacheSize int

	// Iterative answers in place of servers, which are not asked then. Its cache
	// is used in place of one here. Whoever made it closes it.
	Iterative *recursor.Resolver
	Journey   *journey.Recorder // gets questions and answers; nil: none

	Clock clock.Clock // nil: package time
	Dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	Rand  io.Reader    // identifiers of queries; nil: crypto/rand
	Log   *slog.Logger // nil: no log
}

// Resolver looks names up. Its methods may be called concurrently.
type Resolver struct {
	stub    *stub
	inside  *iterative // asked in place of stub; nil: off
	cache   *cache
	hosts   *file[hosts] // nil: off
	clock   clock.Clock
	journey *journey.Recorder
	search  func() (suffixes []string, ndots int)

	mu      sync.Mutex
	flights map[question]*flight
}

// NewResolver returns a resolver; an error names the option that is wrong.
func NewResolver(o Options) (*Resolver, error) {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.CacheSize == 0 {
		o.CacheSize = defaultCacheEntries
	}
	if o.Iterative != nil {
		if o.Servers != nil {
			return nil, errors.New("dns: servers are given to a resolver that asks none")
		}
		o.CacheSize = -1
	}
	conf, err := o.config()
	if err != nil {
		return nil, err
	}
	r := &Resolver{
		stub: &stub{
			config: conf, dial: o.Dial, rand: o.Rand, clock: o.Clock, log: o.Log, journey: o.Journey,
			slots: make(chan struct{}, maxExchanges), states: map[string]serverState{},
		},
		cache:   newCache(o.CacheSize, o.Clock),
		clock:   o.Clock,
		journey: o.Journey,
		flights: map[question]*flight{},
		search:  func() ([]string, int) { c := conf(); return c.search, c.ndots },
	}
	if o.Iterative != nil {
		r.inside = &iterative{o.Iterative, o.Clock, o.Journey}
	}
	if o.HostsFile != "" {
		r.hosts = newFile(o.HostsFile, parseHosts, o.Clock, o.Log)
	}
	return r, nil
}

// config is the system's configuration with the options in place of what they
// replace.
func (o *Options) config() (func() config, error) {
	if len(o.Servers) > maxServers {
		return nil, fmt.Errorf("dns: %d name servers are more than the %d that are asked", len(o.Servers), maxServers)
	}
	var servers []string
	for _, s := range o.Servers {
		server, err := ServerAddr(s)
		if err != nil {
			return nil, fmt.Errorf("dns: %w", err)
		}
		servers = append(servers, server)
	}
	if o.Timeout < 0 || o.Attempts < 0 {
		return nil, errors.New("dns: a negative timeout or number of attempts")
	}
	replace := func(c config) config {
		if o.Timeout > 0 {
			c.timeout = min(o.Timeout, maxTimeout)
		}
		if o.Attempts > 0 {
			c.attempts = min(o.Attempts, maxAttempts)
		}
		if o.Search != nil {
			c.search = searchList(o.Search)
		}
		return c
	}
	if servers != nil {
		fixed := parseResolvConf(nil)
		fixed.servers = servers
		fixed = replace(fixed)
		return func() config { return fixed }, nil
	}
	system := newFile(resolvConf, parseResolvConf, o.Clock, o.Log)
	return func() config { return replace(system.get()) }, nil
}

// MX is a mail exchanger of a domain (RFC 1035 section 3.3.9).
type MX struct {
	Preference uint16
	Host       string // lower case, without the final dot; "." in a null MX (RFC 7505)
}

// MX returns the mail exchangers of a domain, best preference first; among
// equals the order is the server's. A domain without any gives ErrNoData.
func (r *Resolver) MX(ctx context.Context, domain string) ([]MX, error) {
	records, err := r.lookup(ctx, domain, TypeMX)
	if err != nil {
		return nil, err
	}
	var list []MX
	for _, rr := range records {
		if mx, ok := rr.(*miekg.MX); ok {
			list = append(list, MX{mx.Preference, plain(mx.Mx)})
		}
	}
	slices.SortStableFunc(list, func(a, b MX) int { return int(a.Preference) - int(b.Preference) })
	return list, nil
}

// InHosts returns the addresses that the hosts file gives a host; nil where it does
// not name it.
func (r *Resolver) InHosts(host string) []netip.Addr {
	if r.hosts == nil {
		return nil
	}
	name, err := normalize(host)
	if err != nil {
		return nil
	}
	return slices.Clone(r.hosts.get().byName[name])
}

// Addresses returns the addresses of a host, IPv6 before IPv4: those of the
// hosts file if it names the host there, else those of its AAAA and A records.
// The text of an IP address is its own address. When only one of the two types
// could be looked up, what it gave is the answer.
func (r *Resolver) Addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	if list := r.InHosts(host); list != nil {
		r.recordHosts(ctx, host, TypeA, addressTexts(list))
		return list, nil
	}
	var v4 []miekg.RR
	var err4 error
	done := make(chan struct{})
	go func() {
		defer close(done)
		v4, err4 = r.lookup(ctx, host, TypeA)
	}()
	v6, err6 := r.lookup(ctx, host, TypeAAAA)
	<-done
	var list []netip.Addr
	for _, rr := range append(v6, v4...) {
		var ip net.IP
		switch rr := rr.(type) {
		case *miekg.A:
			ip = rr.A
		case *miekg.AAAA:
			ip = rr.AAAA
		}
		if a, ok := netip.AddrFromSlice(ip); ok && !slices.Contains(list, a.Unmap()) {
			list = append(list, a.Unmap())
		}
	}
	if len(list) > 0 {
		return list, nil
	}
	return nil, worse(err4, err6)
}

// worse chooses between the errors of two types of one name: what is temporary
// goes first, since the other half may still exist.
func worse(a, b error) error {
	if a == nil || b != nil && errors.Is(b, ErrTemporary) || errors.Is(a, ErrNoData) && errors.Is(b, ErrNotExist) {
		return b
	}
	return a
}

// TXT returns the texts of a name, each with its character-strings joined
// (RFC 7208 section 3.3), octets as they are.
func (r *Resolver) TXT(ctx context.Context, name string) ([]string, error) {
	records, err := r.lookup(ctx, name, TypeTXT)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, rr := range records {
		if txt, ok := rr.(*miekg.TXT); ok {
			var b strings.Builder
			for _, s := range txt.Txt {
				b.WriteString(names.Unescape(s))
			}
			list = append(list, b.String())
		}
	}
	return list, nil
}

// PTR returns the names of an address, those of the hosts file first if it has
// any, without final dots.
func (r *Resolver) PTR(ctx context.Context, addr netip.Addr) ([]string, error) {
	if r.hosts != nil {
		if names := r.hosts.get().byAddr[addr.Unmap().WithZone("")]; len(names) > 0 {
			r.recordHosts(ctx, reverse(addr), TypePTR, names)
			return slices.Clone(names), nil
		}
	}
	records, err := r.lookup(ctx, reverse(addr), TypePTR)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, rr := range records {
		if ptr, ok := rr.(*miekg.PTR); ok {
			list = append(list, plain(ptr.Ptr))
		}
	}
	return list, nil
}

// lookup returns the records of a name, aliases followed; never none without
// an error.
func (r *Resolver) lookup(ctx context.Context, asked string, typ Type) ([]miekg.RR, error) {
	fail := func(server string, err error) error {
		return &Error{Name: strings.TrimSuffix(asked, "."), Type: typ, Server: server, Err: err}
	}
	first, err := normalize(asked)
	if err != nil {
		return nil, fail("", err)
	}
	for name, aliases := first, 0; ; {
		s, err := r.step(ctx, question{name, typ})
		if err != nil {
			return nil, fail("", err)
		}
		r.recordAnswer(ctx, question{name, typ}, &s)
		aliases += s.aliases
		switch s.outcome {
		case found:
			return s.records, nil
		case noData:
			return nil, fail(s.server, aliased(first, s.name, ErrNoData))
		case notExist:
			return nil, fail(s.server, aliased(first, s.name, ErrNotExist))
		case failed:
			return nil, fail(s.server, s.err)
		}
		if aliases > maxAliases {
			return nil, fail(s.server, errAliases)
		}
		name = s.name
	}
}

// aliased says which name err is about, where it is not the one asked for.
func aliased(asked, name string, err error) error {
	if asked == name {
		return err
	}
	return fmt.Errorf("it is an alias of %s, which %w", plain(name), err)
}

// flight is a question under way.
type flight struct {
	done      chan struct{}
	step      step
	abandoned bool // the one who asked went away before the answer
}

// step answers one question: from the cache, from another call that is asking
// it already, or by asking. The error is only that of an ended context.
func (r *Resolver) step(ctx context.Context, q question) (step, error) {
	for {
		if s, ok := r.cache.get(q); ok {
			return s, nil
		}
		if ctx.Err() != nil {
			return step{}, ended(ctx)
		}
		r.mu.Lock()
		f, running := r.flights[q]
		if !running {
			f = &flight{done: make(chan struct{}), abandoned: true}
			r.flights[q] = f
		}
		r.mu.Unlock()
		if !running {
			return r.fly(ctx, q, f)
		}
		select {
		case <-f.done:
			if !f.abandoned {
				return f.step, nil
			}
		case <-ctx.Done():
			return step{}, ended(ctx)
		}
	}
}

// ask puts a question to whom the options name.
func (r *Resolver) ask(ctx context.Context, q question, how Asking) (*message, error) {
	if r.inside != nil {
		return r.inside.ask(ctx, q, how)
	}
	return r.stub.ask(ctx, q, how)
}

// fly asks the servers on behalf of all who wait for f.
func (r *Resolver) fly(ctx context.Context, q question, f *flight) (step, error) {
	defer func() {
		r.mu.Lock()
		delete(r.flights, q)
		r.mu.Unlock()
		close(f.done)
	}()
	m, err := r.ask(ctx, q, Asking{})
	switch {
	case err == nil:
		f.step = interpret(q, m)
		if r.journey.Wants(journey.DNSAnswer) {
			f.step.said = said(f.step.records)
		}
		if r.inside != nil {
			f.step.security, f.step.cached, f.step.left = m.security.String(), m.cached, f.step.ttl
		}
	case ctx.Err() != nil:
		return step{}, ended(ctx)
	default:
		f.step = failedStep("", err)
	}
	f.abandoned = false
	r.cache.put(q, f.step)
	return f.step, nil
}
