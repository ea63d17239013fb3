package mailstore_test

import (
	"context"
	"errors"
	"testing"

	"postrider/mailstore"
	"postrider/mailstore/storetest"
)

// What a function leaves to its end is written without a mark to go back to: an
// engine that panics there takes the whole commit with it, and nothing else.
func TestPanicAtTheEnd(t *testing.T) {
	f := setUp(t)
	before, _ := f.state()
	body := func(text string) *mailstore.Body {
		w := f.store.NewBody()
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		b, err := w.Commit()
		f.must(err)
		return b
	}
	writes := 0
	add := func(text string, fault func(op string) error) func(tx *mailstore.Tx) error {
		b := body(text)
		t.Cleanup(b.Release)
		return func(tx *mailstore.Tx) error {
			f.engine.SetFault(fault)
			_, err := tx.Append(f.inbox, mailstore.NewMessage{Body: b})
			return err
		}
	}
	errs, _ := storetest.Together(f.store, add("Subject: one\r\n\r\n", nil), add("Subject: two\r\n\r\n", func(op string) error {
		if op != storetest.OpWrite {
			return nil
		}
		if writes++; writes == 2 { // of the second one's writes: its body is there, its content is not
			panic("a fault of the engine")
		}
		return nil
	}))
	f.engine.SetFault(nil)
	if errs[0] == nil || errors.Is(errs[0], mailstore.ErrFailed) || errors.Is(errs[0], storetest.ErrPanic) || !errors.Is(errs[1], storetest.ErrPanic) {
		t.Fatalf("errors %v", errs)
	}
	f.same("after a panic", before)
	f.must(f.add("three"))
	f.verify()
}

// MailboxID never names a mailbox that had the name before, and changes that were
// undone leave no trace; nor does what one function of a commit did to a name
// mislead the next one.
func TestMailboxID(t *testing.T) {
	f := setUp(t)
	a := mailstore.AccountID(1)
	is := func(name string, want mailstore.MailboxID, wrong error) {
		t.Helper()
		for range 2 {
			got, err := f.store.MailboxID(context.Background(), a, name)
			if got != want || !errors.Is(err, wrong) {
				t.Errorf("MailboxID(%q) = %d, %v, want %d, %v", name, got, err, want, wrong)
			}
		}
	}
	create := func(name string, err error) (id mailstore.MailboxID) {
		got := f.update(func(tx *mailstore.Tx) error {
			box, cerr := tx.CreateMailbox(a, name, "")
			f.must(cerr)
			id = box.ID
			if box, cerr = tx.MailboxByName(a, name); box.ID != id || cerr != nil {
				t.Errorf("%s within the update: %d, %v", name, box.ID, cerr)
			}
			return err
		})
		if !errors.Is(got, err) {
			t.Fatal(got)
		}
		return id
	}
	undone := errors.New("undone")
	is("inBox", f.inbox, nil)
	is("a//b", 0, mailstore.ErrNotFound)
	is("Work", 0, mailstore.ErrNotFound)
	create("Work", undone)
	is("Work", 0, mailstore.ErrNotFound)
	work := create("Work", nil)
	is("Work", work, nil)
	errs, _ := storetest.Together(f.store,
		func(tx *mailstore.Tx) error { return tx.RenameMailbox(work, "Play") },
		func(tx *mailstore.Tx) error {
			_, err := tx.MailboxByName(a, "Work")
			if !errors.Is(err, mailstore.ErrNotFound) {
				t.Errorf("the old name after a rename: %v", err)
			}
			return nil
		},
		func(tx *mailstore.Tx) error {
			f.must(tx.Subscribe(a, "Play", true))
			box, err := tx.MailboxByName(a, "Play")
			if !box.Subscribed {
				t.Error("not subscribed within the update")
			}
			return errors.Join(err, undone)
		},
		func(tx *mailstore.Tx) error {
			box, err := tx.MailboxByName(a, "Play")
			if box.ID != work || box.Subscribed {
				t.Errorf("after what was undone: %+v", box)
			}
			return err
		})
	f.must(errors.Join(errs[0], errs[1], errs[3]))
	is("Work", 0, mailstore.ErrNotFound)
	is("Play", work, nil)
	f.must(f.update(func(tx *mailstore.Tx) error { return tx.DeleteMailbox(work) }))
	is("Play", 0, mailstore.ErrNotFound)
	if again := create("Play", nil); again == work {
		t.Error("an id came twice")
	} else {
		is("Play", again, nil)
	}
	f.verify()
}
