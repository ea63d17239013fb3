package imap

import (
	"context"
	"slices"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// errReadOnly refuses what EXAMINE does not allow.
func errReadOnly() error { return refuse("NOPERM", "The mailbox is open for reading only") }

// cmdStore is STORE (RFC 9051 section 6.4.6, RFC 7162 section 3.1.3).
func (s *session) cmdStore(ctx context.Context, c *call) error {
	set := c.p.Set()
	c.p.SP()
	st := c.p.Store()
	if err := c.p.End(); err != nil {
		return err
	}
	b := s.box
	if b.readOnly() {
		return errReadOnly()
	}
	flags, err := fromFlags(st.Flags)
	if err != nil {
		return err
	}
	if !b.changes(st.Sign, flags) {
		return noPermission()
	}
	if !b.rights.Has(rightsToFlag) {
		st.Silent = false // the client has to see what became of it
	}
	spans, err := b.spans(set, c.UID)
	if err != nil {
		return err
	}
	if st.HasSince {
		s.wantModSeq()
	}
	spans, lowest := s.topmost(b, spans)
	uids := b.uidsOf(spans)
	if len(uids) == 0 {
		return nil
	}
	s.partly(c, lowest)
	if st.HasSince && st.Unchanged == 0 { // every message has changed since
		c.code, c.text = modified(b, uids, c.UID), "Conditional STORE failed"
		return nil
	}
	r, err := s.setFlags(ctx, uids, &st, flags)
	if err != nil {
		return err
	}
	if lowest != 0 {
		slices.Reverse(r.now)
	}
	s.tellStored(r, &st)
	if len(r.modified) > 0 {
		c.code, c.text = modified(b, r.modified, c.UID), "Conditional STORE failed"
		return nil
	}
	return lost(c, len(uids)-len(r.now))
}

// rightsToFlag are the rights to change all flags.
const rightsToFlag = mailstore.RightSeen | mailstore.RightWrite | mailstore.RightTrash

// changes tells whether the rights allow to change one of the flags at least (RFC
// 4314 section 4).
func (b *selection) changes(sign byte, f mailstore.Flags) bool {
	if sign != '+' && sign != '-' {
		return b.rights.Any(rightsToFlag)
	}
	may := b.rights.Changes(f)
	return may.System != 0 || len(may.Keywords) > 0 || f.System == 0 && len(f.Keywords) == 0
}

// stored is the outcome of a STORE.
type stored struct {
	now      []mailstore.Message
	modified []mailstore.UID
	alone    bool // nothing else happened, so that the client is up to date
	others   map[mailstore.UID]bool
}

// setFlags changes flags, and finds out what others did meanwhile.
func (s *session) setFlags(ctx context.Context, uids []mailstore.UID, st *syntax.Store, flags mailstore.Flags) (stored, error) {
	b := s.box
	how := mailstore.ReplaceFlags
	switch st.Sign {
	case '+':
		how = mailstore.AddFlags
	case '-':
		how = mailstore.RemoveFlags
	}
	var r stored
	err := s.change(ctx, "store", func(tx *mailstore.Tx) error {
		rights, err := s.still(&tx.View, mailstore.RightRead)
		if err != nil {
			return err
		}
		c, err := tx.Changes(b.id, b.modseq)
		if err != nil {
			return err
		}
		// The poll tells of new keywords and of contexts.
		r.alone = c.ModSeq == b.modseq && len(flags.Keywords) == 0 && len(b.contexts) == 0
		r.others = b.notMine(c)
		r.now, r.modified, err = tx.SetFlagsAs(rights, b.id, uids, how, flags, mailstore.ModSeq(st.Unchanged))
		return err
	})
	return r, err
}

// tellStored answers for the messages of a STORE and notes what the client knows
// by it.
func (s *session) tellStored(r stored, st *syntax.Store) {
	b := s.box
	for i := range r.now {
		m := &r.now[i]
		if r.alone {
			// Nothing happened that the client does not know of, so that it is up
			// to date again: the next poll has nothing to look for.
			b.modseq = max(b.modseq, m.ModSeq)
			continue
		}
		// A silent STORE says nothing of what another session changed before,
		// so that the next poll has to.
		if !st.Silent || !r.others[m.UID] {
			b.owns(m.UID, m.ModSeq)
		}
	}
	if st.Silent && !s.enabled.condstore {
		return
	}
	for i := range r.now {
		if at, known := b.index(r.now[i].UID); known {
			s.tellMessage(at, &r.now[i], !st.Silent)
		}
	}
}

// modified is the response code for messages that a conditional STORE left.
func modified(b *selection, uids []mailstore.UID, byUID bool) string {
	if byUID {
		return "MODIFIED " + string(syntax.AppendNumbers(nil, uids))
	}
	var seqs []uint32
	for _, uid := range uids {
		if i, ok := b.index(uid); ok {
			seqs = append(seqs, uint32(i+1))
		}
	}
	slices.Sort(seqs)
	return "MODIFIED " + string(syntax.AppendNumbers(nil, seqs))
}

// notMine are the messages whose flags others changed.
func (b *selection) notMine(c mailstore.Changes) map[mailstore.UID]bool {
	others := make(map[mailstore.UID]bool)
	for i := range c.Changed {
		if m := &c.Changed[i]; b.mine[m.UID] != m.ModSeq {
			others[m.UID] = true
		}
	}
	return others
}
