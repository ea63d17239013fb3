package queue

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postrider/internal/clock"
	"postrider/internal/journey"
	"postrider/mailstore"
	"postrider/mta"
)

// Router says where mail goes.
type Router interface {
	// Hops lists the hosts to try for a domain. An error that is a *mta.Reply of
	// class 5 is final; any other error means: later.
	Hops(ctx context.Context, domain string) ([]mta.Hop, error)
	// Recipient finds the targets of an address, here for reports. Errors as above.
	Recipient(ctx context.Context, c mta.Client, to mta.Address) ([]mta.Target, error)
}

// Deliverer speaks to peers. Deliver returns an error only when Record or
// Partial did, or when ctx ended before anything was known.
type Deliverer interface {
	Deliver(ctx context.Context, d *mta.Delivery) error
}

// Options has what a Queue needs. Store, Router, Deliverer and Hostname must be
// set; other zero values mean the defaults.
type Options struct {
	Store     *mailstore.Store
	Router    Router
	Deliverer Deliverer

	// Smarthost is set when the router sends all remote mail to one host: then
	// all domains are one destination, with the bounds of one.
	Smarthost string

	Hostname   string // who reports come from
	Postmaster string // whom people may ask; postmaster@Hostname

	Retry       []time.Duration // waits between attempts, the last repeats: 1m 5m 15m 30m 1h 2h 4h
	Expire      time.Duration   // when to give up: 5 days
	DelayNotice time.Duration   // when to tell the sender of a delay: 4 hours; negative = never

	Active      int           // recipients in memory: 20000
	Concurrency int           // attempts at a time: 500
	PerDomain   int           // of them for one domain: 20
	PerDelivery int           // recipients in one Delivery: 100
	Grace       time.Duration // how long attempts in hand may take when Run is to end: 20s

	Clock   clock.Clock
	Log     *slog.Logger
	Random  func() uint64     // for the names of reports
	Journey *journey.Recorder // gets attempts and what became of them; nil = nobody
	Metrics Metrics
}

// Metrics counts recipients, but for Messages and Reports. Nil fields are off.
type Metrics struct {
	Messages  prometheus.Counter // accepted by Accept
	Local     prometheus.Counter // put into a mailbox
	Queued    prometheus.Counter // put into the queue
	Delivered prometheus.Counter // taken by a peer
	Deferred  prometheus.Counter // failed for now
	Failed    prometheus.Counter // given up or refused for good
	Dropped   prometheus.Counter // of Failed: reports that nobody can be told about
	Reports   prometheus.Counter // made
}

func count(c prometheus.Counter, n int) {
	if c != nil && n > 0 {
		c.Add(float64(n))
	}
}

// Limits that are not worth an option.
const (
	maxKeptBody  = 64 << 10 // of one fresh message in memory
	maxKeptTotal = 32 << 20 // of all of them
	maxTogether  = 200      // recipients of a suspended domain written in one Update
	// maxUnrecorded outcomes that cannot be written stop further attempts.
	maxUnrecorded = 100
)

// Queue is the queue. It is safe for concurrent use.
type Queue struct {
	o    Options
	plan schedule
	// planHere is for accounts that are full.
	planHere schedule
	time     *timeline
	wake     chan struct{} // capacity 1: Run looks again
	write    writer        // of reports

	attempts sync.WaitGroup // running attempts; Run waits for them

	mu sync.Mutex
	active
	running bool            // Run dispatches
	work    context.Context // of attempts, while Run lives
	// unrecorded are outcomes that could not be written; Run tries again.
	unrecorded []result
	// recovered are domains that answer again: Run looks for their mail.
	recovered []string
	names     map[mailstore.AccountID]string // addresses of accounts, for the journey
}

// New returns the queue that is kept in o.Store. It does nothing by itself:
// Accept works at once, delivery begins with Run.
func New(o Options) (*Queue, error) {
	switch {
	case o.Store == nil || o.Router == nil || o.Deliverer == nil:
		return nil, errors.New("queue: Store, Router and Deliverer must be set")
	case o.Hostname == "":
		return nil, errors.New("queue: Hostname must be set")
	}
	for _, d := range o.Retry {
		if d <= 0 {
			return nil, errors.New("queue: a time in Retry is not positive")
		}
	}
	o.fill()
	q := &Queue{
		o:        o,
		plan:     schedule{retry: o.Retry, expire: o.Expire, notice: o.DelayNotice},
		planHere: schedule{retry: waits(o.Retry), expire: o.Expire, notice: o.DelayNotice},
		time:     newTimeline(o.Clock),
		wake:     make(chan struct{}, 1),
		write:    writer{hostname: o.Hostname, postmaster: o.Postmaster},
	}
	q.active.init(&q.o)
	return q, nil
}

// destination is what the scheduler takes a domain for.
func (o *Options) destination(domain string) string {
	if o.Smarthost != "" && !here(domain) {
		return o.Smarthost
	}
	return domain
}

func (o *Options) fill() {
	if len(o.Retry) == 0 {
		o.Retry = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute,
			30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour}
	}
	setDefault(&o.Expire, 5*24*time.Hour)
	setDefault(&o.DelayNotice, 4*time.Hour)
	setDefault(&o.Active, 20000)
	setDefault(&o.Concurrency, 500)
	setDefault(&o.PerDomain, 20)
	setDefault(&o.PerDelivery, 100)
	setDefault(&o.Grace, 20*time.Second)
	setDefault(&o.Postmaster, "postmaster@"+o.Hostname)
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Random == nil {
		o.Random = rand.Uint64
	}
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// NewBody begins the content of a message that Accept will take.
func (q *Queue) NewBody() *mailstore.BodyWriter { return q.o.Store.NewBody() }

// now is the present in queue time, as rows keep it.
func (q *Queue) now() time.Time { return q.time.now().Truncate(time.Millisecond) }

// nudge makes Run look again.
func (q *Queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Stats is what the queue has in memory.
type Stats struct {
	Active    int `json:"active"`    // recipients in memory
	Attempts  int `json:"attempts"`  // under way
	Domains   int `json:"domains"`   // with recipients in memory
	Suspended int `json:"suspended"` // domains that did not answer when tried last
}

// Stats returns figures for metrics.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Stats{Active: len(q.entries), Attempts: q.flying}
	for _, d := range q.dests {
		if d.count > 0 {
			s.Domains++
		}
		if d.failures > 0 {
			s.Suspended++
		}
	}
	return s
}
