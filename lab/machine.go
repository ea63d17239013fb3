package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"postrider/internal/directory"
	"postrider/internal/node"
	"postrider/mta"
)

// machine is a host that runs.
type machine struct {
	lab   *Lab
	host  *Host
	doors []*door
	names *socket // of dns; nil: it has none

	mu     sync.Mutex
	ended  bool
	mail   Mail // the configuration; host has that of the start
	node   *node.Node
	old    *oldServer
	server *nameServer  // nil: it is none
	served func() error // ends what serves; nil: nothing runs
}

func (m *machine) dir() string { return filepath.Join(m.lab.dir, m.host.Name) }

func (m *machine) started() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.served != nil
}

// endpoints lists the services.
func (m *machine) endpoints() []Endpoint {
	n := m.lab.network
	n.mu.Lock()
	defer n.mu.Unlock()
	out := []Endpoint{}
	for _, p := range m.host.Ports() {
		at := netip.AddrPortFrom(m.host.Address, p.Port)
		if real, ok := n.places[at]; ok {
			out = append(out, Endpoint{p.Service, at.String(), real.String()})
		}
	}
	return out
}

// ensure starts the server behind the doors, unless it runs.
func (m *machine) ensure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.served != nil || m.ended {
		return nil
	}
	var err error
	switch m.host.Kind {
	case KindMail:
		err = m.startNodeLocked()
	case KindOld:
		m.startOldLocked()
	case KindHostile:
		m.startHostileLocked()
	case KindWeb:
		m.startWebLocked()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", m.host.Name, err)
	}
	return nil
}

// knocked starts the server for a connection that has come.
func (m *machine) knocked() {
	if err := m.ensure(); err != nil {
		m.lab.fail(err)
	}
}

// close stops the server and closes the doors.
func (m *machine) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	m.stopLocked()
	for _, d := range m.doors {
		d.Close()
	}
	if m.server != nil {
		m.server.close()
	}
}

func (m *machine) stopLocked() {
	if m.served == nil {
		return
	}
	if err := m.served(); err != nil {
		m.lab.fail(fmt.Errorf("%s: %w", m.host.Name, err))
	}
	m.served, m.node, m.old = nil, nil, nil
}

// lease is a door as one server has it: closing it leaves the door open for the
// next.
type lease struct {
	*door
	once sync.Once
	over chan struct{}
}

func (d *door) lease() *lease { return &lease{door: d, over: make(chan struct{})} }

func (l *lease) Accept() (net.Conn, error) {
	select {
	case c := <-l.passed:
		return c, nil
	case <-l.over:
	case <-l.done:
	}
	return nil, net.ErrClosed
}

func (l *lease) Close() error {
	l.once.Do(func() { close(l.over) })
	return nil
}

// startNodeLocked runs a whole postrider.
func (m *machine) startNodeLocked() error {
	l := m.lab
	ls := &node.Listeners{}
	for _, d := range m.doors {
		ls.Add(d.port.Service, d.lease())
	}
	o := m.options()
	if _, err := os.Stat(o.TLSCert); err != nil {
		if err := m.issue(false); err != nil {
			return err
		}
	}
	n, err := node.New(l.ctx, o, ls)
	if err != nil {
		return err
	}
	if err := m.populate(n); err != nil {
		return errors.Join(err, n.Close())
	}
	ready, failed := make(chan struct{}), make(chan error, 1)
	l.running.Go(func() {
		err := n.Run(l.ctx, func() { close(ready) })
		failed <- err
		if err != nil {
			l.fail(fmt.Errorf("%s: %w", m.host.Name, err))
		}
	})
	select {
	case <-ready:
	case err := <-failed:
		return err
	}
	m.node, m.served = n, n.Close
	return nil
}

// you, in the networks of a world, are whoever types at this machine; in a class,
// anybody on the local network.
var you = netip.MustParsePrefix("127.0.0.1/32")

