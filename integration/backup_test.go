package integration

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// restored makes a server of a backup, without starting it.
func (s *server) restored(dir string, args ...string) *server {
	s.t.Helper()
	to := prepare(s.t, options{})
	s.must(append([]string{"restore", dir, "--to", filepath.Join(to.dir, "data")}, args...)...)
	err := filepath.WalkDir(filepath.Join(to.dir, "data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if info, err := d.Info(); err != nil || info.Mode().Perm() != want {
			s.t.Errorf("%s: mode %v, want %v: %v", path, info.Mode(), want, err)
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if out := to.must("verify"); !strings.HasPrefix(out, "ok: ") || strings.Contains(out, ";") {
		s.t.Errorf("verify of what was restored: %q", out)
	}
	return to
}

// TestBackup: restore points, what they share, what they keep, and what is refused.
func TestBackup(t *testing.T) {
	s := newServer(t, options{})
	s.fill(2000)
	dir := filepath.Join(t.TempDir(), "new", "backup")
	first := s.must("backup", dir)
	wantFirst := s.exported("bob@" + hostname)
	ca, err := os.ReadFile(s.caFile())
	if err != nil {
		t.Fatal(err)
	}
	s.put(letter("alice@crepes.fr", "bob@"+hostname, "second", "x"))
	second := s.must("backup", dir, "--keep", "2")
	if size := func(text string) string {
		_, rest, _ := strings.Cut(text, "bodies; ")
		n, _, _ := strings.Cut(rest, " written")
		return n
	}; !strings.Contains(size(first), "MiB") || !strings.Contains(size(second), "KiB") {
		t.Errorf("the first wrote %s, the second %s", size(first), size(second))
	}
	to := s.restored(dir)
	sameFiles(t, s.exported("bob@"+hostname), to.exported("bob@"+hostname))
	sameFiles(t, s.exported("alice@"+hostname), to.exported("alice@"+hostname))
	if text, err := os.ReadFile(filepath.Join(to.dir, "data", "tls", "ca.pem")); err != nil || string(text) != string(ca) {
		t.Errorf("the CA differs: %v", err)
	}
	to.start()
	if got := len(to.inbox("bob")); got != 2001 {
		t.Errorf("the server of what was restored has %d messages", got)
	}

	var list []struct{ ID string }
	if err := json.Unmarshal([]byte(s.must("restore", dir, "--list", "--json")), &list); err != nil || len(list) != 2 {
		t.Fatalf("%d points: %v", len(list), err)
	}
	sameFiles(t, wantFirst, s.restored(dir, "--point", list[0].ID).exported("bob@"+hostname))

	full := filepath.Join(to.dir, "data")
	if _, stderr, code := s.run("", "restore", dir, "--to", full); code != 1 || !strings.Contains(stderr, "is not empty") {
		t.Errorf("to a full directory: exit %d, %q", code, stderr)
	}
	if _, stderr, code := s.run("", "backup", filepath.Join(s.dir, "data", "b")); code != 2 || !strings.Contains(stderr, "data directory") {
		t.Errorf("into the data directory: exit %d, %q", code, stderr)
	}
	// Without a server; a body that is gone goes from the backup with its last point.
	s.stop()
	for _, name := range bodyFiles(t, dir)[1:] {
		if err := os.Remove(filepath.Join(s.dir, "data", "bodies", filepath.Base(name)[:2], filepath.Base(name))); err != nil {
			t.Fatal(err)
		}
	}
	s.must("backup", dir, "--full", "--keep", "1")
	if n := len(bodyFiles(t, dir)); n != 1 {
		t.Errorf("%d bodies are kept, want 1", n)
	}
	for _, part := range []string{"packs", "points"} {
		if entries, err := os.ReadDir(filepath.Join(dir, part)); err != nil || len(entries) != 1 {
			t.Errorf("%d %s are kept: %v", len(entries), part, err)
		}
	}
	// Each octet is checked.
	pack, err := filepath.Glob(filepath.Join(dir, "packs", "*"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(pack[0])
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/3] ^= 1
	writeFile(t, pack[0], string(text))
	if _, stderr, code := s.run("", "restore", dir, "--to", filepath.Join(t.TempDir(), "x")); code != 1 || !strings.Contains(stderr, "the backup is damaged") {
		t.Errorf("a damaged backup: exit %d, %q", code, stderr)
	}
}

// TestBackupLoad: backups while mail comes and goes are each a whole store, and
// have at least what was acknowledged before they began.
func TestBackupLoad(t *testing.T) {
	s := newServer(t, options{config: crashConfig})
	s.fill(500)
	var mu sync.Mutex
	var acked []string
	work := make(chan struct{}, 300) // messages that may come: the test must end
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			c, err := smtp(s.addr["smtp"])
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			i := 0
			for range work {
				i++
				id, size := fmt.Sprintf("load-%d-%d", w, i), 3000
				if i%10 == 0 {
					size = 90000 // a file
				}
				if _, err := c.mail("alice@crepes.fr", []string{"bob@" + hostname}, letter("alice@crepes.fr", "bob@"+hostname, id, strings.Repeat("0123456789 abcdef\r\n", size/18))); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked = append(acked, id)
				mu.Unlock()
			}
		})
	}
	dir := filepath.Join(t.TempDir(), "backup")
	for range 4 {
		for len(work) < cap(work) {
			work <- struct{}{}
		}
		mu.Lock()
		before := slices.Clone(acked)
		mu.Unlock()
		s.must("backup", dir)
		there := make(map[string]bool)
		for line := range strings.Lines(s.restored(dir).exported("bob@" + hostname)["INBOX.mbox"]) {
			if id, ok := strings.CutPrefix(line, "Subject: "); ok {
				there[strings.TrimSpace(id)] = true
			}
		}
		for _, id := range before {
			if !there[id] {
				t.Errorf("%s was acknowledged before the backup and is not in it", id)
			}
		}
	}
	close(work)
	wg.Wait()
	t.Logf("%d messages came meanwhile", len(acked))
	if len(acked) < 20 {
		t.Errorf("only %d messages came meanwhile", len(acked))
	}
}

