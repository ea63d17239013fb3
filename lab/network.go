package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// network joins the hosts of a lab. It knows which socket of this machine stands
// for which address and port of the lab, and does to what goes through it what
// links and faults say. Nothing that is asked for leaves the lab: an address
// without a host cannot be reached.
type network struct {
	clock   *Clock
	instant bool // waits for latency set the clock ahead instead
	shared  bool // all sockets have one address, which tells no hosts apart
	closed  chan struct{}
	busy    atomic.Int64 // what went through; Jump watches it
	waits   atomic.Int64 // how many let time pass, for a slow way

	// dialing is held for reading from a connect until its caller is known, so
	// that whoever accepts the connection finds it.
	dialing sync.RWMutex

	mu      sync.Mutex
	rand    *rand.Rand
	places  map[netip.AddrPort]netip.AddrPort // of the lab → of this machine
	owners  map[netip.Addr][]*Host            // several: replicas
	sites   map[string]string                 // of hosts
	links   []Link
	faults  []Fault
	lastID  int
	callers map[netip.AddrPort]*Host // real addresses of connections dialed here
	conns   map[*lineConn]bool
	trips   map[[2]string]Traffic
	greeted map[string]time.Time // greylisting: the first try of each triple
	calls   map[string][]time.Time
}

// Traffic counts what went from one host to another.
type Traffic struct {
	Connections int `json:"connections"` // and datagram sockets
	RoundTrips  int `json:"round_trips"`
	Sent        int `json:"sent"` // octets
	Received    int `json:"received"`
}

func newNetwork(w *World, c *Clock, seed uint64) *network {
	n := &network{
		clock: c, closed: make(chan struct{}), rand: rand.New(rand.NewPCG(seed, seed)),
		places: map[netip.AddrPort]netip.AddrPort{}, owners: map[netip.Addr][]*Host{}, sites: map[string]string{},
		links: w.Links, callers: map[netip.AddrPort]*Host{}, conns: map[*lineConn]bool{},
		trips: map[[2]string]Traffic{}, greeted: map[string]time.Time{}, calls: map[string][]time.Time{},
	}
	for i := range w.Hosts {
		n.addHost(w, &w.Hosts[i])
	}
	return n
}

func (n *network) addHost(w *World, h *Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	address := h.Address
	if of, ok := w.Host(h.ReplicaOf); ok {
		address = of.Address
		n.owners[h.Address] = append(n.owners[h.Address], h)
		n.owners[address] = append([]*Host{h}, n.owners[address]...) // before the one that serves the rest
	} else {
		n.owners[address] = append(n.owners[address], h)
	}
	n.sites[h.Name] = h.Site
}

// place says which socket stands for an address and port of the lab.
func (n *network) place(lab, real netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.places[lab] = real
}

// owner is the host that from reaches at an address: of replicas the one that
// serves its site.
func (n *network) ownerLocked(a netip.Addr, from *Host) *Host {
	for _, h := range n.owners[a] {
		if h.ReplicaOf == "" || h.Address == a {
			return h
		}
		if from != nil {
			for _, s := range h.Serves {
				if s == from.Site {
					return h
				}
			}
		}
	}
	return nil
}

// host is the host that has a real address, as far as it can be told: nil for
// one from outside the lab.
func (n *network) caller(real netip.AddrPort) *Host {
	if !n.shared {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.ownerLocked(real.Addr(), nil)
	}
	n.dialing.Lock()
	defer n.dialing.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.callers[real]
}

// real is where a caller's address of the lab is on this machine.
func (n *network) real(lab netip.AddrPort) netip.AddrPort {
	if n.shared {
		n.mu.Lock()
		defer n.mu.Unlock()
		for own, h := range n.callers {
			if h.Address == lab.Addr() && own.Port() == lab.Port() {
				return own
			}
		}
	}
	return lab
}

// errOutside is the end of every way out of the lab.
var errOutside = fmt.Errorf("no host of the lab has this address: %w", syscall.EHOSTUNREACH)

// dialer returns how a host connects to others. Addresses are the lab's.
func (n *network) dialer(from *Host) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := n.dial(ctx, from, network, addr)
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: network, Err: err}
		}
		return c, nil
	}
}

