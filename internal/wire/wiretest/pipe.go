// Package wiretest has in-memory connections for tests: a buffered pair, a
// listener, and a network of listeners. Unlike net.Pipe they have a send
// buffer, as sockets do, so that a dialogue with pipelining does not deadlock;
// unlike sockets they work inside testing/synctest, where all their deadlines
// run on the bubble's clock.
//
// Everything here may be used concurrently. Nothing survives the process.
package wiretest

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// BufferSize is how many octets one direction of a connection holds before
// Write waits for the reader.
const BufferSize = 64 << 10

// Pipe returns the two ends of a connection from 127.0.0.1:49152 to
// 127.0.0.1:25. Close lets the peer read what was written and then io.EOF; the
// ends also have CloseWrite, as *net.TCPConn does.
func Pipe() (client, server net.Conn) {
	local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	return PipeAddr(netip.AddrPortFrom(local, 49152), netip.AddrPortFrom(local, 25))
}

// PipeAddr is Pipe between two given addresses.
func PipeAddr(clientAddr, serverAddr netip.AddrPort) (client, server net.Conn) {
	c, s := pair(net.TCPAddrFromAddrPort(clientAddr), net.TCPAddrFromAddrPort(serverAddr))
	return c, s
}

// Break makes both directions of a connection made here fail at once with
// ECONNRESET, as a lost peer does; what was not read yet is gone.
func Break(c net.Conn) {
	if c, ok := c.(*conn); ok {
		c.in.breakOff()
		c.out.breakOff()
	}
}

func pair(clientAddr, serverAddr net.Addr) (client, server *conn) {
	up, down := newStream(), newStream()
	client = &conn{in: down, out: up, local: clientAddr, remote: serverAddr}
	server = &conn{in: up, out: down, local: serverAddr, remote: clientAddr}
	return client, server
}

// conn is one end of a connection.
type conn struct {
	in, out       *stream
	local, remote net.Addr
}

func (c *conn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *conn) Write(p []byte) (int, error) { return c.out.write(p) }

func (c *conn) Close() error {
	c.out.closeWrite(true)
	c.in.closeRead()
	return nil
}

// CloseWrite ends the outgoing direction only.
func (c *conn) CloseWrite() error {
	c.out.closeWrite(false)
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.reading, t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writing, t)
	return nil
}

// stream is one direction: bytes in flight and who has given up on them.
type stream struct {
	mu         sync.Mutex
	changed    sync.Cond
	buf        []byte
	eof        bool // the writer is done; the reader gets what is left
	writerGone bool // the writer closed: its Write fails with net.ErrClosed
	readerGone bool // the reader closed: its Read fails with net.ErrClosed
	broken     bool
	reading    deadline
	writing    deadline
}

// deadline belongs to one side of a stream.
type deadline struct {
	timer   *time.Timer
	expired bool
}

func newStream() *stream {
	s := new(stream)
	s.changed.L = &s.mu
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readerGone:
			return 0, net.ErrClosed
		case s.broken:
			return 0, syscall.ECONNRESET
		case s.reading.expired:
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case len(s.buf) > 0:
			n := copy(p, s.buf)
			s.buf = s.buf[n:]
			if len(s.buf) == 0 {
				s.buf = nil
			}
			s.changed.Broadcast()
			return n, nil
		case s.eof:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *stream) write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	written := 0
	for {
		switch {
		case s.writerGone:
			return written, net.ErrClosed
		case s.broken:
			return written, syscall.ECONNRESET
		case s.readerGone, s.eof:
			return written, syscall.EPIPE
		case s.writing.expired:
			return written, os.ErrDeadlineExceeded
		case len(p) == 0:
			return written, nil
		case len(s.buf) < BufferSize:
			n := min(len(p), BufferSize-len(s.buf))
			s.buf = append(s.buf, p[:n]...)
			p = p[n:]
			written += n
			s.changed.Broadcast()
			continue
		}
		s.changed.Wait()
	}
}

func (s *stream) closeWrite(gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eof = true
	s.writerGone = s.writerGone || gone
	s.writing.stop()
	s.changed.Broadcast()
}

func (s *stream) closeRead() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readerGone = true
	s.buf = nil
	s.reading.stop()
	s.changed.Broadcast()
}

func (s *stream) breakOff() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = true
	s.buf = nil
	s.changed.Broadcast()
}

// setDeadline sets d, one of s's two, to t; the zero time means never.
func (s *stream) setDeadline(d *deadline, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.stop()
	d.expired = false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.expired = true
		s.changed.Broadcast()
		return
	}
	var mine *time.Timer
	mine = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if d.timer == mine {
			d.expired = true
			s.changed.Broadcast()
		}
	})
	d.timer = mine
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
