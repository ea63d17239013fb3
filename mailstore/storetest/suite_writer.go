package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"postrider/mailstore"
)

var errNo = errors.New("no")

func (s *suite) rollback() {
	a, inbox := s.account("bob@example.org")
	s.append(inbox, "1", pattern(70000))
	before := s.dump(a)
	b := s.body("new")
	defer b.Release()
	for range 2 {
		s.is(s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
			s.everything(tx, a, inbox, b)
			return errNo
		}), errNo)
		s.equal(s.dump(a), before)
		s.reopened()
		s.equal(s.dump(a), before)
		b = s.body("new") // the old one was of a store that is closed
	}
}

// everything changes something of each kind.
func (s *suite) everything(tx *mailstore.Tx, a mailstore.AccountID, inbox mailstore.MailboxID, b *mailstore.Body) {
	s.Helper()
	_, err := tx.CreateAccount(mailstore.Account{Address: "new@example.org"})
	s.ok(err)
	box, err := tx.CreateMailbox(a, "new", "")
	s.ok(err)
	_, err = tx.Append(box.ID, mailstore.NewMessage{Body: b})
	s.ok(err)
	_, err = tx.Append(inbox, mailstore.NewMessage{Body: b})
	s.ok(err)
	_, _, err = tx.SetFlags(inbox, []mailstore.UID{1}, mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen}, 0)
	s.ok(err)
	_, _, err = tx.Move(inbox, []mailstore.UID{1}, box.ID)
	s.ok(err)
	_, err = tx.Expunge(inbox, []mailstore.UID{2})
	s.ok(err)
	_, _, err = tx.Enqueue(b, mailstore.QueueItem{}, []mailstore.QueueRecipient{{}, {}})
	s.ok(err)
	s.ok(tx.CreateDomain("new.example"))
	s.ok(tx.PutAlias(mailstore.Alias{Address: "new"}))
	s.ok(tx.PutSetting("new", []byte("x")))
	s.ok(tx.Subscribe(a, "new", true))
	s.ok(tx.RenameMailbox(box.ID, "newer"))
}

// dump is all that can be seen of an account and of the store beside it.
func (s *suite) dump(a mailstore.AccountID) string {
	s.Helper()
	var out strings.Builder
	var boxes []mailstore.Mailbox
	s.view(func(v *mailstore.View) error {
		var err error
		if boxes, err = v.Mailboxes(a); err != nil {
			return err
		}
		accounts, err1 := v.Accounts()
		domains, err2 := v.Domains()
		aliases, err3 := v.Aliases()
		names, err4 := v.Subscriptions(a)
		n, err5 := v.QueueLength()
		_, err6 := v.Setting("new")
		fmt.Fprintln(&out, boxes, accounts, domains, aliases, names, n, err6)
		for _, box := range boxes {
			c, err := v.Changes(box.ID, 0)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, "%+v\n", c)
		}
		return errors.Join(err1, err2, err3, err4, err5)
	})
	for _, box := range boxes {
		fmt.Fprintf(&out, "%q\n", s.texts(box.ID))
	}
	return out.String()
}

// together is Together where all goes well with the commit.
func (s *suite) together(fns ...func(tx *mailstore.Tx) error) []error {
	s.Helper()
	errs, waited := Together(s.store, fns...)
	s.ok(waited)
	return errs
}

func (s *suite) rollbackInBatch() {
	a, inbox := s.account("bob@example.org")
	s.append(inbox, "1", "2")
	b := s.body("new")
	defer b.Release()
	add := func(tx *mailstore.Tx) error {
		_, err := tx.Append(inbox, mailstore.NewMessage{Body: b})
		return err
	}
	refuse := func(tx *mailstore.Tx) error {
		s.everything(tx, a, inbox, b)
		return errNo
	}
	panics := func(tx *mailstore.Tx) error {
		s.everything(tx, a, inbox, b)
		return mailstore.ErrLimit
	}
	errs := s.together(refuse, add, panics, add, refuse, add)
	s.equal(errs, []error{errNo, nil, mailstore.ErrLimit, nil, errNo, nil})
	s.equal(s.texts(inbox), []string{"1", "2", "new", "new", "new"})
	s.equal(s.nameList(a), "[INBOX:5]")
	s.view(func(v *mailstore.View) error {
		n, err := v.QueueLength()
		s.equal(n, 0)
		return err
	})
	// What one function made, the next one sees.
	var made mailstore.Mailbox
	errs = s.together(func(tx *mailstore.Tx) (err error) {
		made, err = tx.CreateMailbox(a, "made", "")
		return err
	}, func(tx *mailstore.Tx) error {
		box, err := tx.MailboxByName(a, "made")
		s.equal(box, made)
		_, aerr := tx.Append(box.ID, mailstore.NewMessage{Body: b})
		return errors.Join(err, aerr)
	}, func(tx *mailstore.Tx) error {
		return errors.Join(tx.RenameMailbox(made.ID, "renamed"), errNo)
	}, func(tx *mailstore.Tx) error {
		box, err := tx.Mailbox(made.ID)
		s.equal([]any{box.Name, box.Messages}, []any{"made", 1})
		return err
	})
	s.equal(errs[0], nil)
	s.equal(errs[1], nil)
	s.is(errs[2], errNo)
	s.equal(errs[3], nil)
	s.equal(s.nameList(a), "[INBOX:5 made:1]")
}

