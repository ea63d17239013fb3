package integration

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestUndelete: what POP3 and IMAP deleted comes back, while the server runs, to a
// session that has the mailbox open.
func TestUndelete(t *testing.T) {
	s := newServer(t, options{})
	text := letter("alice@crepes.fr", "bob@"+hostname, "lost and found", "text")
	s.put(text)
	s.put(letter("alice@crepes.fr", "bob@"+hostname, "second", "text"))
	p, err := pop(s.addr["pop3"], "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, command := range []string{"DELE 1", "QUIT"} {
		if _, err := p.popAsk(command); err != nil {
			t.Fatal(err)
		}
	}
	m, err := imap(s.addr["imap"], "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, command := range []string{"CREATE Old", "SELECT INBOX", "COPY 1 Old", "DELETE Old"} {
		if _, err := m.imapAsk(command); err != nil {
			t.Fatalf("%s: %v", command, err)
		}
	}
	var list []struct {
		Mailbox  string
		Messages int
	}
	if err := json.Unmarshal([]byte(s.must("undelete", "bob@"+hostname, "--json")), &list); err != nil || len(list) != 2 ||
		list[0].Mailbox != "INBOX" || list[1].Mailbox != "Old" || list[1].Messages != 1 {
		t.Errorf("held: %v, %v", list, err)
	}
	if got := s.must("undelete", "bob@"+hostname, "--list", "--mailbox", "inbox", "--since", "1h"); strings.Count(got, "INBOX") != 1 || strings.Contains(got, "Old") {
		t.Errorf("the list:\n%s", got)
	}
	if got := s.must("undelete", "bob@"+hostname, "--mailbox", "INBOX"); got != "INBOX: brought back 1\n" {
		t.Errorf("undelete: %q", got)
	}
	lines, err := m.imapAsk("NOOP")
	if err != nil || !strings.Contains(strings.Join(lines, "\n"), "2 EXISTS") {
		t.Errorf("NOOP: %q, %v", lines, err)
	}
	lines, err = m.imapAsk("FETCH 2 BODY.PEEK[]")
	if err != nil || !strings.Contains(strings.Join(lines, "\r\n"), "lost and found") {
		t.Errorf("FETCH: %q, %v", lines, err)
	}
	if got := s.must("undelete", "bob@"+hostname); got != "Old: brought back 1\n" {
		t.Errorf("undelete: %q", got)
	}
	if _, stderr, code := s.run("", "undelete", "bob@"+hostname); code != 1 || !strings.Contains(stderr, "[storage] undelete") {
		t.Errorf("nothing to undelete: exit %d, %s", code, stderr)
	}
	if _, stderr, code := s.run("", "undelete", "bob@"+hostname, "--since", "soon"); code != 2 || !strings.Contains(stderr, "2026-11-20") {
		t.Errorf("a bad time: exit %d, %s", code, stderr)
	}
}
