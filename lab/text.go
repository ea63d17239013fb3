package lab

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"postrider/internal/node"
	"postrider/internal/wire"
)

// Introduce says what there is and what to do with it.
func (l *Lab) Introduce(w io.Writer) {
	hosts := l.Hosts()
	program := cmp.Or(l.o.Program, "postrider")
	fmt.Fprintf(w, "postrider %s, the lab: %d hosts, all on this machine", node.Version(), len(hosts))
	if l.shared.IsValid() {
		fmt.Fprintf(w, ", at %s", l.shared)
	}
	fmt.Fprint(w, ".\n\n")
	l.table(w, hosts)
	people := l.people()
	if len(people) < 2 {
		return
	}
	from, to := people[0], people[1]
	fmt.Fprintf(w, "\nAsk where the mail of %s goes:\n\n", to.domain)
	fmt.Fprintf(w, "  %s dns query %s MX --server %s\n", program, to.domain, from.dns)
	fmt.Fprintf(w, "  %s\n", dig(from.dns, to.domain+" MX"))
	if !l.network.shared { // else each name server has a port of its own
		fmt.Fprintf(w, "\nSee how it is found, from the root down, and that the signatures fit:\n\n")
		fmt.Fprintf(w, "  %s dns query %s MX --trace --dnssec --root-hints %s --trust-anchors %s --dns-port %d\n", program, to.domain,
			word(filepath.Join(l.dir, hintsFile)), word(filepath.Join(l.dir, anchorsFile)), 53+l.offset)
	}
	fmt.Fprintf(w, "\nSend a letter from %s to %s by hand; what happens to it is shown below:\n\n", from.domain, to.domain)
	fmt.Fprintf(w, "  %s\n", l.telnet(from.smtp))
	for _, line := range Toppings(from.Account, to.Account, from.domain) {
		fmt.Fprintln(w, strings.TrimRight("  "+line, " "))
	}
	fmt.Fprintf(w, "\nRead it at %s:\n\n", to.domain)
	fmt.Fprintf(w, "  %s\n", l.telnet(to.pop3))
	for _, line := range []string{"user " + to.user, "pass " + to.Password, "list", "retr 1", "quit"} {
		fmt.Fprintf(w, "  %s\n", line)
	}
	fmt.Fprintf(w, "\nor over IMAP:\n\n  curl --user %s:%s 'imap://%s/INBOX;MAILINDEX=1'\n", to.user, to.Password, to.imap)
	fmt.Fprintf(w, "\nIn a mail program such as Thunderbird: address and user name %s, password %s,\n  incoming IMAP at %s, or POP3 at %s, outgoing SMTP at %s,\n  connection security none, authentication by normal password.\n",
		to.Address, to.Password, port(to.imap), port(to.pop3), port(to.submission))
	fmt.Fprint(w, "\nPeople, and their passwords:\n\n")
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	accounts := l.World().Accounts
	for i, p := range accounts {
		end := "\t"
		if i%2 == 1 || i == len(accounts)-1 {
			end = "\n"
		}
		fmt.Fprintf(t, "  %s\t%s%s", p.Address, p.Password, end)
	}
	t.Flush()
	fmt.Fprintf(w, "\nBeside it, in another window:\n\n")
	for _, command := range []string{"register networkutopia.com", "fault down mx.hamburger.edu", "clear", "jump 5d", "hosts"} {
		fmt.Fprintf(w, "  %s lab %s%s\n", program, command, l.reach)
	}
	fmt.Fprintf(w, "\nThe servers' certificates are signed by %s.\n", filepath.Join(l.dir, wire.CAFile))
	if l.temporary {
		fmt.Fprintln(w, "Control-C stops the lab and removes its data.")
	} else {
		fmt.Fprintf(w, "Control-C stops the lab; its data stays in %s.\n", l.dir)
	}
	fmt.Fprintln(w)
}

// table lists the hosts that people talk to; the root and the top are one line.
func (l *Lab) table(w io.Writer, hosts []HostState) {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	roots := 0
	for _, h := range hosts {
		switch {
		case len(h.Endpoints) == 0, h.Kind == KindTLD, h.Kind == KindName:
			continue // lab hosts has them
		case h.Kind == KindRoot:
			if roots++; roots > 1 {
				continue
			}
		}
		about := h.About
		if h.Kind == KindRoot {
			about = "and b to m: the root; com, edu, org, fr, ca, nz and test have theirs"
		}
		if !h.Up {
			about = "not connected. " + about
		}
		line := []string{"  " + h.Name, string(h.Kind)}
		if !l.shared.IsValid() {
			line = append(line, h.Address.String())
		}
		fmt.Fprintln(t, strings.Join(append(line, ports(h.Endpoints), about), "\t"))
	}
	t.Flush()
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

// ports lists services by their numbers.
func ports(list []Endpoint) string {
	var out []string
	for _, e := range list {
		_, port, _ := net.SplitHostPort(e.Real)
		out = append(out, e.Service+" "+port)
	}
	return strings.Join(out, ", ")
}

// person is an account with where its servers are.
type person struct {
	*Account
	user, domain                      string
	smtp, submission, pop3, imap, dns string
}

// people lists the accounts at mail hosts.
func (l *Lab) people() []person {
	world := l.World()
	var out []person
	for i := range world.Accounts {
		a := &world.Accounts[i]
		h, ok := world.Host(a.Host)
		if !ok || h.Kind != KindMail {
			continue
		}
		p := person{Account: a}
		at := func(host, service string) string {
			e, err := l.Endpoint(host, service)
			if err != nil {
				return ""
			}
			return e.Real
		}
		p.user, p.domain, _ = strings.Cut(a.Address, "@")
		p.smtp, p.submission = at(a.Host, "smtp"), at(a.Host, "submission")
		p.pop3, p.imap = at(a.Host, "pop3"), at(a.Host, "imap")
		if s, ok := world.Site(h.Site); ok {
			p.dns = at(s.Resolver, "dns")
		}
		out = append(out, p)
	}
	return out
}

// Toppings is what to type into the first server: a letter of two lines.
func Toppings(from, to *Account, helo string) []string {
	return []string{
		"HELO " + helo,
		fmt.Sprintf("MAIL FROM: <%s>", from.Address),
		fmt.Sprintf("RCPT TO: <%s>", to.Address),
		"DATA",
		"From: " + from.Address,
		"To: " + to.Address,
		"Subject: Searching for the meaning of life",
		"",
		"Do you like ketchup?",
		"How about pickles?",
		".",
		"QUIT",
	}
}

// port is an address and a port as a mail program asks for them.
func port(addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	return host + " port " + port
}

// word is a word as a shell reads it.
func word(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@:,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// telnet is what to type for a connection to an address.
func (l *Lab) telnet(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return cmp.Or(l.o.Telnet, "telnet") + " " + addr
	}
	return cmp.Or(l.o.Telnet, "telnet") + " " + host + " " + port
}

// dig is what to type to ask a name server.
func dig(server, question string) string {
	host, port, err := net.SplitHostPort(server)
	if err != nil || port == "53" {
		return "dig @" + host + " " + question
	}
	return "dig @" + host + " -p " + port + " " + question
}
