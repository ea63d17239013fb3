package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"time"

	"postrider/dns"
	"postrider/imap"
	"postrider/internal/clock"
	"postrider/internal/directory"
	"postrider/internal/wire"
	"postrider/mailstore"
	"postrider/mailstore/sqlite"
	"postrider/mta/deliver"
	"postrider/mta/queue"
	"postrider/mta/route"
	"postrider/mta/smtpd"
	"postrider/pop3"
)

// stopPatience bounds the end of a node: sessions and attempts in hand may
// finish within it.
const stopPatience = 20 * time.Second

// Node is one whole server.
type Node struct {
	Store     *mailstore.Store
	Directory *directory.Directory

	options  Options
	started  time.Time
	log      *slog.Logger
	router   *route.Router
	client   *deliver.Client
	queue    *queue.Queue
	admin    *Admin
	metrics  *metrics
	ls       *Listeners // nil offline
	certs    *wire.Certificates
	gate     *wire.Gate
	server   *wire.Server
	smtp     []*smtpd.Server
	control  *control
	submit   net.Listener
	stopBody func()
}

// New opens the data directory and builds a node. With listeners it is ready
// to Run; without, only its Admin and submission work (commands without a
// running server).
func New(ctx context.Context, o Options, ls *Listeners) (n *Node, err error) {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	n = &Node{options: o, log: o.Log, ls: ls, started: o.Clock.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if err := n.openStore(ctx); err != nil {
		return n, err
	}
	n.metrics = newMetrics(n)
	if err := n.buildMTA(); err != nil {
		return n, err
	}
	n.admin = &Admin{n}
	if err := n.buildServers(); err != nil {
		return n, err
	}
	return n, nil
}

func (n *Node) openStore(ctx context.Context) error {
	engine, err := sqlite.Open(ctx, n.options.DataDir, sqlite.Options{Log: n.log})
	if err != nil {
		return err
	}
	n.Store, err = mailstore.Open(ctx, engine, mailstore.Options{Clock: n.options.Clock, Log: n.log})
	if err != nil {
		return err
	}
	n.Directory, err = directory.New(n.Store, directory.Options{
		Plaintext:             n.options.Plaintext,
		FailedLoginsPerMinute: n.options.Limits.FailedLoginsPerMinute,
		Clock:                 n.options.Clock,
		Log:                   n.log,
	})
	return err
}

// newResolver asks server, or what the options name when it is "".
func (n *Node) newResolver(server string) (*dns.Resolver, error) {
	o := dns.Options{HostsFile: n.options.HostsFile, Clock: n.options.Clock}
	if server == "" && n.options.Resolver != "system" {
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
		Resolver:        resolver,
		RelayNetworks:   n.options.RelayNetworks,
		RelayDomains:    n.options.RelayDomains,
		PrivateNetworks: n.options.PrivateNetworks,
		RemotePort:      n.options.RemotePort,
		Clock:           n.options.Clock,
		Log:             n.log,
	}
	if s := n.options.Smarthost; s.Host != "" {
		o.Smarthost = &route.Smarthost{Host: s.Host, Login: s.User, Password: s.Password, TLS: s.TLS}
	}
	if n.ls != nil {
		o.Ourselves = n.ls.ourselves()
	}
	return route.New(o)
}

func (n *Node) buildMTA() error {
	resolver, err := n.newResolver("")
	if err != nil {
		return err
	}
	n.router = n.newRouter(resolver)
	n.client = deliver.New(deliver.Options{Hostname: n.options.Hostname, Clock: n.options.Clock, Log: n.log,
		Metrics: n.metrics.delivery()})
	n.queue, err = queue.New(queue.Options{
		Store:     n.Store,
		Router:    n.router,
		Deliverer: n.client,
		Hostname:  n.options.Hostname,
		Retry:     n.options.Retry,
		Expire:    n.options.Expire,
		Clock:     n.options.Clock,
		Log:       n.log,
		Metrics:   n.metrics.queue(),
	})
	return err
}

// buildServers makes what listens: the control and submission sockets always,
// the protocols where there are listeners.
func (n *Node) buildServers() error {
	var err error
	n.gate = wire.NewGate(n.gateOptions(n.options.Limits))
	n.server = wire.NewServer(wire.ServerOptions{Gate: n.gate, Clock: n.options.Clock, Log: n.log})
	if n.submit, err = listenInDir(n.options.DataDir, submitSocket); err != nil {
		return fmt.Errorf("make the submission socket: %w", err)
	}
	if n.ls == nil {
		n.server.Serve(n.submit, n.newSMTP(smtpd.Submission, true).Protocol("submit", false))
		return nil
	}
	l, err := listenInDir(n.options.DataDir, controlSocket)
	if err != nil {
		return fmt.Errorf("make the control socket: %w", err)
	}
	if n.control, err = newControl(l, n.admin); err != nil {
		return err
	}
	if n.options.TLSCert != "" {
		n.certs, err = wire.LoadCertificates(n.options.TLSCert, n.options.TLSKey, n.log)
	} else {
		names := []string{n.options.Hostname, "localhost", "127.0.0.1", "::1"}
		n.certs, err = wire.LocalCertificates(filepath.Join(n.options.DataDir, "tls"), slices.Compact(names), n.log)
	}
	return err
}

func (n *Node) gateOptions(l Limits) wire.GateOptions {
	return wire.GateOptions{Connections: l.Connections, ConnectionsPerAddress: l.ConnectionsPerAddress}
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
		Metrics:     n.metrics.smtpd,
		Crowded:     n.gate.Crowded,
	}
	if n.certs != nil {
		o.TLS = n.certs.Config()
	}
	s := smtpd.New(o)
	s.SetLimits(smtpLimits(n.options.Limits))
	n.smtp = append(n.smtp, s)
	return s
}

