package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"

	"postrider/mailstore"
	"postrider/mailstore/storetest"
	"postrider/mta"
)

// fakeRouter knows alice@crepes.fr, bob@crepes.fr and whatever is in aliases;
// other domains are remote.
type fakeRouter struct {
	mu       sync.Mutex
	accounts map[mta.Address]int64
	aliases  map[mta.Address][]mta.Target
	hops     func(domain string) ([]mta.Hop, error)
	err      error // of Recipient
	asked    int   // Hops
}

func (r *fakeRouter) Hops(_ context.Context, domain string) ([]mta.Hop, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.hops != nil {
		return r.hops(domain)
	}
	return []mta.Hop{{Host: "mx." + domain}}, nil
}

func (r *fakeRouter) Recipient(_ context.Context, _ mta.Client, to mta.Address) ([]mta.Target, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.err != nil:
		return nil, r.err
	case r.aliases[to] != nil:
		return r.aliases[to], nil
	case r.accounts[to] != 0:
		return []mta.Target{{Account: r.accounts[to]}}, nil
	case to.Domain == "crepes.fr":
		return nil, mta.Errorf(550, "5.1.1", "No such user here")
	}
	return []mta.Target{{Remote: to}}, nil
}

// attempted is what a fakeDeliverer was asked to do.
type attempted struct {
	at time.Time
	d  *mta.Delivery
	to []string
}

// fakeDeliverer answers by a function; the default takes everything.
type fakeDeliverer struct {
	answer func(d *mta.Delivery, to mta.Address) mta.Outcome
	// deliver replaces all of it.
	deliver func(ctx context.Context, d *mta.Delivery) error

	mu   sync.Mutex
	seen []attempted
}

func (f *fakeDeliverer) Deliver(ctx context.Context, d *mta.Delivery) error {
	a := attempted{at: time.Now(), d: d}
	for _, t := range d.To {
		a.to = append(a.to, t.Address.String())
	}
	f.mu.Lock()
	f.seen = append(f.seen, a)
	deliver, answer := f.deliver, f.answer
	f.mu.Unlock()
	if deliver != nil {
		return deliver(ctx, d)
	}
	out := make([]mta.Outcome, len(d.To))
	for i, t := range d.To {
		if answer != nil {
			out[i] = answer(d, t.Address)
		} else {
			out[i] = took(t.Address)
		}
	}
	return d.Record(out)
}

// recover makes it take everything from now on.
func (f *fakeDeliverer) recover() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deliver, f.answer = nil, nil
}

func (f *fakeDeliverer) attempts() []attempted {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen)
}

func took(to mta.Address) mta.Outcome {
	return mta.Outcome{Reply: mta.Errorf(250, "2.0.0", "taken"), Host: "mx." + to.Domain}
}

func says(code int, status, text string) func(*mta.Delivery, mta.Address) mta.Outcome {
	return func(_ *mta.Delivery, to mta.Address) mta.Outcome {
		return mta.Outcome{Reply: mta.Errorf(code, status, "%s", text), Host: "mx." + to.Domain}
	}
}

func silence(*mta.Delivery, mta.Address) mta.Outcome {
	return mta.Outcome{Reply: mta.Errorf(451, "4.4.1", "connect: connection refused")}
}

// fixture is a queue over the model engine, with two accounts.
type fixture struct {
	*testing.T
	disk    *storetest.Disk
	store   *mailstore.Store
	q       *Queue
	router  *fakeRouter
	deliver *fakeDeliverer
	options Options
	boxes   map[string]mailstore.MailboxID
	ids     int
	engine  func(mailstore.Engine) mailstore.Engine // wraps the model
	turn    chan struct{}                           // of swap; a mutex would stop the bubble's time
	stop    context.CancelFunc
	ran     chan struct{}
}

// newFixture opens a queue that does not run yet. It must be called, and close,
// within the bubble.
func newFixture(t *testing.T, o Options) *fixture {
	f := &fixture{T: t, disk: storetest.NewDisk(), deliver: &fakeDeliverer{}, options: o,
		boxes: make(map[string]mailstore.MailboxID), turn: make(chan struct{}, 1)}
	f.router = &fakeRouter{accounts: make(map[mta.Address]int64), aliases: make(map[mta.Address][]mta.Target)}
	f.open()
	for _, name := range []string{"alice", "bob"} {
		f.addAccount(name)
	}
	return f
}

