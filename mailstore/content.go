package mailstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"postrider/mailstore/message"
)

// describers are reused by all who make records of messages.
type describers struct{ sync.Pool }

// describe makes the record of a message's body: what lists tell of it.
func (d *describers) describe(c interface {
	ReadAt(p []byte, off int64) (int, error)
	Size() int64
}) ([]byte, error) {
	one, _ := d.Get().(*message.Describer)
	if one == nil {
		one = new(message.Describer)
	}
	defer d.Put(one)
	stored, err := one.Describe(c, c.Size())
	if err != nil {
		return nil, err
	}
	return stored.Append(nil), nil
}

// Describe makes what is kept beside the body of a message. Append does it where
// it was not done, but on the writer, where others wait: a body that goes into a
// mailbox should be described before the Update.
func (b *Body) Describe() error {
	if b.record != nil {
		return nil
	}
	var err error
	b.record, err = b.s.describers.describe(b)
	return err
}

// Described is a message as lists show it, without reading it.
type Described struct {
	Message
	// Record is that of the body, where the prefix in front of it changes nothing
	// but offsets (message.Stored.Index takes them into account), else of the
	// whole message.
	Record message.Stored
}

// Describe calls fn for each message of the mailbox with from <= UID <= to, with
// its record, until fn returns false. What fn gets is valid until it returns.
// to = 0 means no upper limit. A message that was stored before there were
// records, or whose record is damaged or does not hold with its prefix, is read.
func (v *View) Describe(m MailboxID, from, to UID, fn func(*Described) bool) error {
	return v.listed(m, to, func(x *boxIndex, to UID) error {
		for _, b := range x.blocks[x.from(from):] {
			if b.First > to {
				return nil
			}
			o, err := open(v.r, b)
			if err != nil {
				return err
			}
			first, _ := slices.BinarySearch(o.marks.uids, from)
			last, found := slices.BinarySearch(o.marks.uids, to)
			if found {
				last++
			}
			places := make([]int, 0, last-first)
			for i := first; i < last; i++ {
				places = append(places, i)
			}
			if more, err := v.describe(o, places, fn); err != nil || !more {
				return err
			}
		}
		return nil
	})
}

// DescribeOnly is Describe of the messages with these UIDs, which are in order: it
// reads no records of others.
func (v *View) DescribeOnly(m MailboxID, uids []UID, fn func(*Described) bool) error {
	return v.listed(m, 0, func(x *boxIndex, _ UID) error {
		for len(uids) > 0 {
			i := x.from(uids[0])
			if i == len(x.blocks) {
				return nil
			}
			b := x.blocks[i]
			here, found := slices.BinarySearch(uids, b.Last)
			if found {
				here++
			}
			o, err := x.open(v.r, b)
			if err != nil {
				return err
			}
			places := make([]int, 0, here)
			at, _ := slices.BinarySearch(o.marks.uids, uids[0])
			for _, uid := range uids[:here] {
				for at < b.Count && o.marks.uids[at] < uid {
					at++
				}
				if at < b.Count && o.marks.uids[at] == uid {
					places = append(places, at)
				}
			}
			if more, err := v.describe(o, places, fn); err != nil || !more {
				return err
			}
			uids = uids[here:]
		}
		return nil
	})
}

// describe describes the messages at these places in a block, until fn returns
// false.
func (v *View) describe(o *opened, places []int, fn func(*Described) bool) (more bool, err error) {
	bodies := make([]BodyID, len(places))
	for i, at := range places {
		bodies[i] = o.facts.bodies[at]
	}
	records, err := v.records(bodies)
	if err != nil {
		return false, err
	}
	var d Described
	for i, at := range places {
		d.Message = o.row(at).Message
		if d.Record, err = v.stored(&d.Message, records[i]); err != nil {
			return false, err
		}
		if !fn(&d) {
			return false, nil
		}
	}
	return true, nil
}

// stored reads a message's record, or makes it.
func (v *View) stored(m *Message, record []byte) (message.Stored, error) {
	s, err := message.ReadStored(record)
	if err != nil {
		s, err = v.read(m.Body, "")
	}
	if err != nil || m.Prefix == "" || s.Headed {
		return s, err
	}
	return v.read(m.Body, m.Prefix)
}

