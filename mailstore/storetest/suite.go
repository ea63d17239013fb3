package storetest

import (
	"context"
	"errors"
	"testing"

	"postrider/mailstore"
)

// Disklike is where an engine keeps things: it can be opened again after the
// engine was closed.
type Disklike interface {
	Open(t *testing.T) mailstore.Engine
}

// Run tests that engines keep the promises of mailstore. Each call of disk gives
// an empty one.
func Run(t *testing.T, disk func(t *testing.T) Disklike) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{T: t, disk: disk(t)}
			s.open()
			defer s.close()
			c.run(s)
		})
	}
}

var cases = []struct {
	name string
	run  func(s *suite)
}{
	{"smoke", (*suite).smoke},
}

// suite is one test on one disk.
type suite struct {
	*testing.T
	disk  Disklike
	store *mailstore.Store
}

func (s *suite) open() {
	s.Helper()
	store, err := mailstore.Open(context.Background(), s.disk.Open(s.T), mailstore.Options{})
	if err != nil {
		s.Fatal(err)
	}
	s.store = store
}

func (s *suite) close() {
	s.Helper()
	if err := s.store.Close(); err != nil && !errors.Is(err, mailstore.ErrClosed) {
		s.Fatal(err)
	}
}

func (s *suite) smoke() {
	ctx := context.Background()
	w := s.store.NewBody()
	w.Write([]byte("Subject: hi\r\n\r\nhello\r\n"))
	b, err := w.Commit()
	if err != nil {
		s.Fatal(err)
	}
	defer b.Release()
	err = s.store.Update(ctx, func(tx *mailstore.Tx) error {
		a, err := tx.CreateAccount(mailstore.Account{Address: "bob@example.org"})
		if err != nil {
			return err
		}
		m, err := tx.CreateMailbox(a, "inbox", "")
		if err != nil {
			return err
		}
		uid, err := tx.Append(m.ID, mailstore.NewMessage{Body: b})
		if err != nil {
			return err
		}
		if uid != 1 || m.Name != "INBOX" {
			s.Errorf("uid %d, name %s", uid, m.Name)
		}
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
}
