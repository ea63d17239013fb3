package integration

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mboxMessages makes an mboxrd file with n messages of about size octets, as
// postrider export writes it: flags, keywords, dates, and what has to be quoted.
func mboxMessages(n, size int) string {
	var b strings.Builder
	day := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		fmt.Fprintf(&b, "From MAILER-DAEMON %s\nSubject: moving %d\nMessage-ID: <%d@crepes.fr>\n", day.Add(time.Duration(i)*time.Hour).Format("Mon Jan _2 15:04:05 2006"), i, i)
		b.WriteString([]string{"Status: O\n", "Status: RO\n", "Status: RO\nX-Status: AF\n", "Status: O\nX-Status: TD\nX-Keywords: $Junk work\n"}[i%4])
		fmt.Fprintf(&b, "\n>From here to there\n>>From there\n%s\n\n", strings.Repeat("0123456789 0123456789 0123456789\n", size/33))
	}
	return b.String()
}

// exported exports an account as mbox files and returns them by name.
func (s *server) exported(address string) map[string]string {
	s.t.Helper()
	dest := filepath.Join(s.t.TempDir(), "out")
	s.must("export", address, dest, "--format", "mbox")
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dest), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dest, name))
		files[name] = string(text)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return files
}

// sameFiles fails where two exports differ.
func sameFiles(t *testing.T, want, got map[string]string) {
	t.Helper()
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s has %d octets and %d messages, want %d and %d", name, len(got[name]), strings.Count(got[name], "\nSubject:"), len(text), strings.Count(text, "\nSubject:"))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is there, too", name)
		}
	}
}

