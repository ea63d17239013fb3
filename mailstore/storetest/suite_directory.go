package storetest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"postrider/mailstore"
)

func (s *suite) accounts() {
	s.view(func(v *mailstore.View) error {
		_, err := v.FirstAccount()
		s.is(err, mailstore.ErrNotFound)
		return nil
	})
	created := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	var first, second mailstore.AccountID
	s.update(func(tx *mailstore.Tx) (err error) {
		first, err = tx.CreateAccount(mailstore.Account{Address: "b@example.org", Credentials: []byte("x\x00y"), Created: created})
		return err
	})
	s.update(func(tx *mailstore.Tx) (err error) {
		second, err = tx.CreateAccount(mailstore.Account{Address: "a@example.org"})
		return err
	})
	err := s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
		_, err := tx.CreateAccount(mailstore.Account{Address: "a@example.org"})
		return err
	})
	s.is(err, mailstore.ErrExists)
	s.view(func(v *mailstore.View) error {
		list, err := v.Accounts()
		s.ok(err)
		if len(list) != 2 || list[0].ID != first || list[1].ID != second || second <= first {
			s.Errorf("accounts %v, want %d, %d", list, first, second)
		}
		a, err := v.FirstAccount()
		s.ok(err)
		s.equal(a, mailstore.Account{ID: first, Address: "b@example.org", Credentials: []byte("x\x00y"), Created: created})
		b, err := v.AccountByAddress("a@example.org")
		s.ok(err)
		c, err := v.Account(second)
		s.ok(err)
		s.equal(b, c)
		if c.Created.IsZero() {
			s.Error("an account has no time of creation")
		}
		_, err = v.AccountByAddress("c@example.org")
		s.is(err, mailstore.ErrNotFound)
		_, err = v.Account(second + 1)
		s.is(err, mailstore.ErrNotFound)
		return nil
	})
	s.update(func(tx *mailstore.Tx) error {
		s.is(tx.UpdateAccount(mailstore.Account{ID: second, Address: "b@example.org"}), mailstore.ErrExists)
		s.is(tx.UpdateAccount(mailstore.Account{ID: second + 1, Address: "c@example.org"}), mailstore.ErrNotFound)
		return tx.UpdateAccount(mailstore.Account{ID: second, Address: "c@example.org", Credentials: []byte("new")})
	})
	s.view(func(v *mailstore.View) error {
		a, err := v.AccountByAddress("c@example.org")
		if a.ID != second || string(a.Credentials) != "new" || a.Created.IsZero() {
			s.Errorf("account %+v", a)
		}
		return err
	})
}

func (s *suite) directory() {
	s.update(func(tx *mailstore.Tx) error {
		return errors.Join(tx.CreateDomain("b.example"), tx.CreateDomain("a.example"), tx.CreateDomain("c.example"),
			tx.PutAlias(mailstore.Alias{Address: "z@a.example", Targets: []string{"x@a.example", "y@b.example"}}),
			tx.PutAlias(mailstore.Alias{Address: "@a.example", Targets: []string{"x@a.example"}}),
			tx.PutAlias(mailstore.Alias{Address: "none@a.example"}),
			tx.PutSetting("key", []byte("value")), tx.PutSetting("empty", []byte{}))
	})
	s.update(func(tx *mailstore.Tx) error {
		s.is(tx.CreateDomain("a.example"), mailstore.ErrExists)
		s.is(tx.DeleteDomain("d.example"), mailstore.ErrNotFound)
		s.is(tx.DeleteAlias("y@a.example"), mailstore.ErrNotFound)
		return errors.Join(tx.DeleteDomain("b.example"), tx.CreateDomain("b.example"), tx.PutSetting("gone", []byte("x")),
			tx.PutSetting("gone", nil), tx.PutSetting("never", nil))
	})
	s.view(func(v *mailstore.View) error {
		domains, err := v.Domains()
		s.ok(err)
		var names []string
		for _, d := range domains {
			names = append(names, d.Name)
			if d.Created.IsZero() {
				s.Error("a domain has no time of creation")
			}
		}
		s.equal(names, []string{"a.example", "c.example", "b.example"})
		d, err := v.Domain("c.example")
		s.ok(err)
		s.equal(d, domains[1])
		_, err = v.Domain("d.example")
		s.is(err, mailstore.ErrNotFound)
		aliases, err := v.Aliases()
		s.ok(err)
		s.equal(aliases, "[{Address:@a.example Targets:[x@a.example]} {Address:none@a.example Targets:[]} "+
			"{Address:z@a.example Targets:[x@a.example y@b.example]}]")
		a, err := v.Alias("z@a.example")
		s.ok(err)
		s.equal(a, aliases[2])
		_, err = v.Alias("y@a.example")
		s.is(err, mailstore.ErrNotFound)
		for key, want := range map[string]string{"key": "value", "empty": ""} {
			value, err := v.Setting(key)
			s.ok(err)
			s.equal(string(value), want)
		}
		_, err = v.Setting("gone")
		s.is(err, mailstore.ErrNotFound)
		return nil
	})
	s.update(func(tx *mailstore.Tx) error {
		return errors.Join(tx.DeleteAlias("z@a.example"),
			tx.PutAlias(mailstore.Alias{Address: "@a.example", Targets: []string{"q@a.example"}}))
	})
	s.view(func(v *mailstore.View) error {
		aliases, err := v.Aliases()
		s.equal(aliases, "[{Address:@a.example Targets:[q@a.example]} {Address:none@a.example Targets:[]}]")
		return err
	})
}

