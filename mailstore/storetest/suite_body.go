package storetest

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"

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

// noise is n octets that nothing can be gained from.
func noise(n int) string {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(p)
	return string(p)
}

// compressed: bodies that are kept compressed are read like others, from
// anywhere, whatever the setting is by then.
func (s *suite) compressed() {
	s.options.Compress = true
	s.reopened()
	a, inbox := s.account("bob@example.org")
	half := mailstore.ChunkSize / 2
	var texts []string
	for _, size := range []int{
		0, 1, 255, 256, 4096, mailstore.ChunkSize - 1, mailstore.ChunkSize, mailstore.ChunkSize + 1,
		mailstore.InlineSize, mailstore.InlineSize + 1, 3*mailstore.ChunkSize + 17,
	} {
		texts = append(texts, pattern(size), noise(size))
	}
	texts = append(texts, // some chunks gain, some do not
		noise(mailstore.ChunkSize+half)+pattern(3*mailstore.ChunkSize)+noise(100),
		pattern(4096)+noise(4096), strings.Repeat("x", 1<<20))
	s.append(inbox, texts...)
	s.update(func(tx *mailstore.Tx) error { // by a body that was stored
		other, err := tx.CreateMailbox(a, "other", "")
		if err == nil {
			_, _, err = tx.Copy(inbox, s.uidsIn(tx, inbox), other.ID)
		}
		return err
	})
	for _, compress := range []bool{true, false} {
		s.options.Compress = compress
		s.reopened()
		msgs := s.messages(inbox)
		for i, m := range msgs {
			s.equal(m.Size, len(texts[i]))
			s.readAnywhere(m, texts[i])
		}
	}
	s.append(inbox, texts...) // plain, beside the others
	for i, text := range s.texts(inbox) {
		if text != texts[i%len(texts)] {
			s.Errorf("message %d came back otherwise", i+1)
		}
	}
}

// compressedSize: what can be compressed is, and what can not takes no more.
func (s *suite) compressedSize() {
	s.options.Compress = true
	s.reopened()
	_, inbox := s.account("bob@example.org")
	b := s.body(pattern(1 << 20))
	got := make([]byte, 70000) // also before it is used
	if n, err := b.ReadAt(got, 100001); n != len(got) || string(got) != pattern(1 << 20)[100001:100001+n] {
		s.Errorf("the body can not be read: %d, %v", n, err)
	}
	texts := []string{pattern(4096), noise(4096), pattern(1 << 20), noise(1 << 20), pattern(100)}
	s.append(inbox, texts...)
	msgs := s.messages(inbox)
	s.close()
	e := s.engine(s.T, s.dir)
	snap, err := e.Snapshot(context.Background())
	s.ok(err)
	for i, m := range msgs {
		row, err := snap.Body(m.Body, true)
		s.ok(err)
		kept := int64(len(row.Data))
		if row.File != "" {
			c, err := e.OpenFile(row.File)
			s.ok(err)
			kept = c.Size()
			s.ok(c.Close())
		}
		gains := texts[i] == pattern(len(texts[i])) && len(texts[i]) > 100
		if gains != (len(row.Coding) > 0) || gains && kept > row.Size*7/8 || !gains && kept != row.Size || row.Size != int64(len(texts[i])) {
			s.Errorf("body %d of %d octets takes %d, its index %d", i+1, row.Size, kept, len(row.Coding))
		}
		plain, err := snap.Body(m.Body, false)
		s.ok(err)
		s.equal([]int{len(plain.Data), len(plain.Coding)}, []int{0, 0})
	}
	snap.Close()
	s.ok(e.Close())
	s.open()
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

// openMany: messages that are opened together, in any order and several of one
// body, are those that are opened one by one.
func (s *suite) openMany() {
	_, inbox := s.account("bob@example.org")
	texts := []string{"first", pattern(1000), "", pattern(mailstore.InlineSize + 1), "fifth", noise(mailstore.ChunkSize), "seventh"}
	s.append(inbox, texts...)
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.Copy(inbox, []mailstore.UID{2, 4}, inbox)
		return err
	})
	list := s.messages(inbox)
	texts = append(texts, texts[1], texts[3])
	rand.New(rand.NewPCG(2, 2)).Shuffle(len(list), func(i, j int) {
		list[i], list[j] = list[j], list[i]
		texts[i], texts[j] = texts[j], texts[i]
	})
	gone := slices.Index(texts, "fifth")
	s.update(func(tx *mailstore.Tx) error {
		_, err := tx.Expunge(inbox, []mailstore.UID{list[gone].UID})
		return err
	})
	for _, octets := range []int64{0, 1006, 80 << 10, 1 << 30} {
		for at := 0; at < len(list); {
			opened, err := s.store.OpenMessages(context.Background(), list[at:], octets)
			s.ok(err)
			if len(opened) == 0 || octets == 0 && len(opened) > 1 || octets == 1<<30 && len(opened) < len(list) {
				s.Fatalf("%d opened of %d, within %d octets", len(opened), len(list)-at, octets)
			}
			for _, o := range opened {
				if at == gone {
					s.is(o.Err, mailstore.ErrNotFound)
				} else {
					s.ok(o.Err)
					text, err := readAll(o)
					s.ok(err)
					s.equal(text == texts[at], true)
				}
				at++
			}
		}
	}
}
