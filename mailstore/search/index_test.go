package search

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"postrider/mailstore"
	"postrider/mailstore/storetest"
)

// fatal is what the helpers here need of a test.
type fatal interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// world is a store with an index.
type world struct {
	fatal
	path    string
	engine  *storetest.Engine
	store   *mailstore.Store
	index   *Index
	account mailstore.AccountID
	boxes   []mailstore.MailboxID
}

func newWorld(t fatal, dir string) *world {
	t.Helper()
	w := &world{fatal: t, path: filepath.Join(dir, "search.db"), engine: storetest.NewEngine()}
	w.openStore()
	w.update(func(tx *mailstore.Tx) (err error) {
		w.account, err = tx.CreateAccount(mailstore.Account{Address: "bob@hamburger.edu"})
		return err
	})
	w.addBox("INBOX")
	w.addBox("Archive")
	w.open()
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) openStore() {
	w.Helper()
	var err error
	w.store, err = mailstore.Open(context.Background(), w.engine, mailstore.Options{})
	w.must(err)
}

func (w *world) open() { w.index = Open(w.store, Options{Path: w.path}) }

func (w *world) close() {
	w.index.Close()
	w.must(w.store.Close())
}

func (w *world) update(fn func(tx *mailstore.Tx) error) {
	w.Helper()
	w.must(w.store.Update(context.Background(), fn))
}

func (w *world) addBox(name string) {
	w.Helper()
	w.update(func(tx *mailstore.Tx) error {
		box, err := tx.CreateMailbox(w.account, name, "")
		w.boxes = append(w.boxes, box.ID)
		return err
	})
}