func (f *fixture) open() {
	f.Helper()
	var err error
	var engine mailstore.Engine = f.disk.Engine()
	if f.engine != nil {
		engine = f.engine(engine)
	}
	f.store, err = mailstore.Open(f.Context(), engine, mailstore.Options{})
	f.must(err)
	o := f.options
	o.Store, o.Router, o.Deliverer, o.Hostname = f.store, f.router, f.deliver, "mail.crepes.fr"
	if o.Log == nil && testing.Verbose() {
		o.Log = slog.New(slog.NewTextHandler(f.Output(), nil))
	}
	f.q, err = New(o)
	f.must(err)
}

func (f *fixture) addAccount(name string) {
	f.Helper()
	a := mta.Address{Local: name, Domain: "crepes.fr"}
	f.must(f.store.Update(f.Context(), func(tx *mailstore.Tx) error {
		id, err := tx.CreateAccount(mailstore.Account{Address: a.String()})
		if err != nil {
			return err
		}
		box, err := tx.CreateMailbox(id, "INBOX", "")
		f.boxes[name] = box.ID
		f.router.accounts[a] = int64(id)
		return err
	}))
}

func (f *fixture) run() {
	ctx, cancel := context.WithCancel(context.Background())
	f.stop, f.ran = cancel, make(chan struct{})
	go func() {
		defer close(f.ran)
		if err := f.q.Run(ctx); err != nil {
			f.Error(err)
		}
	}()
}

// close ends Run and the store.
func (f *fixture) close() {
	f.Helper()
	if f.stop != nil {
		f.stop()
		<-f.ran
		f.stop = nil
	}
	f.must(f.store.Close())
}

// swap does something to the queue that must not happen at the same time as
// something else.
func (f *fixture) swap(fn func()) {
	f.turn <- struct{}{}
	defer func() { <-f.turn }()
	fn()
}

// restart is a clean end and a new start, without Run.
func (f *fixture) restart() {
	f.Helper()
	f.close()
	f.open()
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func addr(s string) mta.Address {
	a, err := mta.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// letterText is a message with CRLF line ends.
const letterText = "From: alice@crepes.fr\r\nTo: bob@hamburger.edu\r\nSubject: Do you like ketchup?\r\n" +
	"Message-ID: <m1@crepes.fr>\r\nDate: Mon, 1 Jan 2001 10:00:00 +0100\r\n\r\nHow about pickles?\r\n"

// envelope makes one whose recipients are routed by the fixture's router.
func (f *fixture) envelope(from string, to ...string) *mta.Envelope {
	f.ids++
	env := &mta.Envelope{ID: fmt.Sprintf("msg%03d", f.ids), Accepted: time.Now()}
	if from != "" {
		env.From = addr(from)
	}
	for _, s := range to {
		targets, err := f.router.Recipient(f.Context(), mta.Client{}, addr(s))
		f.must(err)
		env.To = append(env.To, mta.Recipient{Address: addr(s), Targets: targets})
	}
	return env
}

func (f *fixture) accept(env *mta.Envelope, text string) error {
	f.Helper()
	w := f.q.NewBody()
	if _, err := io.WriteString(w, text); err != nil {
		f.Fatal(err)
	}
	body, err := w.Commit()
	f.must(err)
	defer body.Release()
	return f.q.Accept(f.Context(), env, body)
}

func (f *fixture) send(from string, to ...string) string {
	f.Helper()
	env := f.envelope(from, to...)
	f.must(f.accept(env, letterText))
	return env.ID
}

// inbox reads all messages of an account.
func (f *fixture) inbox(name string) []string {
	f.Helper()
	var list []mailstore.Message
	f.must(f.store.View(f.Context(), func(v *mailstore.View) error {
		return v.Messages(f.boxes[name], 0, 0, func(m mailstore.Message) bool {
			list = append(list, m)
			return true
		})
	}))
	out := make([]string, len(list))
	for i, m := range list {
		c, err := f.store.OpenMessage(f.Context(), m)
		f.must(err)
		p, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
		f.must(err)
		f.must(c.Close())
		out[i] = string(p)
	}
	return out
}

// items lists the queue.
func (f *fixture) items() []Item {
	f.Helper()
	var out []Item
	f.must(f.q.List(f.Context(), 0, func(_ mailstore.QueueID, i Item) bool {
		out = append(out, i)
		return true
	}))
	return out
}

func (f *fixture) length() int {
	f.Helper()
	var n int
	f.must(f.store.View(f.Context(), func(v *mailstore.View) error {
		var err error
		n, err = v.QueueLength()
		return err
	}))
	return n
}

// bubble runs a test in a synctest bubble, with a fixture that is closed.
func bubble(t *testing.T, o Options, fn func(f *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, o)
		defer f.close()
		fn(f)
	})
}

