//go:build faults

package sqlite

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postrider/mailstore"
	"postrider/mailstore/sqlite/faults"
	"postrider/mailstore/storetest"
)

// world is a store on a disk that can fail.
type world struct {
	dir     string
	options mailstore.Options
	store   *mailstore.Store
	engine  *Engine
}

func (w *world) open() error {
	e, err := Open(context.Background(), w.dir, Options{})
	if err != nil {
		return err
	}
	w.engine = e
	w.store, err = mailstore.Open(context.Background(), e, w.options)
	return err
}

// close ends the store however it is.
func (w *world) close() error {
	if w.store == nil {
		return nil
	}
	s := w.store
	w.store = nil
	return s.Close()
}

func (w *world) update(fn func(tx *mailstore.Tx) error) error {
	return w.store.Update(context.Background(), fn)
}

// act is one operation of the scenario: it can be done again when it failed.
type act struct {
	name string
	do   func(w *world) error
}

// at finds a mailbox, written "bob/INBOX".
func at(v *mailstore.View, place string) (mailstore.MailboxID, error) {
	user, name, _ := strings.Cut(place, "/")
	a, err := v.AccountByAddress(user + "@example.org")
	if err != nil {
		return 0, err
	}
	box, err := v.MailboxByName(a.ID, name)
	return box.ID, err
}

// in runs fn on a mailbox.
func in(place string, fn func(tx *mailstore.Tx, m mailstore.MailboxID) error) func(w *world) error {
	return func(w *world) error {
		return w.update(func(tx *mailstore.Tx) error {
			m, err := at(&tx.View, place)
			if err != nil {
				return err
			}
			return fn(tx, m)
		})
	}
}

// with makes a body of that size and runs fn.
func with(size int, fn func(tx *mailstore.Tx, b *mailstore.Body) error) func(w *world) error {
	return func(w *world) error {
		bw := w.store.NewBody()
		defer bw.Abort()
		text := strings.Repeat(fmt.Sprintf("A line of %d octets in all.\r\n", size), size/20+1)[:size-2] + "\r\n"
		for len(text) > 0 {
			n := min(len(text), 50_000)
			if _, err := io.WriteString(bw, text[:n]); err != nil {
				return err
			}
			text = text[n:]
		}
		b, err := bw.Commit()
		if err != nil {
			return err
		}
		defer b.Release()
		return w.update(func(tx *mailstore.Tx) error { return fn(tx, b) })
	}
}

// add appends one body to some mailboxes.
func add(size int, places ...string) func(w *world) error {
	return with(size, func(tx *mailstore.Tx, b *mailstore.Body) error {
		for _, place := range places {
			m, err := at(&tx.View, place)
			if err != nil {
				return err
			}
			if _, err := tx.Append(m, mailstore.NewMessage{Body: b, Prefix: "Return-Path: <>\r\n", Internal: time.Unix(1e9, 0)}); err != nil {
				return err
			}
		}
		return nil
	})
}

// queued changes the recipients of the only item in the queue.
func queued(fn func(tx *mailstore.Tx, to []mailstore.QueueRecipient) error) func(w *world) error {
	return func(w *world) error {
		return w.update(func(tx *mailstore.Tx) error {
			var to []mailstore.QueueRecipient
			err := tx.Queue(0, func(_ mailstore.QueueItem, list []mailstore.QueueRecipient) bool {
				to = list
				return false
			})
			if err != nil {
				return err
			}
			return fn(tx, to)
		})
	}
}

func account(name string, boxes ...string) func(w *world) error {
	return func(w *world) error {
		return w.update(func(tx *mailstore.Tx) error {
			a, err := tx.CreateAccount(mailstore.Account{Address: name + "@example.org"})
			for _, box := range boxes {
				if err == nil {
					_, err = tx.CreateMailbox(a, box, "")
				}
			}
			return err
		})
	}
}

func reopen(w *world) error {
	if w.store != nil {
		if err := w.close(); err != nil {
			return err
		}
	}
	return w.open()
}

// checkpoint moves the log as the checkpointer would; what it makes of an error
// is its own business.
func checkpoint(w *world) error {
	_ = w.engine.check.finish(true)
	return nil
}

