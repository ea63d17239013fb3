package integration

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// smallDisk is a server whose data directory is a file system of its own.
type smallDisk struct {
	*server
	t     *testing.T
	mount string
	sent  int
}

// newSmallDisk mounts one of so many octets; nil where that is not allowed.
func newSmallDisk(t *testing.T, size int) *smallDisk {
	t.Helper()
	d := mountSmallDisk(t, size)
	if d != nil {
		d.init()
		d.start()
	}
	return d
}

// mountSmallDisk is newSmallDisk with nothing on it.
func mountSmallDisk(t *testing.T, size int) *smallDisk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Log("NOT TRIED: this needs root, to mount a small file system")
		return nil
	}
	s := prepare(t, options{plain: true, quiet: true, config: crashConfig})
	d := &smallDisk{server: s, t: t, mount: filepath.Join(s.dir, "data")}
	if err := os.Mkdir(d.mount, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", d.mount, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)); err != nil {
		t.Logf("NOT TRIED: mount a small file system: %v", err)
		return nil
	}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.kill()
		}
		if err := syscall.Unmount(d.mount, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

// fill has somebody else take all space that is left.
func (d *smallDisk) fill() {
	d.t.Helper()
	f, err := os.Create(filepath.Join(d.mount, "of somebody else"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 1<<16); len(chunk) >= 4096; {
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			chunk = chunk[:len(chunk)/2]
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *smallDisk) free() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.mount, "of somebody else")); err != nil {
		d.t.Fatal(err)
	}
}

// send sends a letter of about that size to bob and alice, and returns the
// reply to it.
func (d *smallDisk) send(size int) (string, error) {
	d.t.Helper()
	c, err := smtp(d.addr["smtp"])
	if err != nil {
		return "", err
	}
	defer c.Close()
	d.sent++
	text := letter("alice@crepes.fr", "bob@"+hostname, fmt.Sprint("m", d.sent), strings.Repeat("All work and no play.\r\n", size/23+1))
	return c.mail("alice@crepes.fr", []string{"bob@" + hostname, "alice@" + hostname}, text)
}

// refused wants a temporary refusal.
func (d *smallDisk) refused(size int) {
	d.t.Helper()
	if reply, err := d.send(size); err == nil || !strings.HasPrefix(reply, "452 4.3.1") {
		d.t.Errorf("a letter of %d octets on a full disk: %q, %v; want 452 4.3.1", size, reply, err)
	}
}

// accepted wants letters to be taken, soon.
func (d *smallDisk) accepted(sizes ...int) {
	d.t.Helper()
	for _, size := range sizes {
		eventually(d.t, func() error {
			_, err := d.send(size)
			return err
		})
	}
}

