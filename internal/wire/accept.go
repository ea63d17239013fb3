package wire

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
	// refusalsPerTurn is how many waiting connections are refused between two
	// back-offs when file descriptors have run out.
	refusalsPerTurn = 64
	// refusalWait is how long such a turn waits for a connection: Linux reports
	// that descriptors ran out before it looks whether any connection waits.
	refusalWait = 20 * time.Millisecond
	// complainEvery spaces the log lines about a listener that keeps failing.
	complainEvery = time.Minute
)

// accept is the loop of one listener. Its errors are all taken for temporary:
// it waits longer and longer, up to a second, and tries again.
func (s *Server) accept(l net.Listener, p Protocol) {
	var backoff time.Duration
	var complained time.Time
	for {
		raw, err := l.Accept()
		if err == nil {
			backoff = 0
			s.start(raw, p)
			continue
		}
		if s.stopped(l, p, err) {
			return
		}
		if now := s.clock.Now(); complained.IsZero() || now.Sub(complained) >= complainEvery {
			complained = now
			s.log.Error("cannot accept connections", "protocol", p.Name, "address", l.Addr().String(), "err", err)
		}
		if outOfDescriptors(err) {
			s.gate.starve(s.clock)
			s.refuseWaiting(l, p)
		}
		backoff = min(max(2*backoff, minBackoff), maxBackoff)
		if !s.sleep(backoff) {
			return
		}
	}
}

// stopped tells whether an error of Accept is the end of the listener.
func (s *Server) stopped(l net.Listener, p Protocol, err error) bool {
	select {
	case <-s.draining:
		return true
	default:
	}
	if !errors.Is(err, net.ErrClosed) {
		return false
	}
	s.log.Error("listener was closed from outside", "protocol", p.Name, "address", l.Addr().String())
	return true
}

// sleep waits for d; it is false when Shutdown began.
func (s *Server) sleep(d time.Duration) bool {
	t := s.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.Chan():
		return true
	case <-s.draining:
		return false
	}
}

func outOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

// refuseWaiting accepts connections with the descriptor held in reserve and
// refuses them, so that their clients learn at once to come again later.
func (s *Server) refuseWaiting(l net.Listener, p Protocol) {
	bounded, ok := l.(interface{ SetDeadline(time.Time) error })
	if !ok {
		return
	}
	s.reserve.use(func() {
		if bounded.SetDeadline(s.clock.Now().Add(refusalWait)) != nil {
			return
		}
		for range refusalsPerTurn {
			raw, err := l.Accept()
			if err != nil {
				break
			}
			s.refuse(raw, p, "out of resources")
		}
		// An error means that the listener is closed; Accept will say so.
		_ = bounded.SetDeadline(time.Time{})
	})
}

// reserve is one file descriptor that is given up when there is no other.
type reserve struct {
	mu   sync.Mutex
	file *os.File // nil when none could be had
}

func (r *reserve) hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holdLocked()
}

func (r *reserve) holdLocked() {
	if r.file == nil {
		// Without a reserve connections wait instead of being refused.
		r.file, _ = os.Open(os.DevNull)
	}
}

func (r *reserve) releaseLocked() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}

func (r *reserve) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.releaseLocked()
}

// use runs fn while the descriptor is free.
func (r *reserve) use(fn func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.releaseLocked()
	fn()
	r.holdLocked()
}
