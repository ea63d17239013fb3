package deliver

import (
	"net/netip"
	"sync"
	"time"

	"postrider/internal/clock"
	"postrider/mta"
)

// key tells which connections may be used for which hop: same place, same
// protection, same login.
type key struct {
	addr            netip.AddrPort
	host            string
	tls             mta.TLSPolicy
	login, password string
}

func keyOf(hop *mta.Hop, addr netip.AddrPort) key {
	return key{addr: addr, host: hop.Host, tls: hop.TLS, login: hop.Login, password: hop.Password}
}

// pool keeps idle connections for the next message. One timer serves them all.
type pool struct {
	o *Options

	mu      sync.Mutex
	idle    map[key][]*session // by idleSince, oldest first
	total   int
	timer   clock.Timer
	armed   bool
	closed  bool
	closing sync.WaitGroup
}

func (p *pool) init(o *Options) {
	p.o = o
	p.idle = make(map[key][]*session)
}

// take returns the connection to k that was used last, or nil.
func (p *pool) take(k key) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[k]
	if len(list) == 0 {
		return nil
	}
	s := list[len(list)-1]
	list[len(list)-1] = nil
	p.idle[k] = list[:len(list)-1]
	p.total--
	if p.o.Clock.Now().Sub(s.idleSince) < p.o.IdleTime {
		return s
	}
	// All of the list are older still; the timer ends them.
	p.closing.Go(s.quit)
	return nil
}

// put keeps s, or tells that there is no room.
func (p *pool) put(s *session) bool {
	now := p.o.Clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.total >= p.o.IdleTotal || len(p.idle[s.key]) >= p.o.IdlePerHost {
		return false
	}
	s.idleSince = now
	p.idle[s.key] = append(p.idle[s.key], s)
	p.total++
	if !p.armed {
		p.armed = true
		p.timer = p.o.Clock.AfterFunc(p.o.IdleTime, p.sweep)
	}
	return true
}

// sweep ends the connections that were idle for long and sets the timer for the
// others.
func (p *pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = false
	if p.closed {
		return
	}
	now := p.o.Clock.Now()
	next := time.Duration(-1)
	for k, list := range p.idle {
		old := 0
		for old < len(list) && now.Sub(list[old].idleSince) >= p.o.IdleTime {
			p.closing.Go(list[old].quit)
			old++
		}
		p.total -= old
		if old == len(list) {
			delete(p.idle, k)
			continue
		}
		rest := append([]*session(nil), list[old:]...)
		p.idle[k] = rest
		if left := p.o.IdleTime - now.Sub(rest[0].idleSince); next < 0 || left < next {
			next = left
		}
	}
	if next >= 0 {
		p.armed = true
		p.timer = p.o.Clock.AfterFunc(next, p.sweep)
	}
}

// close ends all idle connections and waits for it.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	for k, list := range p.idle {
		for _, s := range list {
			p.closing.Go(s.quit)
		}
		delete(p.idle, k)
	}
	p.total = 0
	p.mu.Unlock()
	p.closing.Wait()
}
