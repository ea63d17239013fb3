package search

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/mattn/go-sqlite3"

	"postrider/mailstore"
	"postrider/mailstore/storetest"
)

// stall keeps the indexer from reading the store until it has noticed, while fn
// runs.
func (w *world) stall(fn func()) {
	w.Helper()
	w.engine.SetFault(func(op string) error {
		if op == storetest.OpSnapshot {
			return errors.New("input/output error")
		}
		return nil
	})
	fn()
	for w.index.poke(); w.index.Status().Trouble == ""; {
		runtime.Gosched()
	}
	w.engine.SetFault(nil)
}

// allKnown checks that the index knows of every message.
func (w *world) allKnown(when string) {
	w.Helper()
	w.settle()
	for i, m := range w.boxes {
		_, uids := w.messages(m)
		hits := w.index.Lookup(context.Background(), w.account, m, uids, []Key{NewKey(Body, "", "quick")})
		for j := range uids {
			if !hits[0].Found(j) {
				w.Fatalf("%s: message %d of mailbox %d of %d is not indexed", when, uids[j], i+1, len(w.boxes))
			}
		}
	}
}

// TestIndexAfterFailures: what the indexer could not look at when it heard of it
// is indexed later all the same, and Settle waits for it.
func TestIndexAfterFailures(t *testing.T) {
	w := newWorld(t, t.TempDir())
	raw := []byte("Subject: a fox\r\n\r\nThe quick brown one.\r\n")
	for range 20 {
		w.addBox("Box " + string(rune('a'+len(w.boxes))))
	}
	w.allKnown("at first")
	w.stall(func() {
		for _, m := range w.boxes {
			w.deliver(m, "", raw, 1)
		}
	})
	w.allKnown("after mail that could not be looked at")

	w.index.Close()
	for _, m := range w.boxes {
		w.deliver(m, "", raw, 1)
	}
	w.stall(w.open)
	w.allKnown("after a start that could not compare")
	w.close()
}

// TestIndexBesideDamage: a damaged database of the store is not taken for a damaged
// index, and what cannot be read of a mailbox keeps nothing else from being indexed.
func TestIndexBesideDamage(t *testing.T) {
	w := newWorld(t, t.TempDir())
	defer w.close()
	raw := []byte("Subject: a fox\r\n\r\nThe quick brown one.\r\n")
	w.deliver(w.boxes[0], "", raw, 1)
	w.settle()
	w.engine.SetFault(func(op string) error {
		if op == storetest.OpSnapshot {
			return fmt.Errorf("%w: %w", mailstore.ErrDamaged, sqlite3.Error{Code: sqlite3.ErrCorrupt})
		}
		return nil
	})
	w.deliver(w.boxes[0], "", raw, 1)
	for w.index.poke(); w.index.Status().Trouble == ""; {
		runtime.Gosched()
	}
	if n := w.index.Status().Documents; n != 1 {
		t.Errorf("%d documents after the store could not be read", n)
	}
	w.engine.SetFault(nil)
	w.allKnown("afterwards")

	w.index.Close()
	w.must(w.store.Close())
	tx, err := w.engine.Begin()
	w.must(err)
	w.must(tx.Blocks(w.boxes[0], func(b *mailstore.BlockRow) bool {
		b = &mailstore.BlockRow{Mailbox: b.Mailbox, First: b.First, Last: b.Last, Count: b.Count, Stamp: b.Stamp, Head: b.Head, Data: []byte("damaged")}
		w.must(tx.PutBlock(b))
		return true
	}))
	w.must(tx.Commit())
	w.openStore()
	w.deliver(w.boxes[0], "", raw, 1)
	w.deliver(w.boxes[1], "", raw, 1)
	w.open()
	w.settle()
	w.sound()
	for i, uid := range []mailstore.UID{3, 1} {
		hits := w.index.Lookup(context.Background(), w.account, w.boxes[i], []mailstore.UID{uid}, []Key{NewKey(Body, "", "quick")})
		if !hits[0].Found(0) {
			t.Errorf("what can be read of mailbox %d is not indexed", i)
		}
	}
}

// TestIndexLeavesSpace: while the disk is nearly full nothing is added to the
// index, and all is found all the same.
func TestIndexLeavesSpace(t *testing.T) {
	w := newWorld(t, t.TempDir())
	defer w.close()
	w.index.Close()
	var low atomic.Bool
	w.index = Open(w.store, Options{Path: w.path, Low: low.Load})
	keys := []Key{NewKey(Subject, "", "fox")}
	w.deliver(w.boxes[0], "", []byte("Subject: a fox\r\n\r\n"), 1)
	w.settle()
	low.Store(true)
	w.deliver(w.boxes[0], "", []byte("Subject: another fox\r\n\r\n"), 1)
	for w.index.poke(); w.index.Status().Trouble == ""; {
		runtime.Gosched()
	}
	if s := w.index.Status(); s.Documents != 1 || s.Waiting != 1 {
		t.Errorf("%+v while the disk is nearly full", s)
	}
	if sure := w.check(keys); sure != 1 {
		t.Errorf("sure of %d answers", sure)
	}
	low.Store(false)
	w.settle()
	if sure := w.check(keys); sure != 2 {
		t.Errorf("sure of %d answers when there is space again", sure)
	}
}
