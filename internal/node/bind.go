package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// services is the order of the start-up table, with a word on each.
var services = []struct{ name, about string }{
	{"smtp", "mail from other servers, and from telnet"},
	{"submission", "sending by our users, STARTTLS"},
	{"submissions", "sending by our users, TLS"},
	{"lmtp", "local delivery from another MTA"},
	{"pop3", "download and delete, STLS"},
	{"pop3s", "download and delete, TLS"},
	{"imap", "reading, STARTTLS"},
	{"imaps", "reading, TLS"},
	{"dns", "names of our zones; all names, for listed networks"},
	{"dns_tls", "the same, over TLS"},
	{"metrics", "Prometheus figures at /metrics, /healthz"},
}

// bound is one listening socket of a service.
type bound struct {
	service string
	net.Listener
	packets net.PacketConn // of dns, on the same port; else nil
}

// Listeners are the bound sockets of a node that does not serve yet. They are
// bound before root is given up and before the store is opened.
type Listeners struct{ all []bound }

// Bind opens every listener of o, or none: an error names the address.
//
// An IPv4 address takes IPv4 alone. [::] and an address without a host take
// both, as far as no 0.0.0.0 on the same port is configured beside them. A UNIX
// socket for LMTP is open to everybody who can pass the folders above it: like
// the port it asks for no login, and a mail server of the same machine, which
// uses it, runs as another user.
func Bind(o Options) (*Listeners, error) {
	ls := &Listeners{}
	byName := o.Listen.ByName()
	fourOnly := fourOnly(&o.Listen)
	for _, s := range services {
		for _, addr := range *byName[s.name] {
			b, err := ls.bind(s.name, addr, o.PortOffset, fourOnly)
			if err != nil {
				ls.Close()
				return nil, fmt.Errorf("listen.%s: %w", s.name, err)
			}
			ls.all = append(ls.all, b)
		}
	}
	return ls, nil
}

// Add takes a listener that was opened elsewhere, for a service by its name in
// the configuration. It is for those who build a node themselves; nothing checks
// that the service exists.
func (ls *Listeners) Add(service string, l net.Listener) {
	ls.all = append(ls.all, bound{service: service, Listener: l})
}

// fourOnly has the ports on which 0.0.0.0 is configured.
func fourOnly(l *Listen) map[string]bool {
	ports := map[string]bool{}
	for _, addrs := range l.ByName() {
		for _, addr := range *addrs {
			if host, port, err := net.SplitHostPort(addr); err == nil && host == "0.0.0.0" {
				ports[port] = true
			}
		}
	}
	return ports
}

// Close closes the sockets. It may be called more than once.
func (ls *Listeners) Close() {
	for _, b := range ls.all {
		b.Close()
		if b.packets != nil {
			b.packets.Close()
		}
	}
}

// bindTries: a free port that the system chose for TCP may be taken for UDP.
const bindTries = 10

// bind opens what a service listens on at an address.
func (ls *Listeners) bind(service, addr string, offset int, fourOnly map[string]bool) (bound, error) {
	for try := 1; ; try++ {
		l, err := ls.listen(addr, offset, fourOnly)
		if err != nil || service != "dns" {
			return bound{service: service, Listener: l}, err
		}
		packets, err := listenPackets(addr, l.Addr().String(), fourOnly)
		if err == nil {
			return bound{service, l, packets}, nil
		}
		l.Close()
		if _, port, _ := net.SplitHostPort(addr); port != "0" || try == bindTries {
			return bound{}, err
		}
	}
}

// listenPackets opens the UDP socket beside the TCP listener at.
func listenPackets(addr, at string, fourOnly map[string]bool) (net.PacketConn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	packets, err := net.ListenPacket("udp"+strings.TrimPrefix(network(host, fourOnly[port]), "tcp"), at)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s over UDP: %w", at, err)
	}
	return packets, nil
}

// Addr is the address of the first listener of a service; "" without one.
func (ls *Listeners) Addr(service string) string {
	i := slices.IndexFunc(ls.all, func(b bound) bool { return b.service == service })
	if i < 0 {
		return ""
	}
	return ls.all[i].Addr().String()
}

func (ls *Listeners) listen(addr string, offset int, fourOnly map[string]bool) (net.Listener, error) {
	if strings.Contains(addr, "/") {
		return listenUnix(addr)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("%s: the port is not a number", addr)
	}
	if n != 0 { // 0: any free port
		n += offset
	}
	if n < 0 || n > 65535 {
		return nil, fmt.Errorf("%s: there is no port %d", addr, n)
	}
	addr = net.JoinHostPort(host, strconv.Itoa(n))
	l, err := net.Listen(network(host, fourOnly[port]), addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && ls.uses(n):
		return nil, fmt.Errorf("cannot listen on %s: [listen] has the port already", addr)
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("cannot listen on %s: another process does; stop it, or choose another port in [listen] or by --port-offset", addr)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("cannot listen on %s: ports below 1024 need root or \"setcap cap_net_bind_service=+ep\" on the binary; or move all ports with --port-offset 10000 (%w)", addr, fs.ErrPermission)
	case err != nil:
		return nil, fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
	return l, nil
}

// network is what to listen on: for package net, tcp with 0.0.0.0 or [::] means
// both families. four tells that 0.0.0.0 has the port.
func network(host string, four bool) string {
	switch ip, err := netip.ParseAddr(host); {
	case err == nil && ip.Is4():
		return "tcp4"
	case four && (host == "" || err == nil && ip.IsUnspecified()):
		return "tcp6"
	}
	return "tcp"
}

// uses tells whether a listener has the port.
func (ls *Listeners) uses(port int) bool {
	return slices.ContainsFunc(ls.all, func(b bound) bool {
		tcp, ok := b.Addr().(*net.TCPAddr)
		return ok && tcp.Port == port
	})
}

// listenUnix replaces a socket that a killed process left, never a live one or
// another file.
func listenUnix(path string) (net.Listener, error) {
	if len(path) >= maxUnixPath {
		return nil, fmt.Errorf("cannot listen on %s: the path of a socket has at most %d octets", path, maxUnixPath-1)
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return nil, fmt.Errorf("cannot listen on %s: another process does", path)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		if fi, err := os.Lstat(path); err == nil && fi.Mode().Type() == fs.ModeSocket {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("cannot replace the socket of an earlier run: %w", err)
			}
		}
	}
	l, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("cannot listen on %s: it exists and is no socket of an earlier run", path)
	} else if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return nil, fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	return l, nil
}

// ourselves tells which addresses lead back to the listeners that take mail,
// so that routing never delivers to itself.
func (ls *Listeners) ourselves() func(netip.AddrPort) bool {
	exact := map[netip.AddrPort]bool{}
	wild := map[uint16]bool{}
	for _, b := range ls.all {
		tcp, ok := b.Addr().(*net.TCPAddr)
		if !ok || b.service != "smtp" {
			continue
		}
		ap := tcp.AddrPort()
		if ap.Addr().IsUnspecified() {
			wild[ap.Port()] = true
		}
		exact[netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())] = true
	}
	return func(ap netip.AddrPort) bool {
		a := ap.Addr().Unmap()
		if exact[netip.AddrPortFrom(a, ap.Port())] {
			return true
		}
		return wild[ap.Port()] && (a.IsLoopback() || slices.Contains(interfaceAddrs(), a))
	}
}

func interfaceAddrs() []netip.Addr {
	nets, _ := net.InterfaceAddrs() // none known: only loopback is surely ours
	var out []netip.Addr
	for _, n := range nets {
		if p, err := netip.ParsePrefix(n.String()); err == nil {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out
}
