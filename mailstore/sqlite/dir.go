package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// makePrivateDir makes a directory for our eyes only, or makes sure that it is.
func makePrivateDir(dir string) error {
	if err := makeDir(dir, 0o700); err != nil {
		return err
	}
	return private(dir, "chmod 700")
}

// makeDir makes a directory and those above it that are missing, durably.
func makeDir(dir string, mode fs.FileMode) error {
	err := mkdir(dir, mode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(filepath.Dir(dir), 0o755); err != nil {
			return err
		}
		err = mkdir(dir, mode)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// makePrivateFile makes an empty file, or makes sure that others may not use it.
func makePrivateFile(path string) error {
	f, err := openFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return private(path, "chmod 600")
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// private refuses what others may read or write.
func private(path, remedy string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o and is %w: run %s %s", path, mode, ErrOpenToOthers, remedy, path)
	}
	return nil
}

// syncDir makes the entries of a directory durable. A directory that cannot be
// opened (no file descriptor is left) was not synced, but no sync failed either.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(synced(syncDirectory(d)), d.Close())
}

// lock is the lock of a data directory.
type lock struct{ f *os.File }

// acquire locks the directory for this process.
func acquire(dir string) (*lock, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		buf := make([]byte, 32)
		n, _ := f.ReadAt(buf, 0)
		who := strings.TrimSpace(string(buf[:n]))
		err = fmt.Errorf("%w by process %s: %s", ErrInUse, who, dir)
		return nil, errors.Join(err, f.Close())
	}
	if err == nil {
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		}
		if noSpace(err) {
			err = nil // the lock counts, and a full disk is no reason not to start
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
	}
	return &lock{f}, nil
}

// release gives the directory free.
func (l *lock) release() error { return l.f.Close() }

// Lock keeps others from using a data directory, until free is called. Nothing
// in it is changed.
func Lock(dir string) (free func() error, err error) {
	l, err := acquire(dir)
	if err != nil {
		return nil, err
	}
	return l.release, nil
}

// finished refuses a directory to which a backup is being restored.
func finished(dir string) error {
	unfinished := filepath.Join(dir, "restoring")
	if _, err := os.Stat(filepath.Join(dir, "postrider.db")); err == nil {
		_ = os.Remove(unfinished) // empty: only its own end was missing
	}
	if _, err := os.Stat(unfinished); err == nil {
		return fmt.Errorf("%s is a backup that was not restored to its end: restore it again", dir)
	}
	return nil
}
