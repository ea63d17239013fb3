//go:build faults

package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"postrider/mailstore"
	"postrider/mailstore/sqlite/faults"
)

// upgradeFault is an upgrade whose call n fails in some way.
type upgradeFault struct {
	mode
	n   int
	dry bool
	old string // the old database
}

// run upgrades, goes on after the fault, and looks; fired is whether there was a
// call n.
func (u *upgradeFault) run(t *testing.T, root string) (fired bool) {
	dir := filepath.Join(root, "data")
	copyPrivately(t, "testdata/v1", dir)
	disk, err := faults.Watch(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { disk.Close() }()
	var call faults.Call
	var off atomic.Bool
	disk.Plan(func(c faults.Call) faults.Fault {
		if off.Load() || c.N < u.n || c.N > u.n && !u.stays {
			return faults.Fault{}
		}
		if call.N == 0 {
			call = c
		}
		if u.crash {
			disk.Crash()
			return faults.Fault{}
		}
		return faults.Fault{Err: u.err, Short: u.short}
	})
	what := func() string { return fmt.Sprintf("%s at %v, dry run %v", u.name, call, u.dry) }
	_, err = Upgrade(context.Background(), dir, UpgradeOptions{DryRun: u.dry})
	off.Store(true)
	switch {
	case call.N == 0 && err != nil:
		t.Errorf("without a fault: %v", err)
	case call.Op == faults.Write && u.err == syscall.ENOSPC && !u.stays && !errors.Is(err, mailstore.ErrFull):
		t.Errorf("%s: is not ErrFull: %v", what(), err)
	case call.N != 0 && call.Op != faults.Shm && call.Op != faults.Remove && !u.crash && err == nil:
		t.Errorf("%s: no error", what())
	}
	images := []string{dir}
	if disk.Crashed() {
		images = nil
		rng := rand.New(rand.NewPCG(uint64(u.n), 3))
		for i := range 3 { // choices of what was not synced
			image := filepath.Join(root, fmt.Sprint("image", i))
			images = append(images, image)
			if err := disk.Image(image, func() bool { return u.keep && rng.IntN(2) == 0 }); err != nil {
				t.Fatal(err)
			}
		}
	}
	disk.Close()
	for _, image := range images {
		u.look(t, image, what())
	}
	return call.N != 0
}

// look checks what a fault has left: the old database or the new one, whole.
func (u *upgradeFault) look(t *testing.T, dir, what string) {
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return string(data)
	}
	isOld := read("postrider.db") == u.old
	if u.dry && !isOld {
		t.Errorf("%s: the database was changed", what)
	}
	if log := filepath.Join(dir, "postrider.db-wal"); u.dry {
		if _, err := os.Stat(log); err == nil {
			t.Errorf("%s: a log came", what)
		}
	}
	if _, err := Upgrade(context.Background(), dir, UpgradeOptions{}); err != nil {
		t.Errorf("%s: again: %v", what, err)
		return
	}
	checkSample(t, dir)
	verify(t, dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case name == "postrider.db.v1":
			if read(name) != u.old {
				t.Errorf("%s: the old database is not what was kept", what)
			}
			isOld = false
		case name != "postrider.db" && name != "lock" && name != "reserve" && name != "bodies":
			t.Errorf("%s: %s is left", what, name)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "postrider.db.v1")); err != nil {
		t.Errorf("%s: the old database is lost", what)
	}
}

// TestUpgradeR11: each call of an upgrade, and of a dry run, fails in each way or
// is the last before a crash: there is the old database or the new one, the next
// upgrade succeeds, the old one is kept, and nothing is left over.
func TestUpgradeR11(t *testing.T) {
	old, err := os.ReadFile("testdata/v1/postrider.db")
	if err != nil {
		t.Fatal(err)
	}
	every := 7
	if os.Getenv("POSTRIDER_TORTURE") != "" {
		every = 1
	}
	root := t.TempDir()
	for _, dry := range []bool{false, true} {
		for i, m := range modes {
			t.Run(fmt.Sprintf("%s dry %v", strings.ReplaceAll(m.name, " ", "-"), dry), func(t *testing.T) {
				hits := 0
				for n, fired := 1+i%every, true; fired; n += every {
					u := &upgradeFault{mode: m, n: n, dry: dry, old: string(old)}
					at := filepath.Join(root, fmt.Sprint(i, dry, n))
					if err := os.Mkdir(at, 0o700); err != nil {
						t.Fatal(err)
					}
					if fired = u.run(t, at); fired {
						hits++
					}
					if err := os.RemoveAll(at); err != nil {
						t.Error(err)
					}
				}
				if hits < 50/every {
					t.Errorf("only %d faults", hits)
				}
			})
		}
	}
}
