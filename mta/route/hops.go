package route

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"postrider/dns"
	"postrider/mta"
)

// Limits of one routing.
const (
	maxHosts     = 16              // MX hosts looked up
	maxAddresses = 16              // addresses given to deliver
	maxPerHost   = 8               // addresses of one host
	maxLookup    = 2 * time.Minute // all lookups together
)

// Hops returns the hosts to try for mail to domain, in order; at least one
// without an error. The error is a *mta.Reply: final when nothing that may
// happen later would help.
func (r *Router) Hops(ctx context.Context, domain string) ([]mta.Hop, error) {
	hops, err := r.hops(ctx, domain)
	r.recordHops(ctx, domain, hops, err)
	return hops, err
}

func (r *Router) hops(ctx context.Context, domain string) ([]mta.Hop, error) {
	if r.catcher != nil {
		return nil, mta.Errorf(550, "5.7.1", "This server takes all mail and sends none on")
	}
	ctx, cancel := context.WithTimeout(ctx, maxLookup)
	defer cancel()
	if r.o.Smarthost != nil {
		return r.smarthostHops(ctx)
	}
	w := walk{r: r, domain: domain}
	if ip, ok := literal(domain); ok {
		w.consider(domain, []netip.Addr{ip})
		return w.result()
	}
	mxs, err := r.o.Resolver.MX(ctx, domain)
	switch {
	case errors.Is(err, dns.ErrNoData), errors.Is(err, dns.ErrNotExist):
		// A domain that only the hosts file knows does not exist for the DNS.
		return r.implicit(ctx, domain, err)
	case err != nil:
		return nil, temporary(domain, err)
	case len(mxs) == 1 && isRoot(mxs[0].Host):
		return nil, mta.Errorf(556, "5.1.10", "The domain %s does not accept mail: it says so by a null MX record", domain)
	}
	mxs = slices.Clone(mxs)
	slices.SortFunc(mxs, func(a, b dns.MX) int { return int(a.Preference) - int(b.Preference) })
	for len(mxs) > 0 && !w.done() {
		n := 1
		for n < len(mxs) && mxs[n].Preference == mxs[0].Preference {
			n++
		}
		if w.group(ctx, mxs[:n]) {
			break
		}
		mxs = mxs[n:]
	}
	return w.result()
}

// implicit is the rule for a domain without MX records: its own addresses
// (RFC 5321 section 5.1).
func (r *Router) implicit(ctx context.Context, domain string, mxErr error) ([]mta.Hop, error) {
	w := walk{r: r, domain: domain}
	addrs, err := r.o.Resolver.Addresses(ctx, domain)
	switch {
	case err == nil && len(addrs) > 0:
		w.consider(domain, addrs)
		return w.result()
	case errors.Is(mxErr, dns.ErrNotExist), errors.Is(err, dns.ErrNotExist):
		return nil, mta.Errorf(550, "5.1.2", "The domain %s does not exist: please check the spelling", domain)
	case err == nil, errors.Is(err, dns.ErrNoData):
		return nil, mta.Errorf(550, "5.1.2", "The domain %s has no mail server: neither an MX record nor an address", domain)
	}
	return nil, temporary(domain, err)
}

func temporary(name string, err error) *mta.Reply {
	var e *dns.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	return mta.Errorf(451, "4.4.3", "The name servers gave no answer about %s: %s", name, err)
}

func isRoot(host string) bool { return host == "." || host == "" }

// walk gathers hops for one domain and remembers why others are left out.
type walk struct {
	r      *Router
	domain string
	hops   []mta.Hop
	hosts  int // looked up
	addrs  int // gathered

	ourselves bool     // the list was cut at an MX that is we
	temporary error    // of a host that could not be looked up
	reasons   []string // why hosts and addresses were left out
}

func (w *walk) done() bool { return w.hosts >= maxHosts || w.addrs >= maxAddresses }

func (w *walk) omit(reason string) { w.reasons = append(w.reasons, reason) }

// group takes hosts of one preference. It tells whether one of them is
// ourselves: then none of them counts, and no worse one (RFC 5321 section 5.1).
func (w *walk) group(ctx context.Context, mxs []dns.MX) bool {
	hosts := make([]string, 0, len(mxs))
	for _, mx := range mxs {
		if strings.EqualFold(mx.Host, w.r.o.Hostname) {
			w.ourselves = true
			return true
		}
		if isRoot(mx.Host) {
			w.omit("an MX record names no host")
			continue
		}
		if slices.ContainsFunc(w.hops, func(h mta.Hop) bool { return h.Host == mx.Host }) {
			continue // it is there already, at a better preference
		}
		hosts = append(hosts, mx.Host)
	}
	if len(hosts) > 1 {
		w.r.o.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	}
	before, beforeAddrs := len(w.hops), w.addrs
	for _, host := range hosts {
		if w.done() {
			break
		}
		w.hosts++
		addrs, err := w.r.o.Resolver.Addresses(ctx, host)
		switch {
		case errors.Is(err, dns.ErrNotExist):
			w.omit("its MX " + host + " does not exist")
		case errors.Is(err, dns.ErrNoData), err == nil && len(addrs) == 0:
			w.omit("its MX " + host + " has no address")
		case err != nil:
			w.temporary = temporary(host, err)
		case w.consider(host, addrs):
			w.hops, w.addrs = w.hops[:before], beforeAddrs
			return true
		}
	}
	return false
}

