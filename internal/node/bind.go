package node

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
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
	{"metrics", "Prometheus figures at /metrics, /healthz"},
}

// bound is one listening socket of a service.
type bound struct {
	service string
	net.Listener
}

// Listeners are the bound sockets of a node that does not serve yet. They are
// bound before root is given up and before the store is opened.
type Listeners struct{ all []bound }

// Bind opens every listener of o, or none: an error names the address.
func Bind(o Options) (*Listeners, error) {
	ls := &Listeners{}
	byName := o.Listen.ByName()
	for _, s := range services {
		for _, addr := range *byName[s.name] {
			l, err := listen(addr, o.PortOffset)
			if err != nil {
				ls.Close()
				return nil, fmt.Errorf("listen.%s: %w", s.name, err)
			}
			ls.all = append(ls.all, bound{s.name, l})
		}
	}
	return ls, nil
}

// Close closes the sockets.
func (ls *Listeners) Close() {
	for _, b := range ls.all {
		b.Close()
	}
}

// Addr is the address of the first listener of a service; "" without one.
func (ls *Listeners) Addr(service string) string {
	i := slices.IndexFunc(ls.all, func(b bound) bool { return b.service == service })
	if i < 0 {
		return ""
	}
	return ls.all[i].Addr().String()
}

func listen(addr string, offset int) (net.Listener, error) {
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
	if n != 0 {
		n += offset
	}
	addr = net.JoinHostPort(host, strconv.Itoa(n))
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("cannot listen on %s: another process does; stop it, or choose another port in [listen] or by --port-offset", addr)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("cannot listen on %s: ports below 1024 need root or \"setcap cap_net_bind_service=+ep\" on the binary; or move all ports with --port-offset 10000", addr)
	case err != nil:
		return nil, fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
	return l, nil
}

// listenUnix replaces a socket that a killed process left, never a live one.
func listenUnix(path string) (net.Listener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("cannot listen on %s: another process does", path)
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
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

// counts lists how many sockets each service has, for tests and metrics.
func (ls *Listeners) counts() map[string]int {
	out := map[string]int{}
	for _, b := range ls.all {
		out[b.service]++
	}
	return maps.Clone(out)
}
