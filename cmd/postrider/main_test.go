package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// program runs the whole program on a configuration in a folder of its own.
type program struct {
	t   *testing.T
	dir string
}

func newProgram(t *testing.T) *program {
	p := &program{t: t, dir: t.TempDir()}
	text := "hostname = \"mail.example.org\"\ndata_dir = \"data\"\n[dns]\nresolver = \"127.0.0.1:9\"\nhosts = \"\"\n"
	if err := os.WriteFile(filepath.Join(p.dir, "config.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// newBob is a program after init, with the account bob@example.org.
func newBob(t *testing.T) *program {
	t.Helper()
	p := newProgram(t)
	p.want(exitDone, "", "", "", "init")
	p.want(exitDone, "", "", "hungry\n", "user", "add", "bob@example.org", "--password-stdin")
	return p
}

func (p *program) run(stdin string, args ...string) (code int, stdout, stderr string) {
	p.t.Helper()
	var out, errs bytes.Buffer
	args = append([]string{"--config", filepath.Join(p.dir, "config.toml")}, args...)
	code = run(context.Background(), args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func (p *program) want(code int, stdout, stderr, stdin string, args ...string) {
	p.t.Helper()
	c, out, errs := p.run(stdin, args...)
	if c != code || !strings.Contains(out, stdout) || !strings.Contains(errs, stderr) {
		p.t.Errorf("%q: exit %d, want %d\nstdout %q, want %q\nstderr %q, want %q", args, c, code, out, stdout, errs, stderr)
	}
	if stderr == "" && errs != "" {
		p.t.Errorf("%q: stderr %q, want none", args, errs)
	}
	if code != exitDone && strings.Count(errs, "\n") != 1 {
		p.t.Errorf("%q: stderr %q, want one line", args, errs)
	}
}

func TestUsage(t *testing.T) {
	p := newProgram(t)
	p.want(exitUsage, "", "frobnicate", "", "frobnicate")
	for _, args := range [][]string{
		{"check", "spf"}, {"check", "dkim"}, {"check", "arc"}, {"check", "dmarc"},
	} {
		p.want(exitUsage, "", args[0], "", args...)
		if _, _, errs := p.run("", args...); !strings.Contains(errs, "not built yet") {
			t.Errorf("%q: %q", args, errs)
		}
	}
	p.want(exitUsage, "", "--port-offset", "", "serve", "--port-offset", "many")
	p.want(exitUsage, "", "unknown option", "", "send", "-z", "a@b.example")
	p.want(exitUsage, "", "name the recipients", "", "send")
	p.want(exitDone, "-f ADDRESS", "", "", "send", "--help")
	p.want(exitUsage, "", "not a type of DNS record", "", "dns", "query", "a.example", "FROB", "--server", "127.0.0.1:9")
	p.want(exitDone, "postrider ", "", "", "version")
	p.want(exitDone, "postrider ", "", "", "--version")
	_, help, _ := p.run("", "--help")
	for _, hidden := range []string{"records", "dkim"} {
		if strings.Contains(help, "\n  "+hidden) {
			t.Errorf("--help names %s, which is not built", hidden)
		}
	}
}

func TestMissingConfig(t *testing.T) {
	var out, errs bytes.Buffer
	code := run(context.Background(), []string{"--config", "/nowhere/c.toml", "serve"}, strings.NewReader(""), &out, &errs)
	if code != exitFailed || !strings.Contains(errs.String(), "--config FILE") || strings.Count(errs.String(), "\n") != 1 {
		t.Errorf("exit %d, %q", code, errs.String())
	}
}

func TestAccounts(t *testing.T) {
	p := newProgram(t)
	p.want(exitDone, "example.org.  IN MX   10 mail.example.org.", "", "", "init")
	p.want(exitDone, "user add you@example.org", "", "", "init")
	p.want(exitFailed, "", "postrider domain add example.net", "", "user", "add", "bob@example.net")
	p.want(exitDone, "bob@example.org password: ", "", "", "user", "add", "bob@example.org")
	p.want(exitFailed, "", "exists", "", "user", "add", "Bob@EXAMPLE.org")
	p.want(exitDone, "", "", "hungry\nnot read\n", "user", "passwd", "bob@example.org", "--password-stdin")
	p.want(exitFailed, "", "no password", "\n", "user", "passwd", "bob@example.org", "--password-stdin")
	p.want(exitFailed, "", "no such user", "", "user", "remove", "eve@example.org")
	p.want(exitDone, `"address": "bob@example.org"`, "", "", "user", "list", "--json")
	p.want(exitDone, "", "", "", "alias", "add", "list@example.org", "bob@example.org", "eve@example.net")
	p.want(exitDone, "list@example.org  bob@example.org eve@example.net", "", "", "alias", "list")
	p.want(exitDone, "", "", "", "alias", "remove", "list@example.org", "eve@example.net")
	p.want(exitDone, "list@example.org  bob@example.org\n", "", "", "alias", "list")
	p.want(exitFailed, "", "in use", "", "domain", "remove", "example.org")
	p.want(exitDone, "", "", "", "user", "add", "zoe@example.org")
	p.want(exitDone, "", "", "", "alias", "add", "z@example.org", "zoe@example.org")
	p.want(exitDone, "alias remove z@example.org zoe@example.org", "", "", "user", "remove", "zoe@example.org")
	p.want(exitDone, "alias\n", "", "", "check", "address", "list@example.org")
	p.want(exitDone, "unknown\n", "", "", "check", "address", "eve@example.org")
	p.want(exitDone, "matched by the alias z@example.org, and no account", "", "", "check", "address", "z@example.org")
	p.want(exitDone, "The queue is empty.", "", "", "queue", "list")
	p.want(exitDone, "[]\n", "", "", "queue", "list", "--json")
	p.want(exitFailed, "", "no such message", "", "queue", "show", "nothing")
}

func TestQuota(t *testing.T) {
	p := newBob(t)
	p.want(exitDone, "example.org      -        none by default  -         none by default\n", "", "", "quota", "show", "example.org")
	p.want(exitDone, "bob@example.org  0B       none by default  0         none by default\n", "", "", "quota", "show")
	p.want(exitDone, "", "", "", "quota", "set", "example.org", "--storage", "1536KiB", "--messages", "2")
	p.want(exitDone, "bob@example.org  0B       1.5MiB by default  0         2 by default\n", "", "", "quota", "show", "bob@example.org")
	p.want(exitDone, "", "", "", "quota", "set", "Bob@example.org", "--messages", "1")
	p.want(exitDone, "example.org      -        1.5MiB             -         2\n", "", "", "quota", "show")
	p.want(exitDone, "", "", "Subject: x\n\nhello\n", "send", "bob@example.org")
	p.want(exitDone, "1 (100 %)\n", "", "", "quota", "show", "bob@example.org")
	p.want(exitDone, `"messages_limit": 1`, "", "", "user", "list", "--json")
	p.want(exitDone, `"storage_limit": 1572864`, "", "", "user", "list", "--json")
	p.want(exitDone, "452 4.2.2", "", "", "check", "address", "bob@example.org")
	p.want(exitFailed, "", "The mailbox of bob@example.org is full", "Subject: x\n\nhello\n", "send", "bob@example.org")
	p.want(exitDone, "", "", "", "quota", "set", "bob@example.org", "--messages", "none", "--storage", "none")
	p.want(exitDone, "  none   1         none\n", "", "", "quota", "show", "bob@example.org")
	p.want(exitDone, "", "", "Subject: x\n\nhello\n", "send", "bob@example.org")
	p.want(exitDone, "", "", "", "quota", "set", "bob@example.org", "--messages", "default")
	p.want(exitDone, "2 (100 %) by default\n", "", "", "quota", "show", "bob@example.org")
	p.want(exitDone, "\"messages\": {\n      \"used\": 2,\n      \"limit\": 2,\n      \"set\": false\n    }", "", "", "quota", "show", "bob@example.org", "--json")
	for _, args := range [][]string{
		{}, {"--storage", "0"}, {"--storage=-1"}, {"--storage", "lots"}, {"--messages", "1KiB"}, {"--messages", "0"}, {"--storage", "99999999999GiB"},
	} {
		p.want(exitUsage, "", "quota set: ", "", append([]string{"quota", "set", "bob@example.org"}, args...)...)
	}
	p.want(exitFailed, "", "no such user", "", "quota", "set", "eve@example.org", "--storage", "1")
	p.want(exitFailed, "", "not a domain of ours", "", "quota", "set", "example.net", "--storage", "1")
	p.want(exitFailed, "", "no such user", "", "quota", "show", "eve@example.org")
	p.want(exitFailed, "", "not a domain of ours", "", "quota", "show", "example.net")
}

func TestACL(t *testing.T) {
	p := newBob(t)
	p.want(exitDone, "", "", "", "user", "add", "--shared", "sales@example.org")
	p.want(exitDone, "  shared\n", "", "", "user", "list")
	p.want(exitDone, `"shared": true`, "", "", "user", "list", "--json")
	p.want(exitUsage, "", "has no password", "hungry\n", "user", "add", "--shared", "--password-stdin", "more@example.org")
	p.want(exitFailed, "", "exists already", "", "user", "add", "--shared", "bob@example.org")
	p.want(exitFailed, "", "nobody logs in to it", "hungry\n", "user", "passwd", "sales@example.org", "--password-stdin")
	p.want(exitDone, "", "", "", "acl", "list", "sales@example.org")
	p.want(exitDone, "[]\n", "", "", "acl", "list", "sales@example.org", "--json")
	p.want(exitDone, "", "", "", "acl", "set", "sales@example.org", "INBOX", "Bob@example.org", "lrswite")
	p.want(exitDone, "MAILBOX  WHO              RIGHTS\nINBOX    bob@example.org  lrswite\n", "", "", "acl", "list", "sales@example.org")
	p.want(exitDone, "", "", "", "acl", "set", "sales@example.org", "*", "anyone", "lr")
	p.want(exitDone, "Sent     anyone           lr\n", "", "", "acl", "list", "sales@example.org")
	p.want(exitDone, "", "", "", "acl", "set", "sales@example.org", "Sent", "--", "-bob@example.org", "lr")
	p.want(exitDone, "Sent     -bob@example.org  lr\nSent     anyone            lr\n", "", "", "acl", "list", "sales@example.org", "Sent")
	p.want(exitDone, "", "", "", "acl", "delete", "sales@example.org", "*", "anyone")
	p.want(exitDone, "", "", "", "acl", "delete", "sales@example.org", "Sent", "--", "-bob@example.org")
	p.want(exitDone, "INBOX    bob@example.org  lrswite\n", "", "", "acl", "list", "sales@example.org")
	p.want(exitFailed, "", "they are the letters lrswipkxteacd", "", "acl", "set", "sales@example.org", "INBOX", "anyone", "z")
	p.want(exitFailed, "", "the owner, who has all rights", "", "acl", "set", "bob@example.org", "INBOX", "bob@example.org", "l")
	p.want(exitFailed, "", "name an account", "", "acl", "set", "bob@example.org", "INBOX", "eve@example.org", "l")
	p.want(exitFailed, "", "no such mailbox", "", "acl", "set", "bob@example.org", "Nowhere", "anyone", "l")
	p.want(exitFailed, "", "no such user", "", "acl", "list", "eve@example.org")
	p.want(exitDone, "", "", "Subject: x\n\nhello\n", "send", "sales@example.org")
	p.want(exitDone, "sales@example.org  1", "", "", "user", "list")
}

func TestReindex(t *testing.T) {
	p := newBob(t)
	p.want(exitDone, "", "", "Subject: x\n\nhello\n", "send", "bob@example.org")
	p.want(exitDone, "1 messages indexed in ", "", "", "reindex")
	p.want(exitDone, "1 messages indexed in ", "", "", "reindex", "Bob@example.org")
	p.want(exitFailed, "", "no such user", "", "reindex", "eve@example.org")
	p.want(exitUsage, "", "unexpected argument", "", "reindex", "bob@example.org", "eve@example.org")
}

// With no server running, send opens the data directory itself.
func TestSend(t *testing.T) {
	p := newBob(t)
	p.want(exitDone, "", "", "To: bob\nBcc: bob@example.org\nSubject: x\n\nhello\n.\nnot sent\n", "send", "-t", "-f", "cron@example.org")
	p.want(exitDone, "", "", "", "send", "bob")
	p.want(exitFailed, "", "no recipient", "Subject: x\n\n", "send", "-t")
	p.want(exitFailed, "", "There is no eve@example.org here", "Subject: x\n\n", "send", "eve@example.org")
	p.want(exitDone, `"messages": 2`, "", "", "user", "list", "--json")
	// Text without a header, the null sender, a message that is resent.
	p.want(exitDone, "", "", "no header: just text\n", "send", "bob")
	p.want(exitDone, "", "", "a line without a colon\n", "send", "bob")
	p.want(exitDone, "", "", "\nno header\n", "send", "-f", "<>", "bob")
	p.want(exitDone, "", "", "Subject: x\n\n", "send", "-f", "", "bob")
	p.want(exitDone, "", "", "Resent-To: bob\nTo: eve@example.org\n\n", "send", "-t")
	p.want(exitDone, `"messages": 7`, "", "", "user", "list", "--json")
	p.want(exitUsage, "", "<id>", "", "queue", "hold")
}

// In a folder with another program's config.toml, send goes by the system's.
func TestSendFromAnyFolder(t *testing.T) {
	p := newBob(t)
	t.Chdir(t.TempDir())
	if err := os.WriteFile("config.toml", []byte("another = \"program\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	was := systemConfig
	systemConfig = filepath.Join(p.dir, "config.toml")
	defer func() { systemConfig = was }()
	var errs bytes.Buffer
	if code := run(t.Context(), []string{"send", "bob"}, strings.NewReader("hello\n"), io.Discard, &errs); code != exitDone {
		t.Errorf("exit %d: %s", code, errs.String())
	}
	p.want(exitDone, `"messages": 1`, "", "", "user", "list", "--json")
}

func TestArguments(t *testing.T) {
	for _, tt := range [][2]string{
		{"/usr/sbin/sendmail -t -i", "send -t -i"}, {"postrider user list", "user list"}, {"sendmail", "send"}, {"bin/postrider", ""},
	} {
		if got := strings.Join(arguments(strings.Fields(tt[0])), " "); got != tt[1] {
			t.Errorf("%s: %q, want %q", tt[0], got, tt[1])
		}
	}
}

func TestRestartFor(t *testing.T) {
	parse := func(text string) *config {
		c, err := parseConfig("config.toml", []byte("hostname = \"mail.example.org\"\n"+text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := parse("[listen]\nsmtp = [\"127.0.0.1:25\"]\n")
	c.node.Log, c.node.PortOffset = c.logger(io.Discard), 10000
	for text, want := range map[string]bool{
		"[listen]\nsmtp = [\"127.0.0.1:25\"]\n[limits]\nrecipients = 5\n[log]\nlevel = \"debug\"\n": false,
		"[listen]\nsmtp = [\"127.0.0.1:26\"]\n":                                                     true,
		"[listen]\nsmtp = [\"127.0.0.1:25\"]\n[log]\nformat = \"json\"\n":                           true,
	} {
		if got := c.restartFor(parse(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestDialGreeted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for greeting, want := range map[string]string{"220 mail.example.org ESMTP\r\n": "mail.example.org", "421 busy\r\n": "", "220\r\n": "", "": ""} {
		go func() {
			if c, err := l.Accept(); err == nil {
				io.WriteString(c, greeting)
				c.Close()
			}
		}()
		conn, name, err := dialGreeted(l.Addr().String())
		if name != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", greeting, name, err)
		}
		if err != nil {
			continue
		}
		if b, err := io.ReadAll(conn); err != nil || string(b) != greeting {
			t.Errorf("%q: reads %q, %v", greeting, b, err)
		}
		conn.Close()
	}
}

func TestReadHeader(t *testing.T) {
	for _, c := range []struct{ in, header, body string }{
		{"", "From: <a@b.example>\r\n\r\n", ""},
		{"hi\n", "From: <a@b.example>\r\n\r\n", "hi\n"},
		{"no header: text\n", "From: <a@b.example>\r\n\r\n", "no header: text\n"},
		{"\nhi\n", "From: <a@b.example>\r\n\r\n", "hi\n"},
		{"Subject: x\n\nhi\n", "From: <a@b.example>\r\nSubject: x\r\n\r\n", "hi\n"},
		{"From: c@d.example\nBcc: x\nResent-Bcc: y\n", "From: c@d.example\r\n\r\n", ""},
	} {
		s := &sendmail{from: "a@b.example"}
		in := bufio.NewReader(strings.NewReader(c.in))
		header, err := s.readHeader(in, "mail.example.org")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(in)
		if string(header) != c.header || string(body) != c.body || err != nil {
			t.Errorf("%q: %q and %q, %v", c.in, header, body, err)
		}
	}
}

func TestParseSendmail(t *testing.T) {
	s, err := parseSendmail(strings.Fields("-oi -t -fa@b.example -F Name -odi -B 8BITMIME -N success,failure -R hdrs -V x -- -c@d.example"))
	if err != nil {
		t.Fatal(err)
	}
	if s.from != "a@b.example" || s.fullName != "Name" || !s.fromHeader || !s.ignoreDots || len(s.to) != 1 || s.to[0] != "-c@d.example" ||
		len(s.notify) != 2 || s.options.Return != "HDRS" || s.options.EnvelopeID != "x" {
		t.Errorf("%+v", s)
	}
}
