package integration

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// oldServer has a data directory of version 1, with so many messages more than
// the sample, in one mailbox.
func oldServer(t *testing.T, messages int) *server {
	t.Helper()
	s := prepare(t, options{})
	s.oldData(messages)
	return s
}

// oldData puts the data directory of oldServer into place.
func (s *server) oldData(messages int) {
	t, data := s.t, filepath.Join(s.dir, "data")
	t.Helper()
	if err := os.CopyFS(data, os.DirFS("../mailstore/sqlite/testdata/v1")); err != nil {
		t.Fatal(err)
	}
	succeed(t, nil, "", "chmod", "-R", "u=rwX,go=", data)
	if messages > 0 {
		s.sql(fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %[1]d)
			INSERT INTO message SELECT (1 << 32) + 10 + i, m.modseq, m.modseq, 0, NULL, s.internal, s.saved, s.body, s.size, s.unended, s.prefix
			FROM n, (SELECT * FROM message WHERE id >> 32 = 1 ORDER BY id DESC LIMIT 1) s, mailbox m WHERE m.id = 1;
			UPDATE mailbox SET messages = messages + %[1]d, unseen = unseen + %[1]d, uidnext = 11 + %[1]d,
			size = size + %[1]d * (SELECT size FROM message WHERE id = (1 << 32) + 11) WHERE id = 1;
			INSERT INTO body_share SELECT body, %[1]d FROM message WHERE id = (1 << 32) + 11
			ON CONFLICT DO UPDATE SET extra = extra + %[1]d`, messages))
	}
}

// version is that of the data directory, by the first page of its database.
func (s *server) version() uint32 {
	s.t.Helper()
	return binary.BigEndian.Uint32([]byte(s.file("postrider.db"))[60:])
}

// file reads a file of the data directory.
func (s *server) file(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "data", name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// TestUpgradeServe: serve upgrades by itself, and keeps the old database.
func TestUpgradeServe(t *testing.T) {
	s := oldServer(t, 0)
	old := s.file("postrider.db")
	if _, stderr, code := s.run("", "quota", "show"); code != 1 || !strings.Contains(stderr, "run postrider upgrade") || s.file("postrider.db") != old {
		t.Errorf("quota show on an old directory: exit %d, %q", code, stderr)
	}
	s.start()
	if s.file("postrider.db.v1") != old {
		t.Error("the old database is not what was kept")
	}
	if !strings.Contains(s.err.String(), "upgraded the database; the old one is kept") {
		t.Errorf("the log does not tell of it:\n%s", s.err)
	}
	if out := s.must("upgrade"); !strings.HasPrefix(out, "nothing to do") {
		t.Errorf("beside a server of this version: %q", out)
	}
	if out := s.must("verify"); !strings.HasPrefix(out, "ok: 4 messages") {
		t.Errorf("verify: %q", out)
	}
	dir := filepath.Join(t.TempDir(), "backup")
	s.must("backup", dir)
	point, err := filepath.Glob(filepath.Join(dir, "points", "*"))
	if err != nil || len(point) != 1 {
		t.Fatal(point, err)
	}
	if text, err := os.ReadFile(point[0]); err != nil || strings.Contains(string(text), "postrider.db.v1") {
		t.Errorf("a backup has the old database: %v", err)
	}
	// Back, by the line that the README has.
	s.stop()
	succeed(t, nil, "", "sh", "-c", "cd "+filepath.Join(s.dir, "data")+" && rm -f postrider.db-wal postrider.db-shm search.db* && mv postrider.db.v1 postrider.db")
	if s.version() != 1 || s.file("postrider.db") != old {
		t.Error("the way back does not lead to the old database")
	}
	s.start()
	if got := s.must("verify"); !strings.HasPrefix(got, "ok: 4 messages") {
		t.Errorf("verify: %q", got)
	}
}

// TestUpgradeNoSpace: without room for a copy nothing is changed, by serve neither,
// and with room all goes on.
func TestUpgradeNoSpace(t *testing.T) {
	d := mountSmallDisk(t, 40<<20)
	if d == nil {
		return
	}
	d.oldData(20000)
	old := d.file("postrider.db")
	d.write("of somebody else", 22<<20)
	for _, args := range [][]string{{"upgrade", "--dry-run"}, {"upgrade"}, {"serve"}} {
		if _, stderr, code := d.run("", args...); code != 1 || !strings.Contains(stderr, "make room and try again; nothing was changed") {
			t.Errorf("%v: exit %d, %q", args, code, stderr)
		}
		if d.file("postrider.db") != old || exists(filepath.Join(d.mount, "upgrade")) {
			t.Errorf("%v changed something", args)
		}
	}
	if err := os.Remove(filepath.Join(d.mount, "of somebody else")); err != nil {
		t.Fatal(err)
	}
	d.must("upgrade", "--dry-run")
	d.start()
	if out := d.must("verify"); !strings.HasPrefix(out, "ok: 20004 messages") || d.file("postrider.db.v1") != old {
		t.Errorf("verify: %q", out)
	}
}

// write makes a file of that size.
func (d *smallDisk) write(name string, size int) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.mount, name), make([]byte, size), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// TestUpgradeKilled: upgrades, dry runs and starts of the server are killed at
// random. Each time there is the old database or the new one, and the next goes on.
func TestUpgradeKilled(t *testing.T) {
	const messages = 30000
	s := oldServer(t, messages)
	data := filepath.Join(s.dir, "data")
	old, spare := s.file("postrider.db"), filepath.Join(t.TempDir(), "spare")
	succeed(t, nil, "", "cp", "-a", data, spare)
	start := time.Now()
	s.must("upgrade", "--dry-run")
	took := time.Since(start)
	kinds := [][]string{{"upgrade"}, {"upgrade", "--dry-run"}, {"serve"}}
	killed, upgraded := 0, 0
	for round := range rounds(t, 9, 200) {
		cmd := exec.Command(s.bin, append([]string{"--config", s.configFile()}, kinds[round%len(kinds)]...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.NewTimer(time.Duration(rand.Int64N(int64(took * 3 / 2))))
		<-timer.C
		cmd.Process.Kill()
		if err := cmd.Wait(); err != nil {
			killed++
		}
		switch version := s.version(); {
		case version == 1 && s.file("postrider.db") != old:
			t.Fatalf("round %d: the old database was changed", round)
		case version == 1 && round%len(kinds) != len(kinds)-1:
			continue // and once more, on what that has left
		case version > 1:
			upgraded++
		}
		var v struct {
			Verdict string
			Counts  struct{ Messages int }
		}
		if err := json.Unmarshal([]byte(s.must("upgrade", "--json")), &v); err != nil || v.Verdict != "nothing to do" && v.Counts.Messages != messages+4 {
			t.Errorf("round %d: %+v, %v", round, v, err)
		}
		if got := s.must("verify"); !strings.HasPrefix(got, fmt.Sprintf("ok: %d messages", messages+4)) {
			t.Errorf("round %d: verify: %q", round, got)
		}
		if s.file("postrider.db.v1") != old || exists(filepath.Join(data, "upgrade")) || exists(filepath.Join(data, "postrider.db.v1.1")) {
			t.Errorf("round %d: what is left is not the old database alone", round)
		}
		if err := os.RemoveAll(data); err != nil {
			t.Fatal(err)
		}
		succeed(t, nil, "", "cp", "-a", spare, data)
	}
	t.Logf("a dry run takes %v; %d killed, %d of them behind the upgrade", took, killed, upgraded)
	if killed == 0 {
		t.Error("none was killed")
	}
}

// TestReadmeUpgrade runs the commands of the README.
func TestReadmeUpgrade(t *testing.T) {
	s := oldServer(t, 0)
	s.readmeCommand(s.dir, "postrider upgrade --dry-run", "Clients see no difference")
	s.readmeCommand(s.dir, "postrider upgrade", "rm -f postrider.db-wal postrider.db-shm search.db* && mv postrider.db.v1 postrider.db")
}
