package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// another opens bob's account beside the program that is tested, and does what
// must succeed.
func (s *server) another() (c *talk, ask func(commands ...string)) {
	s.t.Helper()
	c, err := imap(s.addr["imap"], "bob")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c, func(commands ...string) {
		s.t.Helper()
		for _, command := range commands {
			if _, err := c.imapAsk(command); err != nil {
				s.t.Fatalf("%s: %v", command, err)
			}
		}
	}
}

// TestCurlIMAP: fetching by number, UID and part; UIDVALIDITY; appending a
// large message; commands of one's own.
func TestCurlIMAP(t *testing.T) {
	s := newServer(t, options{})
	for i := range 3 {
		s.put(letter("alice@crepes.fr", "bob@"+hostname, fmt.Sprintf("curl %d", i), fmt.Sprintf("number %d", i)))
	}
	c, ask := s.another()
	ask("CREATE Spa&AN8-", "SELECT INBOX", `STORE 1 +FLAGS (\Deleted)`, "EXPUNGE", "UNSELECT")
	status, err := c.imapAsk("STATUS INBOX (UIDVALIDITY)")
	if err != nil {
		t.Fatal(err)
	}
	validity := regexp.MustCompile(`\d+`).FindString(status[0])
	base := []string{"-sS", "--cacert", s.caFile(), "-u", "bob@" + hostname + ":" + password}
	imaps := "imaps://localhost:" + s.port("imaps") + "/"
	curl := func(args ...string) string {
		t.Helper()
		return succeed(t, nil, "", "curl", append(slices.Clone(base), args...)...)
	}
	for what, want := range map[string]string{
		"INBOX;UID=2;SECTION=TEXT":                              "number 1\r\n",
		"INBOX;MAILINDEX=2;SECTION=TEXT":                        "number 2\r\n",
		"INBOX;UID=3;SECTION=HEADER.FIELDS%20(SUBJECT)":         "Subject: curl 2\r\n\r\n",
		"INBOX;UID=3;SECTION=1":                                 "number 2\r\n",
		"INBOX;UIDVALIDITY=" + validity + ";UID=3;SECTION=TEXT": "number 2\r\n",
	} {
		if got := curl(imaps + what); got != want {
			t.Errorf("%s: %q", what, got)
		}
	}
	const wrongValidity = "INBOX;UIDVALIDITY=1;UID=3"
	if out, code := execute(t, nil, "", "curl", append(slices.Clone(base), imaps+wrongValidity)...); code != 78 { // file not found
		t.Errorf("%s: exit %d, %q", wrongValidity, code, out)
	}
	for url, want := range map[string]string{ // by the mechanism that is named
		"imaps://localhost:" + s.port("imaps"): "PLAIN",
		"imap://localhost:" + s.port("imap"):   "LOGIN",
	} {
		if list := curl("--ssl-reqd", "--login-options", "AUTH="+want, url+"/"); !strings.Contains(list, "Spa&AN8-") {
			t.Errorf("LIST after AUTH=%s: %q", want, list)
		}
	}

	// A large message, to a mailbox whose name is not ASCII, and back.
	large := letter("bob@"+hostname, "alice@"+hostname, "large", strings.Repeat("a line of this letter\r\n", 100_000))
	file := writeFile(t, filepath.Join(t.TempDir(), "large"), large)
	curl("-T", file, imaps+"Spa%26AN8-")
	if got := curl(imaps + "Spa%26AN8-;UID=1"); got != large {
		t.Errorf("a large message came back with %d octets of %d", len(got), len(large))
	}

	for _, step := range []struct{ mailbox, command, want string }{
		{"", "CREATE Work/2026", ""},
		{"", "STATUS INBOX (MESSAGES UNSEEN)", "* STATUS INBOX (MESSAGES 2 UNSEEN "},
		{"INBOX", `UID STORE 2 +FLAGS.SILENT (\Seen $label1)`, ""},
		{"INBOX", "UID SEARCH KEYWORD $label1", "* SEARCH 2"},
		{"INBOX", "UID SEARCH SINCE 1-Jan-2020 SUBJECT curl", "* SEARCH 2 3"},
		{"INBOX", "FETCH 1:* (UID FLAGS RFC822.SIZE)", "* 1 FETCH ("},
		{"INBOX", "UID MOVE 2 Work/2026", ""},
		{"INBOX", "UID SEARCH ALL", "* SEARCH 3"},
		{"Work/2026", "NOOP", ""},
		{"", "RENAME Work/2026 Done", ""},
		{"Done", "UID FETCH 1 FLAGS", `* 1 FETCH (UID 1 FLAGS (`},
	} {
		if got := curl(imaps+step.mailbox, "-X", step.command); !strings.Contains(got, step.want) {
			t.Errorf("%s: %q", step.command, got)
		}
	}
	if got := remote(t, c, "INBOX", "Done"); !slices.Equal(got, []string{`Done: curl 1 (\Seen $label1)`, `INBOX: curl 2 (\Seen)`}) {
		t.Errorf("curl left %q", got)
	}
}

