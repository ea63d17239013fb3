package mailstore

import (
	"slices"
	"time"
)

// Columns is a set of what a scan reads of messages, beside their UIDs.
type Columns uint8

// The columns. Flags and mod-sequences are in memory while a mailbox is used; the
// others are read from the disk.
const (
	ColumnFlags Columns = 1 << iota
	ColumnModSeq
	ColumnInternal
	ColumnSaved
	ColumnBody
	ColumnSize
	ColumnThread
	ColumnPrefix

	wideColumns = ColumnInternal | ColumnSaved | ColumnBody | ColumnSize | ColumnThread | ColumnPrefix
)

// Scanned is a run of a mailbox's messages, at most MaxBlock, in order of UID:
// one value for each in every column that was asked for; others may be nil. Times
// are seconds since 1970.
type Scanned struct {
	UIDs     []UID
	ModSeqs  []ModSeq
	System   []SystemFlags
	Sets     [][]string // sets of keywords, the first the empty one; nil where no message has any
	Keys     []int      // which one; nil where no message has any
	Internal []int64
	Saved    []int64
	Bodies   []BodyID
	Sizes    []int64
	Threads  []ThreadID
	Prefixes []string // the first is the empty one; nil where no message has any
	Prefix   []int    // which one; nil where no message has any

	created []ModSeq
}

// Len is how many messages there are.
func (c *Scanned) Len() int { return len(c.UIDs) }

// Keywords are those of message i.
func (c *Scanned) Keywords(i int) []string {
	if c.Keys == nil {
		return nil
	}
	return c.Sets[c.Keys[i]]
}

// Message puts what was asked for of message i into m.
func (c *Scanned) Message(i int, want Columns, m *Message) {
	m.UID = c.UIDs[i]
	if want&ColumnModSeq != 0 {
		m.ModSeq = c.ModSeqs[i]
	}
	if want&ColumnFlags != 0 {
		m.Flags = Flags{System: c.System[i], Keywords: c.Keywords(i)}
	}
	if want&ColumnInternal != 0 {
		m.Internal = time.Unix(c.Internal[i], 0).UTC()
	}
	if want&ColumnSaved != 0 {
		m.Saved = time.Unix(c.Saved[i], 0).UTC()
	}
	if want&ColumnBody != 0 {
		m.Body = c.Bodies[i]
	}
	if want&ColumnSize != 0 {
		m.Size = c.Sizes[i]
	}
	if want&ColumnThread != 0 {
		m.Thread = c.Threads[i]
	}
	if want&ColumnPrefix != 0 {
		m.Prefix = ""
		if c.Prefix != nil {
			m.Prefix = c.Prefixes[c.Prefix[i]]
		}
	}
}

// Put makes c the columns of one message.
func (c *Scanned) Put(m *Message) {
	c.UIDs, c.ModSeqs, c.System = append(c.UIDs[:0], m.UID), append(c.ModSeqs[:0], m.ModSeq), append(c.System[:0], m.Flags.System)
	c.Internal, c.Saved = append(c.Internal[:0], m.Internal.Unix()), append(c.Saved[:0], m.Saved.Unix())
	c.Bodies, c.Sizes, c.Threads = append(c.Bodies[:0], m.Body), append(c.Sizes[:0], m.Size), append(c.Threads[:0], m.Thread)
	c.Sets, c.Keys, c.Prefixes, c.Prefix = nil, nil, nil, nil
	if len(m.Flags.Keywords) > 0 {
		c.Sets, c.Keys = [][]string{nil, m.Flags.Keywords}, []int{1}
	}
	if m.Prefix != "" {
		c.Prefixes, c.Prefix = []string{"", m.Prefix}, []int{1}
	}
}

// Keep leaves the messages at the given places, which are in order.
func (c *Scanned) Keep(places []int) {
	if len(places) == len(c.UIDs) {
		return
	}
	c.UIDs, c.ModSeqs, c.System = keep(c.UIDs, places), keep(c.ModSeqs, places), keep(c.System, places)
	c.Internal, c.Saved, c.Bodies = keep(c.Internal, places), keep(c.Saved, places), keep(c.Bodies, places)
	c.Sizes, c.Threads, c.created = keep(c.Sizes, places), keep(c.Threads, places), nil
	c.Keys, c.Prefix = keep(c.Keys, places), keep(c.Prefix, places)
}

func keep[T any](column []T, places []int) []T {
	if len(column) == 0 {
		return column
	}
	for to, from := range places {
		column[to] = column[from]
	}
	return column[:len(places)]
}

