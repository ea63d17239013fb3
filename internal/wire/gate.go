package wire

import (
	"net/netip"
	"sync"
	"time"

	"postrider/internal/clock"
)

const (
	// maxLeaving is how many evicted connections may be on their way out at
	// once; beyond it new connections are refused instead.
	maxLeaving = 64
	// starvedFor is how long a process that ran out of file descriptors counts
	// as crowded.
	starvedFor = time.Minute
)

// Gate bounds the connections of all listeners of one process together. It is
// safe for concurrent use.
//
// Above the bound for an address new connections from there are refused. Above
// the bound for all, the oldest connection that has not logged in makes room
// for the new one; where all have logged in, the new one is refused.
// Connections over UNIX sockets count, but have no address and are not evicted.
type Gate struct {
	mu      sync.Mutex
	limits  GateOptions
	open    int // connections, the leaving ones included
	leaving int // evicted ones that are still open
	perNet  map[netip.Prefix]int
	strange slotList // those that may be evicted, oldest first
	starved time.Time
	clock   clock.Clock // set with starved
}

// GateOptions has the limits; 0 = off.
type GateOptions struct {
	Connections           int
	ConnectionsPerAddress int // an IPv6 /64 counts as one address
}

// NewGate returns a gate with the given limits.
func NewGate(o GateOptions) *Gate {
	return &Gate{limits: o, perNet: make(map[netip.Prefix]int)}
}

// SetLimits replaces the limits, for SIGHUP. Connections that are open stay.
func (g *Gate) SetLimits(o GateOptions) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limits = o
}

// Connections is how many connections are open.
func (g *Gate) Connections() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// Crowded tells whether more than half of the connection bound is in use, or
// file descriptors ran out within the last minute: then protocols have less
// patience with those who have not logged in or are slow.
func (g *Gate) Crowded() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.limits.Connections > 0 && 2*g.open > g.limits.Connections {
		return true
	}
	return !g.starved.IsZero() && g.clock.Now().Sub(g.starved) < starvedFor
}

// starve notes that file descriptors ran out.
func (g *Gate) starve(c clock.Clock) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.starved, g.clock = c.Now(), c
}

// slot is one open connection.
type slot struct {
	network      netip.Prefix // zero for a UNIX socket
	evict        func()       // tells the connection to go; must not block
	leaving      bool
	older, newer *slot
	listed       bool
}

// enter admits a connection, or says why not.
func (g *Gate) enter(sl *slot) (refusal string) {
	victim, refusal := g.admit(sl)
	if victim != nil {
		victim.evict()
	}
	return refusal
}

func (g *Gate) admit(sl *slot) (victim *slot, refusal string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	perAddress := g.limits.ConnectionsPerAddress
	if perAddress > 0 && sl.network.IsValid() && g.perNet[sl.network] >= perAddress {
		return nil, "too many connections from your address"
	}
	if g.limits.Connections > 0 && g.open-g.leaving >= g.limits.Connections {
		victim = g.strange.oldest
		if victim == nil || g.leaving >= maxLeaving {
			return nil, "too many connections"
		}
		g.strange.remove(victim)
		victim.leaving = true
		g.leaving++
	}
	g.open++
	if sl.network.IsValid() {
		g.perNet[sl.network]++
		g.strange.add(sl)
	}
	return victim, ""
}

// protect exempts a connection from eviction.
func (g *Gate) protect(sl *slot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.strange.remove(sl)
}

// leave undoes enter.
func (g *Gate) leave(sl *slot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.strange.remove(sl)
	g.open--
	if sl.leaving {
		g.leaving--
	}
	if sl.network.IsValid() {
		if g.perNet[sl.network]--; g.perNet[sl.network] == 0 {
			delete(g.perNet, sl.network)
		}
	}
}

// slotList is a doubly linked list through the slots.
type slotList struct{ oldest, newest *slot }

func (l *slotList) add(sl *slot) {
	sl.listed = true
	sl.older = l.newest
	if l.newest != nil {
		l.newest.newer = sl
	} else {
		l.oldest = sl
	}
	l.newest = sl
}

func (l *slotList) remove(sl *slot) {
	if !sl.listed {
		return
	}
	if sl.older != nil {
		sl.older.newer = sl.newer
	} else {
		l.oldest = sl.newer
	}
	if sl.newer != nil {
		sl.newer.older = sl.older
	} else {
		l.newest = sl.older
	}
	sl.older, sl.newer, sl.listed = nil, nil, false
}

// Network is the unit in which strangers are counted: an IPv4 address, or the
// /64 of an IPv6 address, since whoever has one has them all. It is the zero
// Prefix for the zero Addr.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// StrangerPatience is how long to wait at a time for a client that has been
// connected for some time without a login: until limit has passed, and then as
// long again and again, since connections may become scarce meanwhile. ok is
// false where they are and limit has passed.
func StrangerPatience(connected, limit time.Duration, crowded func() bool) (wait time.Duration, ok bool) {
	if left := limit - connected; left > 0 {
		return left, true
	}
	return limit, !crowded()
}
