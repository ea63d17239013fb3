package lab

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// door is a listening socket of a host. It is open from the start of the lab;
// whoever serves it is started when somebody knocks. While the host is down,
// connections are reset, as by a machine without that service.
type door struct {
	net.Listener
	network *network
	host    *Host
	port    Port
	lab     netip.AddrPort // the address in the lab
	knock   func()         // starts what serves; called for each connection
	passed  chan net.Conn
	done    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup
}

func newDoor(n *network, h *Host, p Port, l net.Listener, knock func()) *door {
	address := h.Address
	d := &door{Listener: l, network: n, host: h, port: p, lab: netip.AddrPortFrom(address, p.Port),
		knock: knock, passed: make(chan net.Conn), done: make(chan struct{})}
	d.wg.Go(d.run)
	return d
}

// Addr is the address in the lab.
func (d *door) Addr() net.Addr { return net.TCPAddrFromAddrPort(d.lab) }

// Accept waits for a connection that is let through.
func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.passed:
		return c, nil
	case <-d.done:
		return nil, net.ErrClosed
	}
}

// Close closes the socket.
func (d *door) Close() error {
	var err error
	d.once.Do(func() {
		close(d.done)
		err = d.Listener.Close()
	})
	d.wg.Wait()
	return err
}

// acceptPause is the wait after an accept that failed, for want of descriptors.
const acceptPause = 50 * time.Millisecond

func (d *door) run() {
	for {
		raw, err := d.Listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			t := time.NewTimer(acceptPause)
			select {
			case <-t.C:
			case <-d.done:
				t.Stop()
				return
			}
			continue
		}
		d.network.busy.Add(1)
		c, ok := d.enter(raw)
		if !ok {
			if tcp, ok := raw.(*net.TCPConn); ok {
				tcp.SetLinger(0) // a reset
			}
			raw.Close()
			continue
		}
		d.knock()
		select {
		case d.passed <- c:
		case <-d.done:
			raw.Close()
			return
		}
	}
}

// enter decides whether a connection gets through, and as what.
func (d *door) enter(raw net.Conn) (net.Conn, bool) {
	n := d.network
	real := addrPort(raw.RemoteAddr())
	from := n.caller(real)
	n.mu.Lock()
	down := n.wayLocked(from, d.host).down
	n.mu.Unlock()
	if down {
		return nil, false
	}
	c := &guest{Conn: raw, clock: n.clock, local: d.Addr(), remote: raw.RemoteAddr()}
	var conn net.Conn = c
	if from != nil {
		c.remote = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from.Address, real.Port()))
	} else {
		o := newOutsider(n, d.host, c)
		if conn = o; d.port.Service == "dns" {
			conn = &questioner{outsider: o}
		}
	}
	if d.port.Service == "smtp" || d.port.Service == "submission" {
		if f := newFilter(n, from, d.host, c, conn); f != nil {
			return f, true
		}
	}
	return conn, true
}

// guest is a connection as the server has it: addresses and deadlines are the
// lab's.
type guest struct {
	net.Conn
	clock         *Clock
	local, remote net.Addr
}

func (g *guest) LocalAddr() net.Addr                { return g.local }
func (g *guest) RemoteAddr() net.Addr               { return g.remote }
func (g *guest) SetDeadline(t time.Time) error      { return g.Conn.SetDeadline(g.clock.Real(t)) }
func (g *guest) SetReadDeadline(t time.Time) error  { return g.Conn.SetReadDeadline(g.clock.Real(t)) }
func (g *guest) SetWriteDeadline(t time.Time) error { return g.Conn.SetWriteDeadline(g.clock.Real(t)) }

// CloseWrite ends one direction.
func (g *guest) CloseWrite() error {
	if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SyscallConn is for a server that looks whether its client speaks too early.
func (g *guest) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := g.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
