package server

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"time"
)

const (
	// batch is how many datagrams one system call takes or sends.
	batch = 32
	// manyWaiting datagrams in a batch have a second goroutine read the socket. Below it
	// one thread sleeps for the next datagram: with two, each datagram would
	// wake the one whose caches are cold.
	manyWaiting = batch
	// failurePause spaces reads of a socket that fails.
	failurePause = 50 * time.Millisecond
	// yieldEvery is how long a goroutine reads before it lets others run. One that
	// goes on for 10 ms is interrupted by the runtime, whose watching thread then
	// looks at it a few thousand times a second.
	yieldEvery = 8 * time.Millisecond
)

// socket reads and answers datagrams for one goroutine.
type socket interface {
	// hold keeps the socket from being freed while f uses the methods below.
	hold(f func())
	// read returns how many datagrams came. With wait it waits for one.
	read(wait bool) (int, error)
	// datagram is one of the last read, good until the next. A sender without a
	// port is one that cannot be answered.
	datagram(i int) (msg []byte, from netip.AddrPort)
	// queue makes a reply to a datagram ready for flush.
	queue(i int, reply []byte)
	flush()
	// later returns what sends a reply at any time, from any goroutine.
	later(i int) func(reply []byte)
}

// oneByOne is the datagrams of a socket that is not the system's.
type oneByOne struct {
	net.PacketConn
	buf   [largestUDP + 1]byte
	n     int
	from  net.Addr
	reply []byte
}

func (o *oneByOne) hold(f func()) { f() }

func (o *oneByOne) read(bool) (_ int, err error) {
	o.n, o.from, err = o.ReadFrom(o.buf[:])
	return 1, err
}

func (o *oneByOne) datagram(int) ([]byte, netip.AddrPort) {
	if udp, ok := o.from.(*net.UDPAddr); ok {
		return o.buf[:o.n], udp.AddrPort()
	}
	return nil, netip.AddrPort{}
}

func (o *oneByOne) queue(_ int, reply []byte) { o.reply = reply }

func (o *oneByOne) flush() {
	if o.reply != nil {
		_, _ = o.WriteTo(o.reply, o.from) // lost, as it may be on the way
		o.reply = nil
	}
}

func (o *oneByOne) later(int) func([]byte) {
	from := o.from
	return func(reply []byte) { _, _ = o.WriteTo(reply, from) }
}

// ServePacket answers the queries that come to a UDP socket, until Close. It
// returns at once and owns the socket. One that is no *net.UDPConn is read and
// written a datagram at a time, and must be bound to one address.
func (s *Server) ServePacket(c net.PacketConn) error {
	if _, ok := c.LocalAddr().(*net.UDPAddr); !ok {
		c.Close()
		return errors.New("dns: not a UDP socket")
	}
	var first socket = &oneByOne{PacketConn: c}
	var others []socket
	stop := func() { c.Close() }
	if u, ok := c.(*net.UDPConn); ok {
		// As much as the system lets us: bursts wait here while we answer. An
		// error leaves the size as it was.
		_ = u.SetReadBuffer(4 << 20)
		_ = u.SetWriteBuffer(1 << 20)
		var err error
		if first, others, stop, err = open(u); err != nil {
			c.Close()
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets = append(s.sockets, stop)
	if s.closed {
		s.closeSocketsLocked()
		return errClosed
	}
	many := make(chan struct{})
	s.wg.Go(func() { first.hold(func() { s.readPackets(first, many) }) })
	for _, d := range others {
		s.wg.Go(func() { d.hold(func() { s.helpRead(d, many) }) })
	}
	return nil
}

// closeSocketsLocked ends all reading.
func (s *Server) closeSocketsLocked() {
	for _, stop := range s.sockets {
		stop()
	}
	s.sockets = nil
}

// reader is what one goroutine reads and answers with.
type reader struct {
	worker
	buffers []byte // of the answers of one batch
}

// readPackets answers what comes, a batch at a time, and tells many when it gets
// too much for one.
func (s *Server) readPackets(d socket, many chan<- struct{}) {
	var r reader
	var yielded time.Time
	for {
		n, err := d.read(true)
		if err == nil && s.base.Err() != nil {
			return
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !s.pause(failurePause) {
				return
			}
			continue // out of memory for the moment, or an error of an earlier send
		}
		if n >= manyWaiting {
			select {
			case many <- struct{}{}:
			default: // all help already
			}
		}
		s.answerPackets(d, &r, n)
		if r.now.Sub(yielded) > yieldEvery {
			runtime.Gosched()
			yielded = r.now
		}
	}
}

// helpRead reads while there is much to read.
func (s *Server) helpRead(d socket, many <-chan struct{}) {
	var r reader
	for {
		select {
		case <-s.base.Done():
			return
		case <-many:
		}
		for s.base.Err() == nil {
			n, err := d.read(false)
			if err != nil {
				break
			}
			s.answerPackets(d, &r, n)
			if n < batch/2 {
				break
			}
		}
	}
}

// answerPackets answers a batch.
func (s *Server) answerPackets(d socket, r *reader, n int) {
	r.now, r.listened = s.clock.Now(), s.listened()
	r.buffers = r.buffers[:0]
	for i := range n {
		s.answerPacket(d, r, i)
	}
	d.flush()
}

// pause waits for d; it is false when the server closes.
func (s *Server) pause(d time.Duration) bool {
	t := s.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.Chan():
		return true
	case <-s.base.Done():
		return false
	}
}

// answerPacket answers one datagram, or leaves it to a goroutine of its own.
func (s *Server) answerPacket(d socket, r *reader, i int) {
	msg, from := d.datagram(i)
	if from.Port() == 0 || len(msg) > largestUDP {
		s.stats.Dropped.Add(1)
		return
	}
	c := client{addr: unmapped(from.Addr()), transport: UDP}
	start := len(r.buffers)
	reply, pending := s.take(r.buffers, &r.worker, &c, msg)
	if pending {
		send := d.later(i)
		s.begin(&c, msg, func(reply []byte) error {
			send(reply)
			return nil
		}, func() {})
		return
	}
	if reply == nil {
		return
	}
	r.buffers = reply
	d.queue(i, reply[start:])
}

// unmapped is an address as networks are compared with it.
func unmapped(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
