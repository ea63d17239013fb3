package mailstore_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"postrider/mailstore"
	"postrider/mailstore/storetest"
)

var errDisk = errors.New("input/output error")

// fixture is a store on the model engine with one account.
type fixture struct {
	*testing.T
	engine *storetest.Engine
	store  *mailstore.Store
	inbox  mailstore.MailboxID
	sent   mailstore.MailboxID
}

func setUp(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t, engine: storetest.NewEngine()}
	f.open()
	f.must(f.update(func(tx *mailstore.Tx) error {
		a, err := tx.CreateAccount(mailstore.Account{Address: "bob@example.org"})
		if err != nil {
			return err
		}
		inbox, err := tx.CreateMailbox(a, "INBOX", "")
		if err != nil {
			return err
		}
		sent, err := tx.CreateMailbox(a, "Sent", "\\Sent")
		f.inbox, f.sent = inbox.ID, sent.ID
		return err
	}))
	f.must(f.add("one"))
	f.must(f.add("two"))
	return f
}

func (f *fixture) open() {
	f.Helper()
	s, err := mailstore.Open(context.Background(), f.engine, mailstore.Options{})
	f.must(err)
	f.store = s
	f.Cleanup(func() { _ = s.Close() })
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) update(fn func(tx *mailstore.Tx) error) error {
	return f.store.Update(context.Background(), fn)
}

// fail makes an operation of the engine fail from now on.
func (f *fixture) fail(op string, err error) {
	f.engine.SetFault(func(this string) error {
		if this == op {
			return err
		}
		return nil
	})
}

// add appends a message to INBOX.
func (f *fixture) add(text string) error {
	w := f.store.NewBody()
	defer w.Abort()
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	b, err := w.Commit()
	if err != nil {
		return err
	}
	defer b.Release()
	return f.update(func(tx *mailstore.Tx) error {
		_, err := tx.Append(f.inbox, mailstore.NewMessage{Body: b})
		return err
	})
}

// changes is one Update of each kind that a protocol acknowledges.
func (f *fixture) changes() map[string]func() error {
	one := []mailstore.UID{1}
	tx := func(fn func(tx *mailstore.Tx) error) func() error {
		return func() error { return f.update(fn) }
	}
	return map[string]func() error{
		"append": func() error { return f.add("three") },
		"flags": tx(func(tx *mailstore.Tx) error {
			_, _, err := tx.SetFlags(f.inbox, one, mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen}, 0)
			return err
		}),
		"expunge": tx(func(tx *mailstore.Tx) error {
			_, err := tx.Expunge(f.inbox, one)
			return err
		}),
		"copy": tx(func(tx *mailstore.Tx) error {
			_, _, err := tx.Copy(f.inbox, one, f.sent)
			return err
		}),
		"move": tx(func(tx *mailstore.Tx) error {
			_, _, err := tx.Move(f.inbox, one, f.sent)
			return err
		}),
		"rename": tx(func(tx *mailstore.Tx) error { return tx.RenameMailbox(f.sent, "Out") }),
		"create": tx(func(tx *mailstore.Tx) error {
			_, err := tx.CreateMailbox(1, "new", "")
			return err
		}),
		"domain": tx(func(tx *mailstore.Tx) error { return tx.CreateDomain("example.org") }),
	}
}

// state is what a reader sees.
func (f *fixture) state() (boxes []mailstore.Mailbox, domains []mailstore.Domain) {
	f.Helper()
	f.must(f.store.View(context.Background(), func(v *mailstore.View) error {
		var err1, err2 error
		boxes, err1 = v.Mailboxes(1)
		domains, err2 = v.Domains()
		return errors.Join(err1, err2)
	}))
	return boxes, domains
}

// same checks that nothing can be seen of a change that failed.
func (f *fixture) same(what string, boxes []mailstore.Mailbox) {
	f.Helper()
	now, domains := f.state()
	if len(now) != len(boxes) || len(domains) != 0 {
		f.Fatalf("%s: mailboxes %v, domains %v", what, now, domains)
	}
	for i := range now {
		if now[i] != boxes[i] {
			f.Errorf("%s: mailbox is %+v, and was %+v", what, now[i], boxes[i])
		}
	}
}

