//go:build !linux

package server

import (
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// controlSize has room for the local address of a datagram.
const controlSize = 64

// single is the datagrams of a socket of the system, one at a time through the
// runtime's poller.
type single struct {
	conn *net.UDPConn
	// wild means bound to every address: then each answer has to leave from
	// the one that the query came to, or the client will not know it.
	wild, six bool

	buf     [largestUDP + 1]byte
	control [controlSize]byte
	n, nn   int
	from    netip.AddrPort
	reply   []byte
}

func open(c *net.UDPConn) (first socket, others []socket, stop func(), err error) {
	addr := c.LocalAddr().(*net.UDPAddr)
	s := &single{conn: c, wild: addr.IP.IsUnspecified(), six: addr.IP.To4() == nil}
	switch {
	case s.wild && s.six:
		err = ipv6.NewPacketConn(c).SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
	case s.wild:
		err = ipv4.NewPacketConn(c).SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
	}
	return s, nil, func() { c.Close() }, err
}

func (s *single) hold(f func()) { f() }

func (s *single) read(bool) (_ int, err error) {
	s.n, s.nn, _, s.from, err = s.conn.ReadMsgUDPAddrPort(s.buf[:], s.control[:])
	return 1, err
}

func (s *single) datagram(int) ([]byte, netip.AddrPort) { return s.buf[:s.n], s.from }

func (s *single) queue(_ int, reply []byte) { s.reply = reply }

func (s *single) flush() {
	if s.reply != nil {
		s.later(0)(s.reply)
		s.reply = nil
	}
}

func (s *single) later(int) func([]byte) {
	from, control := s.from, s.source()
	return func(reply []byte) {
		_, _, _ = s.conn.WriteMsgUDPAddrPort(reply, control, from) // lost, as it may be on the way
	}
}

// source makes the control message of an answer from that of its query.
func (s *single) source() []byte {
	if !s.wild || s.nn == 0 {
		return nil
	}
	if s.six {
		var cm ipv6.ControlMessage
		if cm.Parse(s.control[:s.nn]) != nil || cm.Dst == nil || cm.Dst.IsMulticast() {
			return nil
		}
		out := ipv6.ControlMessage{Src: cm.Dst}
		if cm.Dst.IsLinkLocalUnicast() {
			out.IfIndex = cm.IfIndex
		}
		return out.Marshal()
	}
	var cm ipv4.ControlMessage
	if cm.Parse(s.control[:s.nn]) != nil || cm.Dst == nil || cm.Dst.IsMulticast() {
		return nil
	}
	out := ipv4.ControlMessage{Src: cm.Dst}
	return out.Marshal()
}
