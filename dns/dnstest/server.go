package dnstest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"

	miekg "github.com/miekg/dns"

	"postrider/internal/clock"
)

const (
	// maxConns bounds the TCP connections and in-memory sockets at once.
	maxConns = 256
	// maxUDP bounds the datagrams in hand at once; others are dropped.
	maxUDP = 256
	// maxQueries bounds what Queries remembers.
	maxQueries = 100_000
	// minUDP is the size of datagrams without EDNS (RFC 1035 section 4.2.1).
	minUDP = 512
)

// Server is a running name server.
type Server struct {
	// Addr is where it listens, over UDP and TCP; "192.0.2.53:53" for a server
	// that is reached by Dial alone.
	Addr string

	clock  clock.Clock
	packet net.PacketConn // nil: Dial alone
	stream net.Listener
	closed chan struct{}
	once   sync.Once
	wg     sync.WaitGroup
	udp    chan struct{}

	mu      sync.Mutex
	zone    *Zone
	faults  []*Fault
	queries []Query
	watch   func(Query, string)
	conns   map[net.Conn]bool
	ended   bool
}

// Query is a question that arrived.
type Query struct {
	Name    string // canonical
	Type    string // "MX"
	Network string // "udp" or "tcp"
	EDNS    bool
}

// Serve starts a server on a free loopback port with a zone given as text.
func Serve(zone string) (*Server, error) {
	z, err := Parse(zone)
	if err != nil {
		return nil, err
	}
	return Listen("127.0.0.1:0", z)
}

// TB is the part of testing.TB that Start uses.
type TB interface {
	Helper()
	Fatal(args ...any)
	Cleanup(f func())
}

// Start is Serve for a test, which fails if the server can't start.
func Start(t TB, zone string) *Server {
	t.Helper()
	s, err := Serve(zone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// New returns a server without sockets, which only Dial reaches: for tests in
// synctest bubbles.
func New(z *Zone) *Server {
	return &Server{
		Addr: "192.0.2.53:53", zone: z, clock: clock.System(), closed: make(chan struct{}),
		udp: make(chan struct{}, maxUDP), conns: map[net.Conn]bool{},
	}
}

// Listen starts a server on a loopback address; port 0 is a free one.
func Listen(addr string, z *Zone) (*Server, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dnstest: %w", err)
	}
	if !ap.Addr().IsLoopback() {
		return nil, fmt.Errorf("dnstest: %s is not a loopback address", addr)
	}
	s := New(z)
	// A port that is free for TCP may be taken for UDP.
	for range 10 {
		if s.stream, err = net.Listen("tcp", addr); err != nil {
			return nil, fmt.Errorf("dnstest: %w", err)
		}
		s.Addr = s.stream.Addr().String()
		if s.packet, err = net.ListenPacket("udp", s.Addr); err == nil {
			break
		}
		s.stream.Close()
		if ap.Port() != 0 {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("dnstest: %w", err)
	}
	s.wg.Go(s.serveUDP)
	s.wg.Go(s.serveTCP)
	return s, nil
}

// Close stops the server and waits for its goroutines.
func (s *Server) Close() {
	s.once.Do(func() {
		s.mu.Lock()
		s.ended = true
		close(s.closed)
		if s.packet != nil {
			s.packet.Close()
			s.stream.Close()
		}
		for c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
	})
	s.wg.Wait()
}

// SetZone replaces the server's data.
func (s *Server) SetZone(zone string) error {
	z, err := Parse(zone)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone = z
	return nil
}

// Queries returns the questions that have arrived, in order; of very many the
// first.
func (s *Server) Queries() []Query {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Query(nil), s.queries...)
}

// Watch sets a function that is called for each question with the data of the
// records that answer it, or with the rcode, before any fault; the answer waits
// for it.
func (s *Server) Watch(f func(q Query, answer string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watch = f
}

func summary(m *miekg.Msg) string {
	var data []string
	for _, rr := range m.Answer {
		data = append(data, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	switch {
	case len(data) > 0:
		return strings.Join(data, ", ")
	case m.Rcode != miekg.RcodeSuccess:
		return miekg.RcodeToString[m.Rcode]
	}
	return "no such record"
}

// Dial connects to the server in memory, whatever the address. The connection
// counts as a datagram socket when network begins with "udp".
func (s *Server) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ours, theirs := net.Pipe()
	serve := func() { s.serveStream(ours) }
	if strings.HasPrefix(network, "udp") {
		serve = func() { s.serveDatagrams(ours) }
	}
	if !s.track(ours, serve) {
		ours.Close()
		return nil, errors.New("dnstest: the server is closed or has too many connections")
	}
	return theirs, nil
}

// track runs serve for a connection, and closes it afterwards or when the
// server closes.
func (s *Server) track(c net.Conn, serve func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || len(s.conns) >= maxConns {
		return false
	}
	s.conns[c] = true
	s.wg.Go(func() {
		serve()
		c.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	})
	return true
}

func (s *Server) serveUDP() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := s.packet.ReadFrom(buf)
		if err != nil {
			return
		}
		query := append([]byte(nil), buf[:n]...)
		select {
		case s.udp <- struct{}{}:
		default:
			continue
		}
		s.wg.Go(func() {
			defer func() { <-s.udp }()
			for _, b := range s.handle(query, "udp") {
				s.packet.WriteTo(b, from) // a lost answer is like any lost datagram
			}
		})
	}
}

func (s *Server) serveDatagrams(c net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		for _, b := range s.handle(buf[:n], "udp") {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}
}

func (s *Server) serveTCP() {
	for {
		c, err := s.stream.Accept()
		if err != nil {
			return
		}
		if !s.track(c, func() { s.serveStream(c) }) {
			c.Close()
		}
	}
}

func (s *Server) serveStream(c net.Conn) {
	for {
		var length [2]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		answers := s.handle(query, "tcp")
		if answers == nil {
			return
		}
		for _, b := range answers {
			framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(b)), uint16(len(b)))
			if _, err := c.Write(append(framed, b...)); err != nil {
				return
			}
		}
	}
}

// handle answers one query with any number of messages, faults included.
func (s *Server) handle(b []byte, network string) [][]byte {
	query := new(miekg.Msg)
	if query.Unpack(b) != nil || query.Response || len(query.Question) != 1 {
		return nil
	}
	q := query.Question[0]
	opt := query.IsEdns0()
	s.mu.Lock()
	zone := s.zone
	arrived := Query{Name: miekg.CanonicalName(q.Name), Type: miekg.Type(q.Qtype).String(), Network: network, EDNS: opt != nil}
	if len(s.queries) < maxQueries {
		s.queries = append(s.queries, arrived)
	}
	fault := s.faultLocked(arrived)
	watch := s.watch
	s.mu.Unlock()

	m := new(miekg.Msg)
	m.SetReply(query)
	m.RecursionAvailable = true
	m.Compress = true
	size := minUDP
	if opt != nil {
		size = max(size, int(opt.UDPSize()))
		m.SetEdns0(1232, false)
	}
	if q.Qclass == miekg.ClassINET {
		zone.answer(m, q)
	} else {
		m.Rcode = miekg.RcodeRefused
	}
	if watch != nil {
		watch(arrived, summary(m))
	}
	if !s.pause(fault.Delay) {
		return nil
	}
	if network == "tcp" {
		size = miekg.MaxMsgSize
	}
	return fault.apply(m, size)
}
