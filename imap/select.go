package imap

import (
	"context"
	"math"
	"slices"
	"sort"
	"strconv"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

func (s *session) cmdSelect(ctx context.Context, c *call) error  { return s.open(ctx, c, false) }
func (s *session) cmdExamine(ctx context.Context, c *call) error { return s.open(ctx, c, true) }

// open is SELECT and EXAMINE (RFC 9051 section 6.3.2, RFC 7162 section 3.2.5).
func (s *session) open(ctx context.Context, c *call, readOnly bool) error {
	name := s.name(c)
	params := c.p.SelectParams()
	if err := c.p.End(); err != nil {
		return err
	}
	switch q := params.QResync; {
	case q != nil && !s.enabled.qresync:
		return bad("QRESYNC has to be enabled first")
	case q != nil && q.Seqs != nil && s.enabled.uidonly: // RFC 9586 section 3
		return &refusal{bad: true, code: "UIDREQUIRED", text: "Message numbers are off: tell UIDs alone"}
	}
	if s.box != nil {
		s.box = nil
		s.out.line("* OK [CLOSED] Previous mailbox is now closed")
	}
	if params.CondStore {
		s.enabled.condstore = true
	}
	box := &selection{examined: readOnly}
	var now mailstore.Selected
	var since mailstore.Changes
	var gone []syntax.Range
	err := s.view(ctx, "select", func(v *mailstore.View) error {
		row, err := s.lookup(v, name, mailstore.RightRead)
		if err != nil {
			return err
		}
		if now, err = v.Select(row.ID); err != nil {
			return err
		}
		now.Name, now.SpecialUse = row.Name, row.SpecialUse
		box.account, box.rights = row.Account, row.rights
		box.id, box.name, box.validity, box.modseq = now.ID, now.Name, now.UIDValidity, now.ModSeq
		box.uids = slices.Clip(now.UIDs) // shared: what is added goes into a copy
		box.learn(now.Keywords)
		if q := params.QResync; q != nil && q.Validity == now.UIDValidity {
			since, gone, err = box.missed(v, q)
		}
		return err
	})
	if err != nil {
		return err
	}
	box.resets = s.srv.resets.of(s.account.ID, box.id)
	s.box = box
	s.tellSelected(name, &now)
	if params.QResync != nil {
		s.tellMissed(gone, &since)
	}
	c.code = "READ-WRITE"
	if box.readOnly() {
		c.code = "READ-ONLY"
	}
	return nil
}

// tellSelected writes what a client is told of a mailbox that it opens by a name.
func (s *session) tellSelected(given string, now *mailstore.Selected) {
	box := s.box
	out := appendNumbered(s.out.begin(), len(box.uids), "EXISTS")
	if !s.enabled.rev2 {
		out = append(out, "* 0 RECENT\r\n"...)
		if now.FirstUnseen > 0 {
			out = append(out, "* OK [UNSEEN "...)
			out = syntax.AppendNumber(out, now.FirstUnseen)
			out = append(out, "] First unseen message\r\n"...)
		}
	}
	number := func(code string, n uint64, text string) {
		out = append(out, "* OK ["...)
		out = append(out, code...)
		out = append(out, ' ')
		out = strconv.AppendUint(out, n, 10)
		out = append(out, "] "...)
		out = append(out, text...)
		out = append(out, '\r', '\n')
	}
	number("UIDVALIDITY", uint64(now.UIDValidity), "UIDs valid")
	number("UIDNEXT", uint64(now.UIDNext), "Predicted next UID")
	number("HIGHESTMODSEQ", uint64(now.ModSeq), "Highest mod-sequence")
	out = append(out, "* OK [MAILBOXID ("...)
	out = append(out, mailboxID(now.ID)...)
	out = append(out, ")] Unique for ever\r\n* OK [URLMECH "+internal+"] Mechanisms of URLAUTH\r\n* FLAGS "...)
	out = appendFlags(out, box.flagList(), "")
	out = box.appendPermanent(append(out, '\r', '\n'))
	out = append(out, '\r', '\n')
	if s.enabled.rev2 {
		out = append(out, "* LIST ("...)
		out = append(out, useOf(&now.Mailbox)...)
		out = append(out, `) "/" `...)
		out = syntax.AppendMailbox(out, now.Name, true)
		if given != now.Name {
			out = appendOldName(out, given, true)
		}
		out = append(out, '\r', '\n')
	}
	s.out.end(out)
}

// missed finds what happened since a client last looked, as far as that is of
// messages which it knows or which are new; gone are those that are not there any more.
func (b *selection) missed(v *mailstore.View, q *syntax.QResync) (c mailstore.Changes, gone []syntax.Range, err error) {
	if c, err = v.Changes(b.id, mailstore.ModSeq(q.ModSeq)); err != nil {
		return c, nil, err
	}
	known := ordered(q.Known)
	has := func(uid mailstore.UID) bool { return known == nil || within(known, uint32(uid)) }
	if c.Horizon {
		if c, err = b.since(v, mailstore.ModSeq(q.ModSeq)); err != nil {
			return c, nil, err
		}
		// Of what is not there any more, all that the client may know, but for the
		// front where it told us what it has (RFC 7162 section 3.2.5.2).
		gone = b.absent(known, c.UIDNext, b.common(q))
	} else {
		gone = rangesOf(slices.DeleteFunc(c.Expunged, func(uid mailstore.UID) bool { return !has(uid) }))
	}
	if known != nil {
		c.Changed = slices.DeleteFunc(c.Changed, func(m mailstore.Message) bool { return !has(m.UID) })
		c.Arrived = slices.DeleteFunc(c.Arrived, func(m mailstore.Message) bool { return !has(m.UID) })
	}
	return c, gone, nil
}

// since finds changed messages by looking at all of them.
func (b *selection) since(v *mailstore.View, m mailstore.ModSeq) (mailstore.Changes, error) {
	row, err := v.Mailbox(b.id)
	c := mailstore.Changes{ModSeq: row.ModSeq, UIDNext: row.UIDNext}
	if err != nil {
		return c, err
	}
	return c, v.Messages(b.id, 1, 0, func(one mailstore.Message) bool {
		if one.ModSeq > m {
			c.Changed = append(c.Changed, one)
		}
		return true
	})
}

// absent lists the UIDs in known (nil = all), which is in order, from after on that no
// message has.
func (b *selection) absent(known []syntax.Range, next, after mailstore.UID) []syntax.Range {
	if known == nil {
		known = []syntax.Range{{First: 1, Last: math.MaxUint32}}
	}
	var gone []syntax.Range
	for _, r := range known {
		uid, last := max(mailstore.UID(r.First), after+1), min(mailstore.UID(r.Last), next-1)
		at, _ := b.index(uid)
		for _, there := range b.uids[at:] {
			if there > last {
				break
			}
			if uid < there {
				gone = append(gone, syntax.Range{First: uint32(uid), Last: uint32(there - 1)})
			}
			uid = there + 1
		}
		if uid <= last {
			gone = append(gone, syntax.Range{First: uint32(uid), Last: uint32(last)})
		}
	}
	return gone
}

// rangesOf joins neighbours.
func rangesOf(uids []mailstore.UID) []syntax.Range {
	var list []syntax.Range
	for _, uid := range uids {
		if n := len(list); n > 0 && list[n-1].Last+1 == uint32(uid) {
			list[n-1].Last++
			continue
		}
		list = append(list, syntax.Range{First: uint32(uid), Last: uint32(uid)})
	}
	return list
}

// common is the last UID up to which the client has what we have: the highest
// one that it gives a right number for.
func (b *selection) common(q *syntax.QResync) mailstore.UID {
	seqs, uids := q.Seqs, q.UIDs
	best := mailstore.UID(0)
	for len(seqs) > 0 && len(uids) > 0 {
		seq, uid := seqs[0].First, uids[0].First
		if int(seq) <= len(b.uids) && b.uids[seq-1] == mailstore.UID(uid) {
			best = max(best, mailstore.UID(uid))
		}
		n := min(seqs[0].Last-seq, uids[0].Last-uid)
		if seqs[0].Last < seq || uids[0].Last < uid {
			break
		}
		if last := seq + n; n > 0 && int(last) <= len(b.uids) && b.uids[last-1] == mailstore.UID(uid+n) {
			best = max(best, mailstore.UID(uid+n))
		}
		seqs, uids = advance(seqs, n), advance(uids, n)
	}
	return best
}

// advance drops n+1 numbers from the front of ranges.
func advance(ranges []syntax.Range, n uint32) []syntax.Range {
	r := ranges[0]
	if r.Last-r.First == n {
		return ranges[1:]
	}
	rest := slices.Clone(ranges)
	rest[0].First += n + 1
	return rest
}

// ordered sorts ranges and turns those that are the wrong way round.
func ordered(ranges []syntax.Range) []syntax.Range {
	for i, r := range ranges {
		if r.First > r.Last {
			ranges[i] = syntax.Range{First: r.Last, Last: r.First}
		}
	}
	slices.SortFunc(ranges, func(a, b syntax.Range) int { return int(int64(a.First) - int64(b.First)) })
	out := ranges[:0]
	for _, r := range ranges {
		if n := len(out); n > 0 && r.First <= out[n-1].Last {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// within tells whether n is in ordered ranges.
func within(ranges []syntax.Range, n uint32) bool {
	i := sort.Search(len(ranges), func(i int) bool { return ranges[i].Last >= n })
	return i < len(ranges) && ranges[i].First <= n
}

// tellMissed writes the answer to QRESYNC: what is gone, and then what changed.
func (s *session) tellMissed(gone []syntax.Range, c *mailstore.Changes) {
	s.tellVanished("(EARLIER) ", gone)
	list := append(c.Arrived, c.Changed...)
	slices.SortFunc(list, func(a, b mailstore.Message) int { return int(int64(a.UID) - int64(b.UID)) })
	for i := range list {
		if at, ok := s.box.index(list[i].UID); ok {
			s.tellMessage(at, &list[i], true)
		}
	}
}

// cmdUnselect leaves the mailbox (RFC 3691).
func (s *session) cmdUnselect(_ context.Context, c *call) error {
	if err := c.p.End(); err != nil {
		return err
	}
	s.box = nil
	return nil
}
