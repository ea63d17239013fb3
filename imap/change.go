package imap

import (
	"errors"
	"fmt"
	"io"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"postrider/mailstore"
)

// errShort: the connection ended within a literal.
var errShort = errors.New("the message ends before its announced size")

// errReadOnly refuses what EXAMINE does not allow.
func errReadOnly() error {
	return refuse(imap.ResponseCodeNoPerm, "The mailbox is open for reading only")
}

// Append is APPEND: the message streams into the store.
func (s *session) Append(name string, r imap.LiteralReader, options *imap.AppendOptions) (*imap.AppendData, error) {
	defer s.begin()()
	flags, err := fromFlags(options.Flags)
	if err != nil {
		return nil, err
	}
	if r.Size() == 0 {
		return nil, refuse(imap.ResponseCodeCannot, "A message cannot be empty")
	}
	// Before the octets come, find out whether there is a place for them.
	err = s.srv.o.Store.View(s.ctx, func(v *mailstore.View) error {
		_, err := v.MailboxByName(s.account.ID, name)
		return err
	})
	if err != nil {
		return nil, s.tryCreate("append", err)
	}
	if err := s.srv.o.Store.Room(s.ctx, s.account.ID, r.Size()); err != nil {
		return nil, s.fault("append", err)
	}
	body, err := s.receive(r)
	if errors.Is(err, errShort) { // nobody is there to hear it
		s.log.Info("APPEND broke off", "err", err)
		return nil, refuse(imap.ResponseCodeClientBug, "The message ended early")
	}
	if err != nil {
		return nil, s.fault("receive message", err)
	}
	defer body.Release()
	data := &imap.AppendData{}
	err = s.srv.o.Store.Update(s.ctx, func(tx *mailstore.Tx) error {
		m, err := tx.MailboxByName(s.account.ID, name)
		if err != nil {
			return err
		}
		uid, err := tx.Append(m.ID, mailstore.NewMessage{Body: body, Flags: flags, Internal: options.Time})
		data.UID, data.UIDValidity = imap.UID(uid), m.UIDValidity
		return err
	})
	if err != nil {
		return nil, s.tryCreate("append", err)
	}
	count(s.srv.o.Metrics.Appended, 1)
	return data, nil
}

// receive reads a literal into a body.
func (s *session) receive(r imap.LiteralReader) (*mailstore.Body, error) {
	w := s.srv.o.Store.NewBody()
	defer w.Abort()
	n, err := io.Copy(w, r)
	if err != nil {
		return nil, err
	}
	if n != r.Size() {
		return nil, fmt.Errorf("%w: %d of %d octets", errShort, n, r.Size())
	}
	body, err := w.Commit()
	if err != nil {
		return nil, err
	}
	if err := body.Describe(); err != nil {
		body.Release()
		return nil, err
	}
	return body, nil
}

// tryCreate tells the client that it could create the target (RFC 9051 section
// 6.3.12).
func (s *session) tryCreate(doing string, err error) error {
	if errors.Is(err, mailstore.ErrNotFound) {
		return refuse(imap.ResponseCodeTryCreate, "No such mailbox")
	}
	return s.fault(doing, err)
}

// Store is STORE.
func (s *session) Store(w *imapserver.FetchWriter, set imap.NumSet, change *imap.StoreFlags, _ *imap.StoreOptions) error {
	defer s.begin()()
	b := s.box
	if b.readOnly {
		return errReadOnly()
	}
	flags, err := fromFlags(change.Flags)
	if err != nil {
		return err
	}
	how := mailstore.ReplaceFlags
	switch change.Op {
	case imap.StoreFlagsAdd:
		how = mailstore.AddFlags
	case imap.StoreFlagsDel:
		how = mailstore.RemoveFlags
	}
	spans, err := b.spans(set)
	if err != nil || len(spans) == 0 {
		return err
	}
	uids := b.uidsOf(spans)
	var now []mailstore.Message
	var others map[mailstore.UID]bool
	alone := false
	err = s.change("store", func(tx *mailstore.Tx) error {
		c, err := tx.Changes(b.id, b.modseq)
		if err != nil {
			return err
		}
		alone = c.ModSeq == b.modseq && len(flags.Keywords) == 0 // the poll tells of new keywords
		others = b.notMine(c)
		now, _, err = tx.SetFlags(b.id, uids, how, flags, 0)
		return err
	})
	if err != nil {
		return err
	}
	for _, m := range now {
		if alone {
			// Nothing happened that the client does not know of, so that it is up
			// to date again: the next poll has nothing to look for.
			b.modseq = max(b.modseq, m.ModSeq)
			continue
		}
		// A silent STORE says nothing of what another session changed before,
		// so that the next poll has to.
		if !change.Silent || !others[m.UID] {
			b.mine[m.UID] = m.ModSeq
		}
	}
	if !change.Silent {
		if err := b.tellFlags(w, now); err != nil {
			return err
		}
	}
	return lost(set, len(uids)-len(now))
}

