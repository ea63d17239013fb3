package recursor

import (
	"container/list"
	"sync"
	"time"

	"postrider/internal/clock"
)

const (
	// unknownRTT is what a server that was never asked is taken for.
	unknownRTT = 100 * time.Millisecond
	// firstRTO is how long such a server may take for its first answer, and
	// minRTO and maxRTO bound that time for servers that were measured.
	firstRTO = 600 * time.Millisecond
	minRTO   = 200 * time.Millisecond
	maxRTO   = 3 * time.Second
	// deadAfter is how many timeouts in a row make a server dead, and deadFor
	// how long it is asked last then; that doubles up to maxDead.
	deadAfter = 3
	deadFor   = 15 * time.Second
	maxDead   = 8 * time.Minute
	// lameFor is how long a server that does not serve a zone is asked last
	// about it.
	lameFor = 5 * time.Minute
	// plainFor is how long something that a server does not know is left out.
	plainFor = 10 * time.Minute
	// maxLame bounds the zones kept for one server.
	maxLame = 8
)

// server is what past exchanges taught about an address.
type server struct {
	addr     address
	srtt     time.Duration // RFC 6298 section 2; 0 = never measured
	rttvar   time.Duration
	timeouts int // in a row
	dead     time.Time

	noEDNS time.Time // until then without EDNS
	noCase time.Time // until then without 0x20
	small  time.Time // until then with datagrams of 512 octets

	client [8]byte // our cookie (RFC 7873)
	cookie []byte  // the server's; nil = it sent none yet
	lame   map[string]time.Time
}

// servers keeps the state of the addresses that were asked most recently.
type servers struct {
	clock clock.Clock

	mu     sync.Mutex
	byAddr map[address]*list.Element // of *server
	recent list.List
}

func newServers(c clock.Clock) *servers {
	return &servers{clock: c, byAddr: map[address]*list.Element{}}
}

// get returns a copy of the state.
func (s *servers) get(a address) server {
	s.mu.Lock()
	defer s.mu.Unlock()
	if el, ok := s.byAddr[a]; ok {
		s.recent.MoveToFront(el)
		return *el.Value.(*server)
	}
	return server{addr: a}
}

// note changes what is known of a server.
func (s *servers) note(a address, change func(st *server, now time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	el, ok := s.byAddr[a]
	if !ok {
		el = s.recent.PushFront(&server{addr: a})
		s.byAddr[a] = el
		if s.recent.Len() > maxKnownServers {
			old := s.recent.Remove(s.recent.Back()).(*server)
			delete(s.byAddr, old.addr)
		}
	}
	s.recent.MoveToFront(el)
	change(el.Value.(*server), s.clock.Now())
}

// measured smooths the round trip times (RFC 6298 section 2).
func (st *server) measured(rtt time.Duration) {
	rtt = max(rtt, time.Microsecond)
	if st.srtt == 0 {
		st.srtt, st.rttvar = rtt, rtt/2
	} else {
		st.rttvar = (3*st.rttvar + (st.srtt - rtt).Abs()) / 4
		st.srtt = (7*st.srtt + rtt) / 8
	}
	st.timeouts, st.dead = 0, time.Time{}
}

func (st *server) timedOut(now time.Time) {
	st.timeouts++
	if st.timeouts >= deadAfter {
		st.dead = now.Add(min(deadFor<<min(st.timeouts-deadAfter, 10), maxDead))
	}
}

// rto is how long the server may take for an answer.
func (st *server) rto() time.Duration {
	d := firstRTO
	if st.srtt > 0 {
		d = max(st.srtt+4*st.rttvar, minRTO)
	}
	return min(d<<min(st.timeouts, 4), maxRTO)
}

// markLame remembers that the server does not serve a zone.
func (st *server) markLame(zone string, now time.Time) {
	if st.lame == nil || len(st.lame) >= maxLame {
		st.lame = map[string]time.Time{}
	}
	st.lame[zone] = now.Add(lameFor)
}

// rank orders servers: those that work, those that are lame, those that are
// dead.
func (s *servers) rank(a address, zone string) (class int, rtt time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	el, ok := s.byAddr[a]
	if !ok {
		return 0, unknownRTT
	}
	st := el.Value.(*server)
	now := s.clock.Now()
	rtt = unknownRTT
	if st.srtt > 0 {
		rtt = st.srtt
	}
	rtt += time.Duration(st.timeouts) * firstRTO
	switch {
	case now.Before(st.dead):
		return 2, rtt
	case now.Before(st.lame[zone]):
		return 1, rtt
	}
	return 0, rtt
}

// choose picks one of the addresses at random from those that are about as
// fast as the fastest, so that all are measured now and then and none is easy
// to guess (RFC 5452 section 4.4).
func (s *servers) choose(addrs []address, zone string, random func(n int) int) address {
	type ranked struct {
		addr  address
		class int
		rtt   time.Duration
	}
	list := make([]ranked, 0, len(addrs))
	bestClass, best := 3, time.Duration(0)
	for _, a := range addrs {
		class, rtt := s.rank(a, zone)
		list = append(list, ranked{a, class, rtt})
		if class < bestClass || class == bestClass && rtt < best {
			bestClass, best = class, rtt
		}
	}
	band := best + max(best/2, 20*time.Millisecond)
	if bestClass == 0 && best < unknownRTT {
		// A server that was never asked gets a chance beside fast ones.
		band = max(band, unknownRTT*boolInt(random(exploreOneIn) == 0))
	}
	n := 0
	for _, r := range list {
		if r.class == bestClass && r.rtt <= band {
			list[n] = r
			n++
		}
	}
	return list[random(n)].addr
}

// exploreOneIn is how rarely a server is asked that is not among the fastest.
const exploreOneIn = 16

func boolInt(b bool) time.Duration {
	if b {
		return 1
	}
	return 0
}
