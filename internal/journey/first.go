package journey

import (
	"hash/maphash"
	"strconv"
	"sync"
	"time"
)

// maxFirsts bounds the memory of First; when it is full the older half is
// forgotten, and something may be told a second time.
const maxFirsts = 1 << 17

// firsts remembers what happened already.
type firsts struct {
	mu       sync.Mutex
	seed     maphash.Seed
	now, old map[uint64]struct{}
}

// First tells whether something, named by parts, is asked about for the first time.
// A nil Recorder says no: nobody is to be told.
func (r *Recorder) First(parts ...string) bool {
	if r == nil {
		return false
	}
	f := &r.firsts
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now == nil {
		f.seed, f.now = maphash.MakeSeed(), map[uint64]struct{}{}
	}
	var h maphash.Hash
	h.SetSeed(f.seed)
	for _, p := range parts {
		h.WriteString(p)
		h.WriteByte(0)
	}
	key := h.Sum64()
	_, now := f.now[key]
	_, old := f.old[key]
	if len(f.now) >= maxFirsts/2 {
		f.now, f.old = map[uint64]struct{}{}, f.now
	}
	f.now[key] = struct{}{}
	return !now && !old
}

// Remembers tells whether what happened at a time is still remembered: events about
// older messages would stand alone.
func (r *Recorder) Remembers(t time.Time) bool {
	return r != nil && r.o.Clock.Now().Sub(t) < r.o.Keep
}

// Content names a body of the store in events: a message keeps it wherever it is
// moved.
func Content(body int64) string { return "M" + strconv.FormatInt(body, 10) }
