package journey

import (
	"sync"
	"sync/atomic"

	"postrider/internal/clock"
)

// Options says what a Recorder does with events.
type Options struct {
	Node   string      // Node of events that have none
	Clock  clock.Clock // default: the system's
	Memory int         // how many of the newest events Recent has; 0 = none
	// Parent gets each event too, after this recorder named its node: one
	// recorder can see several servers. It must outlive this one.
	Parent *Recorder
}

// Recorder takes events. All methods may be called concurrently, and on nil.
type Recorder struct {
	o        Options
	sessions atomic.Int32 // followers that want sessions

	mu        sync.Mutex
	seq       uint64
	recent    []Event // a ring, once it has Options.Memory events
	next      int     // in recent: the oldest
	followers map[*Follower]bool
}

// New returns a Recorder.
func New(o Options) *Recorder {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	return &Recorder{o: o, followers: map[*Follower]bool{}}
}

// Wants tells whether an event of the kind would be recorded. It costs next to
// nothing, so that lines are not put together for nobody.
func (r *Recorder) Wants(k Kind) bool {
	return r != nil && (!k.OfSession() || r.listening())
}

func (r *Recorder) listening() bool {
	for ; r != nil; r = r.o.Parent {
		if r.sessions.Load() > 0 {
			return true
		}
	}
	return false
}

// Record takes an event. It does not wait and does not keep what e points to.
func (r *Recorder) Record(e Event) {
	if !r.Wants(e.Kind) {
		return
	}
	if e.Node == "" {
		e.Node = r.o.Node
	}
	if e.Time.IsZero() {
		e.Time = r.o.Clock.Now()
	}
	r.take(&e)
	if r.o.Parent != nil {
		r.o.Parent.Record(e)
	}
}

func (r *Recorder) take(e *Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	e.Seq = r.seq
	if r.o.Memory == 0 && len(r.followers) == 0 {
		return
	}
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