// A failing sync is a failing operation, of every kind; the
// store then only reads.
func TestFailedCommit(t *testing.T) {
	for what := range setUp(t).changes() {
		t.Run(what, func(t *testing.T) {
			f := setUp(t)
			before, _ := f.state()
			watcher := f.store.Watch(1, 0)
			defer watcher.Close()
			f.fail(storetest.OpCommit, errDisk)
			if err := f.changes()[what](); !errors.Is(err, mailstore.ErrFailed) || !errors.Is(err, errDisk) {
				t.Fatalf("error %v, want ErrFailed", err)
			}
			select {
			case <-f.store.Failed():
			default:
				t.Error("Failed is not closed")
			}
			f.same(what, before)
			f.engine.SetFault(nil) // the disk is good again; nobody may trust it
			for other, change := range f.changes() {
				if err := change(); !errors.Is(err, mailstore.ErrFailed) {
					t.Errorf("%s after the failure: %v, want ErrFailed", other, err)
				}
			}
			f.same(what, before)
			select {
			case <-watcher.C():
				t.Error("a watcher was woken")
			default:
			}
			// After a restart all is well.
			f.must(f.store.Close())
			f.engine = f.engine.Reopen()
			f.open()
			f.same(what, before)
			f.must(f.changes()[what]())
		})
	}
}

// A disk that is full fails what is under way, and no more than that.
func TestFull(t *testing.T) {
	for _, op := range []string{storetest.OpWrite, storetest.OpCommit, storetest.OpBegin} {
		for what := range setUp(t).changes() {
			t.Run(op+" "+what, func(t *testing.T) {
				f := setUp(t)
				before, _ := f.state()
				f.fail(op, mailstore.ErrFull)
				if err := f.changes()[what](); !errors.Is(err, mailstore.ErrFull) || errors.Is(err, mailstore.ErrFailed) {
					t.Fatalf("error %v, want ErrFull", err)
				}
				f.same(what, before)
				f.engine.SetFault(nil)
				f.must(f.changes()[what]())
				select {
				case <-f.store.Failed():
					t.Error("Failed is closed")
				default:
				}
				f.verify()
			})
		}
	}
}

// verify closes the store and checks its rows.
func (f *fixture) verify() {
	f.Helper()
	f.must(f.store.Close())
	e := f.engine.Reopen()
	snap, err := e.Snapshot(context.Background())
	f.must(err)
	f.must(storetest.Verify(e, snap))
	snap.Close()
}

// An error of the engine that fn swallows still undoes everything.
func TestSwallowedError(t *testing.T) {
	f := setUp(t)
	before, _ := f.state()
	f.fail(storetest.OpWrite, errDisk)
	err := f.update(func(tx *mailstore.Tx) error {
		_ = tx.CreateDomain("example.org")
		f.engine.SetFault(nil)
		_ = tx.CreateDomain("example.net")
		return nil
	})
	if !errors.Is(err, errDisk) || errors.Is(err, mailstore.ErrFailed) {
		t.Fatalf("error %v, want a temporary one", err)
	}
	f.same("swallowed", before)
	f.must(f.add("three"))
	f.verify()
}

// All who wait for a commit that fails are told so, and those who come after it.
func TestFailedBatch(t *testing.T) {
	f := setUp(t)
	before, _ := f.state()
	var commits atomic.Int32
	f.engine.SetFault(func(op string) error {
		if op == storetest.OpCommit && commits.Add(1) == 1 {
			return errDisk
		}
		return nil
	})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := f.add("lost"); !errors.Is(err, mailstore.ErrFailed) {
				t.Errorf("error %v, want ErrFailed", err)
			}
		})
	}
	wg.Wait()
	if n := commits.Load(); n != 1 {
		t.Errorf("%d commits were tried", n)
	}
	f.same("batch", before)
}

