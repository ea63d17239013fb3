package server

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// sockaddrSize has room for an address and port of either family.
	sockaddrSize = unix.SizeofSockaddrInet6
	// controlSize has room for the local address of a datagram.
	controlSize = 64
)

// mmsghdr is the system's struct of that name: a datagram of a batch.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32 // octets that were read or written
}

// slot is where a datagram's addresses are read to, and where its answer is sent
// from.
type slot struct {
	in, out unix.Iovec
	control [controlSize]byte // aligned, behind the words before it
	name    [sockaddrSize]byte
}

// batches reads and writes many datagrams with one system call, and allocates
// nothing. The headers of a batch are made once; that of an answer refers to
// the address, and to the control message, that came with its query.
type batches struct {
	raw  syscall.RawConn
	fd   uintptr // while held
	wild bool    // bound to every address: queries come with their local address
	six  bool

	slots   [batch]slot
	buffers [batch][largestUDP + 1]byte
	in, out [batch]mmsghdr
	got     int // how many of in the last read has changed
	queued  int // how many of out are to be sent
}

// open makes readers of a socket of the system: first waits for datagrams, and
// the others help it while there are many. The socket is theirs until stop.
func open(c *net.UDPConn) (first socket, others []socket, stop func(), err error) {
	addr := c.LocalAddr().(*net.UDPAddr)
	wild, six := addr.IP.IsUnspecified(), addr.IP.To4() == nil
	f, err := blocking(c)
	if err != nil {
		return nil, nil, nil, err
	}
	raw, err := f.SyscallConn()
	if err == nil && wild {
		err = control(raw, func(fd int) error {
			if six {
				return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			}
			return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		})
	}
	if err != nil {
		f.Close()
		return nil, nil, nil, err
	}
	for range runtime.GOMAXPROCS(0) - 1 {
		others = append(others, newBatches(raw, wild, six))
	}
	stop = func() {
		// It says ENOTCONN, and wakes those who wait all the same.
		_ = control(raw, func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RD) })
		f.Close()
	}
	return newBatches(raw, wild, six), others, stop, nil
}

// blocking takes the socket out of the runtime's poller, and closes c. A read that
// blocks its thread costs less than the answer; a socket that the poller knows
// wakes it twice for each query, whoever reads: when it comes, and when its answer
// has gone.
func blocking(c *net.UDPConn) (*os.File, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var f *os.File
	err = control(raw, func(fd int) error {
		if err := unix.SetNonblock(fd, false); err != nil {
			return err
		}
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(own), "udp")
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, c.Close()
}

func newBatches(raw syscall.RawConn, wild, six bool) *batches {
	b := &batches{raw: raw, wild: wild, six: six, got: batch}
	for i := range b.slots {
		s := &b.slots[i]
		s.in.Base = &b.buffers[i][0]
		s.in.SetLen(len(b.buffers[i]))
		in := &b.in[i].hdr
		in.Name, in.Iov = &s.name[0], &s.in
		in.SetIovlen(1)
		if wild {
			in.Control = &s.control[0]
		}
	}
	return b
}

func (b *batches) hold(f func()) {
	_ = b.raw.Control(func(fd uintptr) { // not when it is closed
		b.fd = fd
		f()
	})
}

func (b *batches) read(wait bool) (int, error) {
	for i := range b.in[:b.got] {
		in := &b.in[i].hdr
		in.Namelen = sockaddrSize
		if b.wild {
			in.SetControllen(controlSize)
		}
	}
	b.got = 0
	flags := unix.MSG_WAITFORONE
	if !wait {
		flags = unix.MSG_DONTWAIT
	}
	n, _, err := unix.Syscall6(unix.SYS_RECVMMSG, b.fd, uintptr(unsafe.Pointer(&b.in[0])), batch, uintptr(flags), 0, 0)
	switch {
	case err == unix.EINTR || err == unix.EAGAIN && !wait:
		return 0, nil
	case err != 0:
		return 0, err
	}
	b.got = int(n)
	return b.got, nil
}

func (b *batches) datagram(i int) (msg []byte, from netip.AddrPort) {
	m := &b.in[i]
	if m.hdr.Namelen > 0 {
		from = sender(&b.slots[i].name)
	}
	return b.buffers[i][:m.n], from
}

// sender reads a struct sockaddr_in or sockaddr_in6.
func sender(name *[sockaddrSize]byte) netip.AddrPort {
	port := binary.BigEndian.Uint16(name[2:])
	switch binary.NativeEndian.Uint16(name[:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(name[4:])), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(name[8:])), port)
	}
	return netip.AddrPort{}
}

func (b *batches) queue(i int, reply []byte) {
	b.address(&b.out[b.queued], &b.slots[i], &b.in[i].hdr, reply)
	b.queued++
}

// address makes m an answer to what was read to s with the header in: it goes
// where that came from, and leaves from the address that it came to, or the
// client will not know it.
func (b *batches) address(m *mmsghdr, s *slot, in *unix.Msghdr, reply []byte) {
	s.out.Base = unsafe.SliceData(reply)
	s.out.SetLen(len(reply))
	m.hdr = unix.Msghdr{Name: &s.name[0], Namelen: in.Namelen, Iov: &s.out}
	m.hdr.SetIovlen(1)
	if b.wild {
		if n := answerFrom(s.control[:in.Controllen], b.six); n > 0 {
			m.hdr.Control = &s.control[0]
			m.hdr.SetControllen(n)
		}
	}
}

// answerFrom makes the control message of a query that of its answer, and
// returns its size; 0: the system chooses the address.
func answerFrom(control []byte, six bool) int {
	level, typ, size := int32(unix.IPPROTO_IP), int32(unix.IP_PKTINFO), unix.SizeofInet4Pktinfo
	if six {
		level, typ, size = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo
	}
	if len(control) < unix.CmsgLen(size) {
		return 0
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	if h.Level != level || h.Type != typ {
		return 0
	}
	data := unsafe.Pointer(&control[unix.CmsgLen(0)])
	if six {
		info := (*unix.Inet6Pktinfo)(data)
		to := netip.AddrFrom16(info.Addr)
		if to.IsMulticast() {
			return 0
		}
		if !to.IsLinkLocalUnicast() {
			info.Ifindex = 0 // routing chooses
		}
	} else {
		// Spec_dst is a local address even if the datagram was sent to many.
		(*unix.Inet4Pktinfo)(data).Ifindex = 0
	}
	return unix.CmsgLen(size)
}

func (b *batches) flush() {
	transmit(b.fd, b.out[:b.queued])
	b.queued = 0
}

func (b *batches) later(i int) func(reply []byte) {
	s, in := b.slots[i], b.in[i].hdr
	return func(reply []byte) {
		one := make([]mmsghdr, 1)
		b.address(&one[0], &s, &in, reply)
		_ = b.raw.Control(func(fd uintptr) { transmit(fd, one) })
	}
}

// transmit writes datagrams. One that cannot be sent is lost, as it may be on the
// way. The runtime need not know of a call that does not wait; only where there
// is no room one waits for it.
func transmit(fd uintptr, ms []mmsghdr) {
	for len(ms) > 0 {
		n, _, err := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&ms[0])), uintptr(len(ms)), unix.MSG_DONTWAIT, 0, 0)
		if err == unix.EAGAIN {
			n, _, err = unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&ms[0])), uintptr(len(ms)), 0, 0, 0)
		}
		switch {
		case err == unix.EINTR:
			continue
		case err != 0 || n == 0:
			n = 1
		}
		ms = ms[n:]
	}
}

func control(raw syscall.RawConn, f func(fd int) error) error {
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
