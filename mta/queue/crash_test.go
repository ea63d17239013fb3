package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"postrider/mailstore"
	"postrider/mta"
)

// faulty is an engine whose commits fail as told.
type faulty struct {
	mailstore.Engine

	mu   sync.Mutex
	left int   // commits that succeed; < 0: all
	late bool  // the commit that fails is durable all the same
	full int   // so many bodies fail with ErrFull
	stay int   // so many removals of recipients fail with ErrFull
	err  error // of the commits that fail
	// after is called when a commit is done, before anybody knows.
	after func()
}

func (e *faulty) Begin() (mailstore.Writer, error) {
	w, err := e.Engine.Begin()
	if err != nil {
		return nil, err
	}
	return &faultyWriter{Writer: w, e: e}, nil
}

type faultyWriter struct {
	mailstore.Writer
	e *faulty
}

func (w *faultyWriter) InsertBody(b *mailstore.BodyRow) error {
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	if w.e.full > 0 {
		w.e.full--
		return fmt.Errorf("write: %w", mailstore.ErrFull)
	}
	return w.Writer.InsertBody(b)
}

func (w *faultyWriter) DeleteRecipient(item mailstore.QueueID, index int) error {
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	if w.e.stay > 0 {
		w.e.stay--
		return fmt.Errorf("delete: %w", mailstore.ErrFull)
	}
	return w.Writer.DeleteRecipient(item, index)
}

func (w *faultyWriter) Commit() error {
	err := w.commit()
	if w.e.after != nil {
		w.e.after()
	}
	return err
}

func (w *faultyWriter) commit() error {
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	switch {
	case w.e.left < 0:
		return w.Writer.Commit()
	case w.e.left == 0:
		return w.e.err
	}
	if w.e.left--; w.e.left > 0 {
		return w.Writer.Commit()
	}
	if w.e.late {
		if err := w.Writer.Commit(); err != nil {
			return err
		}
	}
	return w.e.err
}

// crashAfter makes the n-th commit from now the last one, as the sudden end of
// the process would.
func (e *faulty) crashAfter(n int, late bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.left, e.late, e.err = n, late, errors.New("the disk is gone")
}

// newFaultyFixture has an engine that can be made to fail.
func newFaultyFixture(t *testing.T, o Options) (*fixture, *faulty) {
	f := newFixture(t, o)
	f.close()
	e := &faulty{left: -1}
	f.engine = func(inner mailstore.Engine) mailstore.Engine {
		e.Engine = inner
		return e
	}
	f.open()
	return f, e
}

// TestOutcomeIsKept: what a peer took is not sent again because there was no
// space to record it.
func TestOutcomeIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e := newFaultyFixture(t, Options{})
		defer f.close()
		// Both are accepted before the first attempt: an Accept that shares a
		// batch with a removal that fails would be refused with it.
		f.send("alice@crepes.fr", "x@far.example", "y@far.example")
		f.send("alice@crepes.fr", "x@near.example")
		e.mu.Lock()
		e.stay = 7
		e.mu.Unlock()
		f.run()
		synctest.Wait()
		if f.length() != 3 {
			t.Errorf("%d left", f.length())
		}
		f.pass(time.Minute)
		if f.length() != 0 {
			t.Errorf("%d left", f.length())
		}
		f.exactlyOnce()
	})
}

// TestLoaderBeforeAccept: a row that the loader sees before Accept knows that it
// is there is not brought into memory twice.
func TestLoaderBeforeAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e := newFaultyFixture(t, Options{})
		defer f.close()
		e.after = func() {
			if err := f.q.read(t.Context(), &reading{until: f.q.now().Add(horizon)}); err != nil {
				t.Error(err)
			}
		}
		f.send("alice@crepes.fr", "x@far.example")
		e.after = nil
		f.run()
		f.pass(time.Minute)
		if n := len(f.deliver.attempts()); n != 1 {
			t.Errorf("%d attempts", n)
		}
	})
}