func uids(from, to mailstore.UID) (list []mailstore.UID) {
	for uid := from; uid <= to; uid++ {
		list = append(list, uid)
	}
	return list
}

// share gives rights to a mailbox, and its URLs a key.
func share(tx *mailstore.Tx, m mailstore.MailboxID) error {
	box, err := tx.Mailbox(m)
	if err != nil {
		return err
	}
	return errors.Join(tx.SetACL(m, mailstore.Anyone, mailstore.ReplaceRights, mailstore.RightLookup|mailstore.RightRead),
		tx.SetACL(m, "-carol@example.org", mailstore.AddRights, mailstore.RightRead),
		tx.SetURLKey(box.Account, m, []byte("key of sixteen octets")))
}

// shareAgain changes them.
func shareAgain(tx *mailstore.Tx, m mailstore.MailboxID) error {
	box, err := tx.Mailbox(m)
	if err != nil {
		return err
	}
	return errors.Join(tx.SetACL(m, mailstore.Anyone, mailstore.RemoveRights, mailstore.AllRights),
		tx.SetACL(m, "carol@example.org", mailstore.AddRights, mailstore.RightRead),
		tx.SetURLKey(box.Account, m, []byte("another key of many octets")))
}

// scenario is what the sweep does: every kind of change, checkpoints and starts.
func scenario() []act {
	transfer := func(move bool, n mailstore.UID) func(w *world) error {
		return in("bob/INBOX", func(tx *mailstore.Tx, m mailstore.MailboxID) error {
			to, err := at(&tx.View, "bob/Archive")
			if err != nil {
				return err
			}
			if move {
				_, _, err = tx.Move(m, uids(1, n), to)
			} else {
				_, _, err = tx.Copy(m, uids(1, n), to)
			}
			return err
		})
	}
	flag := func(how mailstore.FlagChange, f mailstore.Flags) func(w *world) error {
		return in("bob/INBOX", func(tx *mailstore.Tx, m mailstore.MailboxID) error {
			_, _, err := tx.SetFlags(m, uids(1, 4), how, f, 0)
			return err
		})
	}
	remove := func(i int) func(w *world) error {
		return queued(func(tx *mailstore.Tx, to []mailstore.QueueRecipient) error {
			return tx.RemoveRecipient(to[0].Item, i)
		})
	}
	return []act{
		{"open", reopen},
		{"account", account("bob", "INBOX", "Archive", "Old")},
		{"account", account("carol", "INBOX")},
		{"append small", add(900, "bob/INBOX")},
		{"append", add(20_000, "bob/INBOX")},
		{"append large", add(150_000, "bob/INBOX")},
		{"append to two", add(70_000, "bob/INBOX", "carol/INBOX")},
		{"flags", flag(mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen, Keywords: []string{"$k"}})},
		{"annotate", in("bob/Archive", func(tx *mailstore.Tx, m mailstore.MailboxID) error {
			box, err := tx.Mailbox(m)
			if err != nil {
				return err
			}
			value := []byte(strings.Repeat("value", 1500))
			return errors.Join(tx.Annotate(box.Account, 0, box.Account, nil, []mailstore.Annotation{{Entry: "/private/own", Value: value}}),
				tx.Annotate(box.Account, m, box.Account, nil, []mailstore.Annotation{{Entry: "/private/a", Value: value}, {Entry: "/shared/b", Value: value[:1]}}))
		})},
		{"rights", in("bob/Archive", share)},
		{"checkpoint", checkpoint},
		{"copy", transfer(false, 3)},
		{"enqueue", with(90_000, func(tx *mailstore.Tx, b *mailstore.Body) error {
			now := time.Unix(1e9, 0)
			_, _, err := tx.Enqueue(b, mailstore.QueueItem{Envelope: "e1", From: "bob@example.org", Accepted: now, Expires: now.Add(time.Hour)},
				[]mailstore.QueueRecipient{{Address: "x@far.example", Domain: "far.example", Next: now}, {Address: "y@far.example", Domain: "far.example", Next: now}})
			return err
		})},
		{"move", transfer(true, 2)},
		{"attempt", queued(func(tx *mailstore.Tx, to []mailstore.QueueRecipient) error {
			r := to[0]
			r.Attempts, r.Reply = 1, "451 4.3.0 later"
			return tx.UpdateRecipient(r)
		})},
		{"delivered", remove(0)},
		{"reopen", reopen},
		{"append after reopening", add(1000, "bob/Old")},
		{"rename", in("bob/Archive", func(tx *mailstore.Tx, m mailstore.MailboxID) error { return tx.RenameMailbox(m, "Files/2001") })},
		{"annotate again", in("bob/Files/2001", func(tx *mailstore.Tx, m mailstore.MailboxID) error {
			box, err := tx.Mailbox(m)
			if err != nil {
				return err
			}
			return tx.Annotate(box.Account, m, box.Account, nil, []mailstore.Annotation{{Entry: "/private/a"}, {Entry: "/shared/b", Value: []byte("anew")}})
		})},
		{"rights again", in("bob/Files/2001", shareAgain)},
		{"delivered, all", remove(1)},
		{"delete mailbox", in("bob/Old", func(tx *mailstore.Tx, m mailstore.MailboxID) error { return tx.DeleteMailbox(m) })},
		{"checkpoint", checkpoint},
		{"expunge", in("bob/Files/2001", func(tx *mailstore.Tx, m mailstore.MailboxID) error {
			_, err := tx.Expunge(m, uids(1, 3))
			return err
		})},
		{"flags", flag(mailstore.RemoveFlags, mailstore.Flags{System: mailstore.Seen})},
		{"remove account", func(w *world) error {
			return w.update(func(tx *mailstore.Tx) error {
				a, err := tx.AccountByAddress("carol@example.org")
				if err != nil {
					return err
				}
				return tx.DeleteAccount(a.ID)
			})
		}},
		{"append", add(3000, "bob/INBOX")},
		{"reopen", reopen},
		{"append", add(66_000, "bob/INBOX")},
	}
}