// TestReadmeMoving: the commands of "Moving in and out", and other programs
// that read what came out.
func TestReadmeMoving(t *testing.T) {
	old := newServer(t, options{})
	s := newServer(t, options{domain: "example.org"})
	s.must("user", "add", "you@example.org")
	dir := t.TempDir()
	inbox := mboxMessages(10, 500)
	writeFile(t, filepath.Join(dir, "old/inbox.mbox"), inbox)
	writeFile(t, filepath.Join(dir, "old/Maildir/cur/1.x:2,S"), "Subject: maildir\n\nx\n")
	writeFile(t, filepath.Join(dir, "old/Maildir/new/2.x"), "Subject: new\n\nx\n")
	writeFile(t, filepath.Join(dir, "old/Maildir/.Sent/cur/1.x:2,RS"), "Subject: sent\n\nx\n")
	// The other server of the README is the one of hamburger.edu, and you are bob.
	old.must("import", filepath.Join(dir, "old/inbox.mbox"), "--to", "bob@"+hostname, "--mailbox", "Projects/2020")
	run := func(command string) string {
		t.Helper()
		args := strings.Fields(command)[1:]
		for i := range args {
			if strings.HasPrefix(args[i], "imaps://") {
				args[i] = "imaps://bob@localhost:" + old.port("imaps")
				args = append(args, "--tls-ca", old.caFile())
			}
		}
		cmd := exec.Command(s.bin, append([]string{"--config", s.configFile()}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "POSTRIDER_IMPORT_PASSWORD="+password)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return string(out)
	}
	for _, c := range []struct{ command, want string }{
		{"postrider import old/inbox.mbox --to you@example.org", "imported 10 messages"},
		{"postrider import old/Maildir --to you@example.org", "imported 3 messages"},
		{"postrider import imaps://you@mail.example.net --to you@example.org", "imported 10 messages"},
		{"postrider export you@example.org mail --format maildir", "exported 23 messages"},
		{"postrider export you@example.org sent.mbox --format mbox --mailbox Sent", "exported 1 messages"},
	} {
		if out := run(c.command); !strings.Contains(out, c.want) {
			t.Errorf("%s says %q", c.command, out)
		}
	}
	for _, command := range []string{"postrider import old/inbox.mbox --to you@example.org", "postrider import old/Maildir --to you@example.org",
		"postrider import imaps://you@mail.example.net --to you@example.org"} {
		if out := run(command); !strings.Contains(out, "imported 0 messages") {
			t.Errorf("%s, again, says %q", command, out)
		}
	}
	files := s.exported("you@example.org")
	if files["Projects/2020.mbox"] != inbox || !strings.HasPrefix(files["INBOX.mbox"], inbox) {
		t.Errorf("what came in by IMAP and what from the file are not the same as the file")
	}

	out := succeed(t, nil, "", "python3", "-c", `
import mailbox, sys
box = mailbox.Maildir(sys.argv[1])
sent = box.get_folder("Sent")
print(len(box), len(sent), sorted("".join(m.get_flags()) for m in box)[-1], [m.get_flags() for m in sent])
one = mailbox.mbox(sys.argv[2])
print(len(one), one[0]["Subject"], one[0].get_flags())
many = mailbox.mbox(sys.argv[3])
print(len(many), many[2].get_flags(), many[3].get_flags(), many[3]["X-Keywords"])
`, filepath.Join(dir, "mail"), filepath.Join(dir, "sent.mbox"), writeFile(t, filepath.Join(dir, "projects.mbox"), files["Projects/2020.mbox"]))
	if want := "12 1 S ['RS']\n1 sent ROA\n10 ROAF OTD $Junk work\n"; out != want {
		t.Errorf("python reads %q, want %q", out, want)
	}
	mutt := onTerminal(t, []string{"HOME=" + t.TempDir()}, "mutt", "-R", "-f", filepath.Join(dir, "projects.mbox"), "-e", `set sort=mailbox-order sleep_time=0 folder=/; push "<last-entry><display-message>"`)
	mutt.sees("moving 9")
	mutt.types("q")
	mutt.types("x")
	mutt.ends()
}

// TestImportKilled: a server, and then the command, killed in the middle of an
// import; the same command goes on, and every message is there once.
func TestImportKilled(t *testing.T) {
	s := newServer(t, options{})
	n := 12000
	text := mboxMessages(n, 1000)
	file := writeFile(t, filepath.Join(t.TempDir(), "big"), text)
	args := []string{"import", file, "--to", "bob@" + hostname}
	begin := func() (*exec.Cmd, *log) {
		cmd := exec.Command(s.bin, append([]string{"--config", s.configFile()}, args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out := &log{}
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, out
	}
	grown := func(more int) int {
		t.Helper()
		count := 0
		eventually(t, func() error {
			c, err := imap(s.addr["imap"], "bob")
			if err != nil {
				return err
			}
			defer c.Close()
			lines, err := c.imapAsk("STATUS INBOX (MESSAGES)")
			if err != nil {
				return err
			}
			m := regexp.MustCompile(`MESSAGES (\d+)`).FindStringSubmatch(lines[0])
			if m == nil {
				return fmt.Errorf("%q", lines[0])
			}
			if count, err = strconv.Atoi(m[1]); err == nil && count < more {
				err = fmt.Errorf("%d messages, want %d", count, more)
			}
			return err
		})
		return count
	}

	cmd, out := begin()
	was := grown(1)
	s.kill()
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(out.String(), "goes on where it ended") {
		t.Errorf("the command whose server was killed: exit %d, %q", code, out)
	}
	s.start()
	cmd, _ = begin()
	if was < n {
		was = grown(was + 1)
	}
	cmd.Process.Kill()
	cmd.Wait()
	said := s.must(args...)
	m := regexp.MustCompile(`imported (\d+) messages .*, (\d+) there by an earlier import, 0 skipped`).FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("import says %q", said)
	}
	fresh, _ := strconv.Atoi(m[1])
	already, _ := strconv.Atoi(m[2])
	if fresh+already != n || already < was {
		t.Errorf("%q where %d had come before", said, was)
	}
	t.Logf("killed with %d of %d messages in, then with %d", was, n, already)
	if got := s.exported("bob@" + hostname)["INBOX.mbox"]; got != text {
		t.Errorf("the export has %d octets and %d messages, want %d and %d", len(got), strings.Count(got, "\nSubject:"), len(text), n)
	}
}

// TestImportServers: an account moves from one server to another by IMAP, with
// TLS of either kind, and nothing is another: bytes, flags, keywords, dates,
// folders. Without a server running, too.
func TestImportServers(t *testing.T) {
	from := newServer(t, options{})
	dir := t.TempDir()
	for i, name := range []string{"INBOX", "Sent", "Lists/go", "Lists/go/ünïcode & more", "dots.in.it"} {
		file := writeFile(t, filepath.Join(dir, fmt.Sprint(i)), mboxMessages(5+i, 300<<i))
		from.must("import", file, "--to", "bob@"+hostname, "--mailbox", name)
	}
	large := "From MAILER-DAEMON Wed Jan  1 00:00:00 2020\nSubject: large\nStatus: O\n\n" + strings.Repeat("large large large large\n", 100000) + "\n"
	from.must("import", writeFile(t, filepath.Join(dir, "large"), large), "--to", "bob@"+hostname, "--mailbox", "Archive")
	want := from.exported("bob@" + hostname)
	if want["Archive.mbox"] != large {
		t.Error("a large message differs")
	}

	to := prepare(t, options{})
	to.init()
	args := []string{"import", "imaps://bob%40" + hostname + "@localhost:" + from.port("imaps"), "--to", "bob@" + hostname, "--password-stdin"}
	if _, stderr, code := to.run(password+"\n", args...); code != 1 || !strings.Contains(stderr, "--tls-ca") {
		t.Errorf("a certificate of nobody we know: exit %d, %q", code, stderr)
	}
	args = append(args, "--tls-ca", from.caFile())
	if _, stderr, code := to.run("wrong\n", args...); code != 1 || !strings.Contains(stderr, "log in at localhost") {
		t.Errorf("a wrong password: exit %d, %q", code, stderr)
	}
	if out := to.mustWith(password+"\n", append(args, "--dry-run")...); !strings.Contains(out, "Lists/go -> Lists/go (new)") || !strings.Contains(out, "would import 36 messages") {
		t.Errorf("a dry run: %q", out)
	}
	if out := to.mustWith(password+"\n", append(args, "--folder", "Lists/go")...); !strings.Contains(out, "imported 7 messages") {
		t.Errorf("one folder: %q", out)
	}
	if out := to.mustWith(password+"\n", args...); !strings.Contains(out, "imported 29 messages") || !strings.Contains(out, " 7 there") {
		t.Errorf("the rest: %q", out)
	}
	if out := to.mustWith(password+"\n", args...); !strings.Contains(out, "imported 0 messages") || !strings.Contains(out, "36 there by an earlier import") {
		t.Errorf("again: %q", out)
	}
	sameFiles(t, want, to.exported("bob@"+hostname))

	// Into alice's account while the server runs, without TLS on loopback.
	to.start()
	out := to.mustWith(password+"\n", "import", "imap://bob@127.0.0.1:"+from.port("imap"), "--to", "alice@"+hostname, "--password-stdin")
	if !strings.Contains(out, "imported 36 messages") {
		t.Errorf("on loopback: %q", out)
	}
	sameFiles(t, want, to.exported("alice@"+hostname))

	// Asked for on a terminal, where it is not shown.
	p := onTerminal(t, nil, to.bin, "--config", to.configFile(), "import", "imap://bob@127.0.0.1:"+from.port("imap"), "--to", "alice@"+hostname)
	p.sees("Password for ")
	p.types(password + "\n")
	p.sees("imported 0 messages")
	p.ends()
	if strings.Contains(p.seen.String(), password) {
		t.Error("the password is on the screen")
	}
}

// TestMovingRights: files are read and made with the rights of the command.
func TestMovingRights(t *testing.T) {
	s := newServer(t, options{})
	dir := t.TempDir()
	file := writeFile(t, filepath.Join(dir, "in.mbox"), mboxMessages(3, 100))
	s.must("import", file, "--to", "bob@"+hostname)
	dest := filepath.Join(dir, "out.mbox")
	s.must("export", "bob@"+hostname, dest, "--format", "mbox", "--mailbox", "INBOX")
	if fi, err := os.Stat(dest); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the export: %v, %v", fi, err)
	}
	if _, stderr, code := s.run("", "export", "bob@"+hostname, dest, "--format", "mbox"); code != 1 || !strings.Contains(stderr, "nothing is overwritten") {
		t.Errorf("an export over another: exit %d, %q", code, stderr)
	}
	got, err := os.ReadFile(dest)
	if want, err2 := os.ReadFile(file); err != nil || err2 != nil || !bytes.Equal(got, want) {
		t.Errorf("the export differs from what was imported: %v, %v", err, err2)
	}
	fi, err := os.Stat(filepath.Join(s.dir, "data", "transfer.sock"))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", fi, err)
	}
}