// full tells what the metrics say.
func (d *smallDisk) full() string {
	d.t.Helper()
	r, err := http.Get("http://" + d.addr["metrics"] + "/metrics")
	if err != nil {
		d.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(regexp.MustCompile(`(?m)^postrider_store_low (\d)$`).Find(text))
}

// goesOn reads, marks, moves and deletes what bob has, all of which must work.
func (d *smallDisk) goesOn() {
	d.t.Helper()
	c, err := imap(d.addr["imap"], "bob")
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	for _, command := range []string{"SELECT INBOX", "FETCH 1:* (FLAGS ENVELOPE BODY.PEEK[])", `STORE 1:* +FLAGS (\Seen)`, "MOVE 1 Archive",
		`STORE 1 +FLAGS (\Deleted)`, "EXPUNGE", `STORE 1:* FLAGS ($Label1)`} {
		if _, err := c.imapAsk(command); err != nil {
			d.t.Errorf("%s on a full disk: %v", command, err)
		}
	}
	for _, command := range []string{"COPY 1 Archive", "APPEND"} {
		_, err := c.imapAsk(command)
		if command == "APPEND" {
			_, err = c.imapAppend("INBOX", "", "Subject: x\r\n\r\nA draft.\r\n")
		}
		var no imapNo
		if !errors.As(err, &no) || !strings.HasPrefix(string(no), "NO [UNAVAILABLE]") {
			d.t.Errorf("%s on a full disk: %v, want NO [UNAVAILABLE]", command, err)
		}
	}
	p, err := pop(d.addr["pop3"], "alice")
	if err != nil {
		d.t.Fatal(err)
	}
	defer p.Close()
	for _, command := range []string{"RETR 1", "DELE 1"} {
		ask := func(command string) error { _, err := p.popAsk(command); return err }
		if strings.HasPrefix(command, "RETR") {
			ask = func(command string) error { _, err := p.popLines(command); return err }
		}
		if err := ask(command); err != nil {
			d.t.Errorf("%s on a full disk: %v", command, err)
		}
	}
	if _, err := p.popAsk("QUIT"); err != nil {
		d.t.Errorf("QUIT on a full disk: %v", err)
	}
}

// TestDiskFullR8: on a full disk mail is refused for now, with codes that make
// it come again; reading, marking, moving and deleting go on; and when there is
// space again, mail is taken without a restart. A kill in between changes nothing.
func TestDiskFullR8(t *testing.T) {
	d := newSmallDisk(t, 32<<20)
	if d == nil {
		return
	}
	for i := range rounds(t, 2, 300) {
		d.accepted(1000, 1000, 30_000, 100_000, 1000, 1000)
		d.fill()
		d.refused(1000)
		d.refused(100_000)
		d.goesOn()
		if got := d.full(); got != "postrider_store_low 1" {
			t.Errorf("on a full disk: %q", got)
		}
		for _, want := range []string{"the disk is nearly full"} {
			if !strings.Contains(d.err.String(), want) {
				t.Errorf("the log does not say %q:\n%s", want, d.err)
			}
		}
		if i%3 == 1 { // with what is left of the reserve
			d.kill()
			d.start()
			d.refused(1000)
			d.goesOn()
		}
		d.free()
		d.accepted(1000, 100_000)
		if got := d.full(); got != "postrider_store_low 0" {
			t.Errorf("with space again: %q", got)
		}
		d.clear()
		if t.Failed() {
			t.Fatalf("round %d\n%s", i, d.err)
		}
	}
	d.byMail()
	if text := d.err.String(); strings.Contains(text, "panic") {
		t.Error(text)
	}
}

// clear deletes all mail.
func (d *smallDisk) clear() {
	d.t.Helper()
	for _, place := range []string{"bob/INBOX", "bob/Archive", "alice/INBOX"} {
		user, mailbox, _ := strings.Cut(place, "/")
		c, err := imap(d.addr["imap"], user)
		if err != nil {
			d.t.Fatal(err)
		}
		for _, command := range []string{"SELECT " + mailbox, `STORE 1:* +FLAGS.SILENT (\Deleted)`, "EXPUNGE"} {
			if _, err := c.imapAsk(command); err != nil && !strings.Contains(err.Error(), "BAD") {
				d.t.Errorf("%s in %s: %v", command, place, err)
			}
		}
		c.Close()
	}
}

// byMail fills the disk with mail alone; deleting it makes room for more: at
// once where it was in files, else for what fits in the database.
func (d *smallDisk) byMail() {
	d.t.Helper()
	for _, size := range []int{1_000_000, 60_000} {
		sent := 0
		for began := time.Now(); time.Since(began) < patience; sent++ {
			if reply, err := d.send(size); err != nil {
				if !strings.HasPrefix(reply, "452 ") {
					d.t.Fatalf("after %d letters: %v", sent, err)
				}
				break
			}
		}
		if sent < 10 {
			d.t.Errorf("%d letters of %d octets were taken", sent, size)
		}
		d.clear()
		d.accepted(1000)
		d.t.Logf("%d letters of %d octets were taken, then deleted, then more was taken", sent, size)
	}
}
