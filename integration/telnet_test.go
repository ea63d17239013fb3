package integration

import (
	"net"
	"testing"
)

// The dialogues of the textbooks. The codes and the order are what counts; what
// the server says more is its own.
const (
	textbookSMTP = `
S: 220 hamburger.edu
C: HELO crepes.fr
S: 250 Hello crepes.fr, pleased to meet you
C: MAIL FROM: <alice@crepes.fr>
S: 250 2.1.0 alice@crepes.fr... Sender ok
C: RCPT TO: <bob@hamburger.edu>
S: 250 2.1.5 bob@hamburger.edu
C: DATA
S: 354 Enter mail, end with "." on a line by itself
C: Do you like ketchup?
C: How about pickles?
C: .
S: 250 2.0.0 Message accepted for delivery
C: QUIT
S: 221 2.0.0 hamburger.edu closing connection
`
	// The second book's, with bare addresses.
	bareSMTP = `
S: 220 hamburger.edu
C: helo alice
S: 250 Hello alice
C: MAIL FROM: alice@alice.com
S: 250
C: RCPT TO: bob@hamburger.edu
S: 250
C: DATA
S: 354
C: Subject: bare
C:
C: A line.
C: ..stuffed
C: .
S: 250
C: MAIL FROM: alice@alice.com
S: 250
C: RCPT TO: bob@example.com
S: 550
C: RSET
S: 250
C: quit
S: 221
`
)

func hostPort(t *testing.T, addr string) []string {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return []string{host, port}
}

// TestTelnet: letters typed at a terminal, and read and deleted in the same way.
func TestTelnet(t *testing.T) {
	s := newServer(t, options{})
	for _, dialogue := range []string{textbookSMTP, bareSMTP} {
		p := onTerminal(t, nil, "telnet", hostPort(t, s.addr["smtp"])...)
		p.sees("Connected to")
		p.follows(dialogue)
		p.ends()
	}
	p := onTerminal(t, nil, "telnet", hostPort(t, s.addr["pop3"])...)
	p.follows(`
S: +OK POP3 server ready
C: user bob
S: +OK
C: pass hungry
S: +OK user successfully logged on
C: list
S: 1 
S: 2 
S: .
C: retr 1
S: Do you like ketchup?
S: How about pickles?
S: .
C: dele 1
S: +OK
C: retr 2
S: A line.
S: ..stuffed
S: .
C: dele 2
S: +OK
C: quit
S: +OK POP3 server signing off
`)
	p.ends()
	if c, err := pop(s.addr["pop3"], "bob"); err != nil {
		t.Error(err)
	} else if stat, err := c.popAsk("STAT"); stat != "+OK 0 0" {
		t.Errorf("after the deletion: %s, %v", stat, err)
	}
}

// TestNetcat: nc with -C is a telnet; without it, the server says what is wrong.
func TestNetcat(t *testing.T) {
	s := newServer(t, options{})
	p := onPipe(t, "nc", append([]string{"-C"}, hostPort(t, s.addr["smtp"])...)...)
	p.follows(textbookSMTP)
	p.ends()
	for service, greeting := range map[string]string{"smtp": "220 ", "pop3": "+OK "} {
		p := onPipe(t, "nc", hostPort(t, s.addr[service])...)
		p.sees("\n" + greeting)
		p.types("NOOP\n")
		p.sees("nc -C")
	}
}
