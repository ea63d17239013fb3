package storetest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"postrider/mailstore"
)

// held lists what is held of an account as "mailbox messages".
func (s *suite) held(a mailstore.AccountID) (list []mailstore.Held, text string) {
	s.Helper()
	s.view(func(v *mailstore.View) (err error) {
		list, err = v.Held(a)
		return err
	})
	var words []string
	for _, h := range list {
		words = append(words, fmt.Sprint(h.Mailbox, " ", h.Messages))
	}
	return list, strings.Join(words, ", ")
}

func (s *suite) expungeAll(m mailstore.MailboxID, uids ...mailstore.UID) {
	s.Helper()
	s.update(func(tx *mailstore.Tx) error {
		_, err := tx.Expunge(m, uids)
		return err
	})
}

// undelete: what is expunged stays as it is for a while, outside the mailbox and
// the quota, and comes back with new UIDs.
func (s *suite) undelete() {
	s.close()
	s.options.Keep = time.Hour
	s.open()
	a, inbox := s.account("alice@example.org")
	other, _ := s.account("bob@example.org")
	large := strings.Repeat("large\r\n", 20000)
	s.append(inbox, "one\r\n", large, "three\r\n", "four\r\n")
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.SetFlags(inbox, []mailstore.UID{2, 3}, mailstore.AddFlags,
			mailstore.Flags{System: mailstore.Deleted | mailstore.Seen, Keywords: []string{"work"}}, 0)
		return err
	})
	s.expungeAll(inbox, 2, 3)
	s.expungeAll(inbox, 1)
	box := s.create(a, "Old")
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.Move(inbox, []mailstore.UID{4}, box.ID) // a move holds nothing
		return err
	})
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteMailbox(box.ID) })
	list, text := s.held(a)
	s.equal(text, "INBOX 2, INBOX 1, Old 1")
	_, text = s.held(other)
	s.equal(text, "")
	s.view(func(v *mailstore.View) error {
		used, _, err := v.Usage(a)
		s.equal(used, mailstore.Usage{})
		return err
	})
	s.reopened()
	s.is(s.store.Update(context.Background(), func(tx *mailstore.Tx) error {
		_, _, err := tx.Undelete(other, list[0].ID)
		return err
	}), mailstore.ErrNotFound)
	for i, want := range []string{"INBOX [5 6]", "INBOX [7]", "Old [1]"} {
		s.update(func(tx *mailstore.Tx) error {
			name, uids, err := tx.Undelete(a, list[i].ID)
			s.equal(fmt.Sprint(name, " ", uids), want)
			return err
		})
	}
	s.is(s.store.Update(context.Background(), func(tx *mailstore.Tx) error {
		_, _, err := tx.Undelete(a, list[0].ID)
		return err
	}), mailstore.ErrNotFound)
	msgs := s.messages(inbox)
	s.equal(msgs[0].Flags, mailstore.Flags{System: mailstore.Seen, Keywords: []string{"work"}})
	s.equal(s.texts(inbox), []string{large, "three\r\n", "one\r\n"})
	s.view(func(v *mailstore.View) error {
		used, _, err := v.Usage(a)
		s.equal(used, mailstore.Usage{Storage: int64(len(large)) + 18, Messages: 4})
		return err
	})
	_, text = s.held(a)
	s.equal(text, "")
	s.close()
	s.verify()
}

// reclaim: the oldest of what is held goes first, and its bodies with it.
func (s *suite) reclaim() {
	s.close()
	s.options.Keep = time.Hour
	s.open()
	a, inbox := s.account("alice@example.org")
	large := strings.Repeat("large\r\n", 20000)
	s.append(inbox, large, "two\r\n", "three\r\n")
	for uid := range mailstore.UID(3) {
		s.expungeAll(inbox, uid+1)
	}
	_, text := s.held(a)
	s.equal(text, "INBOX 1, INBOX 1, INBOX 1")
	s.equal(s.files(), 1)
	freed, err := s.store.Reclaim(context.Background(), 1)
	s.ok(err)
	if freed < int64(len(large)) {
		s.Errorf("freed %d octets", freed)
	}
	_, err = s.store.Reclaim(context.Background(), 1<<40)
	s.ok(err)
	_, text = s.held(a)
	s.equal(text, "")
	s.update(func(tx *mailstore.Tx) error { return nil })
	s.reopened() // the janitor is done with the file
	s.equal(s.files(), 0)
	s.append(inbox, "four\r\n")
	s.expungeAll(inbox, 4)
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteAccount(a) })
	s.view(func(v *mailstore.View) error {
		list, err := v.Held(a)
		s.equal(len(list), 0)
		return err
	})
	s.close()
	s.verify()
}

