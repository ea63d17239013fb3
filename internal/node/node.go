package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"postrider/dns"
	"postrider/dns/recursor"
	dnsserver "postrider/dns/server"
	"postrider/imap"
	"postrider/internal/clock"
	"postrider/internal/directory"
	"postrider/internal/journey"
	"postrider/internal/oauth"
	"postrider/internal/wire"
	"postrider/mailstore"
	"postrider/mailstore/sqlite"
	"postrider/mta"
	"postrider/mta/deliver"
	"postrider/mta/queue"
	"postrider/mta/route"
	"postrider/mta/smtpd"
	"postrider/pop3"
)

// Node is one whole server. Its methods may be called concurrently; what they
// use is built by New and does not change.
type Node struct {
	Store     *mailstore.Store
	Directory *directory.Directory

	options   Options
	low       func() bool // the disk is nearly full
	searching searching
	started   time.Time
	log       *slog.Logger
	router    *route.Router
	client    *deliver.Client
	queue     *queue.Queue
	journey   *journey.Recorder
	metrics   *metrics
	ls        *Listeners // nil offline
	certs     *wire.Certificates
	tokens    *oauth.Judge // nil: off
	gate      *wire.Gate
	server    *wire.Server
	smtp      []*smtpd.Server
	imap      *imap.Server
	dns       *dnsserver.Server        // nil offline
	own       *ownZones                // kept current; nil without a name server
	protocols map[string]wire.Protocol // by service; "submit" is for the submission socket
	control   *control
	transfers *control
	sockets   sockets
	panics    atomic.Int64 // of commands
	maxSize   atomic.Int64 // of an imported message; 0 = no limit

	mu       sync.Mutex
	recursor *recursor.Resolver // see iterative; nil until it is wanted
	running  chan struct{}      // closed at the end of Run; nil before Run
	closed   bool
	stop     chan struct{} // closed by Close
	freeing  sync.Once

	stopping     chan struct{} // closed before sessions are waited for
	beginsToStop sync.Once
}

