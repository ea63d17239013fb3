package imap

import (
	"slices"
	"time"

	"postrider/mailstore"
	"postrider/mailstore/message"
	"postrider/mailstore/search"
)

// candidates are messages that are looked at together: as many as a block of
// the store has, or one that is opened.
type candidates struct {
	keys     []search.Key  // of the whole search
	hits     []search.Hits // what the index knows of each; nil without one
	dateless bool          // the search does not ask for the Date field

	index   []int              // of each message in the selection, in order
	columns *mailstore.Scanned // nil in the first round

	// Of one message that is opened.
	known []truth   // of each key; nil before that
	dated bool      // sent is known
	sent  time.Time // of the Date field; zero where there is none

	spare [][]truth // for nodes within nodes
}

// borrow gives room for the answers of one node more; it goes back by giveBack.
func (c *candidates) borrow() []truth {
	if n := len(c.spare); n > 0 && cap(c.spare[n-1]) >= len(c.index) {
		room := c.spare[n-1]
		c.spare = c.spare[:n-1]
		return room[:len(c.index)]
	}
	return make([]truth, len(c.index), max(len(c.index), mailstore.MaxBlock))
}

func (c *candidates) giveBack(room []truth) { c.spare = append(c.spare, room) }

// text answers for one key and one message.
func (c *candidates) text(key, index int) truth {
	switch {
	case c.hits != nil && c.hits[key].Found(index):
		return yes
	case c.hits != nil && c.hits[key].Absent(index):
		return no
	case c.known != nil:
		return c.known[key]
	}
	return maybe
}

// one makes c one message that is opened.
func (c *candidates) one(m *numbered) {
	if c.columns == nil {
		c.columns = new(mailstore.Scanned)
	}
	c.columns.Put(&m.Message)
	c.index = append(c.index[:0], m.index)
	c.known, c.dated = nil, false
}

// read reads the date and answers the keys that are open: those of the body or
// those that the header alone answers.
func (c *candidates) read(content mailstore.Content, body bool) error {
	if !c.dated && !c.dateless {
		h, err := message.ReadHeader(content, content.Size())
		if err != nil {
			return err
		}
		v, _ := h.Get("Date")
		if c.sent, err = message.ParseDate(v); err != nil {
			c.sent = time.Time{}
		}
		c.dated = true
	}
	var keys []search.Key
	var at []int
	for i, k := range c.keys {
		if k.InBody() == body && c.text(i, c.index[0]) == maybe {
			keys, at = append(keys, k), append(at, i)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	found, err := search.Match(content, content.Size(), keys)
	if c.known == nil {
		c.known = make([]truth, len(c.keys))
	}
	for i, k := range at {
		c.known[k] = is(found[i])
	}
	return err
}

// columns scans the messages of spans, which are in order, and calls fn with
// the index of each in the list of UIDs, until it returns false; those that there
// are no more it leaves out. index and columns are used again for the next call.
func (b *selection) columns(v *mailstore.View, spans []span, want mailstore.Columns, fn func(index []int, c *mailstore.Scanned) bool) error {
	var index, places []int
	more := true
	for i := 0; i < len(spans) && more; {
		j := i + 1
		for j < len(spans) && spans[j].lo-spans[j-1].hi <= mailstore.MaxBlock {
			j++ // likely of the same block
		}
		group := spans[i:j]
		i = j
		at := group[0].lo
		err := v.Scan(b.id, b.uids[at], b.uids[group[len(group)-1].hi-1], want, func(c *mailstore.Scanned) bool {
			index, places = index[:0], places[:0]
			if n := at + c.Len(); at >= group[0].lo && n <= group[0].hi && slices.Equal(b.uids[at:n], c.UIDs) {
				index = slices.Grow(index, c.Len())[:c.Len()]
				for i := range index {
					index[i] = at + i
				}
				at = n
				more = fn(index, c)
				return more
			}
			for place, uid := range c.UIDs {
				for at < len(b.uids) && b.uids[at] < uid {
					at++
				}
				for len(group) > 0 && at >= group[0].hi {
					group = group[1:]
				}
				if len(group) == 0 {
					break
				}
				if at >= group[0].lo && b.uids[at] == uid {
					index, places = append(index, at), append(places, place)
				}
			}
			if len(index) > 0 {
				c.Keep(places)
				more = fn(index, c)
			}
			return more && len(group) > 0
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// narrow reads messages by their columns alone: what is not wanted of them stays
// zero.
func (b *selection) narrow(v *mailstore.View, want mailstore.Columns) reader {
	return ranged(func(from, to mailstore.UID, fn func(*mailstore.Described) bool) error {
		var d mailstore.Described
		d.Mailbox = b.id
		more := true
		return v.Scan(b.id, from, to, want, func(c *mailstore.Scanned) bool {
			for i := 0; i < c.Len() && more; i++ {
				c.Message(i, want, &d.Message)
				more = fn(&d)
			}
			return more
		})
	})
}
