package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// scratch is the directory of an upgrade, locked for one.
type scratch struct {
	path string
	d    *os.File
}

// claim makes the directory, or takes what another upgrade has left, empty.
func claim(dir string) (*scratch, error) {
	s := &scratch{path: filepath.Join(dir, scratchDir)}
	for {
		if err := mkdir(s.path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, space(err)
		}
		var err error
		if s.d, err = os.Open(s.path); errors.Is(err, fs.ErrNotExist) {
			continue // its user has just gone
		} else if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(s.d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("%w by another postrider upgrade: %s", ErrInUse, s.path)
		}
		if err != nil {
			return nil, errors.Join(err, s.d.Close())
		}
		if sameFile(s.d, s.path) {
			break
		}
		if err := s.d.Close(); err != nil { // it was removed before we had the lock
			return nil, err
		}
	}
	if err := s.empty(); err != nil {
		return nil, errors.Join(err, s.d.Close())
	}
	return s, nil
}

func sameFile(f *os.File, path string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

func (s *scratch) empty() error {
	entries, err := os.ReadDir(s.path)
	for _, e := range entries {
		err = errors.Join(err, removeFile(filepath.Join(s.path, e.Name())))
	}
	return err
}

// remove ends the use.
func (s *scratch) remove() error {
	err := s.empty()
	if err == nil {
		err = removeFile(s.path)
	}
	return errors.Join(err, s.d.Close())
}

// noLog makes sure that SQLite has left no log beside a database that is closed:
// beside another one of that name it would be taken for its own.
func noLog(path string) error {
	info, err := os.Stat(path + "-wal")
	if err == nil && info.Size() > 0 {
		return fmt.Errorf("sqlite: %s-wal was not moved into the database", path)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := removeFile(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// replace puts the copy into the place of the old database, which gets another
// name. Before the rename there is the old one only, and after it the new one.
func (x *upgrade) replace() error {
	old, err := os.Stat(x.path)
	if err != nil {
		return err
	}
	if st, ok := old.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		if err := os.Chown(x.copy, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err := x.syncCopy(); err != nil {
		return err
	}
	if err := noLog(x.path); err != nil {
		return err
	}
	kept, err := x.keep(old)
	if err != nil {
		return fmt.Errorf("keep the old database: %w", err)
	}
	// That the log is gone, and the old one has its name, is durable first.
	if err := syncDir(x.dir); err != nil {
		return err
	}
	if err := renameFile(x.copy, x.path); err != nil {
		return space(err)
	}
	x.u.Kept = kept
	return syncDir(x.dir)
}

// syncCopy makes the copy durable, owner included.
func (x *upgrade) syncCopy() error {
	f, err := os.Open(x.copy)
	if err != nil {
		return err
	}
	return errors.Join(synced(syncFile(f)), f.Close())
}

// keep gives the old database a second name: postrider.db.v1, or with a number
// behind it where another file has that.
func (x *upgrade) keep(old fs.FileInfo) (string, error) {
	for i := 0; ; i++ {
		name := fmt.Sprintf("%s.v%d", x.path, x.u.From)
		if i > 0 {
			name += fmt.Sprintf(".%d", i)
		}
		if info, err := os.Lstat(name); err == nil {
			same := os.SameFile(info, old) // an upgrade was cut short here
			if !same && info.Size() == old.Size() {
				if same, err = sameContent(x.path, name); err != nil {
					return "", err
				}
			}
			if same {
				return name, nil
			}
			continue
		}
		err := linkFile(x.path, name)
		switch {
		case err == nil:
			return name, nil
		case errors.Is(err, fs.ErrExist):
			continue
		case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.EMLINK):
			return name, x.keepCopy(name) // a file system without links
		default:
			return "", space(err)
		}
	}
}

// sameContent tells whether two files of one size have the same octets.
func sameContent(a, b string) (same bool, err error) {
	fa, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, fa.Close()) }()
	fb, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, fb.Close()) }()
	bufA, bufB := make([]byte, copyChunk), make([]byte, copyChunk)
	for {
		n, err := io.ReadFull(fa, bufA)
		m, _ := io.ReadFull(fb, bufB)
		if n != m || !bytes.Equal(bufA[:n], bufB[:m]) {
			return false, nil
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return true, nil
		case err != nil:
			return false, err
		}
	}
}

// keepCopy is keep where a file has one name only.
func (x *upgrade) keepCopy(name string) error {
	if err := x.space(x.u.Size); err != nil {
		return err
	}
	part := filepath.Join(x.dir, scratchDir, "old")
	if err := x.copyFile(context.Background(), x.path, part); err != nil {
		return err
	}
	return space(renameFile(part, name))
}
