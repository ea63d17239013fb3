package mailstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postrider/internal/clock"
)

// Limits of the writer.
const (
	maxWaiting = 1024     // Updates that wait for the writer; more wait to be let in
	maxBatch   = 256      // Updates in one commit
	maxBytes   = 16 << 20 // of bodies in one commit, after which it takes no more
	maxCached  = 8192     // mailbox rows that the writer remembers
)

// Options has what a Store needs; zero values work.
type Options struct {
	Clock   clock.Clock
	Log     *slog.Logger
	Metrics Metrics
	Quota   Quota // of accounts and domains that set none; see Store.SetQuota
	Blocks  BlockSizes
	// Keep is how long expunged messages can be brought back; 0 = not at all.
	Keep time.Duration
	// Compress keeps new bodies compressed where that saves an eighth. Those
	// that are stored can be read either way.
	Compress bool
}

// Metrics is what a Store counts; a nil field is not counted.
type Metrics struct {
	Updates  prometheus.Counter  // that were committed
	Commits  prometheus.Counter  // each for one Update or more
	Failures prometheus.Counter  // commits that were not made
	Damaged  prometheus.Counter  // operations that met damaged bytes or rows
	Seconds  prometheus.Observer // of each commit, from its first Update on
	Refused  prometheus.Counter  // additions for which an account had no room
}

// committed counts one commit.
func (m *Metrics) committed(updates int, seconds float64) {
	if m.Updates != nil {
		m.Updates.Add(float64(updates))
	}
	if m.Commits != nil {
		m.Commits.Inc()
	}
	if m.Seconds != nil {
		m.Seconds.Observe(seconds)
	}
}

// Store is the mailstore over an engine.
type Store struct {
	engine Engine
	clock  clock.Clock
	log    *slog.Logger
	count  Metrics
	blocks BlockSizes
	keep   time.Duration

	compress bool
	coder    Coder

	queue   chan *waiter
	stop    chan struct{} // closed by Close: nothing more is let in
	stopped chan struct{} // closed when the writer has ended
	failed  chan struct{}
	short   chan struct{} // gets a value when something found no space; its capacity is 1
	closing sync.Once
	failing sync.Once
	tasks   sync.WaitGroup // the janitor and what lets go of expunged messages
	views   gate

	state      writerState
	indexes    indexCache
	describers describers
	names      boxNames
	watch      watchers
	janitor    janitor
	room       room
}

// Open returns the store kept in engine, which it then owns, also when it fails.
func Open(ctx context.Context, engine Engine, o Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		engine:   engine,
		clock:    o.Clock,
		log:      o.Log,
		count:    o.Metrics,
		blocks:   o.Blocks.normal(),
		keep:     o.Keep,
		compress: o.Compress,
		queue:    make(chan *waiter, maxWaiting),
		stop:     make(chan struct{}),
		stopped:  make(chan struct{}),
		failed:   make(chan struct{}),
		short:    make(chan struct{}, 1),
	}
	s.state.boxes = make(map[MailboxID]*MailboxRow)
	s.state.quotas.init()
	s.room = room{accounts: make(map[AccountID]standing), full: make(map[AccountID]bool), defaults: o.Quota.clean()}
	s.watch.init()
	s.janitor.init()
	go s.writeLoop()
	s.tasks.Add(2)
	go s.clean()
	go s.reap()
	return s, nil
}

// Close waits for the Updates and Views in hand and closes the engine. A second
// Close is ErrClosed.
func (s *Store) Close() error {
	err := ErrClosed
	s.closing.Do(func() {
		close(s.stop)
		<-s.stopped
		s.janitor.close()
		s.tasks.Wait()
		s.views.shut()
		err = s.engine.Close()
	})
	return err
}

// Failed is closed when the store turned read-only after a failed sync.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Update runs fn in a transaction and returns when its changes are durable. An
// error from fn undoes its changes and is returned. fn may run once only, must
// not block, must not call Update, and must not use tx after it returned. A
// cancelled ctx stops the wait before fn has begun, never between. A panic of
// fn undoes its changes and goes on in the caller.
//
// ErrFull means that there was no space: nothing was changed. ErrFailed means
// that the disk failed; whether the change will be there after the next start
// is not known. ErrNotWritten and any other error that is not fn's is temporary.
func (s *Store) Update(ctx context.Context, fn func(tx *Tx) error) error {
	w := &waiter{fn: fn, ended: ctx.Done(), done: make(chan struct{})}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.stop:
		return ErrClosed
	default:
	}
	select {
	case s.queue <- w:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stop:
		return ErrClosed
	}
	select {
	case <-w.done:
	case <-s.stopped:
		select {
		case <-w.done:
		default:
			return ErrClosed
		}
	case <-ctx.Done():
		if w.abandon() {
			return ctx.Err()
		}
		<-w.done
	}
	return s.noted(w.result())
}

// Waiting is the number of Updates that wait for the writer.
func (s *Store) Waiting() int { return len(s.queue) }

// View runs fn on a consistent snapshot of committed data. fn must not use v
// after it returned, nor wait for a peer: snapshots are few, and while one is
// open the engine can not reclaim what it may still read.
func (s *Store) View(ctx context.Context, fn func(v *View) error) error {
	snap, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	defer snap.Close()
	v := &View{s: s, r: snap, defaults: s.defaultQuota()}
	defer v.end()
	return s.noted(fn(v))
}

// damaged tells the log, and counts, that what was stored cannot be read.
func (s *Store) damaged(what string, args ...any) {
	if s.count.Damaged != nil {
		s.count.Damaged.Inc()
	}
	s.log.Error(what, args...)
}

// noted is err, which is told where it means damage.
func (s *Store) noted(err error) error {
	if errors.Is(err, ErrDamaged) {
		s.damaged("the store is damaged: restore a backup; the rest goes on", "error", err)
	}
	return err
}

// snapshot opens a snapshot unless the store is closed.
func (s *Store) snapshot(ctx context.Context) (Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !s.views.enter() {
		return nil, ErrClosed
	}
	snap, err := s.engine.Snapshot(ctx)
	if err != nil {
		s.views.leave()
		return nil, fmt.Errorf("read the store: %w", err)
	}
	return gated{snap, &s.views}, nil
}

// gated is a snapshot that Close waits for.
type gated struct {
	Snapshot
	gate *gate
}

func (g gated) Close() {
	g.Snapshot.Close()
	g.gate.leave()
}

// gate lets users in until it is shut, and then waits for them to leave.
type gate struct {
	mu   sync.Mutex
	n    int
	down bool
	left chan struct{} // made by shut
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.down {
		return false
	}
	g.n++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n--; g.n == 0 && g.left != nil {
		close(g.left)
	}
}

func (g *gate) shut() {
	g.mu.Lock()
	g.down = true
	n := g.n
	g.left = make(chan struct{})
	g.mu.Unlock()
	if n > 0 {
		<-g.left
	}
}
