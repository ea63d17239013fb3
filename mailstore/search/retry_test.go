package search

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"

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
