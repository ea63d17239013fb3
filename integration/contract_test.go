package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestExitCodes: 0 done, 1 failed, 2 usage; an error is one line on standard
// error; what is not built yet says so and is not in help.
func TestExitCodes(t *testing.T) {
	s := prepare(t, options{})
	s.init()
	help, _, code := s.run("", "--help")
	if code != 0 {
		t.Errorf("--help: exit %d", code)
	}
	for _, c := range []struct {
		args   string
		code   int
		stderr string
	}{
		{"version", 0, ""},
		{"domain list", 0, ""},
		{"init --demo", 0, ""},
		{"user add nobody", 1, "."},
		{"user add x@unknown.example", 1, "."},
		{"user remove nobody@hamburger.edu", 1, "."},
		{"domain add hamburger.edu", 1, "."},
		{"alias remove nobody@hamburger.edu", 1, "."},
		{"queue show 99999", 1, "."},
		{"", 2, "."},
		{"frobnicate", 2, "."},
		{"user add", 2, "."},
		{"serve --port-offset x", 2, "."},
		{"trace 1", 1, "nothing is known"},
		{"import x", 2, "."},
		{"export x", 2, "."},
		{"import nothing.mbox --to bob@hamburger.edu", 1, "nothing.mbox"},
		{"import imap://bob:secret@127.0.0.1 --to bob@hamburger.edu", 2, "password"},
		{"export nobody@hamburger.edu x --format mbox", 1, "no such user"},
		{"check spf --ip 127.0.0.1", 2, "not built yet"},
		{"dns records hamburger.edu", 0, ""},
		{"dns records nobody.example", 1, "postrider domain add nobody.example"},
		{"dns records hamburger.edu --address mail", 2, "IP address"},
		{"lab run x", 2, "no built-in scenario"},
	} {
		_, stderr, code := s.run("", strings.Fields(c.args)...)
		if code != c.code {
			t.Errorf("postrider %s: exit %d, want %d\n%s", c.args, code, c.code, stderr)
		}
		if lines := strings.Count(stderr, "\n"); c.stderr == "" && stderr != "" || c.stderr != "" && (lines != 1 || !regexp.MustCompile(c.stderr).MatchString(stderr)) {
			t.Errorf("postrider %s: standard error %q", c.args, stderr)
		}
		if c.stderr == "not built yet" && regexp.MustCompile(`(?m)^  `+strings.Fields(c.args)[0]+` +[<\[A-Z]`).MatchString(help) && len(strings.Fields(c.args)) < 3 {
			t.Errorf("--help lists %s", c.args)
		}
	}
}

// TestBadConfiguration: every problem is listed with its key and line, and
// nothing starts.
func TestBadConfiguration(t *testing.T) {
	s := prepare(t, options{})
	s.init()
	for extra, want := range map[string]string{
		"[limits]\nrecipients = \"many\"\nconections = 1\n[smtp]\nbare_newline = \"keep\"\n": `limits\.recipients.*\n(.*\n)*.*limits\.conections.*\n(.*\n)*.*smtp\.bare_newline`,
		"[dns]\nresolver = \"recursive\"\nroot_hints = 7\n":                                  `dns\.resolver.*\n(.*\n)*.*dns\.root_hints|dns\.root_hints.*\n(.*\n)*.*dns\.resolver`,
		"[listen]\nhttp = [\"127.0.0.1:0\"]\n":                                               `listen\.http.*not built yet`,
		"[storage]\nengine = \"paper\"\n":                                                    `storage\.engine`,
		"[delivery]\nretry = [\"soon\"]\n":                                                   `delivery\.retry`,
	} {
		s.writeConfig(extra)
		stdout, stderr, code := s.run("", "serve")
		if code != 1 || strings.Contains(stdout, "ready") || !regexp.MustCompile(want).MatchString(stderr) {
			t.Errorf("with %q: exit %d, %q", extra, code, stderr)
		}
		if !regexp.MustCompile(`config\.toml:\d+: `).MatchString(stderr) {
			t.Errorf("with %q: no line in %q", extra, stderr)
		}
	}
}

