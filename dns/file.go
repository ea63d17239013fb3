package dns

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"postrider/internal/clock"
)

const (
	// fileInterval is how often a file is looked at for changes.
	fileInterval = 5 * time.Second
	// maxFile bounds what is read of a hosts file or resolv.conf.
	maxFile = 16 << 20
)

// file is a parsed file of the system that is read again when it has changed.
// A file that does not exist is an empty one; one that can't be read keeps its
// last value.
type file[T any] struct {
	path  string
	parse func([]byte) T
	clock clock.Clock
	log   *slog.Logger

	mu      sync.Mutex
	value   T
	info    fs.FileInfo // of value; nil while the file does not exist
	checked time.Time   // zero before the first look
}

func newFile[T any](path string, parse func([]byte) T, c clock.Clock, log *slog.Logger) *file[T] {
	return &file[T]{path: path, parse: parse, clock: c, log: log, value: parse(nil)}
}

// get returns the file's present value; callers do not change it.
func (f *file[T]) get() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock.Now()
	if !f.checked.IsZero() && now.Sub(f.checked) < fileInterval {
		return f.value
	}
	f.checked = now
	if err := f.refreshLocked(); err != nil {
		f.log.Warn("can't read a file for name resolution; its last contents stay in use", "file", f.path, "error", err)
	}
	return f.value
}

func (f *file[T]) refreshLocked() error {
	r, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		if f.info != nil {
			f.value, f.info = f.parse(nil), nil
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		return err
	}
	if f.info != nil && os.SameFile(info, f.info) && info.Size() == f.info.Size() && info.ModTime().Equal(f.info.ModTime()) {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(r, maxFile))
	if err != nil {
		return err
	}
	f.value, f.info = f.parse(b), info
	return nil
}
