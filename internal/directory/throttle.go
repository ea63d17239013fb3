package directory

import (
	"context"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"postrider/internal/clock"
	"postrider/internal/wire"
	"postrider/mta"
)

const (
	// maxPenalties bounds each table of failures, and maxTrusted that of
	// networks from which accounts logged in.
	maxPenalties = 10_000
	maxTrusted   = 10_000
	// evictionSample is how many entries are looked at to find one to drop.
	evictionSample = 8
	// trustFor is how long a login makes its network known.
	trustFor = 30 * 24 * time.Hour
	// firstDelay doubles with each failure up to maxDelay.
	firstDelay = time.Second
	maxDelay   = 16 * time.Second
	// maxPatience is how long one attempt waits in all before it is refused.
	maxPatience = 30 * time.Second
)

// who is one attempt to log in.
type who struct {
	network netip.Prefix // zero for a UNIX socket, which is not counted
	address mta.Address  // folded; zero for a name that no account can have
	name    uint64       // hash of the name, which may be of nobody
}

// throttle slows guessing. It counts failures of names that exist and of names
// that do not alike.
type throttle struct {
	clock clock.Clock
	seed  maphash.Seed

	mu        sync.Mutex
	perMinute int // 0 = off
	networks  map[netip.Prefix]*penalty
	names     map[uint64]*penalty
	trusted   map[trust]time.Time // until when
}

// trust is an account name and a network from which it logged in.
type trust struct {
	network netip.Prefix
	name    uint64
}

// penalty counts the failures within a minute from the first one.
type penalty struct {
	failures int
	since    time.Time
	next     time.Time // no attempt before it
}

func newThrottle(c clock.Clock, perMinute int) *throttle {
	return &throttle{
		clock:     c,
		seed:      maphash.MakeSeed(),
		perMinute: perMinute,
		networks:  make(map[netip.Prefix]*penalty),
		names:     make(map[uint64]*penalty),
		trusted:   make(map[trust]time.Time),
	}
}

func (t *throttle) setLimit(perMinute int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.perMinute = perMinute
}

// attempt names who tries: by the address where the name is one, so that all
// its spellings count as one, else by the name.
func (t *throttle) attempt(from netip.Addr, name string, address mta.Address) who {
	w := who{network: wire.Network(from), address: address}
	if address.IsZero() {
		w.name = maphash.String(t.seed, name)
	} else {
		w.name = maphash.String(t.seed, key(address))
	}
	return w
}

// wait returns when w may try, or ErrTooManyLogins.
func (t *throttle) wait(ctx context.Context, w who) error {
	var waited time.Duration
	for {
		d, err := t.delay(w)
		if err != nil || d == 0 {
			return err
		}
		if waited += d; waited > maxPatience {
			return ErrTooManyLogins
		}
		timer := t.clock.NewTimer(d)
		select {
		case <-timer.Chan():
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// delay is how long w has to wait from now on; 0 = go.
func (t *throttle) delay(w who) (time.Duration, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.perMinute <= 0 {
		return 0, nil
	}
	now := t.clock.Now()
	d, err := t.delayLocked(t.networks[w.network], now)
	if err != nil {
		return 0, err
	}
	if now.Before(t.trusted[trust{w.network, w.name}]) {
		return d, nil
	}
	byName, err := t.delayLocked(t.names[w.name], now)
	return max(d, byName), err
}

func (t *throttle) delayLocked(p *penalty, now time.Time) (time.Duration, error) {
	if p == nil {
		return 0, nil
	}
	if p.expire(now); p.failures >= t.perMinute {
		return 0, ErrTooManyLogins
	}
	// A clock that was set back by a day does not lock anybody out for one.
	return max(0, min(p.next.Sub(now), maxDelay)), nil
}

func (p *penalty) expire(now time.Time) {
	switch age := now.Sub(p.since); {
	case age >= time.Minute:
		*p = penalty{}
	case age < 0: // the clock was set back
		p.since = now
	}
}

// fail counts a failed attempt; it tells whether that was one too many.
func (t *throttle) fail(w who) (closed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.perMinute <= 0 {
		return false
	}
	now := t.clock.Now()
	delete(t.trusted, trust{w.network, w.name})
	if w.network.IsValid() {
		closed = t.punishLocked(entry(t.networks, w.network, now), now)
	}
	return t.punishLocked(entry(t.names, w.name, now), now) || closed
}

func (t *throttle) punishLocked(p *penalty, now time.Time) (closed bool) {
	p.expire(now)
	if p.failures == 0 {
		p.since = now
	}
	p.failures++
	delay := time.Duration(0)
	for n := t.perMinute / 2; n < p.failures && delay < maxDelay; n++ {
		delay = max(2*delay, firstDelay)
	}
	p.next = now.Add(min(delay, maxDelay))
	return p.failures >= t.perMinute
}

// succeed notes that w logged in. It forgives nothing: who has one account
// could else guess at others for ever.
func (t *throttle) succeed(w who) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.perMinute <= 0 {
		return
	}
	k := trust{w.network, w.name}
	if _, ok := t.trusted[k]; !ok && len(t.trusted) >= maxTrusted {
		for any := range t.trusted {
			delete(t.trusted, any)
			break
		}
	}
	t.trusted[k] = t.clock.Now().Add(trustFor)
}

// entry finds or makes the penalty of k. A full table loses the least of a few:
// names made up to fill it weigh less than one that is being guessed at.
func entry[K comparable](table map[K]*penalty, k K, now time.Time) *penalty {
	if p := table[k]; p != nil {
		return p
	}
	if len(table) >= maxPenalties {
		var victim K
		var least *penalty
		looked := 0
		for candidate, p := range table {
			p.expire(now)
			if least == nil || p.failures < least.failures {
				victim, least = candidate, p
			}
			if looked++; looked == evictionSample {
				break
			}
		}
		delete(table, victim)
	}
	p := new(penalty)
	table[k] = p
	return p
}