// Scan calls fn for runs of the messages of the mailbox with from <= UID <= to in
// order of UID, until fn returns false. to = 0 means no upper limit. It reads no
// more than what is asked for, and costs a few nanoseconds for a value. fn may
// change the columns, which are used again for the next run, but not the strings
// in them; it may read by v, and may not write by a Tx.
func (v *View) Scan(m MailboxID, from, to UID, want Columns, fn func(*Scanned) bool) error {
	if want&ColumnThread != 0 {
		want |= ColumnBody
	}
	return v.listed(m, to, func(x *boxIndex, to UID) error { return x.scan(v.r, from, to, want, fn) })
}

// scan does Scan.
func (x *boxIndex) scan(r Reader, from, to UID, want Columns, fn func(*Scanned) bool) error {
	var c Scanned
	for _, b := range x.blocks[x.from(from):] {
		if b.First > to {
			return nil
		}
		if err := c.head(b, want); err != nil {
			return err
		}
		if want&wideColumns != 0 {
			p, err := data(r, b)
			if err != nil {
				return err
			}
			if err := c.wide(b, p, want); err != nil {
				return err
			}
		}
		c.cut(from, to)
		if c.Len() > 0 && !fn(&c) {
			return nil
		}
	}
	return nil
}

// cut leaves the messages from one UID to another.
func (c *Scanned) cut(from, to UID) {
	if c.UIDs[0] >= from && c.UIDs[len(c.UIDs)-1] <= to {
		return
	}
	places := make([]int, 0, len(c.UIDs))
	for i, uid := range c.UIDs {
		if uid >= from && uid <= to {
			places = append(places, i)
		}
	}
	c.Keep(places)
}

// fill reads a column of runs.
func fill[T ~uint8 | ~int64](u *unpacker, column []T) []T {
	column = slices.Grow(column[:0], u.n)[:u.n]
	v := int64(0)
	for rest := column; len(rest) > 0; {
		delta, n := u.run(len(rest))
		if n == 0 {
			break
		}
		v += delta
		i := 0
		if len(rest) >= 4 { // flags change often: the length of a run is no branch
			rest[0], rest[1], rest[2], rest[3] = T(v), T(v), T(v), T(v)
			i = 4
		}
		for ; i < n; i++ {
			rest[i] = T(v)
		}
		rest = rest[n:]
	}
	return column
}

// skip reads a column of runs that nobody asked for.
func (u *unpacker) skip() {
	for left := u.n; left > 0; {
		_, n := u.run(left)
		if n == 0 {
			break
		}
		left -= n
	}
}

// head reads the columns of a block's Head.
func (c *Scanned) head(b *BlockRow, want Columns) error {
	u := b.open(b.Head)
	if u.bad {
		return b.close(u)
	}
	c.UIDs = u.uidColumn(c.UIDs[:0])
	if want&ColumnModSeq != 0 {
		seq := ModSeq(0)
		c.created = slices.Grow(c.created[:0], u.n)[:u.n]
		u.runs(func(from, to int, v int64) {
			for i := from; i < to; i++ {
				seq += ModSeq(v)
				c.created[i] = seq
			}
		})
		c.ModSeqs = slices.Grow(c.ModSeqs[:0], u.n)[:u.n]
		u.runs(func(from, to int, v int64) {
			for i := from; i < to; i++ {
				c.ModSeqs[i] = c.created[i] + ModSeq(v)
			}
		})
	} else {
		u.skip()
		u.skip()
	}
	c.Sets, c.Keys = nil, nil
	if want&ColumnFlags == 0 {
		u.at = len(u.p)
	} else {
		c.System = fill(u, c.System)
		c.Sets, c.Keys = u.keywords()
	}
	return b.close(u)
}

// wide reads the columns of a block's Data, as far as the last that is wanted.
func (c *Scanned) wide(b *BlockRow, data []byte, want Columns) error {
	u := b.open(data)
	if u.bad {
		return b.close(u)
	}
	c.Internal = plainInto(u, c.Internal)
	if want&^(ColumnFlags|ColumnModSeq|ColumnInternal) != 0 {
		c.Saved = plainInto(u, c.Saved)
		for i := range c.Saved {
			c.Saved[i] += c.Internal[i]
		}
	}
	if want&(ColumnBody|ColumnSize|ColumnThread|ColumnPrefix) != 0 {
		c.Bodies = plainInto(u, c.Bodies)
		c.Sizes = plainInto(u, c.Sizes)
	}
	if want&(ColumnThread|ColumnPrefix) == 0 {
		u.at = len(u.p)
		return b.close(u)
	}
	c.Threads = fill(u, c.Threads)
	for i := range c.Threads {
		c.Threads[i] += ThreadID(c.Bodies[i])
	}
	u.skip()
	c.Prefixes, c.Prefix = u.prefixes()
	return b.close(u)
}

// plainInto reads a plain column into one that may be used again.
func plainInto[T ~int64](u *unpacker, values []T) []T {
	values = slices.Grow(values[:0], u.n)[:u.n]
	last := T(0)
	for i := range values {
		last += T(u.int())
		values[i] = last
	}
	return values
}
