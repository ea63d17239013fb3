package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"

	"postrider/internal/node"
)

type initCmd struct {
	Domain string `placeholder:"D" help:"Domain to accept mail for; default: the hostname without mail., mx. or smtp. in front."`
	Demo   bool   `help:"Add the accounts alice and bob and print their passwords."`
}

func (c *initCmd) Run(e *env) error {
	conf, err := e.loadConfig()
	if err != nil {
		return err
	}
	conf.node.Log = conf.logger(e.stderr)
	conf.node.Upgrade = true // as the server would
	return e.adminOf(conf, func(a *node.AdminClient) error {
		var domains []string
		if err := a.Call("DomainList", node.None{}, &domains); err != nil {
			return err
		}
		domain := c.Domain
		if domain == "" && len(domains) > 0 {
			domain = domains[0]
		}
		if domain == "" {
			domain = mailDomain(conf.node.Hostname)
		}
		if !slices.Contains(domains, domain) {
			if err := a.Call("DomainAdd", domain, &node.None{}); err != nil && !strings.Contains(err.Error(), "exists already") {
				return err
			}
		}
		fmt.Fprintf(e.stdout, "%s accepts mail for %s; its data is in %s\n", conf.node.Hostname, domain, conf.node.DataDir)
		if c.Demo {
			return c.addDemo(e, a, conf, domain)
		}
		printRecords(e.stdout, conf.node.Hostname, domain)
		return printFirstSteps(e, a, domain)
	})
}

func mailDomain(hostname string) string {
	for _, label := range []string{"mail.", "mx.", "smtp."} {
		if rest, ok := strings.CutPrefix(hostname, label); ok && strings.Contains(rest, ".") {
			return rest
		}
	}
	return hostname
}

// addDemo makes the two people of the textbooks. Bob's password is the
// textbook's only where nobody but this machine can try it.
func (c *initCmd) addDemo(e *env, a *node.AdminClient, conf *config, domain string) error {
	var users []node.User
	if err := a.Call("UserList", node.None{}, &users); err != nil {
		return err
	}
	for _, name := range []string{"alice", "bob"} {
		address := name + "@" + domain
		if slices.ContainsFunc(users, func(u node.User) bool { return u.Address == address }) {
			fmt.Fprintf(e.stdout, "  %s exists; a new password: %s user passwd %s\n", address, self(), address)
			continue
		}
		password := strings.ToLower(rand.Text()[:12])
		if name == "bob" && loopbackOnly(conf.node.Listen) {
			password = "hungry"
		}
		if err := a.Call("UserAdd", node.UserArgs{Address: address, Password: password}, &node.None{}); err != nil {
			return err
		}
		fmt.Fprintf(e.stdout, "  %s   password: %s\n", address, password)
	}
	return nil
}

func loopbackOnly(l node.Listen) bool {
	for _, addrs := range l.ByName() {
		for _, addr := range *addrs {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				continue // a socket's path
			}
			ip, err := netip.ParseAddr(host)
			if host != "localhost" && (err != nil || !ip.IsLoopback()) {
				return false
			}
		}
	}
	return true
}

func printRecords(w io.Writer, hostname, domain string) {
	fmt.Fprintf(w, "\nPublish these records, so that other servers find and believe this one:\n\n")
	fmt.Fprintf(w, "  %s.  IN MX   10 %s.\n", domain, hostname)
	for _, line := range addressRecords(hostname) {
		fmt.Fprintln(w, " ", line)
	}
	fmt.Fprintf(w, "  %s.  IN TXT  \"v=spf1 mx -all\"\n", domain)
	fmt.Fprintf(w, "\nand ask who gave you the address for a PTR record that names %s.\n", hostname)
}

func addressRecords(hostname string) []string {
	var out []string
	nets, _ := net.InterfaceAddrs() // none known: the line below asks for it
	for _, n := range nets {
		p, err := netip.ParsePrefix(n.String())
		if err != nil || !p.Addr().IsGlobalUnicast() || p.Addr().IsPrivate() {
			continue
		}
		kind := "A   "
		if p.Addr().Is6() {
			kind = "AAAA"
		}
		out = append(out, fmt.Sprintf("%s.  IN %s %s", hostname, kind, p.Addr()))
	}
	if len(out) == 0 {
		out = append(out, hostname+".  IN A    (the public IPv4 address of this machine)")
	}
	return out
}

func printFirstSteps(e *env, a *node.AdminClient, domain string) error {
	var users []node.User
	if err := a.Call("UserList", node.None{}, &users); err != nil {
		return err
	}
	if len(users) == 0 {
		fmt.Fprintf(e.stdout, "\nThen make the first account, which also gets the mail for postmaster:\n\n  %s user add you@%s\n", self(), domain)
	}
	return nil
}
