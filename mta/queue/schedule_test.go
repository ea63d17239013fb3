package queue

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postrider/internal/clock"
	"postrider/mta"
)

// jumpClock is a clock whose wall time can be set; its timers and Elapsed go on
// as ever.
type jumpClock struct {
	clock.Clock
	start time.Time
	mu    sync.Mutex
	ahead time.Duration
}

func newJumpClock() *jumpClock { return &jumpClock{Clock: clock.System(), start: time.Now()} }

func (c *jumpClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Round(0).Add(c.ahead)
}

func (c *jumpClock) Elapsed() time.Duration { return time.Since(c.start) }

func (c *jumpClock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

func TestTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newJumpClock()
		line := newTimeline(c)
		begin := time.Now()
		for _, s := range []struct {
			jump, want time.Duration // want: how far ahead of undisturbed time
		}{
			{0, 0}, {-time.Hour, 0}, {-time.Minute, 0}, {time.Hour, 0}, {time.Hour, time.Hour - time.Minute},
			{10 * 365 * 24 * time.Hour, 10*365*24*time.Hour + time.Hour - time.Minute},
			{-10 * 365 * 24 * time.Hour, 10*365*24*time.Hour + time.Hour - time.Minute},
		} {
			<-time.After(time.Minute)
			c.jump(s.jump)
			if got := line.now().Sub(begin.Round(0)) - time.Since(begin); got != s.want {
				t.Errorf("after a jump of %v: ahead by %v, want %v", s.jump, got, s.want)
			}
		}
		if got := line.shown(line.now()); !got.Equal(c.Now()) {
			t.Errorf("shown: %v, wall %v", got, c.Now())
		}
	})
}

func TestExpired(t *testing.T) {
	s := schedule{retry: []time.Duration{time.Minute, time.Hour}, expire: 24 * time.Hour}
	expires := time.Unix(1e9, 0)
	for _, c := range []struct {
		after    time.Duration // now, after expires
		attempts int
		want     bool
	}{
		{-time.Second, 25, false}, {0, 25, true}, {0, 13, false}, {0, 14, true},
		{10 * 365 * 24 * time.Hour, 3, false}, {10 * 365 * 24 * time.Hour, 25, true},
		{-10 * 365 * 24 * time.Hour, 73, false}, {-10 * 365 * 24 * time.Hour, 74, true},
	} {
		if got := s.expired(expires.Add(c.after), expires, c.attempts); got != c.want {
			t.Errorf("%v after, %d attempts: %v", c.after, c.attempts, got)
		}
	}
	if got := s.served(1 << 40); got <= 0 {
		t.Errorf("served overflows: %v", got)
	}
}

// Waits that are short beside the time of expiry end too, and long ones do not
// overflow.
func TestServed(t *testing.T) {
	for _, c := range []struct {
		last time.Duration
		n    int
		want time.Duration
	}{
		{time.Second, 5 * 24 * 3600, 5*24*time.Hour - time.Second},
		{365 * 24 * time.Hour, 1 << 30, math.MaxInt64},
		{0, 1 << 30, 0},
	} {
		s := schedule{retry: []time.Duration{c.last}}
		if got := s.served(c.n); got != c.want {
			t.Errorf("before attempt %d with waits of %v: %v, want %v", c.n, c.last, got, c.want)
		}
	}
}

// TestClockSetBack: an hour back stalls neither what waits in memory nor what
// waits in the store, with and without a restart.
func TestClockSetBack(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := newJumpClock()
			f := newFixture(t, Options{Clock: c, DelayNotice: -1})
			defer f.close()
			f.deliver.answer = says(450, "4.2.1", "busy")
			f.run()
			f.send("alice@crepes.fr", "x@far.example")
			f.pass(52 * time.Minute) // next attempt at 1h51m
			f.send("alice@crepes.fr", "y@near.example")
			f.pass(2 * time.Second) // next attempt after a minute
			c.jump(-time.Hour)
			if restart {
				f.restart()
				f.run()
			}
			before := len(f.deliver.attempts())
			f.pass(62 * time.Minute)
			count := make(map[string]int)
			for _, a := range f.deliver.attempts()[before:] {
				count[a.to[0]]++
			}
			if count["x@far.example"] != 1 || count["y@near.example"] != 4 {
				t.Errorf("restart %v: attempts in the hour: %v", restart, count)
			}
		})
	}
}

