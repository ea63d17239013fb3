package imap

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// poll tells the client what happened, at the end of a command.
func (s *session) poll(ctx context.Context, c *syntax.Command) error {
	if s.box == nil || s.notify != nil && s.notify.selected == nil { // RFC 5465 section 3.1
		return nil
	}
	// Rights may have been taken away while the command ran.
	switch err := s.learnRights(ctx); {
	case errors.Is(err, errRevoked): // behind the answer to the command
		s.over, s.bye = true, byeRevoked
		return nil
	case err != nil:
		return s.unlessRefused(err)
	}
	// RFC 9051 section 7.5.1: numbers stay while they may be in use.
	allowExpunge := c.UID || commands[c.Name].form != numbers
	switch c.Name {
	case "APPEND", "COPY", "MOVE", "REPLACE": // what came is likely its own (RFC 5465 section 5.2)
		_, err := s.refresh(ctx, allowExpunge)
		return err
	}
	return s.update(ctx, allowExpunge)
}

// update asks the store for changes and writes them. Expunges that may not be
// told now wait in gone. It does not flush.
func (s *session) update(ctx context.Context, allowExpunge bool) error {
	came, err := s.refresh(ctx, allowExpunge)
	if err != nil || came == 0 || s.notify == nil {
		return err
	}
	return s.tellNew(ctx, came)
}

// refresh is update, but for what NOTIFY asks to be told of new messages. It
// returns how many came.
func (s *session) refresh(ctx context.Context, allowExpunge bool) (came int, err error) {
	b := s.box
	var c mailstore.Changes
	var now []mailstore.UID
	err = s.srv.o.Store.View(ctx, func(v *mailstore.View) error {
		var err error
		if c, err = v.Changes(b.id, b.modseq); err == nil && c.Horizon {
			c, err = b.compare(v)
		}
		if err == nil && len(c.Expunged)+len(c.Arrived) > 0 {
			now, err = v.UIDs(b.id)
		}
		return err
	})
	switch {
	case errors.Is(err, mailstore.ErrNotFound):
		// RFC 2180 section 3.2: the mailbox was deleted, so all its messages are.
		c = mailstore.Changes{ModSeq: b.modseq, Expunged: b.uids}
	case err != nil:
		return 0, nil // what it could not tell now it tells another time
	}
	late := len(b.gone) > 0
	for _, uid := range c.Expunged {
		if _, known := b.index(uid); known {
			if len(b.gone) == 0 {
				b.floor = b.modseq
			}
			b.goes(uid)
		}
	}
	s.contextsLose(c.Expunged)
	if allowExpunge {
		s.writeGone()
	}
	came = s.tellArrived(c.Arrived, allowExpunge, now)
	if s.notify == nil || s.notify.selected.flags {
		s.tellChanged(c)
	}
	s.contextsChange(ctx, &c)
	b.modseq = c.ModSeq
	if s.enabled.qresync {
		// RFC 7162 sections 3.2 and 6: what the client may take for known.
		switch {
		case len(b.gone) > 0:
			s.tellModSeq(b.floor, "Expunges are not told yet")
		case late:
			s.tellModSeq(b.modseq, "All was told")
		}
	}
	clear(b.mine)
	return came, s.out.err
}

// tellModSeq writes the HIGHESTMODSEQ of the mailbox.
func (s *session) tellModSeq(m mailstore.ModSeq, text string) {
	s.out.line("* OK [HIGHESTMODSEQ ", strconv.FormatUint(uint64(m), 10), "] ", text)
}

// wantModSeq is for the commands that enable CONDSTORE (RFC 7162 section 3.1).
func (s *session) wantModSeq() {
	if s.enabled.condstore {
		return
	}
	s.enabled.condstore = true
	if s.box != nil {
		s.tellModSeq(s.box.modseq, "Mod-sequences are told from now on")
	}
}

// goes notes that a message is gone of which the client was not told yet.
func (b *selection) goes(uid mailstore.UID) {
	if b.gone == nil {
		b.gone = make(map[mailstore.UID]bool)
	}
	b.gone[uid] = true
}

// owns notes a change of flags that the client knows of.
func (b *selection) owns(uid mailstore.UID, at mailstore.ModSeq) {
	if b.mine == nil {
		b.mine = make(map[mailstore.UID]mailstore.ModSeq)
	}
	b.mine[uid] = at
}

// compare makes the changes where the record of expunges does not reach back.
func (b *selection) compare(v *mailstore.View) (mailstore.Changes, error) {
	row, err := v.Mailbox(b.id)
	if err != nil {
		return mailstore.Changes{}, err
	}
	c := mailstore.Changes{ModSeq: row.ModSeq, UIDNext: row.UIDNext}
	i := 0
	err = v.Messages(b.id, 1, 0, func(m mailstore.Message) bool {
		for i < len(b.uids) && b.uids[i] < m.UID {
			c.Expunged = append(c.Expunged, b.uids[i])
			i++
		}
		switch {
		case i == len(b.uids):
			c.Arrived = append(c.Arrived, m)
		case b.uids[i] == m.UID:
			i++
			if m.ModSeq > b.modseq {
				c.Changed = append(c.Changed, m)
			}
		}
		return true
	})
	c.Expunged = append(c.Expunged, b.uids[i:]...)
	return c, err
}

