package storetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"

	"postrider/mailstore"
)

// Verify checks what must hold between an engine's rows at any time, and the
// bytes of its bodies. It needs an engine that no store uses.
func Verify(e mailstore.Engine, r mailstore.Reader) error {
	v := &verifier{e: e, r: r, refs: make(map[mailstore.BodyID]int), sizes: make(map[mailstore.BodyID]int64)}
	err := errors.Join(v.bodies(), v.mailboxes(), v.held(), v.queue())
	for id, n := range v.refs {
		if n != 0 {
			err = errors.Join(err, fmt.Errorf("body %d: %d references more than counted", id, n))
		}
	}
	return err
}

type verifier struct {
	e     mailstore.Engine
	r     mailstore.Reader
	refs  map[mailstore.BodyID]int // found less counted
	sizes map[mailstore.BodyID]int64
}

// bodies checks that each body has its bytes.
func (v *verifier) bodies() error {
	var list []mailstore.BodyRow
	err := v.r.Bodies(0, func(b mailstore.BodyRow) bool {
		list = append(list, b)
		return true
	})
	for _, b := range list {
		v.refs[b.ID] -= b.Refs
		v.sizes[b.ID] = b.Size
		if b.Refs < 1 {
			err = errors.Join(err, fmt.Errorf("body %d: %d references", b.ID, b.Refs))
		}
		if berr := v.body(b.ID); berr != nil {
			err = errors.Join(err, fmt.Errorf("body %d: %w", b.ID, berr))
		}
	}
	return err
}

func (v *verifier) body(id mailstore.BodyID) error {
	b, err := v.r.Body(id, true)
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := v.copyBody(b, sum)
	switch {
	case err != nil:
		return err
	case n != b.Size:
		return fmt.Errorf("%d octets, and should have %d", n, b.Size)
	case [sha256.Size]byte(sum.Sum(nil)) != b.Hash:
		return errors.New("other bytes than were stored")
	}
	return nil
}

func (v *verifier) copyBody(b mailstore.BodyRow, sum hash.Hash) (int64, error) {
	if b.File == "" {
		n, err := sum.Write(b.Data)
		return int64(n), err
	}
	c, err := v.e.OpenFile(b.File)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(sum, io.NewSectionReader(c, 0, math.MaxInt64))
	return n, errors.Join(err, c.Close())
}

func (v *verifier) mailboxes() error {
	var boxes []mailstore.MailboxRow
	var errs []error
	valid := make(map[uint32]bool)
	var accounts []mailstore.AccountID
	errs = append(errs, v.r.Accounts(func(a mailstore.Account) bool {
		accounts = append(accounts, a.ID)
		return true
	}))
	for _, a := range accounts {
		var sum mailstore.Usage
		errs = append(errs, v.r.Mailboxes(a, func(m mailstore.MailboxRow) bool {
			boxes = append(boxes, m)
			sum.Storage += m.Size
			sum.Messages += int64(m.Messages)
			return true
		}))
		if used, err := v.r.Usage(a); err != nil || used != sum {
			errs = append(errs, fmt.Errorf("account %d: usage %+v, and should be %+v: %v", a, used, sum, err))
		}
	}
	for _, m := range boxes {
		if valid[m.UIDValidity] {
			errs = append(errs, fmt.Errorf("UIDVALIDITY %d twice", m.UIDValidity))
		}
		valid[m.UIDValidity] = true
		if err := v.mailbox(m); err != nil {
			errs = append(errs, fmt.Errorf("mailbox %d: %w", m.ID, err))
		}
	}
	return errors.Join(errs...)
}

