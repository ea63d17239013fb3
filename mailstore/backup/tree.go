package backup

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// ErrInUse: another process changes the backup directory.
var ErrInUse = errors.New("the backup directory is in use")

// lock locks a directory for this process.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return locked(f, fmt.Errorf("%w: %s", ErrInUse, dir))
}

// locked locks an open file for this process; busy is the error where another has.
func locked(f *os.File, busy error) (*os.File, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = busy
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// makeDir makes a directory for our eyes only, with those above it, durably.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// create makes a new file.
func create(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

// copyBody copies a body file durably to path by way of tmp, and returns its hash.
func copyBody(from, tmp, path string) (size int64, sum [sha256.Size]byte, err error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, sum, err
	}
	defer in.Close()
	out, err := create(tmp)
	if err != nil {
		return 0, sum, err
	}
	h := sha256.New()
	size, err = io.Copy(io.MultiWriter(out, h), in)
	err = errors.Join(err, out.Sync(), out.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	return size, [sha256.Size]byte(h.Sum(nil)), err
}

// bodyNames lists the bodies of one of the 256 folders, in order.
func bodyNames(bodies string, prefix int) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(bodies, fmt.Sprintf("%02x", prefix)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if isName(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// derived are entries of a data directory that are no part of a backup: they
// belong to a process, or can be made anew. Nor are old databases that upgrades
// have left.
var derived = []string{"lock", "reserve", "postrider.db", "postrider.db-wal", "postrider.db-shm", "bodies", "journey", "upgrade", restoring}

// otherFiles lists what else is in a data directory, by path.
func otherFiles(data string) ([]string, error) {
	var list []string
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(data, path)
		if err != nil {
			return err
		}
		switch {
		case slices.Contains(derived, rel), strings.HasPrefix(rel, "search."), strings.HasPrefix(rel, database+".v"):
			if d.IsDir() {
				return fs.SkipDir
			}
		case d.Type().IsRegular():
			if strings.ContainsAny(rel, "\n\r") {
				return fmt.Errorf("a file with a line break in its name: %q", path)
			}
			list = append(list, rel)
		}
		return nil
	})
	return list, err
}
