package imap

import (
	"slices"
	"strings"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// selection is the selected mailbox as the client knows it.
type selection struct {
	id       mailstore.MailboxID
	name     string // when it was selected
	validity uint32
	readOnly bool
	uids     []mailstore.UID                    // in order; sequence number n is uids[n-1]. Shared: never changed in place
	modseq   mailstore.ModSeq                   // the client was told of changes up to here
	gone     map[mailstore.UID]bool             // expunged, and the client was not told
	floor    mailstore.ModSeq                   // before the first of gone was
	mine     map[mailstore.UID]mailstore.ModSeq // changes of flags that the client knows of
	keywords []string                           // that the client was told of, in any order
	saved    []mailstore.UID                    // the result that "$" stands for (RFC 5182)
	contexts []*searchContext                   // results that are kept up to date
}

// learn notes keywords for FLAGS responses and reports whether one was new.
func (b *selection) learn(keywords []string) bool {
	fresh := false
	for _, k := range keywords {
		if len(b.keywords) < maxFlagList && !slices.ContainsFunc(b.keywords, func(have string) bool { return strings.EqualFold(have, k) }) {
			b.keywords = append(b.keywords, k)
			fresh = true
		}
	}
	return fresh
}

// index finds a UID among those that the client knows.
func (b *selection) index(uid mailstore.UID) (int, bool) {
	return slices.BinarySearch(b.uids, uid)
}

// span is a range of indexes into uids.
type span struct{ lo, hi int }

// everything is all messages.
func (b *selection) everything() []span {
	if len(b.uids) == 0 {
		return nil
	}
	return []span{{0, len(b.uids)}}
}

// spans finds the messages of a set, in order (RFC 9051 section 9,
// sequence-set).
func (b *selection) spans(set syntax.Set, byUID bool) ([]span, error) {
	if set.Saved {
		return b.spansOf(b.saved), nil
	}
	list := make([]span, 0, len(set.Ranges))
	for _, r := range set.Ranges {
		if byUID {
			list = append(list, b.uidSpan(r))
			continue
		}
		sp, err := b.seqSpan(r)
		if err != nil {
			return nil, err
		}
		list = append(list, sp)
	}
	return merge(list), nil
}

// lenient is spans for search keys, where numbers beyond the last message name
// nothing (RFC 7377 section 2).
func (b *selection) lenient(set syntax.Set, byUID bool) []span {
	if set.Saved {
		return b.spansOf(b.saved)
	}
	list := make([]span, 0, len(set.Ranges))
	for _, r := range set.Ranges {
		sp := b.uidSpan(r)
		if !byUID {
			var err error
			if sp, err = b.seqSpan(r); err != nil {
				continue
			}
		}
		list = append(list, sp)
	}
	return merge(list)
}

// seqSpan: a number beyond the last message is the client's mistake, an end
// beyond it is not.
func (b *selection) seqSpan(r syntax.Range) (span, error) {
	last := uint32(len(b.uids))
	dynamic := r.First == 0 || r.Last == 0
	start, stop := r.First, r.Last
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

func (b *selection) uidSpan(r syntax.Range) span {
	if len(b.uids) == 0 {
		return span{}
	}
	last := b.uids[len(b.uids)-1]
	start, stop := mailstore.UID(r.First), mailstore.UID(r.Last)
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

// uidsOf lists the UIDs of spans.
func (b *selection) uidsOf(spans []span) []mailstore.UID {
	if len(spans) == 1 {
		return b.uids[spans[0].lo:spans[0].hi:spans[0].hi]
	}
	var uids []mailstore.UID
	for _, sp := range spans {
		uids = append(uids, b.uids[sp.lo:sp.hi]...)
	}
	return uids
}

// set reads a sequence set and finds its messages.
func (s *session) set(c *call) ([]span, error) {
	set := c.p.Set()
	if err := c.p.Err(); err != nil {
		return nil, err
	}
	return s.box.spans(set, c.UID)
}
