package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns"
	"postrider/dns/dnssec"
	"postrider/dns/own"
	"postrider/internal/node"
)

type dnsCheckCmd struct {
	Domain  string        `arg:"" help:"A domain: one of this server, or anybody's."`
	Address []string      `placeholder:"ADDR" help:"Public address of this server, where it is not one of its interfaces; several times for several."`
	Server  string        `placeholder:"S" help:"Name server to ask, ADDR or ADDR:PORT; default: the configured or the system's."`
	Timeout time.Duration `default:"2m" placeholder:"TIME" help:"The most that it may take in all (2m)."`
	rootFlags
	jsonFlag
}

// Help tells what the command prints.
func (dnsCheckCmd) Help() string {
	return "One line for each thing that was looked at: ok, note, warning or error, and what to publish or to do. The exit status is 0 when there is neither warning nor error."
}

func (c *dnsCheckCmd) Run(e *env) error {
	name, err := dns.ParseName(c.Domain)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(e.ctx, c.Timeout)
	defer cancel()
	o := own.Options{Domain: name, Port: 25}
	var list []own.Finding
	for _, h := range dns.Hints(c.Domain) {
		list = append(list, own.Finding{Severity: own.Note, Check: "name", Name: name, Text: h})
	}
	notes, err := c.ours(e, &o)
	if err != nil {
		return err
	}
	list = append(list, notes...)
	asker, done, err := c.asker(e)
	if err != nil {
		return err
	}
	defer done()
	o.Asker = asker
	var part atomic.Value
	part.Store("the domain")
	o.Progress = func(what string) { part.Store(what) }
	stop := showText(e.stderr, func(took time.Duration) string {
		return fmt.Sprintf("looking at %s (%v)", part.Load(), took.Round(time.Second))
	})
	list = append(list, own.Check(ctx, o)...)
	stop()
	if c.JSON {
		err = printJSON(e, list)
	} else {
		err = own.Format(e.stdout, list)
	}
	switch {
	case e.ctx.Err() != nil:
		return e.ctx.Err()
	case err == nil && !own.Well(list):
		return exitError(exitFailed)
	}
	return err
}

// ours fills in what is known of the domain here: nothing without a
// configuration, or when it is not a domain of this server.
func (c *dnsCheckCmd) ours(e *env, o *own.Options) ([]own.Finding, error) {
	args, err := recordsArgs(c.Domain, c.Address)
	if err != nil {
		return nil, err
	}
	note := func(format string, args ...any) []own.Finding {
		return []own.Finding{{Severity: own.Note, Check: "server", Name: o.Domain, Text: fmt.Sprintf(format, args...)}}
	}
	conf, err := e.loadConfig()
	if errors.Is(err, os.ErrNotExist) && e.config == "" {
		return note("there is no configuration here: it is looked at as anybody's domain"), nil
	} else if err != nil {
		return nil, err
	}
	o.Hello, o.Port = conf.node.Hostname, uint16(conf.node.RemotePort)
	var domains []string
	err = e.admin(func(a *node.AdminClient) error {
		if err := a.Call("DomainList", node.None{}, &domains); err != nil {
			return err
		}
		for _, d := range domains {
			if miekg.CanonicalName(d) == o.Domain {
				o.Ours = &own.Domain{}
				return a.Call("DNSDomain", args, o.Ours)
			}
		}
		return nil
	})
	switch {
	case err != nil && len(domains) == 0: // no server, and no data directory that this user may open
		return note("what this server honours is not known (%v): it is looked at as anybody's domain", err), nil
	case err != nil:
		return nil, err
	case o.Ours == nil:
		return note("is not a domain of this server: it is looked at as anybody's (postrider domain add %s)", strings.TrimSuffix(o.Domain, ".")), nil
	}
	return nil, nil
}

func (c *dnsCheckCmd) asker(e *env) (a *asker, done func(), err error) {
	conf, err := c.configured(e)
	if err != nil {
		return nil, nil, err
	}
	a = &asker{port: c.DNSPort, servers: map[netip.Addr]*dns.Resolver{}}
	if a.validator, err = c.validator(); err != nil {
		return nil, nil, err
	}
	a.resolver, done, err = c.resolver(conf, c.Server)
	return a, done, err
}

// asker asks for a check: the resolver, whose answers it validates itself, and
// other name servers directly.
type asker struct {
	resolver  *dns.Resolver
	validator *dnssec.Validator
	port      uint16 // of the other name servers

	mu      sync.Mutex
	servers map[netip.Addr]*dns.Resolver
}

func (a *asker) Resolve(ctx context.Context, name string, typ uint16) (own.Answer, error) {
	answer, err := a.resolver.QueryAs(ctx, name, dns.Type(typ), dns.Asking{DNSSEC: true})
	if err != nil {
		return own.Answer{}, err
	}
	if answer.Message().Rcode == miekg.RcodeServerFailure {
		// Perhaps it validates; we see for ourselves.
		unchecked, err := a.resolver.QueryAs(ctx, name, dns.Type(typ), dns.Asking{DNSSEC: true, Unchecked: true})
		if err == nil && unchecked.Message().Rcode != miekg.RcodeServerFailure {
			answer = unchecked
		}
	}
	v := a.resolver.Validate(ctx, answer, a.validator)
	return own.Answer{Msg: answer.Message(), Security: v.Security.String(), Why: v.Text}, nil
}

// directTime is what one name server gets for its answer, of which there are
// two tries.
const directTime = 3 * time.Second

func (a *asker) Ask(ctx context.Context, server netip.Addr, name string, typ uint16) (*miekg.Msg, error) {
	r, err := a.direct(server)
	if err != nil {
		return nil, err
	}
	answer, err := r.QueryAs(ctx, name, dns.Type(typ), dns.Asking{NoRecursion: true})
	if err != nil {
		return nil, err
	}
	return answer.Message(), nil
}

func (a *asker) direct(server netip.Addr) (*dns.Resolver, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.servers[server]; r != nil {
		return r, nil
	}
	r, err := dns.NewResolver(dns.Options{
		Servers: []string{net.JoinHostPort(server.String(), strconv.Itoa(int(a.port)))}, Timeout: directTime, Attempts: 2,
	})
	if err == nil {
		a.servers[server] = r
	}
	return r, err
}
