package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"postrider/mailstore"
)

// maxVerify is how much memory, all in all, Verify may ask for on the few
// messages of these tests, whatever their rows say.
const maxVerify = 64 << 20

// verifiable makes a database with something in each table, and returns its octets
// and those of its one body file by path.
func verifiable(t *testing.T, dir string) (db []byte, files map[string][]byte) {
	t.Helper()
	boxes := corruptible(t, dir)
	e := open(t, dir)
	s, err := mailstore.Open(context.Background(), e, mailstore.Options{Keep: time.Hour, Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{strings.Repeat("A line to be packed.\r\n", 1000), strings.Repeat("A file to be packed.\r\n", 10000)} {
		if _, err := deliver(s, boxes[0], text); err != nil {
			t.Fatal(err)
		}
	}
	w := s.NewBody()
	if _, err := w.Write([]byte("Subject: queued\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	body, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), func(tx *mailstore.Tx) error {
		item := mailstore.QueueItem{Envelope: "e1", From: "bob@example.org", Accepted: time.Now(), Expires: time.Now().Add(time.Hour)}
		if _, _, err := tx.Enqueue(body, item, []mailstore.QueueRecipient{{Address: "x@example.net", Domain: "example.net"}}); err != nil {
			return err
		}
		if err := tx.Subscribe(1, "INBOX", true); err != nil {
			return err
		}
		_, err := tx.Expunge(boxes[1], []mailstore.UID{2, 3, 7})
		return err
	})
	body.Release()
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	if db, err = os.ReadFile(filepath.Join(dir, "postrider.db")); err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(dir, "bodies", "??", "*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no body files: %v", err)
	}
	files = make(map[string][]byte)
	for _, path := range paths {
		if files[path[len(dir):]], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return db, files
}

// lay makes a data directory of a database and body files.
func lay(t *testing.T, dir string, db []byte, files map[string][]byte) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "postrider.db"), db, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, data := range files {
		if err := os.MkdirAll(filepath.Dir(dir+path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// verifyDamaged verifies and repairs a damaged directory; it must come to an end
// without asking for much memory. opened is false where the directory is refused.
func verifyDamaged(t *testing.T, dir string) (findings []mailstore.Finding, opened bool) {
	t.Helper()
	e, err := Open(context.Background(), dir, Options{})
	if err != nil {
		return nil, false
	}
	s, err := mailstore.Open(context.Background(), e, mailstore.Options{Keep: time.Hour})
	if err != nil {
		return nil, false
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err = s.Verify(context.Background(), mailstore.VerifyOptions{Repair: true, Found: func(f mailstore.Finding) { findings = append(findings, f) }})
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > maxVerify {
		t.Errorf("verify took %d MiB", n>>20)
	}
	if err != nil {
		findings = append(findings, mailstore.Finding{Text: err.Error()})
	}
	_ = s.Close() // SQLite may refuse to move what it cannot understand
	return findings, true
}

// TestVerifyFlippedOctets: whatever octets of the database are flipped, verify and
// its repairs end without a panic and in little memory.
func TestVerifyFlippedOctets(t *testing.T) {
	root := t.TempDir()
	db, files := verifiable(t, filepath.Join(root, "sound"))
	rng := rand.New(rand.NewPCG(3, 7))
	opened, found := 0, 0
	const tries = 80
	for n := range tries {
		dir := filepath.Join(root, fmt.Sprint(n))
		bad := bytes.Clone(db)
		at := 100 + rng.IntN(len(bad)-100)
		for range 1 + rng.IntN(16) { // near one another, as rows and the heads of pages are
			bad[min(at+rng.IntN(64), len(bad)-1)] ^= byte(1 + rng.IntN(255))
		}
		lay(t, dir, bad, files)
		findings, ok := verifyDamaged(t, dir)
		if ok {
			opened++
		}
		if len(findings) > 0 {
			found++
		}
		if t.Failed() {
			t.Fatalf("try %d, octets from %d", n, at)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("of %d: opened %d, found something in %d", tries, opened, found)
	if opened < tries/2 || found < opened/4 {
		t.Errorf("of %d: opened %d, found something in %d", tries, opened, found)
	}
}

// TestVerifyDamagedColumns: whatever a column of each table says in one row, verify
// and its repairs end without a panic and in little memory.
func TestVerifyDamagedColumns(t *testing.T) {
	root := t.TempDir()
	db, files := verifiable(t, filepath.Join(root, "sound"))
	values := []any{int64(-1), int64(math.MinInt64), int64(math.MaxInt64), int64(1) << 40, int64(0), "text", []byte{1}, bytes.Repeat([]byte{0xff}, 200)}
	columns, most := columnsOf(t, filepath.Join(root, "sound"))
	opened := 0
	for i := range most {
		for j, v := range values {
			dir := filepath.Join(root, fmt.Sprint(i, "-", j))
			lay(t, dir, db, files)
			c, err := connect(filepath.Join(dir, "postrider.db"), role{cache: readerCache, write: true})
			if err != nil {
				t.Fatal(err)
			}
			for table, names := range columns {
				if i < len(names) {
					// One row, as keys are unique. A row's id cannot be of another type.
					_, _ = c.exec(fmt.Sprintf("UPDATE OR IGNORE %s SET %s = ?1 WHERE %[2]s = (SELECT max(%[2]s) FROM %[1]s)", table, names[i]), v)
				}
			}
			if err := c.close(); err != nil {
				t.Fatal(err)
			}
			findings, ok := verifyDamaged(t, dir)
			if ok {
				opened++
			}
			if slices.Index(columns["queue_item"], "body") == i && j == 0 && !strings.Contains(fmt.Sprint(findings), "body -1") {
				t.Errorf("a queued message with body -1: found %v", findings)
			}
			if t.Failed() {
				t.Fatalf("column %d = %v", i, v)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d columns, %d values: opened %d", most, len(values), opened)
	if tries := most * len(values); opened < tries*3/4 {
		t.Errorf("of %d opened %d", tries, opened)
	}
}

// columnsOf lists the columns of each table, and the number of them that the widest has.
func columnsOf(t *testing.T, dir string) (columns map[string][]string, most int) {
	t.Helper()
	c, err := connect(filepath.Join(dir, "postrider.db"), role{cache: readerCache})
	if err != nil {
		t.Fatal(err)
	}
	columns = make(map[string][]string)
	err = c.query("SELECT m.name, p.name FROM sqlite_schema m JOIN pragma_table_info(m.name) p WHERE m.type = 'table'", nil, func(r row) bool {
		columns[r.str(0)] = append(columns[r.str(0)], r.str(1))
		most = max(most, len(columns[r.str(0)]))
		return true
	})
	if cerr := c.close(); err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
	return columns, most
}

// TestVerifySums: bodies of which nothing but the checksums of their chunks is
// damaged are whole, compressed ones too, and get these anew.
func TestVerifySums(t *testing.T) {
	root := t.TempDir()
	db, files := verifiable(t, filepath.Join(root, "sound"))
	for i, damage := range []string{"zeroblob(length(sums))", "x'01'", "x'0102030405060708090a0b0c0d0e0f00'"} {
		dir := filepath.Join(root, fmt.Sprint(i))
		lay(t, dir, db, files)
		c, err := connect(filepath.Join(dir, "postrider.db"), role{cache: readerCache, write: true})
		if err != nil {
			t.Fatal(err)
		}
		bodies, coded := int64(0), 0
		err = c.query("SELECT count(*), count(coding), count(file) FROM body", nil, func(r row) bool {
			bodies, coded = r.int(0), int(r.int(1))
			return true
		})
		if _, err2 := c.exec("UPDATE body SET sums = " + damage); err != nil || err2 != nil || coded < 2 {
			t.Fatal(err, err2, coded)
		}
		if err := c.close(); err != nil {
			t.Fatal(err)
		}
		findings, _ := verifyDamaged(t, dir)
		for _, f := range findings {
			if f.Kind != "checksums" || f.Lost || !f.Repaired {
				t.Errorf("%s: %s (%+v)", damage, f.String(), f)
			}
		}
		if int64(len(findings)) != bodies {
			t.Errorf("%s: %d findings of %d bodies", damage, len(findings), bodies)
		}
		if again, _ := verifyDamaged(t, dir); len(again) > 0 {
			t.Errorf("%s: after the repair: %v", damage, again)
		}
	}
}