// TestNoSpaceForReport: while there is no space for a report, the failure is not
// final; a success is recorded all the same.
func TestNoSpaceForReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e := newFaultyFixture(t, Options{DelayNotice: -1})
		defer f.close()
		f.deliver.answer = func(d *mta.Delivery, to mta.Address) mta.Outcome {
			if to.Domain == "far.example" {
				return says(550, "5.1.1", "no")(d, to)
			}
			return took(to)
		}
		f.send("alice@crepes.fr", "x@far.example", "y@near.example")
		e.mu.Lock()
		e.full = 1
		e.mu.Unlock()
		f.run()
		synctest.Wait()
		if f.length() != 1 || len(f.inbox("alice")) != 0 {
			t.Errorf("%d left, %d reports", f.length(), len(f.inbox("alice")))
		}
		f.pass(5 * time.Minute)
		if f.length() != 0 || len(f.inbox("alice")) != 1 {
			t.Errorf("%d left, %d reports", f.length(), len(f.inbox("alice")))
		}
		// No space for a message: 452, and nothing of it is kept.
		e.mu.Lock()
		e.full = 1
		e.mu.Unlock()
		var reply *mta.Reply
		if err := f.accept(f.envelope("alice@crepes.fr", "bob@crepes.fr", "y@near.example"), letterText); !errors.As(err, &reply) || reply.Code != 452 {
			t.Errorf("Accept: %v", err)
		}
		if f.length() != 0 || len(f.inbox("bob")) != 0 {
			t.Error("something of the message was kept")
		}
	})
}

// plan is one run of the property test, drawn before it begins.
type plan struct {
	messages []planMessage
	ends     []planEnd
	ops      []planOp
	active   int
	limit    int64 // of the messages of each account, for the first hours; 0 = none
}

// planOp is something that an operator does to a message, or to all.
type planOp struct {
	after time.Duration
	what  int // 0 retry all, 1 retry, 2 hold and later release
	id    string
}

type planMessage struct {
	null   bool // the null reverse-path
	to     []planRecipient
	wait   time.Duration // before it is sent
	repeat bool          // its body is large
}

// planRecipient is a recipient and its fate: so many failures, then the end.
type planRecipient struct {
	address  string
	failures int
	silent   bool
	final    int // 250, 550; 450 for ever
	slow     time.Duration
}

// planEnd is a restart: a clean one or a crash after so many commits.
type planEnd struct {
	after   time.Duration
	crash   bool
	commits int
	late    bool
}

func drawPlan(rt *rapid.T) plan {
	p := plan{active: rapid.SampledFrom([]int{4, 10, 1000}).Draw(rt, "active"),
		limit: rapid.SampledFrom([]int64{0, 0, 1, 2}).Draw(rt, "limit")}
	n := rapid.IntRange(1, 8).Draw(rt, "messages")
	for i := range n {
		m := planMessage{null: rapid.IntRange(0, 5).Draw(rt, "null") == 0, repeat: rapid.IntRange(0, 5).Draw(rt, "large") == 0,
			wait: time.Duration(rapid.IntRange(0, 600).Draw(rt, "wait")) * time.Second}
		if rapid.Bool().Draw(rt, "local") {
			m.to = append(m.to, planRecipient{address: "bob@crepes.fr"})
		}
		for j := range rapid.IntRange(0, 4).Draw(rt, "remote") {
			r := planRecipient{
				failures: rapid.IntRange(0, 3).Draw(rt, "failures"),
				silent:   rapid.IntRange(0, 2).Draw(rt, "silent") == 0,
				final:    rapid.SampledFrom([]int{250, 250, 250, 550, 450}).Draw(rt, "final"),
				slow:     time.Duration(rapid.IntRange(0, 30).Draw(rt, "slow")) * time.Second,
			}
			r.address = fmt.Sprintf("m%d-r%d@d%d.example", i, j, rapid.IntRange(0, 3).Draw(rt, "domain"))
			m.to = append(m.to, r)
		}
		if len(m.to) > 0 {
			p.messages = append(p.messages, m)
		}
	}
	for range rapid.IntRange(0, 3).Draw(rt, "ends") {
		p.ends = append(p.ends, planEnd{
			after: time.Duration(rapid.IntRange(0, 1200).Draw(rt, "after")) * time.Second, crash: rapid.Bool().Draw(rt, "crash"),
			commits: rapid.IntRange(1, 12).Draw(rt, "commits"), late: rapid.Bool().Draw(rt, "late"),
		})
	}
	for range rapid.IntRange(0, 3).Draw(rt, "ops") {
		p.ops = append(p.ops, planOp{
			after: time.Duration(rapid.IntRange(0, 1200).Draw(rt, "op after")) * time.Second,
			what:  rapid.IntRange(0, 2).Draw(rt, "op"), id: fmt.Sprintf("plan%d", rapid.IntRange(0, 7).Draw(rt, "op on")),
		})
	}
	return p
}

