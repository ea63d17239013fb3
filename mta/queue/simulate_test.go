package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postrider/mailstore"
	"postrider/mailstore/storetest"
	"postrider/mta"
)

// The simulation plays a store, a queue and deliveries against a disk, a
// network and a clock that do what a seed says, in virtual time. The same seed
// gives the same letters, peers, faults and commands at the same moments; only
// what happens at one moment of virtual time may come in another order.

// ending is what becomes of a commit.
type ending int

const (
	written  ending = iota
	full            // no space: nothing was changed
	refused         // the disk refused a write: nothing was changed
	lost            // the process dies before it
	unspoken        // the process dies after it, and before anybody was told
)

// chaos is a model engine whose commits and bodies fail as drawn.
type chaos struct {
	mailstore.Engine

	mu     sync.Mutex
	n      int
	fates  map[int]ending // of commits, by number over all lives
	bodies map[int]bool   // those that find no space
	rows   int            // bodies so far
	dead   bool
}

var errDead = errors.New("the process is dead")

func (e *chaos) Begin() (mailstore.Writer, error) {
	w, err := e.Engine.Begin()
	if err != nil {
		return nil, err
	}
	return &chaosWriter{w, e}, nil
}

type chaosWriter struct {
	mailstore.Writer
	e *chaos
}

func (w *chaosWriter) InsertBody(b *mailstore.BodyRow) error {
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	if w.e.rows++; w.e.bodies[w.e.rows] {
		return fmt.Errorf("insert a body: %w", mailstore.ErrFull)
	}
	return w.Writer.InsertBody(b)
}

func (w *chaosWriter) Commit() error {
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	if w.e.dead {
		return errDead
	}
	w.e.n++
	switch w.e.fates[w.e.n] {
	case full:
		return fmt.Errorf("commit: %w", mailstore.ErrFull)
	case refused:
		return fmt.Errorf("commit: %w", mailstore.ErrNotWritten)
	case lost:
		w.e.dead = true
		return errDead
	case unspoken:
		w.e.dead = true
		return errors.Join(w.Writer.Commit(), errDead)
	}
	return w.Writer.Commit()
}

// kill ends the process, which learns of it at its next commit.
func (e *chaos) kill() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dead = true
}

// sim is one seed.
type sim struct {
	*fixture
	p      plan
	w      *world
	e      *chaos
	clock  *jumpClock
	out    atomic.Bool // the network is out
	deaths int
	carol  *reader
	err    []string
}

func (s *sim) bad(format string, args ...any) { s.err = append(s.err, fmt.Sprintf(format, args...)) }

// seedPlan draws letters and peers.
func seedPlan(r *rand.Rand) plan {
	p := plan{active: []int{4, 10, 1000}[r.IntN(3)]}
	for i := range 1 + r.IntN(6) {
		m := planMessage{null: r.IntN(6) == 0, repeat: r.IntN(8) == 0, wait: time.Duration(r.IntN(200)) * time.Second}
		if r.IntN(2) == 0 {
			m.to = append(m.to, planRecipient{address: "bob@crepes.fr"})
		}
		for j := range r.IntN(4) {
			m.to = append(m.to, planRecipient{
				address:  fmt.Sprintf("m%d-r%d@d%d.example", i, j, r.IntN(4)),
				failures: r.IntN(4), silent: r.IntN(3) == 0,
				final: []int{250, 250, 250, 250, 550, 450}[r.IntN(6)], slow: time.Duration(r.IntN(20)) * time.Second,
			})
		}
		if len(m.to) > 0 {
			p.messages = append(p.messages, m)
		}
	}
	return p
}

// seedFates draws what becomes of commits and bodies.
func seedFates(r *rand.Rand) *chaos {
	e := &chaos{fates: make(map[int]ending), bodies: make(map[int]bool)}
	for range r.IntN(8) {
		e.fates[6+r.IntN(60)] = []ending{full, full, refused, lost, unspoken}[r.IntN(5)]
	}
	for range r.IntN(3) {
		e.bodies[1+r.IntN(20)] = true
	}
	return e
}

