package integration

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestQuota: a full mailbox, seen by telnet, swaks, LMTP, IMAP and sendmail. What
// waits for it comes when there is room.
func TestQuota(t *testing.T) {
	s := newServer(t, options{config: "[delivery]\nretry = [\"1s\"]\n"})
	s.must("quota", "set", hostname, "--storage", "3000")
	s.put(letter("alice@crepes.fr", "bob@"+hostname, "first", strings.Repeat("x", 2000)))
	swaks := func(to string, size int, args ...string) (string, int) {
		return execute(t, nil, "", "swaks", append([]string{"--server", "127.0.0.1", "--port", s.port("smtp"),
			"--from", "alice@crepes.fr", "--to", to, "--body", strings.Repeat("x", size)}, args...)...)
	}
	// SIZE tells at RCPT that it is too much; without it the end of DATA does.
	c, err := smtp(s.addr["smtp"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, step := range [][2]string{
		{"MAIL FROM:<alice@crepes.fr> SIZE=2000", "250"},
		{"RCPT TO:<bob@hamburger.edu>", "452 4.2.2 The mailbox of bob@hamburger.edu has room for "},
		{"RCPT TO:<alice@hamburger.edu>", "250"},
		{"RCPT TO:<postmaster@hamburger.edu>", "250"},
		{"RSET", "250"},
	} {
		if _, err := c.ask(step[0], step[1]); err != nil {
			t.Fatalf("%s: %v", step[0], err)
		}
	}
	if out, code := swaks("bob@"+hostname, 2000); code == 0 || !strings.Contains(out, "452 4.2.2 The mailbox of bob@hamburger.edu") {
		t.Errorf("swaks: exit %d\n%s", code, out)
	}
	if out, code := swaks("bob@"+hostname, 2000, "--protocol", "LMTP", "--port", s.port("lmtp")); code == 0 || !strings.Contains(out, "452 4.2.2") {
		t.Errorf("swaks by LMTP: exit %d\n%s", code, out)
	}
	if _, stderr, code := s.run("Subject: x\n\n"+strings.Repeat("x", 2000)+"\n", "send", "bob@"+hostname); code != 1 || !strings.Contains(stderr, "has room for") {
		t.Errorf("send: exit %d, %s", code, stderr)
	}
	// With somebody else it is taken for both; bob's waits, and alice has hers.
	if out, code := swaks("bob@"+hostname+",alice@"+hostname, 2000, "--header", "Subject: second"); code != 0 {
		t.Fatalf("swaks to two: exit %d\n%s", code, out)
	}
	if got := s.must("queue", "list"); !strings.Contains(got, "bob@"+hostname) || strings.Contains(got, "alice@"+hostname) {
		t.Errorf("the queue:\n%s", got)
	}
	m, err := imap(s.addr["imap"], "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := m.imapAppend("Archive", "", strings.Repeat("x", 2000)); err == nil || !strings.Contains(err.Error(), "NO [OVERQUOTA]") {
		t.Errorf("APPEND: %v", err)
	}
	for _, command := range []string{"SELECT INBOX", "COPY 1 Archive", "MOVE 1 Trash", "SELECT Trash", `STORE 1 +FLAGS (\Deleted)`, "EXPUNGE"} {
		_, err := m.imapAsk(command)
		if command == "COPY 1 Archive" {
			if err == nil || !strings.Contains(err.Error(), "NO [OVERQUOTA]") {
				t.Errorf("COPY: %v", err)
			}
		} else if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
	}
	eventually(t, func() error {
		if got := s.must("queue", "list"); strings.Contains(got, "bob@") {
			return fmt.Errorf("still waiting:\n%s", got)
		}
		return nil
	})
	s.received("bob", "second")
	s.checkDefaultQuota()
}

// TestQuotaRaised: what waits for room comes when a limit is raised: the account's,
// and the configuration's at SIGHUP.
func TestQuotaRaised(t *testing.T) {
	s := newServer(t, options{config: "[limits]\naccount_storage = \"4KiB\"\n"})
	both := func(id string) {
		t.Helper()
		c, err := smtp(s.addr["smtp"])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		text := letter("alice@crepes.fr", "bob@"+hostname, id, strings.Repeat("x", 3000))
		if _, err := c.mail("alice@crepes.fr", []string{"bob@" + hostname, "alice@" + hostname}, text); err != nil {
			t.Fatal(err)
		}
	}
	s.must("quota", "set", "alice@"+hostname, "--storage", "none")
	both("first")
	both("second")
	if got := s.must("queue", "list"); !strings.Contains(got, "bob@"+hostname) {
		t.Fatalf("the queue:\n%s", got)
	}
	comes := func(id string) {
		t.Helper()
		eventually(t, func() error {
			for _, text := range s.inbox("bob") {
				if strings.Contains(text, "\r\nSubject: "+id+"\r\n") {
					return nil
				}
			}
			return fmt.Errorf("bob has no %s:\n%s", id, s.must("queue", "list"))
		})
	}
	s.must("quota", "set", "bob@"+hostname, "--storage", "7000")
	comes("second")
	both("third")
	s.must("quota", "set", "bob@"+hostname, "--storage", "default")
	text, err := os.ReadFile(s.configFile())
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, s.configFile(), strings.Replace(string(text), "4KiB", "4MiB", 1))
	if err := syscall.Kill(s.pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	comes("third")
}

// TestQuotaSetByIMAP: an administrator makes room over IMAP, and what waited for it comes
// at once (RFC 9208 section 4.1.3).
func TestQuotaSetByIMAP(t *testing.T) {
	s := newServer(t, options{config: "[imap]\nadministrators = [\"Alice@" + hostname + "\"]\n"})
	s.mustWith(password+"\n", "user", "passwd", "alice@"+hostname, "--password-stdin")
	s.must("quota", "set", "bob@"+hostname, "--storage", "4000")
	c, err := smtp(s.addr["smtp"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, id := range []string{"first", "second"} {
		text := letter("alice@crepes.fr", "bob@"+hostname, id, strings.Repeat("x", 3000))
		if _, err := c.mail("alice@crepes.fr", []string{"bob@" + hostname, "alice@" + hostname}, text); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.must("queue", "list"); !strings.Contains(got, "bob@"+hostname) {
		t.Fatalf("the queue:\n%s", got)
	}
	set := func(user string) error {
		m, err := imap(s.addr["imap"], user)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		_, err = m.imapAsk(`SETQUOTA "Other Users/bob@` + hostname + `" (STORAGE 20 MESSAGE 10)`)
		return err
	}
	if err := set("bob"); err == nil || !strings.Contains(err.Error(), "NO [NOPERM]") {
		t.Errorf("bob himself: %v", err)
	}
	if err := set("alice"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if n := len(s.inbox("bob")); n != 2 {
			return fmt.Errorf("bob has %d messages:\n%s", n, s.must("queue", "list"))
		}
		return nil
	})
	if got := s.must("quota", "show", "bob@"+hostname); !strings.Contains(got, "20KiB") || !strings.Contains(got, "10 (20 %)") {
		t.Errorf("quota show:\n%s", got)
	}
}

// checkDefaultQuota: a limit of the configuration holds after SIGHUP, and one of
// the domain or the account in its place.
func (s *server) checkDefaultQuota() {
	s.t.Helper()
	text, err := os.ReadFile(s.configFile())
	if err != nil {
		s.t.Fatal(err)
	}
	writeFile(s.t, s.configFile(), string(text)+"[limits]\naccount_messages = 1\n")
	if err := syscall.Kill(s.pid(), syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, func() error {
		if got := s.must("quota", "show", "bob@"+hostname); !strings.Contains(got, "1 (100 %) by default") {
			return fmt.Errorf("after SIGHUP:\n%s", got)
		}
		return nil
	})
	if got := s.must("check", "address", "bob@"+hostname); !strings.Contains(got, "452 4.2.2") {
		s.t.Errorf("check address:\n%s", got)
	}
	s.must("quota", "set", "bob@"+hostname, "--messages", "none", "--storage", "none")
	s.put(letter("alice@crepes.fr", "bob@"+hostname, "third", strings.Repeat("x", 9000)))
	s.received("bob", "third")
}
