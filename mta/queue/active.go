package queue

import (
	"container/heap"
	"context"
	"time"

	"github.com/emersion/go-smtp"

	"postrider/mailstore"
	"postrider/mta"
)

// key names a recipient.
type key struct {
	item  mailstore.QueueID
	index int
}

func keyOf(r *mailstore.QueueRecipient) key { return key{r.Item, r.Index} }

// parcel is what the recipients of one item that are in memory share.
type parcel struct {
	item    mailstore.QueueItem
	from    mta.Address
	options smtp.MailOptions
	body    []byte // the content of a small fresh message; else nil
	entries int    // in memory
}

func newParcel(item mailstore.QueueItem) *parcel {
	return &parcel{
		item: item,
		from: storedAddress(item.From),
		options: smtp.MailOptions{
			Body:       smtp.BodyType(item.BodyType),
			Size:       item.Size,
			UTF8:       item.UTF8,
			Return:     smtp.DSNReturn(item.Return),
			EnvelopeID: item.EnvID,
		},
	}
}

type state int8

const (
	waiting state = iota // in Queue.timers
	ready                // in a batch of its destination
	flying               // in an attempt, or its outcome is being written
	gone                 // taken out of memory
)

// entry is one recipient in memory.
type entry struct {
	msg    *parcel
	row    mailstore.QueueRecipient
	to     mta.Address
	dest   *destination
	state  state
	held   bool // put on hold while flying
	again  bool // there may be room now: it is due once more when this try fails
	pulled bool // its row got another time while flying: it may be that of the store
	slot   int  // in timers
}

// batch is recipients of one message at one destination.
type batch struct {
	msg     *parcel
	entries []*entry
}

// destination is a domain with work or with a record of failure.
type destination struct {
	domain string
	count  int  // entries in memory
	timed  int  // of them in active.timers
	flying int  // attempts under way
	turn   bool // stands in active.turns
	ready  fifo[batch]
	// limit is how many attempts a peer that is busy gets at a time; 0 means
	// Options.PerDomain.
	limit int
	taken int // messages since limit was raised

	// When none of its hosts answers:
	failures int
	lost     int        // connections that broke, since anybody answered
	failed   time.Time  // the last time
	until    time.Time  // suspended
	reply    *mta.Reply // why
	probe    bool       // a recipient is to be tried at that time
}

func (d *destination) suspended(now time.Time) bool {
	return d.failures > 0 && now.Before(d.until)
}

// active is the part of the queue that is in memory. Its owner's lock guards it.
type active struct {
	o       *Options
	parcels map[mailstore.QueueID]*parcel
	entries map[key]*entry
	dests   map[string]*destination
	turns   fifo[destination] // those that may start an attempt
	timers  timers
	flying  int // attempts under way
	kept    int // octets of fresh bodies

	// barred counts, for items whose rows are being written by an operator or
	// by Accept, those who do so. The loader leaves them alone.
	barred map[mailstore.QueueID]int

	sleepUntil time.Time // of Run
	early      bool      // something is due before it

	disk
}

func (a *active) init(o *Options) {
	a.o = o
	a.parcels = make(map[mailstore.QueueID]*parcel)
	a.entries = make(map[key]*entry)
	a.dests = make(map[string]*destination)
	a.barred = make(map[mailstore.QueueID]int)
}

func (a *active) free() int { return a.o.Active - len(a.entries) }

func (a *active) dest(domain string) *destination {
	d := a.known(domain)
	if d == nil {
		d = &destination{domain: a.o.destination(domain)}
		a.dests[d.domain] = d
	}
	return d
}

// known is the destination of a domain; nil when nothing is known of it.
func (a *active) known(domain string) *destination {
	return a.dests[a.o.destination(domain)]
}

// admits tells whether another recipient for d that is due at next may come into
// memory: a destination may have as many places as are free (so none takes them
// all). What waits for its time does not keep out what is due.
func (a *active) admits(d *destination, next, now time.Time) bool {
	if next.After(now) {
		return d.count < a.free()
	}
	return d.count-d.timed < a.free()
}

