package integration

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// letter is a message as a mail program makes it.
func letter(from, to, subject, body string) string {
	return fmt.Sprintf("From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%s@test.example>\r\n\r\n%s\r\n",
		from, to, subject, strings.ReplaceAll(subject, " ", "."), body)
}

// inbox returns the messages in a user's INBOX, as POP3 sends them.
func (s *server) inbox(user string) []string {
	s.t.Helper()
	c, err := pop(s.addr["pop3"], user)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	list, err := c.popLines("LIST")
	if err != nil {
		s.t.Fatal(err)
	}
	var all []string
	for i := range list {
		lines, err := c.popLines(fmt.Sprintf("RETR %d", i+1))
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, strings.Join(lines, "\r\n")+"\r\n")
	}
	if _, err := c.popAsk("QUIT"); err != nil {
		s.t.Fatal(err)
	}
	return all
}

// received wants exactly one message with this Subject in the INBOX.
func (s *server) received(user, subject string) string {
	s.t.Helper()
	var found []string
	for _, m := range s.inbox(user) {
		if strings.Contains(m, "\r\nSubject: "+subject+"\r\n") {
			found = append(found, m)
		}
	}
	if len(found) != 1 {
		s.t.Fatalf("%s has %d messages %q", user, len(found), subject)
	}
	return found[0]
}

// put delivers messages to bob by SMTP.
func (s *server) put(texts ...string) {
	s.t.Helper()
	c, err := smtp(s.addr["smtp"])
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	for _, text := range texts {
		if _, err := c.mail("alice@crepes.fr", []string{"bob@" + hostname}, text); err != nil {
			s.t.Fatal(err)
		}
	}
}

func TestCurl(t *testing.T) {
	s := newServer(t, options{})
	ca := s.caFile()
	user := "bob@" + hostname + ":" + password
	for _, how := range []struct {
		subject, service string
		args             []string
	}{
		{"curl plain", "smtp", nil},
		{"curl STARTTLS", "submission", []string{"--ssl-reqd", "-u", user}},
		{"curl TLS", "submissions", []string{"-u", user}},
		{"curl AUTH LOGIN", "submissions", []string{"-u", user, "--login-options", "AUTH=LOGIN"}},
	} {
		scheme := "smtp"
		if how.service == "submissions" {
			scheme = "smtps"
		}
		from := "bob@" + hostname
		file := writeFile(t, filepath.Join(t.TempDir(), "letter"), letter(from, from, how.subject, ".dot\r\n..dots"))
		args := append([]string{"-sS", "--cacert", ca, "--mail-from", from, "--mail-rcpt", from, "-T", file,
			scheme + "://localhost:" + s.port(how.service) + "/crepes.fr"}, how.args...)
		succeed(t, nil, "", "curl", args...)
		if m := s.received("bob", how.subject); !strings.HasSuffix(m, "\r\n\r\n.dot\r\n..dots\r\n") {
			t.Errorf("%s changed the body: %q", how.subject, m)
		}
	}

	pop3s := "pop3s://localhost:" + s.port("pop3s") + "/"
	curl := func(args ...string) string {
		t.Helper()
		return succeed(t, nil, "", "curl", append([]string{"-sS", "--cacert", ca, "-u", user}, args...)...)
	}
	if list := curl(pop3s); strings.Count(list, "\n") != 4 {
		t.Errorf("LIST by curl: %q", list)
	}
	if m := curl("--ssl-reqd", "pop3://localhost:"+s.port("pop3")+"/2"); !strings.Contains(m, "Subject: curl STARTTLS\r\n") || !strings.HasSuffix(m, "\r\n.dot\r\n..dots\r\n") {
		t.Errorf("RETR by curl: %q", m)
	}
	curl("-I", "-X", "DELE 1", pop3s) // -I: the reply has one line
	if list := curl(pop3s); strings.Count(list, "\n") != 3 {
		t.Errorf("LIST after DELE by curl: %q", list)
	}

	imaps := "imaps://localhost:" + s.port("imaps") + "/"
	if list := curl(imaps); !strings.Contains(list, "INBOX") || !strings.Contains(list, "Sent") {
		t.Errorf("LIST by curl: %q", list)
	}
	if m := curl(imaps + "INBOX;MAILINDEX=1"); !strings.Contains(m, "Subject: curl STARTTLS\r\n") {
		t.Errorf("FETCH by curl: %q", m)
	}
	file := writeFile(t, filepath.Join(t.TempDir(), "draft"), letter("bob@"+hostname, "alice@"+hostname, "a draft", "unfinished"))
	curl("--ssl-reqd", "-T", file, "imap://localhost:"+s.port("imap")+"/Drafts")
	if m := curl(imaps + "Drafts;MAILINDEX=1;SECTION=TEXT"); m != "unfinished\r\n" {
		t.Errorf("APPEND and FETCH by curl: %q", m)
	}
	if hits := curl(imaps+"INBOX", "-X", "SEARCH SUBJECT LOGIN"); strings.TrimSpace(hits) != "* SEARCH 3" {
		t.Errorf("SEARCH by curl: %q", hits)
	}
}