// TestClockSetAhead: ten years ahead, nothing expires before it was tried for
// long enough; it is tried and goes on.
func TestClockSetAhead(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := newJumpClock()
			f := newFixture(t, Options{Clock: c})
			defer f.close()
			f.deliver.answer = says(450, "4.2.1", "busy")
			f.run()
			f.send("alice@crepes.fr", "x@far.example")
			f.send("alice@crepes.fr", "y@near.example")
			f.pass(time.Hour)
			c.jump(10 * 365 * 24 * time.Hour)
			if restart {
				f.restart()
				f.run()
			}
			f.pass(time.Minute)
			if n := len(f.inbox("alice")); n != 0 {
				t.Fatalf("restart %v: %d reports right after the jump", restart, n)
			}
			f.deliver.recover()
			f.pass(5 * time.Hour)
			if n := f.length(); n != 0 {
				t.Errorf("restart %v: %d not delivered", restart, n)
			}
		})
	}
}

// TestServerWasOff: a server that was off for longer than the time of expiry
// tries for a while before it gives up.
func TestServerWasOff(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.deliver.answer = silence
		f.run()
		f.send("alice@crepes.fr", "x@far.example")
		f.pass(time.Hour)
		f.restart()
		<-time.After(6 * 24 * time.Hour)
		f.run()
		f.pass(24 * time.Hour)
		for _, s := range f.inbox("alice") {
			if strings.Contains(s, "Action: failed") {
				t.Fatal("given up at once")
			}
		}
		f.pass(3 * 24 * time.Hour)
		if f.length() != 0 || len(f.inbox("alice")) != 2 {
			t.Errorf("%d left, %d reports", f.length(), len(f.inbox("alice")))
		}
	})
}

// TestDeadDomain: a domain that does not answer is tried by one message at a
// time, and others are not held up by it.
func TestDeadDomain(t *testing.T) {
	bubble(t, Options{Concurrency: 10, PerDomain: 5, DelayNotice: -1}, func(f *fixture) {
		hang := func(ctx context.Context, d *mta.Delivery) error {
			if d.To[0].Address.Domain != "dead.example" {
				return d.Record([]mta.Outcome{took(d.To[0].Address)})
			}
			select {
			case <-time.After(time.Minute):
			case <-ctx.Done():
				return ctx.Err()
			}
			return d.Record([]mta.Outcome{silence(d, d.To[0].Address)})
		}
		f.deliver.deliver = hang
		f.run()
		for i := range 200 {
			f.send("alice@crepes.fr", fmt.Sprintf("u%d@dead.example", i))
		}
		f.send("alice@crepes.fr", "x@live.example")
		synctest.Wait()
		seen := f.deliver.attempts()
		if len(seen) != 6 || !slices.ContainsFunc(seen, func(a attempted) bool { return a.to[0] == "x@live.example" }) {
			t.Errorf("attempts: %+v", seen)
		}
		f.pass(3 * time.Hour)
		if s := f.q.Stats(); s.Suspended != 1 {
			t.Errorf("stats: %+v", s)
		}
		var dead int
		for _, a := range f.deliver.attempts() {
			if a.d.To[0].Address.Domain == "dead.example" {
				dead++
			}
		}
		// Five at first, then one each 1, 5, 15, 15 ... minutes and one that it lasts.
		if dead < 10 || dead > 25 {
			t.Errorf("%d attempts at a dead domain in three hours", dead)
		}
		for _, i := range f.items() {
			if r := i.Recipients[0]; r.Attempts < 5 || !strings.Contains(r.Reply, "4.4.1") {
				t.Fatalf("recipient of a suspended domain: %+v", r)
			}
		}
		f.deliver.recover()
		f.pass(5 * time.Hour)
		if n := f.length(); n != 0 {
			t.Errorf("%d not delivered after the domain came back", n)
		}
	})
}

// TestTarpit: a domain that takes connections and says nothing is suspended after
// some attempts; one message that breaks connections does not suspend it.
func TestTarpit(t *testing.T) {
	bubble(t, Options{PerDomain: 1, DelayNotice: -1}, func(f *fixture) {
		f.deliver.answer = func(d *mta.Delivery, to mta.Address) mta.Outcome {
			if to.Domain == "tarpit.example" || to.Local == "poison" {
				return mta.Outcome{Reply: mta.Errorf(451, "4.4.2", "took too long over the greeting")}
			}
			return took(to)
		}
		f.run()
		for i := range 20 {
			f.send("alice@crepes.fr", fmt.Sprintf("u%d@tarpit.example", i))
			f.pass(time.Second)
		}
		if n := len(f.deliver.attempts()); n != 3 {
			t.Errorf("%d attempts", n)
		}
		for i := range 20 {
			f.send("alice@crepes.fr", "poison@good.example")
			f.send("alice@crepes.fr", fmt.Sprintf("u%d@good.example", i))
			f.pass(time.Second)
		}
		if n := len(f.deliver.attempts()); n != 43 {
			t.Errorf("%d attempts", n)
		}
	})
}