// keeping is a scenario in which expunged messages are kept for a while and
// bodies are compressed.
func keeping() (mailstore.Options, []act) {
	back := in("bob/INBOX", func(tx *mailstore.Tx, m mailstore.MailboxID) error {
		if _, err := tx.Expunge(m, uids(1, 100)); err != nil {
			return err
		}
		box, err := tx.Mailbox(m)
		if err != nil {
			return err
		}
		held, err := tx.Held(box.Account)
		if err != nil {
			return err
		}
		_, list, err := tx.Undelete(box.Account, held[len(held)-1].ID)
		if err == nil && len(list) == 0 {
			err = errors.New("nothing was brought back")
		}
		return err
	})
	return mailstore.Options{Keep: 14 * 24 * time.Hour, Compress: true}, append(scenario(),
		act{"expunge and bring back", back},
		act{"expunge", in("bob/INBOX", func(tx *mailstore.Tx, m mailstore.MailboxID) error {
			_, err := tx.Expunge(m, uids(1, 100))
			return err
		})},
		act{"reopen", reopen},
		act{"reclaim", func(w *world) error {
			_, err := w.store.Reclaim(context.Background(), 1<<40)
			return err
		}},
		act{"checkpoint", checkpoint},
		act{"append large", add(200_000, "bob/INBOX")},
	)
}

