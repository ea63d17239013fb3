package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/pelletier/go-toml/v2"

	"postrider/internal/tomlkeys"
)

// Limits of a world.
const (
	maxWorldFile = 1 << 20 // octets
	maxHosts     = 300
	maxZones     = 300
	maxAccounts  = 1000
)

// ParseDuration reads "200ms", "1h30m" and also "5d".
func ParseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration such as 200ms, 90s, 2h or 5d", s)
	}
	return d, nil
}

// ParseWorld reads a world. Its error has every problem on a line of its own,
// with path, line and key.
func ParseWorld(path string, text []byte) (*World, error) {
	if len(text) > maxWorldFile {
		return nil, fmt.Errorf("%s: a world has at most %d octets", path, maxWorldFile)
	}
	w := &World{}
	d := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := d.Decode(w); err != nil {
		return nil, decodeError(path, err)
	}
	c := &checker{world: w, path: path, lines: tomlkeys.Lines(text)}
	c.check()
	return w, errors.Join(c.problems...)
}

// decodeError says what TOML found wrong, a line each.
func decodeError(path string, err error) error {
	var missing *toml.StrictMissingError
	if errors.As(err, &missing) {
		var all []error
		for i := range missing.Errors {
			e := &missing.Errors[i]
			line, _ := e.Position()
			all = append(all, fmt.Errorf("%s:%d: %s: unknown key", path, line, strings.Join(e.Key(), ".")))
		}
		return errors.Join(all...)
	}
	var at *toml.DecodeError
	if errors.As(err, &at) {
		line, _ := at.Position()
		return fmt.Errorf("%s:%d: %s: %s", path, line, strings.Join(at.Key(), "."), strings.TrimPrefix(at.Error(), "toml: "))
	}
	return fmt.Errorf("%s: %w", path, err)
}

// checker finds what does not fit together in a world.
type checker struct {
	world    *World
	path     string
	lines    map[string]int
	problems []error
}

// fail notes a problem of a key of the n-th table of that name, such as
// host[3].address; n is 0 for a table that there is once.
func (c *checker) fail(table string, n int, key, format string, args ...any) {
	at := fmt.Sprintf("%s[%d]", table, n)
	if c.lines[at] == 0 {
		at = table
	}
	line := c.lines[at+"."+key]
	if line == 0 {
		line = c.lines[at]
	}
	c.problems = append(c.problems, fmt.Errorf("%s:%d: %s.%s: %s", c.path, max(line, 1), table, key, fmt.Sprintf(format, args...)))
}

func (c *checker) check() {
	w := c.world
	for _, n := range []struct {
		table     string
		have, max int
	}{{"site", len(w.Sites), maxHosts}, {"host", len(w.Hosts), maxHosts}, {"zone", len(w.Zones), maxZones},
		{"link", len(w.Links), maxHosts}, {"account", len(w.Accounts), maxAccounts}} {
		if n.have > n.max {
			c.fail(n.table, n.max, "name", "more than %d", n.max)
			return
		}
	}
	c.sites()
	c.hosts()
	c.zones()
	c.links()
	c.accounts()
	if r := w.Registrar; r.Network.IsValid() && !loopback(r.Network.Addr()) {
		c.fail("registrar", 0, "network", "%s is not in 127.0.0.0/8", r.Network)
	}
}

func loopback(a netip.Addr) bool {
	return a.Is4() && a.IsLoopback() && a != netip.MustParseAddr("127.0.0.1")
}