// mailbox checks counters and order.
func (v *verifier) mailbox(m mailstore.MailboxRow) error {
	count := mailstore.MailboxRow{Mailbox: m.Mailbox, Horizon: m.Horizon}
	count.Messages, count.Unseen, count.Size = 0, 0, 0
	var errs []error
	var last mailstore.MessageRow
	err := v.blocks(m, func(r *mailstore.MessageRow) {
		count.Messages++
		count.Size += r.Size
		if r.Flags.System&mailstore.Seen == 0 {
			count.Unseen++
		}
		v.refs[r.Body]++
		if want := v.sizes[r.Body] + int64(len(r.Prefix)); r.Size != want {
			errs = append(errs, fmt.Errorf("UID %d: size %d, and should be %d", r.UID, r.Size, want))
		}
		if r.UID <= last.UID || r.UID >= m.UIDNext || r.Created < last.Created || r.ModSeq < r.Created || r.ModSeq > m.ModSeq {
			errs = append(errs, fmt.Errorf("UID %d after %d: out of order", r.UID, last.UID))
		}
		last = *r
	})
	err = errors.Join(err, v.r.Expunges(m.ID, 0, func(e mailstore.ExpungeRow) bool {
		count.Expunges++
		if e.ModSeq <= m.Horizon || e.ModSeq > m.ModSeq || e.First > e.Last || e.Last >= m.UIDNext {
			errs = append(errs, fmt.Errorf("bad record of expunges %+v", e))
		}
		return true
	}))
	if count != m {
		errs = append(errs, fmt.Errorf("row is %+v, and should be %+v", m, count))
	}
	return errors.Join(append(errs, err)...)
}

// blocks calls fn for each message of a mailbox, and checks what its blocks say
// of themselves.
func (v *verifier) blocks(m mailstore.MailboxRow, fn func(*mailstore.MessageRow)) error {
	var list []*mailstore.BlockRow
	err := v.r.Blocks(m.ID, func(b *mailstore.BlockRow) bool {
		list = append(list, b)
		return true
	})
	for _, b := range list {
		data, derr := v.r.BlockData(m.ID, b.First)
		b.Data = data
		rows, uerr := mailstore.Unpack(b)
		if derr != nil || uerr != nil {
			err = errors.Join(err, derr, uerr)
			continue
		}
		for i := range rows {
			fn(&rows[i])
			if rows[i].ModSeq > b.Stamp {
				err = errors.Join(err, fmt.Errorf("UID %d: its block was stamped before its last change", rows[i].UID))
			}
		}
		again := mailstore.Pack(m.ID, rows, b.Stamp)
		if b.Stamp > m.ModSeq || again.First != b.First || again.Last != b.Last || again.Count != b.Count ||
			again.Unseen != b.Unseen || again.Size != b.Size {
			err = errors.Join(err, fmt.Errorf("block of UID %d: its row is not of its messages", b.First))
		}
	}
	return err
}

// held counts the references of what is held.
func (v *verifier) held() error {
	var errs []error
	err := v.r.Held(0, func(h *mailstore.HeldRow) bool {
		rows, err := mailstore.Unpack(&h.BlockRow)
		if err != nil {
			errs = append(errs, fmt.Errorf("held %d: %w", h.ID, err))
		}
		size := int64(0)
		for i := range rows {
			v.refs[rows[i].Body]++
			size += rows[i].Size
		}
		if _, err := v.r.Account(h.Account); err != nil {
			errs = append(errs, fmt.Errorf("held %d: account %d: %w", h.ID, h.Account, err))
		}
		if h.Count != len(rows) || h.Size != size {
			errs = append(errs, fmt.Errorf("held %d: its row is not of its messages", h.ID))
		}
		return true
	})
	return errors.Join(append(errs, err)...)
}

func (v *verifier) queue() error {
	var items []mailstore.QueueRow
	var errs []error
	errs = append(errs, v.r.QueueItems(0, func(q mailstore.QueueRow) bool {
		items = append(items, q)
		return true
	}))
	total := 0
	for _, q := range items {
		v.refs[q.Body]++
		n := 0
		errs = append(errs, v.r.Recipients(q.ID, func(mailstore.QueueRecipient) bool {
			n++
			return true
		}))
		if n != q.Left || n == 0 {
			errs = append(errs, fmt.Errorf("queue item %d: %d recipients, and should have %d", q.ID, n, q.Left))
		}
		total += n
	}
	n, err := v.r.Counter("queue length")
	if n != int64(total) {
		errs = append(errs, fmt.Errorf("queue length %d, and should be %d", n, total))
	}
	return errors.Join(append(errs, err)...)
}