func (n *network) dial(ctx context.Context, from *Host, network, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	n.busy.Add(1)
	n.mu.Lock()
	h := n.ownerLocked(to.Addr(), from)
	if h == nil {
		n.mu.Unlock()
		return nil, errOutside
	}
	real, listening := n.places[netip.AddrPortFrom(h.Address, to.Port())]
	way := n.wayLocked(from, h)
	n.mu.Unlock()
	udp := network[:3] == "udp"
	c := &lineConn{network: n, from: from, to: h, udp: udp, remote: socketAddr(udp, to), done: make(chan struct{})}
	switch {
	case way.down && udp:
		real = n.nowhere() // a datagram to it is lost
	case way.down:
		return nil, syscall.EHOSTUNREACH
	case !listening && udp:
		real = n.nowhere()
	case !listening:
		return nil, syscall.ECONNREFUSED
	}
	if !udp { // the three-way handshake
		if err := c.wait(ctx, way.rtt+n.lost(way.loss, time.Second)); err != nil {
			return nil, err
		}
	}
	if err := c.connect(ctx, network, real); err != nil {
		return nil, err
	}
	c.flip = !udp // the greeting takes a way and a half, too
	return c, nil
}

// nowhere is an address of this machine on which nobody listens and from which
// nothing comes back: the discard port of an address that is not the lab's.
func (n *network) nowhere() netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:9") }

// connect opens the real connection and makes its caller known.
func (c *lineConn) connect(ctx context.Context, network string, real netip.AddrPort) error {
	n := c.network
	d := net.Dialer{}
	if c.from != nil && !n.shared {
		d.LocalAddr = socketAddr(c.udp, netip.AddrPortFrom(c.from.Address, 0))
	}
	n.dialing.RLock()
	defer n.dialing.RUnlock()
	conn, err := d.DialContext(ctx, network, real.String())
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			return op.Err
		}
		return err
	}
	c.Conn, c.local = conn, conn.LocalAddr()
	own := addrPort(conn.LocalAddr())
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[c] = true
	if c.from != nil {
		c.local = socketAddr(c.udp, netip.AddrPortFrom(c.from.Address, own.Port()))
		if n.shared {
			n.callers[own] = c.from
			c.own = own
		}
	}
	n.countLocked(c, Traffic{Connections: 1})
	return nil
}

func (n *network) countLocked(c *lineConn, more Traffic) {
	key := [2]string{hostName(c.from), c.to.Name}
	t := n.trips[key]
	t.Connections += more.Connections
	t.RoundTrips += more.RoundTrips
	t.Sent += more.Sent
	t.Received += more.Received
	n.trips[key] = t
}

// hostName names a host; "" is somebody outside the lab.
func hostName(h *Host) string {
	if h == nil {
		return ""
	}
	return h.Name
}

// lostSegment is after how long a segment is sent again.
const lostSegment = 300 * time.Millisecond

// lost is how long the loss of a segment delays a connection, if one is lost.
func (n *network) lost(loss float64, timeout time.Duration) time.Duration {
	if loss == 0 || !n.chance(loss) {
		return 0
	}
	return timeout
}

func (n *network) chance(p float64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rand.Float64() < p
}

// close ends all connections.
func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.closed:
	default:
		close(n.closed)
	}
	for c := range n.conns {
		c.Conn.Close()
	}
}

// due tells whether somebody waits for an answer that will come by itself, without
// more time: not from a name server that itself waits for one that is lost.
func (n *network) due() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	stuck := map[*Host]bool{}
	for c := range n.conns {
		if c.silent.Load() && c.from != nil {
			stuck[c.from] = true
		}
	}
	for more := len(stuck) > 0; more; {
		more = false
		for c := range n.conns {
			if c.udp && c.awaits.Load() && stuck[c.to] && c.from != nil && !stuck[c.from] {
				stuck[c.from], more = true, true
			}
		}
	}
	for c := range n.conns {
		if c.awaits.Load() && !(c.udp && stuck[c.to]) {
			return true
		}
	}
	return false
}

// silent tells whether somebody waits for an answer that is lost.
func (n *network) silent() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if c.silent.Load() {
			return true
		}
	}
	return false
}

// cut closes the connections that match.
func (n *network) cut(match func(from, to *Host) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if match(c.from, c.to) {
			c.Conn.Close()
		}
	}
}

func socketAddr(udp bool, ap netip.AddrPort) net.Addr {
	if udp {
		return net.UDPAddrFromAddrPort(ap)
	}
	return net.TCPAddrFromAddrPort(ap)
}

