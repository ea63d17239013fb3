package mailstore

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"postrider/internal/clock"
)

// States of a waiter.
const (
	waiting int32 = iota
	begun
	abandoned
)

// waiter is one Update on its way through the writer.
type waiter struct {
	fn    func(*Tx) error
	ended <-chan struct{} // the caller's context; nil when it has no end
	state atomic.Int32
	done  chan struct{} // closed when the fields below are final

	err      error
	panicked bool
	value    any  // of the panic
	exited   bool // fn called runtime.Goexit
}

// begin tells whether fn may run: its caller still waits.
func (w *waiter) begin() bool {
	select {
	case <-w.ended:
		w.state.CompareAndSwap(waiting, abandoned)
		return false
	default:
		return w.state.CompareAndSwap(waiting, begun)
	}
}

// abandon tells whether the caller may leave: fn has not begun and never will.
func (w *waiter) abandon() bool {
	return w.state.CompareAndSwap(waiting, abandoned) || w.state.Load() == abandoned
}

// result ends Update as fn ended, in the goroutine that called it.
func (w *waiter) result() error {
	if w.panicked {
		panic(w.value)
	}
	if w.exited {
		runtime.Goexit()
	}
	return w.err
}

// writerState belongs to the writer goroutine.
type writerState struct {
	// boxes remembers mailbox rows as the transaction in hand sees them. Rows
	// in dirty are newer here than in the engine.
	boxes map[MailboxID]*MailboxRow
	dirty map[MailboxID]bool
	// edits has the indexes that the transaction in hand changed; nil = deleted.
	edits  map[MailboxID]*boxChange
	quotas quotas
	ids    [len(idCounters)]idRange
	// queued is what the transaction in hand adds to the length of the queue.
	queued int
	last   commit
}

// batch is one commit and those who wait for it.
type batch struct {
	s       *Store
	w       Writer
	start   time.Time
	late    clock.Timer // ends the wait for more members; nil without one
	dirty   bool        // something was written
	bytes   int64
	broken  error     // why the transaction can only be rolled back
	members []*waiter // begun, and to be answered
	bodies  []*Body   // got their row in this batch
	freed   []string  // files whose body lost its last reference
	touched map[MailboxID]AccountID
	lists   map[AccountID]bool
	limits  bool // a quota was changed
	rights  bool // somebody's rights to a mailbox were changed

	annotated []annotated
}

// writeLoop is the writer: it joins the Updates that wait into batches until
// the store is closed. When a function ends the goroutine (runtime.Goexit, as
// testing's FailNow does), another one takes over.
func (s *Store) writeLoop() {
	var b *batch
	ended := false
	defer func() {
		if ended {
			close(s.stopped)
			return
		}
		go func() { // after Goexit; a panic never gets here
			s.state.finish(b)
			s.writeLoop()
		}()
	}()
	for {
		first := s.next()
		if first == nil {
			ended = true
			return
		}
		b = &batch{s: s, start: s.clock.Now()}
		b.add(first)
		for len(b.members) < maxBatch && b.bytes < maxBytes && b.broken == nil && s.join(b) {
		}
		begun := s.clock.Now()
		s.state.finish(b)
		s.state.last = commit{members: len(b.members), waiting: len(s.queue), took: s.clock.Now().Sub(begun)}
	}
}

// commit is what the writer remembers of its last batch.
type commit struct {
	members, waiting int // answered by it; waiting when it was done
	took             time.Duration
}

// slowCommit is how long a commit takes that is worth a wait: less is near the
// grain of timers, and not much longer than a client needs for its next turn.
const slowCommit = 2 * time.Millisecond

// expected is how many Updates the next batch may wait for.
func (c commit) expected() int {
	n := c.members + c.waiting
	if n < 2 || c.took < slowCommit {
		return 0
	}
	return n
}

// join adds the next Update to the batch; it is false when there is none. On a
// slow disk it waits a little for those that the last commit answered: without
// that, the clients of a busy server fall into two groups, each of which waits
// out the commit of the other.
func (s *Store) join(b *batch) bool {
	select {
	case w := <-s.queue:
		b.add(w)
		return true
	default:
	}
	if len(b.members) >= s.state.last.expected() {
		return false
	}
	if b.late == nil {
		b.late = s.clock.NewTimer(s.state.last.took / 4)
	}
	select {
	case w := <-s.queue:
		b.add(w)
		return true
	case <-b.late.Chan():
		return false
	}
}

// next waits for an Update; nil when the store is closed and none waits.
func (s *Store) next() *waiter {
	select {
	case w := <-s.queue:
		return w
	case <-s.stop:
		select {
		case w := <-s.queue:
			return w
		default:
			return nil
		}
	}
}