// Bodies in files fail like everything else.
func TestFailedFile(t *testing.T) {
	large := strings.Repeat("x", mailstore.InlineSize+1)
	for _, op := range []string{storetest.OpCreateFile, storetest.OpWriteFile, storetest.OpCommitFile} {
		f := setUp(t)
		before, _ := f.state()
		f.fail(op, mailstore.ErrFull)
		if err := f.add(large); !errors.Is(err, mailstore.ErrFull) {
			t.Errorf("%s: error %v, want ErrFull", op, err)
		}
		f.same(op, before)
		f.engine.SetFault(nil)
		f.must(f.add(large))
		f.verify()
	}
	f := setUp(t)
	f.fail(storetest.OpCommitFile, mailstore.ErrFailed) // a sync that failed
	if err := f.add(large); !errors.Is(err, mailstore.ErrFailed) {
		t.Errorf("error %v, want ErrFailed", err)
	}
	f.engine.SetFault(nil)
	if err := f.add("small"); !errors.Is(err, mailstore.ErrFailed) {
		t.Errorf("error %v, want ErrFailed", err)
	}
}

// A file that could not be removed is removed by a later sweep.
func TestFailedRemoval(t *testing.T) {
	f := setUp(t)
	f.must(f.add(strings.Repeat("x", mailstore.InlineSize+1)))
	f.fail(storetest.OpRemoveFile, errDisk)
	f.must(f.update(func(tx *mailstore.Tx) error {
		_, err := tx.Expunge(f.inbox, []mailstore.UID{3})
		return err
	}))
	f.must(f.store.Close())
	count := func() (n int) {
		f.must(f.engine.Files(func(string) bool {
			n++
			return true
		}))
		return n
	}
	if n := count(); n != 1 {
		t.Errorf("%d files", n)
	}
	f.engine.SetFault(nil)
	f.open()
	f.store.Sweep()
	if n := count(); n != 0 {
		t.Errorf("%d files after the sweep", n)
	}
}

// No wrong octet is handed out, and no chunk but the damaged one is lost.
func TestDamage(t *testing.T) {
	f := setUp(t)
	large := strings.Repeat("0123456789", mailstore.ChunkSize/5)
	f.must(f.add(large))
	var msgs []mailstore.Message
	f.must(f.store.View(context.Background(), func(v *mailstore.View) error {
		return v.Messages(f.inbox, 1, 0, func(m mailstore.Message) bool {
			msgs = append(msgs, m)
			return true
		})
	}))
	f.must(f.engine.Damage(msgs[0].Body, func(p []byte) { p[1]++ }))
	if _, err := f.store.OpenMessage(context.Background(), msgs[0]); !errors.Is(err, mailstore.ErrDamaged) {
		t.Errorf("error %v, want ErrDamaged", err)
	}
	f.must(f.engine.Damage(msgs[2].Body, func(p []byte) { p[len(p)-1]++ }))
	c, err := f.store.OpenMessage(context.Background(), msgs[2])
	f.must(err)
	got := make([]byte, len(large))
	n, err := c.ReadAt(got, 0)
	if !errors.Is(err, mailstore.ErrDamaged) || n != mailstore.ChunkSize || string(got[:n]) != large[:n] {
		t.Errorf("%d octets, %v", n, err)
	}
	for _, b := range got[n:] {
		if b != 0 {
			t.Fatal("octets of a damaged chunk were handed out")
		}
	}
	if n, err = c.ReadAt(got[:10], mailstore.ChunkSize+5); n != 0 || !errors.Is(err, mailstore.ErrDamaged) {
		t.Errorf("%d octets, %v", n, err)
	}
	if n, err = c.ReadAt(got[:10], 5); n != 10 || err != nil {
		t.Errorf("%d octets, %v", n, err)
	}
	f.must(c.Close())
	f.must(f.engine.Damage(msgs[2].Body, func(p []byte) { p[len(p)-1]-- }))
	// Cut short.
	f.fail(storetest.OpOpenFile, mailstore.ErrNotFound)
	if _, err := f.store.OpenMessage(context.Background(), msgs[2]); !errors.Is(err, mailstore.ErrDamaged) {
		t.Errorf("error %v, want ErrDamaged", err)
	}
	f.engine.SetFault(nil)
	// A damaged message can be copied and deleted.
	f.must(f.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.Copy(f.inbox, []mailstore.UID{1}, f.sent)
		if err == nil {
			_, err = tx.Expunge(f.inbox, []mailstore.UID{1, 3})
		}
		return err
	}))
}

