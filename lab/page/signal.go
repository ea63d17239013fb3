package page

import (
	"crypto/rand"
	"sync"
)

// signal wakes all who wait for a change.
type signal struct {
	mu      sync.Mutex
	version int
	changed chan struct{}
}

func newSignal() *signal { return &signal{changed: make(chan struct{})} }

func (s *signal) raise() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	close(s.changed)
	s.changed = make(chan struct{})
}

// state is the version, and what closes with the next one.
func (s *signal) state() (version int, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version, s.changed
}

// random is crypto/rand, which never fails.
type random struct{}

func (random) Read(b []byte) (int, error) { return rand.Read(b) }
