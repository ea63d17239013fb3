package imap

import (
	"errors"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"postrider/mailstore"
)

// selection is the selected mailbox as the client knows it.
type selection struct {
	id       mailstore.MailboxID
	readOnly bool
	uids     []mailstore.UID  // in order; sequence number n is uids[n-1]
	modseq   mailstore.ModSeq // the client was told of changes up to here
	gone     map[mailstore.UID]bool
	mine     map[mailstore.UID]mailstore.ModSeq // changes of flags that the client knows of
	keywords []string                           // that the client was told of, in any order
	saved    []mailstore.UID                    // the result that "$" stands for (RFC 5182)
}

// Select is SELECT and EXAMINE.
func (s *session) Select(name string, options *imap.SelectOptions) (*imap.SelectData, error) {
	defer s.begin()()
	box := newSelection(options.ReadOnly)
	data := &imap.SelectData{}
	var row mailstore.Mailbox
	err := s.srv.o.Store.View(s.ctx, func(v *mailstore.View) error {
		var err error
		if row, err = v.MailboxByName(s.account.ID, name); err != nil {
			return err
		}
		data.FirstUnseenSeqNum, err = box.load(v, row)
		return err
	})
	if err != nil {
		return nil, s.fault("select", err)
	}
	data.NumMessages = uint32(len(box.uids))
	data.UIDNext, data.UIDValidity = imap.UID(row.UIDNext), row.UIDValidity
	data.Flags = box.flagList()
	if !box.readOnly {
		data.PermanentFlags = append(box.flagList(), imap.FlagWildcard)
	}
	if s.engine.EnabledCaps().Has(imap.CapIMAP4rev2) {
		data.List = &imap.ListData{Attrs: useAttrs(row), Delim: '/', Mailbox: row.Name}
	}
	s.box = box
	return data, nil
}

func newSelection(readOnly bool) *selection {
	return &selection{
		readOnly: readOnly,
		gone:     make(map[mailstore.UID]bool),
		mine:     make(map[mailstore.UID]mailstore.ModSeq),
	}
}

// load reads the mailbox as it is. It returns the number of the first message
// without \Seen.
func (b *selection) load(v *mailstore.View, row mailstore.Mailbox) (firstUnseen uint32, err error) {
	box, err := v.Select(row.ID)
	if err != nil {
		return 0, err
	}
	b.id, b.modseq = box.ID, box.ModSeq
	b.uids = slices.Clip(box.UIDs) // shared: what is added goes into a copy
	b.learn(mailstore.Flags{Keywords: box.Keywords})
	return box.FirstUnseen, nil
}

// learn notes keywords for FLAGS responses and reports whether one was new.
func (b *selection) learn(f mailstore.Flags) bool {
	fresh := false
	for _, k := range f.Keywords {
		if len(b.keywords) < maxFlagList && !slices.ContainsFunc(b.keywords, func(have string) bool { return strings.EqualFold(have, k) }) {
			b.keywords = append(b.keywords, k)
			fresh = true
		}
	}
	return fresh
}

// Unselect leaves the mailbox.
func (s *session) Unselect() error {
	defer s.begin()()
	s.box = nil
	return nil
}

// Poll tells the client what happened, at the end of a command.
func (s *session) Poll(w *imapserver.UpdateWriter, allowExpunge bool) error {
	defer s.begin()()
	if s.box == nil {
		return nil
	}
	return s.update(w, allowExpunge)
}

// Idle tells the client what happens until stop is closed (RFC 2177).
func (s *session) Idle(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	s.mu.Lock()
	if s.box == nil || s.account == nil {
		s.mu.Unlock()
		<-stop
		return nil
	}
	// Watching begins before the first look, so that nothing falls between.
	watch := s.srv.o.Store.Watch(s.account.ID, s.box.id)
	s.mu.Unlock()
	defer watch.Close()
	for {
		if err := s.announce(w, stop); err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-watch.C():
		}
	}
}

// announce sends the changes at once, unless IDLE has ended meanwhile.
func (s *session) announce(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-stop:
		return nil
	default:
	}
	if s.box == nil {
		return nil
	}
	if err := s.update(w, true); err != nil {
		return err
	}
	return s.conn.flush()
}

