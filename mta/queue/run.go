package queue

import (
	"context"
	"errors"
	"time"

	"postrider/internal/clock"
	"postrider/mailstore"
)

// loadPause is how long Run waits after the store could not be read, and how
// often it tries to write outcomes that could not be written.
const loadPause = 5 * time.Second

// maxFailures is how many of them may fail before the rest waits.
const maxFailures = 10

// sweepPause is how often old failures of destinations are forgotten.
const sweepPause = 10 * time.Minute

// runner is the state of Run.
type runner struct {
	timer  clock.Timer
	repair *position // where the clock repair stands; nil when it is done
	// loadAt, recordAt and sweepAt are when to read, to write what is
	// unrecorded and to sweep, not before.
	loadAt, recordAt, sweepAt time.Time
}

// Run delivers until ctx ends, then gives attempts in hand Options.Grace to
// finish, interrupts the rest and returns nil. What is not finished stays in the
// queue. Run is called once.
func (q *Queue) Run(ctx context.Context) error {
	work, interrupt := context.WithCancel(context.WithoutCancel(ctx))
	defer interrupt()
	now := q.now()
	r := &runner{timer: q.o.Clock.NewTimer(tick), repair: &position{next: now.Add(time.Minute)}, sweepAt: now.Add(sweepPause)}
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
	case r.repair != nil && !now.Before(r.loadAt):
		r.repair, err = q.repairClock(ctx, *r.repair, now)
	default:
		return q.sleep(r, now)
	}
	if err != nil && ctx.Err() == nil {
		q.o.Log.Error("queue cannot be read", "err", err)
		r.loadAt = now.Add(loadPause)
	}
	return true
}

// sleep sets the timer for the next thing to do; it reports true when that is
// due already.
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
	if q.holes && q.pass == nil && !q.hungry {
		earlier(q.passAt)
	}
	if r.loadAt.After(now) {
		earlier(r.loadAt)
	}
	if len(q.unrecorded) > 0 {
		earlier(r.recordAt)
	}
	q.sleepUntil, q.early = until, false
	q.mu.Unlock()
	d := until.Sub(now)
	if d <= 0 {
		return true
	}
	if !r.timer.Stop() {
		select {
		case <-r.timer.Chan():
		default:
		}
	}
	r.timer.Reset(d)
	return false
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

// repairClock corrects, from a position on, rows that wait longer than the retry
// list allows: they were written before the clock was set back. It returns where
// to go on, nil at the end.
func (q *Queue) repairClock(ctx context.Context, from position, now time.Time) (*position, error) {
	const end = 100 * 365 * 24 * time.Hour
	var rows []mailstore.QueueRecipient
	err := q.o.Store.View(ctx, func(v *mailstore.View) error {
		var err error
		rows, err = v.Due(now.Add(end), chunk, from.row())
		return err
	})
	if err != nil {
		return &from, err
	}
	var wrong []mailstore.QueueRecipient
	for _, r := range rows {
		if r.Next.Sub(now) > q.longest(r.Attempts)+time.Minute {
			wrong = append(wrong, r)
		}
	}
	if err := q.advanceRows(ctx, wrong, now); err != nil {
		return &from, err
	}
	if len(rows) < chunk {
		return nil, nil
	}
	next := positionOf(&rows[len(rows)-1])
	return &next, nil
}

// longest is how long a recipient may have to wait.
func (q *Queue) longest(attempts int) time.Duration {
	if attempts == 0 {
		return 0
	}
	return q.plan.wait(attempts)
}

// advanceRows gives rows that were not touched meanwhile the wait that the
// retry list has for them.
func (q *Queue) advanceRows(ctx context.Context, rows []mailstore.QueueRecipient, now time.Time) error {
	if len(rows) == 0 {
		return nil
	}
	err := q.o.Store.Update(ctx, func(tx *mailstore.Tx) error {
		for _, r := range rows {
			_, stored, err := tx.QueueItem(r.Item)
			if errors.Is(err, mailstore.ErrNotFound) {
				continue
			} else if err != nil {
				return err
			}
			for _, s := range stored {
				if s.Index != r.Index || !s.Next.Equal(r.Next) || s.Held {
					continue
				}
				s.Next = now.Add(q.longest(s.Attempts))
				if err := tx.UpdateRecipient(s); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	q.o.Log.Warn("the clock was set back: waiting recipients were given an earlier time", "recipients", len(rows))
	q.mu.Lock()
	q.left(position{})
	q.mu.Unlock()
	return nil
}
