package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/internal/clock"
	"postrider/internal/journey"
)

const (
	// defaultMaxUDP is the size of datagrams that pass nearly everywhere in one
	// piece (RFC 9715 section 3.2).
	defaultMaxUDP = 1232
	// largestUDP is the largest query over UDP that is read, and the largest
	// answer that a configuration may allow.
	largestUDP = 4096
	// defaultHot is how many octets of answers are kept ready.
	defaultHot = 32 << 20
	// maxWorks bounds the questions whose answers take time; of one client's
	// network maxClientWorks.
	maxWorks       = 2000
	maxClientWorks = 200
	// workTime bounds such an answer, transfers excluded. Clients ask again
	// after about five seconds.
	workTime = 10 * time.Second
)

// Options has what a Server needs all its life; zero values work.
type Options struct {
	// Recursor looks up what is not in our zones, for clients of the
	// networks in Settings; nil: nobody gets recursion.
	Recursor Recursor
	// Dir is the folder of zones' own files (copies of secondaries, changes by
	// update); "": nothing is kept.
	Dir string
	// HotOctets bounds the answers that are kept ready; 0 = 32 MiB, below 0 =
	// none.
	HotOctets int64
	Clock     clock.Clock
	// Journey gets what is asked and answered, and what becomes of zones.
	Journey *journey.Recorder
	Rand    io.Reader // identifiers, cookies; nil: crypto/rand
	Log     *slog.Logger
	// Dial connects to primaries and those that are notified; network is "udp"
	// or "tcp". nil: package net.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Server answers questions. Its methods may be called concurrently.
type Server struct {
	recursor Recursor
	dir      string
	clock    clock.Clock
	journey  *journey.Recorder
	rand     io.Reader
	log      *slog.Logger
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	hot      *hotTable
	cookies  *cookies
	seed     maphash.Seed
	turn     atomic.Uint32
	stats    stats

	setup     atomic.Pointer[setup]
	configure sync.Mutex // one change of the set-up at a time

	base   context.Context // of all work; ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	sockets []func() // each ends the reading of one
	works   int
	clients map[netip.Prefix]int

	transfers chan struct{} // one for each that goes out
}

// New returns a server that serves nothing yet: Configure gives it zones and
// policy. An error is of Options.Rand.
func New(o Options) (*Server, error) {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.HotOctets == 0 {
		o.HotOctets = defaultHot
	}
	jar, err := newCookies(o.Rand, o.Clock.Now())
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	s := &Server{
		recursor: o.Recursor, dir: o.Dir, clock: o.Clock, journey: o.Journey, rand: o.Rand, log: o.Log, dial: o.Dial,
		hot: newHotTable(o.HotOctets), cookies: jar, seed: maphash.MakeSeed(), clients: map[netip.Prefix]int{},
		transfers: make(chan struct{}, maxTransfers),
	}
	s.base, s.cancel = context.WithCancel(context.Background())
	s.setup.Store(newSetup(Settings{}))
	return s, nil
}

// Close ends the service over UDP and all work in hand, and waits for it. The
// connections of Protocol belong to their wire.Server, which ends before.
func (s *Server) Close() {
	s.cancel()
	s.mu.Lock()
	s.closed = true
	s.closeSocketsLocked()
	s.mu.Unlock()
	s.configure.Lock()
	for _, z := range s.setup.Load().zones {
		z.stop()
	}
	s.configure.Unlock()
	s.wg.Wait()
}

var errClosed = errors.New("the name server is closed")

// client is who has sent a message, and how.
type client struct {
	addr      netip.Addr // unmapped
	transport Transport
	recursion bool
}

// take reads a message and answers it, if that takes no time: the reply is added
// to dst. pending means that the message is work for begin. Neither a reply nor
// work: there is no answer.
func (s *Server) take(dst []byte, w *worker, c *client, msg []byte) (reply []byte, pending bool) {
	q := &w.q
	w.fate = fate{}
	verdict, rcode := q.read(msg)
	s.stats.query(c.transport)
	if verdict == drop {
		s.stats.Dropped.Add(1)
		return nil, false
	}
	if w.listened {
		s.recordQuery(q, c)
	}
	switch {
	case verdict == refuse:
		return s.finish(dst, w.failure(q, rcode), w, c), false
	case q.opcode != miekg.OpcodeQuery || q.tsigAt > 0:
		return nil, true
	case q.questions == 0:
		if q.cookie == nil { // with one, it asks for a cookie: RFC 7873 section 5.4
			rcode = miekg.RcodeFormatError
		}
		return s.finish(dst, w.failure(q, rcode), w, c), false
	}
	at := s.setup.Load()
	c.recursion = s.recursor != nil && contains(at.Recursion, c.addr)
	w.key = q.key(w.key[:0], c.recursion)
	if e := s.hot.get(w.key, w.now.UnixNano(), at, s.recursor); e != nil {
		s.stats.Hot.Add(1)
		w.fate.hot = true
		return s.finish(dst, e, w, c), false
	}
	e, pending := s.local(at, q, c)
	if pending {
		return nil, true
	}
	s.keep(e, w.key, at, w.now)
	return s.finish(dst, e, w, c), false
}

// keep makes an answer ready for who asks the same.
func (s *Server) keep(e *entry, key []byte, at *setup, now time.Time) {
	if e.from == nil && e.until == 0 {
		return
	}
	both := append(append(e.room[:0], key...), e.wire...)
	e.key, e.wire, e.setup = both[:len(key):len(key)], both[len(key):], at
	s.hot.put(e, now.UnixNano())
}

// finish makes the reply to a query, as far as the client may have one, and tells
// the journey.
func (s *Server) finish(dst []byte, e *entry, w *worker, c *client) []byte {
	reply := s.octets(dst, e, w, c)
	if w.listened {
		s.recordReply(&w.q, c, e, reply[min(len(dst), len(reply)):], w.fate)
	}
	return reply
}

// octets adds the reply to a query to dst; nil for none.
func (s *Server) octets(dst []byte, e *entry, w *worker, c *client) []byte {
	at, q := s.setup.Load(), &w.q
	r := reply{q: q, limit: maxMessage, now: w.now.UnixNano(), stream: c.transport != UDP, padded: c.transport == TLS,
		idle: idleTime, ednsUs: at.MaxUDP}
	if at.rotate {
		r.turn = int(s.turn.Add(1) & 0xffff)
	}
	known := false
	if q.cookie != nil {
		r.cookie, known = s.cookies.check(q.cookie, c.addr, w.now)
	}
	if c.transport == UDP {
		r.limit = min(q.size, at.MaxUDP)
		if !known {
			switch w.fate.limited = at.limiter.judge(c.addr, e.kind, r.now); w.fate.limited {
			case withhold:
				s.stats.Withheld.Add(1)
				return nil
			case slip:
				s.stats.Slipped.Add(1)
				r.cut = true
			}
		}
	}
	s.stats.answer(e.rcode)
	return e.append(dst, &r)
}

// worker is what one goroutine that answers uses again and again.
type worker struct {
	q   query
	key []byte
	now time.Time
	// listened: somebody wants to know what is asked and answered; fate is what
	// he is told of the reply beside its octets.
	listened bool
	fate     fate
	fail     entry // of the last failure
	head     [headerSize + maxName + 4]byte
}

// failure is an answer without records. It holds until the next one.
func (w *worker) failure(q *query, rcode int, errs ...extended) *entry {
	end := headerSize
	clear(w.head[:headerSize])
	if q.questions == 1 {
		end = q.afterQ
		if end > len(w.head) {
			end = headerSize
		}
		copy(w.head[headerSize:], q.wire[headerSize:end])
		w.head[5] = 1
	}
	w.fail = entry{wire: w.head[:end], flags: uint16(rcode & rcodeMask), rcode: rcode, records: end, withoutExtra: end, errors: errs,
		kind: uint64(rcode)}
	return &w.fail
}