// TestStartRefused: a port in use, a data directory in use, one of a newer
// version: one clear line, exit 1, nothing damaged.
func TestStartRefused(t *testing.T) {
	s := newServer(t, options{})
	s.put(letter("alice@crepes.fr", "bob@"+hostname, "kept", "x"))
	refused := func(s *server, want string) {
		t.Helper()
		_, stderr, code := s.run("", "serve")
		lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(stderr), "\n"), func(l string) bool { return strings.Contains(l, "level=") })
		if code != 1 || len(lines) != 1 || !regexp.MustCompile(want).MatchString(lines[0]) {
			t.Errorf("exit %d, %q", code, stderr)
		}
	}
	refused(s, `in use|another process`)

	other := prepare(t, options{config: fmt.Sprintf("[listen]\nsmtp = [%q]\n", s.addr["smtp"])})
	refused(other, `listen\.smtp.*`+regexp.QuoteMeta(s.addr["smtp"]))
	s.received("bob", "kept")
	s.stop()

	db, err := os.ReadFile(filepath.Join(s.dir, "data", "postrider.db"))
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Clone(db)
	copy(newer[60:64], []byte{0, 0, 3, 231}) // user_version, where the schema's version is kept
	writeFile(t, filepath.Join(s.dir, "data", "postrider.db"), string(newer))
	refused(s, `newer`)
	writeFile(t, filepath.Join(s.dir, "data", "postrider.db"), string(db))
	s.start()
	s.received("bob", "kept")
}

// TestFirstStart: the sample configuration in the root is one that works, with
// every port moved; init can be repeated.
func TestFirstStart(t *testing.T) {
	text, err := os.ReadFile("../config.toml")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, bin: built(t).race, dir: t.TempDir()}
	writeFile(t, s.configFile(), string(text))
	first := s.must("init", "--demo")
	if !strings.Contains(first, "bob@hamburger.edu   password: hungry") {
		t.Errorf("init --demo says %q", first)
	}
	s.must("init", "--demo")
	offset := 20000 + os.Getpid()%20000
	s.o.args = []string{"--port-offset", fmt.Sprint(offset)}
	s.start()
	want := map[string]int{"smtp": 25, "submission": 587, "submissions": 465, "pop3": 110, "pop3s": 995, "imap": 143, "imaps": 993}
	for service, port := range want {
		if s.addr[service] != fmt.Sprintf("127.0.0.1:%d", port+offset) {
			t.Errorf("%s is at %q", service, s.addr[service])
		}
	}
	if got := slices.Sorted(maps.Keys(s.addr)); len(got) != len(want) {
		t.Errorf("it serves %v", got)
	}
	for _, dir := range []string{"data", "data/tls"} {
		if fi, err := os.Stat(filepath.Join(s.dir, dir)); err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, fi.Mode(), err)
		}
	}
	keys, err := filepath.Glob(filepath.Join(s.dir, "data/tls/*"))
	if err != nil || len(keys) == 0 {
		t.Errorf("no files in tls: %v", err)
	}
	for _, name := range keys {
		if fi, err := os.Stat(name); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, fi.Mode(), err)
		}
	}
}

