package integration

import (
	"errors"
	"fmt"
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

// change is one kind of change that a client gets acknowledged.
type change struct {
	name string
	// ready opens the session and does what must come before.
	ready func(s *server) (*talk, error)
	// do makes the change; its last reply is the acknowledgement.
	do func(c *talk) error
	// said is in the acknowledgement as the server writes it.
	said string
	// takes: it takes a message out of the INBOX.
	takes bool
}

func onIMAP(before ...string) func(s *server) (*talk, error) {
	return func(s *server) (*talk, error) {
		c, err := imap(s.addr["imap"], "bob")
		if err != nil {
			return nil, err
		}
		for _, command := range before {
			if _, err := c.imapAsk(command); err != nil {
				return nil, err
			}
		}
		return c, nil
	}
}

func imapDo(command string) func(c *talk) error {
	return func(c *talk) error {
		_, err := c.imapAsk(command)
		return err
	}
}

// changes are the eight kinds of gate R7, and the rest of what a
// client is told is done. Those that take messages away stand last.
var changes = []change{
	{"SMTP", func(s *server) (*talk, error) { return smtp(s.addr["smtp"]) }, func(c *talk) error {
		_, err := c.mail("alice@crepes.fr", []string{"bob@" + hostname}, letter("a@crepes.fr", "bob@"+hostname, "m1", "x"))
		return err
	}, "250 2.0.0 Message accepted", false},
	{"SMTP, large", func(s *server) (*talk, error) { return smtp(s.addr["smtp"]) }, func(c *talk) error {
		_, err := c.mail("alice@crepes.fr", []string{"bob@" + hostname}, letter("a@crepes.fr", "bob@"+hostname, "m2", strings.Repeat("many lines\r\n", 20_000)))
		return err
	}, "250 2.0.0 Message accepted", false},
	{"SMTP to a queue", func(s *server) (*talk, error) {
		c, err := smtp(s.addr["submission"])
		if err == nil {
			_, err = c.ask("AUTH PLAIN "+authPlain("bob", password), "235")
		}
		return c, err
	}, func(c *talk) error {
		_, err := c.mail("bob@"+hostname, []string{"alice@crepes.fr"}, letter("bob@"+hostname, "alice@crepes.fr", "m3", "x"))
		return err
	}, "250 2.0.0 Message accepted", false},
	{"APPEND", onIMAP(), func(c *talk) error {
		_, err := c.imapAppend("INBOX", "", letter("a@crepes.fr", "bob@"+hostname, "m4", "x"))
		return err
	}, "OK [APPENDUID", false},
	{"STORE", onIMAP("SELECT INBOX"), imapDo(`STORE 1 +FLAGS (\Flagged)`), "OK STORE", false},
	{"COPY", onIMAP("SELECT INBOX"), imapDo("COPY 1:2 Archive"), "OK [COPYUID", false},
	{"CREATE", onIMAP(), imapDo("CREATE Work"), "OK [MAILBOXID", false},
	{"RENAME", onIMAP("CREATE Old"), imapDo("RENAME Old New"), "OK RENAME", false},
	{"SUBSCRIBE", onIMAP("CREATE Other"), imapDo("SUBSCRIBE Other"), "OK SUBSCRIBE", false},
	{"SETMETADATA", onIMAP(), imapDo(`SETMETADATA INBOX (/private/comment "x")`), "OK SETMETADATA", false},
	{"DELETE", onIMAP("CREATE Gone"), imapDo("DELETE Gone"), "OK DELETE", false},
	{"MOVE", onIMAP("SELECT INBOX"), imapDo("MOVE 1 Junk"), "OK", true},
	{"EXPUNGE", onIMAP("SELECT INBOX", `STORE 1 +FLAGS (\Deleted)`), imapDo("EXPUNGE"), "OK EXPUNGE", true},
	{"POP3 QUIT", func(s *server) (*talk, error) {
		c, err := pop(s.addr["pop3"], "bob")
		if err == nil {
			_, err = c.popAsk("DELE 1")
		}
		return c, err
	}, func(c *talk) error {
		_, err := c.popAsk("QUIT")
		return err
	}, "+OK POP3 server signing off", true},
}

// TestSyncR7: of all that the system calls of the server show, a sync of a file
// in the data directory comes after the change was written and before it is
// acknowledged.
func TestSyncR7(t *testing.T) {
	program(t, "strace")
	trace := filepath.Join(t.TempDir(), "trace")
	s := prepare(t, options{plain: true, wrap: []string{"strace", "-f", "-qq", "-y", "-s", "64", "-o", trace,
		"-e", "trace=fsync,fdatasync,write,pwrite64,writev,pwritev,sendto,sendmsg,rename,renameat,renameat2"}})
	s.init()
	s.start()
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			conn, err := c.ready(s)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			from := fileSize(t, trace)
			if err := c.do(conn); err != nil {
				t.Fatal(err)
			}
			// The client may have the answer before strace has written of it.
			var text string
			eventually(t, func() error {
				all, err := os.ReadFile(trace)
				if text = string(all[min(from, int64(len(all))):]); err == nil && !strings.Contains(text, c.said) {
					err = errors.New("the trace does not have the acknowledgement yet")
				}
				return err
			})
			if err := syncedBefore(text, filepath.Join(s.dir, "data"), c.said); err != nil {
				t.Errorf("%v in\n%.6000s", err, text)
			}
		})
	}
}

