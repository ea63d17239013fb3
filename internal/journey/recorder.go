package journey

import (
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"postrider/internal/clock"
)

// Options says what a Recorder does with events.
type Options struct {
	Node   string      // Node of events that have none
	Clock  clock.Clock // default: the system's
	Memory int         // how many of the newest events Recent has; 0 = none
	Log    *slog.Logger

	// Dir is where events are kept, in files of their own; "" = not at all. No
	// other process may use it at the same time.
	Dir    string
	Keep   time.Duration // how long; 0 means 30 days
	Size   int64         // octets of all files; 0 means 1 GiB
	create func(path string) (file, error)

	// Parent gets each event too, after this recorder named its node: one
	// recorder can see several servers. It must outlive this one.
	Parent *Recorder
}

// Recorder takes events. All methods may be called concurrently, and on nil.
type Recorder struct {
	// What Wants reads stands apart from what each event changes.
	keeps    bool         // in the store or in memory
	watched  atomic.Int32 // followers
	sessions atomic.Int32 // those of them that want sessions
	o        Options
	store    *store  // nil: none
	writer   *writer // nil: without a store

	mu        sync.Mutex
	seq       uint64
	recent    []Event // a ring, once it has Options.Memory events
	next      int     // in recent: the oldest
	followers map[*Follower]bool
	waiting   batch // for the writer

	lost   atomic.Uint64
	firsts firsts
}

// New returns a Recorder. Its owner calls Close if it has a directory; what is
// wrong with that is no error: events are then lost, which the log says.
func New(o Options) *Recorder {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Keep == 0 {
		o.Keep = defaultKeep
	}
	if o.Size == 0 {
		o.Size = defaultSize
	}
	if o.create == nil {
		o.create = func(path string) (file, error) { return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) }
	}
	// Two starts of a server have different numbers, in order.
	r := &Recorder{o: o, followers: map[*Follower]bool{}, seq: uint64(o.Clock.Now().UnixMicro())}
	r.keeps = o.Dir != "" || o.Memory > 0
	if o.Dir != "" {
		r.store = &store{dir: o.Dir, keep: o.Keep, size: o.Size, clock: o.Clock, log: o.Log, create: o.create}
		r.writer = newWriter(r)
	}
	return r
}

// Lost is how many events were not kept because the disk did not keep up, or
// had no room.
func (r *Recorder) Lost() uint64 {
	if r == nil {
		return 0
	}
	return r.lost.Load()
}

// Close writes what is there and ends the use of the directory. What is recorded
// later is not kept.
func (r *Recorder) Close() error {
	if r == nil || r.writer == nil {
		return nil
	}
	r.writer.close()
	return r.store.close()
}

// Wants tells whether an event of the kind would be recorded. It costs next to
// nothing, so that lines are not put together for nobody.
func (r *Recorder) Wants(k Kind) bool { return r != nil && r.wants(k) }

func (r *Recorder) wants(k Kind) bool {
	session := k.OfSession()
	for ; r != nil; r = r.o.Parent {
		if session && r.sessions.Load() > 0 || !session && (r.keeps || r.watched.Load() > 0) {
			return true
		}
	}
	return false
}

// Record takes an event. It does not wait and does not keep what e points to.
func (r *Recorder) Record(e Event) {
	for ; r.Wants(e.Kind); r = r.o.Parent {
		if e.Node == "" {
			e.Node = r.o.Node
		}
		if e.Time.IsZero() {
			e.Time = r.o.Clock.Now()
		}
		r.take(&e)
	}
}

func (r *Recorder) take(e *Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	e.Seq = r.seq
	if r.writer != nil {
		if !r.waiting.add(e) {
			r.lost.Add(1)
		}
		r.writer.nudge(len(r.waiting.records))
	}
	if r.o.Memory > 0 || len(r.followers) > 0 {
		r.showLocked(e)
	}
}

// showLocked gives an event to those who watch. It is apart from take, whose stack
// is then small: most events are seen by nobody, and goroutines with small stacks
// record them.
//
//go:noinline
func (r *Recorder) showLocked(e *Event) {
	k := e.kept()
	switch {
	case len(r.recent) < r.o.Memory:
		r.recent = append(r.recent, k)
	case r.o.Memory > 0:
		r.recent[r.next] = k
		r.next = (r.next + 1) % r.o.Memory
	}
	for f := range r.followers {
		f.offer(k)
	}
}

// Recent returns the newest events that match, the oldest first.
func (r *Recorder) Recent(f Filter) []Event {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	all := append(append([]Event(nil), r.recent[r.next:]...), r.recent[:r.next]...)
	r.mu.Unlock()
	m := newMatcher(f)
	var list []Event
	for i := range all {
		if m.match(&all[i]) {
			list = append(list, all[i])
		}
	}
	return list
}