func TestAccept(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.run()
		f.router.aliases[addr("team@crepes.fr")] = []mta.Target{
			{Account: f.router.accounts[addr("alice@crepes.fr")]}, {Account: f.router.accounts[addr("bob@crepes.fr")]}, {Remote: addr("x@far.example")}}
		env := f.envelope("carol@away.example", "bob@crepes.fr", "team@crepes.fr", "x@far.example", "y@far.example")
		f.must(f.accept(env, letterText))
		synctest.Wait()
		want := "Return-Path: <carol@away.example>\r\n" + letterText
		for _, name := range []string{"alice", "bob"} {
			if got := f.inbox(name); len(got) != 1 || got[0] != want {
				t.Errorf("inbox of %s: %q", name, got)
			}
		}
		seen := f.deliver.attempts()
		if len(seen) != 1 || !slices.Equal(seen[0].to, []string{"x@far.example", "y@far.example"}) {
			t.Errorf("attempts: %+v", seen)
		}
		if seen[0].d.From != addr("carol@away.example") || seen[0].d.ID != env.ID {
			t.Errorf("delivery: %+v", seen[0].d)
		}
		if n := f.length(); n != 0 {
			t.Errorf("%d recipients left in the queue", n)
		}
		if s := f.q.Stats(); s != (Stats{}) {
			t.Errorf("stats: %+v", s)
		}
	})
}

func TestContentReachesTheDeliverer(t *testing.T) {
	for _, size := range []int{0, 100, maxKeptBody, maxKeptBody + 1} {
		bubble(t, Options{}, func(f *fixture) {
			text := strings.Repeat("a", size)
			var got string
			f.deliver.deliver = func(_ context.Context, d *mta.Delivery) error {
				c, err := d.Open()
				if err != nil {
					return err
				}
				defer c.Close()
				p, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
				if err != nil {
					return err
				}
				got = string(p)
				return d.Record([]mta.Outcome{took(d.To[0].Address)})
			}
			f.must(f.accept(f.envelope("alice@crepes.fr", "x@far.example"), text))
			f.restartIf(size == 100)
			f.run()
			synctest.Wait()
			if got != text {
				t.Errorf("size %d: got %d octets", size, len(got))
			}
		})
	}
}

// pass lets time go by, and what is to happen in it.
func (f *fixture) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (f *fixture) restartIf(b bool) {
	f.Helper()
	if b {
		f.restart()
	}
}

func TestAcceptAfterRemovalOfTheAccount(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.run()
		remove := func(name string) {
			f.must(f.store.Update(f.Context(), func(tx *mailstore.Tx) error {
				return tx.DeleteAccount(mailstore.AccountID(f.router.accounts[addr(name)]))
			}))
			delete(f.router.accounts, addr(name))
		}
		// Gone without a trace: its sender is told, the others get their copy.
		env := f.envelope("alice@crepes.fr", "bob@crepes.fr", "alice@crepes.fr")
		remove("bob@crepes.fr")
		f.must(f.accept(env, letterText))
		got := f.inbox("alice")
		if len(got) != 2 || got[0] != "Return-Path: <alice@crepes.fr>\r\n"+letterText {
			t.Fatalf("inbox: %q", got)
		}
		for _, want := range []string{"Return-Path: <>\r\n", "Final-Recipient: rfc822; bob@crepes.fr\r\nAction: failed\r\nStatus: 5.1.1\r\n"} {
			if !strings.Contains(got[1], want) {
				t.Errorf("no %q in\n%s", want, got[1])
			}
		}
		// Replaced by an alias: the message follows it.
		f.addAccount("carol")
		env = f.envelope("dave@away.example", "carol@crepes.fr")
		remove("carol@crepes.fr")
		f.router.aliases[addr("carol@crepes.fr")] = []mta.Target{{Remote: addr("carol@far.example")}}
		f.must(f.accept(env, letterText))
		synctest.Wait()
		if seen := f.deliver.attempts(); len(seen) != 1 || seen[0].to[0] != "carol@far.example" {
			t.Errorf("attempts: %+v", seen)
		}
		// Routing fails for now: nothing is taken.
		f.addAccount("erin")
		env = f.envelope("dave@away.example", "erin@crepes.fr", "alice@crepes.fr")
		remove("erin@crepes.fr")
		f.router.err = errors.New("database is busy")
		var reply *mta.Reply
		if err := f.accept(env, letterText); !errors.As(err, &reply) || reply.Code != 451 {
			t.Errorf("Accept: %v", err)
		}
		if n := len(f.inbox("alice")); n != 2 {
			t.Errorf("%d messages after a refusal", n)
		}
	})
}

