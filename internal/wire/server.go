package wire

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"postrider/internal/clock"
)

// Protocol is what a listener serves.
type Protocol struct {
	Name string // "smtp", "imaps": for logs, metrics and the start-up table
	// TLS, when set, makes the listener TLS from the first byte.
	TLS *tls.Config
	// Refusal is the line, CRLF included, that a client gets before an early
	// close: too many connections, or shutting down. A client of a TLS
	// listener whose handshake is not done gets none.
	Refusal func(reason string) string
	// Serve handles one connection until it ends; ctx is cancelled at the end
	// of the grace period of Shutdown. Draining is closed when Shutdown begins.
	// The server closes conn afterwards and recovers a panic (logged with its
	// stack and counted by Server.Panics). A handler that calls conn.Idle before it
	// waits for a command needs no goroutine to watch draining.
	Serve func(ctx context.Context, conn *Conn, draining <-chan struct{})
}

// Counter is what this package needs of a prometheus.Counter.
type Counter interface{ Inc() }

// Metrics are counters that may be nil.
type Metrics struct {
	Accepted Counter // connections that reached a handler
	Refused  Counter // connections refused at once
	Evicted  Counter // connections closed in favour of new ones
}

func count(c Counter) {
	if c != nil {
		c.Inc()
	}
}

// ServerOptions has what a Server needs; zero values work.
type ServerOptions struct {
	Gate    *Gate
	Clock   clock.Clock
	Log     *slog.Logger
	Metrics Metrics
}

// Server accepts connections on any number of listeners and owns each
// connection's goroutine. It is safe for concurrent use.
type Server struct {
	gate     *Gate
	clock    clock.Clock
	log      *slog.Logger
	metrics  Metrics
	base     context.Context // of every handler; ends with the grace of Shutdown
	cancel   context.CancelFunc
	draining chan struct{}
	idPrefix string
	reserve  reserve
	running  sync.WaitGroup // accept loops, handlers and evictions
	panics   atomic.Int64

	mu        sync.Mutex
	closing   bool
	listeners map[net.Listener]bool
	lives     map[*life]bool
	lastID    uint64
}

// NewServer returns a Server that serves nothing yet.
func NewServer(o ServerOptions) *Server {
	s := &Server{
		gate:      o.Gate,
		clock:     o.Clock,
		log:       o.Log,
		metrics:   o.Metrics,
		draining:  make(chan struct{}),
		idPrefix:  randomPrefix(),
		listeners: make(map[net.Listener]bool),
		lives:     make(map[*life]bool),
	}
	if s.gate == nil {
		s.gate = NewGate(GateOptions{})
	}
	if s.clock == nil {
		s.clock = clock.System()
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.base, s.cancel = context.WithCancel(context.Background())
	return s
}

// randomPrefix tells the sessions of one start of the server from those of
// another.
func randomPrefix() string {
	var b [5]byte
	rand.Read(b[:]) // never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// Serve accepts on l until Shutdown; it returns at once and owns l.
func (s *Server) Serve(l net.Listener, p Protocol) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		l.Close()
		return
	}
	s.reserve.hold()
	s.listeners[l] = true
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		s.accept(l, p)
	}()
}

// ServeConn serves one connection that was accepted elsewhere, within the same
// limits. It returns at once and owns conn.
func (s *Server) ServeConn(conn net.Conn, p Protocol) { s.start(conn, p) }

// Shutdown stops accepting, closes draining, waits for handlers until ctx ends,
// then closes what is left and waits for that. It returns an error when
// connections had to be closed.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, l := range s.beginShutdown() {
		l.drain()
	}
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	defer s.reserve.release()
	defer s.cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	left := s.openLives()
	for _, l := range left {
		l.raw.Close()
	}
	<-done
	return fmt.Errorf("closed %d connections that were in use: %w", len(left), ctx.Err())
}

// beginShutdown stops accepting and returns the connections that are open.
func (s *Server) beginShutdown() []*life {
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		close(s.draining)
	}
	for l := range s.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			s.log.Warn("close listener", "address", l.Addr().String(), "err", err)
		}
	}
	clear(s.listeners)
	s.mu.Unlock()
	return s.openLives()
}