// update asks the store for changes and writes them. Expunges that may not be
// told now wait in gone.
func (s *session) update(w *imapserver.UpdateWriter, allowExpunge bool) error {
	b := s.box
	var c mailstore.Changes
	err := s.srv.o.Store.View(s.ctx, func(v *mailstore.View) error {
		var err error
		if c, err = v.Changes(b.id, b.modseq); err == nil && c.Horizon {
			c, err = b.compare(v)
		}
		return err
	})
	switch {
	case errors.Is(err, mailstore.ErrNotFound):
		// RFC 2180 section 3.2: the mailbox was deleted, so all its messages are.
		c = mailstore.Changes{ModSeq: b.modseq, Expunged: slices.Clone(b.uids)}
	case err != nil:
		return s.fault("changes", err)
	}
	for _, uid := range c.Expunged {
		if _, known := b.index(uid); known {
			b.gone[uid] = true
		}
	}
	if allowExpunge {
		if err := b.tellGone(w.WriteExpunge); err != nil {
			return err
		}
	}
	if err := b.tellArrived(w, c.Arrived); err != nil {
		return err
	}
	if err := b.tellChanged(w, c); err != nil {
		return err
	}
	b.modseq = c.ModSeq
	clear(b.mine)
	return nil
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

// tellGone writes EXPUNGE for all in gone, the last first, so that the numbers
// of the others stay, and forgets them.
func (b *selection) tellGone(write func(seq uint32) error) error {
	if len(b.gone) == 0 {
		return nil
	}
	for i := len(b.uids) - 1; i >= 0; i-- {
		if b.gone[b.uids[i]] {
			if err := write(uint32(i + 1)); err != nil {
				return err
			}
		}
	}
	b.uids = slices.DeleteFunc(slices.Clone(b.uids), func(uid mailstore.UID) bool { return b.gone[uid] })
	clear(b.gone)
	return nil
}

func (b *selection) tellArrived(w *imapserver.UpdateWriter, arrived []mailstore.Message) error {
	before := len(b.uids)
	fresh := false
	for _, m := range arrived {
		if n := len(b.uids); n == 0 || m.UID > b.uids[n-1] {
			b.uids = append(b.uids, m.UID)
			fresh = b.learn(m.Flags) || fresh
		}
	}
	if fresh {
		if err := w.WriteMailboxFlags(b.flagList()); err != nil {
			return err
		}
	}
	if len(b.uids) == before {
		return nil
	}
	return w.WriteNumMessages(uint32(len(b.uids)))
}

func (b *selection) tellChanged(w *imapserver.UpdateWriter, c mailstore.Changes) error {
	fresh := false
	for _, m := range c.Changed {
		fresh = b.learn(m.Flags) || fresh
	}
	if fresh {
		if err := w.WriteMailboxFlags(b.flagList()); err != nil {
			return err
		}
	}
	for _, m := range c.Changed {
		i, known := b.index(m.UID)
		if !known || b.mine[m.UID] == m.ModSeq {
			continue
		}
		if err := w.WriteMessageFlags(uint32(i+1), imap.UID(m.UID), toFlags(m.Flags)); err != nil {
			return err
		}
	}
	return nil
}

// index finds a UID among those that the client knows.
func (b *selection) index(uid mailstore.UID) (int, bool) {
	return slices.BinarySearch(b.uids, uid)
}

// span is a range of indexes into uids.
type span struct{ lo, hi int }

// spans finds the messages of a set, in order (RFC 9051 section 9,
// sequence-set).
func (b *selection) spans(set imap.NumSet) ([]span, error) {
	if imap.IsSearchRes(set) {
		return b.spansOf(b.saved), nil
	}
	var list []span
	switch set := set.(type) {
	case imap.SeqSet:
		for _, r := range set {
			sp, err := b.seqSpan(r)
			if err != nil {
				return nil, err
			}
			list = append(list, sp)
		}
	case imap.UIDSet:
		for _, r := range set {
			list = append(list, b.uidSpan(r))
		}
	}
	return merge(list), nil
}

// seqSpan: a number beyond the last message is the client's mistake, an end
// beyond it is not.
func (b *selection) seqSpan(r imap.SeqRange) (span, error) {
	last := uint32(len(b.uids))
	dynamic := r.Start == 0 || r.Stop == 0
	start, stop := r.Start, r.Stop
	if start == 0 {
		start = last
	}
	if stop == 0 {
		stop = last
	}
	if start > stop {
		start, stop = stop, start
	}
	switch {
	case start == 0:
		return span{}, nil // "*" of an empty mailbox
	case start > last && !dynamic:
		return span{}, bad("No message has that number")
	}
	return span{int(start) - 1, int(min(stop, last))}, nil
}

func (b *selection) uidSpan(r imap.UIDRange) span {
	if len(b.uids) == 0 {
		return span{}
	}
	last := b.uids[len(b.uids)-1]
	start, stop := mailstore.UID(r.Start), mailstore.UID(r.Stop)
	if start == 0 {
		start = last
	}
	if stop == 0 {
		stop = last
	}
	if start > stop {
		start, stop = stop, start
	}
	lo, _ := b.index(start)
	hi, found := b.index(stop)
	if found {
		hi++
	}
	return span{lo, hi}
}

// spansOf finds those of sorted uids that the client still knows.
func (b *selection) spansOf(uids []mailstore.UID) []span {
	var list []span
	for _, uid := range uids {
		if i, ok := b.index(uid); ok {
			list = append(list, span{i, i + 1})
		}
	}
	return merge(list)
}

// merge sorts spans, joins what touches and drops what is empty.
func merge(list []span) []span {
	slices.SortFunc(list, func(a, b span) int { return a.lo - b.lo })
	out := list[:0]
	for _, sp := range list {
		switch n := len(out); {
		case sp.lo >= sp.hi:
		case n > 0 && sp.lo <= out[n-1].hi:
			out[n-1].hi = max(out[n-1].hi, sp.hi)
		default:
			out = append(out, sp)
		}
	}
	return out
}

// uidsOf lists the UIDs of spans.
func (b *selection) uidsOf(spans []span) []mailstore.UID {
	var uids []mailstore.UID
	for _, sp := range spans {
		uids = append(uids, b.uids[sp.lo:sp.hi]...)
	}
	return uids
}

// numbered is one message with its sequence number.
type numbered struct {
	seq uint32
	mailstore.Message
}

// each reads the messages of spans in batches and calls fn for each batch,
// outside of any transaction. It returns how many there are no more.
func (s *session) each(spans []span, fn func([]numbered) error) (missing int, err error) {
	for len(spans) > 0 {
		var now []span
		now, spans = split(spans, batch)
		wanted := 0
		for _, sp := range now {
			wanted += sp.hi - sp.lo
		}
		list, err := s.read(now)
		if err != nil {
			return missing, s.fault("read messages", err)
		}
		missing += wanted - len(list)
		if len(list) == 0 {
			continue
		}
		if err := fn(list); err != nil {
			return missing, err
		}
	}
	return missing, nil
}

// split cuts n messages off the front of spans.
func split(spans []span, n int) (front, rest []span) {
	for i, sp := range spans {
		if size := sp.hi - sp.lo; size < n {
			n -= size
			continue
		}
		front = append(slices.Clone(spans[:i]), span{sp.lo, sp.lo + n})
		rest = slices.Clone(spans[i:])
		rest[0].lo += n
		if rest[0].lo == rest[0].hi {
			rest = rest[1:]
		}
		return front, rest
	}
	return spans, nil
}

// read reads the rows of spans: neighbours, and what is nearly so, at once.
func (s *session) read(spans []span) ([]numbered, error) {
	b := s.box
	var list []numbered
	err := s.srv.o.Store.View(s.ctx, func(v *mailstore.View) error {
		for i := 0; i < len(spans); {
			j := i + 1
			for j < len(spans) && spans[j].lo-spans[j-1].hi <= maxGap {
				j++
			}
			group := spans[i:j]
			i = j
			at := group[0].lo
			err := v.Messages(b.id, b.uids[at], b.uids[group[len(group)-1].hi-1], func(m mailstore.Message) bool {
				for b.uids[at] < m.UID {
					at++
				}
				for at >= group[0].hi {
					group = group[1:]
				}
				if b.uids[at] == m.UID && at >= group[0].lo {
					list = append(list, numbered{uint32(at + 1), m})
				}
				return true
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
}
