package journey

import (
	"strconv"
	"sync"
	"time"
)

const (
	writeEvery  = time.Second
	writeAt     = 256 << 10 // octets that are written before the second is over
	maxWaiting  = 4 << 20   // octets that wait for a slow disk; more is lost, and said
	trimEvery   = time.Minute
	complainGap = time.Minute // between two log lines about a disk that fails
)

// batch is events that wait to be written.
type batch struct {
	records     []byte
	entries     []entry // with offsets in records
	indexer     indexer
	events      int
	first, last time.Time
	lost        uint64 // did not fit, after the others
}

// add tells whether there was room.
func (b *batch) add(e *Event) bool {
	if len(b.records) >= maxWaiting {
		b.lost++
		return false
	}
	b.entries = b.indexer.appendEntries(b.entries, e, uint32(len(b.records)))
	b.records = appendRecord(b.records, e)
	b.events++
	at := time.Unix(0, e.Time.UnixNano()) // without what e.Time points to
	if b.first.IsZero() {
		b.first = at
	}
	b.last = at
	return true
}

// writer owns the goroutine that writes a recorder's batches.
type writer struct {
	r    *Recorder
	wake chan struct{}      // a batch is large
	now  chan chan struct{} // to be closed once all is written
	stop chan struct{}
	done chan struct{}
	once sync.Once

	armed   bool // under Recorder.mu: the writer will look within writeEvery
	spare   batch
	complAt time.Time
}

func newWriter(r *Recorder) *writer {
	w := &writer{r: r, wake: make(chan struct{}, 1), now: make(chan chan struct{}),
		stop: make(chan struct{}), done: make(chan struct{})}
	go w.run()
	return w
}

// nudge is called under the recorder's lock, when something waits.
func (w *writer) nudge(size int) {
	if w.armed && size < writeAt {
		return
	}
	w.armed = true
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run sleeps until something waits, gives it a second to become more, and writes.
func (w *writer) run() {
	defer close(w.done)
	trim := w.r.o.Clock.NewTimer(trimEvery)
	defer trim.Stop()
	for {
		select {
		case <-w.wake:
			w.gather()
			w.write()
		case ack := <-w.now:
			w.write()
			close(ack)
		case <-trim.Chan():
			w.r.store.trim()
			trim.Reset(trimEvery)
		case <-w.stop:
			w.write()
			return
		}
	}
}

// gather waits for writeEvery, or until the batch is large or someone asks.
func (w *writer) gather() {
	t := w.r.o.Clock.NewTimer(writeEvery)
	defer t.Stop()
	for {
		select {
		case <-t.Chan():
			return
		case <-w.stop:
			return
		case ack := <-w.now:
			w.write()
			close(ack)
			return
		case <-w.wake:
			w.r.mu.Lock()
			large := len(w.r.waiting.records) >= writeAt
			w.r.mu.Unlock()
			if large {
				return
			}
		}
	}
}

// write writes what waits; what cannot be written is lost.
func (w *writer) write() {
	r := w.r
	r.mu.Lock()
	b := r.waiting
	r.waiting, w.armed = w.spare, false
	if b.lost > 0 {
		b.sayLost(r)
	}
	r.mu.Unlock()
	w.spare = batch{}
	if b.events == 0 {
		return
	}
	if err := r.store.append(b.records, b.entries, b.first, b.last); err != nil {
		w.failed(b.events, err)
	}
	if cap(b.records) <= 2*writeAt {
		w.spare = batch{records: b.records[:0], entries: b.entries[:0]}
	}
}

// sayLost adds an event about those that did not fit.
func (b *batch) sayLost(r *Recorder) {
	n := strconv.FormatUint(b.lost, 10)
	r.seq++
	e := Event{Seq: r.seq, Time: b.last, Node: r.o.Node, Kind: Lost, Attrs: []Attr{{"count", n}}}
	at := uint32(len(b.records))
	b.entries = b.indexer.appendEntries(b.entries, &e, at)
	b.records = appendRecord(b.records, &e)
	b.events++
}

func (w *writer) failed(events int, err error) {
	w.r.lost.Add(uint64(events))
	now := w.r.o.Clock.Now()
	if now.Before(w.complAt) {
		return
	}
	w.complAt = now.Add(complainGap)
	w.r.o.Log.Warn("the journey cannot be written: events are lost", "events", events, "lost", w.r.lost.Load(), "error", err)
}

// flush returns when all that was recorded before is written, or the writer has
// ended.
func (w *writer) flush() {
	ack := make(chan struct{})
	select {
	case w.now <- ack:
		<-ack
	case <-w.done:
	}
}

// close writes what is there and waits for the end of the goroutine.
func (w *writer) close() {
	w.once.Do(func() { close(w.stop) })
	<-w.done
}
