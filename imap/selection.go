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
	account  mailstore.AccountID                // whose it is
	rights   mailstore.Rights                   // of this user
	examined bool                               // opened by EXAMINE
	uids     []mailstore.UID                    // in order; sequence number n is uids[n-1]. Shared: never changed in place
	modseq   mailstore.ModSeq                   // the client was told of changes up to here
	gone     map[mailstore.UID]bool             // expunged, and the client was not told
	floor    mailstore.ModSeq                   // before the first of gone was
	mine     map[mailstore.UID]mailstore.ModSeq // changes of flags that the client knows of
	keywords []string                           // that the client was told of, in any order
	saved    []mailstore.UID                    // the result that "$" stands for (RFC 5182)
	contexts []*searchContext                   // results that are kept up to date
	resets   uint32                             // of its access key, that the client knows of
}

// readOnly tells whether the user can change nothing here: by how it was opened or by
// his rights.
func (b *selection) readOnly() bool { return b.examined || !b.rights.Any(rightsToWrite) }

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
	list, beyond := b.resolve(set, byUID)
	if beyond {
		return nil, bad("No message has that number")
	}
	return list, nil
}

// lenient is spans for search keys, where numbers beyond the last message name
// nothing (RFC 7377 section 2).
func (b *selection) lenient(set syntax.Set, byUID bool) []span {
	list, _ := b.resolve(set, byUID)
	return list
}

// resolve finds the messages of a set; beyond: a number in it is that of none.
func (b *selection) resolve(set syntax.Set, byUID bool) (list []span, beyond bool) {
	if set.Saved {
		return b.spansOf(b.saved), false
	}
	list = make([]span, 0, len(set.Ranges))
	for _, r := range set.Ranges {
		if byUID {
			list = append(list, b.uidSpan(r))
			continue
		}
		sp, none := b.seqSpan(r)
		list = append(list, sp)
		beyond = beyond || none
	}
	return merge(list), beyond
}

// seqSpan: a number beyond the last message is the client's mistake, an end
// beyond it is not.
func (b *selection) seqSpan(r syntax.Range) (sp span, beyond bool) {
	last := uint32(len(b.uids))
	start, stop := bounds(r, last)
	switch {
	case start == 0: // "*" of an empty mailbox
		return span{}, false
	case start > last && r.First != 0 && r.Last != 0:
		return span{}, true
	}
	return span{int(start) - 1, int(min(stop, last))}, false
}

func (b *selection) uidSpan(r syntax.Range) span {
	if len(b.uids) == 0 {
		return span{}
	}
	start, stop := bounds(r, uint32(b.uids[len(b.uids)-1]))
	lo, _ := b.index(mailstore.UID(start))
	hi, found := b.index(mailstore.UID(stop))
	if found {
		hi++
	}
	return span{lo, hi}
}

// bounds are the ends of a range, the lower one first, where "*" is last.
func bounds(r syntax.Range, last uint32) (start, stop uint32) {
	start, stop = r.First, r.Last
	if start == 0 {
		start = last
	}
	if stop == 0 {
		stop = last
	}
	return min(start, stop), max(start, stop)
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