func (w *world) deliver(m mailstore.MailboxID, prefix string, raw []byte, copies int) {
	w.Helper()
	body := w.store.NewBody()
	_, err := body.Write(raw)
	w.must(err)
	b, err := body.Commit()
	w.must(err)
	defer b.Release()
	w.update(func(tx *mailstore.Tx) error {
		for range copies {
			if _, err := tx.Append(m, mailstore.NewMessage{Body: b, Prefix: prefix}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *world) settle() {
	w.Helper()
	w.must(w.index.Settle(context.Background()))
}

func (w *world) messages(m mailstore.MailboxID) (list []mailstore.Message, uids []mailstore.UID) {
	w.Helper()
	err := w.store.View(context.Background(), func(v *mailstore.View) error {
		return v.Messages(m, 1, 0, func(one mailstore.Message) bool {
			list, uids = append(list, one), append(uids, one.UID)
			return true
		})
	})
	w.must(err)
	return list, uids
}

// check compares what the index says with what reading says, for every message,
// and returns of how many answers it was sure.
func (w *world) check(keys []Key) (sure int) {
	w.Helper()
	for _, m := range w.boxes {
		list, uids := w.messages(m)
		hits := w.index.Lookup(context.Background(), w.account, m, uids, keys)
		if len(hits) != len(keys) {
			w.Fatalf("%d hits for %d keys", len(hits), len(keys))
		}
		for i, one := range list {
			content, err := w.store.OpenMessage(context.Background(), one)
			w.must(err)
			want, err := Match(content, content.Size(), keys)
			w.must(err)
			w.must(content.Close())
			for k, h := range hits {
				if h.Found(i) && !want[k] || h.Absent(i) && want[k] {
					raw := make([]byte, content.Size())
					_, _ = content.ReadAt(raw, 0)
					w.Fatalf("mailbox %d, UID %d, key %v: found %v, absent %v, should be %v in\n%s", m, one.UID, keys[k], h.Found(i), h.Absent(i), want[k], raw)
				}
				if h.Found(i) || h.Absent(i) {
					sure++
				}
			}
		}
	}
	return sure
}

// TestIndexLikeReading: whatever happens to mailboxes, and however far the
// index has come, what it is sure of is what reading the messages says.
func TestIndexLikeReading(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		sub := filepath.Join(dir, fmt.Sprint(n))
		if err := os.Mkdir(sub, 0o700); err != nil {
			t.Fatal(err)
		}
		w := newWorld(rt, sub)
		defer func() {
			w.index.Close()
			_ = w.store.Close()
			_ = os.RemoveAll(sub)
		}()
		var letters []*letter
		rt.Repeat(w.actions(rt, &letters))
	})
}

func (w *world) actions(t *rapid.T, letters *[]*letter) map[string]func(*rapid.T) {
	created := 0
	box := func(t *rapid.T) mailstore.MailboxID { return rapid.SampledFrom(w.boxes).Draw(t, "mailbox") }
	some := func(t *rapid.T, m mailstore.MailboxID) []mailstore.UID {
		_, uids := w.messages(m)
		return slices.DeleteFunc(uids, func(mailstore.UID) bool { return rapid.Bool().Draw(t, "not") })
	}
	deliver := func(t *rapid.T) {
		l := drawLetter(t)
		prefix := rapid.SampledFrom([]string{"", "Return-Path: <alice@crepes.fr>\r\n", "Return-Path: <>\r\n"}).Draw(t, "prefix")
		if prefix != "" {
			l.fields = append(l.fields, [2]string{"Return-Path", "alice@crepes.fr"})
		}
		*letters = append(*letters, l)
		w.deliver(box(t), prefix, l.raw, rapid.IntRange(1, 3).Draw(t, "copies"))
	}
	return map[string]func(*rapid.T){
		"": func(t *rapid.T) {
			if rapid.IntRange(0, 2).Draw(t, "look") > 0 {
				return
			}
			w.sound()
			var keys []Key
			for range 4 {
				field, name, text := drawKey(t, *letters)
				keys = append(keys, rapid.SampledFrom(makers).Draw(t, "maker").key(field, name, text))
			}
			w.check(keys)
		},
		"deliver": deliver, "deliver more": deliver,
		"settle": func(*rapid.T) { w.settle() }, "settle again": func(*rapid.T) { w.settle() },
		"copy": func(t *rapid.T) {
			from, to := box(t), box(t)
			uids := some(t, from)
			w.update(func(tx *mailstore.Tx) error { _, _, err := tx.Copy(from, uids, to); return err })
		},
		"move": func(t *rapid.T) {
			from, to := box(t), box(t)
			uids := some(t, from)
			w.update(func(tx *mailstore.Tx) error { _, _, err := tx.Move(from, uids, to); return err })
		},
		"expunge": func(t *rapid.T) {
			m := box(t)
			uids := some(t, m)
			w.update(func(tx *mailstore.Tx) error { _, err := tx.Expunge(m, uids); return err })
		},
		"delete mailbox": func(*rapid.T) {
			if len(w.boxes) == 1 {
				return
			}
			w.update(func(tx *mailstore.Tx) error { return tx.DeleteMailbox(w.boxes[len(w.boxes)-1]) })
			w.boxes = w.boxes[:len(w.boxes)-1]
		},
		"create mailbox": func(*rapid.T) { created++; w.addBox(fmt.Sprint("Box", created)) },
		"reopen": func(*rapid.T) {
			w.index.Close()
			w.open()
		},
		"reindex": func(t *rapid.T) {
			a := rapid.SampledFrom([]mailstore.AccountID{0, w.account}).Draw(t, "account")
			_, err := w.index.Reindex(context.Background(), a)
			w.must(err)
		},
		"lose the file": func(*rapid.T) {
			w.index.Close()
			w.must(os.Remove(w.path))
			w.open()
		},
	}
}

// TestIndexIsSure: what the index is for it answers by itself: keys within a
// word, and whatever is in a field that has a column of its own.
func TestIndexIsSure(t *testing.T) {
	w := newWorld(t, t.TempDir())
	defer w.close()
	keys := []Key{
		NewKey(Subject, "", "meaning of"), NewKey(Subject, "", "no such"), NewKey(From, "", "@crepes"), NewKey(To, "", "bob@hamburger.edu"),
		NewKey(Cc, "", "x"), NewKey(Header, "subject", ": "), NewKey(Text, "", "etchu"), NewKey(Body, "", "ketchup"), NewKey(Body, "", "e"),
		NewKey(Text, "", "bob@hamburger.edu"), NewKey(Text, "", "zanzibar"), NewKey(Text, "", "ubject"), NewKey(Text, "", ""),
		NewKey(Header, "X-None", ""), NewKey(Body, "", "zanzibar quixotic"),
		NewFuzzyKey(Text, "", "Körnung"), NewFuzzyKey(Body, "", "krom"), NewFuzzyKey(Subject, "", "Séarching for"), NewFuzzyKey(Body, "", "zanzibar"),
	}
	for i := range 200 {
		w.deliver(w.boxes[i%2], "", fmt.Appendf(nil, "From: Alice <alice%d@crepes.fr>\r\nTo: bob@hamburger.edu\r\n"+
			"Subject: Searching for the meaning of life: %d\r\n\r\nDo you like ketchup?\r\nHow about pickles?\r\nk\xc8\x91\xcc\x82rnung\r\nKROM\xc3\x89R\r\n", i, i), 1)
		if i%3 == 0 {
			w.settle()
		}
	}
	w.settle()
	if got, want := w.check(keys), 200*len(keys); got != want {
		t.Errorf("sure of %d answers of %d", got, want)
	}
	if s := w.index.Status(); s.Documents != 200 || s.Waiting != 0 {
		t.Errorf("status %+v", s)
	}
	// A key that spans words is asked of few messages only.
	_, uids := w.messages(w.boxes[0])
	h := w.index.Lookup(context.Background(), w.account, w.boxes[0], uids, []Key{NewKey(Text, "", "meaning of life: 42")})
	unsure := 0
	for i := range uids {
		if !h[0].Absent(i) {
			unsure++
		}
	}
	if unsure != 1 {
		t.Errorf("%d messages of %d are to be read", unsure, len(uids))
	}
}

// TestIndexKeepsBodyOnce: copies and moves cost no document.
func TestIndexKeepsBodyOnce(t *testing.T) {
	w := newWorld(t, t.TempDir())
	defer w.close()
	w.deliver(w.boxes[0], "", []byte("Subject: one\r\n\r\nalpha\r\n"), 3)
	w.settle()
	w.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.Copy(w.boxes[0], []mailstore.UID{1, 2, 3}, w.boxes[1])
		return err
	})
	w.settle()
	if s := w.index.Status(); s.Documents != 1 || s.Done != 6 {
		t.Errorf("status %+v", s)
	}
	if sure := w.check([]Key{NewKey(Body, "", "alpha"), NewKey(Body, "", "beta")}); sure != 12 {
		t.Errorf("sure of %d answers", sure)
	}
}