// TestMuttCache: mutt with its header cache, by QRESYNC and by CONDSTORE alone,
// shows what another client did; it asks for the headers of new messages only.
func TestMuttCache(t *testing.T) {
	for name, qresync := range map[string]string{"QRESYNC": "yes", "CONDSTORE": "no"} {
		t.Run(name, func(t *testing.T) { muttCache(t, qresync) })
	}
}

func muttCache(t *testing.T, qresync string) {
	s := newServer(t, options{})
	for i := range 6 {
		s.put(letter("alice@crepes.fr", "bob@"+hostname, fmt.Sprintf("mutt %d", i), "Do you like ketchup?"))
	}
	c, ask := s.another()
	home := t.TempDir()
	s.muttCacheConfig(home, qresync)
	open := func() *person {
		return onTerminal(t, []string{"HOME=" + home}, "mutt", "-d", "2", "-F", filepath.Join(home, "muttrc"))
	}
	said := func() string {
		text, err := os.ReadFile(filepath.Join(home, ".muttdebug0"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}

	p := open()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("mutt and the server:\n%s", said())
		}
	})
	p.sees("<N|mutt 0>")
	p.sees("<N|mutt 5>")
	s.put(letter("alice@crepes.fr", "bob@"+hostname, "while open", "x")) // by IDLE
	p.sees("<N|while open>")
	p.types("q")
	p.ends()
	if !strings.Contains(said(), "IDLE\r\n") || !strings.Contains(said(), "COMPRESS DEFLATE\r\n") {
		t.Errorf("mutt did not use IDLE or COMPRESS: %s", said())
	}

	ask("SELECT INBOX", `STORE 2 +FLAGS (\Flagged)`, `STORE 3 +FLAGS (\Answered \Seen)`, `STORE 1,5 +FLAGS (\Deleted)`, "EXPUNGE")
	s.put(letter("alice@crepes.fr", "bob@"+hostname, "new one", "x"))
	p = open()
	for _, row := range []string{"<!|mutt 1>", "<r|mutt 2>", "<N|mutt 3>", "<N|mutt 5>", "<N|while open>", "<N|new one>"} {
		p.sees(row)
	}
	text := said()
	if headers := regexp.MustCompile(`> a\d+ FETCH ([0-9:,*]+) \(UID FLAGS INTERNALDATE `).FindAllStringSubmatch(text, -1); len(headers) != 1 ||
		!strings.HasSuffix(headers[0][1], "6") || strings.ContainsAny(headers[0][1], "1234") {
		t.Errorf("mutt fetched the headers of %q", headers)
	}
	want := `CHANGEDSINCE`
	if qresync == "yes" {
		want = `VANISHED \(EARLIER\) 1,5`
	}
	if !regexp.MustCompile(want).MatchString(text) {
		t.Errorf("no %s in %s", want, text)
	}

	// It searches on the server, changes, copies and deletes.
	p.types("/=s 'mutt 3'\n")
	p.types("F")
	p.types("C=Archive\n")
	p.types("/=s 'mutt 5'\nd")
	p.types("$")
	p.sees("5 kept")
	p.types("q")
	p.ends()
	if got := remote(t, c, "INBOX", "Archive"); !slices.Equal(got, []string{
		"Archive: mutt 3 (\\Flagged)", "INBOX: mutt 1 (\\Flagged)", "INBOX: mutt 2 (\\Answered \\Seen)", "INBOX: mutt 3 (\\Flagged)",
		"INBOX: new one ()", "INBOX: while open ()"}) {
		t.Errorf("mutt left %q", got)
	}
}

