package search

import (
	"context"
	"errors"
	"runtime"
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
