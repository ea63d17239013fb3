package route

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"strings"

	"postrider/dns"
	"postrider/internal/journey"
	"postrider/mailstore"
	"postrider/mta"
)

// Directory knows who lives here. *directory.Directory is one.
type Directory interface {
	Resolve(ctx context.Context, a mta.Address) ([]mta.Target, error)
	Domains(ctx context.Context) ([]string, error)
	Accounts(ctx context.Context) ([]mailstore.Account, error)
	Aliases(ctx context.Context) ([]mailstore.Alias, error)
	// Room is a *mailstore.QuotaError when the account has no room for a message
	// of size octets, 0 where that is not known.
	Room(ctx context.Context, account int64, size int64) error
}

// Resolver looks up names. *dns.Resolver is one; its errors are those of
// package dns.
type Resolver interface {
	MX(ctx context.Context, domain string) ([]dns.MX, error)
	Addresses(ctx context.Context, host string) ([]netip.Addr, error)
}

// Smarthost takes all remote mail.
type Smarthost struct {
	Host            string // HOST:PORT
	Login, Password string
	TLS             mta.TLSPolicy
}

// Options has what a Router needs; zero values work, but for Directory and
// Resolver.
type Options struct {
	Hostname        string
	Directory       Directory
	Resolver        Resolver
	RelayNetworks   []netip.Prefix // whoever connects from there may relay
	RelayDomains    []string       // normalised; anyone may send to them
	PrivateNetworks []netip.Prefix // non-public addresses that may be contacted
	RemotePort      int            // where peers listen; 0 means 25
	Smarthost       *Smarthost     // nil: deliver by MX
	// Catch takes all mail there is into one account; nil: as usual.
	Catch *Catch
	// Ourselves tells whether this process listens there; nil: nowhere.
	Ourselves func(netip.AddrPort) bool
	Journey   *journey.Recorder // gets where mail goes; nil = nobody
	// Shuffle orders n equal hosts at random; nil: math/rand.
	Shuffle func(n int, swap func(i, j int))
}

// Router is safe for concurrent use.
type Router struct {
	o            Options
	relayDomains map[string]bool
	smarthost    smarthost
	catcher      *catcher // nil: off
}

// New returns a Router.
func New(o Options) *Router {
	if o.RemotePort == 0 {
		o.RemotePort = 25
	}
	if o.Ourselves == nil {
		o.Ourselves = func(netip.AddrPort) bool { return false }
	}
	if o.Shuffle == nil {
		o.Shuffle = rand.Shuffle
	}
	o.Hostname = strings.ToLower(o.Hostname)
	r := &Router{o: o, relayDomains: make(map[string]bool)}
	for _, d := range o.RelayDomains {
		r.relayDomains[d] = true
	}
	if o.Catch != nil {
		r.catcher = newCatcher(o.Catch)
	}
	if o.Smarthost != nil {
		r.smarthost = parseSmarthost(o.Smarthost)
	}
	return r
}
