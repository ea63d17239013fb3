package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// controlSocket and submitSocket stand in the data directory, open to its
// owner only.
const (
	controlSocket = "control.sock"
	submitSocket  = "submit.sock"
)

// maxUnixPath is the length of sun_path, with its NUL (unix(7)).
const maxUnixPath = 108

// socketPath returns a path for a socket in dir that fits sun_path; release
// ends its use after the bind or connect. A long path is reached through a
// descriptor of its directory.
func socketPath(dir, name string) (path string, release func(), err error) {
	path = filepath.Join(dir, name)
	if len(path) < maxUnixPath {
		return path, func() {}, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name), func() { d.Close() }, nil
}

func listenInDir(dir, name string) (net.Listener, error) {
	path, release, err := socketPath(dir, name)
	if err != nil {
		return nil, err
	}
	defer release()
	// The directory is locked by us: a socket that is there is a dead one's.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // path may be of a descriptor that is closed by then
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func dialInDir(dir, name string) (net.Conn, error) {
	path, release, err := socketPath(dir, name)
	if err != nil {
		return nil, err
	}
	defer release()
	return net.Dial("unix", path)
}

// DialSubmit connects to the submission socket of the server that runs on
// dataDir.
func DialSubmit(dataDir string) (net.Conn, error) { return dialInDir(dataDir, submitSocket) }

// control serves Admin on the control socket until Close.
type control struct {
	l     net.Listener
	rpc   *rpc.Server
	mu    sync.Mutex
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

func newControl(l net.Listener, a *Admin) (*control, error) {
	c := &control{l: l, rpc: rpc.NewServer(), conns: map[net.Conn]bool{}}
	if err := c.rpc.RegisterName("Admin", a); err != nil {
		return nil, err
	}
	c.wg.Go(c.accept)
	return c, nil
}

func (c *control) accept() {
	for {
		conn, err := c.l.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		c.conns[conn] = true
		c.mu.Unlock()
		c.wg.Go(func() {
			c.rpc.ServeCodec(jsonrpc.NewServerCodec(conn))
			c.mu.Lock()
			delete(c.conns, conn)
			c.mu.Unlock()
		})
	}
}

func (c *control) Close() {
	c.l.Close()
	c.mu.Lock()
	for conn := range c.conns {
		conn.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// AdminClient calls Admin, of a running server or of a store opened for it.
type AdminClient struct {
	rpc   *rpc.Client
	close func()
	// Running tells that a server answers, rather than this process itself.
	Running bool
}

// OpenAdmin reaches the server that runs on o.DataDir; with none running it
// opens the data directory itself.
func OpenAdmin(ctx context.Context, o Options) (*AdminClient, error) {
	if conn, err := dialInDir(o.DataDir, controlSocket); err == nil {
		return &AdminClient{rpc: jsonrpc.NewClient(conn), close: func() {}, Running: true}, nil
	}
	n, err := New(ctx, o, nil)
	if err != nil {
		return nil, err
	}
	server := rpc.NewServer()
	if err := server.RegisterName("Admin", n.admin); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	ours, theirs := net.Pipe()
	go server.ServeCodec(jsonrpc.NewServerCodec(theirs))
	return &AdminClient{rpc: jsonrpc.NewClient(ours), close: func() { n.Close() }}, nil
}

// Call runs a method of Admin by its name.
func (c *AdminClient) Call(method string, args, reply any) error {
	err := c.rpc.Call("Admin."+method, args, reply)
	if s, ok := err.(rpc.ServerError); ok {
		return errors.New(strings.TrimSpace(string(s)))
	}
	return err
}

// Close ends the use; a store opened for it is closed.
func (c *AdminClient) Close() {
	c.rpc.Close()
	c.close()
}
