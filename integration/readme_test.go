package integration

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// readme is README.md with what a reader would type.
type readme struct {
	text     string
	dialogue map[string]string // fenced blocks by language
	commands []string          // indented lines, and those of sh blocks
}

func readReadme(t *testing.T) *readme {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	r := &readme{text: string(text), dialogue: map[string]string{}}
	fence := ""
	for line := range strings.Lines(r.text) {
		line = strings.TrimSuffix(line, "\n")
		switch language, isFence := strings.CutPrefix(line, "```"); {
		case isFence && fence == "":
			fence = language
		case isFence:
			fence = ""
		case fence == "sh" || fence == "" && strings.HasPrefix(line, "    "):
			command, _, _ := strings.Cut(strings.TrimSpace(line), "   ")
			r.commands = append(r.commands, command)
		case fence != "":
			r.dialogue[fence] += line + "\n"
		}
	}
	return r
}

// TestReadmeCovered: each command in the README is one that a test here runs.
func TestReadmeCovered(t *testing.T) {
	known := []string{
		"make run", "telnet 127.0.0.1 25", "telnet 127.0.0.1 110", // TestReadmeLetter
		`curl --user bob:hungry 'imap://127.0.0.1:143/INBOX;MAILINDEX=1'`,
		"make lab",              // TestReadmeLab
		"postrider lab --catch", // TestCatchManual
		"make test",             // this run, and .ci/run
		"make install",          // TestReadmeInstall, and the lines below it
		"postrider init --domain example.org", "postrider user add you@example.org",
		"postrider alias add info@example.org you@example.org", "postrider serve",
		"postrider import old/inbox.mbox --to you@example.org", "postrider import old/Maildir --to you@example.org", // TestReadmeMoving
		"postrider verify", "postrider backup backups", // TestReadmeBackup
		"postrider trace --to you@example.org", "postrider trace --follow --sessions", "postrider trace --explain letter.eml", // TestReadmeTrace
		"postrider upgrade --dry-run", "postrider upgrade", // TestReadmeUpgrade
		"postrider user add --shared sales@example.org", "postrider acl set sales@example.org INBOX you@example.org lrswite", // TestReadmeSharing
		"postrider acl list sales@example.org",
		"postrider dns records example.org", "postrider dns check example.org", "postrider dns query example.org MX", // TestReadmeDNS
		"postrider restore backups --list", "postrider restore backups --to restored",
		"postrider import imaps://you@mail.example.net --to you@example.org",
		"postrider export you@example.org mail --format maildir", "postrider export you@example.org sent.mbox --format mbox --mailbox Sent",
	}
	r := readReadme(t)
	for _, c := range r.commands {
		if !slices.Contains(known, c) {
			t.Errorf("no test runs %q", c)
		}
	}
	for _, c := range known {
		if !slices.Contains(r.commands, c) {
			t.Errorf("%q is tested and not in the README", c)
		}
	}
	for _, language := range []string{"smtp", "pop3"} {
		if r.dialogue[language] == "" {
			t.Errorf("the README has no %s dialogue", language)
		}
	}
	for _, m := range regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(r.text, -1) {
		if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
			t.Errorf("a link leads nowhere: %v", err)
		}
	}
}

// checkout copies the tree, without what was built or is data.
func checkout(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("git", "-C", "..", "ls-files", "-co", "--exclude-standard").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name := range strings.Lines(string(out)) {
		name = strings.TrimSpace(name)
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			continue // removed and not committed
		}
		mode := fs.FileMode(0o600)
		if fi, err := os.Stat(filepath.Join("..", name)); err == nil {
			mode = fi.Mode().Perm()
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// target is a make target that serves until it is told to stop.
type target struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	out  *log
}

func makeTarget(t *testing.T, dir, name string) *target {
	t.Helper()
	m := &target{t: t, name: name, out: &log{}}
	m.cmd = exec.Command(program(t, "make"), name)
	m.cmd.Dir = dir
	m.cmd.Stdout, m.cmd.Stderr = m.out, m.out
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if m.cmd.ProcessState == nil {
			syscall.Kill(-m.cmd.Process.Pid, syscall.SIGKILL)
			m.cmd.Wait()
		}
	})
	m.says("(?m)^ready$", 5*time.Minute) // it builds first
	return m
}

