package dns

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	resolvConf = "/etc/resolv.conf"

	defaultTimeout  = 5 * time.Second
	defaultAttempts = 2
	// The bounds of resolv.conf(5), but for the number of servers.
	maxTimeout  = 30 * time.Second
	maxAttempts = 5
	maxServers  = 8
	maxSearch   = 32
)

// config says whom to ask and how often.
type config struct {
	servers  []string // "ip:port"
	search   []string // normalised
	timeout  time.Duration
	attempts int
	ndots    int  // a name with at least so many dots is first asked as it is
	rotate   bool // spread the questions over the servers
	tcp      bool // use-vc: never UDP
}

// parseResolvConf reads resolv.conf(5). What it does not know it leaves out;
// without a server it is the one on this host.
func parseResolvConf(b []byte) config {
	c := config{timeout: defaultTimeout, attempts: defaultAttempts, ndots: 1}
	for line := range lines(b) {
		if strings.HasPrefix(line, ";") {
			continue
		}
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if s, err := ServerAddr(f[1]); err == nil && len(c.servers) < maxServers && !slices.Contains(c.servers, s) {
				c.servers = append(c.servers, s)
			}
		case "domain":
			c.search = searchList(f[1:2])
		case "search":
			c.search = searchList(f[1:])
		case "options":
			for _, o := range f[1:] {
				c.option(o)
			}
		}
	}
	if len(c.servers) == 0 {
		c.servers = []string{"127.0.0.1:53"}
	}
	return c
}

func (c *config) option(o string) {
	key, value, _ := strings.Cut(o, ":")
	n, err := strconv.Atoi(value)
	switch {
	case key == "rotate":
		c.rotate = true
	case key == "use-vc":
		c.tcp = true
	case err != nil || n < 0:
	case key == "ndots":
		c.ndots = min(n, 15)
	case key == "timeout":
		c.timeout = min(max(time.Duration(n)*time.Second, time.Second), maxTimeout)
	case key == "attempts":
		c.attempts = min(max(n, 1), maxAttempts)
	}
}

func searchList(suffixes []string) []string {
	var list []string
	for _, s := range suffixes {
		if name, err := normalize(s); err == nil && name != "." && len(list) < maxSearch {
			list = append(list, name)
		}
	}
	return list
}

// ServerAddr reads a name server's address: an IP address, with or without a
// port (53).
func ServerAddr(s string) (string, error) {
	if a, err := netip.ParseAddrPort(s); err == nil && a.Port() != 0 {
		return a.String(), nil
	}
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return net.JoinHostPort(a.String(), "53"), nil
	}
	return "", fmt.Errorf("%q is not a name server's address: give an IP address, or an IP address and a port such as 192.0.2.1:53", s)
}
