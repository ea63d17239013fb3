package integration

import (
	"fmt"
	"strings"
	"testing"
)

// Each key of [limits] is tested at its value and at one more.

func TestLimitMessageSize(t *testing.T) {
	s := newServer(t, options{config: "[limits]\nmessage_size = \"10KiB\"\n"})
	c, err := smtp(s.addr["smtp"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	to := []string{"bob@" + hostname}
	fits := "Subject: fits\r\n\r\n" + strings.Repeat("x", 100) + "\r\n"
	fits += strings.Repeat(strings.Repeat("y", 98)+"\r\n", (10<<10-len(fits))/100)
	fits += strings.Repeat("z", 10<<10-len(fits)-2) + "\r\n"
	if _, err := c.mail("a@crepes.fr", to, fits); err != nil {
		t.Errorf("10240 octets: %v", err)
	}
	if reply, err := c.mail("a@crepes.fr", to, fits[:len(fits)-2]+"z\r\n"); err == nil || !strings.HasPrefix(reply, "552 5.3.4") {
		t.Errorf("10241 octets: %q, %v", reply, err)
	}
	if _, err := c.ask("MAIL FROM:<a@crepes.fr> SIZE=10240", "250"); err != nil {
		t.Error(err)
	}
	if _, err := c.ask("RSET", "250"); err != nil {
		t.Error(err)
	}
	if _, err := c.ask("MAIL FROM:<a@crepes.fr> SIZE=10241", "552 5.3.4"); err != nil {
		t.Error(err)
	}
	im, err := imap(s.addr["imap"], "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	if _, err := im.imapAppend("INBOX", "", fits); err != nil {
		t.Errorf("APPEND of 10240 octets: %v", err)
	}
	if _, err := im.imapAppend("INBOX", "", fits+"z\r\n"); err == nil {
		t.Error("APPEND of more was accepted")
	}
}

func TestLimitRecipients(t *testing.T) {
	s := newServer(t, options{config: "[limits]\nrecipients = 2\n"})
	c, err := smtp(s.addr["smtp"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, step := range [][2]string{
		{"MAIL FROM:<a@crepes.fr>", "250"}, {"RCPT TO:<bob@hamburger.edu>", "250"},
		{"RCPT TO:<alice@hamburger.edu>", "250"}, {"RCPT TO:<postmaster>", "452 4.5.3"}, {"DATA", "354"}, {"x\r\n.", "250"},
	} {
		if _, err := c.ask(step[0], step[1]); err != nil {
			t.Error(err)
		}
	}
}

func TestLimitConnectionsPerAddress(t *testing.T) {
	s := newServer(t, options{config: "[limits]\nconnections_per_address = 3\n"})
	for range 3 {
		c := mustDial(t, s.addr["pop3"])
		if line, err := c.line(); err != nil || !strings.HasPrefix(line, "+OK") {
			t.Fatalf("%q, %v", line, err)
		}
	}
	for service, want := range map[string]string{"smtp": "421 4", "pop3": "-ERR [SYS/TEMP] ", "imap": "* BYE "} {
		c := mustDial(t, s.addr[service])
		if line, err := c.line(); err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("the fourth connection, to %s: %q, %v", service, line, err)
		}
	}
}

func TestLimitConnections(t *testing.T) {
	s := newServer(t, options{config: "[limits]\nconnections = 3\n"})
	user, err := pop(s.addr["pop3"], "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	var strangers []*talk
	for range 3 {
		c := mustDial(t, s.addr["pop3"])
		if line, err := c.line(); err != nil || !strings.HasPrefix(line, "+OK") {
			t.Fatalf("%q, %v", line, err)
		}
		strangers = append(strangers, c)
	}
	// The oldest stranger had to go, the user had not.
	if line, err := strangers[0].line(); err != nil || !strings.HasPrefix(line, "-ERR [SYS/TEMP] ") {
		t.Errorf("the oldest stranger: %q, %v", line, err)
	}
	if _, err := user.popAsk("NOOP"); err != nil {
		t.Errorf("the user: %v", err)
	}
}

func TestLimitMessagesPerMinute(t *testing.T) {
	s := newServer(t, options{config: "[limits]\nmessages_per_minute = 3\n"})
	c, err := smtp(s.addr["smtp"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 3 {
		if _, err := c.mail("a@crepes.fr", []string{"bob@" + hostname}, fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i)); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.ask("MAIL FROM:<a@crepes.fr>", "451 4.7.1"); err != nil {
		t.Error(err)
	}
}

func TestLimitFailedLogins(t *testing.T) {
	s := newServer(t, options{config: "[limits]\nfailed_logins_per_minute = 2\n"})
	c := mustDial(t, s.addr["pop3"])
	if _, err := c.line(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"-ERR [AUTH] ", "-ERR [AUTH] ", "-ERR [SYS/TEMP] "} {
		if _, err := c.popAsk("USER bob"); err != nil {
			t.Fatal(err)
		}
		if err := c.say("PASS wrong"); err != nil {
			t.Fatal(err)
		}
		if line, err := c.line(); err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("attempt %d: %q, %v", i+1, line, err)
		}
	}
}