// enter brings a recipient into memory, ready or waiting for row.Next.
func (a *active) enter(msg *parcel, row mailstore.QueueRecipient, to mta.Address, now time.Time) {
	if a.parcels[msg.item.ID] == nil {
		a.parcels[msg.item.ID] = msg
		a.kept += len(msg.body)
	}
	d := a.dest(row.Domain)
	e := &entry{msg: msg, row: row, to: to, dest: d}
	a.entries[keyOf(&row)] = e
	msg.entries++
	d.count++
	a.place(e, now)
}

// place makes e ready or waiting.
func (a *active) place(e *entry, now time.Time) {
	if now.Before(e.row.Next) {
		e.state = waiting
		e.dest.timed++
		heap.Push(&a.timers, e)
		if e.row.Next.Before(a.sleepUntil) {
			a.early = true
		}
		return
	}
	e.state = ready
	d := e.dest
	if b := d.ready.last(); b != nil && b.msg == e.msg && len(b.entries) < a.o.PerDelivery {
		b.entries = append(b.entries, e)
	} else {
		d.ready.push(&batch{msg: e.msg, entries: []*entry{e}})
	}
	a.offer(d)
}

// offer lets d take its turn, if it has work and may do it.
func (a *active) offer(d *destination) {
	limit := a.o.PerDomain
	switch {
	case d.failures > 0:
		limit = 1 // a probe
	case d.limit > 0:
		limit = d.limit
	}
	if !d.turn && d.ready.len() > 0 && d.flying < limit {
		d.turn = true
		a.turns.push(d)
	}
}

// leave takes e out of memory.
func (a *active) leave(e *entry) {
	if e.state == waiting {
		a.untime(e)
	}
	e.state = gone
	delete(a.entries, keyOf(&e.row))
	if a.departed != nil {
		a.departed[keyOf(&e.row)] = true
	}
	if e.msg.entries--; e.msg.entries == 0 {
		a.kept -= len(e.msg.body)
		delete(a.parcels, e.msg.item.ID)
	}
	e.dest.count--
	a.tidy(e.dest)
}

// tidy forgets a destination that nothing is known of.
func (a *active) tidy(d *destination) {
	if d.count == 0 && d.flying == 0 && d.failures == 0 && !d.turn {
		delete(a.dests, d.domain)
	}
}

// maxQuiet is how long the failures of a destination are remembered that has no
// mail any more, beyond the time for which it is suspended.
const maxQuiet = time.Hour

// sweep forgets destinations whose failures are old.
func (a *active) sweep(now time.Time) {
	for _, d := range a.dests {
		if d.count == 0 && d.flying == 0 && now.Sub(d.until) > maxQuiet {
			d.failures = 0
			a.tidy(d)
		}
	}
}

// untime takes a waiting entry out of the timers.
func (a *active) untime(e *entry) {
	heap.Remove(&a.timers, e.slot)
	e.dest.timed--
}

// due makes ready what was waiting for a time that has come.
func (a *active) due(now time.Time) {
	for len(a.timers) > 0 && !now.Before(a.timers[0].row.Next) {
		e := a.timers[0]
		a.untime(e)
		a.place(e, now)
	}
}

// job is what one goroutine does: an attempt, or writing that the recipients of
// a suspended destination are put off.
type job struct {
	dest    *destination
	batches []*batch // one, unless suspended
	// When suspended: why, and until when. The first recipient is to be the probe
	// then, unless there is one.
	reply         *mta.Reply
	failed, until time.Time
	probe         bool
}

// adapt gives a peer that is too busy fewer attempts at a time, and one more
// again each time that it took twice as many messages.
func (a *active) adapt(d *destination, busy, took bool) {
	switch {
	case busy:
		d.limit, d.taken = max(1, d.flying/2), 0
	case took && d.limit > 0:
		if d.taken++; d.taken >= 2*d.limit {
			d.limit, d.taken = d.limit+1, 0
		}
		if d.limit >= a.o.PerDomain {
			d.limit = 0
		}
	}
}

