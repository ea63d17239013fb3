package integration

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// dovecotConfig is for one user, whose mail is a Maildir.
const dovecotConfig = `
base_dir = %[1]s/base
state_dir = %[1]s/state
log_path = %[1]s/log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = maildir:%[1]s/mail
first_valid_uid = 1
first_valid_gid = 1
passdb {
  driver = static
  args = password=%[2]s
}
userdb {
  driver = static
  args = uid=%[3]s gid=%[4]s home=%[1]s/home
}
namespace inbox {
  inbox = yes
  mailbox Sent {
    special_use = \Sent
  }
}
service imap-login {
  %[6]s
  inet_listener imap {
    port = %[5]s
  }
  inet_listener imaps {
    port = 0
  }
}
`

// dovecotUnprivileged goes with it where the test does not run as root.
const dovecotUnprivileged = `
default_internal_user = %[1]s
default_internal_group = %[2]s
default_login_user = %[1]s
service anvil {
  chroot =
}
service stats {
  chroot =
}
`

// startDovecot serves the Maildir dir/mail, which it takes over, on a free port
// of loopback until the test ends.
func startDovecot(t *testing.T, dir string) (addr string) {
	t.Helper()
	addr = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	uid, gid := strconv.Itoa(os.Getuid()), strconv.Itoa(os.Getgid())
	more, chroot := "", "chroot ="
	if os.Getuid() == 0 { // Dovecot refuses to serve root's mail
		nobody, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		uid, gid, chroot = nobody.Uid, nobody.Gid, ""
		give(t, filepath.Join(dir, "mail"), uid, gid)
		give(t, filepath.Join(dir, "home"), uid, gid)
	} else {
		me, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		group, err := user.LookupGroupId(me.Gid)
		if err != nil {
			t.Fatal(err)
		}
		more = fmt.Sprintf(dovecotUnprivileged, me.Username, group.Name)
	}
	_, port, _ := net.SplitHostPort(addr)
	conf := writeFile(t, filepath.Join(dir, "dovecot.conf"), fmt.Sprintf(dovecotConfig, dir, password, uid, gid, port, chroot)+more)
	cmd := exec.Command("/usr/sbin/dovecot", "-F", "-c", conf)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out := &log{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; integration/setup.sh installs it", err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("dovecot: %s\n%s", out, text)
		}
	})
	eventually(t, func() error {
		c, err := imap(addr, "bob")
		if err == nil {
			c.Close()
		}
		return err
	})
	return addr
}

// give makes a user the owner of a folder and all below it.
func give(t *testing.T, dir, uid, gid string) {
	t.Helper()
	u, err := strconv.Atoi(uid)
	if err != nil {
		t.Fatal(err)
	}
	g, err := strconv.Atoi(gid)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, u, g)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDovecot: a Maildir that postrider wrote is served by Dovecot, and what is
// fetched from it by IMAP is what was there before: bytes, flags, keywords,
// dates, folders. Then Dovecot changes the Maildir, and it is imported itself.
func TestDovecot(t *testing.T) {
	s := newServer(t, options{})
	dir, err := os.MkdirTemp("", "postrider-dovecot-") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "home"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"INBOX", "Sent", "Lists/go", "Lists/ünïcode & more"} {
		file := writeFile(t, filepath.Join(dir, fmt.Sprint("in", i)), mboxMessages(300-60*i, 100<<i))
		s.must("import", file, "--to", "bob@"+hostname, "--mailbox", name)
	}
	want := s.exported("bob@" + hostname)
	s.must("export", "bob@"+hostname, filepath.Join(dir, "mail"), "--format", "maildir")

	addr := startDovecot(t, dir)
	args := []string{"import", "imap://bob@" + addr, "--to", "alice@" + hostname, "--password-stdin"}
	if out := s.mustWith(password+"\n", args...); !strings.Contains(out, "imported 840 messages") {
		t.Errorf("import says %q", out)
	}
	sameFiles(t, want, s.exported("alice@"+hostname))
	if out := s.mustWith(password+"\n", args...); !strings.Contains(out, "imported 0 messages") || !strings.Contains(out, "840 there") {
		t.Errorf("import again says %q", out)
	}

	// What Dovecot makes of the Maildir, keywords of its own included.
	c, err := imap(addr, "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, command := range []string{"SELECT INBOX", `STORE 1 +FLAGS (\Flagged $Forwarded later)`, `STORE 2 +FLAGS (later)`, "EXPUNGE"} {
		if _, err := c.imapAsk(command); err != nil {
			t.Fatalf("%s: %v", command, err)
		}
	}
	if _, err := c.imapAppend("INBOX", `\Seen later`, "Subject: by Dovecot\r\n\r\nx\r\n"); err != nil {
		t.Fatal(err)
	}
	c.imapAsk("LOGOUT")
	s.must("user", "add", "carol@"+hostname)
	s.must("import", filepath.Join(dir, "mail"), "--to", "carol@"+hostname)
	inbox := s.exported("carol@" + hostname)["INBOX.mbox"]
	// A fourth of the messages were \Deleted.
	if n := strings.Count(inbox, "\nSubject: "); n != 226 {
		t.Errorf("%d messages came from the Maildir", n)
	}
	first, rest, _ := strings.Cut(inbox, "\n\nFrom MAILER-DAEMON")
	second, _, _ := strings.Cut(rest, "\n\nFrom MAILER-DAEMON")
	for text, fields := range map[string]string{
		first:  "Status: O\nX-Status: F\nX-Keywords: $Forwarded later\n",
		second: "Status: RO\nX-Keywords: later\n",
	} {
		if !strings.Contains(text, fields) {
			t.Errorf("no %q in %q", fields, text)
		}
	}
	if !strings.Contains(inbox, "\nSubject: by Dovecot\nStatus: RO\nX-Keywords: later\n") {
		t.Errorf("what Dovecot took is not there: %q", inbox[max(0, len(inbox)-300):])
	}
	if year := time.Now().UTC().Format(" 2006\nSubject: by Dovecot"); !strings.Contains(inbox, year) {
		t.Errorf("what Dovecot took is not of this year")
	}
}