// tellGone writes EXPUNGE, or VANISHED, for all in gone and forgets them.
func (s *session) tellGone() {
	s.writeGone()
	s.box.forgetGone()
}

// writeGone writes EXPUNGE, or VANISHED, for all in gone.
func (s *session) writeGone() {
	b := s.box
	if len(b.gone) == 0 {
		return
	}
	gone := slices.Sorted(maps.Keys(b.gone))
	if s.enabled.qresync || s.enabled.uidonly { // RFC 7162 section 3.2.10
		s.tellVanished("", rangesOf(gone))
		return
	}
	// The last first, so that the numbers of the others stay.
	for _, uid := range slices.Backward(gone) {
		if i, known := b.index(uid); known {
			s.out.end(appendNumbered(s.out.begin(), i+1, "EXPUNGE"))
		}
	}
}

// forgetGone takes the messages in gone out of the list.
func (b *selection) forgetGone() {
	if len(b.gone) == 0 {
		return
	}
	rest := make([]mailstore.UID, 0, max(len(b.uids)-len(b.gone), 0))
	for _, uid := range b.uids {
		if !b.gone[uid] {
			rest = append(rest, uid)
		}
	}
	b.uids, b.gone = rest, nil
}

// tellVanished writes VANISHED, if anything did.
func (s *session) tellVanished(earlier string, gone []syntax.Range) {
	if len(gone) == 0 {
		return
	}
	out := append(s.out.beginLarge(), "* VANISHED "...)
	out = append(out, earlier...)
	for i, r := range gone {
		if i > 0 {
			out = append(out, ',')
		}
		out = syntax.AppendRange(out, r.First, r.Last)
	}
	s.out.end(append(out, '\r', '\n'))
}

func appendNumbered(out []byte, n int, what string) []byte {
	out = append(out, "* "...)
	out = strconv.AppendInt(out, int64(n), 10)
	out = append(out, ' ')
	out = append(out, what...)
	return append(out, '\r', '\n')
}

// tellArrived writes EXISTS for messages that came and adds them to the list;
// told: those in gone are told and leave it. now is the list that the store has:
// where that is what the client sees then, it is shared with all who see it.
func (s *session) tellArrived(arrived []mailstore.Message, told bool, now []mailstore.UID) (came int) {
	b := s.box
	last := mailstore.UID(0)
	if n := len(b.uids); n > 0 {
		last = b.uids[n-1]
	}
	fresh := false
	for i := range arrived {
		if arrived[i].UID > last {
			came++
			fresh = b.learn(arrived[i].Flags.Keywords) || fresh
		}
	}
	gone := len(b.gone)
	switch {
	case now != nil && (told || gone == 0) && len(now) == len(b.uids)-gone+came:
		b.uids, b.gone = slices.Clip(now), nil
	default:
		if told {
			b.forgetGone()
		}
		for i := range arrived {
			if arrived[i].UID > last {
				b.uids = append(b.uids, arrived[i].UID)
			}
		}
	}
	if fresh {
		s.tellFlagList()
	}
	if came > 0 {
		s.out.end(appendNumbered(s.out.begin(), len(b.uids), "EXISTS"))
	}
	return came
}

// tellFlagList writes the FLAGS response.
func (s *session) tellFlagList() {
	out := append(s.out.begin(), "* FLAGS "...)
	out = appendFlags(out, s.box.flagList(), "")
	s.out.end(append(out, '\r', '\n'))
}

func (s *session) tellChanged(c mailstore.Changes) {
	b := s.box
	fresh := false
	for _, m := range c.Changed {
		fresh = b.learn(m.Flags.Keywords) || fresh
	}
	if fresh {
		s.tellFlagList()
	}
	for i := range c.Changed {
		m := &c.Changed[i]
		at, known := b.index(m.UID)
		if !known || b.gone[m.UID] || b.mine[m.UID] == m.ModSeq {
			continue
		}
		s.tellMessage(at, m, true)
	}
}

// tellMessage writes a FETCH response nobody asked for: with flags, or with the
// mod-sequence alone.
func (s *session) tellMessage(index int, m *mailstore.Message, flags bool) {
	p := fetchPlan{uid: !s.enabled.uidonly, flags: flags, modseq: s.enabled.condstore}
	out := s.appendFetch(s.out.begin(), index, m.UID)
	s.out.end(closeResponse(p.appendRow(out, m, false)))
}

// appendFetch begins a FETCH response, or UIDFETCH (RFC 9586 section 3.3).
func (s *session) appendFetch(out []byte, index int, uid mailstore.UID) []byte {
	out = append(out, "* "...)
	if s.enabled.uidonly {
		out = syntax.AppendNumber(out, uid)
		return append(out, " UIDFETCH ("...)
	}
	out = syntax.AppendNumber(out, index+1)
	return append(out, " FETCH ("...)
}