// take finds the next job, or nil: destinations take turns.
func (a *active) take(now time.Time) *job {
	for a.flying < a.o.Concurrency {
		d := a.turns.pop()
		if d == nil {
			return nil
		}
		d.turn = false
		j := &job{dest: d}
		most := 1
		if d.suspended(now) {
			j.reply, j.failed, j.until, j.probe = d.reply, d.failed, d.until, !d.probe
			most = maxTogether
		}
		for n := 0; n < most; {
			b := d.nextBatch()
			if b == nil {
				break
			}
			j.batches = append(j.batches, b)
			n += len(b.entries)
		}
		if len(j.batches) == 0 {
			a.tidy(d)
			continue
		}
		d.flying++
		a.flying++
		// An attempt is the probe; else the first of the job will be.
		d.probe = j.reply != nil
		a.offer(d)
		return j
	}
	return nil
}

// nextBatch takes the first batch that still has entries, and marks these flying.
func (d *destination) nextBatch() *batch {
	for {
		b := d.ready.pop()
		if b == nil {
			return nil
		}
		live := b.entries[:0]
		for _, e := range b.entries {
			if e.state == ready {
				e.state = flying
				live = append(live, e)
			}
		}
		if b.entries = live; len(live) > 0 {
			return b
		}
	}
}

// done ends a job.
func (a *active) done(j *job) {
	j.dest.flying--
	a.flying--
	a.offer(j.dest)
	a.tidy(j.dest)
}

// dispatchLocked starts what may be started.
func (q *Queue) dispatchLocked(now time.Time) {
	if !q.running || len(q.unrecorded) > maxUnrecorded {
		return
	}
	for {
		j := q.take(now)
		if j == nil {
			return
		}
		ctx := q.work
		q.attempts.Go(func() { q.run(ctx, j) })
	}
}

// run does a job and starts what its end makes room for.
func (q *Queue) run(ctx context.Context, j *job) {
	if j.reply != nil {
		q.putOff(ctx, j)
	} else {
		q.attempt(ctx, j)
	}
	now := q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.done(j)
	q.dispatchLocked(now)
	q.nudgeLocked()
}

// timers is a heap of waiting entries by time; recipients of one message that
// have the same time come one after another.
type timers []*entry

func (t timers) Len() int { return len(t) }
func (t timers) Less(i, j int) bool {
	return before(&t[i].row, &t[j].row)
}
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].slot, t[j].slot = i, j
}
func (t *timers) Push(x any) {
	e := x.(*entry)
	e.slot = len(*t)
	*t = append(*t, e)
}
func (t *timers) Pop() any {
	old := *t
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	return e
}

// before is the order of View.Due.
func before(a, b *mailstore.QueueRecipient) bool {
	switch c := a.Next.Compare(b.Next); {
	case c != 0:
		return c < 0
	case a.Item != b.Item:
		return a.Item < b.Item
	}
	return a.Index < b.Index
}

// fifo is a queue of pointers; the zero value is empty.
type fifo[T any] struct {
	items []*T
	head  int
}

func (f *fifo[T]) len() int { return len(f.items) - f.head }

func (f *fifo[T]) push(v *T) {
	if f.head > 32 && f.head > len(f.items)/2 {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, v)
}

// pop takes the first element; nil when there is none.
func (f *fifo[T]) pop() *T {
	if f.len() == 0 {
		return nil
	}
	v := f.items[f.head]
	f.items[f.head] = nil
	if f.head++; f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	}
	return v
}

// last is the element pushed last; nil when there is none.
func (f *fifo[T]) last() *T {
	if f.len() == 0 {
		return nil
	}
	return f.items[len(f.items)-1]
}