// tally is what happened in all seeds.
type tally struct{ commits, deaths, refusals, letters, taken, changes atomic.Int64 }

func (y *tally) add(s *sim) {
	y.commits.Add(int64(s.e.n))
	y.deaths.Add(int64(s.deaths))
	y.refusals.Add(int64(s.carol.refused))
	y.letters.Add(int64(len(s.p.messages)))
	for _, n := range s.w.taken {
		y.taken.Add(int64(n))
	}
	y.changes.Add(int64(s.carol.texts))
}

// simulate plays one seed and tells what went wrong.
func simulate(t *testing.T, seed uint64, log *slog.Logger, sum *tally) []string {
	r := rand.New(rand.NewPCG(seed, 10))
	s := &sim{p: seedPlan(r), clock: newJumpClock(), w: &world{fates: make(map[string]planRecipient), tries: make(map[string]int), taken: make(map[string]int)}}
	for _, m := range s.p.messages {
		for _, to := range m.to {
			s.w.fates[to.address] = to
		}
	}
	s.e = &chaos{}
	s.fixture = newFixture(t, Options{Active: s.p.active, PerDomain: 2, Concurrency: 4, Expire: 6 * time.Hour, DelayNotice: -1, Clock: s.clock, Log: log,
		Retry: []time.Duration{time.Minute, 5 * time.Minute, 20 * time.Minute, time.Hour}})
	s.addAccount("carol")
	s.close()
	s.carol = newReader(s, rand.New(rand.NewPCG(seed, 11)))
	s.e = seedFates(r)
	s.engine = func(inner mailstore.Engine) mailstore.Engine {
		s.e.mu.Lock()
		defer s.e.mu.Unlock()
		s.e.Engine, s.e.dead = inner, false
		return s.e
	}
	s.fixture.deliver.deliver = func(ctx context.Context, d *mta.Delivery) error {
		if !s.out.Load() {
			return s.w.deliver(ctx, d)
		}
		var out []mta.Outcome
		for _, to := range d.To {
			out = append(out, silence(d, to.Address))
		}
		return d.Record(out)
	}
	s.open()
	s.run()
	sent := make(chan map[string]bool, 1)
	read := make(chan struct{})
	go func() { sent <- s.sendAll(rand.New(rand.NewPCG(seed, 12))) }()
	go func() {
		defer close(read)
		s.carol.run()
	}()
	s.happen(rand.New(rand.NewPCG(seed, 13)))
	s.settle(read, sent)
	sum.add(s)
	return s.err
}

// again is the end of the process, however it came, and a new start.
func (s *sim) again(dies bool) {
	s.swap(func() {
		if dies {
			s.e.kill()
		}
		old := s.store
		s.fixture.close()
		select {
		case <-old.Failed(): // before, or in its end
			dies = true
		default:
		}
		if dies {
			s.deaths++
		}
		s.open()
		s.fixture.run()
		s.carol.compare()
	})
}

// wait lets time pass; a store that failed ends the process, which is started
// again.
func (s *sim) wait(d time.Duration) {
	end := time.After(d)
	for {
		select {
		case <-s.store.Failed():
			s.again(true)
		case <-end:
			return
		}
	}
}

// happen is what the world does to the server.
func (s *sim) happen(r *rand.Rand) {
	for range r.IntN(5) {
		s.wait(time.Duration(r.IntN(600)) * time.Second)
		switch r.IntN(6) {
		case 0:
			s.again(false)
		case 1:
			s.again(true)
		case 2:
			s.clock.jump(time.Hour)
		case 3:
			s.clock.jump(-time.Hour)
		case 4:
			s.out.Store(true)
			s.wait(time.Duration(r.IntN(600)) * time.Second)
			s.out.Store(false)
		case 5:
			s.swap(func() { _, _ = s.q.Retry(context.Background()) }) // the disk may refuse
		}
	}
}

