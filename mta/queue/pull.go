package queue

import (
	"context"
	"errors"
	"time"

	"postrider/mailstore"
)

// pull goes over the rows that wait and gives some of them an earlier time:
// those of domains that answer again, which need not wait out their schedule,
// or, when Run begins, those that wait longer than the retry list allows, since
// they were written before the clock was set back.
type pull struct {
	at      position
	domains map[string]bool // destinations; nil: the pull at the start
	pulled  int
}

// pullSlack is how soon a row has to be due to be left alone.
const pullSlack = time.Minute

// pullPause is how long Run waits between pulls.
const pullPause = 10 * time.Second

func newPull(now time.Time, domains []string) *pull {
	p := &pull{at: position{next: now.Add(pullSlack)}}
	if len(domains) > 0 {
		p.domains = make(map[string]bool, len(domains))
		for _, d := range domains {
			p.domains[d] = true
		}
	}
	return p
}

// pulling tells whether a pull goes on or begins now.
func (q *Queue) pulling(r *runner, now time.Time) bool {
	if now.Before(r.loadAt) {
		return false
	}
	if r.pull != nil {
		return true
	}
	if now.Before(r.pullAt) {
		return false
	}
	q.mu.Lock()
	domains := q.recovered
	q.recovered = nil
	q.mu.Unlock()
	if len(domains) == 0 {
		return false
	}
	r.pull = newPull(now, domains)
	return true
}

// target is the time that p gives a row, or the zero time to leave it alone.
func (p *pull) target(q *Queue, r *mailstore.QueueRecipient, now time.Time) time.Time {
	var longest time.Duration
	if r.Attempts > 0 {
		longest = q.planOf(r.Domain).wait(r.Attempts)
	}
	switch wait := r.Next.Sub(now); {
	case p.domains == nil && wait > longest+pullSlack:
		return now.Add(longest)
	case p.domains[q.o.destination(r.Domain)] && r.Host == "" && wait > pullSlack:
		return now
	}
	return time.Time{}
}

// pullForward does one step of r.pull.
func (q *Queue) pullForward(ctx context.Context, r *runner, now time.Time) error {
	const forEver = 100 * 365 * 24 * time.Hour
	p := r.pull
	var rows, early []mailstore.QueueRecipient
	err := q.o.Store.View(ctx, func(v *mailstore.View) error {
		var err error
		rows, err = v.Due(now.Add(forEver), chunk, p.at.row())
		return err
	})
	if err != nil {
		return err
	}
	for i := range rows {
		if !p.target(q, &rows[i], now).IsZero() {
			early = append(early, rows[i])
		}
	}
	if len(early) > 0 {
		if err := q.writePull(ctx, p, early, now); err != nil {
			return err
		}
		p.pulled += len(early)
	}
	if len(rows) == chunk {
		p.at = positionOf(&rows[len(rows)-1])
		return nil
	}
	if p.pulled > 0 {
		q.o.Log.Info("recipients need not wait so long", "recipients", p.pulled, "clock", p.domains == nil)
	}
	r.pull, r.pullAt = nil, now.Add(pullPause)
	return nil
}

// writePull rewrites rows that were not touched meanwhile.
func (q *Queue) writePull(ctx context.Context, p *pull, rows []mailstore.QueueRecipient, now time.Time) error {
	err := q.o.Store.Update(ctx, func(tx *mailstore.Tx) error {
		for i := range rows {
			_, stored, err := tx.QueueItem(rows[i].Item)
			if errors.Is(err, mailstore.ErrNotFound) {
				continue
			} else if err != nil {
				return err
			}
			for _, s := range stored {
				next := p.target(q, &s, now)
				if s.Index != rows[i].Index || !s.Next.Equal(rows[i].Next) || s.Held || next.IsZero() {
					continue
				}
				s.Next = next
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
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reread()
	for i := range rows {
		e := q.entries[keyOf(&rows[i])]
		switch {
		case e == nil:
		case e.state == flying: // its outcome was written before, or is not yet
			e.pulled = true
		case e.state == waiting:
			q.untime(e)
			e.row.Next = p.target(q, &rows[i], now)
			q.place(e, now)
		}
	}
	return nil
}