func TestSwaks(t *testing.T) {
	s := newServer(t, options{})
	from := "bob@" + hostname
	base := []string{"--from", from, "--to", from, "--server", "localhost", "--helo", "crepes.fr"}
	login := []string{"--auth-user", from, "--auth-password", password}
	tls := []string{"--tls-verify", "--tls-ca-path", s.caFile()}
	for _, how := range []struct {
		subject, service string
		args             []string
	}{
		{"swaks plain", "smtp", nil},
		{"swaks STARTTLS", "smtp", append([]string{"--tls"}, tls...)},
		{"swaks AUTH PLAIN", "submission", slices.Concat([]string{"--tls", "--auth", "PLAIN"}, login, tls)},
		{"swaks AUTH LOGIN", "submission", slices.Concat([]string{"--tls", "--auth", "LOGIN"}, login, tls)},
		{"swaks TLS", "submissions", slices.Concat([]string{"--tls-on-connect", "--auth", "PLAIN"}, login, tls)},
		{"swaks PIPELINING", "smtp", []string{"--pipeline"}},
	} {
		args := slices.Concat(base, []string{"--port", s.port(how.service), "--header", "Subject: " + how.subject}, how.args)
		succeed(t, nil, "", "swaks", args...)
		s.received("bob", how.subject)
	}
	out, code := execute(t, nil, "", "swaks", slices.Concat(base, tls, []string{"--port", s.port("submission"),
		"--tls", "--auth", "PLAIN", "--auth-user", from, "--auth-password", "wrong"})...)
	if code == 0 || !strings.Contains(out, "535") {
		t.Errorf("a wrong password: exit %d\n%s", code, out)
	}
	out, code = execute(t, nil, "", "swaks", slices.Concat(base, []string{"--port", s.port("submission")})...)
	if code == 0 || !strings.Contains(out, "530 5.7.0") {
		t.Errorf("submission without login: exit %d\n%s", code, out)
	}
	// Delivery by LMTP, as another MTA would.
	succeed(t, nil, "", "swaks", slices.Concat(base, []string{"--protocol", "LMTP", "--port", s.port("lmtp"), "--header", "Subject: swaks LMTP"})...)
	s.received("bob", "swaks LMTP")
}

func TestMsmtp(t *testing.T) {
	s := newServer(t, options{})
	from := "bob@" + hostname
	for _, how := range []struct {
		subject, service, starttls, auth string
	}{
		{"msmtp plain", "submission", "on", "plain"},
		{"msmtp login", "submissions", "off", "login"},
		{"msmtp scram", "submission", "on", "scram-sha-256"},
	} {
		succeed(t, nil, letter(from, from, how.subject, "by msmtp"), "msmtp", "--host=localhost", "--port="+s.port(how.service),
			"--tls=on", "--tls-starttls="+how.starttls, "--tls-trust-file="+s.caFile(), "--auth="+how.auth,
			"--user="+from, "--passwordeval=echo "+password, "--from="+from, from)
		s.received("bob", how.subject)
	}
}

// TestFetchmail: keep, and delete; a second run with keep fetches nothing.
func TestFetchmail(t *testing.T) {
	s := newServer(t, options{})
	s.put(letter("alice@crepes.fr", "bob@"+hostname, "fetch one", "1"), letter("alice@crepes.fr", "bob@"+hostname, "fetch two", ".\r\n.2"))
	home := t.TempDir()
	mbox := filepath.Join(home, "mbox")
	env := []string{"HOME=" + home, "FETCHMAILHOME=" + home, "LOGNAME=bob", "USER=bob"}
	fetch := func(service, mode string) (string, int) {
		t.Helper()
		ssl := "sslproto tls1+"
		if service == "pop3s" {
			ssl = "ssl"
		}
		rc := writeFile(t, filepath.Join(home, "fetchmailrc"), fmt.Sprintf(
			"poll localhost protocol pop3 port %s uidl\n user \"bob@%s\" password \"%s\" is bob here %s %s sslcertck sslcertfile \"%s\" mda \"cat >> %s\"\n",
			s.port(service), hostname, password, mode, ssl, s.caFile(), mbox))
		return execute(t, env, "", "fetchmail", "-f", rc, "--nosyslog", "-v")
	}
	subjects := func() int {
		text, err := os.ReadFile(mbox)
		if err != nil {
			return 0
		}
		return strings.Count(string(text), "Subject: fetch ")
	}
	if out, code := fetch("pop3", "keep"); code != 0 || subjects() != 2 {
		t.Fatalf("keep: exit %d, %d messages\n%s", code, subjects(), out)
	}
	if out, code := fetch("pop3s", "keep"); code != 1 || subjects() != 2 { // 1: there was no mail
		t.Errorf("keep again: exit %d, %d messages\n%s", code, subjects(), out)
	}
	if n := len(s.inbox("bob")); n != 2 {
		t.Errorf("keep left %d messages", n)
	}
	if out, code := fetch("pop3s", "nokeep fetchall"); code != 0 || subjects() != 4 {
		t.Errorf("delete: exit %d, %d messages\n%s", code, subjects(), out)
	}
	if n := len(s.inbox("bob")); n != 0 {
		t.Errorf("delete left %d messages", n)
	}
}