// read makes the record of a body behind a prefix.
func (v *View) read(id BodyID, prefix string) (message.Stored, error) {
	row, err := v.r.Body(id, true)
	if err != nil {
		return message.Stored{}, err
	}
	c, err := v.s.content(context.Background(), row, prefix)
	if err != nil {
		return message.Stored{}, err
	}
	record, err := v.s.describers.describe(c)
	if err = errors.Join(err, c.Close()); err != nil {
		return message.Stored{}, err
	}
	return message.ReadStored(record)
}

// records reads the records of bodies; nil for those that have none. Neighbours,
// and what is nearly so, are read in one go.
func (v *View) records(ids []BodyID) ([][]byte, error) {
	const gap = 4 // foreign rows that are read past sooner than a new search is begun
	records := make([][]byte, len(ids))
	order := make([]int, len(ids))
	for i := range order {
		order[i] = i
	}
	if !slices.IsSorted(ids) {
		slices.SortFunc(order, func(a, b int) int { return int(ids[a] - ids[b]) })
	}
	for len(order) > 0 {
		n := 1
		for n < len(order) && ids[order[n]]-ids[order[n-1]] <= gap {
			n++
		}
		run := order[:n]
		order = order[n:]
		err := v.r.Contents(ids[run[0]], ids[run[n-1]], func(id BodyID, record []byte) bool {
			for len(run) > 0 && ids[run[0]] < id {
				run = run[1:]
			}
			for len(run) > 0 && ids[run[0]] == id {
				records[run[0]] = record
				run = run[1:]
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return records, nil
}

// describe keeps the record of a body that becomes a message of an account, and
// finds its conversation.
func (tx *Tx) describe(a AccountID, id BodyID, body *Body) (ThreadID, error) {
	if err := body.Describe(); err != nil {
		return 0, err
	}
	if body.stored {
		_, err := tx.r.Content(id)
		if errors.Is(err, ErrNotFound) {
			err = tx.do(func(w Writer) error { return w.PutContent(id, body.record) })
		}
		if err != nil {
			return 0, tx.fail(err)
		}
	}
	return tx.thread(a, id, body.record)
}

// thread finds the conversation of a message that is new to an account: that of
// an earlier message with the same base subject which shares one of its ids,
// those that it refers to included (RFC 8621 section 3). Without one it begins
// its own. Its ids lead there from now on.
func (tx *Tx) thread(a AccountID, body BodyID, record []byte) (ThreadID, error) {
	own := ThreadID(body)
	s, err := message.ReadStored(record)
	if err != nil {
		return own, nil
	}
	var keys []int64
	if len(s.MessageID) > 0 {
		keys = append(keys, threadKey(s.MessageID, s.BaseSubject))
	}
	for id := range s.References() {
		if key := threadKey(id, s.BaseSubject); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	found := ThreadID(0)
	var fresh []int64
	for _, key := range keys {
		t, known := tx.threads[a][key]
		var err error
		if !known {
			t, err = tx.r.Thread(a, key)
		}
		switch {
		case errors.Is(err, ErrNotFound):
			fresh = append(fresh, key)
		case err != nil:
			return 0, tx.fail(err)
		case found == 0:
			found = t
		}
	}
	if found == 0 {
		found = own
	}
	if tx.threads == nil {
		tx.threads = make(map[AccountID]threadKeys)
	}
	if tx.threads[a] == nil {
		tx.threads[a] = make(threadKeys)
	}
	for _, key := range fresh {
		tx.threads[a][key] = found
	}
	return found, nil
}

// threadKeys tells which conversations keys of one account lead to.
type threadKeys map[int64]ThreadID

// threadKey is what messages of one conversation share; case and white space of
// subjects do not count.
func threadKey(id, subject []byte) int64 {
	subject = bytes.Join(bytes.Fields(bytes.ToLower(subject)), nil)
	sum := sha256.Sum256(bytes.Join([][]byte{id, subject}, []byte{0}))
	return int64(binary.BigEndian.Uint64(sum[:]))
}
