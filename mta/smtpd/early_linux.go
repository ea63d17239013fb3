package smtpd

import (
	"errors"
	"net"
	"syscall"
)

// socketHasInput tells, without waiting and without reading it, whether input
// has arrived on c. It fails where c is not a socket of the system.
func socketHasInput(c net.Conn) (waiting bool, err error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false, errors.ErrUnsupported
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false, err
	}
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, e := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		waiting = e == nil && n > 0
	})
	return waiting, err
}
