package search

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postrider/internal/clock"
	"postrider/mailstore"
	"postrider/mailstore/sqlite"
)

// Limits of the index at work.
const (
	defaultCache  = 64 << 20         // octets of what lookups keep in memory
	maxLooked     = 64               // keys of one lookup that the index answers
	pause         = time.Second      // from a change until it is looked at, so that many are taken together
	retry         = 30 * time.Second // after a failure
	maxBatch      = 4096             // messages indexed in one transaction
	maxBatchSize  = 32 << 20         // octets of the index in the making in one transaction, after which it takes no more
	fanout        = 8                // segments of one tier that make one of the next
	maxSegment    = 64 << 10         // documents; a larger segment is not merged any more
	maxMergedSize = 256 << 20        // octets of segments that are merged into one
	maxPlaces     = 8192             // messages; a larger part of a mailbox is not merged any more
	maxParts      = 16               // smaller parts of a mailbox
	minStale      = 1000             // documents without a message that are worth a compaction
)

// Options has what an Index needs; Path must be set.
type Options struct {
	Path  string // of the index's own file
	Cache int    // octets that lookups may keep; 0 = 64 MiB
	// Low tells that what space there is on the disk is kept for deleting: nothing
	// is indexed then. It may be nil.
	Low     func() bool
	Clock   clock.Clock
	Log     *slog.Logger
	Metrics Metrics
}

// Metrics are counters that may be nil.
type Metrics struct {
	Indexed  prometheus.Counter // messages read
	Rebuilds prometheus.Counter // of the whole index
}

func count(c prometheus.Counter, n int) {
	if c != nil {
		c.Add(float64(n))
	}
}

// Index is the search index of a store. It may be used concurrently.
type Index struct {
	store *mailstore.Store
	path  string
	low   func() bool
	clock clock.Clock
	log   *slog.Logger
	count Metrics
	cache *cache
	feed  *mailstore.Feed

	stop    chan struct{} // closed by Close
	stopped chan struct{} // closed when the indexer has ended
	closing sync.Once
	wake    chan struct{} // there is a request, or damage
	damaged atomic.Bool   // found by a lookup

	docs atomic.Int64 // documents in the index
	lag  atomic.Int64 // messages known to wait
	done atomic.Int64 // messages that the indexer has passed since the start

	trouble atomic.Pointer[string] // why it does not go on; nil while it does

	slots chan struct{} // one for each lookup at work
	// open is held by lookups for reading, and for writing while there is no
	// file to read.
	open  sync.RWMutex
	ready bool

	mu       sync.Mutex
	idle     []*sqlite.Derived // connections of lookups
	requests []request
	settlers []chan struct{} // wait until there is nothing to do
}

// request is one for reindexing.
type request struct {
	account mailstore.AccountID // 0 = all
	taken   chan struct{}       // closed when what was indexed is gone
	status  *Status             // then
}

// Open begins to keep an index of store in a file of its own and catches up with
// the store, behind what else it does. It must be closed before the store is.
// It never fails: what is wrong with the file is mended by making it anew, and
// without one all is found all the same, by reading.
func Open(store *mailstore.Store, o Options) *Index {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Cache == 0 {
		o.Cache = defaultCache
	}
	if o.Low == nil {
		o.Low = func() bool { return false }
	}
	x := &Index{
		store: store, path: o.Path, low: o.Low, clock: o.Clock, log: o.Log, count: o.Metrics,
		cache:   newCache(o.Cache),
		feed:    store.WatchAll(),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
		wake:    make(chan struct{}, 1),
		slots:   make(chan struct{}, maxReaders),
	}
	go x.run()
	return x
}

// Close waits for what is in hand.
func (x *Index) Close() {
	x.closing.Do(func() {
		close(x.stop)
		<-x.stopped
		x.feed.Close()
	})
}

// Status is the state of an Index.
type Status struct {
	Documents int64 // in the index: each body once for an account
	Waiting   int64 // messages that are known to wait
	Done      int64 // messages that the indexer has passed since the start
	// Trouble is why the indexer waits for a while before it goes on; "" while
	// nothing is wrong.
	Trouble string
}

func (x *Index) Status() Status {
	s := Status{Documents: x.docs.Load(), Waiting: x.lag.Load(), Done: x.done.Load()}
	if t := x.trouble.Load(); t != nil {
		s.Trouble = *t
	}
	return s
}

// Reindex forgets what is known of an account, or of all with 0, and begins to
// index that anew. It returns when that has begun, with the state at that
// moment, or with ctx.
func (x *Index) Reindex(ctx context.Context, a mailstore.AccountID) (Status, error) {
	r := request{a, make(chan struct{}), new(Status)}
	x.mu.Lock()
	x.requests = append(x.requests, r)
	x.mu.Unlock()
	x.poke()
	if err := x.wait(ctx, r.taken); err != nil {
		return x.Status(), err
	}
	return *r.status, nil
}

// Settle returns when all that was committed before is indexed, or with ctx.
func (x *Index) Settle(ctx context.Context) error {
	c := make(chan struct{})
	x.mu.Lock()
	x.settlers = append(x.settlers, c)
	x.mu.Unlock()
	x.poke()
	return x.wait(ctx, c)
}

func (x *Index) wait(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-x.stopped:
		return mailstore.ErrClosed
	}
}

// poke makes the indexer look for work.
func (x *Index) poke() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// ended tells whether Close was called.
func (x *Index) ended() bool {
	select {
	case <-x.stop:
		return true
	default:
		return false
	}
}

// reader takes a connection for a lookup. The caller holds open.
func (x *Index) reader() (*sqlite.Derived, error) {
	x.mu.Lock()
	if n := len(x.idle); n > 0 {
		c := x.idle[n-1]
		x.idle = x.idle[:n-1]
		x.mu.Unlock()
		return c, nil
	}
	x.mu.Unlock()
	return sqlite.OpenDerived(x.path, false, readerCache)
}

func (x *Index) giveBack(c *sqlite.Derived) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.idle = append(x.idle, c)
}

// setReady lets lookups in, or keeps them out and ends their connections.
func (x *Index) setReady(ready bool) {
	x.open.Lock()
	defer x.open.Unlock()
	x.ready = ready
	if ready {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.idle {
		if err := c.Close(); err != nil {
			x.log.Warn("close the search index", "error", err)
		}
	}
	x.idle = nil
	x.cache.clear()
}