// notMine are the messages whose flags others changed.
func (b *selection) notMine(c mailstore.Changes) map[mailstore.UID]bool {
	others := make(map[mailstore.UID]bool)
	for _, m := range c.Changed {
		if b.mine[m.UID] != m.ModSeq {
			others[m.UID] = true
		}
	}
	return others
}

func (b *selection) tellFlags(w *imapserver.FetchWriter, list []mailstore.Message) error {
	for _, m := range list {
		i, known := b.index(m.UID)
		if !known {
			continue
		}
		out := w.CreateMessage(uint32(i + 1))
		out.WriteUID(imap.UID(m.UID))
		out.WriteFlags(toFlags(m.Flags))
		if err := out.Close(); err != nil {
			return err
		}
	}
	return nil
}

// Copy is COPY: all or nothing (RFC 9051 section 6.4.7).
func (s *session) Copy(set imap.NumSet, dest string) (*imap.CopyData, error) {
	defer s.begin()()
	data, _, err := s.transfer(set, dest, (*mailstore.Tx).Copy)
	return data, err
}

// Move is MOVE: in one commit, so that no message is in both mailboxes or in
// none (RFC 6851).
func (s *session) Move(w *imapserver.MoveWriter, set imap.NumSet, dest string) error {
	defer s.begin()()
	if s.box.readOnly {
		return errReadOnly()
	}
	data, moved, err := s.transfer(set, dest, (*mailstore.Tx).Move)
	if err != nil || data == nil {
		return err
	}
	if err := w.WriteCopyData(data); err != nil {
		return err
	}
	return s.box.expunged(moved, w.WriteExpunge)
}

type transferFunc func(tx *mailstore.Tx, from mailstore.MailboxID, uids []mailstore.UID, to mailstore.MailboxID) (src, dst []mailstore.UID, err error)

// transfer copies or moves. The data are nil where no message was there.
func (s *session) transfer(set imap.NumSet, dest string, do transferFunc) (*imap.CopyData, []mailstore.UID, error) {
	spans, err := s.box.spans(set)
	if err != nil || len(spans) == 0 {
		return nil, nil, err
	}
	uids := s.box.uidsOf(spans)
	var src, dst []mailstore.UID
	var to mailstore.Mailbox
	err = s.srv.o.Store.Update(s.ctx, func(tx *mailstore.Tx) error {
		var err error
		if to, err = tx.MailboxByName(s.account.ID, dest); err != nil {
			return err
		}
		if src, dst, err = do(tx, s.box.id, uids, to.ID); err != nil {
			return err
		}
		return lost(set, len(uids)-len(src))
	})
	if err != nil {
		return nil, nil, s.tryCreate("copy", err)
	}
	if len(src) == 0 {
		return nil, nil, nil
	}
	return &imap.CopyData{UIDValidity: to.UIDValidity, SourceUIDs: uidSet(src), DestUIDs: uidSet(dst)}, src, nil
}

// Expunge is EXPUNGE, UID EXPUNGE and the first half of CLOSE. It removes
// messages that this client knows of: one that it never saw cannot be what it
// meant.
func (s *session) Expunge(w *imapserver.ExpungeWriter, only *imap.UIDSet) error {
	defer s.begin()()
	b := s.box
	if b.readOnly {
		if only != nil {
			return errReadOnly()
		}
		return nil // CLOSE, which expunges nothing then, cannot be told from EXPUNGE
	}
	spans := []span{{0, len(b.uids)}}
	if only != nil {
		var err error
		if spans, err = b.spans(*only); err != nil {
			return err
		}
	}
	var marked []mailstore.UID
	_, err := s.each(merge(spans), func(list []numbered) error {
		for _, m := range list {
			if m.Flags.System&mailstore.Deleted != 0 {
				marked = append(marked, m.UID)
			}
		}
		return nil
	})
	if err != nil || len(marked) == 0 {
		return err
	}
	var gone []mailstore.UID
	err = s.change("expunge", func(tx *mailstore.Tx) error {
		still, err := stillDeleted(tx, b.id, marked)
		if err != nil {
			return err
		}
		gone, err = tx.Expunge(b.id, still)
		return err
	})
	if err != nil {
		return err
	}
	return b.expunged(gone, w.WriteExpunge)
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
func (b *selection) expunged(uids []mailstore.UID, write func(uint32) error) error {
	for _, uid := range uids {
		b.gone[uid] = true
	}
	return b.tellGone(write)
}

// uidSet makes a set of sorted UIDs.
func uidSet(uids []mailstore.UID) imap.UIDSet {
	var set imap.UIDSet
	for _, uid := range uids {
		if n := len(set); n > 0 && set[n-1].Stop+1 == imap.UID(uid) {
			set[n-1].Stop++
			continue
		}
		set = append(set, imap.UIDRange{Start: imap.UID(uid), Stop: imap.UID(uid)})
	}
	return set
}