// dump is all that a client could see, in words.
func (w *world) dump() (string, error) {
	var b strings.Builder
	var messages []mailstore.Message
	err := w.store.View(context.Background(), func(v *mailstore.View) error {
		accounts, err := v.Accounts()
		for _, a := range accounts {
			fmt.Fprintf(&b, "account %s\n", a.Address)
			boxes, err := v.Mailboxes(a.ID)
			if err != nil {
				return err
			}
			for _, box := range boxes {
				fmt.Fprintf(&b, " mailbox %s: next %d modseq %d messages %d unseen %d size %d\n",
					box.Name, box.UIDNext, box.ModSeq, box.Messages, box.Unseen, box.Size)
				if err := v.Messages(box.ID, 1, 0, func(m mailstore.Message) bool {
					messages = append(messages, m)
					return true
				}); err != nil {
					return err
				}
				c, err := v.Changes(box.ID, 0)
				if err != nil {
					return err
				}
				notes, err := v.Annotations(a.ID, box.ID, a.ID)
				if err != nil {
					return err
				}
				rights, err := v.ACL(box.ID)
				if err != nil {
					return err
				}
				key, err := v.URLKey(a.ID, box.ID)
				if err != nil && !errors.Is(err, mailstore.ErrNotFound) {
					return err
				}
				fmt.Fprintf(&b, "  expunged %v, annotations %q, rights %v, key %q\n", c.Expunged, notes, rights, key)
			}
			notes, err := v.Annotations(a.ID, 0, a.ID)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " annotations %q\n", notes)
		}
		n, err2 := v.QueueLength()
		fmt.Fprintf(&b, "queue of %d\n", n)
		return errors.Join(err, err2, v.Queue(0, func(i mailstore.QueueItem, to []mailstore.QueueRecipient) bool {
			fmt.Fprintf(&b, " item %s %d octets\n", i.Envelope, i.Size)
			for _, r := range to {
				fmt.Fprintf(&b, "  to %s attempts %d %s\n", r.Address, r.Attempts, r.Reply)
			}
			return true
		}))
	})
	if err != nil {
		return "", err
	}
	for _, m := range messages {
		c, err := w.store.OpenMessage(context.Background(), m)
		if err != nil {
			return "", err
		}
		sum := sha256.New()
		n, err := io.Copy(sum, io.NewSectionReader(c, 0, c.Size()))
		if err := errors.Join(err, c.Close()); err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "message %d modseq %d flags %v: %d octets %x\n", m.UID, m.ModSeq, m.Flags, n, sum.Sum(nil)[:8])
	}
	return b.String(), nil
}

// mode is how call n fails.
type mode struct {
	name  string
	err   syscall.Errno
	short bool
	stays bool // all later calls fail too, until the fault is lifted
	crash bool
	keep  bool // of what was not synced at the crash, a part survives
}

var modes = []mode{
	{name: "EIO", err: syscall.EIO},
	{name: "no space", err: syscall.ENOSPC},
	{name: "short write", err: syscall.ENOSPC, short: true},
	{name: "crash", crash: true},
	{name: "torn crash", crash: true, keep: true},
	{name: "EIO from there on", err: syscall.EIO, stays: true},
	{name: "no space from there on", err: syscall.ENOSPC, stays: true},
}

// run is the scenario with one fault.
type run struct {
	world
	mode
	n     int
	disk  *faults.Disk
	rng   *rand.Rand
	want  []string // golden dumps after each step
	dirs  int
	root  string
	fired faults.Call // N is 0 before
	mu    sync.Mutex
	off   bool
}

func (r *run) plan(c faults.Call) faults.Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.off || c.N < r.n || c.N > r.n && !r.stays {
		return faults.Fault{}
	}
	if r.fired.N == 0 {
		r.fired = c
	}
	if r.crash {
		r.disk.Crash()
		return faults.Fault{}
	}
	return faults.Fault{Err: r.err, Short: r.short}
}

// lift ends the fault.
func (r *run) lift() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.off = true
}

func (r *run) hit() (faults.Call, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fired, r.fired.N != 0
}

// moveTo begins to watch another directory.
func (r *run) moveTo(dir string) (err error) {
	if r.disk != nil {
		r.disk.Close()
	}
	r.dir = dir
	r.disk, err = faults.Watch(dir)
	return err
}

// reboot is a loss of power: the store goes on with what the disk holds.
func (r *run) reboot(keep bool) error {
	_ = r.close() // of a process that is dead
	r.dirs++
	dir := filepath.Join(r.root, fmt.Sprint("data", r.dirs))
	if err := r.disk.Image(dir, func() bool { return keep && r.rng.IntN(2) == 0 }); err != nil {
		return err
	}
	if err := os.RemoveAll(r.dir); err != nil {
		return err
	}
	return r.moveTo(dir)
}

// do runs the scenario; fired is whether there was a call n.
func (r *run) do(steps []act) (fired bool, err error) {
	if err := r.moveTo(filepath.Join(r.root, "data")); err != nil {
		return false, err
	}
	defer func() { r.disk.Close() }()
	defer r.close()
	r.disk.Plan(r.plan)
	for i, s := range steps {
		if err := r.step(i, s); err != nil {
			return true, fmt.Errorf("step %d (%s): %w", i, s.name, err)
		}
	}
	_, fired = r.hit()
	r.lift()
	// A crash that comes after the last step, or after all is well again.
	if err := r.reboot(false); err != nil {
		return fired, err
	}
	if err := r.verify(r.want[len(steps)-1]); err != nil {
		return fired, fmt.Errorf("after the end: %w", err)
	}
	return fired, nil
}

