package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"postrider/dns/dnstest"
	"postrider/internal/clock"
	"postrider/internal/directory"
	"postrider/internal/node"
)

// Options says how to run the lab; zero values work.
type Options struct {
	// Out gets the table of what listens where, what to type, and one line
	// for each step of a letter; nil = discard.
	Out io.Writer
	// DataDir keeps the servers' data; "" = a temporary directory.
	DataDir string
	// FreePorts takes any free ports instead of the usual ones: 25, 110, 143
	// and 587, or those plus 10000; 10053 for the name server.
	FreePorts bool
	// Program is what to type for postrider in a command; "" = postrider.
	Program string
	Clock   clock.Clock
}

// Server is one of the lab's mail servers.
type Server struct {
	Domain   string
	User     string // the one account's name; its address is User@Domain
	Password string
	IP       string

	node      *node.Node
	listeners *node.Listeners
}

// Addr is where a service listens, such as "smtp": host:port; "" for one that
// does not.
func (s *Server) Addr(service string) string { return s.listeners.Addr(service) }

// Lab is two running servers.
type Lab struct {
	Servers [2]*Server
	DNS     string // address of the name server
	DataDir string

	names     *dnstest.Server
	temporary bool
	program   string
	cancel    context.CancelFunc
	nodes     sync.WaitGroup
	mu        sync.Mutex
	err       error
}

// sites is who takes part.
func sites() [2]*Server {
	return [2]*Server{
		{Domain: "crepes.fr", User: "alice", Password: "hungry", IP: "127.0.0.2"},
		{Domain: "hamburger.edu", User: "bob", Password: "hungry", IP: "127.0.0.3"},
	}
}

// Run starts the lab, says on o.Out what to do with it, and returns when ctx
// has ended and the servers have stopped.
func Run(ctx context.Context, o Options) error {
	if o.Out == nil {
		o.Out = io.Discard
	}
	out := &lines{w: o.Out}
	o.Out = out
	l, err := Start(ctx, o)
	if err != nil {
		return err
	}
	l.introduce(out)
	fmt.Fprintln(out, "ready")
	return l.Wait()
}

// Start starts the lab and returns when all its listeners accept. It ends with
// ctx or Close.
func Start(ctx context.Context, o Options) (l *Lab, err error) {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	ctx, cancel := context.WithCancel(ctx)
	l = &Lab{Servers: sites(), DataDir: o.DataDir, program: o.Program, cancel: cancel}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if l.DataDir == "" {
		if l.DataDir, err = os.MkdirTemp("", "postrider-lab-"); err != nil {
			return l, err
		}
		l.temporary = true
	}
	log := newSteps(o.Out, o.Clock)
	if err := l.serveNames(log, o.FreePorts); err != nil {
		return l, err
	}
	port, err := l.bind(o.FreePorts)
	if err != nil {
		return l, err
	}
	ready := make(chan struct{}, len(l.Servers))
	for _, s := range l.Servers {
		if err := l.serve(ctx, s, port, log, ready); err != nil {
			return l, fmt.Errorf("%s: %w", s.Domain, err)
		}
	}
	for range l.Servers {
		select {
		case <-ready:
		case <-ctx.Done():
			return l, ctx.Err()
		}
	}
	return l, nil
}

// Close stops the lab; Wait gives its error.
func (l *Lab) Close() error {
	l.cancel()
	return l.Wait()
}

// Wait returns when the lab has stopped: because the context of Start ended, or
// because a server could not go on, which is the error.
func (l *Lab) Wait() error {
	l.nodes.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.Servers {
		if s.listeners != nil {
			s.listeners.Close()
		}
	}
	if l.names != nil {
		l.names.Close()
	}
	if l.temporary {
		l.err = errors.Join(l.err, os.RemoveAll(l.DataDir))
		l.temporary = false
	}
	return l.err
}

// serveNames starts the name server.
func (l *Lab) serveNames(log *steps, free bool) error {
	z, err := dnstest.Parse(zone(l.Servers[:]))
	if err != nil {
		return err
	}
	addr := "127.0.0.1:10053"
	if free {
		addr = "127.0.0.1:0"
	}
	if l.names, err = dnstest.Listen(addr, z); err != nil && !free {
		l.names, err = dnstest.Listen("127.0.0.1:0", z) // another lab runs
	}
	if err != nil {
		return err
	}
	l.DNS = l.names.Addr
	l.names.Watch(log.asked)
	return nil
}

// bindTries is how often free ports are looked for.
const bindTries = 20

// bind opens the listeners of all servers and returns the port on which each
// takes mail: it is one number, since a server finds out by MX records on which
// address to deliver, and never on which port.
func (l *Lab) bind(free bool) (port int, err error) {
	if !free {
		if err = l.bindPorts(25, 587, 110, 143); err == nil {
			return 25, nil
		}
		const offset = 10000
		port = 25 + offset
		if err = l.bindPorts(port, 587+offset, 110+offset, 143+offset); err != nil {
			err = fmt.Errorf("neither the usual ports nor those plus %d are free on 127.0.0.2 and 127.0.0.3: %w", offset, err)
		}
		return port, err
	}
	for range bindTries {
		if port, err = freePort(l.Servers[0].IP); err != nil {
			return 0, err
		}
		if err = l.bindPorts(port, 0, 0, 0); err == nil {
			return port, nil
		}
	}
	return 0, err
}

func freePort(ip string) (int, error) {
	p, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		return 0, err
	}
	defer p.Close()
	return p.Addr().(*net.TCPAddr).Port, nil
}

// bindPorts opens all listeners or none.
func (l *Lab) bindPorts(smtp, submission, pop3, imap int) error {
	for i, s := range l.Servers {
		at := func(port int) []string { return []string{net.JoinHostPort(s.IP, strconv.Itoa(port))} }
		ls, err := node.Bind(node.Options{Listen: node.Listen{
			SMTP: at(smtp), Submission: at(submission), POP3: at(pop3), IMAP: at(imap),
		}})
		if err != nil {
			for _, s := range l.Servers[:i] {
				s.listeners.Close()
				s.listeners = nil
			}
			return err
		}
		s.listeners = ls
	}
	return nil
}

// serve builds one server with its account and runs it.
func (l *Lab) serve(ctx context.Context, s *Server, port int, log *steps, ready chan<- struct{}) error {
	o := node.DefaultOptions()
	o.Hostname = s.Domain
	o.DataDir = filepath.Join(l.DataDir, s.Domain)
	o.RelayNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	o.Resolver, o.HostsFile = l.DNS, ""
	o.RemotePort = port
	o.Retry = []time.Duration{5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute}
	o.Log = log.logger(s.Domain)
	o.Upgrade = true
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return err
	}
	n, err := node.New(ctx, o, s.listeners)
	if err != nil {
		return err
	}
	s.node = n
	if err := s.populate(ctx); err != nil {
		return errors.Join(err, n.Close())
	}
	l.nodes.Go(func() {
		defer l.cancel() // one that can't go on ends the lab
		if err := n.Run(ctx, func() { ready <- struct{}{} }); err != nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.err = errors.Join(l.err, fmt.Errorf("%s: %w", s.Domain, err))
		}
	})
	return nil
}

// populate makes the domain and its account, where they are not there from an
// earlier run.
func (s *Server) populate(ctx context.Context) error {
	if err := s.node.Directory.AddDomain(ctx, s.Domain); err != nil && !errors.Is(err, directory.ErrExists) {
		return err
	}
	err := s.node.Directory.AddAccount(ctx, s.User+"@"+s.Domain, s.Password)
	if errors.Is(err, directory.ErrExists) {
		return nil
	}
	return err
}
