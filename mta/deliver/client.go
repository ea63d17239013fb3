package deliver

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postrider/internal/clock"
	"postrider/internal/journey"
	"postrider/mta"
)

// Options has what a Client needs; zero values work, but for Hostname.
type Options struct {
	Hostname string // the argument of EHLO
	// Dial opens a connection; the default is a net.Dialer's DialContext.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// TLS has the roots that certificates are verified by; nil means the
	// system's.
	TLS              *tls.Config
	Timeouts         Timeouts
	IdlePerHost      int           // connections kept for one address; 0 means 20
	IdleTotal        int           // connections kept in all; 0 means 200
	IdleTime         time.Duration // how long; 0 means 5 seconds
	MaxPerConnection int           // messages sent over one connection; 0 means 100
	Clock            clock.Clock
	Log              *slog.Logger
	Journey          *journey.Recorder // gets the dialogues; nil = nobody
	Metrics          Metrics
}

// Timeouts are totals: a peer that drips gets no more. Zero values mean those of
// RFC 5321 section 4.5.3.2, and shorter ones where it has none.
type Timeouts struct {
	Connect  time.Duration // TCP, 30 seconds
	TLS      time.Duration // handshake, 1 minute
	Greeting time.Duration // 5 minutes
	Command  time.Duration // EHLO, STARTTLS, AUTH, MAIL, RCPT, RSET: 5 minutes each
	Data     time.Duration // the reply to DATA, 2 minutes
	Block    time.Duration // a block of data taken, 3 minutes
	Final    time.Duration // the reply to the dot, 10 minutes
	Quit     time.Duration // the reply to QUIT, 2 seconds
}

func (t Timeouts) withDefaults() Timeouts {
	for _, f := range []struct {
		v *time.Duration
		d time.Duration
	}{
		{&t.Connect, 30 * time.Second}, {&t.TLS, time.Minute}, {&t.Greeting, 5 * time.Minute},
		{&t.Command, 5 * time.Minute}, {&t.Data, 2 * time.Minute}, {&t.Block, 3 * time.Minute},
		{&t.Final, 10 * time.Minute}, {&t.Quit, 2 * time.Second},
	} {
		if *f.v == 0 {
			*f.v = f.d
		}
	}
	return t
}

// Metrics counts what the client does; nil fields are off.
type Metrics struct {
	Connections prometheus.Counter // opened
	Reused      prometheus.Counter // transactions on a connection that had one before
	Messages    prometheus.Counter // transactions that ended in 2xx
	Recipients  prometheus.Counter // that a peer took
}

func count(c prometheus.Counter, n int) {
	if c != nil {
		c.Add(float64(n))
	}
}

// Client delivers messages to peers. It is safe for concurrent use.
type Client struct {
	o       Options
	tls     *tls.Config
	pool    pool
	buffers sync.Pool // of *buffers
}

// buffers are what a transaction needs while content flows.
type buffers struct {
	in, out [blockSize]byte
}

// New returns a Client. Its owner calls Close when the last Deliver returned.
func New(o Options) *Client {
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.IdlePerHost == 0 {
		o.IdlePerHost = 20
	}
	if o.IdleTotal == 0 {
		o.IdleTotal = 200
	}
	if o.IdleTime == 0 {
		o.IdleTime = 5 * time.Second
	}
	if o.MaxPerConnection == 0 {
		o.MaxPerConnection = 100
	}
	o.Timeouts = o.Timeouts.withDefaults()
	c := &Client{o: o}
	if o.TLS != nil {
		c.tls = o.TLS.Clone()
	} else {
		c.tls = new(tls.Config)
	}
	c.tls.MinVersion = max(c.tls.MinVersion, tls.VersionTLS12)
	if c.tls.ClientSessionCache == nil {
		c.tls.ClientSessionCache = tls.NewLRUClientSessionCache(maxTLSSessions)
	}
	c.pool.init(&c.o)
	c.buffers.New = func() any { return new(buffers) }
	return c
}

// maxTLSSessions bounds the sessions kept for resumption.
const maxTLSSessions = 256

// Close ends the idle connections and waits until they are closed.
func (c *Client) Close() error {
	c.pool.close()
	return nil
}

// Deliver makes one attempt for d and tells its outcomes to d.Record. It
// returns Record's or Partial's error. When ctx ends before any recipient's fate
// is known it returns ctx's error and Record is not called.
func (c *Client) Deliver(ctx context.Context, d *mta.Delivery) error {
	ctx = journey.With(ctx, journey.Scope{Message: d.ID})
	a := &attempt{c: c, d: d, out: make([]mta.Outcome, len(d.To))}
	defer a.close()
	a.begin()
	err := a.run(ctx)
	if err == nil {
		err = a.record()
	}
	if a.session != nil {
		c.release(a.session, err)
	}
	return err
}
