package lab

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"strings"
	"text/tabwriter"

	"postrider/internal/node"
)

// zone is the lab's DNS: for each domain the host that takes its mail, and the
// way back from the address to the name.
func zone(servers []*Server) string {
	var b strings.Builder
	b.WriteString("$TTL 300\n")
	for _, s := range servers {
		d := s.Domain
		fmt.Fprintf(&b, "%s. SOA mx.%s. hostmaster.%s. 1 1h 10m 5d 60\n", d, d, d)
		fmt.Fprintf(&b, "%s. MX 10 mx.%s.\n", d, d)
		fmt.Fprintf(&b, "%s. TXT \"v=spf1 mx -all\"\n", d)
		fmt.Fprintf(&b, "%s. A %s\nmx.%s. A %s\n", d, s.IP, d, s.IP)
		octets := strings.Split(s.IP, ".")
		fmt.Fprintf(&b, "%s.%s.%s.%s.in-addr.arpa. PTR mx.%s.\n", octets[3], octets[2], octets[1], octets[0], d)
	}
	return b.String()
}

// introduce says what there is and what to do with it.
func (l *Lab) introduce(w io.Writer) {
	fmt.Fprintf(w, "postrider %s, the lab: two mail servers and a name server, all on this machine.\n\n", node.Version())
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintf(t, "  name server\tdns\t%s\tthe zones of both\n", l.DNS)
	for _, s := range l.Servers {
		name := s.Domain
		for _, line := range s.node.Listening() {
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", name, line.Service, line.Addr, line.About)
			name = ""
		}
	}
	t.Flush()
	from, to := l.Servers[0], l.Servers[1]
	fmt.Fprintf(w, "\nAsk where the mail of %s goes:\n\n", to.Domain)
	fmt.Fprintf(w, "  %s dns query %s MX --server %s\n", cmp.Or(l.program, "postrider"), to.Domain, l.DNS)
	fmt.Fprintf(w, "\nSend a letter from %s to %s by hand; what happens to it is shown below:\n\n", from.Domain, to.Domain)
	fmt.Fprintf(w, "  %s\n", telnet(from.Addr("smtp")))
	for _, line := range dialogue(from, to) {
		fmt.Fprintln(w, strings.TrimRight("  "+line, " "))
	}
	fmt.Fprintf(w, "\nRead it at %s:\n\n", to.Domain)
	fmt.Fprintf(w, "  %s\n", telnet(to.Addr("pop3")))
	for _, line := range []string{"user " + to.User, "pass " + to.Password, "list", "retr 1", "quit"} {
		fmt.Fprintf(w, "  %s\n", line)
	}
	fmt.Fprintf(w, "\nor over IMAP:\n\n  curl --user %s:%s 'imap://%s/INBOX;MAILINDEX=1'\n", to.User, to.Password, to.Addr("imap"))
	fmt.Fprintf(w, "\nThe same works the other way: %s@%s has the password %s, too.\n", from.User, from.Domain, from.Password)
	if l.temporary {
		fmt.Fprintln(w, "Control-C stops the lab and removes its data.")
	} else {
		fmt.Fprintf(w, "Control-C stops the lab; its data stays in %s.\n", l.DataDir)
	}
	fmt.Fprintln(w)
}

// dialogue is what to type into the first server.
func dialogue(from, to *Server) []string {
	return []string{
		"HELO " + from.Domain,
		fmt.Sprintf("MAIL FROM: <%s@%s>", from.User, from.Domain),
		fmt.Sprintf("RCPT TO: <%s@%s>", to.User, to.Domain),
		"DATA",
		fmt.Sprintf("From: %s@%s", from.User, from.Domain),
		fmt.Sprintf("To: %s@%s", to.User, to.Domain),
		"Subject: Searching for the meaning of life",
		"",
		"Do you like ketchup?",
		"How about pickles?",
		".",
		"QUIT",
	}
}

func telnet(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "telnet " + addr
	}
	return "telnet " + host + " " + port
}
