package integration

import (
	"path/filepath"
	"slices"
	"testing"
)

// TestMetadata: annotations are there after kill -9, in a backup, and in what was
// restored of it.
func TestMetadata(t *testing.T) {
	s := newServer(t, options{})
	ask := func(s *server, command string) []string {
		t.Helper()
		c, err := imap(s.addr["imap"], "bob")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		lines, err := c.imapAsk(command)
		if err != nil {
			t.Errorf("%s: %v", command, err)
		}
		return lines
	}
	check := func(what string, s *server) {
		t.Helper()
		for command, want := range map[string]string{
			`GETMETADATA INBOX (/private/comment /shared/vendor/example/color)`: `* METADATA INBOX (/private/comment "mine" /shared/vendor/example/color "#b71c1c")`,
			`GETMETADATA "" /private/vendor/example/key`:                        `* METADATA "" (/private/vendor/example/key "of the account")`,
		} {
			if got := ask(s, command); !slices.Contains(got, want) {
				t.Errorf("%s: %s: %q, want %q", what, command, got, want)
			}
		}
	}
	ask(s, `SETMETADATA INBOX (/private/comment "mine" /shared/vendor/example/color "#b71c1c")`)
	ask(s, `SETMETADATA "" (/private/vendor/example/key "of the account")`)
	s.kill()
	s.start()
	check("after kill -9", s)
	dir := filepath.Join(t.TempDir(), "backup")
	s.must("backup", dir)
	ask(s, `SETMETADATA INBOX (/private/comment "later")`)
	to := s.restored(dir)
	to.start()
	check("restored", to)
}
