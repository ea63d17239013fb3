package storetest

import (
	"context"
	"errors"
	"testing"

	"postrider/mailstore"
)

// Run tests that an engine keeps the promises of mailstore. open opens the
// engine that keeps its things in dir, an empty directory at first, and is
// called again for the same dir after the engine was closed.
func Run(t *testing.T, open func(t *testing.T, dir string) mailstore.Engine) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{T: t, dir: t.TempDir(), engine: open}
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

// suite is one test of one store.
type suite struct {
	*testing.T
	dir    string
	engine func(t *testing.T, dir string) mailstore.Engine
	store  *mailstore.Store
}

func (s *suite) open() {
	s.Helper()
	store, err := mailstore.Open(context.Background(), s.engine(s.T, s.dir), mailstore.Options{})
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