// TestBackupKilled: a backup, its server, and a restore are killed at random; the
// points that there were can be restored, and the commands go on.
func TestBackupKilled(t *testing.T) {
	s := newServer(t, options{})
	s.fill(3000)
	dir := filepath.Join(t.TempDir(), "backup")
	s.must("backup", dir)
	want := s.exported("bob@" + hostname)
	kill := func(after time.Duration, what func(*exec.Cmd), args ...string) {
		t.Helper()
		cmd := exec.Command(s.bin, append([]string{"--config", s.configFile()}, args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.NewTimer(after)
		<-timer.C
		what(cmd)
		cmd.Wait()
	}
	command := func(cmd *exec.Cmd) { cmd.Process.Kill() }
	for i := range rounds(t, 5, 100) {
		after := time.Duration(rand.IntN(120)) * time.Millisecond
		kill(after, command, "backup", dir, "--full", "--keep", "1")
		if i%2 == 0 {
			kill(after, func(*exec.Cmd) { s.kill() }, "backup", dir, "--full", "--keep", "1")
			s.start()
		}
		to := prepare(t, options{})
		data := filepath.Join(to.dir, "data")
		kill(after, command, "restore", dir, "--to", data)
		if _, err := os.Stat(filepath.Join(data, "postrider.db")); err != nil {
			if exists(filepath.Join(data, "restoring")) {
				if _, stderr, code := to.run("", "user", "list"); code != 1 || !strings.Contains(stderr, "restore it again") {
					t.Errorf("what is half restored was opened: exit %d, %q", code, stderr)
				}
			}
			s.must("restore", dir, "--to", data)
		}
		if out := to.must("verify"); !strings.HasPrefix(out, "ok: ") {
			t.Errorf("verify: %q", out)
		}
		sameFiles(t, want, to.exported("bob@"+hostname))
	}
	s.must("backup", dir, "--keep", "1")
	if entries, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(entries) > 0 {
		t.Errorf("tmp has %d files: %v", len(entries), err)
	}
}

// TestReadmeBackup runs the commands of the README on a server that runs.
func TestReadmeBackup(t *testing.T) {
	s := newServer(t, options{})
	s.fill(5)
	dir := t.TempDir()
	for command, want := range map[string]string{
		"postrider verify": "ok: 12 messages", "postrider backup backups": "0 old restore points removed",
	} {
		s.readmeCommand(dir, command, want)
	}
	s.readmeCommand(dir, "postrider restore backups --list", "POINT")
	s.readmeCommand(dir, "postrider restore backups --to restored", "postrider verify checks it")
}

func (s *server) readmeCommand(dir, command, want string) {
	s.t.Helper()
	cmd := exec.Command(s.bin, append([]string{"--config", s.configFile()}, strings.Fields(command)[1:]...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
		s.t.Errorf("%s: %v\n%s", command, err, out)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
