package integration

import (
	"net"
	"strings"
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

// ofSize is a letter of so many octets.
func ofSize(n int, subject string) string {
	text := letter("alice@crepes.fr", "bob@"+hostname, subject, "Do you like ketchup?\r\nHow about pickles?")
	for len(text)+62 < n {
		text += strings.Repeat("k", 58) + "\r\n"
	}
	return text + strings.Repeat("p", n-len(text)-2) + "\r\n"
}

// TestTextbookPOP3: the book's dialogue on a maildrop of 498 and 912 octets, and
// names of messages that outlive a restart.
func TestTextbookPOP3(t *testing.T) {
	s := newServer(t, options{})
	im, err := imap(s.addr["imap"], "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	for _, size := range []int{498, 912} {
		if _, err := im.imapAppend("INBOX", "", ofSize(size, "textbook")); err != nil {
			t.Fatal(err)
		}
	}
	uidl := func() string {
		t.Helper()
		c, err := pop(s.addr["pop3"], "bob")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		list, err := c.popLines("UIDL")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(list, "\n")
	}
	before := uidl()
	im.Close()
	s.stop()
	s.start()
	if after := uidl(); after != before {
		t.Errorf("UIDL was\n%s and is\n%s", before, after)
	}
	p := onTerminal(t, nil, "telnet", hostPort(t, s.addr["pop3"])...)
	p.follows(`
S: +OK POP3 server ready
C: user bob
S: +OK
C: pass hungry
S: +OK user successfully logged on
C: list
S: 1 498
S: 2 912
S: .
C: retr 1
S: Do you like ketchup?
S: .
C: dele 1
S: +OK
C: retr 2
S: How about pickles?
S: .
C: dele 2
S: +OK
C: quit
S: +OK POP3 server signing off
`)
	p.ends()
	if left := uidl(); left != "" {
		t.Errorf("after the deletion UIDL shows %s", left)
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