// muttCacheConfig has mutt keep headers and bodies in home, and say little.
func (s *server) muttCacheConfig(home, qresync string) {
	s.t.Helper()
	writeFile(s.t, filepath.Join(home, "muttrc"), fmt.Sprintf(`
set certificate_file=%[1]s ssl_ca_certificates_file=%[1]s
set imap_user="bob@%[2]s" imap_pass="%[3]s" folder="imaps://localhost:%[4]s/" spoolfile="+INBOX"
set imap_condstore=yes imap_qresync=%[5]s imap_idle=yes timeout=1 imap_deflate=yes
set header_cache=%[6]s/headers message_cachedir=%[6]s/bodies tmpdir=%[6]s
set confirmcreate=no confirmappend=no quit=yes delete=yes sleep_time=0 resolve=no mark_old=no move=no
set index_format="<%%S|%%s>" sort=mailbox-order
`, s.caFile(), hostname, password, s.port("imaps"), qresync, home))
	for _, dir := range []string{"headers", "bodies"} {
		if err := os.Mkdir(filepath.Join(home, dir), 0o700); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestIsyncBothWays: messages, flags, deletions and folders of each side arrive
// at the other.
func TestIsyncBothWays(t *testing.T) {
	s := newServer(t, options{})
	for i := range 6 {
		s.put(letter("alice@crepes.fr", "bob@"+hostname, "sync "+strconv.Itoa(i), "x"))
	}
	c, ask := s.another()
	ask("CREATE Work", "SELECT INBOX", "COPY 1:2 Work")
	home := t.TempDir()
	mail := filepath.Join(home, "mail")
	rc := s.mbsyncConfig(home, mail)
	sync := func() map[string]string {
		t.Helper()
		succeed(t, []string{"HOME=" + home}, "", "mbsync", "-c", rc, "-a")
		return maildir(t, mail)
	}
	files := sync()
	flag(t, mail, with(t, files, "INBOX", "sync 0"), "FS")
	flag(t, mail, with(t, files, "INBOX", "sync 1"), "ST") // T: to be deleted
	near := strings.ReplaceAll(letter("bob@"+hostname, "alice@crepes.fr", "near", "x"), "\r\n", "\n")
	for _, dir := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(mail, "Made", dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(mail, "Made", "cur", "1.host:2,S"), near)
	ask("SELECT INBOX", `STORE 3 +FLAGS (\Answered)`, `STORE 4 +FLAGS (\Deleted)`, "EXPUNGE", "MOVE 4 Work", "CREATE New/Inner", "COPY 1 New/Inner")
	if _, err := c.imapAppend("INBOX", `\Seen`, letter("bob@"+hostname, "bob@"+hostname, "far", "x")); err != nil {
		t.Fatal(err)
	}
	sync()
	files = sync() // the second expunges what the first has marked
	boxes := []string{"INBOX", "Work", "Made", "New/Inner"}
	want := []string{
		"INBOX: far (\\Seen)", "INBOX: sync 0 (\\Flagged \\Seen)", "INBOX: sync 2 (\\Answered)", "INBOX: sync 5 ()",
		"Made: near (\\Seen)", "New/Inner: sync 0 ()", "Work: sync 0 ()", "Work: sync 1 ()", "Work: sync 4 ()",
	}
	if got := remote(t, c, boxes...); !slices.Equal(got, want) {
		t.Errorf("the server has\n%q, want\n%q", got, want)
	}
	for _, w := range want {
		folder, rest, _ := strings.Cut(w, ": ")
		subject, flags, _ := strings.Cut(rest, " (")
		name := with(t, files, folder, subject)
		letters := strings.NewReplacer(`\Flagged`, "F", `\Answered`, "R", `\Seen`, "S", " ", "", ")", "").Replace(flags)
		if name == "" || marks(name) != letters {
			t.Errorf("%s is %q here", w, name)
		}
	}
	if len(files) != len(want) {
		t.Errorf("%d files", len(files))
	}
}

// TestImaplib: each command that Python's own library has.
func TestImaplib(t *testing.T) {
	s := newServer(t, options{})
	s.must("quota", "set", "bob@"+hostname, "--storage", "10240000")
	out := succeed(t, nil, "", "python3", "testdata/imaplib_day.py", s.caFile(), "bob@"+hostname, password, s.port("imaps"))
	if !strings.Contains(out, "done") {
		t.Error(out)
	}
	c, _ := s.another()
	if got := remote(t, c, "INBOX", "Trash"); !slices.Equal(got, []string{`INBOX: Grüße ()`, `INBOX: three ($label1)`, `Trash: two (\Answered)`}) {
		t.Errorf("imaplib left %q", got)
	}
}
