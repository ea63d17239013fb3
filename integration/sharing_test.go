package integration

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestReadmeSharing: the commands of "Sharing mailboxes" on a server that runs and on
// one that does not; what they say is so after kill -9 and in a backup, another
// program sees the mailboxes, and nobody logs in.
func TestReadmeSharing(t *testing.T) {
	s := newServer(t, options{domain: "example.org"})
	s.mustWith("hungry\n", "user", "add", "you@example.org", "--password-stdin")
	s.mustWith("hungry\n", "user", "add", "eve@example.org", "--password-stdin")
	readme := func(command, want string) {
		t.Helper()
		if out := s.must(strings.Fields(command)[1:]...); !strings.Contains(out, want) {
			t.Errorf("%s says %q", command, out)
		}
	}
	readme("postrider user add --shared sales@example.org", "")
	readme("postrider acl set sales@example.org INBOX you@example.org lrswite", "")
	readme("postrider acl list sales@example.org", "INBOX    you@example.org  lrswite\n")
	s.mustWith("Subject: an order\n\nten, please\n", "send", "sales@example.org")
	s.checkShared("at once")
	s.checkReading()
	s.kill()
	s.start()
	s.checkShared("after kill -9")
	dir := filepath.Join(t.TempDir(), "backup")
	s.must("backup", dir)
	s.must("acl", "set", "sales@example.org", "*", "@example.org", "lr")
	if got := s.sharedFolders("eve@example.org"); !strings.Contains(got, `"Shared/sales@example.org/Sent"`) {
		t.Errorf("eve does not see %s", got)
	}
	to := s.restored(dir)
	to.start()
	to.checkShared("restored")
	s.stop()
	s.must("acl", "delete", "sales@example.org", "*", "@example.org")
	s.must("acl", "set", "you@example.org", "INBOX", "eve@example.org", "lr")
	s.start()
	s.checkShared("changed while it was off")
	if out := s.must("verify"); !strings.HasPrefix(out, "ok") {
		t.Errorf("verify says %s", out)
	}
	c, err := imap(s.addr["imap"], "eve@example.org")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lines, err := c.imapAsk(`MYRIGHTS "Other Users/you@example.org/INBOX"`)
	if err != nil || !slices.Contains(lines, `* MYRIGHTS "Other Users/you@example.org/INBOX" lr`) {
		t.Errorf("%q, %v", lines, err)
	}
}

// sharedFolders is what curl is told of them.
func (s *server) sharedFolders(user string) string {
	s.t.Helper()
	out, code := execute(s.t, nil, "", "curl", "-sS", "--user", user+":hungry", "imap://"+s.addr["imap"], "-X", `LIST "" "Shared/*"`)
	if code != 0 {
		s.t.Errorf("curl: exit %d\n%s", code, out)
	}
	return strings.ReplaceAll(out, "\r\n", "\n")
}

// checkShared: you see the INBOX of sales, and eve nothing.
func (s *server) checkShared(what string) {
	s.t.Helper()
	want := `* LIST (\NonExistent \Noselect \HasChildren) "/" "Shared/sales@example.org"
* LIST (\HasNoChildren) "/" "Shared/sales@example.org/INBOX"
`
	if got := s.sharedFolders("you@example.org"); got != want {
		s.t.Errorf("%s: %s", what, got)
	}
	if got := s.sharedFolders("eve@example.org"); got != "" {
		s.t.Errorf("%s: eve sees %s", what, got)
	}
}

// checkReading: you read the letter, eve does not, and nobody logs in as sales.
func (s *server) checkReading() {
	s.t.Helper()
	url := fmt.Sprintf("imap://%s/Shared%%2Fsales%%40example.org%%2FINBOX;MAILINDEX=1", s.addr["imap"])
	curl := func(user, url string) (out string, code int) {
		return execute(s.t, nil, "", "curl", "-sS", "--user", user+"@example.org:hungry", url)
	}
	if out, code := curl("you", url); code != 0 || !strings.Contains(out, "ten, please") {
		s.t.Errorf("curl: exit %d\n%s", code, out)
	}
	if out, code := curl("eve", url); code == 0 || strings.Contains(out, "ten, please") {
		s.t.Errorf("eve reads %s", out)
	}
	for _, scheme := range []string{"imap", "pop3"} {
		if out, code := curl("sales", scheme+"://"+s.addr[scheme]); code == 0 {
			s.t.Errorf("somebody logs in to a shared account: %s", out)
		}
	}
}
