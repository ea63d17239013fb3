package mailstore

import (
	"context"
	"errors"
)

// Shortage is an Engine that keeps space for deleting: from now on it calls fn,
// which does not block, whenever it has refused an addition for that.
type Shortage interface{ OnShortage(fn func()) }

// reclaimed is how much of what can be undeleted goes for one shortage.
const reclaimed = 16 << 20

// ease lets go of expunged messages, the oldest first, when space is short,
// until the store is closed.
func (s *Store) ease(short <-chan struct{}) {
	defer s.tasks.Done()
	for {
		select {
		case <-s.stop:
			return
		case <-short:
		}
		freed, err := s.Reclaim(context.Background(), reclaimed)
		switch {
		case err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrFailed):
			s.log.Warn("let go of expunged messages for want of space", "error", err)
		case freed > 0:
			s.log.Warn("expunged messages can no more be brought back: the disk is nearly full", "octets", freed)
		}
	}
}

// watchShortage begins to ease shortages, where the engine tells of them.
func (s *Store) watchShortage() {
	e, ok := s.engine.(Shortage)
	if !ok {
		return
	}
	short := make(chan struct{}, 1)
	e.OnShortage(func() {
		select {
		case short <- struct{}{}:
		default:
		}
	})
	s.tasks.Add(1)
	go s.ease(short)
}
