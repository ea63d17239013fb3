package queue

import (
	"context"
	"errors"
	"time"

	"postrider/mailstore"
)

// Times and sizes of reading the queue from the store.
const (
	horizon   = time.Minute           // what is due within it is in memory, where there is ample room
	tick      = horizon / 2           // how often Run looks at least
	chunk     = 500                   // rows read at a time
	passPause = 50 * time.Millisecond // between passes over what was left out
	fullPause = time.Second           // between such passes that go to the end
)

// lastItem is after all items.
const lastItem = 1 << 42

// position is a place in the order of View.Due; the zero position is before all.
type position struct {
	next  time.Time
	item  mailstore.QueueID
	index int
}

func positionOf(r *mailstore.QueueRecipient) position {
	return position{r.Next, r.Item, r.Index}
}

// justBefore is a position before which r does not stand, but all before r do.
func justBefore(r *mailstore.QueueRecipient) position {
	if r.Index > 0 {
		return position{r.Next, r.Item, r.Index - 1}
	}
	return position{r.Next, r.Item - 1, mailstore.MaxQueueRecipients - 1}
}

func (p position) row() *mailstore.QueueRecipient {
	if p == (position{}) {
		return nil
	}
	return &mailstore.QueueRecipient{Next: p.next, Item: p.item, Index: p.index}
}

func (p position) before(o position) bool {
	return before(&mailstore.QueueRecipient{Next: p.next, Item: p.item, Index: p.index},
		&mailstore.QueueRecipient{Next: o.next, Item: o.item, Index: o.index})
}

// disk is what memory knows of the rows in the store. Every row that is not held
// and stands at or before edge is in memory, or is barred, or is due and stands
// after hole while holes is true or a pass is going on.
type disk struct {
	edge   position
	resume time.Time // no row after edge is due before
	holes  bool
	hole   position
	pass   *pass

	passAt, fullAt time.Time // the next passes, not before

	// departed has the recipients that left memory while the loader reads: what
	// it sees of them is old. Nil while it does not read.
	departed map[key]bool
	// moved has the rows that were left in the store while the loader reads. It may
	// have been past them before, and will move the edge: only then it is known
	// what they mean.
	moved []position
	// hungry: the loader waits for room.
	hungry bool
	// again: read everything from the start.
	again bool
}

// ample tells whether there is room for what is not due yet.
func (a *active) ample() bool { return a.free() > a.o.Active/2 }

// pass goes over the rows between the first hole and the edge.
type pass struct {
	at     position
	full   bool // goes to the edge; else it ends where there is no room
	begun  time.Time
	missed bool
	first  position // before the first row that was missed again
}

// left notes that a row was left in the store which memory should have: the edge
// goes back before one that is not due yet.
func (a *active) left(p position, now time.Time) {
	a.early = true
	switch {
	case a.departed != nil:
		a.moved = append(a.moved, p)
	case a.edge.before(p): // it will be found when its time comes
		if p.next.Before(a.resume) {
			a.resume = p.next
		}
	case p.next.After(now):
		a.edge, a.resume = p, p.next
	case !a.holes || p.before(a.hole):
		a.holes, a.hole = true, p
	}
}

// reread makes the loader begin anew: rows were changed that may be anywhere.
func (a *active) reread() { a.again, a.early = true, true }

// reading is one read of the loader.
type reading struct {
	pass  *pass // nil: the edge moves on
	from  position
	until time.Time
}

// nextReading tells what to read now, if anything, and begins it.
func (a *active) nextReading(now time.Time) *reading {
	r := a.wanted(now)
	if r != nil {
		a.departed = make(map[key]bool)
	}
	return r
}

// endReading ends it, when its rows are in memory or it failed.
func (a *active) endReading(now time.Time) {
	moved := a.moved
	a.departed, a.moved = nil, nil
	for _, p := range moved {
		a.left(p, now)
	}
}

