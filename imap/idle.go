package imap

import (
	"context"
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
	look := func() error {
		if s.box != nil {
			if err := s.update(ctx, true); err != nil {
				return err
			}
		}
		return s.tellNotes(ctx)
	}
	s.in.onWake = func() error {
		if err := look(); err != nil {
			return err
		}
		return s.out.flush()
	}
	defer func() { s.in.onWake = nil }()
	// Watching begins before the first look, so that nothing falls between.
	if s.box != nil {
		var watch *mailstore.Watcher = s.srv.o.Store.WatchFunc(s.account.ID, s.box.id, s.in.wake)
		defer watch.Close()
	}
	if s.noted != nil {
		s.noted.Notify(s.in.wake)
		defer s.noted.Notify(nil)
	}
	if err := look(); err != nil {
		return err
	}
	s.in.expect()
	line, err := s.r.Line()
	switch {
	case err == syntax.ErrBareLF:
		return bad("A line ends in CR LF; yours had a bare LF")
	case err != nil:
		return err
	case !strings.EqualFold(string(line), "DONE"):
		return bad("DONE ends IDLE")
	}
	return nil
}
