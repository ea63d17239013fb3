package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// The sockets stand in the data directory, open to its owner only.
const (
	controlSocket  = "control.sock"
	submitSocket   = "submit.sock"
	transferSocket = "transfer.sock" // imports and exports
)

// maxUnixPath is the length of sun_path, with its NUL (unix(7)).
const maxUnixPath = 108

// sockets are those of a running server in its data directory.
type sockets struct {
	dir                       string
	control, submit, transfer net.Listener // nil before they are made
}

// openSockets makes the sockets and begins to serve commands.
func (n *Node) openSockets() (err error) {
	s := &n.sockets
	s.dir = n.options.DataDir
	if s.submit, err = ListenInDir(s.dir, submitSocket); err != nil {
		return fmt.Errorf("make the submission socket: %w", err)
	}
	if s.transfer, err = ListenInDir(s.dir, transferSocket); err != nil {
		return fmt.Errorf("make the socket for imports: %w", err)
	}
	if s.control, err = ListenInDir(s.dir, controlSocket); err != nil {
		return fmt.Errorf("make the control socket: %w", err)
	}
	n.control.accept(s.control)
	n.transfers.accept(s.transfer)
	return nil
}

// closeControl lets no command begin.
func (s *sockets) closeControl() {
	for _, l := range []net.Listener{s.control, s.transfer} {
		if l != nil {
			l.Close()
		}
	}
}

// remove closes the sockets and removes their names, so that the next command
// sees at once that no server runs. A killed server leaves them; the next one
// removes them under its lock.
func (s *sockets) remove() {
	for name, l := range map[string]net.Listener{controlSocket: s.control, submitSocket: s.submit, transferSocket: s.transfer} {
		if l != nil {
			l.Close()
			os.Remove(filepath.Join(s.dir, name))
		}
	}
}

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

// ListenInDir listens on a socket in a folder that nobody else listens in, and that
// only we can enter. Who closes it removes its name.
func ListenInDir(dir, name string) (net.Listener, error) {
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

// DialInDir connects to a socket in a folder.
func DialInDir(dir, name string) (net.Conn, error) {
	path, release, err := socketPath(dir, name)
	if err != nil {
		return nil, err
	}
	defer release()
	return net.Dial("unix", path)
}

// socketPair returns the two ends of a connection within this process. Unlike
// net.Pipe it buffers, so that neither end waits for the other to read.
func socketPair() (a, b net.Conn, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	if a, err = fileConn(fds[0]); err != nil {
		return nil, nil, errors.Join(err, syscall.Close(fds[1]))
	}
	if b, err = fileConn(fds[1]); err != nil {
		return nil, nil, errors.Join(err, a.Close())
	}
	return a, b, nil
}

func fileConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "socketpair")
	defer f.Close()
	return net.FileConn(f) // a copy of the descriptor
}