// step does one step, which may fail for the fault; then nothing of it may be
// there, and it must succeed at the next try.
func (r *run) step(i int, s act) error {
	before := ""
	if i > 0 {
		before = r.want[i-1]
	}
	err := s.do(&r.world)
	switch call, hit := r.hit(); {
	case r.disk.Crashed():
		return r.afterCrash(i, s, before)
	case err == nil && r.store != nil && !r.failed():
		return r.is(r.want[i])
	case err == nil: // the store failed beside the step
		return r.afterFailure(i, s, before, call)
	case !hit:
		return err
	case r.store == nil: // an open or a close that failed
		r.lift()
		if err := s.do(&r.world); err != nil {
			return fmt.Errorf("again after %v: %w", err, err)
		}
		return r.is(r.want[i])
	case r.failed() || errors.Is(err, mailstore.ErrFailed):
		return r.afterFailure(i, s, before, call)
	default:
		return r.again(i, s, before, call, err)
	}
}

// again is what must hold after a temporary error.
func (r *run) again(i int, s act, before string, call faults.Call, err error) error {
	full := r.err == syscall.ENOSPC && (call.Op == faults.Write || call.Op == faults.Rename || call.Op == faults.MakeDir)
	if full != errors.Is(err, mailstore.ErrFull) && call.Op == faults.Write {
		return fmt.Errorf("is ErrFull %v, and should be %v: %w", !full, full, err)
	}
	if err := r.is(before); err != nil {
		return fmt.Errorf("after the error %v: %w", err, err)
	}
	r.lift()
	switch again := s.do(&r.world); {
	case r.stays && errors.Is(again, mailstore.ErrFailed): // of a checkpoint before this step
		return r.afterFailure(i, s, before, call)
	case again != nil:
		return fmt.Errorf("does not recover from %v: %w", err, again)
	}
	return r.is(r.want[i])
}

// failed tells whether the store turned read-only.
func (r *run) failed() bool {
	select {
	case <-r.store.Failed():
		return true
	default:
		return false
	}
}

// afterFailure is what must hold after a sync that failed: reading goes on,
// nothing is written, and all is well after a start.
func (r *run) afterFailure(i int, s act, before string, call faults.Call) error {
	if call.Op != faults.Sync && call.Op != faults.SyncDir && !r.stays {
		return fmt.Errorf("the store failed for good after %v", call)
	}
	if _, err := r.dump(); err != nil {
		return fmt.Errorf("read after a failed sync: %w", err)
	}
	if err := account("eve", "INBOX")(&r.world); !errors.Is(err, mailstore.ErrFailed) {
		return fmt.Errorf("a change after a failed sync: %v", err)
	}
	r.lift()
	if r.n%2 == 0 {
		_ = r.close()
		return r.resume(i, s, before)
	}
	// The end of the process is not a clean one; then the power goes.
	r.disk.Kill()
	_ = r.close()
	r.disk.Revive()
	if err := r.resume(i, s, before); err != nil {
		return err
	}
	if err := r.update(func(tx *mailstore.Tx) error { return tx.PutSetting("health", []byte(s.name)) }); err != nil {
		return err
	}
	if err := r.reboot(false); err != nil {
		return err
	}
	if err := r.open(); err != nil {
		return err
	}
	return r.is(r.want[i])
}

// afterCrash is what must hold after a crash.
func (r *run) afterCrash(i int, s act, before string) error {
	if err := r.reboot(r.keep); err != nil {
		return err
	}
	return r.resume(i, s, before)
}

// resume opens the store, where the step is done or not, and nothing between.
func (r *run) resume(i int, s act, before string) error {
	if err := r.open(); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	got, err := r.dump()
	switch {
	case err != nil:
		return err
	case got == r.want[i]:
		return nil
	case before != "" && got != before:
		return fmt.Errorf("got\n%sand want\n%sor\n%s", got, before, r.want[i])
	}
	if err := s.do(&r.world); err != nil {
		return fmt.Errorf("after the start: %w", err)
	}
	return r.is(r.want[i])
}