// TestIndexCompacts: documents without a message go when they are many.
func TestIndexCompacts(t *testing.T) {
	w := newWorld(t, t.TempDir())
	defer w.close()
	const many = 2*minStale + 200
	for i := range many {
		w.deliver(w.boxes[0], "", fmt.Appendf(nil, "Subject: number%d\r\n\r\nalpha%d\r\n", i, i), 1)
		if i == many/2 {
			w.settle()
		}
	}
	w.settle()
	_, uids := w.messages(w.boxes[0])
	w.update(func(tx *mailstore.Tx) error { _, err := tx.Expunge(w.boxes[0], uids[100:]); return err })
	w.settle()
	if s := w.index.Status(); s.Documents != 100 {
		t.Errorf("%d documents are left, not 100", s.Documents)
	}
	keys := []Key{NewKey(Subject, "", "number7"), NewKey(Body, "", "alpha"), NewKey(Text, "", "number1500")}
	if sure := w.check(keys); sure != 300 {
		t.Errorf("sure of %d answers", sure)
	}
	w.deliver(w.boxes[0], "", []byte("Subject: after\r\n\r\nthat\r\n"), 1)
	w.settle()
	if sure := w.check(keys); sure != 303 {
		t.Errorf("sure of %d answers after another message", sure)
	}
}