func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// lineConn is a connection as the host that opened it has it.
type lineConn struct {
	net.Conn
	network       *network
	from, to      *Host // from is nil outside the lab
	udp           bool
	local, remote net.Addr
	own           netip.AddrPort // in network.callers
	once          sync.Once
	done          chan struct{}

	awaits   atomic.Bool // an answer is due
	silent   atomic.Bool // what was written last is lost: no answer will come
	mu       sync.Mutex
	flip     bool      // written to since the last read: the answer takes a round trip
	due      time.Time // of the lab: before it no answer can be here
	deadline time.Time // for reading, of this machine
	forged   [][]byte  // answers that somebody on the way gives
	asked    []byte    // the beginning of a question over TCP
}

// The Is-this-a-socket questions of a server are for the real one.
func (c *lineConn) LocalAddr() net.Addr  { return c.local }
func (c *lineConn) RemoteAddr() net.Addr { return c.remote }

func (c *lineConn) Close() error {
	c.once.Do(func() {
		close(c.done)
		c.network.mu.Lock()
		defer c.network.mu.Unlock()
		delete(c.network.conns, c)
		delete(c.network.callers, c.own)
	})
	return c.Conn.Close()
}

// CloseWrite ends one direction.
func (c *lineConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *lineConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *lineConn) SetReadDeadline(t time.Time) error {
	t = c.network.clock.Real(t)
	c.mu.Lock()
	c.deadline = t
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

func (c *lineConn) SetWriteDeadline(t time.Time) error {
	return c.Conn.SetWriteDeadline(c.network.clock.Real(t))
}

func (c *lineConn) Write(p []byte) (int, error) {
	n := c.network
	n.busy.Add(1)
	n.mu.Lock()
	way := n.wayLocked(c.from, c.to)
	n.countLocked(c, Traffic{Sent: len(p)})
	n.mu.Unlock()
	if len(way.tamper) > 0 {
		if answer := c.tampered(way.tamper, p); answer {
			return len(p), nil
		}
	}
	c.mu.Lock()
	c.flip, c.due = true, n.clock.Now().Add(way.rtt)
	c.mu.Unlock()
	lost := way.down || c.udp && way.loss > 0 && n.chance(way.loss)
	c.silent.Store(lost)
	c.awaits.Store(!lost)
	if c.udp && lost {
		return len(p), nil
	}
	size, err := c.Conn.Write(p)
	if err != nil {
		c.awaits.Store(false)
	}
	return size, err
}

func (c *lineConn) Read(p []byte) (int, error) {
	n := c.network
	c.mu.Lock()
	flip, due, deadline := c.flip, c.due, c.deadline
	c.flip = false
	if len(c.forged) > 0 {
		got := copy(p, c.forged[0])
		if c.forged[0] = c.forged[0][got:]; len(c.forged[0]) == 0 || c.udp {
			c.forged = c.forged[1:]
		}
		c.mu.Unlock()
		return got, nil
	}
	c.mu.Unlock()
	if flip {
		n.mu.Lock()
		way := n.wayLocked(c.from, c.to)
		n.countLocked(c, Traffic{RoundTrips: 1})
		n.mu.Unlock()
		wait := due.Sub(n.clock.Now())
		if due.IsZero() {
			wait = way.rtt
		}
		if !c.udp {
			wait += n.lost(way.loss, lostSegment)
		}
		if err := c.pause(wait, deadline); err != nil {
			return 0, err
		}
	}
	got, err := c.Conn.Read(p)
	c.awaits.Store(false)
	n.busy.Add(1)
	n.mu.Lock()
	n.countLocked(c, Traffic{Received: got})
	n.mu.Unlock()
	return got, err
}

// pause lets d of the lab's time pass, unless the deadline comes first.
func (c *lineConn) pause(d time.Duration, deadline time.Time) error {
	if d <= 0 {
		return nil
	}
	ctx := context.Background()
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	if err := c.wait(ctx, d); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return os.ErrDeadlineExceeded
		}
		return err
	}
	return nil
}

func (c *lineConn) wait(ctx context.Context, d time.Duration) error {
	return c.network.wait(ctx, d, c.done)
}

// wait lets d of the lab's time pass, unless done is closed first.
func (n *network) wait(ctx context.Context, d time.Duration, done <-chan struct{}) error {
	if d <= 0 {
		return ctx.Err()
	}
	if n.instant {
		n.clock.advance(d)
		return ctx.Err()
	}
	n.waits.Add(1)
	defer n.waits.Add(-1)
	t := n.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.Chan():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-done:
		return net.ErrClosed
	case <-n.closed:
		return net.ErrClosed
	}
}