// operate does what the plan's operator does; held messages are released in the
// end.
func (f *fixture) operate(p plan) {
	var held []string
	for _, op := range p.ops {
		<-time.After(op.after)
		f.swap(func() {
			// The disk may be gone: then nothing happens.
			switch op.what {
			case 0:
				_, _ = f.q.Retry(context.Background())
			case 1:
				_, _ = f.q.Retry(context.Background(), op.id)
			case 2:
				_, _ = f.q.Hold(context.Background(), op.id)
				held = append(held, op.id)
			}
		})
	}
	<-time.After(2 * time.Hour) // after the last crash
	f.swap(func() {
		f.limitAll(0)
		if len(held) > 0 {
			if _, err := f.q.Release(context.Background(), held...); err != nil {
				f.Error(err)
			}
		}
	})
}

// limitAll bounds the messages of alice and bob.
func (f *fixture) limitAll(n int64) {
	f.quota("alice", mailstore.Quota{Messages: n})
	f.quota("bob", mailstore.Quota{Messages: n})
}

// TestExactlyOnce: whatever peers answer, whoever is full for a while, and
// however often the server is stopped or crashes, each recipient of each accepted message ends exactly once:
// delivered, or reported, or (for the null reverse-path) dropped. Only a crash
// between a peer's last word and its record makes a second delivery.
func TestExactlyOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPlan(rt)
		var problems []string
		synctest.Test(t, func(t *testing.T) {
			problems = runPlan(t, p)
		})
		if len(problems) > 0 {
			rt.Fatalf("%s", strings.Join(problems, "\n"))
		}
	})
}

// world is what the peers of a plan saw.
type world struct {
	mu    sync.Mutex
	fates map[string]planRecipient
	tries map[string]int
	taken map[string]int // whether recorded or not
}

