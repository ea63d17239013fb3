package imap

import (
	"context"
	"errors"
	"io"
	"time"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// maxMulti bounds the messages of one APPEND (RFC 3502).
const maxMulti = 1000

// arriving is a message of APPEND that was received and is not yet stored.
type arriving struct {
	body  *mailstore.Body
	flags mailstore.Flags
	date  time.Time
}

// cmdAppend is APPEND (RFC 9051 section 6.3.12) of one message or of several, all
// or nothing (RFC 3502). They stream into the store.
func (s *session) cmdAppend(ctx context.Context, c *call) error {
	list, name, err := s.receiveAll(ctx, c)
	defer release(list)
	if err != nil {
		return err
	}
	err = s.srv.o.Store.Update(ctx, func(tx *mailstore.Tx) error {
		m, err := s.lookup(&tx.View, name, mailstore.RightInsert)
		if err == nil {
			c.code, err = appendAll(tx, &m, list)
		}
		return err
	})
	if err != nil {
		return s.tryCreate(ctx, "append", name, err)
	}
	count(s.srv.o.Metrics.Appended, len(list))
	if clean, e := mailstore.CleanName(name); e == nil {
		s.tellNormal(name, "", clean)
	}
	return nil
}

// appendAll returns the response code with the UIDs, and none where the user may
// not read the mailbox (RFC 4315 section 3).
func appendAll(tx *mailstore.Tx, m *userBox, list []arriving) (code string, err error) {
	var uids []mailstore.UID
	for _, one := range list {
		uid, err := tx.Append(m.ID, mailstore.NewMessage{Body: one.body, Flags: m.rights.Changes(one.flags), Internal: one.date})
		if err != nil {
			return "", err
		}
		uids = append(uids, uid)
	}
	if !m.rights.Has(mailstore.RightRead) {
		return "", nil
	}
	b := syntax.AppendNumber([]byte("APPENDUID "), m.UIDValidity)
	return string(syntax.AppendNumbers(append(b, ' '), uids)), nil
}

func release(list []arriving) {
	for _, one := range list {
		one.body.Release()
	}
}

// cmdReplace is REPLACE: the new message is there and the old one gone in one
// commit (RFC 8508).
func (s *session) cmdReplace(ctx context.Context, c *call) error {
	number := c.p.SeqNumber()
	c.p.SP()
	if err := c.p.Err(); err != nil {
		return err
	}
	b := s.box
	if b.readOnly() {
		return errReadOnly()
	}
	if !b.may(rightsToMove) { // RFC 8508 section 4
		return noPermission()
	}
	old := mailstore.UID(number)
	switch last := len(b.uids); {
	case number == 0 && last > 0: // "*"
		old = b.uids[last-1]
	case c.UID:
		if _, known := b.index(old); !known {
			return refuse("", "No message has that UID")
		}
	case number == 0 || int(number) > last:
		return bad("No message has that number")
	default:
		old = b.uids[number-1]
	}
	list, name, err := s.receiveAll(ctx, c)
	defer release(list)
	if err != nil {
		return err
	}
	if len(list) != 1 {
		return bad("REPLACE takes one message")
	}
	var gone []mailstore.UID
	var code string
	err = s.srv.o.Store.Update(ctx, func(tx *mailstore.Tx) error {
		m, err := s.lookup(&tx.View, name, mailstore.RightInsert)
		if err != nil {
			return err
		}
		if _, err := s.still(&tx.View, rightsToMove); err != nil { // they may have gone while the message came
			return err
		}
		gone, err = tx.Expunge(b.id, []mailstore.UID{old})
		if err != nil && !errors.Is(err, mailstore.ErrNotFound) { // which means that the selected mailbox was deleted
			return err
		}
		if len(gone) == 0 {
			return refuse("EXPUNGEISSUED", "The message is gone, another session expunged it")
		}
		code, err = appendAll(tx, &m, list)
		return err
	})
	if err != nil {
		return s.tryCreate(ctx, "replace", name, err)
	}
	count(s.srv.o.Metrics.Appended, 1)
	if code != "" {
		s.out.line("* OK [", code, "] Replacement stored")
	}
	s.expunged(gone)
	c.told = true
	return nil
}

// receiveAll reads the mailbox and the messages of APPEND. What it has received
// when it fails it returns too.
func (s *session) receiveAll(ctx context.Context, c *call) (list []arriving, name string, err error) {
	name = s.name(c)
	c.p.SP()
	owner := s.account.ID
	for {
		o := c.p.AppendOptions()
		if !o.Catenate {
			c.p.AtMessage() // its error stays
		}
		if err := c.p.Err(); err != nil {
			return list, name, err
		}
		if err := s.admit(ctx, c, name, &o, len(list), &owner); err != nil {
			return list, name, err
		}
		flags, err := fromFlags(o.Flags)
		if err != nil {
			return list, name, err
		}
		var body *mailstore.Body
		if o.Catenate {
			body, err = s.catenate(ctx, c)
		} else {
			if body, err = s.receive(ctx, c); err == nil {
				c.p = syntax.NewParser(c.Args)
			}
		}
		if err != nil {
			return list, name, err
		}
		list = append(list, arriving{body, flags, o.Date})
		if o.UTF8 {
			c.p.Close()
		}
		if !c.p.More() {
			return list, name, c.p.End()
		}
	}
}

// admit finds out whether there is a place for a message before its octets come.
// With the first it finds out whose place that is.
func (s *session) admit(ctx context.Context, c *call, name string, o *syntax.Append, had int, owner *mailstore.AccountID) error {
	size := int64(0)
	if c.Message != nil {
		size = c.Message.Size
	}
	if err := s.tooManyToAppend(had); err != nil {
		return err
	}
	switch {
	case o.UTF8 && !s.enabled.wide():
		return bad("UTF8 has to be enabled first") // RFC 6855 section 4
	case size == 0 && !o.Catenate:
		return refuse("CANNOT", "A message cannot be empty")
	case size > s.srv.maxSize.Load():
		return s.tooBig()
	}
	if had == 0 {
		if _, err := s.srv.o.Store.MailboxID(ctx, s.account.ID, name); err == nil {
			return s.fault(ctx, "append", s.srv.o.Store.Room(ctx, *owner, size))
		}
		err := s.srv.o.Store.View(ctx, func(v *mailstore.View) error {
			m, err := s.lookup(v, name, mailstore.RightInsert)
			*owner = m.Account
			return err
		})
		if err != nil {
			return s.tryCreate(ctx, "append", name, err)
		}
	}
	return s.fault(ctx, "append", s.srv.o.Store.Room(ctx, *owner, size))
}

// receive reads one message into a body, and then the rest of the command, up to
// its end or the next message.
func (s *session) receive(ctx context.Context, c *call) (*mailstore.Body, error) {
	w := s.srv.o.Store.NewBody()
	defer w.Abort()
	if err := s.receiveInto(ctx, c, w); err != nil {
		return nil, err
	}
	return s.finish(ctx, w)
}

// receiveInto reads the literal that the command stopped at, and then the rest of
// the command, up to its end or the next one.
func (s *session) receiveInto(ctx context.Context, c *call, w io.Writer) error {
	size := c.Message.Size
	s.in.body = true
	defer func() { s.in.body = false }()
	r, err := s.r.Accept(c.Command)
	if err != nil {
		return err
	}
	if size > smallBuffer {
		room := s.srv.large.Get().(*[]byte)
		defer s.srv.large.Put(room)
		s.r.Lend((*room)[:cap(*room)])
		defer s.r.Reclaim()
	}
	src := &counted{r: r}
	_, failed := io.Copy(w, src)
	if src.err != nil {
		s.log.Info("APPEND broke off", "octets", src.n, "of", size)
		return src.err
	}
	if failed != nil { // the store's fault: the rest of the literal is no command
		if _, err := io.Copy(io.Discard, r); err != nil {
			return err
		}
	}
	if err := s.r.Rest(c.Command); err != nil {
		c.Message = nil
		var literal *syntax.LiteralError
		switch {
		case errors.As(err, &literal) && literal.Unasked:
			return &refusal{bad: true, code: "TOOBIG", text: unaskedText}
		case errors.As(err, &literal):
			return refuse("TOOBIG", "The command is too long")
		case errors.Is(err, syntax.ErrBareLF):
			return errBareLF()
		}
		return err
	}
	return s.fault(ctx, "receive message", failed)
}

// finish makes a message of what was written.
func (s *session) finish(ctx context.Context, w *mailstore.BodyWriter) (*mailstore.Body, error) {
	body, err := w.Commit()
	if err != nil {
		return nil, s.fault(ctx, "receive message", err)
	}
	if err := body.Describe(); err != nil {
		body.Release()
		return nil, s.fault(ctx, "receive message", err)
	}
	return body, nil
}

// counted tells errors of the source from those of the target.
type counted struct {
	r   io.Reader
	n   int64
	err error
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}
