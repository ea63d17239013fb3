package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"postrider/internal/clock"
	"postrider/mailstore/sqlite"
)

// Limits of the control socket. Only the data directory's owner can connect,
// and even so no program gone wrong shall fill the memory.
const (
	maxControlConns = 32
	maxControlInput = 1 << 20 // octets that one connection may send in all
	controlIdle     = 10 * time.Minute
	controlGrace    = 5 * time.Second // for commands in hand when the node ends
)

// control serves commands on connections until close.
type control struct {
	handle func(net.Conn) // one connection, which it closes
	input  int            // octets that one may send in all; 0 = no limit, and all the time it wants
	clock  clock.Clock
	cancel context.CancelFunc // of the commands

	mu      sync.Mutex
	conns   map[*controlConn]bool
	closing bool
	wg      sync.WaitGroup
}

// newControl serves Admin.
func newControl(n *Node) *control {
	base, cancel := context.WithCancel(context.Background())
	return &control{
		handle: func(conn net.Conn) {
			a := &Admin{n: n, base: base}
			if c, ok := conn.(*controlConn); ok {
				a.refill = func() { c.left.Store(maxControlInput) }
			}
			defer a.session.end()
			server := rpc.NewServer()
			if err := server.RegisterName("Admin", a); err != nil {
				panic(err) // Admin has no method that can be served
			}
			server.ServeCodec(jsonrpc.NewServerCodec(conn))
		},
		input: maxControlInput, clock: n.options.Clock, cancel: cancel, conns: map[*controlConn]bool{},
	}
}

// accept serves the connections of l until it is closed.
func (c *control) accept(l net.Listener) {
	c.wg.Go(func() {
		for {
			conn, err := l.Accept()
			switch {
			case err == nil:
				c.serve(conn)
			case errors.Is(err, net.ErrClosed):
				return
			default: // out of descriptors
				if !c.pause() {
					return
				}
			}
		}
	})
}

// pause waits before another try to accept; it is false when close began.
func (c *control) pause() bool {
	t := c.clock.NewTimer(100 * time.Millisecond)
	defer t.Stop()
	<-t.Chan()
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closing
}

// serve answers the commands of one connection.
func (c *control) serve(raw net.Conn) {
	conn := &controlConn{Conn: raw, clock: c.clock, free: c.input == 0}
	conn.left.Store(int64(c.input))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || len(c.conns) >= maxControlConns {
		raw.Close()
		return
	}
	c.conns[conn] = true
	c.wg.Go(func() {
		c.handle(conn)
		c.mu.Lock()
		delete(c.conns, conn)
		c.mu.Unlock()
	})
}

// close takes no new command and lets those in hand finish within a bound.
func (c *control) close() {
	c.mu.Lock()
	c.closing = true
	for conn := range c.conns {
		conn.end()
	}
	c.mu.Unlock()
	last := c.clock.AfterFunc(controlGrace, func() {
		c.cancel()
		c.mu.Lock()
		defer c.mu.Unlock()
		for conn := range c.conns {
			conn.Close()
		}
	})
	c.wg.Wait()
	last.Stop()
	c.cancel()
}

// errControlInput ends a connection that sends without end.
var errControlInput = errors.New("too much input on the control socket")

// controlConn is a connection on which nobody waits, or sends, without end.
type controlConn struct {
	net.Conn
	clock clock.Clock
	left  atomic.Int64 // octets that may still come
	free  bool         // of limits
}

func (c *controlConn) Read(p []byte) (int, error) {
	if c.free {
		return c.Conn.Read(p)
	}
	left := c.left.Load()
	if left <= 0 {
		return 0, errControlInput
	}
	if err := c.SetReadDeadline(c.clock.Now().Add(controlIdle)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), left)])
	c.left.Add(-int64(n))
	return n, err
}

