package sqlite

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"postrider/mailstore"
)

const nameLength = 32 // of a body file, in hexadecimal digits

// files is the directory of large bodies.
type files struct {
	dir string // bodies
	tmp string // bodies/tmp

	mu      sync.Mutex
	durable map[string]bool // sub-directories whose entry in dir was synced
}

// openFiles makes the directory, and empties bodies/tmp: what is there belongs
// to nobody since this process has the lock.
func openFiles(dataDir string) (*files, error) {
	f := &files{dir: filepath.Join(dataDir, "bodies"), durable: make(map[string]bool)}
	f.tmp = filepath.Join(f.dir, "tmp")
	if err := makePrivateDir(f.dir); err != nil {
		return nil, err
	}
	if err := makePrivateDir(f.tmp); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(f.tmp)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if err := removeFile(filepath.Join(f.tmp, e.Name())); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// path is where a committed file is. A name that we never gave has none.
func (f *files) path(name string) (string, error) {
	if len(name) != nameLength {
		return "", mailstore.ErrNotFound
	}
	for _, c := range []byte(name) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", mailstore.ErrNotFound
		}
	}
	return filepath.Join(f.dir, name[:2], name), nil
}

// subdir makes the directory of a name, durably.
func (f *files) subdir(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	sub := name[:2]
	if f.durable[sub] {
		return nil
	}
	err := mkdir(filepath.Join(f.dir, sub), 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := syncDir(f.dir); err != nil {
		return err
	}
	f.durable[sub] = true
	return nil
}

// synced is the outcome of a sync: one that failed leaves nothing to trust,
// unless it was for want of space.
func synced(err error) error {
	if err == nil || noSpace(err) {
		return space(err)
	}
	return fmt.Errorf("%w: %w", mailstore.ErrFailed, err)
}

// space marks errors for want of space.
func space(err error) error {
	if err != nil && noSpace(err) {
		return fmt.Errorf("%w: %w", mailstore.ErrFull, err)
	}
	return err
}

// CreateFile begins a file for a large body.
func (e *Engine) CreateFile() (mailstore.BodyFile, error) {
	e.reserve.check()
	if err := e.reserve.admit(); err != nil {
		return nil, err
	}
	var random [nameLength / 2]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	name := hex.EncodeToString(random[:])
	f, err := openFile(filepath.Join(e.files.tmp, name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, space(err)
	}
	return &bodyFile{files: e.files, reserve: e.reserve, name: name, f: f}, nil
}

// bodyFile is a file in bodies/tmp that is being written.
type bodyFile struct {
	files   *files
	reserve *reserve
	name    string
	f       *os.File
}

func (b *bodyFile) Name() string { return b.name }

func (b *bodyFile) Write(p []byte) (int, error) {
	if err := b.reserve.admit(); err != nil {
		return 0, err // what was given back is not for bodies in the making
	}
	n, err := writeFile(b.f, p)
	return n, space(err)
}

// Commit syncs the file, renames it, and syncs the directory.
func (b *bodyFile) Commit() (mailstore.Content, error) {
	if err := synced(syncFile(b.f)); err != nil {
		return nil, err
	}
	if err := b.files.subdir(b.name); err != nil {
		return nil, space(err)
	}
	path, err := b.files.path(b.name)
	if err != nil {
		return nil, err
	}
	if err := renameFile(b.f.Name(), path); err != nil {
		return nil, space(err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, errors.Join(err, removeFile(path))
	}
	return newContent(b.f)
}

// Abort removes the file, wherever it stands.
func (b *bodyFile) Abort() {
	_ = b.f.Close()
	_ = removeFile(b.f.Name()) // bodies/tmp is emptied at the next open
}

// content is an open body file.
type content struct {
	*os.File
	size int64
}

func newContent(f *os.File) (mailstore.Content, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return content{f, info.Size()}, nil
}

func (c content) Size() int64 { return c.size }

// OpenFile opens a committed file.
func (e *Engine) OpenFile(name string) (mailstore.Content, error) {
	path, err := e.files.path(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, mailstore.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return newContent(f)
}

// RemoveFile removes a committed file. Its directory need not be synced: a file
// that comes back after a crash is an orphan, which the next sweep removes.
func (e *Engine) RemoveFile(name string) error {
	path, err := e.files.path(name)
	if err != nil {
		return nil
	}
	if err := removeFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Files lists the committed files, a sub-directory at a time.
func (e *Engine) Files(fn func(name string) bool) error {
	for i := range 256 {
		dir := filepath.Join(e.files.dir, fmt.Sprintf("%02x", i))
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if len(entry.Name()) == nameLength && !fn(entry.Name()) {
				return nil
			}
		}
	}
	return nil
}
