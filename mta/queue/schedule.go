package queue

import (
	"math"
	"sync"
	"time"

	"postrider/internal/clock"
	"postrider/mailstore"
)

// schedule is the retry list and the times that end it.
type schedule struct {
	retry          []time.Duration // never empty
	expire, notice time.Duration
}

// maxSuspend bounds how long a domain is left alone.
const maxSuspend = 15 * time.Minute

// wait is the time from the n-th attempt to the next one; n counts from 1.
func (s *schedule) wait(n int) time.Duration {
	return s.retry[min(max(n, 1), len(s.retry))-1]
}

// served is the sum of the waits before the n-th attempt: how long a message
// was tried at least, as the monotonic clock measured it.
func (s *schedule) served(n int) time.Duration {
	var sum time.Duration
	for i := 1; i < n && i < len(s.retry); i++ {
		sum += s.retry[i-1]
	}
	if more := n - len(s.retry); more > 0 {
		last := s.retry[len(s.retry)-1]
		if last > 0 && more > int((math.MaxInt64-sum)/last) {
			return math.MaxInt64
		}
		sum += time.Duration(more) * last
	}
	return sum
}

// expired tells whether a message is given up whose attempts-th attempt failed
// now. See the package comment on clocks.
func (s *schedule) expired(now, expires time.Time, attempts int) bool {
	served := s.served(attempts)
	return served >= 3*s.expire || !now.Before(expires) && served >= s.expire/2
}

// late tells whether the sender should hear of the delay now.
func (s *schedule) late(now, accepted time.Time, attempts int) bool {
	return s.notice > 0 && !now.Before(accepted.Add(s.notice)) && s.served(attempts) >= s.notice/2
}

// next is when to try again after the attempts-th attempt failed now. The time
// of a notice that is still to be given and the time of expiry are attempts of
// their own, so that both tell of a fresh failure.
func (s *schedule) next(now time.Time, item *mailstore.QueueItem, attempts int, notice bool) time.Time {
	next := now.Add(s.wait(attempts))
	if notice && s.notice > 0 {
		if at := item.Accepted.Add(s.notice); now.Before(at) && at.Before(next) {
			next = at
		}
	}
	if now.Before(item.Expires) && item.Expires.Before(next) {
		next = item.Expires
	}
	return next.Truncate(time.Millisecond)
}

// elapser is a clock whose monotonic part can be told from its wall time. The
// times of package time have one; clocks that jump, in tests, say it apart.
type elapser interface{ Elapsed() time.Duration }

// timeline is queue time: the wall clock, except that it never runs back. When
// the wall clock is set back, queue time goes on from where it was; when the wall
// clock is set ahead again, the difference shrinks first.
type timeline struct {
	clock clock.Clock
	start time.Time

	mu   sync.Mutex
	wall time.Time     // at the last reading, without monotonic part
	mono time.Duration // at the last reading
	back time.Duration // how far queue time is ahead of the wall clock; >= 0
}

// maxSlew is a difference between wall and monotonic time that is not a jump.
const maxSlew = time.Second

func newTimeline(c clock.Clock) *timeline {
	t := &timeline{clock: c, start: c.Now()}
	t.wall, t.mono = t.read()
	return t
}

func (t *timeline) read() (wall time.Time, mono time.Duration) {
	now := t.clock.Now()
	if e, ok := t.clock.(elapser); ok {
		return now.Round(0), e.Elapsed()
	}
	return now.Round(0), now.Sub(t.start)
}

// now reads queue time.
func (t *timeline) now() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	wall, mono := t.read()
	jump := wall.Sub(t.wall) - (mono - t.mono)
	switch {
	case jump < -maxSlew:
		t.back -= jump
	case jump > maxSlew && t.back > 0:
		t.back = max(0, t.back-jump)
	}
	t.wall, t.mono = wall, mono
	return wall.Add(t.back)
}

// shown is the wall time of a moment to come, for people.
func (t *timeline) shown(at time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return at.Add(-t.back)
}
