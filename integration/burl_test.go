package integration

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// TestBURL: a draft goes from its mailbox to somebody else without passing the client
// (RFC 4467, RFC 4468), octet for octet, and nobody else's URL does.
func TestBURL(t *testing.T) {
	s := newServer(t, options{})
	s.mustWith(password+"\n", "user", "passwd", "alice@"+hostname, "--password-stdin")
	b := &burl{t: t, s: s}
	text := letter("bob@"+hostname, "alice@"+hostname, "by BURL", ".\r\n..\r\nD\xc3\xa9j\xc3\xa0 vu, and a long line: "+strings.Repeat("x", 5000))
	draft := b.append("Drafts", text)
	whole := b.sign(draft + ";urlauth=submit+bob")
	if r := b.submit("bob", whole); !strings.HasPrefix(r, "250 ") {
		t.Fatalf("BURL: %s", r)
	}
	if got := b.last(); !strings.HasPrefix(got, "Return-Path: ") || !strings.HasSuffix(got, "\r\n"+text) {
		t.Errorf("alice has %q", got)
	}
	// A forward: what is new by BDAT, what is there already by two URLs.
	head := "From: bob@" + hostname + "\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\nMessage-ID: <f@a>\r\nSubject: Fwd\r\n\r\n"
	part := b.sign(draft + "/;section=TEXT;urlauth=submit+bob%40" + hostname)
	own := b.base() + draft + "/;section=HEADER.FIELDS%20(Subject)"
	c := b.transaction("bob")
	defer c.Close()
	for _, step := range [][2]string{
		{fmt.Sprintf("BDAT %d\r\n%s", len(head), strings.TrimSuffix(head, "\r\n")), "250 2.0.0"},
		{"BURL " + own, "250 2.5.0"},
		{"BURL " + part + " LAST", "250 2.0.0"},
	} {
		if _, err := c.ask(step[0], step[1]); err != nil {
			t.Fatal(err)
		}
	}
	_, body, _ := strings.Cut(text, "\r\n\r\n")
	if got, want := b.last(), head+"Subject: by BURL\r\n\r\n"+body; !strings.HasSuffix(got, want) {
		t.Errorf("alice has %q, want %q at its end", got, want)
	}
	for what, refused := range map[string][2]string{
		"somebody else's name":  {"alice", whole},
		"a token that is wrong": {"bob", whole[:len(whole)-2] + flip(whole[len(whole)-2:])},
		"a URL that is wrong":   {"bob", strings.Replace(whole, "/Drafts", "/Sent", 1)},
		"an expired URL":        {"bob", b.sign(draft + ";expire=2020-01-01T00:00:00Z;urlauth=submit+bob")},
		"no URLAUTH":            {"alice", b.base() + draft},
	} {
		if r := b.submit(refused[0], refused[1]); !strings.HasPrefix(r, "554 5.7.0 ") {
			t.Errorf("%s: %s", what, r)
		}
	}
	if r := b.submit("bob", strings.Replace(whole, "@"+hostname, "@evil.org", 1)); !strings.HasPrefix(r, "554 5.7.8 ") {
		t.Errorf("another server: %s", r)
	}
	// Keys survive kill -9, and so does their end.
	s.kill()
	s.start()
	if r := b.submit("bob", whole); !strings.HasPrefix(r, "250 ") {
		t.Errorf("after kill -9: %s", r)
	}
	b.ask("RESETKEY Drafts")
	s.kill()
	s.start()
	if r := b.submit("bob", whole); !strings.HasPrefix(r, "554 5.7.0 ") {
		t.Errorf("after RESETKEY and kill -9: %s", r)
	}
}

// flip makes another two hexadecimal digits.
func flip(digits string) string {
	if digits == "00" {
		return "11"
	}
	return "00"
}

// burl is bob at his mailboxes, and who submits.
type burl struct {
	t *testing.T
	s *server
}

// base is the beginning of bob's URLs.
func (b *burl) base() string { return "imap://" + url.QueryEscape("bob@"+hostname) + "@" + hostname }

// ask has bob's session carry out a command, and returns what it says.
func (b *burl) ask(command string) string {
	b.t.Helper()
	c, err := imap(b.s.addr["imap"], "bob")
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	lines, err := c.imapAsk(command)
	if err != nil {
		b.t.Fatalf("%s: %v", command, err)
	}
	return strings.Join(lines, "\n")
}

// append puts a message into a mailbox of bob's; it returns the path of its URL.
func (b *burl) append(mailbox, text string) string {
	b.t.Helper()
	c, err := imap(b.s.addr["imap"], "bob")
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	said, err := c.imapAppend(mailbox, `\Draft`, text)
	m := regexp.MustCompile(`APPENDUID (\d+) (\d+)`).FindStringSubmatch(said)
	if err != nil || m == nil {
		b.t.Fatalf("APPEND: %q, %v", said, err)
	}
	return "/" + mailbox + ";UIDVALIDITY=" + m[1] + "/;UID=" + m[2]
}

// sign has bob's server sign a URL.
func (b *burl) sign(path string) string {
	b.t.Helper()
	said := b.ask(`GENURLAUTH "` + b.base() + path + `" INTERNAL`)
	m := regexp.MustCompile(`\* GENURLAUTH "(.*)"`).FindStringSubmatch(said)
	if m == nil {
		b.t.Fatalf("GENURLAUTH: %s", said)
	}
	return m[1]
}

// transaction begins a message of a user's to alice.
func (b *burl) transaction(user string) *talk {
	b.t.Helper()
	c, err := smtp(b.s.addr["submission"])
	if err != nil {
		b.t.Fatal(err)
	}
	for _, step := range [][2]string{
		{"AUTH PLAIN " + authPlain(user, password), "235"},
		{"EHLO crepes.fr", "250"},
		{"MAIL FROM:<" + user + "@" + hostname + "> BODY=8BITMIME", "250"},
		{"RCPT TO:<alice@" + hostname + ">", "250"},
	} {
		reply, err := c.ask(step[0], step[1])
		if err != nil {
			b.t.Fatalf("%s: %v", step[0], err)
		}
		if strings.HasPrefix(step[0], "EHLO") && !strings.Contains(reply, "BURL imap imap://"+hostname) {
			b.t.Errorf("EHLO says %q", reply)
		}
	}
	return c
}

// submit sends a message that is all in one URL, and returns the reply.
func (b *burl) submit(user, url string) string {
	b.t.Helper()
	c := b.transaction(user)
	defer c.Close()
	if err := c.say("BURL " + url + " LAST"); err != nil {
		b.t.Fatal(err)
	}
	reply, err := c.reply()
	if err != nil {
		b.t.Fatal(err)
	}
	return reply
}

// last is the last message of alice's INBOX.
func (b *burl) last() string {
	b.t.Helper()
	c, err := imap(b.s.addr["imap"], "alice")
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	for _, command := range []string{"SELECT INBOX", "FETCH * BODY[]"} {
		lines, err := c.imapAsk(command)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, line := range lines {
			if _, literal, ok := strings.Cut(line, "}\r\n"); ok && strings.HasPrefix(command, "FETCH") {
				return strings.TrimSuffix(literal, ")")
			}
		}
	}
	return ""
}