// add runs one Update's function as part of the batch.
func (b *batch) add(w *waiter) {
	if !w.begin() {
		return
	}
	b.members = append(b.members, w)
	select {
	case <-b.s.failed:
		b.broken = ErrFailed
		return
	default:
	}
	if b.w == nil {
		if b.w, b.broken = b.s.engine.Begin(); b.broken != nil {
			return
		}
	}
	tx := newTx(b)
	good := false
	defer func() {
		if good {
			return
		}
		// A panic is the caller's; it goes on there. Goexit cannot be stopped:
		// this goroutine unwinds now, and writeLoop starts another.
		if r := recover(); r != nil {
			b.s.log.Error("panic in an update of the store", "panic", r, "stack", string(debug.Stack()))
			w.panicked, w.value = true, r
			good = true
		} else {
			w.exited = true
		}
		b.undo(tx)
		tx.end()
	}()
	err := w.fn(tx)
	if err == nil {
		err = tx.flush()
	}
	good = true
	switch {
	case tx.broken != nil:
		b.broken = tx.broken
	case err != nil:
		w.err = err
		b.undo(tx)
	default:
		b.keep(tx)
	}
	tx.end()
}

// undo takes back what one function did, and leaves the rest of the batch.
func (b *batch) undo(tx *Tx) {
	if tx.broken != nil {
		b.broken = tx.broken
	}
	b.s.state.undoIDs(tx)
	if tx.limits {
		clear(b.s.state.quotas.limits)
	}
	for _, body := range tx.bodies {
		body.id = 0
	}
	switch {
	case !tx.stored || b.broken != nil:
		return
	case tx.flushing && b.dirty:
		b.broken = errors.New("a panic between two writes of one update")
		return
	case tx.marked:
		b.broken = b.w.RollbackTo()
		return
	}
	// The first to write has no savepoint: all there is is its own.
	if b.broken = b.w.Rollback(); b.broken == nil {
		b.w, b.broken = b.s.engine.Begin()
	}
}

// keep makes what one function did part of the batch.
func (b *batch) keep(tx *Tx) {
	st := &b.s.state
	if !tx.wrote {
		return
	}
	b.bodies = append(b.bodies, tx.bodies...) // also those that forget has to take the id from
	if tx.marked {
		if b.broken = b.w.Release(); b.broken != nil {
			return
		}
	}
	b.dirty = true
	b.bytes += tx.bytes
	b.freed = append(b.freed, tx.freed...)
	st.queued += tx.queued
	if b.touched == nil {
		b.touched = make(map[MailboxID]AccountID)
		b.lists = make(map[AccountID]bool)
	}
	for id, row := range tx.boxes {
		if row == nil {
			delete(st.boxes, id)
			delete(st.dirty, id)
			continue
		}
		st.boxes[id] = row
		if st.dirty == nil {
			st.dirty = make(map[MailboxID]bool)
		}
		st.dirty[id] = true
	}
	for a, used := range tx.usage {
		st.quotas.used[a] = used
		st.quotas.dirty[a] = true
	}
	b.limits = b.limits || tx.limits
	b.rights = b.rights || tx.rights
	for id, c := range tx.edits {
		if st.edits == nil {
			st.edits = make(map[MailboxID]*boxChange)
		}
		st.edits[id] = c
	}
	for id, a := range tx.touched {
		b.touched[id] = a
	}
	for a := range tx.lists {
		b.lists[a] = true
	}
	b.annotated = append(b.annotated, tx.annotated...)
}

// finish commits the batch, then wakes the watchers and answers. The order is
// the promise: durable, visible, announced.
func (st *writerState) finish(b *batch) {
	s := b.s
	if b.late != nil {
		b.late.Stop()
	}
	err := b.broken
	if err == nil && b.dirty {
		if err = st.flush(b.w); err == nil {
			if err = b.w.Commit(); err != nil && !errors.Is(err, ErrFull) && !errors.Is(err, ErrNotWritten) {
				s.fail(err)
			}
		}
	}
	if errors.Is(err, ErrFailed) {
		s.fail(err) // where the engine says so before the commit
	}
	if b.w != nil && (err != nil || !b.dirty) {
		if rerr := b.w.Rollback(); rerr != nil && err == nil {
			err = rerr
		}
	}
	if err != nil {
		st.forget(b)
		err = s.outcome(err)
	} else {
		s.names.changed(b.lists)
		s.publish(st.quotas.spent(), b.limits)
		st.publish(s)
		st.trim()
		s.janitor.add(b.freed...)
		if b.dirty {
			s.count.committed(len(b.members), s.clock.Now().Sub(b.start).Seconds())
		}
		if b.rights {
			s.watch.wakeGranted()
		}
		s.watch.wake(b.touched, b.lists)
		s.watch.annotated(b.annotated)
	}
	for _, w := range b.members {
		if err != nil && w.err == nil && !w.panicked {
			w.err = err
		}
		s.wantSpace(w.err)
		close(w.done)
	}
}

