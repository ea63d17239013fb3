package imap

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"postrider/internal/wire"
)

// conn is the connection as imapserver sees it. It collects writes until the
// next read, since the engine writes each response on its own, and replaces the
// engine's timeouts by ours.
type conn struct {
	*wire.Conn
	srv      *Server
	draining <-chan struct{}
	opened   time.Time
	bye      func(text string) error // says BYE and closes
	known    atomic.Bool             // logged in
	working  atomic.Bool             // a command is under way: not to be interrupted
	authing  atomic.Bool             // in AUTHENTICATE, when the engine holds its write lock
	farewell atomic.Pointer[string]  // close, with these words, instead of the next read
	until    atomic.Int64            // the read deadline, in Unix nanoseconds

	parts   sync.WaitGroup // session and connection, as long as the engine uses them
	closing sync.Once

	mu  sync.Mutex
	buf *[]byte // responses that were not sent yet; nil for none
	err error   // of the last flush: nothing is sent after it
}

func newConn(s *Server, wc *wire.Conn, draining <-chan struct{}) *conn {
	c := &conn{Conn: wc, srv: s, draining: draining, opened: s.o.Clock.Now()}
	c.until.Store(c.opened.Add(strangerPatience).UnixNano())
	c.parts.Add(2)
	return c
}

// Write collects; what does not fit is sent.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := 0; ; {
		if c.err != nil {
			return n, c.err
		}
		if c.buf == nil {
			c.buf = c.srv.buffers.Get().(*[]byte)
		}
		b := *c.buf
		k := min(cap(b)-len(b), len(p)-n)
		*c.buf = append(b, p[n:n+k]...)
		if n += k; n == len(p) {
			return n, nil
		}
		c.flushLocked(sendTimeout)
	}
}

// flush sends what was collected.
func (c *conn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushLocked(sendTimeout)
	return c.err
}

func (c *conn) flushLocked(timeout time.Duration) {
	if c.buf == nil {
		return
	}
	if c.err == nil && len(*c.buf) > 0 {
		c.err = c.Conn.SetWriteDeadline(c.srv.o.Clock.Now().Add(timeout))
		if c.err == nil {
			_, c.err = c.Conn.Write(*c.buf)
		}
	}
	*c.buf = (*c.buf)[:0]
	c.srv.buffers.Put(c.buf)
	c.buf = nil
}

// Read sends what was collected and waits for the client.
func (c *conn) Read(p []byte) (int, error) {
	if err := c.flush(); err != nil {
		return 0, err
	}
	if words := c.farewell.Load(); words != nil {
		return 0, c.end(*words)
	}
	patience := time.Unix(0, c.until.Load()).Sub(c.srv.o.Clock.Now())
	var err error
	if c.working.Load() {
		err = c.Busy(patience)
	} else {
		err = c.Idle(patience)
	}
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, c.end(c.timeoutText())
	}
	return n, err
}

// end says goodbye, unless the engine is where it cannot.
func (c *conn) end(words string) error {
	if !c.authing.Load() {
		_ = c.bye(words) // the connection is over either way
	}
	return net.ErrClosed
}

func (c *conn) timeoutText() string {
	select {
	case <-c.draining:
		return "The server is shutting down"
	default:
		return "Idle too long"
	}
}

// SetReadDeadline takes the engine's wish for what is to be read next, which is
// never a response of AUTHENTICATE: one that went on has ended.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.authing.Store(false)
	now := c.srv.o.Clock.Now()
	patience := t.Sub(now)
	switch {
	case t.IsZero():
		return nil
	case c.known.Load():
		patience = max(patience, commandPatience)
	default:
		patience = max(patience, strangerPatience)
		if c.srv.o.Crowded() {
			patience = c.opened.Add(crowdedPatience).Sub(now)
		}
	}
	c.until.Store(now.Add(patience).UnixNano())
	return nil
}

// SetWriteDeadline does nothing: each flush has a deadline.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is asked for by nobody but a TLS handshake.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// Close sends what is left, unless somebody is at it, and closes.
func (c *conn) Close() error {
	if c.mu.TryLock() {
		c.flushLocked(farewellTimeout)
		if c.err == nil {
			c.err = net.ErrClosed
		}
		c.mu.Unlock()
	}
	err := c.Conn.Close()
	c.closing.Do(c.parts.Done)
	return err
}

// abort closes without another word: what was sent may be incomplete.
func (c *conn) abort() { _ = c.Conn.Close() }