func (c *controlConn) Write(p []byte) (int, error) {
	if c.free {
		return c.Conn.Write(p)
	}
	if err := c.SetWriteDeadline(c.clock.Now().Add(adminPatience)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// end takes no more commands: what came is answered.
func (c *controlConn) end() {
	if half, ok := c.Conn.(interface{ CloseRead() error }); ok && half.CloseRead() == nil {
		return
	}
	c.Close()
}

// AdminClient calls Admin, of a running server or of a store opened for it.
type AdminClient struct {
	rpc  *rpc.Client
	node *Node // nil: a running server's
	// Running tells that a server answers, rather than this process itself.
	Running bool
}

// OpenAdmin reaches the server that runs on o.DataDir; with none running it
// opens the data directory itself.
func OpenAdmin(ctx context.Context, o Options) (*AdminClient, error) {
	conn, n, err := connect(ctx, o, controlSocket, func(n *Node, c net.Conn) { n.control.serve(c) })
	if err != nil {
		return nil, err
	}
	return &AdminClient{rpc: jsonrpc.NewClient(conn), node: n, Running: n == nil}, nil
}

// Call runs a method of Admin by its name.
func (c *AdminClient) Call(method string, args, reply any) error {
	err := c.rpc.Call("Admin."+method, args, reply)
	var said rpc.ServerError
	switch {
	case errors.As(err, &said):
		return errors.New(strings.TrimSpace(string(said)))
	case errors.Is(err, rpc.ErrShutdown), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		return errors.New("the server ended before it answered: see whether the command took effect, and give it again if not")
	}
	return err
}

// Hangup ends a call that waits, and all later ones.
func (c *AdminClient) Hangup() { c.rpc.Close() }

// Close ends the use; a store opened for it is closed.
func (c *AdminClient) Close() {
	c.rpc.Close()
	if c.node != nil {
		c.node.Close()
	}
}

// OpenSubmission connects to the submission socket of the server that runs on
// o.DataDir; with none running it opens the data directory itself, and closeNode
// closes it. Mail for other servers then waits for one to run.
func OpenSubmission(ctx context.Context, o Options) (conn net.Conn, closeNode func(), err error) {
	conn, n, err := connect(ctx, o, submitSocket, func(n *Node, c net.Conn) { n.server.ServeConn(c, n.protocols["submit"]) })
	return conn, closing(conn, n), err
}

const (
	// busyPatience is how long a command waits for a data directory that is
	// held by a process without sockets: a server that starts or stops, or
	// another command.
	busyPatience = 10 * time.Second
	busyPause    = 50 * time.Millisecond
)

// connect connects to a socket of the server that runs on o.DataDir. With none
// running it opens the data directory, and serve answers at the other end of the
// connection; whoever closes that closes the node.
func connect(ctx context.Context, o Options, socket string, serve func(*Node, net.Conn)) (net.Conn, *Node, error) {
	var n *Node
	conn, err := reach(ctx, o, socket, func() (err error) {
		n, err = New(ctx, o, nil)
		return err
	})
	if err != nil || n == nil {
		return conn, nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, nil, errors.Join(err, n.Close())
	}
	serve(n, theirs)
	return ours, n, nil
}

// closing ends a node that was opened for one connection.
func closing(conn net.Conn, n *Node) func() {
	return func() {
		if n != nil {
			conn.Close()
			n.Close()
		}
	}
}

// reach connects to a socket of the server that runs on o.DataDir. With none
// running it has own take the directory, and returns no connection.
func reach(ctx context.Context, o Options, socket string, own func() error) (net.Conn, error) {
	c := o.Clock
	if c == nil {
		c = clock.System()
	}
	for waited := time.Duration(0); ; waited += busyPause {
		conn, err := DialInDir(o.DataDir, socket)
		if err == nil {
			return conn, nil
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("%w: do this as root or as the owner of the data directory", err)
		}
		err = own()
		if err == nil || !errors.Is(err, sqlite.ErrInUse) || waited >= busyPatience {
			return nil, err
		}
		t := c.NewTimer(busyPause)
		select {
		case <-t.Chan():
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		}
	}
}