// reclaimShares: for want of space, what the account has that holds the most goes
// first, though that of others is older.
func (s *suite) reclaimShares() {
	s.close()
	s.options.Keep = time.Hour
	s.open()
	a, inbox := s.account("alice@example.org")
	b, other := s.account("bob@example.org")
	const size = 5 << 18 // more than one account gives in one turn
	text := strings.Repeat("123456\r\n", size/8)
	s.append(other, text, text)
	s.expungeAll(other, 1)
	s.expungeAll(other, 2)
	for i := range mailstore.UID(8) { // far beyond what the mailbox ever has
		s.append(inbox, text)
		s.expungeAll(inbox, i+1)
	}
	count := func(a mailstore.AccountID) int {
		list, _ := s.held(a)
		return len(list)
	}
	for _, one := range []struct {
		octets      int64
		alice, bob  int
		freed       int64
		aliceOldest mailstore.HeldID
	}{
		{1, 7, 2, size, 4},
		{4 * size, 3, 2, 4 * size, 8},
		{3 * size, 1, 1, 3 * size, 10},
		{1 << 40, 0, 0, 2 * size, 0},
		{1, 0, 0, 0, 0},
	} {
		freed, err := s.store.Reclaim(context.Background(), one.octets)
		s.ok(err)
		s.equal(freed, one.freed)
		s.equal([]int{count(a), count(b)}, []int{one.alice, one.bob})
		if list, _ := s.held(a); len(list) > 0 {
			s.equal(list[0].ID, one.aliceOldest)
		}
	}
	s.close()
	s.verify()
}

// holdNothing: without a time to keep it, what is expunged is gone.
func (s *suite) holdNothing() {
	a, inbox := s.account("alice@example.org")
	s.append(inbox, "one\r\n", "two\r\n")
	s.expungeAll(inbox, 1)
	_, text := s.held(a)
	s.equal(text, "")
	s.close()
	s.verify()
}

// records: lists tell of messages without reading them, of copies too.
func (s *suite) records() {
	a, inbox := s.account("alice@example.org")
	letter := func(n int) string {
		return fmt.Sprintf("From: a@example.org\r\nSubject: number %d\r\nMessage-ID: <%d@x>\r\n\r\ntext\r\n", n, n)
	}
	s.append(inbox, letter(1), letter(2), letter(3), "")
	box := s.create(a, "Copies")
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.Copy(inbox, []mailstore.UID{3, 1}, box.ID)
		return err
	})
	subjects := func(m mailstore.MailboxID, from, to mailstore.UID) string {
		var list []string
		s.view(func(v *mailstore.View) error {
			return v.Describe(m, from, to, func(d *mailstore.Described) bool {
				list = append(list, fmt.Sprintf("%d %s %s", d.UID, d.Record.MessageID, d.Record.BaseSubject))
				return true
			})
		})
		return strings.Join(list, ", ")
	}
	only := func(m mailstore.MailboxID, most int, uids ...mailstore.UID) (found []mailstore.UID) {
		s.view(func(v *mailstore.View) error {
			return v.DescribeOnly(m, uids, func(d *mailstore.Described) bool {
				if want := fmt.Sprintf("%d %s %s", d.UID, d.Record.MessageID, d.Record.BaseSubject); want != subjects(m, d.UID, d.UID) {
					s.Errorf("%d of %v is %s", d.UID, uids, want)
				}
				found = append(found, d.UID)
				return len(found) < most
			})
		})
		return found
	}
	s.equal(only(inbox, 9, 1, 3, 4), []mailstore.UID{1, 3, 4})
	s.equal(only(inbox, 1, 2, 4), []mailstore.UID{2})
	s.equal(only(box.ID, 9, 2, 3, 9), []mailstore.UID{2})
	s.equal(only(inbox, 9), []mailstore.UID{})
	s.equal(only(99, 9, 1), []mailstore.UID{})
	many := s.create(a, "Many") // of several blocks, with holes
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.Copy(inbox, []mailstore.UID{2, 3}, many.ID)
		for n := 2; err == nil && n < 3*mailstore.MaxBlock; n *= 2 {
			_, _, err = tx.Copy(many.ID, s.uidsIn(tx, many.ID), many.ID)
		}
		if err == nil {
			_, err = tx.Expunge(many.ID, []mailstore.UID{1, 2000, 2001})
		}
		return err
	})
	s.equal(only(many.ID, 9, 1, 2, 3, 900, 1999, 2000, 2001, 2002, 4000, 5000), []mailstore.UID{2, 3, 900, 1999, 2002, 4000})
	s.equal(subjects(inbox, 1, 0), "1 1@x number 1, 2 2@x number 2, 3 3@x number 3, 4  ")
	s.equal(subjects(inbox, 2, 3), "2 2@x number 2, 3 3@x number 3")
	s.equal(subjects(box.ID, 1, 0), "1 1@x number 1, 2 3@x number 3")
	s.equal(subjects(inbox, 9, 0), "")
	s.equal(subjects(99, 1, 0), "")
	// Behind a prefix some messages are others than without: the second of these
	// begins with a line that goes on with the last one of the prefix.
	for _, text := range []string{letter(4), "\tmore\r\n" + letter(5)} {
		b := s.body(text)
		s.update(func(tx *mailstore.Tx) error {
			_, err := tx.Append(box.ID, mailstore.NewMessage{Body: b, Prefix: "X: 1\r\n"})
			return err
		})
		b.Release()
	}
	s.equal(subjects(box.ID, 3, 0), "3 4@x number 4, 4 5@x number 5")
}

