package walio

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// world is the same database twice, once with the VFS.
type world struct {
	*testing.T
	ours, plain *sql.DB // one connection each
	reader      *sql.DB // of ours, without the VFS
	rng         *rand.Rand
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	if err := Install(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	open := func(file, more string) *sql.DB {
		// A cache of 80 KiB: larger transactions write before they are committed.
		db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, file)+"?_journal_mode=WAL&_sync=FULL&_cache_size=-80&_txlock=immediate"+more)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		db.SetMaxOpenConns(1)
		return db
	}
	w := &world{T: t, ours: open("ours", "&vfs="+Name), plain: open("plain", ""), rng: rand.New(rand.NewPCG(seed, 1))}
	for _, db := range []*sql.DB{w.ours, w.plain} {
		w.exec(db, "PRAGMA wal_autocheckpoint = 0")
		w.exec(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT, data BLOB)")
		w.exec(db, "CREATE INDEX i ON t(text)")
	}
	w.reader = open("ours", "")
	return w
}

type execer interface {
	Exec(string, ...any) (sql.Result, error)
	QueryRow(string, ...any) *sql.Row
}

func (w *world) exec(db execer, text string, args ...any) {
	w.Helper()
	if _, err := db.Exec(text, args...); err != nil {
		w.Fatalf("%s: %v", text, err)
	}
}

// sum is what tells contents apart.
func (w *world) sum(db execer) (s string) {
	w.Helper()
	err := db.QueryRow("SELECT count(*) || ' ' || coalesce(sum(length(data)), 0) || ' ' || coalesce(sum(id * length(text) + instr(data, x'00')), 0) FROM t").Scan(&s)
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// change makes the same random changes in both.
func (w *world) change(both [2]execer) {
	w.Helper()
	for range 1 + w.rng.IntN(12) {
		id, n, text := w.rng.IntN(300), w.rng.IntN(20000), fmt.Sprint(w.rng.Uint64())
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(w.rng.Uint32())
		}
		kind := w.rng.IntN(4)
		for _, db := range both {
			switch kind {
			case 0, 1:
				w.exec(db, "INSERT OR REPLACE INTO t VALUES(?, ?, ?)", id, text, data)
			case 2:
				w.exec(db, "UPDATE t SET text = ? WHERE id BETWEEN ? AND ?", text, id, id+40)
			case 3:
				w.exec(db, "DELETE FROM t WHERE id BETWEEN ? AND ?", id, id+3)
			}
		}
	}
	if a, b := w.sum(both[0]), w.sum(both[1]); a != b {
		w.Fatalf("within a transaction: %s, without the VFS %s", a, b)
	}
}

// step is one transaction in both databases, which is committed or not, and now
// and then a checkpoint.
func (w *world) step() {
	w.Helper()
	ctx := context.Background()
	a, err := w.ours.BeginTx(ctx, nil)
	if err != nil {
		w.Fatal(err)
	}
	b, err := w.plain.BeginTx(ctx, nil)
	if err != nil {
		w.Fatal(err)
	}
	w.change([2]execer{a, b})
	end := (*sql.Tx).Commit
	if w.rng.IntN(3) == 0 {
		end = (*sql.Tx).Rollback
	}
	for _, tx := range []*sql.Tx{a, b} {
		if err := end(tx); err != nil {
			w.Fatal(err)
		}
	}
	// What was committed is there for others at once.
	if a, b := w.sum(w.reader), w.sum(w.plain); a != b {
		w.Fatalf("another connection sees %s, without the VFS %s", a, b)
	}
	switch w.rng.IntN(10) {
	case 0:
		w.exec(w.reader, "PRAGMA wal_checkpoint(PASSIVE)")
	case 1:
		w.exec(w.reader, "PRAGMA wal_checkpoint(TRUNCATE)")
	}
}

// TestSameAsWithout: a database written through the VFS is at each moment what it
// would be without it.
func TestSameAsWithout(t *testing.T) {
	for seed := range uint64(6) {
		w := newWorld(t, seed)
		for range 60 {
			w.step()
		}
		var fine string
		if err := w.reader.QueryRow("PRAGMA integrity_check").Scan(&fine); err != nil || fine != "ok" {
			t.Fatalf("seed %d: integrity_check: %s, %v", seed, fine, err)
		}
	}
}

// TestFewWrites: a commit of a message's size writes the log by few system calls.
func TestFewWrites(t *testing.T) {
	w := newWorld(t, 1)
	const commits, most = 50, 5
	data := make([]byte, 20000)
	calls := func() int64 {
		text, err := os.ReadFile("/proc/self/io")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "syscw: ")
		n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	count := func(db *sql.DB) float64 {
		before := calls()
		for i := range commits {
			w.exec(db, "INSERT OR REPLACE INTO t VALUES(?, 'x', ?)", i, data)
		}
		return float64(calls()-before) / commits
	}
	ours, plain := count(w.ours), count(w.plain)
	if ours > most || plain < 2*most {
		t.Errorf("%.1f write calls a commit, without the VFS %.1f", ours, plain)
	}
}

// BenchmarkCommit: the cost of a commit of the pages of a message.
func BenchmarkCommit(b *testing.B) {
	if err := Install(); err != nil {
		b.Fatal(err)
	}
	for _, vfs := range []string{"unix", Name} {
		b.Run(vfs, func(b *testing.B) {
			db, err := sql.Open("sqlite3", "file:"+filepath.Join(b.TempDir(), "db")+"?_journal_mode=WAL&_sync=FULL&vfs="+vfs)
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			db.SetMaxOpenConns(1)
			for _, text := range []string{"CREATE TABLE t(id INTEGER PRIMARY KEY, data BLOB)", "INSERT INTO t VALUES(1, zeroblob(33000))"} {
				if _, err := db.Exec(text); err != nil {
					b.Fatal(err)
				}
			}
			data := make([]byte, 33000)
			for b.Loop() {
				for i := 0; i < len(data); i += 1000 {
					data[i]++ // SQLite does not write what is there
				}
				if _, err := db.Exec("UPDATE t SET data = ?", data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