func TestAcceptRefusals(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		var reply *mta.Reply
		env := f.envelope("a@away.example", "bob@crepes.fr")
		env.To[0].Targets = nil
		if err := f.accept(env, letterText); !errors.As(err, &reply) || reply.Code != 451 {
			t.Errorf("without targets: %v", err)
		}
		for _, c := range []struct {
			err  error
			code int
		}{
			{mailstore.ErrFull, 452}, {mailstore.ErrFailed, 451}, {context.Canceled, 451},
			{errors.New("x"), 451}, {mta.Errorf(554, "5.6.0", "no"), 554},
		} {
			if err := f.q.acceptError(env, c.err); !errors.As(err, &reply) || reply.Code != c.code {
				t.Errorf("%v: %v", c.err, err)
			}
		}
	})
}

func TestNotifySuccess(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.run()
		f.router.aliases[addr("team@crepes.fr")] = []mta.Target{
			{Account: f.router.accounts[addr("bob@crepes.fr")]}, {Remote: addr("x@far.example")}}
		env := f.envelope("alice@crepes.fr", "bob@crepes.fr", "team@crepes.fr", "y@far.example", "z@far.example")
		for i := range env.To {
			env.To[i].Options.Notify = []smtp.DSNNotify{smtp.DSNNotifySuccess}
		}
		f.deliver.answer = func(_ *mta.Delivery, to mta.Address) mta.Outcome {
			o := took(to)
			o.DSN = to.Local == "z"
			return o
		}
		f.must(f.accept(env, letterText))
		synctest.Wait()
		got := f.inbox("alice")
		if len(got) != 2 {
			t.Fatalf("%d reports: %q", len(got), got)
		}
		for i, want := range [][]string{
			{"Final-Recipient: rfc822; bob@crepes.fr\r\nAction: delivered", "Final-Recipient: rfc822; team@crepes.fr\r\nAction: expanded"},
			{"Final-Recipient: rfc822; y@far.example\r\nAction: relayed"},
		} {
			for _, s := range want {
				if !strings.Contains(got[i], s) {
					t.Errorf("no %q in\n%s", s, got[i])
				}
			}
			if n := strings.Count(got[i], "Action:"); n != len(want) {
				t.Errorf("report %d is about %d recipients", i, n)
			}
		}
		for _, to := range f.deliver.attempts()[0].d.To {
			if n := to.Options.Notify; len(n) != 1 || (n[0] == smtp.DSNNotifyNever) != (to.Address.Local == "x") {
				t.Errorf("%v goes out with NOTIFY=%v", to.Address, n)
			}
		}
	})
}

