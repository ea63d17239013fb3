package queue

import (
	"context"
	"time"

	"postrider/internal/clock"
)

// loadPause is how long Run waits after the store could not be read, and how
// often it tries to write outcomes that could not be written.
const loadPause = 5 * time.Second

// minSleep keeps Run from spinning, whatever is wrong.
const minSleep = time.Millisecond

// maxFailures is how many of them may fail before the rest waits.
const maxFailures = 10

// sweepPause is how often old failures of destinations are forgotten.
const sweepPause = 10 * time.Minute

// runner is the state of Run.
type runner struct {
	timer clock.Timer
	pull  *pull // going on; nil for none
	// loadAt, recordAt, sweepAt and pullAt are when to read, to write what is
	// unrecorded, to sweep and to begin a pull, not before.
	loadAt, recordAt, sweepAt, pullAt time.Time
}

// Run delivers until ctx ends, then gives attempts in hand Options.Grace to
// finish, interrupts the rest and returns nil. What is not finished stays in the
// queue. Run is called once.
func (q *Queue) Run(ctx context.Context) error {
	work, interrupt := context.WithCancel(context.WithoutCancel(ctx))
	defer interrupt()
	now := q.now()
	r := &runner{timer: q.o.Clock.NewTimer(tick), pull: newPull(now, nil), sweepAt: now.Add(sweepPause)}
	defer r.timer.Stop()
	q.mu.Lock()
	q.work, q.running = work, true
	q.mu.Unlock()
	for ctx.Err() == nil {
		if q.step(ctx, r) {
			continue
		}
		select {
		case <-ctx.Done():
		case <-q.wake:
		case <-r.timer.Chan():
		}
	}
	q.mu.Lock()
	q.running = false
	q.mu.Unlock()
	q.finish(interrupt)
	q.flush(ctx)
	return nil
}

// Busy tells whether mail may be due that Run has not looked at yet, and whether
// attempts are under way. Both are of the moment.
func (q *Queue) Busy() (due, trying bool) {
	now := q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running && !now.Before(q.sleepUntil), q.flying > 0
}

// finish waits for the attempts in hand, at first patiently.
func (q *Queue) finish(interrupt context.CancelFunc) {
	done := make(chan struct{})
	go func() {
		q.attempts.Wait()
		close(done)
	}()
	timer := q.o.Clock.NewTimer(q.o.Grace)
	defer timer.Stop()
	select {
	case <-done:
		return
	case <-timer.Chan():
	}
	interrupt()
	<-done
}

// flush tries for the last time to write what could not be written.
func (q *Queue) flush(ctx context.Context) {
	q.recordAgain(ctx, &runner{}, q.now())
}

// step does what is to be done now and tells whether there may be more; else it
// has set the timer.
func (q *Queue) step(ctx context.Context, r *runner) bool {
	now := q.now()
	if q.recordAgain(ctx, r, now) {
		return true
	}
	q.mu.Lock()
	q.due(now)
	q.dispatchLocked(now)
	if !now.Before(r.sweepAt) {
		q.sweep(now)
		r.sweepAt = now.Add(sweepPause)
	}
	var reading *reading
	if !now.Before(r.loadAt) {
		reading = q.nextReading(now)
	}
	q.mu.Unlock()
	var err error
	switch {
	case reading != nil:
		err = q.read(ctx, reading)
	case q.pulling(r, now):
		err = q.pullForward(ctx, r, now)
	default:
		return q.sleep(r, now)
	}
	if err != nil && ctx.Err() == nil {
		q.o.Log.Error("queue cannot be read", "err", err)
		r.loadAt = now.Add(loadPause)
	}
	return true
}

// sleep sets the timer for the next thing to do. It reports true when the clock
// was set ahead since now, so that the timer would be late.
func (q *Queue) sleep(r *runner, now time.Time) bool {
	q.mu.Lock()
	until := now.Add(tick)
	earlier := func(t time.Time) {
		if t.Before(until) {
			until = t
		}
	}
	if len(q.timers) > 0 {
		earlier(q.timers[0].row.Next)
	}
	if len(q.unrecorded) > 0 {
		earlier(r.recordAt)
	}
	if now.Before(r.loadAt) { // the store cannot be read
		earlier(r.loadAt)
	} else {
		if !q.hungry {
			earlier(q.resume)
		}
		if !q.hungry && q.again {
			earlier(now)
		}
		if !q.hungry && q.holes && q.pass == nil {
			earlier(q.passAt)
		}
		if len(q.recovered) > 0 {
			earlier(r.pullAt)
		}
	}
	q.sleepUntil, q.early = until, false
	q.mu.Unlock()
	if !r.timer.Stop() {
		select {
		case <-r.timer.Chan():
		default:
		}
	}
	r.timer.Reset(max(until.Sub(now), minSleep))
	return q.now().Sub(now) > maxSlew
}

// nudgeLocked wakes Run when there is something for it to do.
func (q *Queue) nudgeLocked() {
	if q.early || q.hungry && q.free() > q.o.Active/4 {
		q.early = false
		q.nudge()
	}
}

// recordAgain writes outcomes that could not be written before, each alone, so
// that one which needs space does not hold up those that free some.
func (q *Queue) recordAgain(ctx context.Context, r *runner, now time.Time) bool {
	if now.Before(r.recordAt) {
		return false
	}
	q.mu.Lock()
	todo := q.unrecorded
	q.unrecorded = nil
	q.mu.Unlock()
	for i := range todo {
		// settle logs an error and keeps the result.
		if err := q.settle(ctx, todo[i:i+1]); err != nil && i >= maxFailures {
			q.mu.Lock()
			q.unrecorded = append(q.unrecorded, todo[i+1:]...)
			q.mu.Unlock()
			break
		}
	}
	r.recordAt = now.Add(loadPause)
	return len(todo) > 0
}