// settle lets the world be well until the queue is empty, and looks at it all.
func (s *sim) settle(read <-chan struct{}, sent <-chan map[string]bool) {
	for ended := false; !ended; {
		s.wait(10 * time.Minute)
		select {
		case <-read:
			ended = true
		default:
		}
	}
	accepted := <-sent
	s.e.mu.Lock()
	s.e.fates, s.e.bodies = nil, nil
	s.e.mu.Unlock()
	for range 48 {
		if s.length() == 0 {
			break
		}
		s.wait(time.Hour)
	}
	s.carol.compare()
	s.err = append(s.err, s.judge(accepted)...)
	s.fixture.close()
	snap, err := s.disk.Engine().Snapshot(context.Background())
	s.must(err)
	defer snap.Close()
	if err := storetest.Verify(s.disk.Engine(), snap); err != nil {
		s.bad("invariants: %v", err)
	}
}

// sendAll offers the letters and tells which were accepted.
func (s *sim) sendAll(r *rand.Rand) map[string]bool {
	sent := make(map[string]bool)
	for i, m := range s.p.messages {
		<-time.After(m.wait)
		id := fmt.Sprintf("plan%d", i)
		text := "X-Plan: " + id + "\r\n" + letterText
		if m.repeat {
			text += strings.Repeat("large\r\n", 12000)
		}
		env := &mta.Envelope{ID: id, From: addr("alice@crepes.fr")}
		if m.null {
			env.From = mta.Address{}
		}
		for _, to := range m.to {
			targets, err := s.router.Recipient(context.Background(), mta.Client{}, addr(to.address))
			s.must(err)
			env.To = append(env.To, mta.Recipient{Address: addr(to.address), Targets: targets})
		}
		s.swap(func() {
			env.Accepted = s.clock.Now()
			sent[id] = s.offer(env, text) == nil
		})
	}
	return sent
}

// judge holds what came of the letters against what was accepted.
func (s *sim) judge(sent map[string]bool) (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if n := s.length(); n != 0 {
		bad("%d recipients left: %+v", n, s.items())
	}
	reports, local := s.inbox("alice"), s.inbox("bob")
	for i, m := range s.p.messages {
		id := fmt.Sprintf("plan%d", i)
		for _, to := range m.to {
			if to.address == "bob@crepes.fr" {
				copies := counted(local, "X-Plan: "+id+"\r\n")
				if copies > 1 || sent[id] && copies == 0 {
					bad("%s: %d copies in the mailbox, accepted: %v", id, copies, sent[id])
				}
				continue
			}
			told := 0
			for _, text := range reports {
				told += strings.Count(text, "Final-Recipient: rfc822; "+to.address+"\r\nAction: failed\r\n")
			}
			taken := s.w.taken[to.address]
			switch {
			case taken > 1+s.deaths || told > 1 || !sent[id] && s.deaths == 0 && taken+told > 0:
				bad("%s: delivered %d times, reported %d times after %d deaths; accepted: %v", to.address, taken, told, s.deaths, sent[id])
			case !sent[id]: // by a death, of which the sender does not know
			case to.final == 250 && (told != 0 || taken == 0):
				bad("%s: delivered %d times, reported %d times", to.address, taken, told)
			case to.final != 250 && (m.null && told != 0 || !m.null && told != 1):
				bad("%s: reported %d times", to.address, told)
			}
		}
	}
	return problems
}

// counted is how many of the texts have a line.
func counted(texts []string, line string) (n int) {
	for _, text := range texts {
		if strings.Contains(text, line) {
			n++
		}
	}
	return n
}

// reader is carol's IMAP session: it changes her mailboxes and knows what must
// be in them.
type reader struct {
	s       *sim
	r       *rand.Rand
	boxes   [2]mailstore.MailboxID
	state   [2]shelf  // what is acknowledged
	maybe   *[2]shelf // what the last change made of it, when its ending is unknown
	texts   int
	refused int
}