// New opens the data directory and builds a node. With listeners, which it then
// owns, also when it fails, the node is ready to Run; without, only its commands
// and its submission work, in this process alone.
func New(ctx context.Context, o Options, ls *Listeners) (*Node, error) {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	n := &Node{options: o, log: o.Log, ls: ls, started: o.Clock.Now(), stop: make(chan struct{}), stopping: make(chan struct{})}
	n.maxSize.Store(o.Limits.MessageSize)
	if err := n.build(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// build makes the parts, from the store up. The sockets in the data directory
// come last, so that whoever reaches one finds all the rest.
func (n *Node) build(ctx context.Context) error {
	n.metrics = newMetrics(n)
	n.openJourney()
	if err := n.openStore(ctx); err != nil {
		return err
	}
	if n.ls != nil && n.options.SearchIndex {
		if _, err := n.searching.open(n); err != nil {
			return err
		}
	}
	if err := n.buildMTA(); err != nil {
		return err
	}
	if err := n.loadCertificates(); err != nil {
		return err
	}
	n.buildServers()
	if err := n.buildDNS(); err != nil {
		return err
	}
	n.control = newControl(n)
	n.transfers = newTransfers(n)
	if n.ls == nil {
		return nil
	}
	return n.openSockets()
}

// disposableReserve is the space that a disposable store keeps for deleting, in
// octets.
const disposableReserve = 4 << 20

func (n *Node) openStore(ctx context.Context) error {
	o := sqlite.Options{Log: n.log, Program: Version(), Upgrade: n.options.Upgrade}
	if n.options.Disposable {
		o.Reserve = disposableReserve
	}
	engine, err := sqlite.Open(ctx, n.options.DataDir, o)
	if err != nil {
		return err
	}
	n.low = engine.Low
	n.metrics.gauge("store_low", "1 while new mail is refused because the disk is nearly full.", func() float64 {
		if n.low() {
			return 1
		}
		return 0
	})
	n.Store, err = mailstore.Open(ctx, engine, mailstore.Options{Clock: n.options.Clock, Log: n.log,
		Metrics: n.metrics.store(), Keep: n.options.Undelete, Compress: n.options.Compress, Quota: n.options.Limits.quota()})
	if err != nil {
		return err
	}
	var tokens directory.Tokens
	if o := n.options.OAuth; n.ls != nil && o.Enabled() {
		o.Clock, o.Log = n.options.Clock, n.log
		if n.tokens, err = oauth.New(o); err != nil {
			return err
		}
		tokens = n.tokens
	}
	n.Directory, err = directory.New(n.Store, directory.Options{
		Tokens:                tokens,
		NoChannelBinding:      !n.options.ChannelBinding,
		PublicPasswords:       n.options.Disposable,
		Plaintext:             n.options.Plaintext,
		FailedLoginsPerMinute: n.options.Limits.FailedLoginsPerMinute,
		Clock:                 n.options.Clock,
		Log:                   n.log,
	})
	return err
}

// newResolver asks server, or what the options name when it is "".
func (n *Node) newResolver(server string) (*dns.Resolver, error) {
	o := dns.Options{HostsFile: n.options.HostsFile, Dial: n.options.Dial, Journey: n.journey, Clock: n.options.Clock, Log: n.log}
	switch {
	case server != "" || n.options.Resolver == "system":
	case n.options.Resolver == "iterative":
		r, err := n.iterative()
		if err != nil {
			return nil, err
		}
		o.Iterative = r
	default:
		server = n.options.Resolver
	}
	if server != "" {
		o.Servers = []string{server}
	}
	return dns.NewResolver(o)
}

func (n *Node) newRouter(resolver *dns.Resolver) *route.Router {
	o := route.Options{
		Hostname:        n.options.Hostname,
		Directory:       n.Directory,
		Journey:         n.journey,
		Resolver:        resolver,
		RelayNetworks:   n.options.RelayNetworks,
		RelayDomains:    n.options.RelayDomains,
		PrivateNetworks: n.options.PrivateNetworks,
		RemotePort:      n.options.RemotePort,
	}
	if s := n.options.Smarthost; s.Host != "" {
		o.Smarthost = &route.Smarthost{Host: s.Host, Login: s.User, Password: s.Password, TLS: s.TLS}
	}
	if n.ls != nil {
		o.Ourselves = n.ls.ourselves()
	}
	if !n.options.Catch.IsZero() {
		o.Catch = &route.Catch{Account: n.options.Catch, Clock: n.options.Clock, Quit: n.stopping}
	}
	return route.New(o)
}

func (n *Node) buildMTA() error {
	resolver, err := n.newResolver("")
	if err != nil {
		return err
	}
	n.router = n.newRouter(resolver)
	n.client = deliver.New(deliver.Options{Hostname: n.options.Hostname, Dial: n.options.Dial, TLS: n.options.PeerTLS, Clock: n.options.Clock, Log: n.log,
		Journey: n.journey, Metrics: n.metrics.delivery()})
	n.queue, err = queue.New(queue.Options{
		Store:     n.Store,
		Router:    n.router,
		Deliverer: n.client,
		Hostname:  n.options.Hostname,
		Smarthost: n.options.Smarthost.Host,
		Retry:     n.options.Retry,
		Expire:    n.options.Expire,
		Clock:     n.options.Clock,
		Log:       n.log,
		Journey:   n.journey,
		Metrics:   n.metrics.queue(),
	})
	return err
}

// loadCertificates opens what the TLS listeners show; a node without listeners
// needs none. The files are read after root was given up, as they are again
// when they change.
func (n *Node) loadCertificates() (err error) {
	if n.ls == nil {
		return nil
	}
	if n.options.TLSCert == "" {
		names := []string{n.options.Hostname, "localhost", "127.0.0.1", "::1"}
		n.certs, err = wire.LocalCertificates(filepath.Join(n.options.DataDir, "tls"), slices.Compact(names), n.log)
		return err
	}
	n.certs, err = wire.LoadCertificates(n.options.TLSCert, n.options.TLSKey, n.log)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	who := "this process"
	if u, uerr := user.LookupId(strconv.Itoa(os.Geteuid())); uerr == nil { // user.Current remembers root
		who = u.Username
	}
	return fmt.Errorf("%w: %s must be able to read it, now and when it is renewed (chgrp, chmod 0640, and chmod o+x on the folders above)", err, who)
}

// buildServers makes what serves the listeners.
func (n *Node) buildServers() {
	o := &n.options
	n.gate = wire.NewGate(gateOptions(o.Limits))
	n.server = wire.NewServer(wire.ServerOptions{Gate: n.gate, Clock: o.Clock, Log: n.log, Metrics: n.metrics.connections()})
	n.protocols = map[string]wire.Protocol{"submit": n.newSMTP(smtpd.Submission, true).Protocol("submit", false)}
	if n.ls == nil {
		return
	}
	pop := pop3.New(pop3.Options{Hostname: o.Hostname, TLS: n.userTLS(), Store: n.Store, Directory: n.Directory,
		Policy: o.POP3, Clock: o.Clock, Log: n.log, Journey: n.journey, Crowded: n.gate.Crowded, Metrics: n.metrics.pop3()})
	n.imap = imap.New(imap.Options{Search: n.searching.searcher(), LiteralMinus: o.LiteralMinus, MessageLimit: o.MessageLimit, Administrators: o.Administrators, SetQuota: n.setQuota,
		Hostname: o.Hostname, TLS: n.userTLS(), Store: n.Store, Directory: n.Directory,
		MaxSize: o.Limits.MessageSize, Clock: o.Clock, Log: n.log, Journey: n.journey, Crowded: n.gate.Crowded, Metrics: n.metrics.imap()})
	mx, submission, lmtp := n.newSMTP(smtpd.MX, false), n.newSMTP(smtpd.Submission, false), n.newSMTP(smtpd.LMTP, false)
	n.protocols["smtp"] = mx.Protocol("smtp", false)
	n.protocols["submission"] = submission.Protocol("submission", false)
	n.protocols["submissions"] = submission.Protocol("submissions", true)
	n.protocols["lmtp"] = lmtp.Protocol("lmtp", false)
	n.protocols["pop3"] = pop.Protocol("pop3", false)
	n.protocols["pop3s"] = pop.Protocol("pop3s", true)
	n.protocols["imap"] = n.imap.Protocol("imap", false)
	n.protocols["imaps"] = n.imap.Protocol("imaps", true)
}

// userTLS is the configuration of a service that users log in to.
func (n *Node) userTLS() *tls.Config {
	switch n.options.ClientCertificates {
	case "never":
		return n.certs.Config()
	case "always":
		return n.certs.AskingConfig(func() bool { return true })
	default:
		return n.certs.AskingConfig(n.Directory.AsksCertificates)
	}
}

// newSMTP makes a server for one kind of SMTP listener. One that is ours serves
// the submission socket, which only the data directory's owner can open.
func (n *Node) newSMTP(mode smtpd.Mode, ours bool) *smtpd.Server {
	o := smtpd.Options{
		Hostname:    n.options.Hostname,
		Mode:        mode,
		Ours:        ours,
		RequireAuth: n.options.RequireAuth && mode == smtpd.MX,
		BareHelo:    n.options.BareHelo,
		BareNewline: n.options.BareNewline,
		Router:      n.router,
		Queue:       n.queue,
		Directory:   n.Directory,
		Clock:       n.options.Clock,
		Log:         n.log,
		Journey:     n.journey,
		Metrics:     n.metrics.smtpd,
		Crowded:     n.gate.Crowded,
	}
	if !n.options.Catch.IsZero() {
		o.EnvelopeTo, o.Directory = true, anySender{n.Directory}
	}
	switch {
	case n.certs == nil:
	case mode == smtpd.Submission:
		o.TLS = n.userTLS()
	default:
		o.TLS = n.certs.Config()
	}
	if n.imap != nil {
		o.URLs = n.imap
	}
	s := smtpd.New(o)
	s.SetLimits(smtpLimits(n.options.Limits))
	n.smtp = append(n.smtp, s)
	return s
}

func gateOptions(l Limits) wire.GateOptions {
	return wire.GateOptions{Connections: l.Connections, ConnectionsPerAddress: l.ConnectionsPerAddress}
}

func smtpLimits(l Limits) smtpd.Limits {
	return smtpd.Limits{MaxSize: l.MessageSize, MaxRecipients: l.Recipients, MessagesPerMinute: l.MessagesPerMinute}
}

// Reload applies the limits and the DNS service of o, and looks at the zone and
// certificate files now. The rest of o is not looked at.
func (n *Node) Reload(o Options) error {
	n.gate.SetLimits(gateOptions(o.Limits))
	for _, s := range n.smtp {
		s.SetLimits(smtpLimits(o.Limits))
	}
	n.maxSize.Store(o.Limits.MessageSize)
	n.Directory.SetFailedLoginsPerMinute(o.Limits.FailedLoginsPerMinute)
	n.Store.SetQuota(o.Limits.quota())
	ctx, cancel := context.WithTimeout(context.Background(), adminPatience)
	defer cancel()
	if err := n.queue.RetryFull(ctx, ""); err != nil {
		n.log.Warn("try again what waits for full accounts", "error", err)
	}
	if n.ls == nil {
		return nil
	}
	n.imap.SetMaxSize(o.Limits.MessageSize)
	err := n.certs.Reload() // first: our own zone names the certificate
	return errors.Join(err, n.reloadDNS(o.DNS))
}

// Busy is what Queue.Busy tells.
func (n *Node) Busy() (due, trying bool) { return n.queue.Busy() }

// Hostname is the node's name.
func (n *Node) Hostname() string { return n.options.Hostname }

// CAFile is the local CA's certificate; "" where the configuration names one.
func (n *Node) CAFile() string { return n.certs.CAFile() }

// Addr is the address of the first listener of a service; "" without one.
func (n *Node) Addr(service string) string { return n.ls.Addr(service) }

// TLSConfig is the configuration of the TLS listeners.
func (n *Node) TLSConfig() *tls.Config { return n.certs.Config() }

// ListenerInfo is a line of the start-up table.
type ListenerInfo struct{ Service, Addr, About string }

// Listening lists the listeners in the order of the table.
func (n *Node) Listening() []ListenerInfo {
	var out []ListenerInfo
	for _, s := range services {
		for _, b := range n.ls.all {
			if b.service == s.name {
				out = append(out, ListenerInfo{s.name, b.Addr().String(), s.about})
			}
		}
	}
	return out
}

// anySender lets whoever logs in send as anybody.
type anySender struct{ *directory.Directory }

func (anySender) Owns(context.Context, int64, mta.Address) (bool, error) { return true, nil }