// domain checks a name as the lab writes it: lower case, no final dot.
func domain(name string) error {
	if _, ok := miekg.IsDomainName(name); !ok || name == "" || name != strings.ToLower(name) || strings.HasSuffix(name, ".") || strings.Contains(name, `\`) {
		return fmt.Errorf("%q is not a name in lower case without a final dot", name)
	}
	return nil
}

func (c *checker) sites() {
	seen := map[string]bool{}
	for i, s := range c.world.Sites {
		if s.Name == "" || seen[s.Name] {
			c.fail("site", i, "name", "%q is empty or was there before", s.Name)
		}
		seen[s.Name] = true
		if !s.Network.IsValid() || !loopback(s.Network.Addr()) || s.Network.Bits() < 8 {
			c.fail("site", i, "network", "must be a part of 127.0.0.0/8")
		}
		if h, ok := c.world.Host(s.Resolver); s.Resolver != "" && (!ok || h.Kind != KindResolver) {
			c.fail("site", i, "resolver", "%q is no host of kind resolver", s.Resolver)
		}
	}
}

func (c *checker) hosts() {
	names, addresses := map[string]bool{}, map[netip.Addr]string{}
	for i := range c.world.Hosts {
		h := &c.world.Hosts[i]
		if err := domain(h.Name); err != nil {
			c.fail("host", i, "name", "%v", err)
		}
		if names[h.Name] {
			c.fail("host", i, "name", "%s was there before", h.Name)
		}
		names[h.Name] = true
		ports, known := services[h.Kind]
		if !known {
			c.fail("host", i, "kind", "%q is not one of root, tld, name, resolver, mail, old, hostile, web, client", h.Kind)
		}
		for _, s := range h.Services {
			if !slices.ContainsFunc(ports, func(p Port) bool { return p.Service == s }) {
				c.fail("host", i, "services", "a host of kind %s does not serve %q", h.Kind, s)
			}
		}
		c.hostAddress(i, h, addresses)
		c.hostMail(i, h)
	}
}

func (c *checker) hostAddress(i int, h *Host, addresses map[netip.Addr]string) {
	if !loopback(h.Address) {
		c.fail("host", i, "address", "must be in 127.0.0.0/8, and not 127.0.0.1")
	}
	if other := addresses[h.Address]; other != "" {
		c.fail("host", i, "address", "%s has it already", other)
	}
	addresses[h.Address] = h.Name
	if s, ok := c.world.Site(h.Site); h.Site != "" && !ok {
		c.fail("host", i, "site", "there is no site %q", h.Site)
	} else if ok && !s.Network.Contains(h.Address) {
		c.fail("host", i, "address", "is not in the network of site %s, %s", s.Name, s.Network)
	}
	if h.ReplicaOf == "" {
		return
	}
	if of, ok := c.world.Host(h.ReplicaOf); !ok || of.Kind != h.Kind {
		c.fail("host", i, "replica_of", "there is no host %q of kind %s", h.ReplicaOf, h.Kind)
	}
	for _, s := range h.Serves {
		if _, ok := c.world.Site(s); !ok {
			c.fail("host", i, "serves", "there is no site %q", s)
		}
	}
}

func (c *checker) hostMail(i int, h *Host) {
	for _, d := range slices.Concat(h.Mail.Domains, h.Mail.RelayDomains) {
		if err := domain(d); err != nil {
			c.fail("host", i, "mail.domains", "%v", err)
		}
	}
	if s := h.Mail.Smarthost; s != "" {
		if of, ok := c.world.Host(s); !ok || of.Kind != KindMail {
			c.fail("host", i, "mail.smarthost", "%q is no host of kind mail", s)
		}
	}
	if r := h.Mail.Resolver; r != "" {
		if of, ok := c.world.Host(r); !ok || of.Kind != KindResolver {
			c.fail("host", i, "mail.resolver", "%q is no host of kind resolver", r)
		}
	}
	for key, u := range map[string]string{"mail.smarthost_user": h.Mail.SmarthostUser, "mail.catch": h.Mail.Catch} {
		if _, ok := c.world.Account(u); u != "" && !ok {
			c.fail("host", i, key, "there is no account %q", u)
		}
	}
}

func (c *checker) zones() {
	seen := map[string]bool{}
	for i, z := range c.world.Zones {
		if err := domain(z.Name); err != nil && z.Name != "." {
			c.fail("zone", i, "name", "%v", err)
		}
		if seen[z.Name] {
			c.fail("zone", i, "name", "%s was there before", z.Name)
		}
		seen[z.Name] = true
		for _, name := range append([]string{z.Primary}, z.Secondary...) {
			h, ok := c.world.Host(name)
			if !ok || h.Kind != KindRoot && h.Kind != KindTLD && h.Kind != KindName {
				c.fail("zone", i, "primary", "%q is no name server", name)
			}
		}
		p := miekg.NewZoneParser(strings.NewReader(z.Records), miekg.Fqdn(z.Name), "")
		p.SetDefaultTTL(300)
		for _, ok := p.Next(); ok; _, ok = p.Next() {
		}
		if err := p.Err(); err != nil {
			c.fail("zone", i, "records", "%v", err)
		}
	}
}

func (c *checker) links() {
	for i, l := range c.world.Links {
		for key, end := range map[string]string{"from": l.From, "to": l.To} {
			_, host := c.world.Host(end)
			if _, site := c.world.Site(end); !host && !site {
				c.fail("link", i, key, "%q is neither a host nor a site", end)
			}
		}
	}
}

func (c *checker) accounts() {
	seen := map[string]bool{}
	for i := range c.world.Accounts {
		a := &c.world.Accounts[i]
		parsed, err := mail.ParseAddress(a.Address)
		if err != nil || parsed.Address != a.Address {
			c.fail("account", i, "address", "%q is not an address", a.Address)
			continue
		}
		if seen[a.Address] {
			c.fail("account", i, "address", "%s was there before", a.Address)
		}
		seen[a.Address] = true
		if a.Password == "" {
			c.fail("account", i, "password", "is missing")
		}
		domain := a.Address[strings.LastIndexByte(a.Address, '@')+1:]
		for _, h := range c.world.Hosts {
			if slices.Contains(h.Mail.Domains, domain) {
				a.Host = h.Name
			}
		}
		if a.Host == "" {
			c.fail("account", i, "address", "no host keeps the mail of %s", domain)
		}
	}
}