// A watcher sleeps until the commit, and sees then what it was woken for.
func TestWatchInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := setUp(t)
		w := f.store.Watch(1, f.inbox)
		defer w.Close()
		go func() {
			time.Sleep(time.Minute)
			if err := f.add("three"); err != nil {
				t.Error(err)
			}
		}()
		start := time.Now()
		<-w.C()
		if d := time.Since(start); d != time.Minute {
			t.Errorf("woken after %v", d)
		}
		boxes, _ := f.state()
		if boxes[0].Messages != 3 {
			t.Errorf("woken before the change could be seen: %+v", boxes[0])
		}
		f.must(f.store.Close())
	})
}

// A View that is open holds up Close, and what it reads stays.
func TestCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := setUp(t)
		closed := make(chan error, 1)
		f.must(f.store.View(context.Background(), func(v *mailstore.View) error {
			go func() { closed <- f.store.Close() }()
			synctest.Wait()
			select {
			case <-closed:
				t.Error("Close did not wait for a View")
			default:
			}
			_, err := v.Mailbox(f.inbox)
			return err
		}))
		f.must(<-closed)
	})
}

// More wait than the queue holds: they wait outside, and none is lost.
func TestBackpressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := setUp(t)
		proceed := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { f.must(f.update(func(*mailstore.Tx) error { <-proceed; return nil })) })
		synctest.Wait()
		const n = 3000
		for range n {
			wg.Go(func() { f.must(f.add("x")) })
		}
		synctest.Wait()
		if w := f.store.Waiting(); w >= n {
			t.Errorf("%d wait in the queue", w)
		}
		close(proceed)
		wg.Wait()
		boxes, _ := f.state()
		if boxes[0].Messages != n+2 {
			t.Errorf("%d messages, want %d", boxes[0].Messages, n+2)
		}
		f.verify()
	})
}

func FuzzCleanName(f *testing.F) {
	for _, s := range []string{"inbox", "a/b", "Inbox/e\u0301", "/", "a//b", "\x00", "\xff", strings.Repeat("a/", 40)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		clean, err := mailstore.CleanName(name)
		if err != nil {
			if !errors.Is(err, mailstore.ErrName) {
				t.Errorf("%q: %v", name, err)
			}
			return
		}
		again, err := mailstore.CleanName(clean)
		if err != nil || again != clean {
			t.Errorf("%q became %q, and that %q, %v", name, clean, again, err)
		}
		if len(clean) > mailstore.MaxNameLength || strings.Count(clean, "/") >= mailstore.MaxNameDepth ||
			strings.ContainsAny(clean, "\x00\r\n") || strings.EqualFold(clean, "INBOX") && clean != "INBOX" {
			t.Errorf("%q became %q", name, clean)
		}
	})
}

// Commits and those who share them are counted, reads are not.
func TestMetrics(t *testing.T) {
	f := setUp(t)
	f.must(f.store.Close())
	opts := prometheus.CounterOpts{Name: "x"}
	m := mailstore.Metrics{
		Updates: prometheus.NewCounter(opts), Commits: prometheus.NewCounter(opts), Failures: prometheus.NewCounter(opts),
		Seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x"}),
	}
	s, err := mailstore.Open(context.Background(), f.engine.Reopen(), mailstore.Options{Metrics: m})
	f.must(err)
	f.store = s
	f.must(f.add("three"))
	f.must(f.update(func(*mailstore.Tx) error { return nil }))
	f.fail(storetest.OpCommit, mailstore.ErrFull)
	if err := f.add("four"); err == nil {
		t.Error("a commit did not fail")
	}
	for name, c := range map[string]struct {
		counter prometheus.Counter
		want    float64
	}{"updates": {m.Updates, 1}, "commits": {m.Commits, 1}, "failures": {m.Failures, 1}} {
		var out dto.Metric
		f.must(c.counter.Write(&out))
		if got := out.GetCounter().GetValue(); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	f.must(s.Close())
}
