package server

import (
	"hash/maphash"
	"net/netip"
	"sync"
)

// RateLimit bounds how often clients of one network get answers over UDP, so
// that nobody can have us flood an address that is not the sender's. Clients of
// Exempt networks and those that showed a cookie of ours are not counted.
type RateLimit struct {
	// PerSecond is how many answers of one kind (one name, or one zone's
	// denials) an IPv4 /24 or an IPv6 /56 gets; 0 = no limits at all.
	PerSecond int
	// AllPerSecond is how many answers of all kinds together; 0 = ten times
	// PerSecond.
	AllPerSecond int
	// Slip: of so many answers that are due and not given one is sent without
	// records and with TC, so that a real client of a flooded network can ask
	// over TCP; 0 = 2; below 0 = none.
	Slip   int
	Exempt []netip.Prefix
}

const (
	limitShards = 64
	limitWays   = 4
	// limitBuckets is how many counters there are in all; of many more
	// networks and names the ones longest unused are forgotten.
	limitBuckets = 1 << 17
	// limitDebt is how many seconds of its rate a flood has to pause before
	// answers flow again.
	limitDebt = 3
)

// limited is what becomes of an answer.
type limited int

const (
	send limited = iota
	slip         // TC, no records
	withhold
)

// limiter counts answers in a table that does not grow.
type limiter struct {
	RateLimit
	seed   maphash.Seed
	shards *[limitShards]limitShard // shared by the settings that follow each other
}

type limitShard struct {
	mu   sync.Mutex
	sets [limitBuckets / limitShards / limitWays][limitWays]bucket
}

// bucket holds tokens, in thousandths: what may be sent at once.
type bucket struct {
	key     uint64 // 0: free
	last    int64  // nanoseconds
	tokens  int64
	skipped uint32
}

// newLimiter returns nil where there is no limit.
func newLimiter(o RateLimit) *limiter {
	if o.PerSecond <= 0 {
		return nil
	}
	if o.AllPerSecond == 0 {
		o.AllPerSecond = 10 * o.PerSecond
	}
	if o.Slip == 0 {
		o.Slip = 2
	}
	return &limiter{RateLimit: o, seed: maphash.MakeSeed(), shards: new([limitShards]limitShard)}
}

func (l *limiter) exempt(a netip.Addr) bool {
	return contains(l.Exempt, a)
}

// contains tells whether one of the networks has the address.
func contains(networks []netip.Prefix, a netip.Addr) bool {
	for _, p := range networks {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// network is the unit in which clients are counted.
func (l *limiter) network(a netip.Addr) uint64 {
	var in [17]byte
	n := 0
	if a.Is4() {
		v := a.As4()
		n = copy(in[:], v[:3])
	} else {
		v := a.As16()
		in[16] = 6
		copy(in[:], v[:7])
		n = len(in)
	}
	return maphash.Bytes(l.seed, in[:n]) | 1
}

// judge counts an answer of a kind to an address.
func (l *limiter) judge(a netip.Addr, kind uint64, now int64) limited {
	if l == nil || l.exempt(a) {
		return send
	}
	net := l.network(a)
	all := l.take(net, l.AllPerSecond, now)
	one := l.take(net*0x9e3779b97f4a7c15^kind|1, l.PerSecond, now)
	return max(all, one)
}

func (l *limiter) take(key uint64, rate int, now int64) limited {
	if rate <= 0 {
		return send
	}
	shard := &l.shards[key>>58]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	set := &shard.sets[key>>8%uint64(len(shard.sets))]
	b := &set[0]
	for i := range set {
		if set[i].key == key {
			b = &set[i]
			break
		}
		if set[i].last < b.last {
			b = &set[i] // the one longest unused, or free
		}
	}
	full := int64(rate) * 1000
	if b.key != key {
		*b = bucket{key: key, last: now, tokens: full}
	}
	if passed := now - b.last; passed > 0 {
		passed = min(passed, int64(limitDebt+2)*1e9)
		b.tokens = min(b.tokens+passed/1000*int64(rate)/1000, full)
		b.last = now
	}
	b.tokens = max(b.tokens-1000, -limitDebt*full)
	if b.tokens >= 0 {
		b.skipped = 0
		return send
	}
	b.skipped++
	if l.Slip > 0 && int(b.skipped)%l.Slip == 0 {
		return slip
	}
	return withhold
}
