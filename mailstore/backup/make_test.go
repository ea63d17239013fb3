package backup

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// place is a data directory, and a backup of it.
type place struct {
	*testing.T
	data, dir string
	now       time.Time
}

func newPlace(t *testing.T) *place {
	root := t.TempDir()
	p := &place{t, filepath.Join(root, "data"), filepath.Join(root, "backup"), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	p.body(1)
	return p
}

func (p *place) write(path, text string) {
	p.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		p.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.Fatal(err)
	}
}

// body changes the database, and puts body n in the place of the others.
func (p *place) body(n int) {
	p.Helper()
	if err := os.RemoveAll(filepath.Join(p.data, "bodies")); err != nil {
		p.Fatal(err)
	}
	p.write(filepath.Join(p.data, database), strings.Repeat(fmt.Sprintf("database %d\n", n), 20000))
	p.write(filepath.Join(p.data, "bodies", fmt.Sprintf("%02x", n), fmt.Sprintf("%02x%030x", n, n)), fmt.Sprintf("body %d", n))
}

func (p *place) make(keep int) Summary {
	p.Helper()
	p.now = p.now.Add(time.Hour)
	s, err := Make(context.Background(), Options{Data: p.data, Dir: p.dir, Now: p.now, Keep: keep, Held: func() error { return nil }, Progress: &Progress{}})
	if err != nil {
		p.Fatal(err)
	}
	return s
}

// restores tells whether a point can be restored.
func (p *place) restores(id string) bool {
	_, err := Restore(context.Background(), p.dir, id, filepath.Join(p.TempDir(), "to"), &Progress{})
	return err == nil
}

// count counts the files of a part of the backup.
func (p *place) count(part string) (n int) {
	p.Helper()
	err := filepath.WalkDir(filepath.Join(p.dir, part), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return err
	})
	if err != nil {
		p.Fatal(err)
	}
	return n
}

// TestDamagedPoint: a point whose text is damaged is named, spoils neither those
// before it nor those after, and goes with its time; until then nothing is removed
// that it may name.
func TestDamagedPoint(t *testing.T) {
	for _, damage := range []string{"", "short", version + "\n" + "end 1 00\n", "postrider backup 9\n"} {
		p := newPlace(t)
		first := p.make(2)
		p.body(2)
		second := p.make(2)
		path := filepath.Join(p.dir, "points", second.ID)
		p.write(path, damage)
		p.body(3)
		third := p.make(2)
		if len(third.Unreadable) != 1 || !strings.Contains(third.Unreadable[0], path) || third.Removed != 0 {
			t.Errorf("%q: %+v", damage, third)
		}
		if !p.restores(first.ID) || !p.restores(third.ID) || p.restores(second.ID) {
			t.Errorf("%q: not just the damaged point cannot be restored", damage)
		}
		if n := p.count("bodies"); n != 3 {
			t.Errorf("%q: %d bodies are kept, want 3", damage, n)
		}
		p.body(4)
		fourth := p.make(2) // the first and the second go
		if len(fourth.Unreadable) != 0 || fourth.Removed != 2 {
			t.Errorf("%q: %+v", damage, fourth)
		}
		if points, bodies, packs := p.count("points"), p.count("bodies"), p.count("packs"); points != 2 || bodies != 2 || packs > 2 {
			t.Errorf("%q: %d points, %d bodies, %d packs are kept", damage, points, bodies, packs)
		}
		if !p.restores(third.ID) || !p.restores(fourth.ID) {
			t.Errorf("%q: the last points cannot be restored", damage)
		}
	}
}

// TestRestoreAtOnce: while one Restore is at work in a directory another is refused,
// and spoils nothing.
func TestRestoreAtOnce(t *testing.T) {
	p := newPlace(t)
	id := p.make(1).ID
	to := filepath.Join(t.TempDir(), "to")
	p.write(filepath.Join(to, restoring, "x"), "of the first")
	dir, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	if dir, err = locked(dir, nil); err != nil {
		t.Fatal(err)
	}
	restore := func() error {
		_, err := Restore(context.Background(), p.dir, id, to, &Progress{})
		return err
	}
	if err := restore(); err == nil || !strings.Contains(err.Error(), "another restore is at work") {
		t.Errorf("beside another: %v", err)
	}
	if _, err := os.Stat(filepath.Join(to, restoring, "x")); err != nil {
		t.Error(err)
	}
	if err := dir.Close(); err != nil {
		t.Fatal(err)
	}
	if err := restore(); err != nil {
		t.Errorf("after it: %v", err)
	}
}
