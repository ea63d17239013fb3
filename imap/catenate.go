package imap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// maxParts bounds the parts of one CATENATE.
const maxParts = 100

// catenate puts a message together from literals and parts of messages here
// (RFC 4469). It reads the command up to the parenthesis at its end.
func (s *session) catenate(ctx context.Context, c *call) (*mailstore.Body, error) {
	w := s.srv.o.Store.NewBody()
	defer w.Abort()
	whole := &limited{w: w, left: s.srv.maxSize.Load()}
	for n := 0; ; n++ {
		part := c.p.Part()
		if part.Text {
			c.p.AtMessage() // its error stays
		}
		if err := c.p.Err(); err != nil {
			return nil, err
		}
		if n == maxParts {
			return nil, refuse("LIMIT", fmt.Sprintf("One message is made of %d parts at most", maxParts))
		}
		switch {
		case !part.Text:
			if err := s.copyURL(ctx, part.URL, whole); err != nil {
				return nil, err
			}
		case c.Message.Size > whole.left:
			return nil, s.tooBig()
		default:
			if err := s.receiveInto(ctx, c, whole); err != nil {
				return nil, err
			}
			c.p = syntax.NewParser(c.Args)
		}
		if c.p.Closes() {
			break
		}
		c.p.SP()
	}
	if whole.n == 0 {
		return nil, refuse("CANNOT", "A message cannot be empty")
	}
	return s.finish(ctx, w)
}

func (s *session) tooBig() error {
	return refuse("TOOBIG", fmt.Sprintf("Messages are limited to %d octets", s.srv.maxSize.Load()))
}

// limited writes so much and no more.
type limited struct {
	w       io.Writer
	n, left int64
}

var errTooBig = errors.New("the message is too large")

func (l *limited) Write(p []byte) (int, error) {
	if int64(len(p)) > l.left {
		return 0, errTooBig
	}
	n, err := l.w.Write(p)
	l.n += int64(n)
	l.left -= int64(n)
	return n, err
}

// copyURL appends the part of a message that a URL names. It sets no flag.
func (s *session) copyURL(ctx context.Context, raw string, w *limited) error {
	badURL := refuse("BADURL "+printable(raw), "The URL names no message, or no part of one, that you have here")
	content, err := s.openHere(ctx, raw)
	if isURLError(err) {
		return badURL
	}
	if err != nil {
		return s.fault(ctx, "catenate", err)
	}
	defer content.Close()
	switch {
	case content.absent:
		return badURL
	case content.size > w.left:
		return s.tooBig()
	}
	_, err = io.Copy(w, content.Reader)
	return s.fault(ctx, "catenate", err)
}

// openHere opens what a URL names for the user of the session: relative ones are of what
// the user has (RFC 4469 section 3), absolute ones of that too, or they give access.
func (s *session) openHere(ctx context.Context, raw string) (*urlContent, error) {
	u, err := syntax.ParseURL(raw)
	switch {
	case err != nil:
		return nil, err
	case u.Host != "":
		return s.srv.openURL(ctx, requester{account: s.account.ID}, &u)
	case u.Mailbox != "":
		return s.srv.openOf(ctx, s.account.ID, &u, 0)
	case s.box == nil:
		return nil, errURLContent
	}
	var m mailstore.Message
	err = s.srv.o.Store.View(ctx, func(v *mailstore.View) error {
		box, err := v.Mailbox(s.box.id)
		if err == nil && u.Validity != 0 && u.Validity != box.UIDValidity {
			return mailstore.ErrNotFound
		}
		if err == nil {
			_, err = s.still(v, mailstore.RightRead) // it may have gone while literals came
		}
		if err == nil {
			m, err = v.Message(box.ID, mailstore.UID(u.UID))
		}
		return err
	})
	if errors.Is(err, mailstore.ErrNotFound) {
		return nil, errURLContent
	}
	if err != nil {
		return nil, err
	}
	return s.srv.openPart(ctx, m, &u)
}

// printable is a text as a response code can have it.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f || r == ']' || r == '\\' {
			return '?'
		}
		return r
	}, s[:min(len(s), maxShownURL)])
}

// maxShownURL is how much of a URL a response shows.
const maxShownURL = 1000