// TestIndexFollowsAccounts: what is of an account that is removed goes.
func TestIndexFollowsAccounts(t *testing.T) {
	w := newWorld(t, t.TempDir())
	defer w.close()
	w.deliver(w.boxes[0], "", []byte("Subject: one\r\n\r\nalpha\r\n"), 1)
	w.settle()
	w.update(func(tx *mailstore.Tx) error { return tx.DeleteAccount(w.account) })
	w.settle()
	if s := w.index.Status(); s.Documents != 0 {
		t.Errorf("%d documents are left", s.Documents)
	}
}

// TestIndexMends: a file that is damaged, of another version, of another
// program or of another store is made anew.
func TestIndexMends(t *testing.T) {
	for name, spoil := range map[string]func(w *world) error{
		"no database": func(w *world) error { return os.WriteFile(w.path, bytes.Repeat([]byte("x"), 1<<15), 0o600) },
		"empty":       func(w *world) error { return os.WriteFile(w.path, nil, 0o600) },
		"cut":         func(w *world) error { return os.Truncate(w.path, 12<<10) },
		"zeros": func(w *world) error {
			b, err := os.ReadFile(w.path)
			clear(b[4096:])
			return errors.Join(err, os.WriteFile(w.path, b, 0o600))
		},
		"newer":   func(w *world) error { return w.script("PRAGMA user_version = 99") },
		"foreign": func(w *world) error { return w.script("PRAGMA application_id = 1") },
		"list":    func(w *world) error { return w.script("UPDATE part SET lists = zeroblob(length(lists))") },
		"terms":   func(w *world) error { return w.script("UPDATE part SET terms = x'00112233445566778899'") },
		"places":  func(w *world) error { return w.script("UPDATE place SET data = x'0011'") },
		"segment": func(w *world) error { return w.script("UPDATE segment SET hi = 0") },
		"watermark": func(w *world) error {
			return w.script("UPDATE mailbox SET watermark = 1000")
		},
		"validity": func(w *world) error { return w.script("UPDATE mailbox SET validity = 1") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, t.TempDir())
			defer w.close()
			keys := []Key{NewKey(Subject, "", "one"), NewKey(Text, "", "alpha"), NewKey(Text, "", "beta")}
			w.deliver(w.boxes[0], "", []byte("Subject: one\r\n\r\nalpha\r\n"), 2)
			w.settle()
			w.index.Close()
			for _, beside := range []string{"-wal", "-shm"} {
				_ = os.Remove(w.path + beside)
			}
			w.must(spoil(w))
			damage := 0
			w.must(Verify(context.Background(), w.store, w.path, func(Damage) { damage++ }))
			if unnoticed := name == "empty" || name == "newer" || name == "foreign"; unnoticed != (damage == 0) {
				t.Errorf("Verify found %d kinds of damage", damage)
			}
			w.open()
			w.check(keys) // finds the damage, where opening does not
			w.settle()
			w.check(keys)
			w.settle()
			if sure := w.check(keys); sure != 2*len(keys) {
				t.Errorf("sure of %d answers of %d", sure, 2*len(keys))
			}
			w.sound()
			if s := w.index.Status(); s.Documents != 1 {
				t.Errorf("status %+v", s)
			}
		})
	}
}

func (w *world) script(text string) error {
	db, err := openDB(w.path)
	if err != nil {
		return err
	}
	return errors.Join(db.Script(text), db.Close())
}

// TestIndexWithoutFile: where there can be no file, all goes on without one.
func TestIndexWithoutFile(t *testing.T) {
	w := newWorld(t, t.TempDir())
	defer w.close()
	w.index.Close()
	w.path = filepath.Join(w.path, "no", "such", "folder")
	w.open()
	w.deliver(w.boxes[0], "", []byte("Subject: one\r\n\r\nalpha\r\n"), 2)
	if sure := w.check([]Key{NewKey(Subject, "", "one")}); sure != 0 {
		t.Errorf("sure of %d answers", sure)
	}
}
