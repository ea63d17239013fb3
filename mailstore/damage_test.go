package mailstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"postrider/mailstore"
)

// spoil writes rows past the store, which is opened anew.
func (f *fixture) spoil(fn func(w mailstore.Writer) error) {
	f.Helper()
	f.must(f.store.Close())
	w, err := f.engine.Begin()
	f.must(err)
	f.must(fn(w))
	f.must(w.Commit())
	f.engine = f.engine.Reopen()
	f.open()
}

// readable lists the UIDs of INBOX, and ranges of those that cannot be read.
func (f *fixture) readable() (uids []mailstore.UID, damaged []string) {
	f.Helper()
	f.must(f.store.View(context.Background(), func(v *mailstore.View) error {
		return v.Readable(f.inbox, 1, func(m mailstore.Message) bool {
			uids = append(uids, m.UID)
			return true
		}, func(d *mailstore.DamagedRange) { damaged = append(damaged, fmt.Sprint(d.Mailbox, d.First, d.Last)) })
	}))
	return uids, damaged
}

// A block that is damaged, the last one of its mailbox too, keeps neither those
// behind it from being read nor others from arriving.
func TestDamagedBlock(t *testing.T) {
	f := setUp(t)
	f.spoil(func(w mailstore.Writer) error {
		var block mailstore.BlockRow
		err := w.Blocks(f.inbox, func(b *mailstore.BlockRow) bool {
			block = *b
			return true
		})
		block.Data = []byte("not what was written")
		return errors.Join(err, w.PutBlock(&block))
	})
	err := f.store.View(context.Background(), func(v *mailstore.View) error {
		return v.Messages(f.inbox, 1, 0, func(mailstore.Message) bool { return true })
	})
	if d := (*mailstore.DamagedRange)(nil); !errors.As(err, &d) || !errors.Is(err, mailstore.ErrDamaged) || d.First != 1 || d.Last != 2 {
		t.Errorf("error %v", err)
	}
	const more = 3000 // enough for blocks to be joined
	var want []mailstore.UID
	for i := range mailstore.UID(more) {
		f.must(f.add("more"))
		want = append(want, i+3)
	}
	uids, damaged := f.readable()
	if !slices.Equal(uids, want) || !slices.Equal(damaged, []string{fmt.Sprint(f.inbox, 1, 2)}) {
		t.Errorf("%d messages can be read, and not %v", len(uids), damaged)
	}
	if boxes, _ := f.state(); boxes[0].Messages != more+2 {
		t.Errorf("%d messages", boxes[0].Messages)
	}
	blocks := 0
	snap, err := f.engine.Snapshot(context.Background())
	f.must(err)
	f.must(snap.Blocks(f.inbox, func(*mailstore.BlockRow) bool {
		blocks++
		return true
	}))
	snap.Close()
	if blocks > 40 {
		t.Errorf("%d blocks", blocks)
	}
}

// A record of expunges that cannot be makes clients see all anew, and goes.
func TestDamagedExpunges(t *testing.T) {
	for _, e := range []mailstore.ExpungeRow{{ModSeq: 3, First: 9, Last: 8}, {ModSeq: 3, First: 1, Last: 1 << 31}, {ModSeq: 3}, {ModSeq: 1 << 62, First: 1, Last: 1}} {
		f := setUp(t)
		f.must(f.update(func(tx *mailstore.Tx) error {
			_, err := tx.Expunge(f.inbox, []mailstore.UID{1})
			return err
		}))
		f.spoil(func(w mailstore.Writer) error { return w.PutExpunge(f.inbox, e) })
		changes := func() (c mailstore.Changes) {
			f.must(f.store.View(context.Background(), func(v *mailstore.View) (err error) {
				c, err = v.Changes(f.inbox, 1)
				return err
			}))
			return c
		}
		if c := changes(); !c.Horizon || len(c.Expunged)+len(c.Arrived)+len(c.Changed) > 0 {
			t.Errorf("%+v: %+v", e, c)
		}
		found := 0
		for range 2 { // the second finds nothing
			f.must(f.store.Verify(context.Background(), mailstore.VerifyOptions{Repair: true, Found: func(one mailstore.Finding) {
				if found++; !one.Repaired {
					t.Errorf("%+v: %v", e, &one)
				}
			}}))
		}
		if found != 2 { // the count of records, and the record
			t.Errorf("%+v: %d findings", e, found)
		}
		if c := changes(); !c.Horizon {
			t.Errorf("%+v, repaired: %+v", e, c)
		}
		at := changes().ModSeq
		f.must(f.update(func(tx *mailstore.Tx) error {
			_, err := tx.Expunge(f.inbox, []mailstore.UID{2})
			return err
		}))
		f.must(f.store.View(context.Background(), func(v *mailstore.View) error {
			c, err := v.Changes(f.inbox, at)
			if c.Horizon || !slices.Equal(c.Expunged, []mailstore.UID{2}) {
				t.Errorf("%+v, afterwards: %+v", e, c)
			}
			return err
		}))
	}
}