func TestSchedule(t *testing.T) {
	bubble(t, Options{Expire: 24 * time.Hour, DelayNotice: -1}, func(f *fixture) {
		f.deliver.answer = says(450, "4.2.1", "busy")
		f.run()
		begin := time.Now()
		f.send("alice@crepes.fr", "x@far.example")
		f.pass(30 * time.Hour)
		var at []string
		for _, a := range f.deliver.attempts() {
			at = append(at, a.at.Sub(begin).Round(time.Second).String())
		}
		want := []string{"0s", "1m0s", "6m0s", "21m0s", "51m0s", "1h51m0s", "3h51m0s", "7h51m0s", "11h51m0s", "15h51m0s", "19h51m0s", "23h51m0s", "24h0m0s"}
		if !slices.Equal(at, want) {
			t.Errorf("attempts at %v, want %v", at, want)
		}
		got := f.inbox("alice")
		if len(got) != 1 || !strings.Contains(got[0], "Action: failed\r\nStatus: 4.2.1\r\n") {
			t.Errorf("reports: %q", got)
		}
		if n := f.length(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

func TestDelayNotice(t *testing.T) {
	for _, c := range []struct {
		notify []smtp.DSNNotify
		from   string
		want   int // notices
	}{
		{nil, "alice@crepes.fr", 1},
		{[]smtp.DSNNotify{smtp.DSNNotifyDelayed}, "alice@crepes.fr", 1},
		{[]smtp.DSNNotify{smtp.DSNNotifyFailure}, "alice@crepes.fr", 0},
		{[]smtp.DSNNotify{smtp.DSNNotifyNever}, "alice@crepes.fr", 0},
		{nil, "", 0},
	} {
		bubble(t, Options{}, func(f *fixture) {
			f.deliver.answer = says(450, "4.2.1", "busy")
			f.run()
			env := f.envelope(c.from, "x@far.example")
			env.To[0].Options.Notify = c.notify
			f.must(f.accept(env, letterText))
			f.pass(4*time.Hour - time.Minute)
			if got := f.inbox("alice"); len(got) != 0 {
				t.Errorf("a notice before its time: %q", got)
			}
			f.pass(2 * time.Minute)
			got := f.inbox("alice")
			if len(got) != c.want {
				t.Errorf("NOTIFY=%v from <%s>: %d notices after 4 hours", c.notify, c.from, len(got))
			}
			for _, s := range got {
				if !strings.Contains(s, "Action: delayed\r\nStatus: 4.2.1\r\n") || !strings.Contains(s, "Will-Retry-Until: ") {
					t.Errorf("notice: %s", s)
				}
			}
			f.pass(48 * time.Hour)
			if n := len(f.inbox("alice")); n != c.want {
				t.Errorf("%d notices after two days", n)
			}
			if f.length() != 1 {
				t.Error("the message left the queue")
			}
		})
	}
}

func TestPermanentFailure(t *testing.T) {
	for _, c := range []struct {
		notify []smtp.DSNNotify
		from   string
		want   int // reports in alice's inbox
	}{
		{nil, "alice@crepes.fr", 1},
		{[]smtp.DSNNotify{smtp.DSNNotifyFailure, smtp.DSNNotifySuccess}, "alice@crepes.fr", 1},
		{[]smtp.DSNNotify{smtp.DSNNotifySuccess}, "alice@crepes.fr", 0},
		{[]smtp.DSNNotify{smtp.DSNNotifyNever}, "alice@crepes.fr", 0},
		{nil, "nobody@crepes.fr", 0},
		{nil, "", 0},
	} {
		bubble(t, Options{}, func(f *fixture) {
			f.deliver.answer = says(550, "5.1.1", "no such user")
			f.run()
			env := f.envelope(c.from, "x@far.example", "y@far.example")
			env.To[0].Options.Notify, env.To[1].Options.Notify = c.notify, c.notify
			f.must(f.accept(env, letterText))
			synctest.Wait()
			got := f.inbox("alice")
			if len(got) != c.want {
				t.Fatalf("NOTIFY=%v from <%s>: %d reports", c.notify, c.from, len(got))
			}
			if c.want == 1 && strings.Count(got[0], "Action: failed") != 2 {
				t.Errorf("not about both recipients: %s", got[0])
			}
			if n := f.length(); n != 0 {
				t.Errorf("%d left", n)
			}
		})
	}
}

func TestReportToRemoteSender(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.deliver.answer = func(d *mta.Delivery, to mta.Address) mta.Outcome {
			return says(550, "5.1.1", "no such user")(d, to)
		}
		f.run()
		f.send("carol@away.example", "x@far.example")
		synctest.Wait()
		seen := f.deliver.attempts()
		if len(seen) != 2 || !seen[1].d.From.IsZero() || seen[1].to[0] != "carol@away.example" {
			t.Fatalf("attempts: %+v", seen)
		}
		// Its failure makes no further report.
		if n := f.length(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

func TestReportWaitsForRouting(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.deliver.answer = says(550, "5.1.1", "no such user")
		f.run()
		env := f.envelope("alice@crepes.fr", "x@far.example")
		f.router.err = errors.New("database is busy")
		f.must(f.accept(env, letterText))
		synctest.Wait()
		if f.length() != 1 || len(f.inbox("alice")) != 0 {
			t.Fatal("the failure is final without a report")
		}
		f.router.mu.Lock()
		f.router.err = nil
		f.router.mu.Unlock()
		f.pass(time.Minute)
		if f.length() != 0 || len(f.inbox("alice")) != 1 {
			t.Errorf("%d left, %d reports", f.length(), len(f.inbox("alice")))
		}
	})
}

func TestBigRecipientListIsSplit(t *testing.T) {
	bubble(t, Options{PerDelivery: 100}, func(f *fixture) {
		f.run()
		var to []string
		for i := range 250 {
			to = append(to, fmt.Sprintf("u%d@far.example", i), fmt.Sprintf("u%d@near.example", i))
		}
		f.send("alice@crepes.fr", to...)
		synctest.Wait()
		var sizes []int
		for _, a := range f.deliver.attempts() {
			sizes = append(sizes, len(a.to))
			for _, s := range a.to {
				if !strings.HasSuffix(s, a.d.To[0].Address.Domain) {
					t.Errorf("%s goes with %s", s, a.d.To[0].Address)
				}
			}
		}
		slices.Sort(sizes)
		if !slices.Equal(sizes, []int{50, 50, 100, 100, 100, 100}) {
			t.Errorf("sizes: %v", sizes)
		}
	})
}