func TestMutt(t *testing.T) {
	s := newServer(t, options{})
	s.put(letter("alice@crepes.fr", "bob@"+hostname, "for mutt", "Do you like ketchup?"))
	home := t.TempDir()
	copied := filepath.Join(home, "copied")
	rc := writeFile(t, filepath.Join(home, "muttrc"), fmt.Sprintf(`
set certificate_file=%[1]s
set ssl_ca_certificates_file=%[1]s
set ssl_starttls=yes ssl_force_tls=yes
set from="bob@%[2]s" realname="Bob" use_from=yes envelope_from=yes
set imap_user="bob@%[2]s" imap_pass="%[3]s"
set smtp_url="smtp://bob@localhost:%[4]s/" smtp_pass="%[3]s" smtp_authenticators="scram-sha-256"
set folder="imaps://localhost:%[5]s/" spoolfile="+INBOX" record="+Sent" postponed="+Drafts"
set mbox_type=mbox confirmcreate=no confirmappend=no quit=yes delete=no sleep_time=0 header_cache=""
set tmpdir=%[6]s
`, s.caFile(), hostname, password, s.port("submission"), s.port("imaps"), home))
	env := []string{"HOME=" + home}

	succeed(t, env, "by mutt\n", "mutt", "-F", rc, "-s", "from mutt", "alice@"+hostname)
	m := s.received("alice", "from mutt")
	if !strings.Contains(m, "\r\nFrom: Bob <bob@hamburger.edu>\r\n") || !strings.HasSuffix(m, "\r\n\r\nby mutt\r\n") {
		t.Errorf("mutt sent %q", m)
	}
	c, err := imap(s.addr["imap"], "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.imapAsk("SELECT Sent"); err != nil {
		t.Fatal(err)
	}
	if all, err := c.imapAsk("FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])"); err != nil || len(all) != 2 ||
		!strings.Contains(all[0], "Subject: from mutt") || !strings.Contains(all[0], `\Seen`) {
		t.Errorf("mutt's copy in Sent: %q, %v", all, err)
	}

	p := onTerminal(t, env, "mutt", "-F", rc, "-e",
		`push "<copy-message>`+copied+`<enter><flag-message><sync-mailbox><display-message>"`)
	p.sees("Do you like ketchup?")
	p.types("q") // back to the list
	p.types("x") // leave
	p.ends()
	if text, err := os.ReadFile(copied); err != nil || !strings.Contains(string(text), "Do you like ketchup?") {
		t.Errorf("mutt copied %q, %v", text, err)
	}
	if _, err := c.imapAsk("SELECT INBOX"); err != nil {
		t.Fatal(err)
	}
	if all, err := c.imapAsk("FETCH 1 FLAGS"); err != nil || !strings.Contains(all[0], `\Flagged`) {
		t.Errorf("flags after mutt: %q, %v", all, err)
	}
}