// options are those of a mail host's node.
func (m *machine) options() node.Options {
	l, h := m.lab, m.host
	o := node.DefaultOptions()
	o.Hostname = h.Name
	o.DataDir = m.dir()
	o.RelayNetworks, o.RelayDomains = m.mail.RelayNetworks, m.mail.RelayDomains
	o.RequireAuth, o.BareHelo = m.mail.RequireAuth, m.mail.BareHelo
	o.PrivateNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	o.HostsFile = ""
	o.Resolver = l.resolver(h)
	o.Dial = l.network.dialer(h)
	o.PeerTLS = l.peers()
	o.TLSCert = filepath.Join(m.dir(), tlsFile)
	o.TLSKey = o.TLSCert
	o.Clock = l.clock
	o.Journey, o.JourneyRetention = l.journey, 0 // the lab remembers for all
	o.Log = l.logger(h)
	o.Upgrade = true
	o.SearchIndex, o.Disposable = false, true
	o.Limits.FailedLoginsPerMinute = 0
	if l.o.Listen != "" {
		o.Plaintext = directory.PlaintextAlways // a class has no certificates to trust
		if slices.Contains(o.RelayNetworks, you) {
			o.RelayNetworks = append(slices.Clone(o.RelayNetworks), l.class)
		}
	}
	if local, domain, ok := strings.Cut(m.mail.Catch, "@"); ok {
		o.Catch = mta.Address{Local: local, Domain: domain}
	}
	if r, ok := l.World().Host(m.mail.Resolver); ok {
		o.Resolver = netip.AddrPortFrom(r.Address, 53).String()
	}
	if m.mail.MaxSize > 0 {
		o.Limits.MessageSize = m.mail.MaxSize
	}
	if len(m.mail.Retry) > 0 {
		o.Retry = nil
		for _, d := range m.mail.Retry {
			o.Retry = append(o.Retry, time.Duration(d))
		}
	}
	if m.mail.Expire > 0 {
		o.Expire = time.Duration(m.mail.Expire)
	}
	if m.mail.Smarthost != "" {
		o.Smarthost.Host = net.JoinHostPort(m.mail.Smarthost, "25")
		if a, ok := l.World().Account(m.mail.SmarthostUser); ok {
			o.Smarthost.Host = net.JoinHostPort(m.mail.Smarthost, "587")
			o.Smarthost.User, o.Smarthost.Password = a.Address, a.Password
		}
	}
	return o
}

// resolver is the address of the name server that a host asks.
func (l *Lab) resolver(h *Host) string {
	w := l.World()
	if s, ok := w.Site(h.Site); ok && s.Resolver != "" {
		if r, ok := w.Host(s.Resolver); ok {
			return netip.AddrPortFrom(r.Address, 53).String()
		}
	}
	for _, r := range w.Hosts {
		if r.Kind == KindResolver {
			return netip.AddrPortFrom(r.Address, 53).String()
		}
	}
	return "127.0.0.1:9" // a world without resolvers
}

// populate makes the domains and accounts, where they are not there from an
// earlier run.
func (m *machine) populate(n *node.Node) error {
	ctx := m.lab.ctx
	there := func(err error) error {
		if errors.Is(err, directory.ErrExists) {
			return nil
		}
		return err
	}
	for _, d := range m.mail.Domains {
		if err := there(n.Directory.AddDomain(ctx, d)); err != nil {
			return err
		}
	}
	for _, a := range m.lab.World().Accounts {
		if a.Host != m.host.Name {
			continue
		}
		if err := there(n.Directory.AddAccount(ctx, a.Address, a.Password)); err != nil {
			return err
		}
		if a.Quota > 0 || a.QuotaMessages > 0 {
			storage, messages := a.Quota, int64(a.QuotaMessages)
			if err := n.Directory.SetQuota(ctx, a.Address, directory.QuotaChange{Storage: &storage, Messages: &messages}); err != nil {
				return err
			}
		}
	}
	for from, to := range m.mail.Forwards {
		if err := there(n.Directory.AddAlias(ctx, from, []string{to})); err != nil {
			return err
		}
	}
	return nil
}

// startOldLocked runs a server without extensions.
func (m *machine) startOldLocked() {
	var users []string
	for _, a := range m.lab.World().Accounts {
		if a.Host == m.host.Name {
			users = append(users, a.Address)
		}
	}
	m.old = newOldServer(m.host, users, m.lab.journey)
	m.serveLocked("smtp", m.old.serve, m.old.close)
}

// serveLocked runs what serves one service.
func (m *machine) serveLocked(service string, serve func(net.Listener), end func()) {
	var wg sync.WaitGroup
	var leases []*lease
	for _, d := range m.doors {
		if d.port.Service == service {
			ls := d.lease()
			leases = append(leases, ls)
			wg.Go(func() { serve(ls) })
		}
	}
	m.served = func() error {
		for _, ls := range leases {
			ls.Close()
		}
		end()
		wg.Wait()
		return nil
	}
}
