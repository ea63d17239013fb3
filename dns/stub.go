package dns

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/exchange"
	"postrider/dns/recursor"
	"postrider/internal/clock"
	"postrider/internal/journey"
)

const (
	// maxExchanges is how many sockets are open at once.
	maxExchanges = 256
	// minTimeout is the least that a server gets for its answer.
	minTimeout = time.Second
	// pause is the wait before the second round over the servers; it doubles.
	pause = 200 * time.Millisecond
	// serverPenalty is how long a server that did not answer is asked last.
	serverPenalty = 30 * time.Second
	// plainPeriod is how long a server that refused EDNS is asked without.
	plainPeriod = 10 * time.Minute
)

// question is one question of class IN.
type question struct {
	name string // normalised
	typ  Type
}

// message is an answer that was accepted.
type message struct {
	*miekg.Msg
	server  string
	network string // "udp", "tcp" or "iterative"
	size    int
	took    time.Duration

	security recursor.Security // of an iterative answer
	cached   bool              // that it had already
}

// stub asks recursive servers.
type stub struct {
	config  func() config
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	rand    io.Reader
	clock   clock.Clock
	log     *slog.Logger
	journey *journey.Recorder
	slots   chan struct{} // one for each exchange under way

	mu     sync.Mutex
	turn   int // of rotate
	states map[string]serverState
}

// serverState is what past exchanges taught about one server.
type serverState struct {
	slowUntil  time.Time // did not answer: asked last
	plainUntil time.Time // does not know EDNS
}

// ask puts the question to the servers, one after the other, in several
// rounds. It returns the first answer that says something about the name, else
// the last one that says that the server failed, else an error that wraps
// ErrTemporary.
func (s *stub) ask(ctx context.Context, q question, how Asking) (*message, error) {
	c := s.config()
	var failed *message
	var lastServer string
	var last error
	for round := range c.attempts {
		silent := false
		for _, server := range s.order(c) {
			m, err := s.exchange(ctx, server, q, how, c.patience(round), c.tcp || how.TCP)
			switch {
			case ctx.Err() != nil:
				return nil, ended(ctx)
			case err != nil:
				silent, last, lastServer = true, err, server
			case conclusive(m.Msg), how.NoRecursion && m.Rcode == miekg.RcodeSuccess: // a referral is an answer
				return m, nil
			default:
				failed = m
			}
		}
		// Servers that did answer, but with a failure, are not asked again.
		if !silent {
			break
		}
		if round+1 < c.attempts && !s.wait(ctx, pause<<round) {
			return nil, ended(ctx)
		}
	}
	if failed != nil {
		return failed, nil
	}
	return nil, temporary("%s: %w", lastServer, last)
}

// patience is how long one server may take in a round: as much as resolv.conf
// says in the first, then twice that, shared by the servers (as the C library
// does).
func (c config) patience(round int) time.Duration {
	d := c.timeout << round
	if round > 0 {
		d /= time.Duration(len(c.servers))
	}
	return min(max(d, minTimeout), maxTimeout)
}

// conclusive tells whether an answer says something about the name; one that
// does not sends us to the next server.
func conclusive(m *miekg.Msg) bool {
	return m.Rcode == miekg.RcodeNameError || m.Rcode == miekg.RcodeSuccess && !referral(m)
}

// referral tells whether the server, instead of an answer, names other servers
// to ask: it does not recurse (RFC 2308 section 2.2).
func referral(m *miekg.Msg) bool {
	if len(m.Answer) != 0 || m.Authoritative {
		return false
	}
	ns := false
	for _, rr := range m.Ns {
		switch rr.Header().Rrtype {
		case miekg.TypeSOA:
			return false
		case miekg.TypeNS:
			ns = true
		}
	}
	return ns
}

func (s *stub) wait(ctx context.Context, d time.Duration) bool {
	t := s.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.Chan():
		return true
	case <-ctx.Done():
		return false
	}
}

// order lists the servers in the order in which to ask them.
func (s *stub) order(c config) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := 0
	if c.rotate {
		first = s.turn % len(c.servers)
		s.turn++
	}
	now := s.clock.Now()
	var good, slow []string
	for i := range c.servers {
		server := c.servers[(first+i)%len(c.servers)]
		if now.Before(s.states[server].slowUntil) {
			slow = append(slow, server)
		} else {
			good = append(good, server)
		}
	}
	return append(good, slow...)
}

// note changes what is known of a server.
func (s *stub) note(server string, change func(*serverState)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.states) > 4*maxServers { // resolv.conf changed many times
		clear(s.states)
	}
	st := s.states[server]
	change(&st)
	s.states[server] = st
}

func (s *stub) plain(server string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock.Now().Before(s.states[server].plainUntil)
}

// exchange gets one server's answer: over UDP with EDNS, without EDNS where
// the server does not know it, over TCP where UDP does not do. Each of these
// may take the given time.
func (s *stub) exchange(ctx context.Context, server string, q question, how Asking, patience time.Duration, tcp bool) (*message, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	started := s.clock.Now()
	m, err := s.attempt(ctx, server, q, how, patience, tcp)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	now := s.clock.Now()
	switch {
	case err == nil:
		m.took = now.Sub(started)
		s.note(server, func(st *serverState) { st.slowUntil = time.Time{} })
	case errors.Is(err, exchange.ErrHeader):
	default:
		s.note(server, func(st *serverState) {
			if !now.Before(st.slowUntil) {
				s.log.Warn("a name server does not answer", "server", server, "error", err)
			}
			st.slowUntil = now.Add(serverPenalty)
		})
	}
	return m, err
}

func (s *stub) attempt(ctx context.Context, server string, q question, how Asking, patience time.Duration, tcp bool) (*message, error) {
	edns := !s.plain(server)
	refused := false // EDNS, in this exchange
	for {
		network := "udp"
		if tcp {
			network = "tcp"
		}
		m, err := s.once(ctx, network, server, q, how, edns, patience)
		switch {
		case err == nil:
			if refused && conclusive(m.Msg) {
				s.note(server, func(st *serverState) { st.plainUntil = s.clock.Now().Add(plainPeriod) })
			}
			return m, nil
		case errors.Is(err, exchange.ErrNoEDNS) && edns:
			edns, refused = false, true
		case (errors.Is(err, exchange.ErrTruncated) || errors.Is(err, exchange.ErrForged)) && !tcp:
			if errors.Is(err, exchange.ErrForged) {
				s.log.Warn("somebody may be forging DNS answers; asking over TCP", "server", server, "name", q.name, "type", q.typ.String())
			}
			tcp = true
		default:
			return nil, err
		}
	}
}

// once sends one query over a fresh socket and waits for its answer.
func (s *stub) once(ctx context.Context, network, server string, q question, how Asking, edns bool, patience time.Duration) (*message, error) {
	query, err := exchange.Pack(s.rand, q.name, uint16(q.typ), func(m *miekg.Msg) {
		m.RecursionDesired, m.CheckingDisabled = !how.NoRecursion, how.Unchecked
		if edns {
			m.SetEdns0(exchange.Size, how.DNSSEC)
		}
	})
	if err != nil {
		return nil, err
	}
	s.recordQuery(ctx, network, server, q, query.Wire)
	began := s.clock.Now()
	r, err := exchange.Transport{Dial: s.dial, Clock: s.clock}.Do(ctx, network, server, query, patience)
	s.recordReply(ctx, server, q, began, r, err)
	if err != nil {
		return nil, err
	}
	return &message{Msg: r.Msg, server: server, network: network, size: len(r.Wire)}, nil
}