// consider adds a hop for host with those of its addresses that may be
// contacted. It tells whether one of them is ourselves; then it adds nothing.
func (w *walk) consider(host string, addrs []netip.Addr) bool {
	hop := mta.Hop{Host: host}
	for _, a := range addrs {
		a = a.Unmap()
		at := netip.AddrPortFrom(a, uint16(w.r.o.RemotePort))
		why := mta.NotPublic(a)
		switch {
		case w.r.o.Ourselves(at):
			w.ourselves = true
			return true
		case mta.Unreachable(a):
			w.omit(host + " is at " + a.String() + ", where no host can be")
		case why != "" && !contains(w.r.o.PrivateNetworks, a):
			w.omit(host + " is at " + a.String() + ", " + why + " that delivery.private_networks does not list")
		case len(hop.Addrs) < maxPerHost && w.addrs+len(hop.Addrs) < maxAddresses:
			hop.Addrs = append(hop.Addrs, at)
		}
	}
	if len(hop.Addrs) > 0 {
		w.hops = append(w.hops, hop)
		w.addrs += len(hop.Addrs)
	}
	return false
}

// result is what Hops returns.
func (w *walk) result() ([]mta.Hop, error) {
	switch {
	case len(w.hops) > 0:
		return w.hops, nil
	case w.temporary != nil:
		return nil, w.temporary
	case w.ourselves && w.r.relayDomains[w.domain]:
		return nil, mta.Errorf(550, "5.4.6", "Mail for %s would come back here: its best MX is this server, which only relays for it (smtp.relay_domains)", w.domain)
	case w.ourselves:
		return nil, mta.Errorf(550, "5.4.6", "Mail for %s would come back here: its best MX is this server, which does not know it as a domain of its own", w.domain)
	}
	return nil, mta.Errorf(550, "5.4.4", "No mail server of %s can be reached: %s", w.domain, strings.Join(w.reasons, "; "))
}

// smarthost is the parsed form of Options.Smarthost.
type smarthost struct {
	name string
	port uint16
	hops []mta.Hop // when name is an address
	bad  bool
}

func parseSmarthost(s *Smarthost) smarthost {
	host, port, err := net.SplitHostPort(s.Host)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || host == "" || n == 0 {
		return smarthost{bad: true}
	}
	sh := smarthost{name: host, port: uint16(n)}
	if ip, err := netip.ParseAddr(host); err == nil {
		sh.hops = []mta.Hop{sh.hop(s, []netip.Addr{ip})}
	}
	return sh
}

func (sh *smarthost) hop(s *Smarthost, addrs []netip.Addr) mta.Hop {
	h := mta.Hop{Host: sh.name, Login: s.Login, Password: s.Password, TLS: s.TLS}
	for _, a := range addrs {
		if !mta.Unreachable(a) && len(h.Addrs) < maxPerHost {
			h.Addrs = append(h.Addrs, netip.AddrPortFrom(a.Unmap(), sh.port))
		}
	}
	return h
}

// smarthostHops is Hops where a smarthost is set. The administrator named it:
// whatever is wrong with it can be mended, and no mail is returned for it.
func (r *Router) smarthostHops(ctx context.Context) ([]mta.Hop, error) {
	sh := &r.smarthost
	if sh.bad {
		return nil, mta.Errorf(451, "4.3.5", "delivery.smarthost must be HOST:PORT")
	}
	hops := sh.hops
	if hops == nil {
		addrs, err := r.o.Resolver.Addresses(ctx, sh.name)
		if err != nil {
			return nil, mta.Errorf(451, "4.4.3", "The smarthost %s has no known address: %s", sh.name, temporary(sh.name, err).Text)
		}
		hops = []mta.Hop{sh.hop(r.o.Smarthost, addrs)}
	}
	if len(hops[0].Addrs) == 0 {
		return nil, mta.Errorf(451, "4.3.5", "The smarthost %s has no address that can be contacted", sh.name)
	}
	for _, at := range hops[0].Addrs {
		if r.o.Ourselves(at) {
			return nil, mta.Errorf(451, "4.3.5", "The smarthost %s is this server itself: please correct delivery.smarthost", r.o.Smarthost.Host)
		}
	}
	return hops, nil
}
