package mailstore

import (
	"context"
	"errors"
	"sync"
)

// janitor removes body files that nothing refers to: those whose last
// reference a commit dropped, those of bodies that were released unused, and,
// once after the start, those that a crash left behind. A file goes only when
// no Body holds it and, looked up after that, no committed row names it; a name
// is never used twice, so neither can change back.
type janitor struct {
	work    sync.Mutex // held while a file is judged, and removed
	mu      sync.Mutex
	wake    *sync.Cond
	held    map[string]bool // files of Bodies in use and in the making
	pending []string
	paused  int // Holds: no file is removed
	closed  bool
}

func (j *janitor) init() {
	j.wake = sync.NewCond(&j.mu)
	j.held = make(map[string]bool)
}

// keep notes that a Body uses the file, or will.
func (j *janitor) keep(file string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.held[file] = true
}

// unkeep ends it.
func (j *janitor) unkeep(file string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.held, file)
	if !j.closed {
		j.pending = append(j.pending, file)
		j.wake.Signal()
	}
}

// add has files looked at.
func (j *janitor) add(files ...string) {
	if len(files) == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pending = append(j.pending, files...)
	j.wake.Signal()
}

// pause lets no file be removed (1), or lets it again (-1). It waits for one that
// is being removed.
func (j *janitor) pause(n int) {
	j.work.Lock()
	defer j.work.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.paused += n
	j.wake.Broadcast()
}

// later puts a file off while nothing may be removed.
func (j *janitor) later(file string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.paused > 0 {
		j.pending = append(j.pending, file)
	}
	return j.paused > 0
}

// close ends the janitor after what is pending.
func (j *janitor) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	j.wake.Signal()
}

// next waits for a file to look at; false at the end.
func (j *janitor) next() (string, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.pending) == 0 || j.paused > 0 {
		if j.closed {
			return "", false
		}
		j.wake.Wait()
	}
	file := j.pending[0]
	j.pending = j.pending[1:]
	return file, true
}

// ended tells whether the store is closing.
func (j *janitor) ended() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.closed
}

// isHeld tells whether a Body uses the file, or will.
func (j *janitor) isHeld(file string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.held[file]
}

// Sweep looks for body files that nothing refers to and removes them. Open
// begins one that goes on behind what else the store does.
func (s *Store) Sweep() {
	if !s.views.enter() {
		return
	}
	defer s.views.leave()
	s.sweep()
}

// clean is the janitor's goroutine.
func (s *Store) clean() {
	defer s.tasks.Done()
	s.sweep()
	for {
		file, ok := s.janitor.next()
		if !ok {
			return
		}
		s.cleanFile(file)
	}
}

// sweep looks at every file there is.
func (s *Store) sweep() {
	removed := 0
	err := s.engine.Files(func(file string) bool {
		if s.janitor.ended() {
			return false
		}
		if s.cleanFile(file) {
			removed++
		}
		return true
	})
	if err != nil {
		s.log.Warn("look for body files that nothing refers to", "error", err)
	}
	if removed > 0 {
		s.log.Info("removed body files that nothing referred to", "files", removed)
	}
}

// cleanFile removes a file that nothing refers to, and tells whether it did.
// An error leaves it to the next start.
func (s *Store) cleanFile(file string) bool {
	s.janitor.work.Lock()
	defer s.janitor.work.Unlock()
	if s.janitor.later(file) {
		return false
	}
	select {
	case <-s.failed: // what is committed is not known any more
		return false
	default:
	}
	if s.janitor.isHeld(file) {
		return false
	}
	snap, err := s.engine.Snapshot(context.Background())
	if err == nil {
		_, err = snap.BodyOfFile(file)
		snap.Close()
	}
	switch {
	case err == nil:
		return false
	case !errors.Is(err, ErrNotFound):
		s.log.Warn("look for a body file", "file", file, "error", err)
		return false
	}
	if err := s.engine.RemoveFile(file); err != nil {
		s.log.Warn("remove a body file", "file", file, "error", err)
		return false
	}
	return true
}
