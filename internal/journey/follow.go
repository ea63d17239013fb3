package journey

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"strings"
	"sync"
)

// Bounds of one follower. One that reads too slowly loses the newest events and
// is told how many.
const (
	maxPending     = 8192    // events
	maxPendingSize = 8 << 20 // octets
	maxFollowed    = 10_000  // messages that a filter by address has met
)

// Filter selects events. Each field that is set must match; the zero value
// matches what happens to messages.
type Filter struct {
	Message string
	Session string
	// Events of a message match these once one of its events has the fact.
	// Case is not looked at.
	From, To, MessageID string
	// Sessions also selects what is recorded only while someone listens.
	Sessions bool
}

// matcher is a filter with what it has learnt.
type matcher struct {
	Filter
	met map[string]fact // by message
}

type fact uint8

const (
	metFrom fact = 1 << iota
	metTo
	metMessageID
)

func newMatcher(f Filter) *matcher { return &matcher{Filter: f, met: map[string]fact{}} }

func (m *matcher) match(e *Event) bool {
	switch {
	case m.Message != "" && e.Message != m.Message,
		m.Session != "" && e.Session != m.Session,
		!m.Sessions && e.Kind.OfSession():
		return false
	}
	return m.matchFacts(e)
}

func (m *matcher) matchFacts(e *Event) bool {
	var wanted, met fact
	for _, c := range []struct {
		bit       fact
		key, want string
	}{{metFrom, "from", m.From}, {metTo, "to", m.To}, {metMessageID, "message-id", m.MessageID}} {
		if c.want == "" {
			continue
		}
		wanted |= c.bit
		for i := range e.Attrs {
			if e.Attrs[i].Key == c.key && strings.EqualFold(e.Attrs[i].Value, c.want) {
				met |= c.bit
			}
		}
	}
	if wanted == 0 {
		return true
	}
	if e.Message != "" {
		met |= m.met[e.Message]
		if met != 0 && len(m.met) < maxFollowed {
			m.met[e.Message] = met
		}
	}
	return met == wanted
}

// Follower gets events as they happen, from Follow on.
type Follower struct {
	r     *Recorder
	ready chan struct{} // has one element when there may be something to read

	mu      sync.Mutex
	match   *matcher
	pending []Event
	size    int
	lost    uint64 // after pending
	closed  bool
}

// ErrClosed is returned by Next after Close.
var ErrClosed = errors.New("journey: follower is closed")

// Follow returns a follower of what matches f; its user must Close it. While
// one that wants sessions is open, sessions are recorded. On a nil Recorder it
// never gets an event.
func (r *Recorder) Follow(f Filter) *Follower {
	w := &Follower{r: r, ready: make(chan struct{}, 1), match: newMatcher(f)}
	if r == nil {
		return w
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.followers[w] = true
	r.watched.Add(1)
	if f.Sessions {
		r.sessions.Add(1)
	}
	return w
}

// offer adds an event if it matches and there is room.
func (f *Follower) offer(e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || !f.match.match(&e) {
		return
	}
	size := e.size()
	if f.lost > 0 || len(f.pending) >= maxPending || f.size+size > maxPendingSize {
		f.lost++
		return
	}
	f.pending, f.size = append(f.pending, e), f.size+size
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

// take empties what is pending; events that were lost are said at the end.
func (f *Follower) take() ([]Event, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	list := f.pending
	if f.lost > 0 {
		n := strconv.FormatUint(f.lost, 10)
		last := list[len(list)-1]
		list = append(list, Event{Time: last.Time, Node: last.Node, Kind: Lost,
			Text: n + " events are not shown: they came too fast", Attrs: []Attr{{"count", n}}})
	}
	f.pending, f.size, f.lost = nil, 0, 0
	return list, nil
}

// Next waits for events and returns all that there are, the oldest first: at
// least one, or the error of ctx, or ErrClosed.
func (f *Follower) Next(ctx context.Context) ([]Event, error) {
	for {
		list, err := f.take()
		if err != nil || len(list) > 0 {
			return list, err
		}
		select {
		case <-f.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// All yields events until ctx ends or the follower is closed. Who leaves it early
// can go on with another All, or Next: what was not yielded comes then.
func (f *Follower) All(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for {
			list, err := f.Next(ctx)
			if err != nil {
				return
			}
			for i, e := range list {
				if !yield(e) {
					f.giveBack(list[i+1:])
					return
				}
			}
		}
	}
}

// giveBack puts events before those that are pending.
func (f *Follower) giveBack(list []Event) {
	if len(list) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	for i := range list {
		f.size += list[i].size()
	}
	f.pending = append(list, f.pending...)
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

// Close ends it, also for one who waits in Next.
func (f *Follower) Close() {
	if f.r != nil {
		f.r.mu.Lock()
		if f.r.followers[f] {
			f.r.watched.Add(-1)
			if f.match.Sessions {
				f.r.sessions.Add(-1)
			}
		}
		delete(f.r.followers, f)
		f.r.mu.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		close(f.ready)
	}
}
