package mailstore_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postrider/mailstore"
	"postrider/mailstore/storetest"
)

// Clients that need a while for their next change still share one commit of a
// slow disk, rather than fall into two groups that wait for each other. A client
// alone waits for nothing but the disk.
func TestSlowDiskIsShared(t *testing.T) {
	const each, disk, turn = 50, 10 * time.Millisecond, time.Millisecond
	for _, clients := range []int{1, 2, 8} {
		synctest.Test(t, func(t *testing.T) {
			f := setUp(t)
			commits := 0
			f.engine.SetFault(func(op string) error {
				if op == storetest.OpCommit {
					commits++ // by the writer alone
					<-time.After(disk)
				}
				return nil
			})
			begun := time.Now()
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for range each {
						if err := f.update(func(tx *mailstore.Tx) error { return tx.PutSetting("x", []byte("y")) }); err != nil {
							t.Error(err)
						}
						<-time.After(turn)
					}
				})
			}
			wg.Wait()
			took := time.Since(begun)
			if most := each + each/10; commits > most {
				t.Errorf("%d clients: %d commits of %d changes, want at most %d", clients, commits, clients*each, most)
			}
			if clients == 1 && took != each*(disk+turn) {
				t.Errorf("one client took %v for %d changes, want %v", took, each, each*(disk+turn))
			}
			f.must(f.store.Close())
		})
	}
}

// What Tx.Inbox remembers never leads to a mailbox that is not the INBOX of the
// account in the transaction that asks.
func TestInboxRemembered(t *testing.T) {
	f := setUp(t)
	undone := errors.New("undone")
	create := func(address string) (a mailstore.AccountID, box mailstore.MailboxID, err error) {
		err = f.update(func(tx *mailstore.Tx) error {
			if a, err = tx.CreateAccount(mailstore.Account{Address: address}); err != nil {
				return err
			}
			if _, err := tx.Inbox(a); !errors.Is(err, mailstore.ErrNotFound) {
				t.Errorf("INBOX of an account without mailboxes: %v", err)
			}
			b, err := tx.CreateMailbox(a, "inbox", "")
			if err != nil {
				return err
			}
			if box, err = tx.Inbox(a); err != nil || box != b.ID {
				t.Errorf("Inbox = %d, %v, want %d", box, err, b.ID)
			}
			if address == "undone" {
				return undone
			}
			return nil
		})
		return a, box, err
	}
	lost, _, err := create("undone")
	if !errors.Is(err, undone) {
		t.Fatal(err)
	}
	carol, box, err := create("carol@example.org")
	f.must(err)
	want := func(a mailstore.AccountID, box mailstore.MailboxID, wrong error) {
		t.Helper()
		f.must(f.update(func(tx *mailstore.Tx) error {
			for range 2 {
				if got, err := tx.Inbox(a); got != box || !errors.Is(err, wrong) {
					t.Errorf("Inbox(%d) = %d, %v, want %d, %v", a, got, err, box, wrong)
				}
			}
			return nil
		}))
	}
	if lost != carol {
		want(lost, 0, mailstore.ErrNotFound)
	}
	want(carol, box, nil)
	f.must(f.update(func(tx *mailstore.Tx) error { return tx.RenameMailbox(box, "old") })) // INBOX stays
	want(carol, box, nil)
	f.must(f.update(func(tx *mailstore.Tx) error { return tx.DeleteAccount(carol) }))
	want(carol, 0, mailstore.ErrNotFound)
	f.must(f.store.Close())
}

// heldStore is a store that holds n expunged messages, and a function that counts
// those that are left. It must be called within the bubble.
func heldStore(t *testing.T, engine mailstore.Engine, keep time.Duration, n int) (*mailstore.Store, func() int) {
	s, err := mailstore.Open(t.Context(), engine, mailstore.Options{Keep: keep})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	body, err := s.NewBody().Commit()
	if err != nil {
		t.Fatal(err)
	}
	defer body.Release()
	var account mailstore.AccountID
	err = s.Update(t.Context(), func(tx *mailstore.Tx) error {
		if account, err = tx.CreateAccount(mailstore.Account{Address: "bob@example.org"}); err != nil {
			return err
		}
		box, err := tx.CreateMailbox(account, "INBOX", "")
		for range n {
			var uid mailstore.UID
			if uid, err = tx.Append(box.ID, mailstore.NewMessage{Body: body}); err != nil {
				return err
			}
			if _, err = tx.Expunge(box.ID, []mailstore.UID{uid}); err != nil {
				return err
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, func() (left int) {
		err := s.View(t.Context(), func(v *mailstore.View) error {
			list, err := v.Held(account)
			left = len(list)
			return err
		})
		if err != nil {
			t.Error(err)
		}
		return left
	}
}

// What was expunged is let go of when its time is over, not before.
func TestHeldForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const keep = 14 * 24 * time.Hour
		_, held := heldStore(t, storetest.NewEngine(), keep, 40) // more than go in one Update
		<-time.After(keep - time.Second)
		if n := held(); n != 40 {
			t.Errorf("%d are held before their time is over", n)
		}
		<-time.After(time.Hour)
		if n := held(); n != 0 {
			t.Errorf("%d are held after their time", n)
		}
	})
}

// The oldest of what is held goes when something new finds no space.
func TestHeldGivesWay(t *testing.T) {
	for _, op := range []string{storetest.OpCommit, storetest.OpCreateFile, storetest.OpWriteFile, storetest.OpCommitFile} {
		t.Run(op, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				engine := storetest.NewEngine()
				s, held := heldStore(t, engine, time.Hour, 3)
				engine.SetFault(func(this string) error {
					if this == op {
						engine.SetFault(nil)
						return mailstore.ErrFull
					}
					return nil
				})
				if err := addLarge(t.Context(), s); !errors.Is(err, mailstore.ErrFull) {
					t.Errorf("error %v, want ErrFull", err)
				}
				synctest.Wait()
				if n := held(); n != 0 {
					t.Errorf("%d are still held", n)
				}
			})
		})
	}
}

// addLarge adds a message whose body goes to a file.
func addLarge(ctx context.Context, s *mailstore.Store) error {
	w := s.NewBody()
	defer w.Abort()
	if _, err := w.Write(make([]byte, 2*mailstore.InlineSize)); err != nil {
		return err
	}
	b, err := w.Commit()
	if err != nil {
		return err
	}
	defer b.Release()
	return s.Update(ctx, func(tx *mailstore.Tx) error {
		a, err := tx.FirstAccount()
		if err != nil {
			return err
		}
		m, err := tx.Inbox(a.ID)
		if err == nil {
			_, err = tx.Append(m, mailstore.NewMessage{Body: b})
		}
		return err
	})
}
