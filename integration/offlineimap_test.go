package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maildir is the files of a tree of Maildirs, by their path below it.
func maildir(t testing.TB, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		in := filepath.Base(filepath.Dir(name))
		if err != nil || d.IsDir() || in != "cur" && in != "new" {
			return err
		}
		text, err := os.ReadFile(name)
		files[strings.TrimPrefix(name, root+"/")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// with gives the one file whose message has a subject, "" for none.
func with(t testing.TB, files map[string]string, folder, subject string) string {
	t.Helper()
	var found []string
	for name, text := range files {
		if strings.HasPrefix(name, folder+"/") && strings.Contains(text, "Subject: "+subject+"\n") {
			found = append(found, name)
		}
	}
	if len(found) > 1 {
		t.Fatalf("%s is in %q", subject, found)
	}
	return strings.Join(found, "")
}

// marks are the flags in the name of a file of a Maildir.
func marks(name string) string {
	_, flags, _ := strings.Cut(name, ":2,")
	return flags
}

// flag gives a file other flags.
func flag(t testing.TB, root, name, flags string) {
	t.Helper()
	base, _, _ := strings.Cut(filepath.Base(name), ":2,")
	if err := os.Rename(filepath.Join(root, name), filepath.Join(root, filepath.Dir(filepath.Dir(name)), "cur", base+":2,"+flags)); err != nil {
		t.Fatal(err)
	}
}

// remote is what another client sees of some mailboxes: for each message its
// subject and its flags.
func remote(t testing.TB, c *talk, mailboxes ...string) (all []string) {
	t.Helper()
	for _, mailbox := range mailboxes {
		if _, err := c.imapAsk("EXAMINE " + mailbox); err != nil {
			t.Fatal(err)
		}
		got, err := c.imapAsk("FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
		var no imapNo
		if err != nil && !errors.As(err, &no) {
			t.Fatal(err)
		}
		for _, line := range got {
			if _, rest, ok := strings.Cut(line, "FETCH (FLAGS ("); ok {
				flags, rest, _ := strings.Cut(rest, ")")
				_, rest, _ = strings.Cut(rest, "Subject: ")
				subject, _, _ := strings.Cut(rest, "\r\n")
				all = append(all, fmt.Sprintf("%s: %s (%s)", mailbox, subject, flags))
			}
		}
	}
	slices.Sort(all)
	return all
}

// TestOfflineIMAP: an account and a Maildir are made the same, whichever of them
// changed; a second run changes nothing.
func TestOfflineIMAP(t *testing.T) {
	s := newServer(t, options{})
	for i := range 8 {
		s.put(letter("alice@crepes.fr", "bob@"+hostname, fmt.Sprintf("far %d", i), strings.Repeat("line of text\r\n", i*100)))
	}
	c, ask := s.another()
	ask("CREATE Work/2026", "CREATE Spa&AN8-", "SELECT INBOX", `STORE 1 +FLAGS (\Flagged \Seen)`, "COPY 1:2 Work/2026", "COPY 3 Spa&AN8-")
	home := t.TempDir()
	mail := filepath.Join(home, "mail")
	rc := s.offlineimapConfig(home, mail)
	sync := func() map[string]string {
		t.Helper()
		succeed(t, []string{"HOME=" + home}, "", "offlineimap", "-c", rc, "-u", "basic", "-o")
		return maildir(t, mail)
	}
	boxes := []string{"INBOX", "Work/2026", "Spa&AN8-", "Sent", "Trash"}

	files, far := sync(), remote(t, c, boxes...)
	if len(files) != 11 || marks(with(t, files, "INBOX", "far 0")) != "FS" || with(t, files, "Work/2026", "far 1") == "" {
		t.Fatalf("%q", slices.Sorted(maps.Keys(files)))
	}
	if again := sync(); !maps.Equal(again, files) || !slices.Equal(remote(t, c, boxes...), far) {
		t.Errorf("the second run made\n%q of\n%q, and on the server\n%q of\n%q",
			slices.Sorted(maps.Keys(again)), slices.Sorted(maps.Keys(files)), remote(t, c, boxes...), far)
	}

	// On this side: a new message, a folder with one, other flags, and one less.
	text := strings.ReplaceAll(letter("bob@"+hostname, "alice@crepes.fr", "near %", "x"), "\r\n", "\n")
	writeFile(t, filepath.Join(mail, "Sent", "new", "1.host"), strings.ReplaceAll(text, "near %", "near 1"))
	writeFile(t, filepath.Join(mail, "Made", "cur", "2.host:2,S"), strings.ReplaceAll(text, "near %", "near 2"))
	for _, dir := range []string{"new", "tmp"} {
		if err := os.Mkdir(filepath.Join(mail, "Made", dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	flag(t, mail, with(t, files, "INBOX", "far 2"), "RS")
	if err := os.Remove(filepath.Join(mail, with(t, files, "INBOX", "far 3"))); err != nil {
		t.Fatal(err)
	}
	// On the server at the same time.
	ask("SELECT INBOX", `STORE 5 +FLAGS (\Answered)`, `STORE 1 -FLAGS (\Flagged)`, `STORE 6 +FLAGS (\Deleted)`, "EXPUNGE", "MOVE 7 Work/2026",
		"CREATE New", "SELECT Work/2026", "COPY 1 New")
	files = sync()
	sync() // what one run made on one side may be told of in the next
	boxes = append(boxes, "Made", "New")
	want := []string{
		"INBOX: far 0 (\\Seen)", "INBOX: far 1 ()", "INBOX: far 2 (\\Answered \\Seen)", "INBOX: far 4 (\\Answered)", "INBOX: far 6 ()",
		"Made: near 2 (\\Seen)", "New: far 0 (\\Flagged \\Seen)", "Sent: near 1 ()", "Spa&AN8-: far 2 ()",
		"Work/2026: far 0 (\\Flagged \\Seen)", "Work/2026: far 1 ()", "Work/2026: far 7 ()",
	}
	if got := remote(t, c, boxes...); !slices.Equal(got, want) {
		t.Errorf("the server has\n%q, want\n%q", got, want)
	}
	if len(files) != len(want) || marks(with(t, files, "INBOX", "far 0")) != "S" || marks(with(t, files, "INBOX", "far 4")) != "R" ||
		with(t, files, "INBOX", "far 5") != "" || with(t, files, "Work/2026", "far 7") == "" || with(t, files, "New", "far 0") == "" {
		t.Errorf("the Maildir has %q", slices.Sorted(maps.Keys(files)))
	}
	if again := sync(); !maps.Equal(again, files) || !slices.Equal(remote(t, c, boxes...), want) {
		t.Errorf("the last run made\n%q of\n%q", slices.Sorted(maps.Keys(again)), slices.Sorted(maps.Keys(files)))
	}
}

// offlineimapConfig writes what offlineimap needs to know of bob's account.
func (s *server) offlineimapConfig(home, mail string) string {
	s.t.Helper()
	return writeFile(s.t, filepath.Join(home, "offlineimaprc"), fmt.Sprintf(`
[general]
accounts = bob
metadata = %s/state
maxsyncaccounts = 1

[Account bob]
localrepository = near
remoterepository = far

[Repository near]
type = Maildir
localfolders = %s
sep = /

[Repository far]
type = IMAP
remotehost = localhost
remoteport = %s
remoteuser = bob@%s
remotepass = %s
ssl = yes
sslcacertfile = %s
expunge = yes
maxconnections = 3
`, home, mail, s.port("imaps"), hostname, password, s.caFile()))
}
