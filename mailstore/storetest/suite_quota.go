package storetest

import (
	"errors"
	"strings"

	"postrider/mailstore"
)

// used reads an account's usage.
func (s *suite) used(a mailstore.AccountID) (u mailstore.Usage) {
	s.Helper()
	s.view(func(v *mailstore.View) (err error) {
		u, _, err = v.Usage(a)
		return err
	})
	return u
}

// limit sets the quota of an account.
func (s *suite) limit(a mailstore.AccountID, q mailstore.Quota) {
	s.Helper()
	s.update(func(tx *mailstore.Tx) error {
		account, err := tx.Account(a)
		account.Quota = q
		return errors.Join(err, tx.UpdateAccount(account))
	})
}

// tryAppend appends a text that may not fit.
func (s *suite) tryAppend(m mailstore.MailboxID, text string) error {
	s.Helper()
	b := s.body(text)
	defer b.Release()
	return s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
		_, err := tx.Append(m, mailstore.NewMessage{Body: b})
		return err
	})
}

func (s *suite) storedBodies() {
	_, inbox := s.account("bob@example.org")
	texts := []string{"ended\r\n", "not ended", "", strings.Repeat("large\r\n", 20000), "\n"}
	s.append(inbox, texts...)
	for i, msg := range s.messages(inbox) {
		b, err := s.store.StoredBody(s.Context(), msg.Body)
		s.ok(err)
		s.equal(b.Size(), len(texts[i]))
		s.update(func(tx *mailstore.Tx) error {
			// Its last reference goes, and one comes.
			_, err1 := tx.Expunge(inbox, []mailstore.UID{msg.UID})
			_, err2 := tx.Append(inbox, mailstore.NewMessage{Body: b})
			return errors.Join(err1, err2)
		})
		b.Release()
		list := s.messages(inbox)
		again := list[len(list)-1]
		if again.Body != msg.Body || again.Unended != msg.Unended || again.Size != msg.Size {
			s.Errorf("%+v became %+v", msg, again)
		}
	}
	s.equal(s.texts(inbox), texts)
	msg := s.messages(inbox)[0]
	b, err := s.store.StoredBody(s.Context(), msg.Body)
	s.ok(err)
	s.update(func(tx *mailstore.Tx) error {
		_, err := tx.Expunge(inbox, []mailstore.UID{msg.UID})
		return err
	})
	s.is(s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
		_, err := tx.Append(inbox, mailstore.NewMessage{Body: b})
		return err
	}), mailstore.ErrNotFound)
	b.Release()
	_, err = s.store.StoredBody(s.Context(), msg.Body)
	s.is(err, mailstore.ErrNotFound)
}

func (s *suite) usage() {
	a, inbox := s.account("bob@example.org")
	b, other := s.account("eve@example.org")
	box := s.create(a, "Archive")
	check := func(want, eve mailstore.Usage) {
		s.Helper()
		s.equal(s.used(a), want)
		s.equal(s.used(b), eve)
	}
	check(mailstore.Usage{}, mailstore.Usage{})
	s.append(inbox, "12345", "", strings.Repeat("x", 100000))
	check(mailstore.Usage{Storage: 100005, Messages: 3}, mailstore.Usage{})
	s.reopened()
	s.update(func(tx *mailstore.Tx) error {
		_, _, err1 := tx.Copy(inbox, []mailstore.UID{1, 2, 99}, box.ID)
		_, _, err2 := tx.Move(inbox, []mailstore.UID{3}, box.ID)
		_, _, err3 := tx.Copy(inbox, []mailstore.UID{1}, other)
		used, _, err4 := tx.Usage(a)
		s.equal(used, mailstore.Usage{Storage: 100010, Messages: 5})
		return errors.Join(err1, err2, err3, err4)
	})
	check(mailstore.Usage{Storage: 100010, Messages: 5}, mailstore.Usage{Storage: 5, Messages: 1})
	s.update(func(tx *mailstore.Tx) error {
		_, err1 := tx.Expunge(inbox, []mailstore.UID{1, 2})
		_, _, err2 := tx.Move(box.ID, []mailstore.UID{2}, other)
		_, _, err3 := tx.SetFlags(box.ID, []mailstore.UID{1}, mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen}, 0)
		return errors.Join(err1, err2, err3)
	})
	check(mailstore.Usage{Storage: 100005, Messages: 2}, mailstore.Usage{Storage: 5, Messages: 2})
	s.append(inbox, "1")
	s.update(func(tx *mailstore.Tx) error {
		return errors.Join(tx.DeleteMailbox(box.ID), tx.RenameMailbox(inbox, "Old"))
	})
	check(mailstore.Usage{Storage: 1, Messages: 1}, mailstore.Usage{Storage: 5, Messages: 2})
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteAccount(b) })
	s.view(func(v *mailstore.View) error {
		_, _, err := v.Usage(b)
		s.is(err, mailstore.ErrNotFound)
		return nil
	})
	s.close()
	e := s.engine(s.T, s.dir)
	snap, err := e.Snapshot(s.Context())
	s.ok(err)
	left, err := snap.Usage(b)
	s.ok(err)
	s.equal(left, mailstore.Usage{})
	snap.Close()
	s.ok(e.Close())
}

