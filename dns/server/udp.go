package server

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	// batch is how many datagrams one system call takes or sends.
	batch = 32
	// controlSize has room for the local address of a datagram.
	controlSize = 64
	// failurePause spaces reads of a socket that fails.
	failurePause = 50 * time.Millisecond
)

// batcher reads and writes many datagrams at once; both families have it.
type batcher interface {
	ReadBatch(ms []ipv4.Message, flags int) (int, error)
	WriteBatch(ms []ipv4.Message, flags int) (int, error)
}

// oneByOne is a batcher of a socket that is not the system's.
type oneByOne struct{ net.PacketConn }

func (o oneByOne) ReadBatch(ms []ipv4.Message, _ int) (n int, err error) {
	ms[0].N, ms[0].Addr, err = o.ReadFrom(ms[0].Buffers[0])
	if err != nil {
		return 0, err
	}
	ms[0].NN = 0
	return 1, nil
}

func (o oneByOne) WriteBatch(ms []ipv4.Message, _ int) (int, error) {
	_, err := o.WriteTo(ms[0].Buffers[0], ms[0].Addr)
	return 1, err
}

// packets is a socket of the service.
type packets struct {
	conn  net.PacketConn
	batch batcher
	// wild means bound to every address: then each answer has to leave from
	// the one that the query came to, or the client will not know it.
	wild bool
	six  bool
}

// ServePacket answers the queries that come to a UDP socket, until Close. It
// returns at once and owns the socket. One that is no *net.UDPConn is read and
// written a datagram at a time, and must be bound to one address.
func (s *Server) ServePacket(c net.PacketConn) error {
	all := []net.PacketConn{c}
	if u, ok := c.(*net.UDPConn); ok {
		// As much as the system lets us: bursts wait here while we answer. An
		// error leaves the size as it was.
		_ = u.SetReadBuffer(4 << 20)
		_ = u.SetWriteBuffer(1 << 20)
		sockets, err := readers(u, runtime.GOMAXPROCS(0))
		if err != nil {
			c.Close()
			return err
		}
		all = all[:0]
		for _, u := range sockets {
			all = append(all, u)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets = append(s.sockets, all...)
	if s.closed {
		s.closeSocketsLocked()
		return errClosed
	}
	for _, c := range all {
		p, err := newPackets(c)
		if err != nil {
			s.closeSocketsLocked()
			return err
		}
		s.wg.Go(func() { s.readPackets(p) })
	}
	return nil
}

// closeSocketsLocked ends all reading.
func (s *Server) closeSocketsLocked() {
	for _, c := range s.sockets {
		wake(c)
		c.Close()
	}
	s.sockets = nil
}

func newPackets(c net.PacketConn) (*packets, error) {
	addr, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return nil, errors.New("dns: not a UDP socket")
	}
	if _, ok := c.(*net.UDPConn); !ok {
		return &packets{conn: c, batch: oneByOne{c}}, nil
	}
	p := &packets{conn: c, wild: addr.IP.IsUnspecified(), six: addr.IP.To4() == nil}
	var err error
	if p.six {
		six := ipv6.NewPacketConn(c)
		p.batch = six
		if p.wild {
			err = six.SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
		}
	} else {
		four := ipv4.NewPacketConn(c)
		p.batch = four
		if p.wild {
			err = four.SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
		}
	}
	return p, err
}

// source makes the control message of an answer from that of its query: it
// leaves from the address that the query came to.
func (p *packets) source(dst, control []byte) []byte {
	if !p.wild || len(control) == 0 {
		return nil
	}
	if p.six {
		var cm ipv6.ControlMessage
		if cm.Parse(control) != nil || cm.Dst == nil || cm.Dst.IsMulticast() {
			return nil
		}
		out := ipv6.ControlMessage{Src: cm.Dst}
		if cm.Dst.IsLinkLocalUnicast() {
			out.IfIndex = cm.IfIndex
		}
		return append(dst, out.Marshal()...)
	}
	var cm ipv4.ControlMessage
	if cm.Parse(control) != nil || cm.Dst == nil || cm.Dst.IsMulticast() {
		return nil
	}
	out := ipv4.ControlMessage{Src: cm.Dst}
	return append(dst, out.Marshal()...)
}

// reader is what one goroutine reads and answers with.
type reader struct {
	worker
	in, out []ipv4.Message
	buffers []byte // of the answers of one batch
	full    int    // how many of out are in use
}

func newReader(p *packets) *reader {
	r := &reader{in: make([]ipv4.Message, batch), out: make([]ipv4.Message, batch)}
	for i := range r.in {
		r.out[i].Buffers = make([][]byte, 1)
		r.in[i].Buffers = [][]byte{make([]byte, largestUDP+1)}
		if p.wild {
			r.in[i].OOB = make([]byte, controlSize)
		}
	}
	return r
}

// readPackets answers what comes, a batch at a time.
func (s *Server) readPackets(p *packets) {
	r := newReader(p)
	for {
		n, err := p.batch.ReadBatch(r.in, waitForOne)
		if err == nil && s.base.Err() != nil {
			return
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !s.pause(failurePause) {
				return
			}
			continue // out of memory for the moment, or an error of an earlier send
		}
		r.now = s.clock.Now()
		r.full, r.buffers = 0, r.buffers[:0]
		for i := range r.in[:n] {
			s.answerPacket(p, r, &r.in[i])
		}
		p.send(r.out[:r.full])
	}
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
func (s *Server) answerPacket(p *packets, r *reader, m *ipv4.Message) {
	udp, ok := m.Addr.(*net.UDPAddr)
	if !ok || udp.Port == 0 || m.N > largestUDP {
		s.stats.Dropped.Add(1)
		return
	}
	from := udp.AddrPort()
	c := client{addr: unmapped(from.Addr()), transport: UDP}
	msg := m.Buffers[0][:m.N]
	start := len(r.buffers)
	reply, pending := s.take(r.buffers, &r.worker, &c, msg)
	if pending {
		control := p.source(nil, m.OOB[:m.NN])
		s.begin(&c, msg, func(reply []byte) error {
			p.send([]ipv4.Message{{Buffers: [][]byte{reply}, OOB: control, Addr: udp}})
			return nil
		}, func() {})
		return
	}
	if reply == nil {
		return
	}
	r.buffers = reply
	out := &r.out[r.full]
	r.full++
	out.Buffers[0], out.Addr, out.OOB = reply[start:], udp, nil
	if p.wild {
		out.OOB = p.source(nil, m.OOB[:m.NN])
	}
}

// send writes datagrams. One that cannot be sent is lost, as it may be on the
// way.
func (p *packets) send(ms []ipv4.Message) {
	for len(ms) > 0 {
		n, err := p.batch.WriteBatch(ms, 0)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n == 0 {
			n = 1
		}
		ms = ms[n:]
	}
}

// unmapped is an address as networks are compared with it.
func unmapped(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