// shelf is a mailbox: what was ever put into it, and what is there.
type shelf struct {
	next mailstore.UID
	has  map[mailstore.UID]string // text and flags
}

func (s shelf) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "next %d:", s.next)
	for _, uid := range slices.Sorted(maps.Keys(s.has)) {
		fmt.Fprintf(&b, " %d=%s", uid, s.has[uid])
	}
	return b.String()
}

func newReader(s *sim, r *rand.Rand) *reader {
	c := &reader{s: s, r: r}
	s.open()
	s.must(s.store.Update(context.Background(), func(tx *mailstore.Tx) error {
		c.boxes[0] = s.boxes["carol"]
		a, err := tx.AccountByAddress("carol@crepes.fr")
		if err != nil {
			return err
		}
		box, err := tx.CreateMailbox(a.ID, "Files", "")
		c.boxes[1] = box.ID
		return err
	}))
	s.close()
	for i := range c.state {
		c.state[i] = shelf{next: 1, has: make(map[mailstore.UID]string)}
	}
	return c
}

func (c *reader) run() {
	for range 15 + c.r.IntN(15) {
		<-time.After(time.Duration(c.r.IntN(60)) * time.Second)
		c.s.swap(c.step)
	}
}

// step is one change. One that failed for now has changed nothing; one that
// the process did not survive may have been made or not.
func (c *reader) step() {
	if c.maybe != nil {
		return // the process is dead, and nobody has noticed
	}
	next := [2]shelf{{c.state[0].next, maps.Clone(c.state[0].has)}, {c.state[1].next, maps.Clone(c.state[1].has)}}
	body, err := c.body()
	if err != nil {
		return
	}
	defer body.Release()
	err = c.s.store.Update(context.Background(), func(tx *mailstore.Tx) error { return c.change(tx, &next, body) })
	switch {
	case err == nil:
		c.state = next
	case errors.Is(err, mailstore.ErrFull) || errors.Is(err, mailstore.ErrNotWritten):
		c.refused++
		c.compare()
	case errors.Is(err, mailstore.ErrFailed):
		c.maybe = &next
	default:
		c.s.bad("carol: %v", err)
	}
}

func (c *reader) body() (*mailstore.Body, error) {
	w := c.s.store.NewBody()
	defer w.Abort()
	c.texts++
	if _, err := fmt.Fprintf(w, "text %d", c.texts); err != nil {
		return nil, err
	}
	return w.Commit()
}

// change does one thing to the store, and to what must be there after it.
func (c *reader) change(tx *mailstore.Tx, next *[2]shelf, body *mailstore.Body) error {
	from := c.r.IntN(2)
	here, there := &next[from], &next[1-from]
	var uids []mailstore.UID
	for _, uid := range slices.Sorted(maps.Keys(here.has)) {
		if c.r.IntN(2) == 0 {
			uids = append(uids, uid)
		}
	}
	switch kind := c.r.IntN(6); {
	case kind < 2 || len(uids) == 0:
		uid, err := tx.Append(c.boxes[from], mailstore.NewMessage{Body: body})
		here.put(uid, fmt.Sprintf("text %d", c.texts))
		return err
	case kind == 2:
		flag := fmt.Sprintf("k%d", c.r.IntN(100))
		_, _, err := tx.SetFlags(c.boxes[from], uids, mailstore.ReplaceFlags, mailstore.Flags{Keywords: []string{flag}}, 0)
		for _, uid := range uids {
			text, _, _ := strings.Cut(here.has[uid], "|")
			here.has[uid] = text + "|" + flag
		}
		return err
	case kind == 3:
		_, err := tx.Expunge(c.boxes[from], uids)
		here.drop(uids)
		return err
	default:
		do := tx.Copy
		if kind == 4 {
			do = tx.Move
		}
		src, dst, err := do(c.boxes[from], uids, c.boxes[1-from])
		if err != nil {
			return err
		}
		for i := range src {
			there.put(dst[i], here.has[src[i]])
		}
		if kind == 4 {
			here.drop(uids)
		}
		return nil
	}
}

