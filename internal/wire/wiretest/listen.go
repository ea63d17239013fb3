package wiretest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Backlog is how many connections wait in a Listener for Accept.
const Backlog = 128

// Listener is a net.Listener in memory.
type Listener struct {
	addr    net.TCPAddr
	pending chan net.Conn
	closed  chan struct{}
	onClose func()

	wake chan struct{} // makes Accept look again at what follows

	mu       sync.Mutex
	done     bool
	port     uint16  // of the last client
	fail     []error // what the next Accepts return
	deadline time.Time
}

// Listen returns a Listener at 127.0.0.1:25.
func Listen() *Listener {
	return ListenAddr(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 25))
}

// ListenAddr returns a Listener that says it is at addr.
func ListenAddr(addr netip.AddrPort) *Listener {
	return &Listener{
		addr:    *net.TCPAddrFromAddrPort(addr),
		pending: make(chan net.Conn, Backlog),
		closed:  make(chan struct{}),
		wake:    make(chan struct{}, 1),
		port:    49151,
	}
}

// Fail makes the next calls of Accept return errs, one each.
func (l *Listener) Fail(errs ...error) {
	l.mu.Lock()
	l.fail = append(l.fail, errs...)
	l.mu.Unlock()
	l.lookAgain()
}

// Failures is how many errors of Fail were not returned yet.
func (l *Listener) Failures() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.fail)
}

// SetDeadline sets when Accept gives up; the zero time means never.
func (l *Listener) SetDeadline(t time.Time) error {
	l.mu.Lock()
	l.deadline = t
	l.mu.Unlock()
	l.lookAgain()
	return nil
}

func (l *Listener) lookAgain() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// state is the error that Accept has to return now, or when to give up.
func (l *Listener) state() (deadline time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		return time.Time{}, net.ErrClosed
	}
	if len(l.fail) > 0 {
		err = l.fail[0]
		l.fail = l.fail[1:]
	}
	return l.deadline, err
}

// Accept waits for the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		deadline, err := l.state()
		if err != nil {
			return nil, err
		}
		c, err := l.acceptUntil(deadline)
		if c != nil || err != nil {
			return c, err
		}
	}
}

// acceptUntil returns nothing when it was woken.
func (l *Listener) acceptUntil(deadline time.Time) (net.Conn, error) {
	var expired <-chan time.Time
	if !deadline.IsZero() {
		t := time.NewTimer(time.Until(deadline))
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	case <-l.wake:
		return nil, nil
	case <-expired:
		return nil, os.ErrDeadlineExceeded
	case c := <-l.pending:
		return c, nil
	}
}

// Close ends Accept; connections that wait for it are reset.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		return net.ErrClosed
	}
	l.done = true
	close(l.closed)
	for {
		select {
		case c := <-l.pending:
			Break(c)
			continue
		default:
		}
		break
	}
	if l.onClose != nil {
		l.onClose()
	}
	return nil
}

// Addr is the address of ListenAddr.
func (l *Listener) Addr() net.Addr { return &l.addr }

// Dial connects from 127.0.0.1 and a port of its own.
func (l *Listener) Dial(ctx context.Context) (net.Conn, error) {
	return l.DialFrom(ctx, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
}

// DialFrom connects from an address and a port of its own.
func (l *Listener) DialFrom(ctx context.Context, from netip.Addr) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		return nil, refused(l.addr.String())
	}
	l.port = max(l.port+1, 49152)
	client, server := pair(net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, l.port)), &l.addr)
	select {
	case l.pending <- server:
		return client, nil
	default:
		return nil, refused(l.addr.String())
	}
}

func refused(addr string) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("%s: %w", addr, syscall.ECONNREFUSED)}
}

// Network is a set of listeners found by their addresses. Its zero value is
// ready to use.
type Network struct {
	mu        sync.Mutex
	listeners map[string]*Listener
}

// Listen opens a listener at addr ("192.0.2.1:25").
func (n *Network) Listen(addr string) (*Listener, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	key := ap.String()
	if n.listeners[key] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Err: fmt.Errorf("%s: %w", key, syscall.EADDRINUSE)}
	}
	l := ListenAddr(ap)
	l.onClose = func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.listeners, key)
	}
	if n.listeners == nil {
		n.listeners = make(map[string]*Listener)
	}
	n.listeners[key] = l
	return l, nil
}

// Dial connects to the listener at addr; it has the signature of
// net.Dialer.DialContext. Where none listens it fails with ECONNREFUSED.
func (n *Network) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	n.mu.Lock()
	l := n.listeners[ap.String()]
	n.mu.Unlock()
	if l == nil {
		return nil, refused(ap.String())
	}
	return l.Dial(ctx)
}