// TestIsync: mbsync copies an account to a Maildir; a second run changes
// nothing on either side; a change on each side arrives at the other.
func TestIsync(t *testing.T) {
	s := newServer(t, options{})
	for i := range 20 {
		s.put(letter("alice@crepes.fr", "bob@"+hostname, fmt.Sprintf("sync %d", i), strings.Repeat("line of text\r\n", i*10)))
	}
	c, ask := s.another()
	ask("CREATE Archive/2026", "SELECT INBOX", `STORE 3 +FLAGS (\Flagged \Seen)`, "COPY 1:5 Archive/2026")
	home := t.TempDir()
	mail := filepath.Join(home, "mail")
	rc := s.mbsyncConfig(home, mail)
	sync := func() {
		t.Helper()
		succeed(t, []string{"HOME=" + home}, "", "mbsync", "-c", rc, "-a")
	}
	near := func() []string { return slices.Sorted(maps.Keys(maildir(t, mail))) }
	far := func() string {
		t.Helper()
		var all []string
		for _, box := range []string{"INBOX", "Archive/2026", "Sent"} {
			status, err := c.imapAsk("STATUS " + box + " (MESSAGES UNSEEN UIDNEXT UIDVALIDITY)")
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, status[0])
		}
		return strings.Join(all, "\n")
	}

	sync()
	files, state := near(), far()
	if len(files) != 25 {
		t.Fatalf("%d files: %v", len(files), files)
	}
	sync()
	if again := near(); !slices.Equal(again, files) {
		t.Errorf("the second run changed the files from %v to %v", files, again)
	}
	if again := far(); again != state {
		t.Errorf("the second run changed the server from\n%s to\n%s", state, again)
	}

	writeFile(t, filepath.Join(mail, "Sent", "new", "1.local"), strings.ReplaceAll(letter("bob@"+hostname, "alice@crepes.fr", "local", "x"), "\r\n", "\n"))
	i := slices.IndexFunc(files, func(f string) bool { return strings.HasPrefix(f, "INBOX/") })
	if err := os.Remove(filepath.Join(mail, files[i])); err != nil {
		t.Fatal(err)
	}
	ask(`STORE 20 +FLAGS (\Answered)`)
	sync()
	if got := far(); !regexp.MustCompile(`INBOX"? \(MESSAGES 19 (.|\n)*Sent"? \(MESSAGES 1 `).MatchString(got) {
		t.Errorf("after changes on both sides: %s", got)
	}
	if !slices.ContainsFunc(near(), func(f string) bool { return strings.HasPrefix(f, "INBOX/") && strings.Contains(marks(f), "R") }) {
		t.Errorf("no file is marked as answered: %v", near())
	}
}

// mbsyncConfig writes what mbsync needs to know of bob's account.
func (s *server) mbsyncConfig(home, mail string) string {
	s.t.Helper()
	if err := os.MkdirAll(mail, 0o700); err != nil {
		s.t.Fatal(err)
	}
	return writeFile(s.t, filepath.Join(home, "mbsyncrc"), fmt.Sprintf(`
IMAPAccount bob
Host localhost
Port %s
User bob@%s
Pass %s
SSLType IMAPS
CertificateFile %s

IMAPStore far
Account bob

MaildirStore near
Path %s/
Inbox %[5]s/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
`, s.port("imaps"), hostname, password, s.caFile(), mail))
}

// pythonScript reads and sends with Python's own libraries.
const pythonScript = `
import imaplib, poplib, smtplib, ssl, sys, email.message
ca, user, password, submission, submissions, pop3, pop3s, imap, imaps = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
for n, (cls, port) in enumerate([(smtplib.SMTP, submission), (smtplib.SMTP_SSL, submissions)]):
    args = {'context': context} if cls is smtplib.SMTP_SSL else {}
    with cls('localhost', int(port), **args) as s:
        if n == 0:
            s.starttls(context=context)
        s.login(user, password)
        m = email.message.EmailMessage()
        m['From'] = m['To'] = user
        m['Subject'] = 'python %d' % n
        m.set_content('Grüße\n.\n..\n')
        s.send_message(m)
for n, (cls, port) in enumerate([(poplib.POP3, pop3), (poplib.POP3_SSL, pop3s)]):
    p = cls('localhost', int(port), **({'context': context} if n else {}))
    p.capa()
    if n == 0:
        p.stls(context)
    p.user(user)
    p.pass_(password)
    count, octets = p.stat()
    assert count == 2, count
    total = 0
    for i in range(1, count + 1):
        _, lines, size = p.retr(i)
        total += sum(len(l) + 2 for l in lines)
        assert p.list(i).split()[2] == b'%d' % sum(len(l) + 2 for l in lines)
    assert total == octets, (total, octets)
    p.quit()
for n, (cls, port) in enumerate([(imaplib.IMAP4, imap), (imaplib.IMAP4_SSL, imaps)]):
    i = cls('localhost', int(port), **({'ssl_context': context} if n else {}))
    if n == 0:
        i.starttls(context)
    i.login(user, password)
    assert i.select('INBOX') == ('OK', [b'2'])
    typ, data = i.fetch('1:*', '(UID FLAGS BODYSTRUCTURE RFC822.SIZE)')
    assert typ == 'OK' and len(data) == 2, data
    i.logout()
print('done')
`

func TestPython(t *testing.T) {
	s := newServer(t, options{})
	args := []string{"-c", pythonScript, s.caFile(), "bob@" + hostname, password}
	for _, service := range []string{"submission", "submissions", "pop3", "pop3s", "imap", "imaps"} {
		args = append(args, s.port(service))
	}
	if out := succeed(t, nil, "", "python3", args...); !strings.Contains(out, "done") {
		t.Error(out)
	}
	s.received("bob", "python 0")
	s.received("bob", "python 1")
}
