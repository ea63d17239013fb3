package storetest

import (
	"context"
	"errors"
	"io"

	"postrider/mailstore"
)

// files counts the body files once the store was closed, and opens it again.
func (s *suite) files() int {
	s.Helper()
	s.close()
	e := s.engine(s.T, s.dir)
	n := 0
	s.ok(e.Files(func(string) bool {
		n++
		return true
	}))
	s.ok(e.Close())
	s.open()
	return n
}

func (s *suite) sharedBodies() {
	a, inbox := s.account("bob@example.org")
	other := s.create(a, "other").ID
	large := pattern(200000)
	b := s.body(large)
	small := s.body("small")
	for range 2 { // several times in several Updates
		s.update(func(tx *mailstore.Tx) error {
			for _, m := range []mailstore.MailboxID{inbox, other, inbox} {
				if _, err := tx.Append(m, mailstore.NewMessage{Body: b}); err != nil {
					return err
				}
				if _, err := tx.Append(m, mailstore.NewMessage{Body: small}); err != nil {
					return err
				}
			}
			_, _, err := tx.Enqueue(b, mailstore.QueueItem{}, []mailstore.QueueRecipient{{Address: "x@example.org"}})
			return err
		})
	}
	msgs := append(s.messages(inbox), s.messages(other)...)
	for _, m := range msgs {
		if m.Body != msgs[0].Body && m.Body != msgs[1].Body {
			s.Error("one body was stored twice")
		}
	}
	// All references go; the body is used again, and stored again.
	s.update(func(tx *mailstore.Tx) error {
		for _, m := range []mailstore.MailboxID{inbox, other} {
			if _, err := tx.Expunge(m, s.uidsIn(tx, m)); err != nil {
				return err
			}
		}
		return errors.Join(tx.RemoveRecipient(1, 0), tx.RemoveRecipient(2, 0))
	})
	got := make([]byte, len(large))
	_, err := b.ReadAt(got, 0)
	if string(got) != large {
		s.Fatalf("the body can not be read: %v", err)
	}
	s.update(func(tx *mailstore.Tx) error {
		_, err := tx.Append(inbox, mailstore.NewMessage{Body: b})
		if err != nil {
			return err
		}
		_, err = tx.Append(inbox, mailstore.NewMessage{Body: small})
		return err
	})
	s.equal(s.texts(inbox), []string{large, "small"})
	// The last reference goes and another comes in one Update.
	s.update(func(tx *mailstore.Tx) error {
		if _, err := tx.Expunge(inbox, s.uidsIn(tx, inbox)); err != nil {
			return err
		}
		_, err := tx.Append(inbox, mailstore.NewMessage{Body: b})
		return err
	})
	b.Release()
	small.Release()
	b.Release()
	s.equal(s.texts(inbox), []string{large})
	s.equal(s.files(), 1)
	s.equal(s.texts(inbox), []string{large})
	err = s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
		_, err := tx.Append(inbox, mailstore.NewMessage{Body: b})
		return err
	})
	if err == nil {
		s.Error("a body was used after its release")
	}
}

func (s *suite) unusedBodies() {
	_, inbox := s.account("bob@example.org")
	s.body(pattern(100000)).Release()
	w := s.store.NewBody()
	_, err := io.WriteString(w, pattern(100000))
	s.ok(err)
	w.Abort()
	w.Abort()
	_, err = w.Commit()
	if err == nil {
		s.Error("a body was committed after Abort")
	}
	b := s.body(pattern(100000))
	want := errors.New("no")
	s.is(s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
		_, err := tx.Append(inbox, mailstore.NewMessage{Body: b})
		return errors.Join(err, want)
	}), want)
	b.Release()
	b = s.body(pattern(100000))
	s.update(func(tx *mailstore.Tx) error { // comes and goes in one Update
		_, err := tx.Append(inbox, mailstore.NewMessage{Body: b})
		if err != nil {
			return err
		}
		_, err = tx.Expunge(inbox, s.uidsIn(tx, inbox))
		return err
	})
	b.Release()
	s.equal(s.files(), 0)
}

func (s *suite) expungedWhileOpen() {
	_, inbox := s.account("bob@example.org")
	texts := []string{"small", pattern(200000)}
	s.append(inbox, texts...)
	msgs := s.messages(inbox)
	var open []mailstore.Content
	for _, m := range msgs {
		c, err := s.store.OpenMessage(context.Background(), m)
		s.ok(err)
		open = append(open, c)
	}
	s.update(func(tx *mailstore.Tx) error {
		_, err := tx.Expunge(inbox, []mailstore.UID{1, 2})
		return err
	})
	for _, m := range msgs {
		_, err := s.store.OpenMessage(context.Background(), m)
		s.is(err, mailstore.ErrNotFound)
		_, err = s.store.OpenBody(context.Background(), m.Body)
		s.is(err, mailstore.ErrNotFound)
	}
	s.equal(s.files(), 0)
	for i, c := range open {
		text, err := readAll(c)
		s.ok(err)
		if text != texts[i] {
			s.Error("an expunged message changed under its reader")
		}
	}
}

func (s *suite) orphans() {
	_, inbox := s.account("bob@example.org")
	s.append(inbox, pattern(100000))
	s.close()
	e := s.engine(s.T, s.dir)
	for range 3 { // as a crash between file and row leaves it
		f, err := e.CreateFile()
		s.ok(err)
		_, err = f.Write([]byte("orphan"))
		s.ok(err)
		c, err := f.Commit()
		s.ok(err)
		s.ok(c.Close())
	}
	f, err := e.CreateFile() // as a crash before that
	s.ok(err)
	_, err = f.Write([]byte("orphan"))
	s.ok(err)
	s.ok(e.Close())
	s.open()
	// A body that is just being made is none.
	b := s.body(pattern(100000))
	s.update(func(tx *mailstore.Tx) error {
		_, err := tx.Append(inbox, mailstore.NewMessage{Body: b})
		return err
	})
	b.Release()
	s.reopened() // a sweep that was cut short goes on at the next start
	s.store.Sweep()
	s.equal(s.files(), 2)
	s.equal(s.texts(inbox), []string{pattern(100000), pattern(100000)})
}
