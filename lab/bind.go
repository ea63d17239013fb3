package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// Where the sockets are: on the lab's own addresses with the usual ports, where
// this process may have them; there with ports that are higher by an offset;
// or, on systems that have no 127.0.0.2 and for a class, all on one address.
const (
	usualOffset = 10000 // 25 becomes 10025
	lastOffset  = 50000
	offsetStep  = 1000
	basePort    = 10025 // the first port on a single address
)

// socket is what a host listens on for one service.
type socket struct {
	machine *machine
	port    Port
	tcp     net.Listener
	udp     *net.UDPConn // of dns
}

// bind opens the sockets of all hosts.
func (l *Lab) bind() error {
	if l.o.Listen != "" {
		address, err := netip.ParseAddr(l.o.Listen)
		if err == nil {
			l.class, err = neighbours(address)
		}
		if err != nil {
			return fmt.Errorf("--listen %s: give an IP address of this machine", l.o.Listen)
		}
		return l.bindShared(address)
	}
	offsets := []int{0}
	if l.o.FreePorts {
		offsets = nil
	}
	for o := usualOffset; o <= lastOffset; o += offsetStep {
		step := o
		if l.o.FreePorts { // several labs at once, as tests have them
			l.network.mu.Lock()
			step = usualOffset + l.network.rand.IntN(lastOffset-usualOffset)
			l.network.mu.Unlock()
		}
		offsets = append(offsets, step)
	}
	var err error
	for _, offset := range offsets {
		l.offset = offset
		if err = l.bindAll(l.machines); err == nil {
			return nil
		}
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			return l.bindShared(netip.MustParseAddr("127.0.0.1"))
		}
	}
	return err
}

// neighbours is the local network that an address of this machine is in.
func neighbours(a netip.Addr) (netip.Prefix, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, one := range list {
		p, err := netip.ParsePrefix(one.String())
		switch {
		case err != nil:
		case a.IsLoopback() && p.Contains(a):
			return netip.PrefixFrom(a, a.BitLen()), nil
		case p.Addr() == a.WithZone(""):
			return p.Masked(), nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("%s is no address of this machine", a)
}

// bindAll opens the sockets of some machines, or none.
func (l *Lab) bindAll(machines []*machine) (err error) {
	var open []*socket
	defer func() {
		if err != nil {
			for _, s := range open {
				s.close()
			}
		}
	}()
	for _, m := range machines {
		for _, p := range m.host.Ports() {
			s, err := l.listen(m, p)
			if err != nil {
				return err
			}
			open = append(open, s)
		}
	}
	for _, s := range open {
		s.machine.take(s)
	}
	return nil
}

// bindShared opens the sockets of all hosts on one address.
func (l *Lab) bindShared(address netip.Addr) error {
	l.network.shared = true
	l.shared = address
	return l.bindAll(l.machines)
}

// bindTries is how many ports of a single address are tried for a service.
const bindTries = 200

// listen opens the socket of one service.
func (l *Lab) listen(m *machine, p Port) (*socket, error) {
	if !l.network.shared {
		port := int(p.Port) + l.offset
		if l.offset == 0 && p.Service == "http" {
			port = int(p.Port)
		}
		return listenAt(m, p, netip.AddrPortFrom(m.host.Address, uint16(port)))
	}
	for range bindTries {
		port := uint16(basePort + l.lastPort)
		l.lastPort++
		if l.o.FreePorts {
			port = 0
		}
		s, err := listenAt(m, p, netip.AddrPortFrom(l.shared, port))
		if !errors.Is(err, syscall.EADDRINUSE) {
			return s, err
		}
	}
	return nil, fmt.Errorf("no port is free on %s", l.shared)
}

func listenAt(m *machine, p Port, at netip.AddrPort) (*socket, error) {
	s := &socket{machine: m, port: p}
	var err error
	if s.tcp, err = net.Listen("tcp", at.String()); err != nil {
		return nil, fmt.Errorf("%s of %s: %w", p.Service, m.host.Name, err)
	}
	if p.Service != "dns" {
		return s, nil
	}
	if s.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addrPort(s.tcp.Addr()))); err != nil {
		s.tcp.Close()
		return nil, fmt.Errorf("%s of %s: %w", p.Service, m.host.Name, err)
	}
	return s, nil
}

func (s *socket) close() {
	s.tcp.Close()
	if s.udp != nil {
		s.udp.Close()
	}
}

// take makes a socket a door of the machine.
func (m *machine) take(s *socket) {
	n := m.lab.network
	n.place(netip.AddrPortFrom(m.host.Address, s.port.Port), addrPort(s.tcp.Addr()))
	if s.udp != nil {
		m.names = s
		return
	}
	m.doors = append(m.doors, newDoor(n, m.host, s.port, s.tcp, m.knocked))
}