func (s *suite) quota() {
	a, inbox := s.account("bob@example.org")
	_, other := s.account("eve@example.org")
	s.limit(a, mailstore.Quota{Storage: 10})
	s.append(inbox, "12345", "67890") // exactly
	err := s.tryAppend(inbox, "x")
	s.is(err, mailstore.ErrQuota)
	var full *mailstore.QuotaError
	if !errors.As(err, &full) {
		s.Fatalf("error %T", err)
	}
	s.equal(*full, mailstore.QuotaError{Account: a, Usage: mailstore.Usage{Storage: 10, Messages: 2},
		Quota: mailstore.Quota{Storage: 10}, More: mailstore.Usage{Storage: 1, Messages: 1}})
	s.equal(full.Room(), 0)
	s.append(other, strings.Repeat("x", 100)) // others are not bounded
	s.append(inbox, "")                       // an empty one takes no octets
	s.update(func(tx *mailstore.Tx) error {
		_, err := tx.Expunge(inbox, []mailstore.UID{1})
		return err
	})
	s.is(s.tryAppend(inbox, "123456"), mailstore.ErrQuota)
	s.append(inbox, "12345")
	s.limit(a, mailstore.Quota{Messages: 3})
	s.is(s.tryAppend(inbox, ""), mailstore.ErrQuota)
	s.reopened() // the limit stays, and what is used
	s.is(s.tryAppend(inbox, ""), mailstore.ErrQuota)
	s.limit(a, mailstore.Quota{Messages: 4})
	s.append(inbox, strings.Repeat("x", 1000))
	// A limit below the usage stops nothing but additions.
	s.limit(a, mailstore.Quota{Storage: 1, Messages: 1})
	s.is(s.tryAppend(inbox, ""), mailstore.ErrQuota)
	s.update(func(tx *mailstore.Tx) error {
		_, err := tx.Expunge(inbox, []mailstore.UID{2})
		return err
	})
	s.limit(a, mailstore.Quota{Storage: mailstore.Unlimited, Messages: -5}) // as the zero one, without a default
	s.append(inbox, strings.Repeat("x", 1000))
	s.view(func(v *mailstore.View) error {
		account, err := v.Account(a)
		s.equal(account.Quota, mailstore.Quota{Storage: mailstore.Unlimited, Messages: mailstore.Unlimited})
		return err
	})
}

func (s *suite) quotaOfCopies() {
	a, inbox := s.account("bob@example.org")
	b, other := s.account("eve@example.org")
	box := s.create(a, "Archive")
	s.append(inbox, "12345", "67890")
	s.append(other, "abcde")
	s.limit(a, mailstore.Quota{Storage: 19})
	all := []mailstore.UID{1, 2}
	try := func(do func(tx *mailstore.Tx) error) error {
		s.Helper()
		return s.store.Update(s.Context(), do)
	}
	copyTo := func(from mailstore.MailboxID, uids []mailstore.UID, to mailstore.MailboxID) error {
		s.Helper()
		return try(func(tx *mailstore.Tx) error {
			_, _, err := tx.Copy(from, uids, to)
			return err
		})
	}
	s.is(copyTo(inbox, all, box.ID), mailstore.ErrQuota)
	s.equal(s.uids(box.ID), []mailstore.UID{}) // all or nothing
	s.ok(copyTo(inbox, all[:1], box.ID))
	s.limit(a, mailstore.Quota{Storage: 1}) // over it by far: moving goes on
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.Move(inbox, all, box.ID)
		return errors.Join(err, tx.RenameMailbox(inbox, "Old"))
	})
	s.is(copyTo(box.ID, all, inbox), mailstore.ErrQuota)
	s.is(copyTo(other, all, inbox), mailstore.ErrQuota)
	s.is(try(func(tx *mailstore.Tx) error { // a move from another account adds
		_, _, err := tx.Move(other, all, inbox)
		return err
	}), mailstore.ErrQuota)
	s.ok(copyTo(other, []mailstore.UID{7}, inbox)) // of nothing
	s.limit(b, mailstore.Quota{Messages: 1})
	s.is(copyTo(box.ID, all, other), mailstore.ErrQuota)
	s.equal(s.used(a), mailstore.Usage{Storage: 15, Messages: 3})
	s.equal(s.used(b), mailstore.Usage{Storage: 5, Messages: 1})
}