// outcome is what those in a batch that was not committed are told.
func (s *Store) outcome(err error) error {
	select {
	case <-s.failed:
		if errors.Is(err, ErrFailed) {
			return err
		}
		return fmt.Errorf("%w: %w", ErrFailed, err)
	default:
	}
	if s.count.Failures != nil {
		s.count.Failures.Inc()
	}
	s.log.Error("a change to the store was not made", "error", err)
	return fmt.Errorf("change the store: %w", err)
}

// fail turns the store read-only for good: after a failed sync nobody can say
// what is on disk, and a second sync that succeeds would prove nothing.
func (s *Store) fail(err error) {
	s.failing.Do(func() {
		s.log.Error("the disk failed under a commit; the store is read-only until the next start", "error", err)
		close(s.failed)
	})
}

// flush writes what was held back for the end of the batch.
func (st *writerState) flush(w Writer) error {
	for _, c := range st.edits {
		if c == nil {
			continue
		}
		if err := c.write(w); err != nil {
			return err
		}
	}
	for id := range st.dirty {
		if err := w.PutMailbox(*st.boxes[id]); err != nil {
			return err
		}
	}
	clear(st.dirty)
	if err := st.quotas.flush(w); err != nil {
		return err
	}
	if st.queued == 0 {
		return nil
	}
	n, err := w.Counter(queueCounter)
	if err != nil {
		return err
	}
	if err := w.PutCounter(queueCounter, n+int64(st.queued)); err != nil {
		return err
	}
	st.queued = 0
	return nil
}

// publish lets readers see the indexes that were committed.
func (st *writerState) publish(s *Store) {
	for id, c := range st.edits {
		if box := st.boxes[id]; c != nil && box != nil {
			s.indexes.put(id, c.done(box.ModSeq))
		} else {
			s.indexes.drop(id)
		}
	}
	clear(st.edits)
}

// forget drops all that a batch that was not committed has left in memory.
func (st *writerState) forget(b *batch) {
	clear(st.boxes)
	clear(st.dirty)
	st.quotas.forget()
	clear(st.edits)
	st.queued = 0
	for i := range st.ids {
		st.ids[i].limit = 0
	}
	for _, body := range b.bodies {
		body.id = 0
	}
}

// trim keeps the memory of mailbox rows bounded.
func (st *writerState) trim() {
	if len(st.boxes) > maxCached {
		clear(st.boxes)
	}
	st.quotas.trim()
}

// Counters from which ids are taken. UIDVALIDITY is one of them, so that no two
// mailboxes of a store ever share one.
const (
	accountIDs = iota
	mailboxIDs
	bodyIDs
	queueIDs
	heldIDs
)

var idCounters = [...]string{"account", "mailbox", "body", "queue", "held"}

const (
	queueCounter    = "queue length"
	validityCounter = "uidvalidity"
	idBlock         = 1000 // ids reserved by one write of a counter
)

// idRange is the ids reserved in the transaction in hand or before: next is
// the first that was not given out, limit the first that is not reserved.
type idRange struct{ next, limit int64 }

// take gives out an id. They only grow; those of an Update that failed, or that
// were reserved when the process ended, are never used.
func (st *writerState) take(tx *Tx, kind int) (int64, error) {
	r := &st.ids[kind]
	if err := tx.begin(); err != nil {
		return 0, err
	}
	if r.next >= r.limit {
		w, err := tx.write()
		if err != nil {
			return 0, err
		}
		n, err := w.Counter(idCounters[kind])
		if err != nil {
			return 0, tx.fail(err)
		}
		r.next = max(r.next, n, 1)
		r.limit = r.next + idBlock
		if err := w.PutCounter(idCounters[kind], r.limit); err != nil {
			return 0, tx.fail(err)
		}
		tx.reserved = true
	}
	r.next++
	return r.next - 1, nil
}

// undoIDs makes the next id reserve anew when the reservation was undone.
func (st *writerState) undoIDs(tx *Tx) {
	if !tx.reserved {
		return
	}
	for i := range st.ids {
		st.ids[i].limit = 0
	}
}