func fileSize(t *testing.T, name string) int64 {
	t.Helper()
	fi, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Size()
}

var (
	syscallLine = regexp.MustCompile(`^(\d+) +(\w+)\((.*)$`)
	resumedLine = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)$`)
	fdPath      = regexp.MustCompile(`^\d+<([^>]*)>`)
)

// syncedBefore reads a trace: all that was written to files in dir before the
// acknowledgement must be synced before it, and something must have been.
func syncedBefore(trace, dir, said string) error {
	type call struct{ name, args string }
	pending := map[string]call{} // by thread: begun, not ended
	dirty := map[string]bool{}   // files with writes that no sync followed
	written, synced := false, false
	for line := range strings.Lines(trace) {
		line = strings.TrimSuffix(line, "\n")
		var c call
		begins, ended := true, true
		if m := resumedLine.FindStringSubmatch(line); m != nil {
			c, begins = pending[m[1]], false
			delete(pending, m[1])
		} else if m := syscallLine.FindStringSubmatch(line); m != nil {
			c = call{m[2], m[3]}
			if strings.Contains(m[3], "<unfinished ...>") {
				pending[m[1]], ended = c, false
			}
		} else {
			continue
		}
		path := ""
		if m := fdPath.FindStringSubmatch(c.args); m != nil {
			path = m[1]
		}
		// The index for searches is derived, and may be behind.
		ours := strings.HasPrefix(path, dir+"/") && !strings.HasSuffix(path, "-shm") && !strings.Contains(path, "/search.db")
		switch {
		case c.name == "fsync" || c.name == "fdatasync":
			if ours && ended && strings.HasSuffix(line, "= 0") {
				synced = true
				delete(dirty, path)
			}
		case ours && strings.Contains(c.name, "write"):
			written, dirty[path] = true, true
		case begins && strings.Contains(c.args, said):
			switch {
			case !written || !synced:
				return fmt.Errorf("acknowledged with written %v, synced %v", written, synced)
			case len(dirty) > 0:
				return fmt.Errorf("acknowledged while %v had writes that were not synced", dirty)
			}
			return nil
		}
	}
	return errors.New("no acknowledgement found")
}

// TestFailingSyncR7: when syncs fail, no change is acknowledged, the server ends
// for a clean start, and after that nothing that was acknowledged is missing.
func TestFailingSyncR7(t *testing.T) {
	program(t, "strace")
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			s := prepare(t, options{plain: true, quiet: true})
			s.init()
			s.start()
			for i := range 4 {
				s.put(letter("alice@crepes.fr", "bob@"+hostname, fmt.Sprintf("m%d", i), "acknowledged"))
			}
			conn, err := c.ready(s)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fail := exec.Command("strace", "-f", "-qq", "-p", strconv.Itoa(s.pid()), "-o", "/dev/null",
				"-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO")
			background(t, fail)
			eventually(t, func() error { return traced(s.pid()) })
			if err := c.do(conn); err == nil {
				t.Error("acknowledged without a sync")
			} else if lost(err) && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Logf("the connection ended: %v", err)
			}
			select {
			case <-s.done:
			case <-time.After(patience):
				t.Error("the server goes on after a failed sync")
				s.kill()
			}
			fail.Process.Signal(syscall.SIGINT)
			if !strings.Contains(s.err.String(), "the storage failed") {
				t.Errorf("the log does not tell:\n%s", s.err)
			}
			// What was not acknowledged may be in effect or not.
			s.start()
			least, most := 4, 5
			if c.takes {
				least, most = 3, 4
			}
			if n := len(s.inbox("bob")); n < least || n > most {
				t.Errorf("after the failure there are %d letters", n)
			}
			s.kill()
		})
	}
}

// traced tells whether all threads of a process have a tracer.
func traced(pid int) error {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return err
	}
	for _, name := range tasks {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if strings.Contains(string(text), "TracerPid:\t0\n") {
			return fmt.Errorf("%s has no tracer yet", name)
		}
	}
	return nil
}