// TestSuspendedDomainExpires: what expires while its domain does not answer is
// given up once the domain was tried after that time.
func TestSuspendedDomainExpires(t *testing.T) {
	bubble(t, Options{Expire: 6 * time.Hour, DelayNotice: -1}, func(f *fixture) {
		f.deliver.answer = silence
		f.run()
		for i := range 50 {
			f.send("alice@crepes.fr", fmt.Sprintf("u%d@dead.example", i))
		}
		f.pass(5*time.Hour + 59*time.Minute)
		if n := f.length(); n != 50 {
			t.Errorf("%d left before the time", n)
		}
		f.pass(30 * time.Minute)
		if n := f.length(); n != 0 {
			t.Errorf("%d left after it", n)
		}
		if n := len(f.inbox("alice")); n != 50 {
			t.Errorf("%d reports", n)
		}
	})
}

// TestRoutingFailures: what Hops answers is an outcome as any other.
func TestRoutingFailures(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.router.hops = func(domain string) ([]mta.Hop, error) {
			switch domain {
			case "gone.example":
				return nil, mta.Errorf(550, "5.1.2", "The domain does not exist")
			case "nodns.example":
				return nil, mta.Errorf(451, "4.4.3", "The name server does not answer")
			}
			return nil, fmt.Errorf("out of sockets")
		}
		f.run()
		f.send("alice@crepes.fr", "x@gone.example", "x@nodns.example", "x@odd.example")
		synctest.Wait()
		if got := f.inbox("alice"); len(got) != 1 || !strings.Contains(got[0], "Final-Recipient: rfc822; x@gone.example") || strings.Contains(got[0], "Remote-MTA") {
			t.Errorf("reports: %q", got)
		}
		f.router.mu.Lock()
		f.router.hops = nil
		f.router.mu.Unlock()
		f.pass(2 * time.Minute)
		if n := f.length(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// TestFairness: domains take turns, however much one has.
func TestFairness(t *testing.T) {
	bubble(t, Options{Concurrency: 2, PerDomain: 2}, func(f *fixture) {
		f.deliver.deliver = func(_ context.Context, d *mta.Delivery) error {
			<-time.After(time.Second)
			return d.Record([]mta.Outcome{took(d.To[0].Address)})
		}
		for i := range 100 {
			f.send("alice@crepes.fr", fmt.Sprintf("u%d@big.example", i))
		}
		for i := range 3 {
			f.send("alice@crepes.fr", fmt.Sprintf("u%d@small.example", i), fmt.Sprintf("u%d@tiny.example", i))
		}
		f.run()
		f.pass(10 * time.Second)
		count := make(map[string]int)
		for _, a := range f.deliver.attempts() {
			count[a.d.To[0].Address.Domain]++
		}
		if count["small.example"] != 3 || count["tiny.example"] != 3 {
			t.Errorf("attempts in ten seconds: %v", count)
		}
		f.pass(time.Minute)
		if n := f.length(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// TestSmallMemory: a queue that is much larger than memory is delivered whole,
// each recipient once, and fresh mail for another domain does not wait for it.
func TestSmallMemory(t *testing.T) {
	bubble(t, Options{Active: 40, Concurrency: 10, PerDomain: 3}, func(f *fixture) {
		f.deliver.deliver = func(_ context.Context, d *mta.Delivery) error {
			<-time.After(100 * time.Millisecond)
			out := make([]mta.Outcome, len(d.To))
			for i, t := range d.To {
				out[i] = took(t.Address)
			}
			return d.Record(out)
		}
		f.run()
		for i := range 1000 {
			f.send("alice@crepes.fr", fmt.Sprintf("u%d@big.example", i), fmt.Sprintf("u%d@d%d.example", i, i%7))
			if s := f.q.Stats(); s.Active > 40 {
				t.Fatalf("stats: %+v", s)
			}
		}
		f.pass(time.Second)
		begin := time.Now()
		f.send("alice@crepes.fr", "fresh@other.example")
		f.pass(10 * time.Second)
		seen := f.deliver.attempts()
		i := slices.IndexFunc(seen, func(a attempted) bool { return a.to[0] == "fresh@other.example" })
		if i < 0 || seen[i].at.Sub(begin) > time.Second {
			t.Errorf("fresh mail waits behind the backlog of others")
		}
		f.pass(5 * time.Minute)
		if n := f.length(); n != 0 {
			t.Errorf("%d left", n)
		}
		f.exactlyOnce()
	})
}

// exactlyOnce checks that no recipient was in two attempts.
func (f *fixture) exactlyOnce() {
	f.Helper()
	times := make(map[string]int)
	for _, a := range f.deliver.attempts() {
		for _, s := range a.to {
			if times[a.d.ID+" "+s]++; times[a.d.ID+" "+s] > 1 {
				f.Errorf("%s to %s: more than one attempt", a.d.ID, s)
			}
		}
	}
}

// TestShutdown: Run lets attempts finish for a time, interrupts the others and
// leaves them in the queue.
func TestShutdown(t *testing.T) {
	bubble(t, Options{Grace: 20 * time.Second}, func(f *fixture) {
		f.deliver.deliver = func(ctx context.Context, d *mta.Delivery) error {
			long := 10 * time.Second
			if d.To[0].Address.Local == "slow" {
				long = time.Hour
			}
			select {
			case <-time.After(long):
				return d.Record([]mta.Outcome{took(d.To[0].Address)})
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		f.run()
		f.send("alice@crepes.fr", "quick@far.example")
		f.send("alice@crepes.fr", "slow@far.example")
		synctest.Wait()
		begin := time.Now()
		f.restart()
		if d := time.Since(begin); d != 20*time.Second {
			t.Errorf("the end took %v", d)
		}
		items := f.items()
		if len(items) != 1 || items[0].Recipients[0].Address != "slow@far.example" || items[0].Recipients[0].Attempts != 0 {
			t.Fatalf("left: %+v", items)
		}
		f.deliver.recover()
		f.run()
		synctest.Wait()
		if n := f.length(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// TestPartial: what a peer took before the attempt broke is not sent again.
func TestPartial(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		first := true
		f.deliver.deliver = func(ctx context.Context, d *mta.Delivery) error {
			if !first {
				out := make([]mta.Outcome, len(d.To))
				for i, t := range d.To {
					out[i] = took(t.Address)
				}
				return d.Record(out)
			}
			first = false
			out := []mta.Outcome{took(d.To[0].Address), {}, {}}
			if err := d.Partial(out); err != nil {
				return err
			}
			return nil // without Record: a fault of the deliverer
		}
		f.run()
		f.send("alice@crepes.fr", "a@far.example", "b@far.example", "c@far.example")
		synctest.Wait()
		if n := f.length(); n != 2 {
			t.Errorf("%d left after a partial outcome", n)
		}
		f.pass(time.Minute)
		seen := f.deliver.attempts()
		if len(seen) != 2 || !slices.Equal(seen[1].to, []string{"b@far.example", "c@far.example"}) {
			t.Errorf("attempts: %+v", seen)
		}
		if n := f.length(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// TestReportAboutLargeMessage: a report about a message in a file reads it there.
func TestReportAboutLargeMessage(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.deliver.answer = says(552, "5.3.4", "too large")
		f.run()
		env := f.envelope("alice@crepes.fr", "x@far.example")
		env.Options.Return = "FULL"
		text := letterText + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 20000)
		f.must(f.accept(env, text))
		synctest.Wait()
		got := f.inbox("alice")
		if len(got) != 1 || !strings.Contains(got[0], "text/rfc822-headers") || len(got[0]) > 5000 {
			t.Fatalf("%d reports", len(got))
		}
		env = f.envelope("alice@crepes.fr", "x@far.example")
		env.Options.Return = "FULL"
		text = text[:maxReturned/2] + "\r\n"
		f.must(f.accept(env, text))
		synctest.Wait()
		got = f.inbox("alice")
		if len(got) != 2 || !strings.Contains(got[1], "Content-Type: message/rfc822\r\n") || !strings.Contains(got[1], text) {
			t.Errorf("the message is not returned whole")
		}
	})
}

// TestDomainComesBack: when a domain answers after a long time, its mail need
// not wait out the schedule, be it in memory or only in the store.
func TestDomainComesBack(t *testing.T) {
	bubble(t, Options{Active: 30, DelayNotice: -1}, func(f *fixture) {
		f.deliver.answer = silence
		f.run()
		for i := range 100 {
			f.send("alice@crepes.fr", fmt.Sprintf("u%d@dead.example", i))
			f.pass(time.Second)
		}
		f.pass(10 * time.Hour)
		if n := f.length(); n != 100 {
			t.Fatalf("%d left", n)
		}
		f.deliver.recover()
		f.send("alice@crepes.fr", "fresh@dead.example")
		f.pass(16 * time.Minute)
		if n := f.length(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// TestBusyPeer: a peer that allows few connections gets few.
func TestBusyPeer(t *testing.T) {
	bubble(t, Options{PerDomain: 20}, func(f *fixture) {
		var mu sync.Mutex
		open, refused := 0, 0
		f.deliver.deliver = func(_ context.Context, d *mta.Delivery) error {
			mu.Lock()
			open++
			many := open > 3
			if many {
				refused++
			}
			mu.Unlock()
			<-time.After(time.Second)
			mu.Lock()
			open--
			mu.Unlock()
			if many {
				return d.Record([]mta.Outcome{says(421, "4.7.0", "too many connections")(d, d.To[0].Address)})
			}
			return d.Record([]mta.Outcome{took(d.To[0].Address)})
		}
		f.run()
		for i := range 300 {
			f.send("alice@crepes.fr", fmt.Sprintf("u%d@busy.example", i))
		}
		f.pass(30 * time.Minute)
		if n := f.length(); n != 0 {
			t.Errorf("%d left", n)
		}
		if refused > 150 {
			t.Errorf("refused %d times for 300 messages", refused)
		}
	})
}

// TestPanicOfTheDeliverer: a message that makes the client panic is a message
// that is tried again, not the end of the server.
func TestPanicOfTheDeliverer(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.deliver.deliver = func(context.Context, *mta.Delivery) error { panic("a bug") }
		f.run()
		id := f.send("alice@crepes.fr", "x@far.example")
		synctest.Wait()
		f.want(f.state(id), "x@far.example waiting")
		f.deliver.recover()
		f.pass(time.Minute)
		f.want(f.state(id), ErrNotFound.Error())
	})
}

// TestBusy: mail is due from when its time has come until Run has looked, and
// then there is an attempt until its outcome is written.
func TestBusy(t *testing.T) {
	c := newJumpClock()
	bubble(t, Options{Clock: c}, func(f *fixture) {
		busy := func(due, trying bool) {
			t.Helper()
			if d, a := f.q.Busy(); d != due || a != trying {
				t.Errorf("due %v, trying %v", d, a)
			}
		}
		busy(false, false)
		f.run()
		synctest.Wait()
		busy(false, false)
		answer := make(chan struct{})
		f.deliver.deliver = func(_ context.Context, d *mta.Delivery) error {
			<-answer
			return d.Record([]mta.Outcome{silence(d, d.To[0].Address)})
		}
		f.send("alice@crepes.fr", "bob@hamburger.edu")
		synctest.Wait()
		busy(false, true)
		answer <- struct{}{}
		synctest.Wait()
		busy(false, false)
		c.jump(2 * time.Hour) // which Run's timer does not know of
		busy(true, false)
		f.q.nudge()
		synctest.Wait()
		busy(false, true)
		close(answer)
	})
}

// setClock is a jumpClock that is set ahead once, just before a timer is set.
type setClock struct {
	*jumpClock
	by atomic.Int64
}

type setTimer struct {
	clock.Timer
	clock *setClock
}

func (c *setClock) NewTimer(d time.Duration) clock.Timer {
	return &setTimer{c.jumpClock.NewTimer(d), c}
}

func (t *setTimer) Reset(d time.Duration) bool {
	t.clock.jump(time.Duration(t.clock.by.Swap(0)))
	return t.Timer.Reset(d)
}

// TestSetWhileLooking: a clock that is set ahead while Run looks for what is next
// makes nothing late.
func TestSetWhileLooking(t *testing.T) {
	c := &setClock{jumpClock: newJumpClock()}
	bubble(t, Options{Clock: c, Retry: []time.Duration{10 * time.Minute}}, func(f *fixture) {
		f.deliver.answer = silence
		f.run()
		synctest.Wait()
		c.by.Store(int64(time.Hour))
		f.send("alice@crepes.fr", "bob@hamburger.edu")
		synctest.Wait()
		if n := len(f.deliver.attempts()); n != 2 {
			t.Errorf("%d attempts", n)
		}
	})
}