// says waits for a line and returns what it matched.
func (m *target) says(pattern string, wait time.Duration) []string {
	m.t.Helper()
	re := regexp.MustCompile(pattern)
	end := time.After(wait)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if found := re.FindStringSubmatch(m.out.String()); found != nil {
			return found
		}
		select {
		case <-tick.C:
		case <-end:
			m.t.Fatalf("make %s does not say %s:\n%s", m.name, pattern, m.out)
		}
	}
}

// interrupt is Control-C.
func (m *target) interrupt() {
	m.t.Helper()
	syscall.Kill(-m.cmd.Process.Pid, syscall.SIGINT)
	ended := make(chan error, 1)
	go func() { ended <- m.cmd.Wait() }()
	select {
	case err := <-ended:
		// The program ends by itself, and make by the signal.
		if err != nil && err.Error() != "signal: interrupt" {
			m.t.Errorf("make %s after Control-C: %v\n%s", m.name, err, m.out)
		}
	case <-time.After(patience):
		m.t.Errorf("make %s goes on after Control-C\n%s", m.name, m.out)
	}
}

// telnetTo types lines into a telnet to the address that the program named, and
// waits for an answer after each that has one.
func telnetTo(t *testing.T, addr []string, lines string) *person {
	t.Helper()
	p := onTerminal(t, nil, "telnet", addr...)
	p.sees("\n220 ")
	body := false
	for line := range strings.Lines(lines) {
		line = strings.TrimSuffix(line, "\n")
		p.types(line + "\n")
		switch {
		case line == ".":
			body = false
			p.sees("\n250 ")
		case body:
		case line == "DATA":
			body = true
			p.sees("\n354 ")
		case line == "QUIT":
			p.sees("\n221 ")
		default:
			p.sees("\n250 ")
		}
	}
	p.ends()
	return p
}

// TestReadmeLetter: make run from a fresh copy of the tree, the dialogues of the
// README typed into telnet, and its curl command.
func TestReadmeLetter(t *testing.T) {
	r := readReadme(t)
	m := makeTarget(t, checkout(t), "run")
	smtpAt := m.says(`Type a letter: +telnet (\S+) (\d+)`, patience)
	popAt := m.says(`(?m)^  pop3 +([\d.]+):(\d+)`, patience)
	imapAt := m.says(`(?m)^  imap +(\S+)`, patience)
	if !strings.Contains(m.out.String(), "bob@hamburger.edu   password: hungry") {
		t.Errorf("make run names no password:\n%s", m.out)
	}
	telnetTo(t, smtpAt[1:], r.dialogue["smtp"])
	p := onTerminal(t, nil, "telnet", popAt[1:]...)
	for line := range strings.Lines("\n" + r.dialogue["pop3"]) {
		if line != "\n" {
			p.types(line)
		}
		p.sees("\n+OK")
		if strings.HasPrefix(line, "retr") {
			p.sees("Subject: Searching for the meaning of life")
			p.sees("How about pickles?\n.\n")
		}
	}
	p.sees("signing off")
	p.ends()
	out := succeed(t, nil, "", "curl", "-sS", "--user", "bob:hungry", "imap://"+imapAt[1]+"/INBOX;MAILINDEX=1")
	if !strings.Contains(out, "Do you like ketchup?") {
		t.Errorf("curl shows %q", out)
	}
	m.interrupt()
}

