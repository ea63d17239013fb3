package imap

import (
	"context"
	"errors"

	"postrider/mailstore"
)

// cmdExpunge is EXPUNGE and UID EXPUNGE (RFC 4315). It removes messages that
// this client knows of: one that it never saw cannot be what it meant.
func (s *session) cmdExpunge(ctx context.Context, c *call) error {
	spans := s.box.everything()
	if c.UID {
		var err error
		if spans, err = s.set(c); err != nil {
			return err
		}
	}
	if err := c.p.End(); err != nil {
		return err
	}
	if s.box.readOnly() {
		return errReadOnly()
	}
	if !s.box.may(mailstore.RightExpunge) {
		return noPermission()
	}
	gone, lowest, err := s.expunge(ctx, spans, c.UID)
	if err != nil {
		return err
	}
	s.partly(c, lowest)
	s.expunged(gone)
	c.told = len(gone) > 0
	return nil
}

// cmdClose is CLOSE: it expunges without a word, where the mailbox was opened by
// SELECT, and leaves it (RFC 9051 section 6.4.1).
func (s *session) cmdClose(ctx context.Context, c *call) error {
	if err := c.p.End(); err != nil {
		return err
	}
	if s.box.may(mailstore.RightExpunge) {
		if _, _, err := s.expunge(ctx, s.box.everything(), false); err != nil {
			return err
		}
	}
	s.box = nil
	return nil
}

// expunge removes those of spans that have \Deleted. With limited, and where they
// are more than one command takes, it removes the last ones, and returns the lowest UID
// of these.
func (s *session) expunge(ctx context.Context, spans []span, limited bool) (gone []mailstore.UID, lowest mailstore.UID, err error) {
	b := s.box
	var marked []mailstore.UID
	err = s.view(ctx, "expunge", func(v *mailstore.View) error {
		return b.scan(b.narrow(v, mailstore.ColumnFlags), spans, func(_ int, d *mailstore.Described) bool {
			if d.Flags.System&mailstore.Deleted != 0 {
				marked = append(marked, d.UID)
			}
			return true
		})
	})
	if err != nil || len(marked) == 0 {
		return nil, 0, err
	}
	if most := s.srv.o.MessageLimit; limited && most > 0 && len(marked) > most {
		marked = marked[len(marked)-most:]
		lowest = marked[0]
	}
	err = s.change(ctx, "expunge", func(tx *mailstore.Tx) error {
		if _, err := s.still(&tx.View, mailstore.RightExpunge); err != nil {
			return err
		}
		still, err := stillDeleted(tx, b.id, marked)
		if err != nil {
			return err
		}
		gone, err = tx.Expunge(b.id, still)
		return err
	})
	return gone, lowest, err
}

// stillDeleted are those of uids that have \Deleted inside the transaction.
func stillDeleted(tx *mailstore.Tx, m mailstore.MailboxID, uids []mailstore.UID) ([]mailstore.UID, error) {
	var still []mailstore.UID
	for _, uid := range uids {
		row, err := tx.Message(m, uid)
		if errors.Is(err, mailstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if row.Flags.System&mailstore.Deleted != 0 {
			still = append(still, uid)
		}
	}
	return still, nil
}

// expunged tells the client of messages that its own command removed.
func (s *session) expunged(uids []mailstore.UID) {
	s.contextsLose(uids)
	for _, uid := range uids {
		s.box.goes(uid)
	}
	s.tellGone()
}
