package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"postrider/mailstore"
)

// pattern is a text of n octets that is not the same in any two places.
func pattern(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d\r\n", i)
	}
	return b.String()[:n]
}

func (s *suite) appendRead() {
	_, inbox := s.account("bob@example.org")
	sizes := []int{
		0, 1, 4096, mailstore.InlineSize - 1, mailstore.InlineSize, mailstore.InlineSize + 1,
		3 * mailstore.ChunkSize, 3*mailstore.ChunkSize + 17, 1 << 20,
	}
	want := int64(0)
	for i, size := range sizes {
		text := pattern(size)
		w := s.store.NewBody()
		for rest := text; rest != ""; { // in pieces of odd sizes
			n := min(len(rest), 10007)
			_, err := io.WriteString(w, rest[:n])
			s.ok(err)
			rest = rest[n:]
		}
		s.equal(w.Size(), size)
		b, err := w.Commit()
		s.ok(err)
		w.Abort() // does nothing
		s.equal(b.Size(), size)
		prefix := ""
		if i%2 == 1 {
			prefix = "Return-Path: <alice@example.org>\r\n"
		}
		s.update(func(tx *mailstore.Tx) error {
			uid, err := tx.Append(inbox, mailstore.NewMessage{Body: b, Prefix: prefix})
			s.equal(uid, i+1)
			return err
		})
		got := make([]byte, size)
		if n, err := b.ReadAt(got, 0); n != size || string(got) != text || err != nil && !errors.Is(err, io.EOF) {
			s.Errorf("body of %d octets: %d, %v", size, n, err)
		}
		b.Release()
		want += int64(len(prefix) + size)
		msgs := s.messages(inbox)
		if s.read(msgs[i]) != prefix+text {
			s.Errorf("message of %d octets came back otherwise", size)
		}
		s.readAnywhere(msgs[i], prefix+text)
	}
	box := s.mailbox(inbox)
	s.equal([]any{box.Messages, box.Unseen, box.Size, box.UIDNext}, []any{len(sizes), len(sizes), want, len(sizes) + 1})
}

// readAnywhere reads a message in pieces, from the end to the start.
func (s *suite) readAnywhere(msg mailstore.Message, text string) {
	s.Helper()
	c, err := s.store.OpenMessage(context.Background(), msg)
	s.ok(err)
	s.equal(c.Size(), len(text))
	piece := make([]byte, 70001)
	for off := len(text); off > 0; {
		off = max(0, off-30011)
		n, err := c.ReadAt(piece, int64(off))
		if err != nil && !errors.Is(err, io.EOF) {
			s.Fatal(err)
		}
		if want := text[off:min(len(text), off+len(piece))]; string(piece[:n]) != want || (n < len(piece)) != (err != nil) {
			s.Fatalf("at %d of %d: %d octets, want %d, %v", off, len(text), n, len(want), err)
		}
	}
	if n, err := c.ReadAt(piece, int64(len(text))); n != 0 || !errors.Is(err, io.EOF) {
		s.Errorf("read at the end: %d, %v", n, err)
	}
	if _, err := c.ReadAt(piece, -1); err == nil {
		s.Error("read before the start")
	}
	s.ok(c.Close())
}

