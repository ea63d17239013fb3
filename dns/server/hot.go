package server

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"sync/atomic"
)

const (
	hotWays = 4
	// maxHotEntry is the largest answer that is kept.
	maxHotEntry = 4096
	// hotAverage and hotOverhead: a table has as many places as answers of
	// the average size would need; each costs so much beside its octets.
	hotAverage  = 512
	hotOverhead = 400
)

// hotTable keeps answers that were given, for those who ask the same again. It
// holds a bounded number of octets. Readers take no lock.
type hotTable struct {
	seed   maphash.Seed
	limit  int64
	octets atomic.Int64
	slots  []atomic.Pointer[entry] // in sets of hotWays
	next   atomic.Uint32           // which way gives room
}

// newHotTable returns a table for so many octets; nil for 0.
func newHotTable(octets int64) *hotTable {
	if octets <= 0 {
		return nil
	}
	n := hotWays
	for int64(n)*hotAverage < octets {
		n *= 2
	}
	return &hotTable{seed: maphash.MakeSeed(), limit: octets, slots: make([]atomic.Pointer[entry], n)}
}

// key is what answers are kept by: the name, type and class, and what else
// changes the octets of an answer. It is written to buf.
func (q *query) key(buf []byte, recursion bool) []byte {
	buf = append(buf, q.name[:q.nameLen]...)
	buf = binary.BigEndian.AppendUint16(buf, q.qtype)
	buf = binary.BigEndian.AppendUint16(buf, q.class)
	var bits byte
	if q.do {
		bits |= 1
	}
	if q.flags&flagCD != 0 {
		bits |= 2
	}
	if q.flags&flagRD != 0 {
		bits |= 4
	}
	if recursion {
		bits |= 8
	}
	return append(buf, bits)
}

func (t *hotTable) set(key []byte) []atomic.Pointer[entry] {
	i := maphash.Bytes(t.seed, key) % uint64(len(t.slots)/hotWays) * hotWays
	return t.slots[i : i+hotWays]
}

// get returns the answer kept under key that is still good.
func (t *hotTable) get(key []byte, now int64, at *setup, r Recursor) *entry {
	if t == nil {
		return nil
	}
	slots := t.set(key)
	for i := range slots {
		if e := slots[i].Load(); e != nil && bytes.Equal(e.key, key) {
			if !e.good(now, at) || e.from == nil && e.generation != r.Generation() {
				return nil
			}
			return e
		}
	}
	return nil
}

// good tells whether e may still be sent: of a zone as long as nothing changed,
// else until its time is over.
func (e *entry) good(now int64, at *setup) bool {
	if e.setup != at {
		return false // what was another's may be ours now
	}
	if e.from != nil {
		return e.from.current.Load() == e.zone && !e.from.expired.Load()
	}
	return now < e.until
}

func (e *entry) cost() int64 {
	n := hotOverhead
	if size := len(e.key) + len(e.wire); size > len(e.room) {
		n += size
	}
	if len(e.ttls) > len(e.fewTTLs) {
		n += 2 * len(e.ttls)
	}
	return int64(n)
}

// put keeps e under its key, in place of an old answer to the same question, a
// spent one, or any.
func (t *hotTable) put(e *entry, now int64) {
	if t == nil || len(e.wire) > maxHotEntry || len(e.ttls) == maxTTLs {
		return
	}
	slots := t.set(e.key)
	at := -1
	for i := range slots {
		old := slots[i].Load()
		if old != nil && bytes.Equal(old.key, e.key) {
			at = i
			break
		}
		if at < 0 && (old == nil || !old.good(now, e.setup)) {
			at = i
		}
	}
	if at < 0 {
		at = int(t.next.Add(1)) % hotWays
	}
	t.replace(&slots[at], e)
	for range 8 { // a table full of long answers gives up some
		if t.octets.Load() <= t.limit {
			return
		}
		t.replace(&t.slots[int(t.next.Add(1)*2654435761)%len(t.slots)], nil)
	}
	if t.octets.Load() > t.limit {
		if slots[at].CompareAndSwap(e, nil) {
			t.octets.Add(-e.cost())
		}
	}
}

func (t *hotTable) replace(slot *atomic.Pointer[entry], e *entry) {
	old := slot.Swap(e)
	if e != nil {
		t.octets.Add(e.cost())
	}
	if old != nil {
		t.octets.Add(-old.cost())
	}
}