func (s *suite) visibility() {
	_, inbox := s.account("bob@example.org")
	b := s.body("x")
	defer b.Release()
	s.update(func(tx *mailstore.Tx) error {
		if _, err := tx.Append(inbox, mailstore.NewMessage{Body: b}); err != nil {
			return err
		}
		// Nobody else sees it before the commit.
		return s.store.View(context.Background(), func(v *mailstore.View) error {
			_, err := v.Message(inbox, 1)
			s.is(err, mailstore.ErrNotFound)
			box, err := v.Mailbox(inbox)
			s.equal(box.Messages, 0)
			return err
		})
	})
	s.equal(s.uids(inbox), []mailstore.UID{1})
}

func (s *suite) ownWrites() {
	a, inbox := s.account("bob@example.org")
	b := s.body("x")
	defer b.Release()
	s.update(func(tx *mailstore.Tx) error {
		at, err := tx.Mailbox(inbox)
		s.ok(err)
		_, err = tx.Append(inbox, mailstore.NewMessage{Body: b})
		s.ok(err)
		_, _, err = tx.SetFlags(inbox, []mailstore.UID{1}, mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen}, 0)
		s.ok(err)
		box, err := tx.Mailbox(inbox)
		s.ok(err)
		s.equal([]any{box.Messages, box.Unseen, box.UIDNext}, []any{1, 0, 2})
		same, err := tx.MailboxByName(a, "INBOX")
		s.ok(err)
		s.equal(same, box)
		list, err := tx.Mailboxes(a)
		s.ok(err)
		s.equal(list, []mailstore.Mailbox{box})
		msg, err := tx.Message(inbox, 1)
		s.ok(err)
		s.equal(msg.Flags.System, mailstore.Seen)
		c, err := tx.Changes(inbox, at.ModSeq)
		s.ok(err)
		s.equal(uidsOf(c.Arrived), []mailstore.UID{1})
		s.equal(c.ModSeq, box.ModSeq)
		other, err := tx.CreateMailbox(a, "other", "")
		s.ok(err)
		s.ok(tx.DeleteMailbox(other.ID))
		_, err = tx.Mailbox(other.ID)
		s.is(err, mailstore.ErrNotFound)
		_, err = tx.Append(other.ID, mailstore.NewMessage{Body: b})
		s.is(err, mailstore.ErrNotFound)
		return nil
	})
	s.equal(s.nameList(a), "[INBOX:1]")
}

func (s *suite) snapshots() {
	a, inbox := s.account("bob@example.org")
	s.append(inbox, "1", "2")
	s.view(func(v *mailstore.View) error {
		before, err := v.Mailbox(inbox)
		s.ok(err)
		s.append(inbox, "3")
		s.update(func(tx *mailstore.Tx) error {
			_, err := tx.Expunge(inbox, []mailstore.UID{1})
			return err
		})
		s.create(a, "new")
		after, err := v.Mailbox(inbox)
		s.ok(err)
		s.equal(after, before)
		n := 0
		s.ok(v.Messages(inbox, 1, 0, func(mailstore.Message) bool {
			n++
			return true
		}))
		s.equal(n, 2)
		list, err := v.Mailboxes(a)
		s.equal(len(list), 1)
		return err
	})
	s.equal(s.nameList(a), "[INBOX:2 new:0]")
}

func (s *suite) panics() {
	a, inbox := s.account("bob@example.org")
	s.append(inbox, "1", "2")
	b := s.body("new")
	defer b.Release()
	before := s.dump(a)
	func() {
		defer func() { s.equal(recover(), "oops") }()
		err := s.store.Update(context.Background(), func(tx *mailstore.Tx) error {
			s.everything(tx, a, inbox, b)
			panic("oops")
		})
		s.Errorf("Update returned %v", err)
	}()
	s.equal(s.dump(a), before)
	// A function that ends its goroutine, as Fatal does, ends its caller's.
	exited := make(chan bool)
	go func() {
		returned := false
		defer func() { exited <- !returned }()
		_ = s.store.Update(context.Background(), func(tx *mailstore.Tx) error {
			s.everything(tx, a, inbox, b)
			runtime.Goexit()
			return nil
		})
		returned = true
	}()
	s.equal(<-exited, true)
	s.equal(s.dump(a), before)
	s.append(inbox, "3")
}