func (s *suite) messageFields() {
	_, inbox := s.account("bob@example.org")
	b := s.body("text")
	defer b.Release()
	internal := time.Date(1999, 12, 31, 23, 59, 59, 999, time.FixedZone("", 3600))
	before := time.Now().Truncate(time.Second)
	s.update(func(tx *mailstore.Tx) error {
		_, err := tx.Append(inbox, mailstore.NewMessage{
			Body: b, Prefix: "X: y\r\n", Internal: internal,
			Flags: mailstore.Flags{System: mailstore.Seen | mailstore.Draft, Keywords: []string{"zz", "$Foo", "$foo", "Aa"}},
		})
		if err != nil {
			return err
		}
		_, err = tx.Append(inbox, mailstore.NewMessage{Body: b})
		return err
	})
	msgs := s.messages(inbox)
	s.equal(msgs[0], mailstore.Message{
		Mailbox: inbox, UID: 1, ModSeq: 2, Body: msgs[0].Body, Thread: msgs[0].Thread, Prefix: "X: y\r\n", Size: 10, Unended: true,
		Flags:    mailstore.Flags{System: mailstore.Seen | mailstore.Draft, Keywords: []string{"$Foo", "Aa", "zz"}},
		Internal: time.Date(1999, 12, 31, 22, 59, 59, 0, time.UTC), Saved: msgs[0].Saved,
	})
	second := msgs[1]
	if second.Saved.Before(before) || !second.Internal.Equal(second.Saved) || second.ModSeq <= msgs[0].ModSeq || second.Body != msgs[0].Body {
		s.Errorf("second message %+v", second)
	}
	s.view(func(v *mailstore.View) error {
		m, err := v.Message(inbox, 2)
		s.equal(m, second)
		_, nerr := v.Message(inbox, 3)
		s.is(nerr, mailstore.ErrNotFound)
		return err
	})
	s.update(func(tx *mailstore.Tx) error {
		_, err := tx.Append(inbox+100, mailstore.NewMessage{Body: b})
		s.is(err, mailstore.ErrNotFound)
		for _, k := range []string{"", "a b", "\\Seen", "a(b", "\x00", "é", "a]", strings.Repeat("k", mailstore.MaxKeywordLength+1)} {
			_, err = tx.Append(inbox, mailstore.NewMessage{Body: b, Flags: mailstore.Flags{Keywords: []string{k}}})
			s.is(err, mailstore.ErrFlags)
		}
		_, err = tx.Append(inbox, mailstore.NewMessage{Body: b, Prefix: strings.Repeat("x", mailstore.MaxPrefix+1)})
		s.is(err, mailstore.ErrLimit)
		if _, err = tx.Append(inbox, mailstore.NewMessage{}); err == nil {
			s.Error("a message without a body was taken")
		}
		return nil
	})
	s.equal(s.uids(inbox), []mailstore.UID{1, 2})
}

func (s *suite) ranges() {
	_, inbox := s.account("bob@example.org")
	s.append(inbox, "1", "2", "3", "4", "5", "6")
	s.update(func(tx *mailstore.Tx) error {
		_, err := tx.Expunge(inbox, []mailstore.UID{2, 5})
		return err
	})
	for _, c := range []struct {
		from, to mailstore.UID
		want     []mailstore.UID
	}{
		{0, 0, []mailstore.UID{1, 3, 4, 6}}, {1, 0, []mailstore.UID{1, 3, 4, 6}}, {2, 4, []mailstore.UID{3, 4}},
		{3, 3, []mailstore.UID{3}}, {5, 5, nil}, {6, math.MaxUint32, []mailstore.UID{6}}, {7, 0, nil}, {4, 3, nil},
	} {
		s.view(func(v *mailstore.View) error {
			var got []mailstore.UID
			err := v.Messages(inbox, c.from, c.to, func(m mailstore.Message) bool {
				got = append(got, m.UID)
				return true
			})
			s.equal(got, c.want)
			return err
		})
	}
	s.view(func(v *mailstore.View) error { // a list within a list, each ended early
		n := 0
		err := v.Messages(inbox, 1, 0, func(m mailstore.Message) bool {
			err := v.Messages(inbox, m.UID, 0, func(o mailstore.Message) bool {
				n++
				return o.UID < 4
			})
			s.ok(err)
			return m.UID < 4
		})
		s.equal(n, 3+2+1)
		return err
	})
	s.is(s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
		var werr error
		err := tx.Messages(inbox, 1, 0, func(m mailstore.Message) bool {
			_, werr = tx.Expunge(inbox, []mailstore.UID{m.UID})
			return werr == nil
		})
		if werr == nil {
			s.Error("a list was changed while it was read")
		}
		return errors.Join(err, mailstore.ErrLimit)
	}), mailstore.ErrLimit)
}