// TestRunningCommands: commands act at once on a running server.
func TestRunningCommands(t *testing.T) {
	s := newServer(t, options{})
	c, err := smtp(s.addr["smtp"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.ask("MAIL FROM:<a@crepes.fr>", "250"); err != nil {
		t.Fatal(err)
	}
	refused := func(address, code string) {
		t.Helper()
		if _, err := c.ask("RCPT TO:<"+address+">", code); err != nil {
			t.Error(err)
		}
	}
	refused("dave@hamburger.edu", "550 5.1.1")
	s.mustWith(password+"\n", "user", "add", "dave@hamburger.edu", "--password-stdin")
	refused("dave@hamburger.edu", "250")
	refused("sales@hamburger.edu", "550 5.1.1")
	s.must("alias", "add", "sales@hamburger.edu", "dave@hamburger.edu", "bob@hamburger.edu")
	refused("sales@hamburger.edu", "250")
	refused("anybody@hamburger.org", "550 5.7.1")
	s.must("domain", "add", "hamburger.org")
	s.must("alias", "add", "@hamburger.org", "bob@hamburger.edu")
	refused("anybody@hamburger.org", "250")
	if out := s.must("check", "address", "sales@hamburger.edu"); !strings.Contains(out, "dave@hamburger.edu") {
		t.Errorf("check address says %q", out)
	}

	var users []struct{ Address string }
	if err := json.Unmarshal([]byte(s.must("user", "list", "--json")), &users); err != nil || len(users) != 3 {
		t.Errorf("user list --json: %v, %v", users, err)
	}
	d, err := pop(s.addr["pop3"], "dave@hamburger.edu")
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	s.mustWith("another\n", "user", "passwd", "dave@hamburger.edu", "--password-stdin")
	if d, err := pop(s.addr["pop3"], "dave@hamburger.edu"); err == nil {
		d.Close()
		t.Error("the old password is still good")
	}
	s.must("user", "remove", "dave@hamburger.edu")
	s.must("alias", "remove", "sales@hamburger.edu")
	for _, command := range []string{"RSET", "MAIL FROM:<a@crepes.fr>"} {
		if _, err := c.ask(command, "250"); err != nil {
			t.Fatal(err)
		}
	}
	refused("dave@hamburger.edu", "550 5.1.1")
	c.Close()

	// Sending from the same machine, as mutt and cron do.
	s.mustWith("To: bob@hamburger.edu\nSubject: from cron\n\nDone.\n.\nReally.\n", "send", "-t", "-i", "-f", "alice@hamburger.edu")
	if m := s.received("bob", "from cron"); !strings.HasSuffix(m, "\r\n\r\nDone.\r\n.\r\nReally.\r\n") || !strings.Contains(m, "\r\nDate: ") || !strings.Contains(m, "\r\nMessage-ID: <") {
		t.Errorf("send delivered %q", m)
	}
	s.stop()
	// With no server running they act themselves.
	s.must("alias", "add", "info@hamburger.edu", "bob@hamburger.edu")
	s.mustWith("Subject: offline\n\nx\n", "send", "-f", "alice@hamburger.edu", "info@hamburger.edu")
	s.start()
	s.received("bob", "offline")
}

// TestIdleTells: a session in IDLE hears of a delivery within milliseconds of its
// 250, and of the expunge of a POP3 QUIT.
func TestIdleTells(t *testing.T) {
	s := newServer(t, options{})
	c, err := imap(s.addr["imap"], "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.imapAsk("SELECT INBOX"); err != nil {
		t.Fatal(err)
	}
	if err := c.say("i IDLE"); err != nil {
		t.Fatal(err)
	}
	if line, err := c.line(); err != nil || !strings.HasPrefix(line, "+") {
		t.Fatalf("IDLE: %q, %v", line, err)
	}
	best := time.Hour
	for i := range 5 {
		s.put(letter("alice@crepes.fr", "bob@"+hostname, fmt.Sprint("idle ", i), "x"))
		begin := time.Now()
		line, err := c.line()
		if err != nil || line != fmt.Sprintf("* %d EXISTS", i+1) {
			t.Fatalf("IDLE says %q, %v", line, err)
		}
		best = min(best, time.Since(begin))
		for strings.HasPrefix(line, "*") && c.r.Buffered() > 0 {
			if line, err = c.line(); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("at best %v after the 250", best)
	if best > 50*time.Millisecond {
		t.Errorf("IDLE tells of a letter %v after its 250", best)
	}
	p, err := pop(s.addr["pop3"], "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, command := range []string{"DELE 2", "QUIT"} {
		if _, err := p.popAsk(command); err != nil {
			t.Fatal(err)
		}
	}
	line, err := c.line()
	for err == nil && !strings.HasSuffix(line, "EXPUNGE") {
		line, err = c.line()
	}
	if line != "* 2 EXPUNGE" {
		t.Errorf("after a POP3 QUIT IDLE says %q, %v", line, err)
	}
}

// TestStop: SIGTERM lets what is in hand finish; a session that waits is told.
func TestStop(t *testing.T) {
	s := newServer(t, options{})
	waiting := mustDial(t, s.addr["pop3"])
	busy, err := smtp(s.addr["smtp"])
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, step := range [][2]string{{"MAIL FROM:<a@crepes.fr>", "250"}, {"RCPT TO:<bob@hamburger.edu>", "250"}, {"DATA", "354"}} {
		if _, err := busy.ask(step[0], step[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := busy.say("Subject: in hand"); err != nil {
		t.Fatal(err)
	}
	if _, err := waiting.line(); err != nil {
		t.Fatal(err)
	}
	syscall.Kill(s.pid(), syscall.SIGTERM)
	if line, err := waiting.line(); !strings.HasPrefix(line, "-ERR [SYS/TEMP]") {
		t.Errorf("a POP3 session that waits is told %q, %v", line, err)
	}
	if _, err := busy.ask("\r\nthe end\r\n.", "250"); err != nil {
		t.Errorf("a message in hand at SIGTERM: %v", err)
	}
	s.stop()
	s.start()
	s.received("bob", "in hand")
}

// TestReload: SIGHUP takes new limits and a new certificate without a dropped
// session; a configuration with a fault changes nothing.
func TestReload(t *testing.T) {
	s := newServer(t, options{})
	c, err := smtp(s.addr["smtp"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	text, err := os.ReadFile(s.configFile())
	if err != nil {
		t.Fatal(err)
	}
	reload := func(extra, logged string) {
		t.Helper()
		writeFile(t, s.configFile(), string(text)+extra)
		before := strings.Count(s.err.String(), logged)
		syscall.Kill(s.pid(), syscall.SIGHUP)
		eventually(t, func() error {
			if strings.Count(s.err.String(), logged) == before {
				return fmt.Errorf("the log does not say %q", logged)
			}
			return nil
		})
	}
	reload("[limits]\nmessage_size = \"1KiB\"\n", "reloaded")
	s.o.expected = "reload refused"
	reload("[limits]\nmessage_size = \"large\"\n", "reload refused")
	d, err := smtp(s.addr["smtp"])
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.ask("MAIL FROM:<a@crepes.fr> SIZE=2000", "552 5.3.4"); err != nil {
		t.Error(err)
	}
	if _, err := c.ask("NOOP", "250"); err != nil {
		t.Errorf("the session that was open: %v", err)
	}
	writeFile(t, s.configFile(), string(text))
}

// TestMetrics: figures for Prometheus, and a word on health.
func TestMetrics(t *testing.T) {
	s := newServer(t, options{})
	get := func(path string) (int, string) {
		t.Helper()
		r, err := http.Get("http://" + s.addr["metrics"] + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(text)
	}
	if code, text := get("/healthz"); code != 200 {
		t.Errorf("/healthz: %d %s", code, text)
	}
	if code, text := get("/metrics"); code != 200 || !strings.Contains(text, "\npostrider_queue_recipients 0\n") {
		t.Errorf("/metrics: %d %s", code, text)
	}
}

// TestSmuggling: no mixture of line ends but CRLF.CRLF ends a message, by raw
// socket on the built binary.
func TestSmuggling(t *testing.T) {
	s := newServer(t, options{})
	for i, end := range []string{"\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r.\r\n", "\r\n.\r", "\n.\r", "\r\n\x00.\r\n"} {
		conn, err := net.Dial("tcp", s.addr["smtp"])
		if err != nil {
			t.Fatal(err)
		}
		c := newTalk(conn)
		if _, err := c.want("220"); err != nil {
			t.Fatal(err)
		}
		for _, step := range [][2]string{{"EHLO x", "250"}, {"MAIL FROM:<a@crepes.fr>", "250"}, {"RCPT TO:<bob@hamburger.edu>", "250"}, {"DATA", "354"}} {
			if _, err := c.ask(step[0], step[1]); err != nil {
				t.Fatal(err)
			}
		}
		io.WriteString(c, fmt.Sprintf("Subject: outer %d\r\n\r\nx%sMAIL FROM:<evil@crepes.fr>\r\nRCPT TO:<bob@hamburger.edu>\r\nDATA\r\nSubject: inner\r\n\r\ny\r\n.\r\n", i, end))
		reply, err := c.reply()
		if err != nil {
			t.Fatalf("%q: %v", end, err)
		}
		want := "550 5.5.2"
		if strings.Contains(end, "\x00") {
			want = "550 5.6.0"
		}
		if !strings.HasPrefix(reply, want) {
			t.Errorf("%q: %s", end, reply)
		}
		c.Close()
	}
	for _, m := range s.inbox("bob") {
		if strings.HasPrefix(m[strings.Index(m, "Subject: "):], "Subject: inner") {
			t.Errorf("a message was smuggled in: %q", m)
		}
	}
}