// wanted is what is to be read now; nil for nothing.
func (a *active) wanted(now time.Time) *reading {
	if a.free() <= a.o.Active/16 {
		a.hungry = true
		return nil
	}
	a.hungry = false
	if a.again {
		a.again, a.edge, a.resume, a.holes, a.pass = false, position{}, time.Time{}, false, nil
	}
	switch {
	case a.ample() && a.edge.next.Before(now.Add(tick)) || !now.Before(a.resume):
		return &reading{from: a.edge, until: now.Add(horizon)}
	case a.pass == nil && a.holes && !now.Before(a.passAt):
		a.pass = &pass{at: a.hole, full: !now.Before(a.fullAt), begun: now}
		a.holes = false
	}
	if a.pass == nil {
		return nil
	}
	return &reading{pass: a.pass, from: a.pass.at, until: now}
}

// read does one read of the loader, which nextReading has begun. Only Run calls it.
func (q *Queue) read(ctx context.Context, r *reading) error {
	var rows []mailstore.QueueRecipient
	fetched := make(map[mailstore.QueueID]*parcel)
	err := q.o.Store.View(ctx, func(v *mailstore.View) error {
		var err error
		if rows, err = v.Due(r.until, chunk, r.from.row()); err != nil {
			return err
		}
		for _, id := range q.unknown(rows) {
			item, _, err := v.QueueItem(id)
			if errors.Is(err, mailstore.ErrNotFound) {
				continue
			} else if err != nil {
				return err
			}
			fetched[id] = newParcel(item)
		}
		return nil
	})
	now := q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.endReading(now)
	if err != nil {
		return err
	}
	last := position{next: r.until, item: lastItem}
	end := len(rows) < chunk
	if !end {
		last = positionOf(&rows[len(rows)-1])
	}
	for i := range rows {
		if rows[i].Next.After(now) && !q.ample() {
			last, end = justBefore(&rows[i]), true
			q.resume = rows[i].Next
			break
		}
		q.takeRowLocked(&rows[i], fetched, r.pass, now)
	}
	q.advance(r, last, end, now)
	q.dispatchLocked(now)
	return nil
}

// unknown lists the items of those rows that may come into memory and whose
// message is not there.
func (q *Queue) unknown(rows []mailstore.QueueRecipient) []mailstore.QueueID {
	now := q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	var ids []mailstore.QueueID
	seen := make(map[mailstore.QueueID]bool)
	for i := range rows {
		r := &rows[i]
		if seen[r.Item] || q.parcels[r.Item] != nil || q.barred[r.Item] > 0 {
			continue
		}
		if d := q.known(r.Domain); d != nil && !q.admits(d, r.Next, now) {
			continue
		}
		seen[r.Item] = true
		ids = append(ids, r.Item)
	}
	return ids
}

// takeRowLocked brings a row that was read into memory, or notes that it was
// left out.
func (q *Queue) takeRowLocked(r *mailstore.QueueRecipient, fetched map[mailstore.QueueID]*parcel, p *pass, now time.Time) {
	k := keyOf(r)
	if q.entries[k] != nil || q.departed[k] || q.barred[r.Item] > 0 {
		return
	}
	msg := q.parcels[r.Item]
	if msg == nil {
		msg = fetched[r.Item]
	}
	d := q.known(r.Domain)
	if msg != nil && (d == nil && q.free() > 0 || d != nil && q.admits(d, r.Next, now)) {
		q.enter(msg, *r, storedAddress(r.Address), now)
		return
	}
	if p == nil {
		q.left(justBefore(r), now)
	} else if !p.missed {
		p.missed, p.first = true, justBefore(r)
	}
}

// advance moves the edge or the pass to last; end tells that there is no more.
func (a *active) advance(r *reading, last position, end bool, now time.Time) {
	p := r.pass
	if p == nil {
		a.edge = last
		if end && last.next.Equal(r.until) {
			a.resume = r.until
		}
		return
	}
	p.at = last
	if !end && last.before(a.edge) && (p.full || !p.missed) {
		return
	}
	a.pass = nil
	if p.missed {
		a.left(p.first, now)
	}
	a.passAt = now.Add(passPause)
	if p.full {
		a.fullAt = now.Add(max(fullPause, 4*now.Sub(p.begun)))
	}
}