func (s *suite) quotaByDefault() {
	s.update(func(tx *mailstore.Tx) error {
		return errors.Join(tx.CreateDomain("example.org"), tx.CreateDomain("example.net"))
	})
	a, inbox := s.account("bob@example.org")
	b, _ := s.account("bob@example.net")
	inForce := func(id mailstore.AccountID, storage, messages int64) {
		s.Helper()
		s.view(func(v *mailstore.View) error {
			_, q, err := v.Usage(id)
			s.equal(q, mailstore.Quota{Storage: storage, Messages: messages})
			return err
		})
	}
	inForce(a, 0, 0)
	s.store.SetQuota(mailstore.Quota{Storage: 10, Messages: 3})
	inForce(a, 10, 3)
	s.append(inbox, "12345")
	s.is(s.tryAppend(inbox, "123456"), mailstore.ErrQuota)
	s.update(func(tx *mailstore.Tx) error {
		s.is(tx.UpdateDomain(mailstore.Domain{Name: "example.com"}), mailstore.ErrNotFound)
		return tx.UpdateDomain(mailstore.Domain{Name: "example.org", Quota: mailstore.Quota{Storage: 11}})
	})
	inForce(a, 11, 3)
	inForce(b, 10, 3)
	s.append(inbox, "123456")
	s.is(s.tryAppend(inbox, "1"), mailstore.ErrQuota)
	s.limit(a, mailstore.Quota{Storage: mailstore.Unlimited})
	inForce(a, mailstore.Unlimited, 3)
	s.append(inbox, "123456")
	s.is(s.tryAppend(inbox, ""), mailstore.ErrQuota) // three messages by the store's default
	s.update(func(tx *mailstore.Tx) error {
		return tx.UpdateDomain(mailstore.Domain{Name: "example.org", Quota: mailstore.Quota{Messages: mailstore.Unlimited}})
	})
	s.append(inbox, "")
	inForce(a, mailstore.Unlimited, mailstore.Unlimited)
	// The order of the domains is that of their creation.
	s.view(func(v *mailstore.View) error {
		list, err := v.Domains()
		s.ok(err)
		s.equal(list[0].Name+" "+list[1].Name, "example.org example.net")
		if list[0].Created.IsZero() || list[0].Quota.Messages != mailstore.Unlimited {
			s.Errorf("domain %+v", list[0])
		}
		return nil
	})
	// An account that moves to another domain has that one's.
	s.limit(a, mailstore.Quota{})
	s.update(func(tx *mailstore.Tx) error {
		return tx.UpdateAccount(mailstore.Account{ID: a, Address: "eve@example.net"})
	})
	inForce(a, 10, 3)
	s.is(s.tryAppend(inbox, ""), mailstore.ErrQuota)
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteDomain("example.net") })
	s.store.SetQuota(mailstore.Quota{})
	inForce(a, 0, 0)
	s.append(inbox, "x")
}

// quotaUndone: what an Update that failed did to usage and limits is undone,
// also where the function goes on after an ErrQuota.
func (s *suite) quotaUndone() {
	a, inbox := s.account("bob@example.org")
	s.limit(a, mailstore.Quota{Storage: 10})
	b := s.body("12345")
	defer b.Release()
	add := func(tx *mailstore.Tx) error {
		_, err := tx.Append(inbox, mailstore.NewMessage{Body: b})
		return err
	}
	for range 3 {
		s.is(s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
			account, err := tx.Account(a)
			account.Quota.Storage = 5
			return errors.Join(err, add(tx), tx.UpdateAccount(account), errNo)
		}), errNo)
	}
	s.equal(s.used(a), mailstore.Usage{})
	s.update(func(tx *mailstore.Tx) error {
		err := errors.Join(add(tx), add(tx))
		s.is(add(tx), mailstore.ErrQuota)
		return err
	})
	s.equal(s.used(a), mailstore.Usage{Storage: 10, Messages: 2})
	s.equal(s.texts(inbox), []string{"12345", "12345"})
	s.equal(s.mailbox(inbox).ModSeq, 3) // the refused one changed nothing
}

// room: what a session may know before it sends a message.
func (s *suite) room() {
	a, inbox := s.account("bob@example.org")
	room := func(size int64, want error) {
		s.Helper()
		s.is(s.store.Room(s.Context(), a, size), want)
	}
	room(1<<60, nil)
	s.is(s.store.Room(s.Context(), a+1, 0), mailstore.ErrNotFound)
	s.limit(a, mailstore.Quota{Storage: 10})
	room(10, nil)
	room(11, mailstore.ErrQuota)
	s.append(inbox, "12345")
	room(0, nil)
	room(5, nil)
	room(6, mailstore.ErrQuota)
	s.append(inbox, "12345")
	room(0, mailstore.ErrQuota) // no message is empty
	s.limit(a, mailstore.Quota{Storage: 12, Messages: 3})
	room(2, nil)
	room(3, mailstore.ErrQuota)
	s.append(inbox, "1")
	room(0, mailstore.ErrQuota)
	s.update(func(tx *mailstore.Tx) error {
		_, err := tx.Expunge(inbox, []mailstore.UID{1})
		return err
	})
	room(6, nil)
	room(7, mailstore.ErrQuota)
	s.limit(a, mailstore.Quota{})
	room(1<<60, nil)
	s.append(inbox, "1")
	s.store.SetQuota(mailstore.Quota{Messages: 3})
	room(0, mailstore.ErrQuota)
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteAccount(a) })
	room(0, mailstore.ErrNotFound)
}
