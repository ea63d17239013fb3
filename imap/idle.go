package imap

import (
	"context"
	"errors"
	"strings"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// cmdIdle is IDLE (RFC 2177). The goroutine of the connection waits in a read;
// commits wake it, and it tells the client from within that read.
func (s *session) cmdIdle(ctx context.Context, c *call) error {
	if err := c.p.End(); err != nil {
		return err
	}
	s.out.line("+ idling")
	if s.notify != nil { // which says what is to be told (RFC 5465 section 4)
		n := s.notify
		n.idle = true // section 6.1.2: IDLE is a command that allows to tell of expunges
		defer func() { n.idle = false }()
		if err := s.tellNotified(ctx, true); err != nil {
			return err
		}
	} else {
		stop, err := s.beginIdle(ctx)
		defer stop()
		if err != nil {
			return err
		}
	}
	s.in.expect()
	line, err := s.r.Line()
	switch {
	case errors.Is(err, syntax.ErrBareLF):
		return errBareLF()
	case err != nil:
		return err
	case !strings.EqualFold(string(line), "DONE"):
		return bad("DONE ends IDLE")
	}
	return nil
}

// beginIdle tells what has happened and makes commits wake the connection, until
// the function that it returns is called.
func (s *session) beginIdle(ctx context.Context) (stop func(), err error) {
	look := func() error {
		if err := s.learnRights(ctx); err != nil {
			return s.unlessRefused(err)
		}
		if s.box != nil {
			if err := s.update(ctx, true); err != nil {
				return err
			}
		}
		s.tellReset()
		return s.tellNotes(ctx)
	}
	s.in.onWake = func() error {
		if err := look(); err != nil {
			return err
		}
		return s.out.flush()
	}
	// Watching begins before the first look, so that nothing falls between.
	var watch *mailstore.Watcher
	forget := func() {}
	if s.box != nil {
		forget = s.srv.idle.add(s.account.ID, s.in)
		watch = s.srv.o.Store.WatchFunc(s.account.ID, s.box.id, s.in.wake)
	}
	if s.noted != nil {
		s.noted.Notify(s.in.wake)
	}
	stop = func() {
		forget()
		if watch != nil {
			watch.Close()
		}
		if s.noted != nil {
			s.noted.Notify(nil)
		}
		s.in.onWake = nil
	}
	return stop, look()
}