func (s *Server) openLives() []*life {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := make([]*life, 0, len(s.lives))
	for l := range s.lives {
		left = append(left, l)
	}
	return left
}

// Panics is the number of handler panics that were recovered.
func (s *Server) Panics() int64 { return s.panics.Load() }

// start gives an accepted connection to its handler, or refuses it.
func (s *Server) start(raw net.Conn, p Protocol) {
	remote := hostOf(raw.RemoteAddr())
	l := &life{server: s, raw: raw, refusal: p.Refusal}
	l.slot = slot{network: Network(remote), evict: l.evict}
	if p.TLS == nil {
		l.voice = raw
	}
	id, err := s.enlist(l)
	if err != nil {
		s.refuse(raw, p, "shutting down")
		return
	}
	if reason := s.gate.enter(&l.slot); reason != "" {
		s.retire(l)
		s.refuse(raw, p, reason)
		return
	}
	count(s.metrics.Accepted)
	c := &Conn{
		Conn:   raw,
		ID:     id,
		Remote: remote,
		Local:  addrPortOf(raw.LocalAddr()),
		Log:    s.log.With("session", id),
		life:   l,
	}
	c.peer = c.Peer()
	go func() {
		defer s.retire(l)
		defer s.gate.leave(&l.slot)
		s.handle(c, p)
	}()
}

// enlist counts l among the running and names its session.
func (s *Server) enlist(l *life) (id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return "", net.ErrClosed
	}
	s.lives[l] = true
	s.running.Add(1)
	s.lastID++
	return s.idPrefix + "-" + strconv.FormatUint(s.lastID, 36), nil
}

func (s *Server) retire(l *life) {
	l.end()
	s.mu.Lock()
	delete(s.lives, l)
	s.mu.Unlock()
	s.running.Done()
}

// refuse closes a connection that gets no handler. Its send buffer is empty, so
// that the few octets of the refusal do not keep the accept loop waiting.
func (s *Server) refuse(raw net.Conn, p Protocol, reason string) {
	count(s.metrics.Refused)
	s.log.Debug("connection refused", "protocol", p.Name, "remote", raw.RemoteAddr().String(), "reason", reason)
	if p.TLS == nil {
		say(raw, s.clock.Now(), p.Refusal, reason)
	}
	raw.Close()
}

// handle runs one connection's handler and closes the connection.
func (s *Server) handle(c *Conn, p Protocol) {
	defer s.hangUp(c)
	defer func() {
		if v := recover(); v != nil {
			s.panics.Add(1)
			c.Log.Error("panic in a session", "protocol", p.Name, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	if p.TLS != nil {
		if err := c.StartTLS(s.base, p.TLS); err != nil {
			c.Log.Info("TLS handshake failed", "protocol", p.Name, "remote", c.Peer(), "err", explainHandshake(err))
			return
		}
	}
	p.Serve(s.base, c, s.draining)
}

// hangUp closes the connection after its last reply. What the client sent
// meanwhile is read and thrown away, within bounds: a close with unread octets
// would reset the connection, and the reply with it (RFC 9293 section 3.10.4).
func (s *Server) hangUp(c *Conn) {
	defer c.Conn.Close()
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || s.gate.Crowded() || half.CloseWrite() != nil {
		return
	}
	patience := lingerTime
	select {
	case <-s.draining:
		patience = lingerLast
	default:
	}
	raw := c.life.raw
	if raw.SetReadDeadline(s.clock.Now().Add(patience)) == nil {
		_, _ = io.CopyN(io.Discard, raw, lingerOctets) // ends by the client's close, a bound or an error
	}
}

func explainHandshake(err error) string {
	var record tls.RecordHeaderError
	if errors.As(err, &record) {
		return "the client does not speak TLS, which this port wants from the first byte"
	}
	return err.Error()
}

// addrPortOf is the zero AddrPort for an address that has none.
func addrPortOf(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func hostOf(a net.Addr) netip.Addr { return addrPortOf(a).Addr() }