func (s *suite) flags() {
	_, inbox := s.account("bob@example.org")
	s.append(inbox, "1", "2", "3")
	set := func(how mailstore.FlagChange, f mailstore.Flags, uids ...mailstore.UID) []mailstore.Message {
		s.Helper()
		var now []mailstore.Message
		s.update(func(tx *mailstore.Tx) (err error) {
			var modified []mailstore.UID
			now, modified, err = tx.SetFlags(inbox, uids, how, f, 0)
			s.equal(len(modified), 0)
			return err
		})
		return now
	}
	before := s.mailbox(inbox).ModSeq
	now := set(mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen, Keywords: []string{"$b", "A"}}, 3, 1, 9, 1)
	s.equal(uidsOf(now), []mailstore.UID{1, 3})
	for _, m := range now {
		s.equal(m.Flags, mailstore.Flags{System: mailstore.Seen, Keywords: []string{"$b", "A"}})
		if m.ModSeq <= before {
			s.Errorf("ModSeq %d after %d", m.ModSeq, before)
		}
	}
	box := s.mailbox(inbox)
	s.equal([]any{box.Messages, box.Unseen, box.ModSeq}, []any{3, 1, now[0].ModSeq})
	// What does not change keeps its ModSeq, and so does the mailbox.
	same := set(mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen, Keywords: []string{"$B", "a"}}, 1, 3)
	s.equal(same, now)
	s.equal(s.mailbox(inbox).ModSeq, box.ModSeq)
	mixed := set(mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen}, 1, 2)
	if mixed[0].ModSeq != now[0].ModSeq || mixed[1].ModSeq <= now[0].ModSeq {
		s.Errorf("mod-sequences %v", mixed)
	}
	s.equal(s.mailbox(inbox).Unseen, 0)
	s.equal(set(mailstore.RemoveFlags, mailstore.Flags{System: mailstore.Draft, Keywords: []string{"$B"}}, 1)[0].Flags,
		mailstore.Flags{System: mailstore.Seen, Keywords: []string{"A"}})
	s.equal(set(mailstore.ReplaceFlags, mailstore.Flags{System: mailstore.Flagged, Keywords: []string{"a", "new"}}, 1)[0].Flags,
		mailstore.Flags{System: mailstore.Flagged, Keywords: []string{"A", "new"}})
	s.equal(set(mailstore.ReplaceFlags, mailstore.Flags{}, 1)[0].Flags, mailstore.Flags{})
	s.equal(s.mailbox(inbox).Unseen, 1)
	s.equal(len(set(mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen}, 7, 8)), 0)
	s.equal(len(set(mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen})), 0)
	s.reopened()
	s.equal(s.messages(inbox)[0].Flags, mailstore.Flags{})

	var many []string
	for i := range mailstore.MaxKeywords {
		many = append(many, fmt.Sprintf("k%d", i))
	}
	set(mailstore.ReplaceFlags, mailstore.Flags{Keywords: many}, 2)
	s.is(s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
		_, _, err := tx.SetFlags(inbox, []mailstore.UID{2}, mailstore.AddFlags, mailstore.Flags{Keywords: []string{"one-more"}}, 0)
		return err
	}), mailstore.ErrFlags)
	s.equal(len(s.messages(inbox)[1].Flags.Keywords), mailstore.MaxKeywords)
}

func (s *suite) conditionalStore() {
	_, inbox := s.account("bob@example.org")
	s.append(inbox, "1", "2", "3")
	at := s.mailbox(inbox).ModSeq
	store := func(unchangedSince mailstore.ModSeq) (now []mailstore.Message, modified []mailstore.UID) {
		s.Helper()
		s.update(func(tx *mailstore.Tx) (err error) {
			now, modified, err = tx.SetFlags(inbox, []mailstore.UID{1, 2, 3}, mailstore.AddFlags, mailstore.Flags{System: mailstore.Flagged}, unchangedSince)
			return err
		})
		return now, modified
	}
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.SetFlags(inbox, []mailstore.UID{2}, mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen}, 0)
		return err
	})
	now, modified := store(at)
	s.equal(uidsOf(now), []mailstore.UID{1, 3})
	s.equal(modified, []mailstore.UID{2})
	s.equal(s.messages(inbox)[1].Flags.System, mailstore.Seen)
	now, modified = store(1)
	s.equal(len(now), 0)
	s.equal(modified, []mailstore.UID{1, 2, 3})
}

