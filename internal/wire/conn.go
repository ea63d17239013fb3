package wire

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// handshakeTimeout bounds a TLS handshake as a whole.
	handshakeTimeout = 10 * time.Second
	// refusalTimeout bounds the writing of a refusal before a close.
	refusalTimeout = time.Second
	// lingerTime and lingerOctets bound what is read after the last reply;
	// lingerLast is for a Shutdown, which idle clients shall not hold up.
	lingerTime   = time.Second
	lingerLast   = 200 * time.Millisecond
	lingerOctets = 256 << 10
)

// Conn is one accepted connection, handed to a protocol's handler. A Conn made
// by hand, with only its net.Conn set, works too, for tests of a protocol
// without a Server. Its methods are for the handler's goroutine.
type Conn struct {
	net.Conn
	ID     string     // names the session in logs
	Remote netip.Addr // unmapped; the zero Addr for a UNIX socket
	Local  netip.AddrPort
	TLS    *tls.ConnectionState // nil before a handshake is done
	Log    *slog.Logger         // carries the session id

	life *life  // nil when made by hand
	peer string // Remote in words; "" when made by hand
}

// Peer names the far end in logs: its address, or "local" for a UNIX socket.
func (c *Conn) Peer() string {
	switch {
	case c.peer != "":
		return c.peer
	case !c.Remote.IsValid():
		return "local"
	}
	return c.Remote.String()
}

// SetAuthenticated tells the gate that the connection belongs to a user: it is
// then not the first to be closed when connections run out.
func (c *Conn) SetAuthenticated() {
	if c.life != nil {
		c.life.server.gate.protect(&c.life.slot)
	}
}

// StartTLS upgrades the connection: it does the handshake within 10 seconds
// and replaces c.Conn. The caller has made sure that nothing is buffered. It
// sets c.TLS and clears the deadlines. After an error the connection can only
// be closed.
func (c *Conn) StartTLS(ctx context.Context, config *tls.Config) error {
	plain := c.Conn
	if err := plain.SetDeadline(c.now().Add(handshakeTimeout)); err != nil {
		return err
	}
	if c.life != nil {
		c.life.speakThrough(nil) // nobody else writes during the handshake
	}
	secure := tls.Server(plain, config)
	if err := handshake(ctx, secure); err != nil {
		return err
	}
	if err := plain.SetDeadline(time.Time{}); err != nil {
		return err
	}
	state := secure.ConnectionState()
	c.Conn, c.TLS = secure, &state
	if c.life != nil {
		c.life.speakThrough(secure)
	}
	return nil
}

// handshake does the handshake on a goroutine of its own, which takes the stack that
// it needs with it: the connection may be idle for hours afterwards.
func handshake(ctx context.Context, c *tls.Conn) (err error) {
	done := make(chan any)
	go func() {
		defer func() { done <- recover() }()
		err = c.HandshakeContext(ctx)
	}()
	if panicked := <-done; panicked != nil {
		panic(panicked) // where the handler's is recovered
	}
	return err
}

// Idle is to be called before a read that waits for the next command: it sets
// the read deadline to timeout from now. When Shutdown has begun, or begins
// during the wait, that read ends at once with os.ErrDeadlineExceeded, and the
// handler, who sees draining closed, can say goodbye.
func (c *Conn) Idle(timeout time.Duration) error {
	if c.life == nil {
		return c.SetReadDeadline(c.now().Add(timeout))
	}
	return c.life.idleUntil(c.now().Add(timeout))
}

// Busy ends Idle: it sets the read deadline to timeout from now, and Shutdown
// lets the handler finish within its grace.
func (c *Conn) Busy(timeout time.Duration) error {
	if c.life == nil {
		return c.SetReadDeadline(c.now().Add(timeout))
	}
	return c.life.busyUntil(c.now().Add(timeout))
}

func (c *Conn) now() time.Time {
	if c.life == nil {
		return time.Now()
	}
	return c.life.server.clock.Now()
}

// longAgo as a deadline ends a read that is under way. The zero Time would mean
// no deadline.
func longAgo() time.Time { return time.Unix(1, 0) }

// life is what the server keeps of a connection beside its handler.
type life struct {
	server  *Server
	raw     net.Conn // under TLS; may be closed at any time
	slot    slot
	refusal func(reason string) string

	mu    sync.Mutex
	voice net.Conn // where a refusal can be written; nil during a TLS handshake
	idle  bool     // Shutdown may end the read
	ended bool     // the handler has returned
}

func (l *life) speakThrough(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.voice = c
}

func (l *life) idleUntil(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.server.draining:
		return l.raw.SetReadDeadline(longAgo())
	default:
	}
	l.idle = true
	return l.raw.SetReadDeadline(t)
}

func (l *life) busyUntil(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle = false
	return l.raw.SetReadDeadline(t)
}

// drain ends a wait for the next command, or a TLS handshake.
func (l *life) drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.idle:
		// A connection that refuses a deadline is closed already.
		_ = l.raw.SetReadDeadline(longAgo())
	case l.voice == nil:
		l.raw.Close()
	}
}

// evict ends the connection in favour of another one.
func (l *life) evict() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	voice := l.voice
	s := l.server
	s.running.Add(1) // the handler has not returned, so it is not zero now
	go func() {
		defer s.running.Done()
		count(s.metrics.Evicted)
		// Whatever deadlines the handler sets, the refusal does not hold it up.
		last := s.clock.AfterFunc(refusalTimeout, func() { l.raw.Close() })
		defer last.Stop()
		say(voice, s.clock.Now(), l.refusal, "too many connections")
		l.raw.Close()
	}()
}

// end says that the handler has returned.
func (l *life) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}

// say writes a refusal as well as that goes: the connection is closed next.
func say(c net.Conn, now time.Time, refusal func(string) string, reason string) {
	if c == nil || refusal == nil {
		return
	}
	if err := c.SetWriteDeadline(now.Add(refusalTimeout)); err != nil {
		return
	}
	_, _ = c.Write([]byte(refusal(reason)))
}