func smtpLimits(l Limits) smtpd.Limits {
	return smtpd.Limits{MaxSize: l.MessageSize, MaxRecipients: l.Recipients, MessagesPerMinute: l.MessagesPerMinute}
}

// protocols maps each service to what serves it.
func (n *Node) protocols() map[string]wire.Protocol {
	tlsConfig := n.certs.Config()
	mx, submission, lmtp := n.newSMTP(smtpd.MX, false), n.newSMTP(smtpd.Submission, false), n.newSMTP(smtpd.LMTP, false)
	pop := pop3.New(pop3.Options{Hostname: n.options.Hostname, TLS: tlsConfig, Store: n.Store, Directory: n.Directory,
		Clock: n.options.Clock, Log: n.log, Crowded: n.gate.Crowded, Metrics: n.metrics.pop3()})
	im := imap.New(imap.Options{Hostname: n.options.Hostname, TLS: tlsConfig, Store: n.Store, Directory: n.Directory,
		MaxSize: n.options.Limits.MessageSize, Clock: n.options.Clock, Log: n.log, Crowded: n.gate.Crowded,
		Metrics: n.metrics.imap()})
	return map[string]wire.Protocol{
		"smtp":        mx.Protocol("smtp", false),
		"submission":  submission.Protocol("submission", false),
		"submissions": submission.Protocol("submissions", true),
		"lmtp":        lmtp.Protocol("lmtp", false),
		"pop3":        pop.Protocol("pop3", false),
		"pop3s":       pop.Protocol("pop3s", true),
		"imap":        im.Protocol("imap", false),
		"imaps":       im.Protocol("imaps", true),
	}
}

// Run serves until ctx ends, then stops: no new connection, what is in hand
// finishes within a bound. It calls ready when every listener accepts. An
// error means that the node could not go on, because the storage failed.
func (n *Node) Run(ctx context.Context, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queueDone := make(chan error, 1)
	go func() { queueDone <- n.queue.Run(ctx) }()
	protocols := n.protocols()
	n.server.Serve(n.submit, n.newSMTP(smtpd.Submission, true).Protocol("submit", false))
	for _, b := range n.ls.all {
		if b.service == "metrics" {
			n.metrics.serve(b.Listener, n.log)
			continue
		}
		n.server.Serve(b.Listener, protocols[b.service])
	}
	if ready != nil {
		ready()
	}
	var err error
	select {
	case <-ctx.Done():
	case <-n.Store.Failed():
		err = errors.New("the storage failed; nothing acknowledged is lost; mend the disk and start again")
	}
	n.log.Info("stopping")
	cancel()
	stop, done := context.WithTimeout(context.Background(), stopPatience)
	defer done()
	if serr := n.server.Shutdown(stop); serr != nil {
		n.log.Warn("sessions were cut short", "err", serr)
	}
	if qerr := <-queueDone; qerr != nil && !errors.Is(qerr, context.Canceled) {
		err = errors.Join(err, qerr)
	}
	return errors.Join(err, n.Close())
}

// Close ends what Run does not own. It may be called more than once.
func (n *Node) Close() error {
	if n.control != nil {
		n.control.Close()
		n.control = nil
	}
	if n.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
		defer cancel()
		_ = n.server.Shutdown(ctx) // after Run it has nothing left
	}
	if n.submit != nil {
		n.submit.Close()
		n.submit = nil
	}
	if n.metrics != nil {
		n.metrics.close()
	}
	if n.client != nil {
		n.client.Close()
		n.client = nil
	}
	if n.Store == nil {
		return nil
	}
	store := n.Store
	n.Store = nil
	return store.Close()
}

// Reload applies the limits of o and looks at the certificate files now.
func (n *Node) Reload(o Options) error {
	n.gate.SetLimits(n.gateOptions(o.Limits))
	for _, s := range n.smtp {
		s.SetLimits(smtpLimits(o.Limits))
	}
	n.Directory.SetFailedLoginsPerMinute(o.Limits.FailedLoginsPerMinute)
	return n.certs.Reload()
}

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

// OpenSubmission connects to the submission socket of the server that runs on
// o.DataDir; with none running it opens the data directory itself, and closeNode
// closes it.
func OpenSubmission(ctx context.Context, o Options) (conn net.Conn, closeNode func(), err error) {
	if conn, err = dialInDir(o.DataDir, submitSocket); err == nil {
		return conn, func() {}, nil
	}
	n, err := New(ctx, o, nil)
	if err != nil {
		return nil, nil, err
	}
	conn, err = dialInDir(o.DataDir, submitSocket)
	if err != nil {
		return nil, nil, errors.Join(err, n.Close())
	}
	return conn, func() { n.Close() }, nil
}