func (s *suite) expunge() {
	_, inbox := s.account("bob@example.org")
	s.append(inbox, "1", "22", pattern(100000), "4444", "55555")
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.SetFlags(inbox, []mailstore.UID{3}, mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen}, 0)
		return err
	})
	at := s.mailbox(inbox).ModSeq
	s.update(func(tx *mailstore.Tx) error {
		gone, err := tx.Expunge(inbox, []mailstore.UID{5, 2, 3, 9, 2})
		s.equal(gone, []mailstore.UID{2, 3, 5})
		return err
	})
	box := s.mailbox(inbox)
	s.equal([]any{box.Messages, box.Unseen, box.Size, box.UIDNext}, []any{2, 2, 5, 6})
	s.equal(s.texts(inbox), []string{"1", "4444"})
	s.equal(s.changesSince(inbox, at).Expunged, []mailstore.UID{2, 3, 5})
	s.update(func(tx *mailstore.Tx) error {
		gone, err := tx.Expunge(inbox, []mailstore.UID{5, 2})
		s.equal(len(gone), 0)
		return err
	})
	s.equal(s.mailbox(inbox).ModSeq, box.ModSeq)
	s.update(func(tx *mailstore.Tx) error {
		_, err := tx.Expunge(inbox, []mailstore.UID{1, 4})
		return err
	})
	// A UID is never used again, not even that of the last message and not
	// after a restart.
	s.reopened()
	s.equal(s.append(inbox, "new"), []mailstore.UID{6})
}

func (s *suite) copyMessages() {
	a, inbox := s.account("bob@example.org")
	to := s.create(a, "to").ID
	s.append(inbox, "1", pattern(70000), "3")
	internal := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	b := s.body("4")
	defer b.Release()
	s.update(func(tx *mailstore.Tx) error {
		_, err := tx.Append(inbox, mailstore.NewMessage{
			Body: b, Internal: internal, Prefix: "P: p\r\n",
			Flags: mailstore.Flags{System: mailstore.Seen, Keywords: []string{"k"}},
		})
		return err
	})
	s.append(to, "before")
	from := s.mailbox(inbox)
	s.update(func(tx *mailstore.Tx) error {
		src, dst, err := tx.Copy(inbox, []mailstore.UID{4, 2, 8}, to)
		s.equal([]any{src, dst}, []any{[]mailstore.UID{2, 4}, []mailstore.UID{2, 3}})
		return err
	})
	s.equal(s.mailbox(inbox), from)
	old, msgs := s.messages(inbox), s.messages(to)
	s.equal(s.texts(to), []string{"before", pattern(70000), "P: p\r\n4"})
	if msgs[2].Body != old[3].Body || msgs[1].Body != old[1].Body {
		s.Error("a copy has another body")
	}
	s.equal([]any{msgs[2].Internal, msgs[2].Flags, msgs[2].Prefix}, []any{internal, old[3].Flags, old[3].Prefix})
	box := s.mailbox(to)
	s.equal([]any{box.Messages, box.Unseen, box.UIDNext}, []any{3, 2, 4})
	s.update(func(tx *mailstore.Tx) error { // into the mailbox itself
		src, dst, err := tx.Copy(inbox, []mailstore.UID{1}, inbox)
		s.equal([]any{src, dst}, []any{[]mailstore.UID{1}, []mailstore.UID{5}})
		return err
	})
	s.update(func(tx *mailstore.Tx) error {
		_, err := tx.Expunge(inbox, s.uidsIn(tx, inbox))
		return err
	})
	s.equal(s.texts(to), []string{"before", pattern(70000), "P: p\r\n4"})
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.Copy(to, []mailstore.UID{1}, to+100)
		s.is(err, mailstore.ErrNotFound)
		_, _, err = tx.Copy(to+100, []mailstore.UID{1}, to)
		s.is(err, mailstore.ErrNotFound)
		return nil
	})
}

// uidsIn lists a mailbox within a transaction.
func (s *suite) uidsIn(tx *mailstore.Tx, m mailstore.MailboxID) []mailstore.UID {
	s.Helper()
	var uids []mailstore.UID
	s.ok(tx.Messages(m, 1, 0, func(msg mailstore.Message) bool {
		uids = append(uids, msg.UID)
		return true
	}))
	return uids
}

func (s *suite) moveMessages() {
	a, inbox := s.account("bob@example.org")
	to := s.create(a, "to").ID
	s.append(inbox, "1", pattern(70000), "3")
	at := s.mailbox(inbox).ModSeq
	s.update(func(tx *mailstore.Tx) error {
		src, dst, err := tx.Move(inbox, []mailstore.UID{3, 2, 7}, to)
		s.equal([]any{src, dst}, []any{[]mailstore.UID{2, 3}, []mailstore.UID{1, 2}})
		return err
	})
	s.equal(s.texts(inbox), []string{"1"})
	s.equal(s.texts(to), []string{pattern(70000), "3"})
	s.equal(s.changesSince(inbox, at).Expunged, []mailstore.UID{2, 3})
	s.equal(uidsOf(s.changesSince(to, 1).Arrived), []mailstore.UID{1, 2})
	s.update(func(tx *mailstore.Tx) error { // RFC 6851: into itself is a new UID
		src, dst, err := tx.Move(to, []mailstore.UID{1}, to)
		s.equal([]any{src, dst}, []any{[]mailstore.UID{1}, []mailstore.UID{3}})
		return err
	})
	s.equal(s.uids(to), []mailstore.UID{2, 3})
	// All or nothing: the target is missing.
	s.is(s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
		_, _, err := tx.Move(to, []mailstore.UID{2}, to+100)
		return err
	}), mailstore.ErrNotFound)
	s.equal(s.uids(to), []mailstore.UID{2, 3})
}

