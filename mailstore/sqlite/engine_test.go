package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postrider/mailstore"
	"postrider/mailstore/storetest"
)

func TestEngine(t *testing.T) {
	storetest.Run(t, func(t *testing.T, dir string) mailstore.Engine {
		return open(t, filepath.Join(dir, "data"))
	})
}

func open(t *testing.T, dir string) *Engine {
	t.Helper()
	e, err := Open(context.Background(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func openStore(t *testing.T, dir string) (*mailstore.Store, *Engine) {
	t.Helper()
	e := open(t, dir)
	s, err := mailstore.Open(context.Background(), e, mailstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s, e
}

func closeStore(t *testing.T, s *mailstore.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// newInbox makes an account with an INBOX.
func newInbox(t *testing.T, s *mailstore.Store) (m mailstore.MailboxID) {
	t.Helper()
	err := s.Update(context.Background(), func(tx *mailstore.Tx) error {
		a, err := tx.CreateAccount(mailstore.Account{Address: "bob@example.org"})
		if err != nil {
			return err
		}
		box, err := tx.CreateMailbox(a, "INBOX", "")
		m = box.ID
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// deliver appends one message.
func deliver(s *mailstore.Store, m mailstore.MailboxID, text string) (uid mailstore.UID, err error) {
	w := s.NewBody()
	defer w.Abort()
	if _, err := io.WriteString(w, text); err != nil {
		return 0, err
	}
	b, err := w.Commit()
	if err != nil {
		return 0, err
	}
	defer b.Release()
	err = s.Update(context.Background(), func(tx *mailstore.Tx) (err error) {
		uid, err = tx.Append(m, mailstore.NewMessage{Body: b})
		return err
	})
	return uid, err
}

// verify checks the rows of a closed store.
func verify(t *testing.T, dir string) {
	t.Helper()
	e := open(t, dir)
	snap, err := e.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := storetest.Verify(e, snap); err != nil {
		t.Error(err)
	}
	snap.Close()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "data")
	s, _ := openStore(t, dir)
	if _, err := deliver(s, newInbox(t, s), strings.Repeat("x", mailstore.InlineSize+1)); err != nil {
		t.Fatal(err)
	}
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		} else {
			files++
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil || files != 6 { // database, -wal, -shm, lock, reserve, body
		t.Errorf("%d files, %v", files, err)
	}
	closeStore(t, s)
	for path, modes := range map[string][2]fs.FileMode{
		dir:                                {0o750, 0o700},
		filepath.Join(dir, "postrider.db"): {0o604, 0o600},
		filepath.Join(dir, "bodies"):       {0o701, 0o700},
	} {
		if err := os.Chmod(path, modes[0]); err != nil {
			t.Fatal(err)
		}
		_, err := Open(context.Background(), dir, Options{})
		if !errors.Is(err, ErrOpenToOthers) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s with mode %v: %v", path, modes[0], err)
		}
		if err := os.Chmod(path, modes[1]); err != nil {
			t.Fatal(err)
		}
	}
	verify(t, dir)
}

func TestInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	_, err := Open(context.Background(), dir, Options{})
	want := fmt.Sprintf("the data directory is in use by process %d: %s", os.Getpid(), dir)
	if !errors.Is(err, ErrInUse) || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir).Close(); err != nil {
		t.Error(err)
	}
}

func TestNewerVersion(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for pragma, want := range map[string]error{
		fmt.Sprintf("user_version = %d", Version+1): ErrNewer,
		"application_id = 7":                        nil,
	} {
		e := open(t, dir)
		if err := e.writer.script("PRAGMA " + pragma); err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := Open(context.Background(), dir, Options{})
		if err == nil || want != nil && !errors.Is(err, want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", pragma, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	// A file that is no database is left as it is.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path, junk := filepath.Join(dir, "postrider.db"), strings.Repeat("not a database\n", 1000)
	if err := os.WriteFile(path, []byte(junk), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), dir, Options{}); err == nil {
		t.Error("a file that is no database was opened")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != junk {
		t.Errorf("the file was changed: %v", err)
	}
}

// Every connection that can write syncs every commit; no reader can write.
func TestSynchronous(t *testing.T) {
	e := open(t, filepath.Join(t.TempDir(), "data"))
	snap, err := e.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	reader := snap.(*snapshot).c
	for name, c := range map[string]*conn{"writer": e.writer, "checkpointer": e.check.c, "reader": reader} {
		for pragma, want := range map[string]string{"synchronous": "2", "journal_mode": "wal", "wal_autocheckpoint": "0"} {
			if got, err := c.pragma(pragma); err != nil || got != want {
				t.Errorf("%s: %s is %s, %v", name, pragma, got, err)
			}
		}
	}
	if _, err := reader.exec("DELETE FROM setting WHERE key = ?", ""); err == nil {
		t.Error("a reader can write")
	}
	snap.Close()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// The writer's cache is small while the database is, and large transactions wait in
// memory for their commit all the same.
func TestWriterCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	if got, err := e.writer.pragma("cache_size"); err != nil || got != fmt.Sprint(-smallCache) {
		t.Errorf("cache_size is %s, %v", got, err)
	}
	w, err := e.Begin()
	if err != nil {
		t.Fatal(err)
	}
	const octets = 2 * smallCache << 10
	data := make([]byte, mailstore.InlineSize)
	for i := range mailstore.BodyID(octets / len(data)) {
		if err := w.InsertBody(&mailstore.BodyRow{ID: i + 1, Size: int64(len(data)), Refs: 1, Sums: []byte{}, Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	logged := func() int64 {
		fi, err := os.Stat(e.path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return fi.Size()
	}
	if n := logged(); n > 1<<20 {
		t.Errorf("the log has %d octets before the commit", n)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if n := logged(); n < octets {
		t.Errorf("the log has %d octets after the commit", n)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int64]int{smallFile - 1: smallCache, smallFile: writerCache} {
		if err := os.Truncate(large, size); err != nil {
			t.Fatal(err)
		}
		if got := cacheFor(large); got != want {
			t.Errorf("a cache of %d KiB for %d octets", got, size)
		}
	}
}

// The engine can be used within a bubble of testing/synctest.
func TestBubble(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	synctest.Test(t, func(t *testing.T) {
		s, _ := openStore(t, dir)
		inbox := newInbox(t, s)
		w := s.Watch(1, inbox)
		defer w.Close()
		go func() {
			time.Sleep(time.Hour)
			if _, err := deliver(s, inbox, "text"); err != nil {
				t.Error(err)
			}
		}()
		<-w.C()
		closeStore(t, s)
	})
	verify(t, dir)
}

// What is left in bodies/tmp belongs to nobody.
func TestTemporaryFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	f, err := e.CreateFile()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("cut short")); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, dir)
	left, err := os.ReadDir(filepath.Join(dir, "bodies", "tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("%v left, %v", left, err)
	}
	for _, name := range []string{"", "../../postrider.db", strings.Repeat("/", 32), strings.Repeat("A", 32), strings.Repeat("a", 33)} {
		if _, err := e.OpenFile(name); !errors.Is(err, mailstore.ErrNotFound) {
			t.Errorf("open %q: %v", name, err)
		}
		if err := e.RemoveFile(name); err != nil {
			t.Errorf("remove %q: %v", name, err)
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// A full database refuses, goes on reading and deleting, and recovers.
func TestFull(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, e := openStore(t, dir)
	inbox := newInbox(t, s)
	limit := func(pages int) {
		e.turn.Lock()
		defer e.turn.Unlock()
		if err := e.writer.script(fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(200)
	text := strings.Repeat("x", 20000)
	stored := 0
	for ; stored < 1000; stored++ {
		if _, err := deliver(s, inbox, text); errors.Is(err, mailstore.ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if stored == 0 || stored == 1000 {
		t.Fatalf("%d messages were stored", stored)
	}
	expunge := func(uid mailstore.UID) {
		err := s.Update(context.Background(), func(tx *mailstore.Tx) error {
			_, err := tx.Expunge(inbox, []mailstore.UID{uid})
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	expunge(1)
	expunge(2)
	if _, err := deliver(s, inbox, text); err != nil {
		t.Errorf("after deleting: %v", err)
	}
	// Several in one commit: those who do not fit take the others with them,
	// and all are told.
	var wg sync.WaitGroup
	var mu sync.Mutex
	acknowledged := stored - 1
	for range 20 {
		wg.Go(func() {
			_, err := deliver(s, inbox, text)
			if err != nil && !errors.Is(err, mailstore.ErrFull) {
				t.Error(err)
			}
			if err == nil {
				mu.Lock()
				acknowledged++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	limit(1 << 30)
	if _, err := deliver(s, inbox, text); err != nil {
		t.Error(err)
	}
	err := s.View(context.Background(), func(v *mailstore.View) error {
		box, err := v.Mailbox(inbox)
		if int(box.Messages) != acknowledged+1 {
			t.Errorf("%d messages, want %d", box.Messages, acknowledged+1)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	closeStore(t, s)
	verify(t, dir)
}

// Every query that could grow with the store goes by a key or an index.
func TestQueryPlans(t *testing.T) {
	e := open(t, filepath.Join(t.TempDir(), "data"))
	defer e.Close()
	for _, q := range []string{
		selectBlocks, selectBlockData, selectContent, selectContents, selectTexts, selectThread, selectExpunges,
		selectHeld + " WHERE id = ?", selectHeld + " WHERE account = ? ORDER BY id", selectDue, selectBodyOfFile, selectBody + bodyByID,
		selectAccount + " WHERE address = ?", selectAccount + " WHERE id = ?",
		selectMailbox + " WHERE account = ? AND name = ?",
		selectMailbox + " WHERE account = ? ORDER BY id",
		selectRecipient + " WHERE id BETWEEN ? AND ? ORDER BY id",
		selectItem + " WHERE id > ? ORDER BY id",
		"SELECT count(*) FROM mailbox WHERE account = ?",
		"SELECT name FROM subscription WHERE account = ? ORDER BY name",
		"SELECT mailbox, identifier, rights FROM acl WHERE mailbox = ? ORDER BY identifier",
		"SELECT mailbox, identifier, rights FROM acl WHERE identifier = ? ORDER BY mailbox",
		"SELECT key FROM urlkey WHERE account = ? AND mailbox = ?",
		"DELETE FROM urlkey WHERE mailbox = ?",
		"DELETE FROM expunge WHERE mailbox = ? AND modseq <= ?",
		"DELETE FROM block WHERE id BETWEEN ? AND ?",
	} {
		args := make([]driver.Value, strings.Count(q, "?"))
		for i := range args {
			args[i] = int64(1)
		}
		err := e.writer.query("EXPLAIN QUERY PLAN "+q, args, func(r row) bool {
			step := r.str(3)
			small := strings.Contains(q, "FROM mailbox WHERE account") && strings.HasPrefix(step, "USE TEMP B-TREE")
			if !strings.HasPrefix(step, "SEARCH") && !strings.HasPrefix(step, "CORRELATED SCALAR") && !small {
				t.Errorf("%s: %s", q, step)
			}
			return true
		})
		if err != nil {
			t.Errorf("%s: %v", q, err)
		}
	}
}

// The log stays bounded while the writer never rests.
func TestLogIsBounded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, e := openStore(t, dir)
	inbox := newInbox(t, s)
	e.turn.Lock()
	e.check.every = 100
	e.turn.Unlock()
	e.check.most = 400 // before the first checkpoint
	text := strings.Repeat("x", 30000)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				if _, err := deliver(s, inbox, text); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	info, err := os.Stat(filepath.Join(dir, "postrider.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	// 800 messages are some 7,000 pages.
	if pages := info.Size() / 4096; pages > 2000 {
		t.Errorf("the log has %d pages", pages)
	}
	closeStore(t, s)
	verify(t, dir)
}

// The log stays bounded while there always is a snapshot that is older than the
// last commits.
func TestLogIsBoundedWithReaders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, e := openStore(t, dir)
	inbox := newInbox(t, s)
	e.turn.Lock()
	e.check.every = 100
	e.turn.Unlock()
	e.check.most = 400 // before the first checkpoint
	text := strings.Repeat("x", 30000)
	var commits atomic.Int64
	done := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				err := s.View(t.Context(), func(v *mailstore.View) error {
					_, err := v.Mailbox(inbox)
					for until := commits.Load() + int64(20+i); commits.Load() < until; {
						select {
						case <-done:
							return err
						default:
							runtime.Gosched()
						}
					}
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 800 {
		if _, err := deliver(s, inbox, text); err != nil {
			t.Error(err)
		}
		commits.Add(1)
	}
	close(done)
	readers.Wait()
	info, err := os.Stat(filepath.Join(dir, "postrider.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	if pages := info.Size() / 4096; pages > 2500 {
		t.Errorf("the log has %d pages", pages)
	}
	closeStore(t, s)
	verify(t, dir)
}

// An account has mailboxes up to the limit; the last ones cost no more than the
// first, since the writer has no time to read them all.
func TestMailboxLimit(t *testing.T) {
	s, _ := openStore(t, filepath.Join(t.TempDir(), "data"))
	defer closeStore(t, s)
	err := s.Update(t.Context(), func(tx *mailstore.Tx) error {
		a, err := tx.CreateAccount(mailstore.Account{Address: "bob@hamburger.edu"})
		if err != nil {
			return err
		}
		boxes, err := tx.Mailboxes(a)
		if err != nil {
			return err
		}
		for n := len(boxes); n < mailstore.MaxMailboxes; n++ {
			if _, err := tx.CreateMailbox(a, fmt.Sprintf("m%d", n), ""); err != nil {
				return fmt.Errorf("mailbox %d: %w", n, err)
			}
		}
		if _, err := tx.CreateMailbox(a, "one more", ""); !errors.Is(err, mailstore.ErrLimit) {
			return fmt.Errorf("one more: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