func (s *suite) deleteAccount() {
	a, inbox := s.account("bob@example.org")
	b, other := s.account("eve@example.org")
	s.append(inbox, "one", strings.Repeat("large", 20000))
	s.create(a, "Archive")
	s.update(func(tx *mailstore.Tx) error {
		if _, _, err := tx.Copy(inbox, []mailstore.UID{1}, other); err != nil {
			return err
		}
		_, err := tx.Expunge(inbox, []mailstore.UID{1})
		return errors.Join(err, tx.Subscribe(a, "Archive", true))
	})
	s.update(func(tx *mailstore.Tx) error {
		s.is(tx.DeleteAccount(b+1), mailstore.ErrNotFound)
		return tx.DeleteAccount(a)
	})
	s.view(func(v *mailstore.View) error {
		_, err := v.Account(a)
		s.is(err, mailstore.ErrNotFound)
		_, err = v.Mailbox(inbox)
		s.is(err, mailstore.ErrNotFound)
		boxes, err := v.Mailboxes(a)
		s.ok(err)
		names, err := v.Subscriptions(a)
		s.ok(err)
		if len(boxes)+len(names) != 0 {
			s.Errorf("left of the account: %v %v", boxes, names)
		}
		return nil
	})
	s.equal(s.texts(other), []string{"one"})
	// The same address again is another account.
	again, box := s.account("bob@example.org")
	if again <= b || box <= other {
		s.Errorf("ids were used again: account %d, mailbox %d", again, box)
	}
}

func (s *suite) mailboxes() {
	a, inbox := s.account("bob@example.org")
	b, _ := s.account("eve@example.org")
	sent := mailstore.Mailbox{}
	s.update(func(tx *mailstore.Tx) (err error) {
		sent, err = tx.CreateMailbox(a, "Sent", "\\Sent")
		return err
	})
	s.equal(sent, mailstore.Mailbox{
		ID: sent.ID, Account: a, Name: "Sent", SpecialUse: "\\Sent",
		UIDValidity: sent.UIDValidity, UIDNext: 1, ModSeq: 1,
	})
	if sent.ID <= inbox || sent.UIDValidity == 0 || sent.UIDValidity == s.mailbox(inbox).UIDValidity {
		s.Errorf("mailbox %+v", sent)
	}
	s.view(func(v *mailstore.View) error {
		list, err := v.Mailboxes(a)
		s.ok(err)
		if len(list) != 2 || list[0].ID != inbox {
			s.Errorf("mailboxes %+v", list)
		}
		s.equal(list[1], sent)
		box, err := v.MailboxByName(a, "Sent")
		s.ok(err)
		s.equal(box, sent)
		_, err = v.MailboxByName(a, "sent")
		s.is(err, mailstore.ErrNotFound)
		_, err = v.MailboxByName(b, "Sent")
		s.is(err, mailstore.ErrNotFound)
		_, err = v.Mailbox(1 << 30)
		s.is(err, mailstore.ErrNotFound)
		return nil
	})
	s.update(func(tx *mailstore.Tx) error {
		_, err := tx.CreateMailbox(a, "Sent", "")
		s.is(err, mailstore.ErrExists)
		_, err = tx.CreateMailbox(b+1, "Sent", "")
		s.is(err, mailstore.ErrNotFound)
		s.is(tx.DeleteMailbox(inbox), mailstore.ErrName)
		s.is(tx.DeleteMailbox(1<<30), mailstore.ErrNotFound)
		s.is(tx.RenameMailbox(1<<30, "x"), mailstore.ErrNotFound)
		return nil
	})
}