// deliver is one transaction: first all waits, then the answer for everybody.
func (w *world) deliver(ctx context.Context, d *mta.Delivery) error {
	for _, to := range d.To {
		select {
		case <-time.After(w.fates[to.Address.String()].slow):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	out := make([]mta.Outcome, len(d.To))
	for i, to := range d.To {
		out[i] = w.answer(d, to.Address)
	}
	return d.Record(out)
}

func (w *world) answer(d *mta.Delivery, to mta.Address) mta.Outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := to.String()
	r, n := w.fates[a], w.tries[a]
	w.tries[a]++
	switch {
	case n < r.failures && r.silent:
		return silence(d, to)
	case n < r.failures || r.final == 450:
		return says(450, "4.2.1", "busy")(d, to)
	case r.final == 550:
		return says(550, "5.1.1", "no such user")(d, to)
	}
	w.taken[a]++
	return took(to)
}

// runPlan plays a plan and tells what went wrong.
func runPlan(t *testing.T, p plan) (problems []string) {
	f := newFixture(t, Options{Active: p.active, PerDomain: 2, Concurrency: 4, Expire: 3 * 24 * time.Hour, DelayNotice: -1})
	f.close()
	w := &world{fates: make(map[string]planRecipient), tries: make(map[string]int), taken: make(map[string]int)}
	for _, m := range p.messages {
		for _, r := range m.to {
			w.fates[r.address] = r
		}
	}
	f.deliver.deliver = w.deliver
	e := &faulty{left: -1}
	f.engine = func(inner mailstore.Engine) mailstore.Engine {
		e = &faulty{Engine: inner, left: -1}
		return e
	}
	f.open()
	f.limitAll(p.limit)
	f.run()
	accepted := make(chan map[string]bool, 1)
	go func() { accepted <- f.sendAll(p) }()
	operated := make(chan struct{})
	go func() {
		defer close(operated)
		f.operate(p)
	}()
	crashed := 0
	for _, end := range p.ends {
		<-time.After(end.after)
		if end.crash {
			e.crashAfter(end.commits, end.late)
			<-time.After(10 * time.Minute)
			crashed++
		}
		f.swap(func() { f.restart(); f.run() })
	}
	sent := <-accepted
	<-operated
	for range 20 {
		if f.pass(12 * time.Hour); f.length() == 0 {
			break
		}
	}
	problems = w.check(f, p, sent, crashed > 0)
	f.close()
	return problems
}

// sendAll sends the plan's messages and tells which were accepted; after a
// refusal it goes on with the next.
func (f *fixture) sendAll(p plan) map[string]bool {
	sent := make(map[string]bool)
	for i, m := range p.messages {
		<-time.After(m.wait)
		env := &mta.Envelope{ID: fmt.Sprintf("plan%d", i), Accepted: time.Now(), From: addr("alice@crepes.fr")}
		if m.null {
			env.From = mta.Address{}
		}
		for _, r := range m.to {
			targets, err := f.router.Recipient(context.Background(), mta.Client{}, addr(r.address))
			if err != nil {
				panic(err)
			}
			env.To = append(env.To, mta.Recipient{Address: addr(r.address), Targets: targets})
		}
		text := letterText
		if m.repeat {
			text += strings.Repeat("large\r\n", 12000)
		}
		f.swap(func() { sent[env.ID] = f.offer(env, text) == nil })
	}
	return sent
}

// offer is accept that may fail in any step.
func (f *fixture) offer(env *mta.Envelope, text string) error {
	w := f.q.NewBody()
	defer w.Abort()
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	body, err := w.Commit()
	if err != nil {
		return err
	}
	defer body.Release()
	return f.q.Accept(context.Background(), env, body)
}

// check compares what the world saw with what has to be.
func (w *world) check(f *fixture, p plan, sent map[string]bool, crashed bool) (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if n := f.length(); n != 0 {
		bad("%d recipients left: %+v", n, f.items())
	}
	reports := f.inbox("alice")
	local := f.inbox("bob")
	copies := 0
	for i, m := range p.messages {
		id := fmt.Sprintf("plan%d", i)
		if slices.ContainsFunc(m.to, func(r planRecipient) bool { return r.address == "bob@crepes.fr" }) && sent[id] {
			copies++
		}
		for _, r := range m.to {
			if r.address == "bob@crepes.fr" {
				continue
			}
			told := 0
			for _, s := range reports {
				told += strings.Count(s, "Final-Recipient: rfc822; "+r.address+"\r\nAction: failed\r\n")
			}
			taken := w.taken[r.address]
			switch {
			case !sent[id] && !crashed && taken+told > 0:
				bad("%s: refused, and yet delivered %d times, reported %d times", r.address, taken, told)
			case !sent[id]:
				// Refused by a crash: it may be there or not.
			case r.final == 250 && (told != 0 || taken == 0 || taken > 1 && !crashed):
				bad("%s: delivered %d times, reported %d times", r.address, taken, told)
			case r.final != 250 && m.null && told != 0:
				bad("%s: a report for the null path", r.address)
			case r.final != 250 && !m.null && told != 1:
				bad("%s: reported %d times", r.address, told)
			}
		}
	}
	if len(local) != copies && !crashed || len(local) < copies {
		bad("%d local copies of %d", len(local), copies)
	}
	return problems
}
