package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"postrider/mailstore"
)

// ErrPanic is what Together returns for a function whose Update panicked.
var ErrPanic = errors.New("panic")

// Together runs functions in one commit, in order: another one keeps the writer busy
// until they wait. It returns what each Update returned, and what that of the one in
// front did.
func Together(s *mailstore.Store, fns ...func(tx *mailstore.Tx) error) (errs []error, front error) {
	started, proceed := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		front = s.Update(context.Background(), func(*mailstore.Tx) error {
			close(started)
			<-proceed
			return nil
		})
	})
	<-started
	errs = make([]error, len(fns))
	for i, fn := range fns {
		before := s.Waiting()
		wg.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					errs[i] = fmt.Errorf("%w: %v", ErrPanic, r)
				}
			}()
			errs[i] = s.Update(context.Background(), fn)
		})
		for s.Waiting() == before {
			runtime.Gosched()
		}
	}
	close(proceed)
	wg.Wait()
	return errs, front
}
