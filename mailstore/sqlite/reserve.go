package sqlite

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"postrider/mailstore"
)

const (
	// reserveSize is the space that is kept for deleting, unless the options say
	// otherwise: what the write-ahead log and the database may need until a
	// checkpoint has made the log anew.
	reserveSize = 64 << 20
	// reserveShare is the part of a small file system that is kept at most.
	reserveShare = 16
	reserveSteps = 8 // in which the reserve is given back
	reserveGrain = reserveSteps * 4096
	lowPages     = 64 // what the log may grow, while space is low, before it is moved
)

// reserve is a file that occupies space. What adds to the store is refused when
// there is little space beside it; changes and deletions go on, for which it is
// given back step by step. It is made anew, and all is well again, as soon as
// there is space for it.
//
//	free beside the reserve   what follows
//	below half of its size    additions are refused (low)
//	below an eighth of it     an eighth of it is given back, at each commit
//	twice its size, with      the reserve is made whole; additions are taken again
//	what is left of it
type reserve struct {
	log  *slog.Logger
	size int64
	// statfs gives the octets that are free for us.
	statfs func() (int64, error)

	low  atomic.Bool
	mu   sync.Mutex
	f    *os.File
	held int64 // of size
}

// openReserve finds the reserve of a data directory, and makes it whole where it
// can be. A file system that cannot keep space for a file has none.
func openReserve(dir string, size int64, log *slog.Logger) (*reserve, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return nil, fmt.Errorf("space of %s: %w", dir, err)
	}
	total := int64(fs.Blocks) * fs.Bsize
	r := &reserve{log: log, size: min(size, total/reserveShare) / reserveGrain * reserveGrain}
	r.statfs = func() (int64, error) {
		var fs syscall.Statfs_t
		err := syscall.Statfs(dir, &fs)
		return int64(fs.Bavail) * fs.Bsize, err
	}
	var err error
	r.f, err = os.OpenFile(filepath.Join(dir, "reserve"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, space(err)
	}
	info, err := r.f.Stat()
	if err != nil {
		return nil, errors.Join(err, r.f.Close())
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, errors.Join(private(r.f.Name(), "chmod 600"), r.f.Close())
	}
	if r.held = info.Size(); r.held > r.size { // the file system shrank
		r.truncateLocked(r.size)
	}
	free, err := r.statfs()
	if err != nil {
		return nil, errors.Join(err, r.f.Close())
	}
	if r.held < r.size && (free+r.held < r.size+r.size/2 || !r.fillLocked()) {
		r.low.Store(true)
		r.tell(free)
	}
	r.check()
	return r, nil
}

// tell says in the log how it stands.
func (r *reserve) tell(free int64) {
	if r.low.Load() {
		r.log.Error("the disk is nearly full: new mail is refused for now; reading and deleting go on",
			"free", free, "reserved", r.held)
		return
	}
	r.log.Info("there is space on the disk again: new mail is taken", "free", free)
}

// close ends its use; the space stays occupied.
func (r *reserve) close() error {
	if r == nil {
		return nil
	}
	return r.f.Close()
}

// check looks at the space that is free, and does what the table above says.
func (r *reserve) check() {
	r.mu.Lock()
	defer r.mu.Unlock()
	free, err := r.statfs()
	if err != nil {
		r.log.Warn("look for free space", "error", err)
		return
	}
	low := r.low.Load()
	switch {
	case low && free+r.held >= 2*r.size:
		r.low.Store(!r.fillLocked())
	case free < r.size/2:
		r.low.Store(true)
	}
	if r.low.Load() != low {
		r.tell(free)
	}
	for step := r.size / reserveSteps; r.low.Load() && free < step && r.held > 0; free += step {
		r.truncateLocked(max(0, r.held-step))
	}
}

// fillLocked makes the reserve whole, and tells whether it could.
func (r *reserve) fillLocked() bool {
	if r.held == r.size {
		return true
	}
	err := syscall.Fallocate(int(r.f.Fd()), 0, 0, r.size)
	switch {
	case errors.Is(err, syscall.EOPNOTSUPP):
		return true // free space alone decides
	case err != nil:
		r.log.Warn("keep space for deleting", "octets", r.size, "error", err)
		return false
	}
	r.held = r.size
	return true
}

// truncateLocked gives back all but some of the reserve.
func (r *reserve) truncateLocked(held int64) {
	if err := r.f.Truncate(held); err != nil {
		r.log.Warn("give back space that is kept for deleting", "error", err)
		return
	}
	r.held = held
}

// admit is ErrFull while space is low.
func (r *reserve) admit() error {
	if !r.low.Load() {
		return nil
	}
	return fmt.Errorf("%w: what is left is kept for deleting", mailstore.ErrFull)
}

// Low tells whether the disk is nearly full, so that what adds is refused.
func (e *Engine) Low() bool { return e.reserve.low.Load() }

// Space is ErrFull while additions are refused, unless the database has pages
// that deleting has left unused.
func (w *writer) Space() error {
	err := w.e.reserve.admit()
	if err == nil {
		return nil
	}
	var unused int64
	if qerr := w.c.one("PRAGMA freelist_count", nil, func(r row) { unused = r.int(0) }); qerr != nil {
		return qerr
	}
	if unused-int64(w.pages) > w.e.reserve.size/2/4096 {
		return nil
	}
	return err
}
