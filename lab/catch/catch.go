package catch

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"

	"postrider/internal/clock"
	"postrider/internal/directory"
	"postrider/internal/node"
	"postrider/lab/page"
	"postrider/mailstore"
	"postrider/mta"
)

//go:embed static
var static embed.FS

// The one account, and the ports where the services are.
const (
	Account  = "catch@catch.test"
	Password = "catch"

	SMTPPort       = 1025
	SubmissionPort = 1587
	POP3Port       = 1110
	IMAPPort       = 1143
	HTTPPort       = 1080
)

// Defaults of what is kept.
const (
	defaultMessages = 1000
	defaultOctets   = 256 << 20
	maxMessage      = 50 << 20 // octets of one message
)

// Options says how a Catcher runs; zero values work.
type Options struct {
	Listen     string // address; "" = 127.0.0.1
	PortOffset int    // added to every port
	FreePorts  bool   // any free ports
	Keep       string // the folder for the mail; "" = a temporary one
	Messages   int    // that are kept; 0 = 1000
	Octets     int64  // of all that is kept; 0 = 256 MiB
	Out        io.Writer
	Log        *slog.Logger
	Clock      clock.Clock
}

// Catcher is a running server.
type Catcher struct {
	o         Options
	node      *node.Node
	listeners *node.Listeners
	web       net.Listener
	account   mailstore.AccountID
	inbox     mailstore.MailboxID
	waits     chan struct{} // one for each who waits
	dir       string
	temporary bool
	cancel    context.CancelFunc
	done      <-chan struct{}
	running   sync.WaitGroup

	mu  sync.Mutex
	err error
}

// Run starts a Catcher, says on o.Out where it is, and returns when ctx has ended
// and it has stopped.
func Run(ctx context.Context, o Options) error {
	c, err := Start(ctx, o)
	if err != nil {
		return err
	}
	c.introduce()
	return c.Wait()
}

// Start starts a Catcher and returns when it accepts mail. It ends with ctx or
// Close.
func Start(ctx context.Context, o Options) (*Catcher, error) {
	o.Listen = cmp.Or(o.Listen, "127.0.0.1")
	o.Messages = cmp.Or(o.Messages, defaultMessages)
	o.Octets = cmp.Or(o.Octets, defaultOctets)
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &Catcher{o: o, cancel: cancel, done: ctx.Done(), waits: make(chan struct{}, maxWaits)}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// at is where a service listens.
func (c *Catcher) at(port int) string {
	if c.o.FreePorts {
		return net.JoinHostPort(c.o.Listen, "0")
	}
	return net.JoinHostPort(c.o.Listen, strconv.Itoa(port+c.o.PortOffset))
}

func (c *Catcher) start(ctx context.Context) (err error) {
	if c.dir = c.o.Keep; c.dir == "" {
		if c.dir, err = os.MkdirTemp("", "postrider-catch-"); err != nil {
			return err
		}
		c.temporary = true
	} else if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	o := c.options()
	if c.listeners, err = node.Bind(o); err != nil {
		return err
	}
	if c.web, err = net.Listen("tcp", c.at(HTTPPort)); err != nil {
		return err
	}
	c.node, err = node.New(ctx, o, c.listeners)
	if err != nil {
		c.listeners = nil // New has closed them
		return err
	}
	if err := c.populate(ctx); err != nil {
		return errors.Join(err, c.node.Close())
	}
	ready := make(chan struct{})
	c.running.Go(func() { c.end(c.node.Run(ctx, func() { close(ready) })) })
	select {
	case <-ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	c.running.Go(func() { c.end(c.prune(ctx)) })
	c.running.Go(func() { c.end(page.Serve(ctx, c.web, c.handler(), c.o.Log, ctx.Done())) })
	return nil
}

// options are those of the node.
func (c *Catcher) options() node.Options {
	o := node.DefaultOptions()
	o.Hostname, o.DataDir = "catch.test", c.dir
	o.Listen = node.Listen{SMTP: []string{c.at(SMTPPort)}, Submission: []string{c.at(SubmissionPort)},
		POP3: []string{c.at(POP3Port)}, IMAP: []string{c.at(IMAPPort)}}
	o.Catch = mta.Address{Local: "catch", Domain: "catch.test"}
	o.Plaintext = directory.PlaintextAlways // the password is in the manual
	o.BareHelo = true
	o.Resolver, o.HostsFile = "127.0.0.1:9", "" // nobody is looked for
	o.Undelete, o.SearchIndex, o.Upgrade, o.Disposable = 0, false, true, true
	o.Limits.MessageSize = maxMessage
	o.Limits.MessagesPerMinute, o.Limits.ConnectionsPerAddress = 0, 0
	// The bound of what is kept, and room for what comes before the oldest goes.
	o.Limits.AccountStorage = c.o.Octets + 2*maxMessage
	o.Log, o.Clock = c.o.Log, c.o.Clock
	return o
}

// populate makes the domain and its account, where they are not there from an
// earlier run.
func (c *Catcher) populate(ctx context.Context) error {
	if err := c.node.Directory.AddDomain(ctx, "catch.test"); err != nil && !errors.Is(err, directory.ErrExists) {
		return err
	}
	if err := c.node.Directory.AddAccount(ctx, Account, Password); err != nil && !errors.Is(err, directory.ErrExists) {
		return err
	}
	a, err := c.node.Directory.Account(ctx, Account)
	if err != nil {
		return err
	}
	c.account = a.ID
	c.inbox, err = c.node.Store.MailboxID(ctx, a.ID, "INBOX")
	return err
}

// end notes why one part could not go on, and ends the others.
func (c *Catcher) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && !errors.Is(err, context.Canceled) {
		c.err = errors.Join(c.err, err)
	}
	c.cancel()
}

// Close stops the Catcher and returns the error that Wait gives.
func (c *Catcher) Close() error {
	c.cancel()
	return c.Wait()
}

// Wait returns when the Catcher has stopped: because the context of Start ended,
// or because it could not go on, which is the error.
func (c *Catcher) Wait() error {
	<-c.done
	c.running.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.node == nil && c.listeners != nil {
		c.listeners.Close()
	}
	if c.web != nil {
		c.web.Close()
	}
	if c.temporary {
		c.err = errors.Join(c.err, os.RemoveAll(c.dir))
		c.temporary = false
	}
	return c.err
}

// Addr is where a service listens: smtp, submission, pop3, imap or http.
func (c *Catcher) Addr(service string) string {
	if service == "http" {
		return c.web.Addr().String()
	}
	return c.listeners.Addr(service)
}

func (c *Catcher) introduce() {
	smtp, web := c.Addr("smtp"), c.Addr("http")
	host, port, _ := net.SplitHostPort(smtp)
	fmt.Fprintf(c.o.Out, `postrider %s catches mail: everything that is sent here is kept here.

  send to        smtp://%s   any address, no login
  or, logged in  smtp://%s   name %s, password %s
  read in a browser   http://%s/
  by a program        curl http://%s/api/messages
  by POP3, IMAP       %s, %s   name %s, password %s

  echo hello | curl smtp://%s:%s --mail-from a@example.org --mail-rcpt b@example.org --crlf -T -

Recipients that fail on purpose: temperror@ permerror@ 450@ 550@ (any code) 421@ timeout@
ready
`, node.Version(), smtp, c.Addr("submission"), Account, Password, web, web, c.Addr("pop3"), c.Addr("imap"), Account, Password, host, port)
}