func (s *suite) names() {
	a, inbox := s.account("bob@example.org")
	s.view(func(v *mailstore.View) error {
		for _, name := range []string{"inbox", "InBoX", "INBOX"} {
			box, err := v.MailboxByName(a, name)
			s.ok(err)
			s.equal(box.ID, inbox)
		}
		_, err := v.MailboxByName(a, "a//b")
		s.is(err, mailstore.ErrNotFound)
		return nil
	})
	deep := strings.Repeat("a/", mailstore.MaxNameDepth-1) + "a"
	long := strings.Repeat("a", mailstore.MaxNameLength)
	for _, c := range []struct{ name, want string }{
		{"Inbox", ""}, {"", ""}, {"/", ""}, {"a/", ""}, {"/a", ""}, {"a//b", ""}, {"a\x00b", ""}, {"a\nb", ""},
		{"a\x7fb", ""}, {"a\u0085b", ""}, {"a\xffb", ""}, {deep + "/a", ""}, {long + "a", ""}, {"\ufffd", ""},
		{deep, deep}, {long, long}, {"inbox/x", "INBOX/x"}, {"cafe\u0301", "caf\u00e9"}, {"a b%*\\\"", "a b%*\\\""},
		{"Отправленные/日本", "Отправленные/日本"},
	} {
		err := s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
			box, err := tx.CreateMailbox(a, c.name, "")
			if err == nil && box.Name != c.want {
				s.Errorf("%q became %q, want %q", c.name, box.Name, c.want)
			}
			return err
		})
		switch {
		case c.want != "":
			s.ok(err)
		case strings.EqualFold(c.name, "inbox"):
			s.is(err, mailstore.ErrExists)
		default:
			s.is(err, mailstore.ErrName)
		}
	}
	s.view(func(v *mailstore.View) error {
		for _, name := range []string{"cafe\u0301", "caf\u00e9", "Inbox/x"} {
			_, err := v.MailboxByName(a, name)
			s.ok(err)
		}
		return nil
	})
}

// nameList lists an account's mailboxes as "name:messages".
func (s *suite) nameList(a mailstore.AccountID) []string {
	s.Helper()
	var names []string
	s.view(func(v *mailstore.View) error {
		list, err := v.Mailboxes(a)
		for _, box := range list {
			names = append(names, fmt.Sprintf("%s:%d", box.Name, box.Messages))
		}
		return err
	})
	return names
}

func (s *suite) renameTree() {
	a, inbox := s.account("bob@example.org")
	top := s.create(a, "a")
	for _, name := range []string{"a/b", "a/b/c", "ab", "z", "z/b"} {
		s.append(s.create(a, name).ID, name)
	}
	rename := func(id mailstore.MailboxID, name string) error {
		return s.store.Update(s.Context(), func(tx *mailstore.Tx) error { return tx.RenameMailbox(id, name) })
	}
	s.is(rename(top.ID, "z"), mailstore.ErrExists)
	s.is(rename(top.ID, "a"), mailstore.ErrExists)
	s.is(rename(top.ID, "inbox"), mailstore.ErrExists)
	s.is(rename(top.ID, "a/d"), mailstore.ErrName)
	s.is(rename(top.ID, "x/"), mailstore.ErrName)
	s.is(rename(top.ID, strings.Repeat("x", mailstore.MaxNameLength)), mailstore.ErrName) // its children do not fit
	s.ok(rename(top.ID, "x/y"))
	s.equal(s.nameList(a), "[INBOX:0 x/y:0 x/y/b:1 x/y/b/c:1 ab:1 z:1 z/b:1]")
	renamed := s.mailbox(top.ID)
	s.equal(renamed.UIDValidity, top.UIDValidity)
	// A child that is in the way stops it all.
	s.update(func(tx *mailstore.Tx) error {
		z, err := tx.MailboxByName(a, "z")
		if err != nil {
			return err
		}
		return tx.DeleteMailbox(z.ID)
	})
	s.is(rename(top.ID, "z"), mailstore.ErrExists) // z/b is there
	s.equal(s.nameList(a), "[INBOX:0 x/y:0 x/y/b:1 x/y/b/c:1 ab:1 z/b:1]")
	s.ok(rename(top.ID, "INBOX/y"))
	s.equal(s.nameList(a), "[INBOX:0 INBOX/y:0 INBOX/y/b:1 INBOX/y/b/c:1 ab:1 z/b:1]")
	s.equal(s.mailbox(inbox).Name, "INBOX")
}