func (s *suite) changes() {
	_, inbox := s.account("bob@example.org")
	start := s.mailbox(inbox).ModSeq
	s.append(inbox, "1", "2", "3", "4")
	one := s.changesSince(inbox, start)
	s.equal(uidsOf(one.Arrived), []mailstore.UID{1, 2, 3, 4})
	s.equal([]any{one.ModSeq, one.UIDNext, one.Horizon}, []any{s.mailbox(inbox).ModSeq, 5, false})
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.SetFlags(inbox, []mailstore.UID{4, 2}, mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen}, 0)
		if err != nil {
			return err
		}
		_, err = tx.Expunge(inbox, []mailstore.UID{3})
		return err
	})
	s.append(inbox, "5", "6")
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.SetFlags(inbox, []mailstore.UID{5}, mailstore.AddFlags, mailstore.Flags{System: mailstore.Flagged}, 0)
		if err != nil {
			return err
		}
		_, err = tx.Expunge(inbox, []mailstore.UID{6})
		return err
	})
	two := s.changesSince(inbox, one.ModSeq)
	s.equal([]any{uidsOf(two.Arrived), uidsOf(two.Changed)}, []any{[]mailstore.UID{5}, []mailstore.UID{2, 4}})
	s.equal(two.Expunged, []mailstore.UID{3, 6})
	s.equal(two.Arrived[0].Flags.System, mailstore.Flagged)
	three := s.changesSince(inbox, two.ModSeq)
	s.equal(three, mailstore.Changes{ModSeq: two.ModSeq, UIDNext: 7})
	s.equal(s.changesSince(inbox, two.ModSeq+1000), three)
	all := s.changesSince(inbox, 0)
	s.equal([]any{uidsOf(all.Arrived), uidsOf(all.Changed)}, []any{[]mailstore.UID{1, 2, 4, 5}, []mailstore.UID{}})
}

func (s *suite) horizon() {
	_, inbox := s.account("bob@example.org")
	b := s.body("x")
	defer b.Release()
	// Every second message goes, so that each expunge is a row of the record.
	const n = mailstore.MaxExpunges + 500
	for range 2 {
		s.update(func(tx *mailstore.Tx) error {
			for range n {
				if _, err := tx.Append(inbox, mailstore.NewMessage{Body: b}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	at := s.mailbox(inbox).ModSeq
	var seqs []mailstore.ModSeq
	for part := range 10 {
		s.update(func(tx *mailstore.Tx) error {
			var uids []mailstore.UID
			for i := part; i < n; i += 10 {
				uids = append(uids, mailstore.UID(2*i+1))
			}
			_, err := tx.Expunge(inbox, uids)
			return err
		})
		seqs = append(seqs, s.mailbox(inbox).ModSeq)
	}
	if c := s.changesSince(inbox, at); !c.Horizon || len(c.Expunged)+len(c.Changed)+len(c.Arrived) != 0 || c.ModSeq != seqs[9] {
		s.Errorf("changes beyond the horizon: %+v", c.Horizon)
	}
	if c := s.changesSince(inbox, seqs[8]); c.Horizon || len(c.Expunged) != n/10 {
		s.Errorf("changes before the horizon: %v, %d expunged", c.Horizon, len(c.Expunged))
	}
	seen := false // the horizon is one mod-sequence, before which nothing is known
	for i, seq := range seqs {
		c := s.changesSince(inbox, seq)
		if c.Horizon && seen || !c.Horizon && len(c.Expunged) != n/10*(9-i) {
			s.Errorf("since %d: %v, %d expunged", seq, c.Horizon, len(c.Expunged))
		}
		seen = seen || !c.Horizon
	}
}
