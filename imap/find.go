package imap

import (
	"context"
	"errors"
	"slices"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// find returns the indexes of the messages that match. It goes by the numbers
// and by what the search index knows first, then by the columns that the keys ask
// for, and opens messages only where that does not decide.
// With scored, the result can be asked for scores.
func (s *session) find(ctx context.Context, c *call, b *selection, key *syntax.Key, scored bool) (*finding, error) {
	cc := &compiler{s: s, b: b, now: s.srv.o.Clock.Now(), scored: scored}
	q, err := cc.compile(key)
	switch {
	case err != nil:
		return nil, err
	case len(cc.keys) > syntax.MaxSearchKeys:
		return nil, refuse("LIMIT", "Too many words are searched for")
	case scored && !cc.anyFuzzy:
		return nil, bad("RELEVANCY needs a FUZZY key") // RFC 6203 section 4
	}
	limited, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	f := &finding{s: s, b: b, q: q, modseq: cc.modseq, scoring: cc.scoring, c: candidates{keys: cc.keys, dateless: !cc.dates}}
	if len(cc.keys) > 0 && s.srv.o.Search != nil {
		f.c.hits = s.srv.o.Search.Lookup(limited, b.account, b.id, b.uids, cc.keys)
	}
	f.open = cc.scope(q)
	if !c.unlimited {
		f.open, f.lowest = s.topmost(b, f.open)
	}
	if len(cc.keys) > 0 || cc.want == 0 {
		f.byIndex()
	}
	if len(f.open) > 0 && cc.want != 0 {
		err = f.byColumns(limited, cc.want)
	}
	if err == nil && len(f.open) > 0 {
		p := &progress{s: s, tag: c.Tag, goal: total(f.open), told: s.srv.o.Clock.Now()}
		err = f.byReading(limited, p)
	}
	if !slices.IsSorted(f.found) {
		slices.Sort(f.found)
	}
	return f, err
}

// finding is one search under way.
type finding struct {
	s     *session
	b     *selection
	q     node
	c     candidates
	room  []truth
	found []int
	open  []span // not decided yet
	done  int    // messages of this round that were asked for
	left  int    // and that were not

	lowest mailstore.UID // below it nothing was looked for; 0 = all was searched (RFC 9738)

	modseq  bool // a key asks for a mod-sequence
	scoring []scoring
}

// decide asks the query for the candidates in hand.
func (f *finding) decide(open []span) []span {
	n := len(f.c.index)
	f.room = slices.Grow(f.room[:0], n)[:n]
	f.q.match(&f.c, f.room)
	if at := len(f.found); cap(f.found)-at < n { // of the rest, as many in so many again
		f.found = slices.Grow(f.found, n+int(int64(at)*int64(f.left)/int64(max(f.done, 1))))
	}
	f.done, f.left = f.done+n, f.left-n
	// Each is written and counted only if it belongs there: whether it does is a
	// guess that the processor would lose often.
	at, found := len(f.found), f.found[:len(f.found)+n]
	undecided := false
	for i, t := range f.room {
		found[at] = f.c.index[i]
		if t == yes {
			at++
		}
		undecided = undecided || t == maybe
	}
	f.found = found[:at]
	if !undecided {
		return open
	}
	for i, t := range f.room {
		if t != maybe {
			continue
		}
		index := f.c.index[i]
		if n := len(open); n > 0 && open[n-1].hi == index {
			open[n-1].hi++
		} else {
			open = append(open, span{index, index + 1})
		}
	}
	return open
}

// byIndex decides by numbers and the search index.
func (f *finding) byIndex() {
	var open []span
	f.done, f.left = 0, total(f.open)
	for _, sp := range f.open {
		for at := sp.lo; at < sp.hi; {
			f.c.index = f.c.index[:0]
			for ; at < sp.hi && len(f.c.index) < mailstore.MaxBlock; at++ {
				f.c.index = append(f.c.index, at)
			}
			open = f.decide(open)
		}
	}
	f.open = open
}

// scanned is how many messages are scanned in one snapshot.
const scanned = 64 * mailstore.MaxBlock

// byColumns decides by what the rows of messages say.
func (f *finding) byColumns(ctx context.Context, want mailstore.Columns) error {
	var open []span
	f.done, f.left = 0, total(f.open)
	for len(f.open) > 0 {
		if ctx.Err() != nil {
			return errSearchTime()
		}
		var now []span
		now, f.open = split(f.open, scanned)
		err := f.s.view(ctx, "search", func(v *mailstore.View) error {
			return f.b.columns(v, now, want, func(index []int, columns *mailstore.Scanned) bool {
				f.c.index, f.c.columns = index, columns
				open = f.decide(open)
				return true
			})
		})
		if err != nil {
			return err
		}
	}
	f.open, f.c.index, f.c.columns = open, nil, nil
	return nil
}

// byReading opens messages.
func (f *finding) byReading(ctx context.Context, p *progress) error {
	for len(f.open) > 0 {
		var now []span
		now, f.open = split(f.open, batch)
		unread, err := f.rows(ctx, now)
		if err != nil {
			return err
		}
		p.done += total(now) - len(unread)
		for i := range unread {
			p.step()
			ok := false
			f.c.one(&unread[i])
			err := f.readInto(ctx, unread[i].Message, func() bool {
				var answer [1]truth
				f.q.match(&f.c, answer[:])
				ok = answer[0] == yes
				return answer[0] == maybe
			})
			if err != nil {
				return err
			}
			if ok {
				f.found = append(f.found, unread[i].index)
			}
		}
	}
	return nil
}

// rows reads the rows of messages; those that are gone are left out.
func (f *finding) rows(ctx context.Context, spans []span) (list []numbered, err error) {
	err = f.s.view(ctx, "search", func(v *mailstore.View) error {
		return f.b.scan(rows(v, f.b.id), spans, func(i int, d *mailstore.Described) bool {
			list = append(list, numbered{i, d.Message})
			return true
		})
	})
	return list, err
}

func errSearchTime() error {
	return refuse("LIMIT", "The search takes too long, search fewer messages")
}

// readInto opens the message in hand. It reads the header, which alone decides most
// of them, and then the rest; after each, more tells whether to go on. A message
// that is gone says nothing.
func (f *finding) readInto(ctx context.Context, m mailstore.Message, more func() bool) error {
	if ctx.Err() != nil {
		return errSearchTime()
	}
	content, err := f.s.srv.o.Store.OpenMessage(ctx, m)
	if errors.Is(err, mailstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return f.s.fault(ctx, "open message", err)
	}
	defer content.Close()
	for _, body := range []bool{false, true} {
		if err := f.c.read(content, body); err != nil {
			return f.s.fault(ctx, "read message", err)
		}
		if !more() {
			return nil
		}
	}
	return nil
}