func (s *shelf) put(uid mailstore.UID, what string) {
	s.has[uid] = what
	s.next = max(s.next, uid+1)
}

func (s *shelf) drop(uids []mailstore.UID) {
	for _, uid := range uids {
		delete(s.has, uid)
	}
}

// compare looks at what is there.
func (c *reader) compare() {
	var got [2]shelf
	var messages []mailstore.Message
	err := c.s.store.View(context.Background(), func(v *mailstore.View) error {
		for i, id := range c.boxes {
			box, err := v.Mailbox(id)
			if err != nil {
				return err
			}
			got[i] = shelf{next: box.UIDNext, has: make(map[mailstore.UID]string)}
			if err := v.Messages(id, 1, 0, func(m mailstore.Message) bool {
				messages = append(messages, m)
				return true
			}); err != nil {
				return err
			}
		}
		return nil
	})
	for _, m := range messages {
		content, oerr := c.s.store.OpenMessage(context.Background(), m)
		if err = errors.Join(err, oerr); oerr != nil {
			continue
		}
		text := make([]byte, content.Size())
		_, _ = content.ReadAt(text, 0)
		err = errors.Join(err, content.Close())
		what := string(text)
		if len(m.Flags.Keywords) > 0 {
			what += "|" + m.Flags.Keywords[0]
		}
		got[slices.Index(c.boxes[:], m.Mailbox)].has[m.UID] = what
	}
	switch now := fmt.Sprint(got); {
	case err != nil:
		c.s.bad("carol reads: %v", err)
	case now == fmt.Sprint(c.state):
	case c.maybe != nil && now == fmt.Sprint(*c.maybe):
		c.state = *c.maybe
	default:
		c.s.bad("carol has %v\nand should have %v\nor %v", got, c.state, c.maybe)
	}
	c.maybe = nil
}

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestSimulationR10: whatever disk, network, clock and operator do, each
// acknowledged change is in effect, each letter ends once, and all invariants
// hold. SEED=n plays one seed, SEEDS=m so many from the first on, both of them
// m seeds from n on.
func TestSimulationR10(t *testing.T) {
	first, seeds := uint64(1), number(t, "SEEDS", 1000)
	if os.Getenv("POSTRIDER_TORTURE") != "" {
		seeds = number(t, "SEEDS", 1_000_000)
	}
	if one := number(t, "SEED", 0); one != 0 {
		first, seeds = one, number(t, "SEEDS", 1)
	}
	log := slog.New(slog.DiscardHandler)
	if seeds == 1 {
		log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	var sum tally
	t.Cleanup(func() { // after the workers
		t.Logf("%d seeds: %d commits, %d deaths of the process, %d letters, %d recipients delivered, %d changes of a mailbox, %d of them refused",
			seeds, sum.commits.Load(), sum.deaths.Load(), sum.letters.Load(), sum.taken.Load(), sum.changes.Load(), sum.refusals.Load())
	})
	var next, failed atomic.Uint64
	began := time.Now()
	for worker := range min(uint64(runtime.GOMAXPROCS(0)), seeds) {
		t.Run(fmt.Sprint(worker), func(t *testing.T) {
			t.Parallel()
			for {
				n := next.Add(1) - 1
				if n >= seeds || failed.Load() > 10 {
					return
				}
				if n > 0 && n%50_000 == 0 {
					t.Logf("%d seeds in %v", n, time.Since(began).Round(time.Second))
				}
				var problems []string
				synctest.Test(t, func(t *testing.T) { problems = simulate(t, first+n, log, &sum) })
				if len(problems) > 0 {
					failed.Add(1)
					t.Errorf("seed %d: %s\nto play it again: make torture GATE=R10 SEED=%[1]d", first+n, strings.Join(problems, "\n"))
				}
			}
		})
	}
}