// threads: an answer is in the conversation of what it answers, within an
// account and while the subject stays.
func (s *suite) threads() {
	a, inbox := s.account("alice@example.org")
	_, elsewhere := s.account("bob@example.org")
	letter := func(subject, id, refers string) string {
		return "Subject: " + subject + "\r\nMessage-ID: <" + id + "@x>\r\nReferences: " + refers + "\r\n\r\n"
	}
	s.append(elsewhere, letter("plan", "0", ""))
	s.append(inbox,
		letter("plan", "1", ""),
		letter("Re: Plan", "2", "<1@x>"),
		letter("other", "3", "<1@x>"),                     // another subject
		letter("Re: plan", "4", "<9@x>"),                  // of an unknown message
		letter("Fwd: plan", "5", "<9@x>"),                 // that both refer to
		letter("Re: plan", "0", "<zz@x>"),                 // known in another account only
		"Subject: plan\r\n\r\n",                           // without any id
		"Subject: Re:  PLAN\r\nReferences: <2@x>\r\n\r\n") // without an id of its own
	box := s.create(a, "Box")
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.Copy(inbox, []mailstore.UID{2}, box.ID)
		return err
	})
	msgs := append(s.messages(inbox), s.messages(box.ID)...)
	first := make(map[mailstore.ThreadID]int)
	var got []int
	for i, m := range msgs {
		if _, ok := first[m.Thread]; !ok {
			first[m.Thread] = i + 1
			s.equal(m.Thread, mailstore.ThreadID(m.Body))
		}
		got = append(got, first[m.Thread])
	}
	s.equal(got, []int{1, 1, 3, 4, 4, 6, 7, 1, 1})
	s.reopened()
	s.append(inbox, letter("plan", "10", "<5@x>"))
	msgs = s.messages(inbox)
	s.equal(msgs[8].Thread, msgs[3].Thread)
	s.close()
	s.verify()
}

// selected: what SELECT tells, and that its list of UIDs stays what it was.
func (s *suite) selected() {
	_, inbox := s.account("alice@example.org")
	look := func() (box mailstore.Selected) {
		s.view(func(v *mailstore.View) (err error) {
			box, err = v.Select(inbox)
			return err
		})
		return box
	}
	empty := look()
	s.equal(len(empty.UIDs), 0)
	s.append(inbox, "one", "two", "three")
	before := look()
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.SetFlags(inbox, []mailstore.UID{1}, mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen, Keywords: []string{"a"}}, 0)
		return err
	})
	s.append(inbox, "four")
	now := look()
	s.equal(fmt.Sprint(before.UIDs, before.FirstUnseen, before.Keywords), "[1 2 3] 1 []")
	s.equal(fmt.Sprint(now.UIDs, now.FirstUnseen, now.Keywords, now.Messages), "[1 2 3 4] 2 [a] 4")
	s.expungeAll(inbox, 2, 3)
	s.append(inbox, "five")
	s.equal(fmt.Sprint(now.UIDs), "[1 2 3 4]")
	s.equal(fmt.Sprint(look().UIDs, look().FirstUnseen), "[1 4 5] 2")
	s.is(s.store.View(context.Background(), func(v *mailstore.View) error {
		_, err := v.Select(99)
		return err
	}), mailstore.ErrNotFound)
}
