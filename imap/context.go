package imap

import (
	"context"
	"math"
	"slices"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// Limits of the searches whose results a session keeps up to date.
const (
	maxContexts   = 8
	maxContextSum = 1 << 20 // messages in all of them together
)

// searchContext is a search with UPDATE (RFC 5267 section 4.3).
type searchContext struct {
	tag   string
	uid   bool       // results are UIDs
	key   syntax.Key // numbers of messages in it became UIDs
	found []mailstore.UID
	items []syntax.FetchItem // told of messages that come (RFC 5465 section 7)
}

// context finds one by its tag; -1 for none.
func (b *selection) context(tag string) int {
	return slices.IndexFunc(b.contexts, func(x *searchContext) bool { return x.tag == tag })
}

// refuseUpdate says that a result will not be kept up to date (RFC 5267 section
// 4.3.1).
func (s *session) refuseUpdate(tag, why string) {
	out := append(s.out.begin(), "* NO [NOUPDATE "...)
	out = syntax.AppendString(out, tag)
	out = append(out, "] "...)
	s.out.end(append(append(out, why...), '\r', '\n'))
}

// follow keeps the result of a search up to date from now on.
func (s *session) follow(r *result, q *syntax.Search, f *finding) {
	b := f.b
	if f.lowest != 0 {
		s.refuseUpdate(r.tag, "Not all messages were searched")
		return
	}
	sum := len(f.found)
	for _, x := range b.contexts {
		sum += len(x.found)
	}
	if len(b.contexts) >= maxContexts || sum > maxContextSum {
		s.refuseUpdate(r.tag, "Too many contexts")
		return
	}
	x := &searchContext{tag: r.tag, uid: r.uid, items: q.Update, found: make([]mailstore.UID, len(f.found))}
	for i, index := range f.found {
		x.found[i] = b.uids[index]
	}
	x.key = b.fix(q.Key)
	b.contexts = append(b.contexts, x)
}

// fix is a key whose numbers mean what they mean now (RFC 5267 section 4.3).
func (b *selection) fix(k syntax.Key) syntax.Key {
	switch k.Name {
	case "SEQ", "UID":
		if k.Name == "UID" && !k.Set.Saved {
			k.Set.Ranges = b.fixed(&k.Set)
			break
		}
		spans := b.lenient(k.Set, false)
		k = syntax.Key{Name: "UID"}
		for _, sp := range spans {
			k.Set.Ranges = append(k.Set.Ranges, b.ranges(sp)...)
		}
	}
	keys := make([]syntax.Key, len(k.Keys))
	for i := range keys {
		keys[i] = b.fix(k.Keys[i])
	}
	k.Keys = keys
	return k
}

// ranges are the UIDs of a span, and no others that come.
func (b *selection) ranges(sp span) []syntax.Range {
	var list []syntax.Range
	for _, uid := range b.uids[sp.lo:sp.hi] {
		u := uint32(uid)
		if n := len(list); n > 0 && list[n-1].Last == u-1 {
			list[n-1].Last = u
			continue
		}
		list = append(list, syntax.Range{First: u, Last: u})
	}
	return list
}

// contextsLose tells which results are shorter by messages that are expunged:
// while their numbers are still valid.
func (s *session) contextsLose(gone []mailstore.UID) {
	for _, x := range s.box.contexts {
		var lost []mailstore.UID
		for _, uid := range gone {
			if i, is := slices.BinarySearch(x.found, uid); is {
				lost = append(lost, uid)
				x.found = slices.Delete(x.found, i, i+1)
			}
		}
		s.tellContext(x, nil, lost)
	}
}

// contextsChange looks again at messages that came or changed.
func (s *session) contextsChange(ctx context.Context, c *mailstore.Changes) {
	b := s.box
	if len(b.contexts) == 0 || len(c.Arrived)+len(c.Changed) == 0 {
		return
	}
	look := &selection{id: b.id, validity: b.validity}
	for _, list := range [][]mailstore.Message{c.Changed, c.Arrived} {
		for i := range list {
			if _, known := b.index(list[i].UID); known && !b.gone[list[i].UID] {
				look.uids = append(look.uids, list[i].UID)
			}
		}
	}
	slices.Sort(look.uids)
	came := mailstore.UID(math.MaxUint32) // and later ones
	if len(c.Arrived) > 0 {
		came = c.Arrived[0].UID
	}
	b.contexts = slices.DeleteFunc(b.contexts, func(x *searchContext) bool {
		f, err := s.find(ctx, &call{Command: &syntax.Command{}, unlimited: true}, look, &x.key, false)
		if err != nil {
			s.refuseUpdate(x.tag, "The search cannot be repeated")
			return true
		}
		s.contextChanges(ctx, x, look.uids, f, came)
		return false
	})
}

// contextChanges compares what a search finds now among some messages with what
// it found before.
func (s *session) contextChanges(ctx context.Context, x *searchContext, looked []mailstore.UID, f *finding, came mailstore.UID) {
	var more, fresh, less []mailstore.UID
	next := f.found
	for i, uid := range looked {
		at, was := slices.BinarySearch(x.found, uid)
		is := len(next) > 0 && next[0] == i
		if is {
			next = next[1:]
		}
		switch {
		case is && !was:
			x.found = slices.Insert(x.found, at, uid)
			more = append(more, uid)
			if uid >= came {
				fresh = append(fresh, uid)
			}
		case was && !is:
			x.found = slices.Delete(x.found, at, at+1)
			less = append(less, uid)
		}
	}
	if len(x.items) > 0 && len(fresh) > 0 {
		_ = s.tellItems(ctx, s.box.spansOf(fresh), x.items) // what could not be read is left out
	}
	s.tellContext(x, more, less)
}

// tellItems writes FETCH responses nobody asked for now.
func (s *session) tellItems(ctx context.Context, spans []span, items []syntax.FetchItem) error {
	p := s.plan(true, &syntax.Fetch{Items: items})
	p.seen = false                             // nobody has looked at them
	p.modseq = p.modseq || s.enabled.condstore // RFC 7162 section 3.2.4: whatever causes them
	_, err := s.fetch(ctx, p, spans)
	return err
}

// tellContext writes ADDTO and REMOVEFROM (RFC 5267 sections 4.3.3 and 4.3.4).
// The results are in the order of the mailbox, so that places need not be told.
func (s *session) tellContext(x *searchContext, more, less []mailstore.UID) {
	if len(more)+len(less) == 0 {
		return
	}
	out := append(s.out.begin(), "* ESEARCH (TAG "...)
	out = syntax.AppendString(out, x.tag)
	out = append(out, ')')
	if x.uid {
		out = append(out, " UID"...)
	}
	for _, change := range []struct {
		name string
		uids []mailstore.UID
	}{{" REMOVEFROM (0 ", less}, {" ADDTO (0 ", more}} {
		if len(change.uids) == 0 {
			continue
		}
		out = append(out, change.name...)
		if x.uid {
			out = syntax.AppendNumbers(out, change.uids)
		} else {
			numbers := make([]uint32, 0, len(change.uids))
			for _, uid := range change.uids {
				i, _ := s.box.index(uid)
				numbers = append(numbers, uint32(i+1))
			}
			out = syntax.AppendNumbers(out, numbers)
		}
		out = append(out, ')')
	}
	s.out.end(append(out, '\r', '\n'))
}

// cmdCancelUpdate is CANCELUPDATE (RFC 5267 section 4.3.5).
func (s *session) cmdCancelUpdate(_ context.Context, c *call) error {
	tags := []string{c.p.String("a tag in quotes")}
	for c.p.More() && len(tags) <= maxContexts {
		tags = append(tags, c.p.String("a tag in quotes"))
	}
	if err := c.p.End(); err != nil {
		return err
	}
	for _, tag := range tags {
		if s.box.context(tag) < 0 {
			return bad("No search with that tag has UPDATE")
		}
	}
	s.box.contexts = slices.DeleteFunc(s.box.contexts, func(x *searchContext) bool { return slices.Contains(tags, x.tag) })
	return nil
}
