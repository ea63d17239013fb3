package journey

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"postrider/internal/clock"
)

const (
	maxSegment     = 64 << 20 // octets that are read of a file
	segmentSize    = 16 << 20 // octets of records in one file
	minSegmentSize = 64 << 10 // of a journey that may take little room
	segmentShare   = 8        // a file has at most this part of the room, and of the time
	defaultSize    = 1 << 30  // octets of all files
	defaultKeep    = 30 * 24 * time.Hour
	suffix         = ".journey"
	damaged        = ".damaged"
)

// store is the files of one journey in a directory that no other process uses.
// They are derived data: whatever is wrong with one, it is set aside and the
// server goes on.
type store struct {
	dir    string
	keep   time.Duration
	size   int64
	clock  clock.Clock
	log    *slog.Logger
	create func(path string) (file, error)

	mu       sync.Mutex
	opened   bool
	segments []*segment // the oldest first; the last one may be written
	current  file       // of the last one; nil = none is open
}

// file is what store needs of an *os.File that it writes.
type file interface {
	WriteAt(b []byte, at int64) (int, error)
	Truncate(size int64) error
	Close() error
}

// openLocked reads the directory, once. What a server of another start left
// unsealed goes on being written.
func (s *store) openLocked() error {
	if s.opened {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	names, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, n := range names { // in the order of names
		number, err := strconv.ParseUint(strings.TrimSuffix(n.Name(), suffix), 10, 64)
		if err != nil || !strings.HasSuffix(n.Name(), suffix) {
			continue
		}
		path := filepath.Join(s.dir, n.Name())
		seg, err := openSegment(number, path)
		if err != nil {
			s.setAside(path, err)
			continue
		}
		s.segments = append(s.segments, seg)
	}
	s.opened = true
	for i, seg := range s.segments {
		if !seg.sealed && i+1 < len(s.segments) {
			s.sealLocked(seg)
		}
	}
	return nil
}

// setAside keeps a damaged file for whoever wants to know; only the last one.
func (s *store) setAside(path string, why error) {
	s.log.Warn("a file of the journey is damaged and set aside", "file", path, "error", why)
	if err := os.Rename(path, filepath.Join(s.dir, "last"+damaged)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("a damaged file of the journey cannot be set aside", "file", path, "error", err)
	}
}

// sealLocked writes the index of a segment. If that fails, the segment is as it
// was, and its index stays in memory.
func (s *store) sealLocked(seg *segment) {
	f, err := s.create(seg.path)
	if err == nil {
		err = errors.Join(seg.seal(f), f.Close())
	}
	if err != nil {
		s.log.Warn("the index of a file of the journey cannot be written", "file", seg.path, "error", err)
	}
}

// append writes records. Entries have offsets from the beginning of b.
func (s *store) append(b []byte, entries []entry, first, last time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.openLocked(); err != nil {
		return err
	}
	seg, err := s.writableLocked(len(b))
	if err != nil {
		return err
	}
	if _, err := s.current.WriteAt(b, seg.size); err != nil {
		// The next write goes to another file: this one may end in half a record.
		s.closeLocked()
		return err
	}
	for _, e := range entries {
		seg.entries = append(seg.entries, e+entry(seg.size))
	}
	seg.size += int64(len(b))
	if seg.first.IsZero() || first.Before(seg.first) {
		seg.first = first
	}
	if last.After(seg.last) {
		seg.last = last
	}
	s.trimLocked(1)
	return nil
}

// writableLocked returns the last segment if it has room for n octets, or a new one.
func (s *store) writableLocked(n int) (*segment, error) {
	if len(s.segments) > 0 {
		seg := s.segments[len(s.segments)-1]
		old := !seg.first.IsZero() && s.clock.Now().Sub(seg.first) > s.keep/segmentShare
		switch {
		case seg.sealed:
		case seg.size+int64(n) > s.segmentSize(), old:
			s.closeLocked()
		case s.current != nil:
			return seg, nil
		default:
			var err error
			s.current, err = s.create(seg.path)
			return seg, err
		}
	}
	next := uint64(1)
	if len(s.segments) > 0 {
		next = s.segments[len(s.segments)-1].number + 1
	}
	seg := &segment{number: next, path: filepath.Join(s.dir, fmt.Sprintf("%016d%s", next, suffix))}
	f, err := s.create(seg.path)
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteAt([]byte(segmentMagic), 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	seg.size = int64(len(segmentMagic))
	s.segments, s.current = append(s.segments, seg), f
	return seg, nil
}

// segmentSize is small where the whole journey is, so that dropping the oldest
// segment does not drop most of it.
func (s *store) segmentSize() int64 {
	return max(minSegmentSize, min(segmentSize, s.size/segmentShare))
}

// closeLocked ends the writing of the last segment.
func (s *store) closeLocked() {
	if s.current != nil {
		if err := s.current.Close(); err != nil {
			s.log.Warn("close a file of the journey", "error", err)
		}
		s.current = nil
	}
	if n := len(s.segments); n > 0 && !s.segments[n-1].sealed {
		s.sealLocked(s.segments[n-1])
	}
}

// trimLocked removes the oldest segments while they are all older than the
// retention or the whole is too large; the newest stay.
func (s *store) trimLocked(stay int) {
	var total int64
	for _, seg := range s.segments {
		total += seg.size
	}
	now := s.clock.Now()
	for len(s.segments) > stay {
		seg := s.segments[0]
		if total <= s.size && now.Sub(seg.last) <= s.keep {
			return
		}
		if err := os.Remove(seg.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("an old file of the journey cannot be removed", "file", seg.path, "error", err)
			return
		}
		total -= seg.size
		s.segments = slices.Delete(s.segments, 0, 1)
	}
}

// trim is for times in which nothing is written: the last segment goes, too.
func (s *store) trim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	stay := 1
	if n := len(s.segments); n > 0 && s.clock.Now().Sub(s.segments[n-1].last) > s.keep {
		s.closeLocked()
		stay = 0
	}
	s.trimLocked(stay)
}

// close leaves the last segment as it is: the next start goes on with it.
func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil
	}
	err := s.current.Close()
	s.current = nil
	return err
}

// find calls fn with the events that have a value, the newest segments first and
// within one the newest first, until it returns false. The lock is not held
// meanwhile, but for looking up: a segment that is removed meanwhile is left out.
func (s *store) find(prefix byte, value string, fn func(Event) bool) error {
	s.mu.Lock()
	if err := s.openLocked(); err != nil {
		s.mu.Unlock()
		return err
	}
	list := slices.Clone(s.segments)
	s.mu.Unlock()
	hash := hashKey(prefix, value)
	for _, seg := range slices.Backward(list) {
		goOn, err := s.findIn(seg, hash, func(e Event) bool { return !e.has(prefix, value) || fn(e) })
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			s.log.Warn("a file of the journey cannot be read", "file", seg.path, "error", err)
		case !goOn:
			return nil
		}
	}
	return nil
}

func (s *store) findIn(seg *segment, hash uint32, fn func(Event) bool) (goOn bool, err error) {
	f, err := os.Open(seg.path)
	if err != nil {
		return true, err
	}
	defer f.Close()
	s.mu.Lock()
	offsets, err := seg.offsets(f, hash)
	s.mu.Unlock()
	if err != nil {
		return true, err
	}
	slices.Sort(offsets)
	offsets = slices.Compact(offsets) // a value may be there twice
	for _, at := range slices.Backward(offsets) {
		e, err := seg.event(f, at)
		if err != nil {
			return true, err
		}
		if !fn(e) {
			return false, nil
		}
	}
	return true, nil
}
