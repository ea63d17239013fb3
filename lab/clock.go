package lab

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"postrider/internal/clock"
)

// Clock is the lab's time: it runs as the base does, and can be set ahead. All
// servers of a lab share it. Its methods may be called concurrently.
type Clock struct {
	base clock.Clock

	mu     sync.Mutex
	ahead  time.Duration // how far it is ahead of base
	start  time.Time     // of base
	timers timerHeap
	wake   clock.Timer // for the first of timers; nil: none was needed yet
	closed bool
}

// NewClock returns a clock that shows the time of base; nil = package time.
func NewClock(base clock.Clock) *Clock {
	if base == nil {
		base = clock.System()
	}
	return &Clock{base: base, start: base.Now()}
}

// Now is the lab's present.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nowLocked()
}

func (c *Clock) nowLocked() time.Time { return c.base.Now().Add(c.ahead) }

// Ahead is by how much jumps have set the clock ahead.
func (c *Clock) Ahead() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ahead
}

// Elapsed is the time since the clock was made, jumps included: for whoever
// lives in the lab they are time that passed.
func (c *Clock) Elapsed() time.Duration { return c.Now().Sub(c.start) }

// Real is the moment of the base's time at which t of the lab's comes, or came.
// A deadline that was made from package time, as those of contexts are, lies
// between the two presents once the clock is ahead: such a t stays what it is.
func (c *Clock) Real(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	base := c.base.Now()
	if left := t.Sub(base.Add(c.ahead)); left >= 0 || t.Before(base) {
		return base.Add(left)
	}
	return t
}

// NewTimer is a timer that fires when the lab's time has come.
func (c *Clock) NewTimer(d time.Duration) clock.Timer {
	t := &timer{clock: c, fired: make(chan time.Time, 1), index: -1}
	t.Reset(d)
	return t
}

// AfterFunc calls f on a goroutine of its own when the lab's time has come.
func (c *Clock) AfterFunc(d time.Duration, f func()) clock.Timer {
	t := &timer{clock: c, call: f, index: -1}
	t.Reset(d)
	return t
}

// close stops all timers; none fires any more.
func (c *Clock) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.wake != nil {
		c.wake.Stop()
	}
}

// advance sets the clock ahead by d.
func (c *Clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += max(d, 0)
	c.fireLocked()
}

// next is how long it is until the first timer fires; false without one.
func (c *Clock) next() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.timers) == 0 {
		return 0, false
	}
	return c.timers[0].at.Sub(c.nowLocked()), true
}

// maxJumpSteps bounds the stops of one jump: timers that are due within a part
// in so many of it fire together.
const maxJumpSteps = 400

// jump sets the clock ahead by d and stops on the way wherever a timer is due,
// until settle returns: what happens in d happens in its order.
func (c *Clock) jump(ctx context.Context, d time.Duration, settle func(context.Context) error) error {
	end := c.Now().Add(d)
	for least := max(d/maxJumpSteps, time.Millisecond); ; {
		left := end.Sub(c.Now())
		if left <= 0 {
			return nil
		}
		step := left
		if first, ok := c.next(); ok {
			step = min(left, max(first, least))
		}
		c.advance(step)
		if err := settle(ctx); err != nil {
			return err
		}
	}
}

// fireLocked fires what is due and sees that the next is not missed.
func (c *Clock) fireLocked() {
	if c.closed {
		return
	}
	now := c.nowLocked()
	for len(c.timers) > 0 && !c.timers[0].at.After(now) {
		t := heap.Pop(&c.timers).(*timer)
		if t.call != nil {
			go t.call()
			continue
		}
		select {
		case t.fired <- now:
		default:
		}
	}
	if len(c.timers) == 0 {
		return
	}
	left := c.timers[0].at.Sub(now)
	if c.wake == nil {
		c.wake = c.base.AfterFunc(left, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.fireLocked()
		})
		return
	}
	c.wake.Reset(left)
}

// timer is a timer of a Clock, which guards all but its channel.
type timer struct {
	clock *Clock
	fired chan time.Time // nil for AfterFunc
	call  func()

	at    time.Time
	index int // in the heap; -1 = not there
}

func (t *timer) Chan() <-chan time.Time { return t.fired }

func (t *timer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	return t.stopLocked()
}

// stopLocked takes the timer off. As with package time, what was not received
// of an earlier firing is gone.
func (t *timer) stopLocked() bool {
	select {
	case <-t.fired:
	default:
	}
	if t.index < 0 {
		return false
	}
	heap.Remove(&t.clock.timers, t.index)
	return true
}

func (t *timer) Reset(d time.Duration) bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	active := t.stopLocked()
	t.at = t.clock.nowLocked().Add(d)
	heap.Push(&t.clock.timers, t)
	if t.index == 0 {
		t.clock.fireLocked()
	}
	return active
}

// timerHeap has the next timer first.
type timerHeap []*timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
