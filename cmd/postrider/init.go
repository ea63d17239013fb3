package main

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"postrider/dns/own"
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
		if err := printRecords(e, a, domain); err != nil {
			return err
		}
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

// printRecords prints what to publish, as `dns records` does.
func printRecords(e *env, a *node.AdminClient, domain string) error {
	var records []own.Record
	if err := a.Call("DNSRecords", node.RecordsArgs{Domain: domain}, &records); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "\nPublish these records, so that other servers find and believe this one\n(%s dns records %s prints them again, as a part of a zone file):\n\n", self(), domain)
	return own.Print(e.stdout, records)
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
