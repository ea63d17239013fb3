package imap

import (
	"context"
	"errors"
	"strconv"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// tryCreate tells the client that it could create the target (RFC 9051 section
// 6.3.12).
func (s *session) tryCreate(ctx context.Context, doing, name string, err error) error {
	if errors.Is(err, mailstore.ErrNotFound) && !reserved(normal(name)) {
		return refuse("TRYCREATE", "No such mailbox")
	}
	return s.fault(ctx, doing, err)
}

// cmdCopy is COPY: all or nothing (RFC 9051 section 6.4.7).
func (s *session) cmdCopy(ctx context.Context, c *call) error {
	code, _, err := s.transfer(ctx, c, (*mailstore.Tx).CopyAs, true)
	c.code = code
	return err
}

// cmdMove is MOVE: in one commit, so that no message is in both mailboxes or in
// none (RFC 6851).
func (s *session) cmdMove(ctx context.Context, c *call) error {
	if s.box.readOnly() {
		return errReadOnly()
	}
	if !s.box.may(rightsToMove) { // RFC 6851 section 4.6
		return noPermission()
	}
	code, moved, err := s.transfer(ctx, c, (*mailstore.Tx).MoveAs, false)
	if err != nil || len(moved) == 0 {
		return err
	}
	if code != "" {
		s.out.line("* OK [", code, "] Moved")
	}
	s.expunged(moved)
	c.told = true
	return nil
}

// rightsToMove are those to a mailbox that messages leave.
const rightsToMove = mailstore.RightRead | mailstore.RightTrash | mailstore.RightExpunge

type transferFunc func(tx *mailstore.Tx, rights mailstore.Rights, from mailstore.MailboxID, uids []mailstore.UID, to mailstore.MailboxID) (src, dst []mailstore.UID, err error)

// transfer copies or moves. src are the messages that were there, and the code
// is "" where none was. Of more messages than one command takes, it takes the last
// ones, or with whole none.
func (s *session) transfer(ctx context.Context, c *call, do transferFunc, whole bool) (code string, src []mailstore.UID, err error) {
	set := c.p.Set()
	c.p.SP()
	dest := s.name(c)
	if err := c.p.End(); err != nil {
		return "", nil, err
	}
	spans, err := s.box.spans(set, c.UID)
	if err != nil {
		return "", nil, err
	}
	if len(spans) == 0 { // a target that is missing is told all the same
		err := s.srv.o.Store.View(ctx, func(v *mailstore.View) error {
			_, err := s.lookup(v, dest, mailstore.RightInsert)
			return err
		})
		if err != nil {
			err = s.tryCreate(ctx, "copy", dest, err)
		}
		return "", nil, err
	}
	spans, lowest := s.topmost(s.box, spans)
	if lowest != 0 && whole {
		return "", nil, s.refuseMany(lowest)
	}
	uids := s.box.uidsOf(spans)
	need := rightsToMove
	if whole {
		need = mailstore.RightRead
	}
	var dst []mailstore.UID
	var to userBox
	err = s.srv.o.Store.Update(ctx, func(tx *mailstore.Tx) error {
		var err error
		if to, err = s.lookup(&tx.View, dest, mailstore.RightInsert); err != nil {
			return err
		}
		if _, err := s.still(&tx.View, need); err != nil {
			return err
		}
		src, dst = nil, nil
		if _, err = tx.Mailbox(s.box.id); err == nil {
			src, dst, err = do(tx, to.rights, s.box.id, uids, to.ID)
		} else if errors.Is(err, mailstore.ErrNotFound) {
			err = nil // the selected mailbox was deleted, and all its messages with it
		}
		if err != nil {
			return err
		}
		return lost(c, len(uids)-len(src))
	})
	if err != nil {
		return "", nil, s.tryCreate(ctx, "copy", dest, err)
	}
	s.partly(c, lowest)
	if len(src) == 0 {
		return "", nil, nil
	}
	if !to.rights.Has(mailstore.RightRead) { // RFC 4315 section 3: it would tell of the mailbox
		return "", src, nil
	}
	b := append([]byte("COPYUID "), strconv.FormatUint(uint64(to.UIDValidity), 10)...)
	b = syntax.AppendNumbers(append(b, ' '), src)
	b = syntax.AppendNumbers(append(b, ' '), dst)
	return string(b), src, nil
}