func (s *suite) renameInbox() {
	a, inbox := s.account("bob@example.org")
	s.create(a, "INBOX/below")
	s.append(inbox, "one", "two", "three")
	before := s.mailbox(inbox)
	s.update(func(tx *mailstore.Tx) error {
		_, err := tx.Expunge(inbox, []mailstore.UID{2})
		return errors.Join(err, tx.RenameMailbox(inbox, "Old"))
	})
	s.equal(s.nameList(a), "[INBOX:0 INBOX/below:0 Old:2]")
	after := s.mailbox(inbox)
	if after.UIDValidity != before.UIDValidity || after.UIDNext != before.UIDNext || after.ModSeq <= before.ModSeq {
		s.Errorf("INBOX was %+v and is %+v", before, after)
	}
	s.equal(s.changesSince(inbox, before.ModSeq).Expunged, []mailstore.UID{1, 2, 3})
	s.view(func(v *mailstore.View) error {
		old, err := v.MailboxByName(a, "Old")
		s.equal(s.texts(old.ID), []string{"one", "three"})
		return err
	})
	s.equal(s.append(inbox, "four"), []mailstore.UID{4})
}

func (s *suite) recreate() {
	a, _ := s.account("bob@example.org")
	last := uint32(0)
	for i := range 5 {
		box := s.create(a, "again")
		if box.UIDValidity <= last || box.UIDNext != 1 {
			s.Fatalf("UIDVALIDITY %d after %d", box.UIDValidity, last)
		}
		last = box.UIDValidity
		s.append(box.ID, "text")
		s.update(func(tx *mailstore.Tx) error { return tx.DeleteMailbox(box.ID) })
		s.view(func(v *mailstore.View) error {
			_, err := v.Mailbox(box.ID)
			s.is(err, mailstore.ErrNotFound)
			_, err = v.MailboxByName(a, "again")
			s.is(err, mailstore.ErrNotFound)
			_, err = v.Changes(box.ID, 0)
			s.is(err, mailstore.ErrNotFound)
			_, err = v.Message(box.ID, 1)
			s.is(err, mailstore.ErrNotFound)
			return nil
		})
		s.is(s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
			_, _, err := tx.SetFlags(box.ID, []mailstore.UID{1}, mailstore.AddFlags, mailstore.Flags{}, 0)
			return err
		}), mailstore.ErrNotFound)
		if i == 2 {
			s.reopened()
		}
	}
}

func (s *suite) subscriptions() {
	a, inbox := s.account("bob@example.org")
	b, _ := s.account("eve@example.org")
	s.update(func(tx *mailstore.Tx) error {
		s.is(tx.Subscribe(b+1, "x", true), mailstore.ErrNotFound)
		s.is(tx.Subscribe(a, "x//y", true), mailstore.ErrName)
		return errors.Join(tx.Subscribe(a, "inbox", true), tx.Subscribe(a, "gone", true), tx.Subscribe(a, "gone", true),
			tx.Subscribe(a, "Zebra", true), tx.Subscribe(a, "Zebra", false), tx.Subscribe(a, "never", false))
	})
	s.view(func(v *mailstore.View) error {
		names, err := v.Subscriptions(a)
		s.ok(err)
		s.equal(names, []string{"INBOX", "gone"})
		names, err = v.Subscriptions(b)
		s.ok(err)
		s.equal(names, []string{})
		return nil
	})
	if !s.mailbox(inbox).Subscribed {
		s.Error("INBOX is not subscribed")
	}
	box := s.create(a, "gone")
	if !box.Subscribed {
		s.Error("a mailbox of a subscribed name is not subscribed")
	}
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteMailbox(box.ID) })
	s.view(func(v *mailstore.View) error {
		names, err := v.Subscriptions(a)
		s.equal(names, []string{"INBOX", "gone"})
		return err
	})
}