func (r *run) is(want string) error {
	got, err := r.dump()
	if err == nil && got != want {
		err = fmt.Errorf("got\n%sand want\n%s", got, want)
	}
	return err
}

// verify checks all invariants of a closed store, and that no file is left.
func (r *run) verify(want string) error {
	if err := r.open(); err != nil {
		return err
	}
	r.store.Sweep()
	err := r.is(want)
	if err := errors.Join(err, r.close()); err != nil {
		return err
	}
	e, err := Open(context.Background(), r.dir, Options{})
	if err != nil {
		return err
	}
	snap, err := e.Snapshot(context.Background())
	if err != nil {
		return err
	}
	err = storetest.Verify(e, snap)
	err = errors.Join(err, e.Files(func(name string) bool {
		if _, lost := snap.BodyOfFile(name); lost != nil {
			err = errors.Join(err, fmt.Errorf("orphan %s: %w", name, lost))
		}
		return true
	}))
	snap.Close()
	return errors.Join(err, e.Close())
}

// golden runs the scenario without a fault and returns how many calls it takes.
func golden(t *testing.T, o mailstore.Options, steps []act) (want []string, calls int) {
	r := run{world: world{options: o}, root: t.TempDir(), rng: rand.New(rand.NewPCG(1, 1))}
	if err := r.moveTo(filepath.Join(r.root, "data")); err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		if err := s.do(&r.world); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		text, err := r.dump()
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, text)
	}
	calls = r.disk.Calls()
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	if err := r.verify(want[len(want)-1]); err != nil {
		t.Fatal(err)
	}
	r.disk.Close()
	return want, calls
}

// TestFaultsR11: each call that changes the disk fails once in each way, or is
// the last before a crash; nothing acknowledged is lost, nothing is there by
// half, and the store recovers. EVERY=k tries every k-th call.
func TestFaultsR11(t *testing.T) {
	every := 37
	if os.Getenv("POSTRIDER_TORTURE") != "" {
		every = 1
	}
	if text := os.Getenv("EVERY"); text != "" {
		var err error
		if every, err = strconv.Atoi(text); err != nil || every < 1 {
			t.Fatalf("EVERY=%s: %v", text, err)
		}
	}
	t.Run("plain", func(t *testing.T) { sweepFaults(t, mailstore.Options{}, scenario(), every) })
	t.Run("keeping", func(t *testing.T) {
		o, steps := keeping()
		sweepFaults(t, o, steps, every)
	})
}

// sweepFaults runs a scenario once for each way in which every k-th call fails.
func sweepFaults(t *testing.T, o mailstore.Options, steps []act, every int) {
	want, calls := golden(t, o, steps)
	type job struct {
		n int
		m mode
	}
	jobs := make(chan job)
	var wg sync.WaitGroup
	var mu sync.Mutex
	runs, hits := 0, 0
	root := t.TempDir()
	for range 4 {
		wg.Go(func() {
			for j := range jobs {
				r := &run{world: world{options: o}, mode: j.m, n: j.n, want: want, rng: rand.New(rand.NewPCG(uint64(j.n), 2)),
					root: filepath.Join(root, fmt.Sprintf("%d-%s", j.n, j.m.name))}
				err := os.Mkdir(r.root, 0o700)
				fired := false
				if err == nil {
					fired, err = r.do(steps)
				}
				if err != nil {
					t.Errorf("%s at %v: %v", j.m.name, r.fired, err)
				}
				mu.Lock()
				if runs++; fired {
					hits++
				}
				mu.Unlock()
				if err := os.RemoveAll(r.root); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i, m := range modes {
		for n := 1 + (i*11)%every; n <= calls; n += every {
			jobs <- job{n, m}
		}
	}
	close(jobs)
	wg.Wait()
	t.Logf("%d calls; %d runs, %d of them with a fault", calls, runs, hits)
	if hits < runs*9/10 {
		t.Errorf("only %d of %d runs had a fault", hits, runs)
	}
}