func (s *suite) cancelled() {
	ctx, cancel := context.WithCancel(context.Background())
	never := func(*mailstore.Tx) error {
		s.Error("ran though it was cancelled")
		return nil
	}
	started, proceed := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		s.ok(s.store.Update(context.Background(), func(*mailstore.Tx) error {
			close(started)
			<-proceed
			return nil
		}))
	})
	<-started
	wg.Go(func() { s.is(s.store.Update(ctx, never), context.Canceled) })
	for s.store.Waiting() == 0 {
		runtime.Gosched()
	}
	cancel()
	s.is(s.store.Update(ctx, never), context.Canceled)
	s.is(s.store.View(ctx, func(*mailstore.View) error {
		s.Error("ran though it was cancelled")
		return nil
	}), context.Canceled)
	close(proceed)
	wg.Wait()
	// Once it has begun it goes on to its end.
	ctx, cancel = context.WithCancel(context.Background())
	s.ok(s.store.Update(ctx, func(tx *mailstore.Tx) error {
		cancel()
		return tx.CreateDomain("example.org")
	}))
}

func (s *suite) manyAtOnce() {
	a, inbox := s.account("bob@example.org")
	other := s.create(a, "other").ID
	const workers, each = 16, 20
	var mu sync.Mutex
	seen := make(map[mailstore.UID]string)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				text := fmt.Sprintf("%d.%d", w, i)
				b := s.body(text)
				var uid mailstore.UID
				err := s.store.Update(context.Background(), func(tx *mailstore.Tx) (err error) {
					if uid, err = tx.Append(inbox, mailstore.NewMessage{Body: b}); err != nil {
						return err
					}
					if i%5 == 4 {
						return errNo
					}
					_, err = tx.Append(other, mailstore.NewMessage{Body: b})
					return err
				})
				b.Release()
				if (err != nil) != (i%5 == 4) {
					s.Errorf("%s: %v", text, err)
				}
				if err == nil {
					mu.Lock()
					seen[uid] = text
					mu.Unlock()
					s.view(func(v *mailstore.View) error { // at once
						_, err := v.Message(inbox, uid)
						return err
					})
				}
			}
		})
	}
	wg.Wait()
	s.equal(len(seen), workers*each*4/5)
	for _, msg := range s.messages(inbox) {
		s.equal(s.read(msg), seen[msg.UID])
		delete(seen, msg.UID)
	}
	s.equal(len(seen), 0)
	s.equal(s.mailbox(other).Messages, workers*each*4/5)
}

// woken tells whether a watcher was woken since it was last asked.
func woken(w *mailstore.Watcher) bool {
	select {
	case <-w.C():
		return true
	default:
		return false
	}
}

func (s *suite) watchers() {
	a, inbox := s.account("bob@example.org")
	other := s.create(a, "other").ID
	_, foreign := s.account("eve@example.org")
	watch := []*mailstore.Watcher{s.store.Watch(a, inbox), s.store.Watch(a, other), s.store.Watch(a, 0)}
	expect := func(what string, want ...bool) {
		s.Helper()
		var got []bool
		for _, w := range watch {
			got = append(got, woken(w))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			s.Errorf("%s: woken %v, want %v", what, got, want)
		}
	}
	s.append(foreign, "x")
	expect("another account", false, false, false)
	s.append(inbox, "1")
	s.append(inbox, "2")
	expect("arrivals", true, false, true)
	expect("once", false, false, false)
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.SetFlags(inbox, []mailstore.UID{1}, mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen}, 0)
		return err
	})
	expect("flags", true, false, true)
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.SetFlags(inbox, []mailstore.UID{1}, mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen}, 0)
		return err
	})
	expect("flags that were set", false, false, false)
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.Move(inbox, []mailstore.UID{1}, other)
		return err
	})
	expect("move", true, true, true)
	s.is(s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
		_, err := tx.Expunge(inbox, []mailstore.UID{2})
		return errors.Join(err, errNo)
	}), errNo)
	expect("undone", false, false, false)
	s.create(a, "third")
	expect("a new mailbox", false, false, true)
	s.update(func(tx *mailstore.Tx) error { return tx.Subscribe(a, "third", true) })
	expect("a subscription", false, false, true)
	s.update(func(tx *mailstore.Tx) error { return tx.RenameMailbox(other, "fourth") })
	expect("a new name", false, true, true)
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteMailbox(other) })
	expect("deletion", false, true, true)
	watch[0].Close()
	watch[0].Close()
	s.append(inbox, "3")
	expect("closed", false, false, true)
}

func (s *suite) reopen() {
	a, inbox := s.account("bob@example.org")
	s.append(inbox, "1", "2", pattern(100000))
	b := s.body("new")
	s.update(func(tx *mailstore.Tx) error {
		s.everything(tx, a, inbox, b)
		return nil
	})
	b.Release()
	before := s.dump(a)
	for range 3 {
		s.reopened()
		s.equal(s.dump(a), before)
	}
}

func (s *suite) closed() {
	_, inbox := s.account("bob@example.org")
	s.append(inbox, "1")
	msg := s.messages(inbox)[0]
	s.close()
	s.is(s.store.Close(), mailstore.ErrClosed)
	s.is(s.store.Update(context.Background(), func(*mailstore.Tx) error { return nil }), mailstore.ErrClosed)
	s.is(s.store.View(context.Background(), func(*mailstore.View) error { return nil }), mailstore.ErrClosed)
	_, err := s.store.OpenMessage(context.Background(), msg)
	s.is(err, mailstore.ErrClosed)
}