// TestReadmeLab: the letter between two servers, typed as the lab says, and by
// a raw socket the other way.
func TestReadmeLab(t *testing.T) {
	m := makeTarget(t, checkout(t), "lab")
	from := m.says(`(?m)^  telnet (\S+) (\d+)\n((?:  .*\n|\n)+?)\n*Read it`, patience)
	to := m.says(`(?s)Read it at hamburger.edu:\n\n  telnet (\S+) (\d+)\n`, patience)
	letter := strings.TrimRight(regexp.MustCompile(`(?m)^  `).ReplaceAllString(from[3], ""), "\n") + "\n"
	telnetTo(t, from[1:3], letter)
	var text string
	eventually(t, func() error {
		var err error
		text, err = firstLetter(net.JoinHostPort(to[1], to[2]), "bob")
		return err
	})
	for _, want := range []string{"Return-Path: <alice@crepes.fr>", "How about pickles?", " by mx.crepes.fr ", " by mx.hamburger.edu ", " with ESMTPS "} {
		if !strings.Contains(strings.ReplaceAll(text, "\n\t", " "), want) {
			t.Errorf("no %q in the letter that arrived:\n%s", want, text)
		}
	}
	m.says(`hamburger\.edu`, patience)

	// The other way, by a raw socket.
	c := mustDial(t, net.JoinHostPort(to[1], from[2]))
	c.converse(t, `
S: 220 mx.hamburger.edu
C: HELO hamburger.edu
S: 250
C: MAIL FROM: <bob@hamburger.edu>
S: 250
C: RCPT TO: <alice@crepes.fr>
S: 250
C: DATA
S: 354
C: Subject: an answer
C:
C: I do.
C: .
S: 250
C: QUIT
S: 221
`)
	eventually(t, func() error {
		_, err := firstLetter(net.JoinHostPort(from[1], to[2]), "alice")
		return err
	})

	server := m.says(`--server (\S+)`, patience)
	out := succeed(t, nil, "", built(t).race, "dns", "query", "hamburger.edu", "MX", "--server", server[1])
	if !regexp.MustCompile(`hamburger\.edu\.?\s.*MX\s+\d+\s+\S*hamburger\.edu`).MatchString(out) {
		t.Errorf("dns query shows %q", out)
	}
	host, port, err := net.SplitHostPort(server[1])
	if err != nil {
		t.Fatal(err)
	}
	if short := succeed(t, nil, "", "dig", "@"+host, "-p", port, "+short", "hamburger.edu", "MX"); !strings.HasPrefix(short, "10 mx.hamburger.edu.") {
		t.Errorf("dig shows %q", short)
	}
	m.interrupt()
}

// firstLetter reads the first message of a maildrop.
func firstLetter(addr, user string) (string, error) {
	c, err := pop(addr, user)
	if err != nil {
		return "", err
	}
	defer c.Close()
	lines, err := c.popLines("RETR 1")
	return strings.Join(lines, "\n"), err
}

// TestReadmeInstall: make install puts everything in place, and what is
// installed works with the commands of the README.
func TestReadmeInstall(t *testing.T) {
	dir, dest := checkout(t), t.TempDir()
	cmd := exec.Command(program(t, "make"), "install", "DESTDIR="+dest)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	binary := filepath.Join(dest, "usr/local/bin/postrider")
	config := filepath.Join(dest, "etc/postrider/config.toml")
	text, err := os.ReadFile(config)
	if err != nil || !strings.Contains(string(text), `data_dir = "/var/lib/postrider"`) {
		t.Fatalf("the configuration: %v\n%s", err, text)
	}
	unit, err := os.ReadFile(filepath.Join(dest, "etc/systemd/system/postrider.service"))
	if err != nil || !strings.Contains(string(unit), "ExecStart=/usr/local/bin/postrider") || !strings.Contains(string(unit), "NoNewPrivileges=") {
		t.Errorf("the unit: %v\n%s", err, unit)
	}
	moved := strings.Replace(string(text), `"/var/lib/postrider"`, fmt.Sprintf("%q", filepath.Join(dest, "data")), 1)
	moved = regexp.MustCompile(`127\.0\.0\.1:\d+"\]`).ReplaceAllString(moved, `127.0.0.1:0"]`)
	writeFile(t, config, moved)
	s := &server{t: t, bin: binary, dir: filepath.Dir(config)}
	if out := s.must("init", "--domain", "example.org"); !strings.Contains(out, "example.org.  IN MX") || !strings.Contains(out, "v=spf1 mx -all") {
		t.Errorf("init prints %q", out)
	}
	if out := s.must("user", "add", "you@example.org"); !strings.Contains(out, "password") {
		t.Errorf("user add prints %q", out)
	}
	s.must("alias", "add", "info@example.org", "you@example.org")
	s.start()
	c, err := smtp(s.addr["smtp"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.mail("a@crepes.fr", []string{"info@example.org"}, "Subject: hi\r\n\r\nx\r\n"); err != nil {
		t.Error(err)
	}
}
