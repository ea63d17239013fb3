package server

import (
	"net"
	"syscall"
)

// waitForOne makes a read wait for one datagram and take those that are there.
const waitForOne = syscall.MSG_WAITFORONE

// readers makes a socket one whose reads block a thread each, and returns it as
// often as it is to be read from. With a socket that waits in the runtime's
// poller each datagram would wake several threads, which costs more than the
// answer.
func readers(c *net.UDPConn, n int) ([]*net.UDPConn, error) {
	all := []*net.UDPConn{c}
	fail := func(err error) ([]*net.UDPConn, error) {
		for _, c := range all[1:] {
			c.Close()
		}
		return nil, err
	}
	for len(all) < n {
		f, err := c.File()
		if err != nil {
			return fail(err)
		}
		again, err := net.FilePacketConn(f)
		f.Close()
		if err != nil {
			return fail(err)
		}
		all = append(all, again.(*net.UDPConn))
	}
	// The flag is the socket's, however many descriptors it has.
	if err := control(c, func(fd int) error { return syscall.SetNonblock(fd, false) }); err != nil {
		return fail(err)
	}
	return all, nil
}

// wake ends the reads of a socket that is about to be closed.
func wake(c net.PacketConn) {
	if u, ok := c.(*net.UDPConn); ok {
		// It says ENOTCONN, and wakes those who wait all the same.
		_ = control(u, func(fd int) error { return syscall.Shutdown(fd, syscall.SHUT_RD) })
	}
}

func control(c *net.UDPConn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
