package mailstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// eachMailbox calls fn for each mailbox of each account.
func (v *verifier) eachMailbox(fn func(*Account, *MailboxRow)) {
	accounts := v.accountList()
	for i := range accounts {
		boxes, err := inOrder(func(fn func(MailboxRow) bool) error { return v.r.Mailboxes(accounts[i].ID, fn) },
			func(m *MailboxRow) int64 { return int64(m.ID) })
		v.trouble("database", "the mailboxes of "+accounts[i].Address, err)
		for j := range boxes {
			fn(&accounts[i], &boxes[j])
		}
	}
}

func (v *verifier) accountList() []Account {
	accounts, err := inOrder(v.r.Accounts, func(a *Account) int64 { return int64(a.ID) })
	v.trouble("database", "the list of accounts", err)
	return accounts
}

// accounts checks mailboxes, their messages, and what accounts use.
func (v *verifier) accounts(ctx context.Context) {
	valid := make(map[uint32]string)
	found := make(map[AccountID]Usage)
	v.eachMailbox(func(a *Account, m *MailboxRow) {
		if ctx.Err() != nil {
			return
		}
		v.above(accountIDs, int64(a.ID))
		v.above(mailboxIDs, int64(m.ID))
		where := a.Address + " " + m.Name
		if other := valid[m.UIDValidity]; other != "" {
			v.report(Finding{Kind: "mailbox", Account: a.Address, Mailbox: m.Name, Lost: true,
				Text: fmt.Sprintf("UIDVALIDITY %d is also that of %s", m.UIDValidity, other)})
		}
		valid[m.UIDValidity] = where
		found[a.ID] = found[a.ID].plus(v.mailbox(a, m))
		v.annotations(a, m.ID, m.Name)
		v.acl(a, m)
	})
	v.validity(slices.Max(append(slices.Collect(maps.Keys(valid)), 0)))
	for _, a := range v.accountList() {
		v.annotations(&a, 0, "")
		used, err := v.r.Usage(a.ID)
		v.trouble("usage", a.Address, err)
		if want := found[a.ID]; used != want {
			delta := Usage{want.Storage - used.Storage, want.Messages - used.Messages}
			v.report(Finding{Kind: "usage", Account: a.Address, Text: fmt.Sprintf("%s is said to use %+v, and uses %+v", a.Address, used, want),
				mend: func(tx *Tx) error {
					if q := &tx.b.s.state.quotas; !q.dirty[a.ID] {
						delete(q.used, a.ID)
					}
					return tx.spend(a.ID, delta)
				}})
		}
	}
}

// mailbox checks one mailbox and returns what its messages use.
func (v *verifier) mailbox(a *Account, m *MailboxRow) Usage {
	c := &boxCheck{v: v, a: a, m: m, want: *m}
	c.want.Messages, c.want.Unseen, c.want.Size, c.want.Expunges = 0, 0, 0, 0
	c.name()
	stamp, err := v.blocks(m, c.block, c.message)
	c.want.ModSeq = max(c.want.ModSeq, stamp)
	err = errors.Join(err, v.r.Expunges(m.ID, 0, c.expunge))
	v.trouble("mailbox", a.Address+" "+m.Name, err)
	used := Usage{m.Size, int64(m.Messages)} // as it is said to be, where that is not known
	if err == nil && !c.unread {
		used = Usage{c.want.Size, int64(c.want.Messages)}
		c.rows()
	}
	if c.records > 0 { // after the counters, of which it is the last word
		c.report("mailbox", 0, fmt.Sprintf("%d records of expunges cannot be; without them clients are told everything anew", c.records), mendExpunges(m.ID))
	}
	return used
}

// rows tells where the rows of a mailbox and its blocks are not what its messages say.
func (c *boxCheck) rows() {
	m := c.m
	if c.want != *m {
		c.report("mailbox", 0, fmt.Sprintf("%d messages, %d unseen, %d octets, UIDNEXT %d, mod-sequence %d, %d expunges; should be %d, %d, %d, %d, %d, %d",
			m.Messages, m.Unseen, m.Size, m.UIDNext, m.ModSeq, m.Expunges,
			c.want.Messages, c.want.Unseen, c.want.Size, c.want.UIDNext, c.want.ModSeq, c.want.Expunges), mendMailbox(*m, c.want))
	}
	if c.bad > 0 { // after the mailbox's mod-sequence, which is that of the change
		c.report("block", 0, fmt.Sprintf("%d blocks or sizes are not those of the messages", c.bad), mendBlocks(m.ID, c.v.sizes()))
	}
}

// annotations checks those of a mailbox, or with m = 0 of the account.
func (v *verifier) annotations(a *Account, m MailboxID, name string) {
	err := v.r.Annotations(a.ID, m, func(row AnnotationRow) bool {
		entry, err := CleanEntry(row.Entry)
		why := ""
		switch {
		case err != nil || entry != row.Entry:
			why = "has a name that cannot be"
		case row.Private() != (row.User != 0):
			why = "is private to nobody, or shared and somebody's"
		case len(row.Value) > MaxAnnotationSize:
			why = fmt.Sprintf("has %d octets", len(row.Value))
		}
		if why != "" {
			v.report(Finding{Kind: "annotation", Account: a.Address, Mailbox: name, Lost: true, Text: fmt.Sprintf("%q %s", row.Entry, why)})
		}
		return true
	})
	v.trouble("annotation", a.Address+" "+name, err)
}

// acl checks the access control list of a mailbox.
func (v *verifier) acl(a *Account, m *MailboxRow) {
	n := 0
	err := v.r.ACL(m.ID, func(row ACLRow) bool {
		n++
		name := strings.TrimPrefix(row.Identifier, "-")
		rights, err := ParseRights(row.Rights)
		why := ""
		switch {
		case err != nil || rights == 0 || rights.String() != row.Rights:
			why = fmt.Sprintf("rights %q that cannot be", row.Rights)
		case len(row.Identifier) > MaxIdentifier || name != strings.ToLower(name) || name != Anyone && !strings.Contains(name, "@"):
			why = "a name that cannot be"
		case name == a.Address:
			why = "rights, and is the owner"
		}
		if why != "" {
			v.report(Finding{Kind: "rights", Account: a.Address, Mailbox: m.Name, Lost: true, Text: fmt.Sprintf("%q has %s", row.Identifier, why)})
		}
		return true
	})
	if n > MaxACL {
		v.report(Finding{Kind: "rights", Account: a.Address, Mailbox: m.Name, Lost: true, Text: fmt.Sprintf("%d entries", n)})
	}
	v.trouble("rights", a.Address+" "+m.Name, err)
}

// sizes gives the sizes of bodies, where they have rows.
func (v *verifier) sizes() func(BodyID) (int64, bool) {
	return func(id BodyID) (int64, bool) {
		if e := v.table.find(id); e != nil {
			return e.size, true
		}
		return 0, false
	}
}

// boxCheck is the check of one mailbox.
type boxCheck struct {
	v    *verifier
	a    *Account
	m    *MailboxRow
	want MailboxRow
	last MessageRow
	bad  int // blocks, and sizes of messages
	// records counts those of expunges that cannot be.
	records int
	unread  bool
	said    int
}

func (c *boxCheck) report(kind string, uid UID, text string, mend func(*Tx) error) {
	if c.said++; c.said <= maxFound {
		c.v.report(Finding{Kind: kind, Account: c.a.Address, Mailbox: c.m.Name, UID: uid, Text: text, mend: mend, Lost: mend == nil})
	}
}

// name looks at the mailbox's name: nobody can ask for one that is not clean.
func (c *boxCheck) name() {
	better, err := CleanName(c.m.Name)
	switch {
	case err != nil:
		better = fmt.Sprintf("Mailbox %d", c.m.ID)
	case better == c.m.Name:
		return
	}
	c.report("mailbox", 0, fmt.Sprintf("that is no name; %q is", better), func(tx *Tx) error {
		if _, err := tx.r.MailboxByName(c.m.Account, better); absent(err) != nil {
			return absent(err)
		}
		return tx.renameOne(c.m.ID, better)
	})
}

const (
	maxMendedUID    = 1 << 31 // to which a counter is raised by a record alone
	maxMendedModSeq = 1 << 62
)

// expunge hears of a record of expunges. One that is above the mailbox's counters
// may be right and they wrong: then no UID may come again.
func (c *boxCheck) expunge(e ExpungeRow) bool {
	c.want.Expunges++
	now := *c.m
	now.UIDNext, now.ModSeq = max(now.UIDNext, c.want.UIDNext), max(now.ModSeq, c.want.ModSeq)
	if now.sound(e) {
		return true
	}
	c.records++
	if e.Last < maxMendedUID && e.ModSeq < maxMendedModSeq {
		c.want.UIDNext, c.want.ModSeq = max(c.want.UIDNext, e.Last+1), max(c.want.ModSeq, e.ModSeq)
	}
	return true
}

// block hears of a block whose row is wrong (nil), or that cannot be read.
func (c *boxCheck) block(b *BlockRow, err error) {
	if err != nil {
		c.unread, c.v.unread = true, true
		c.report("block", b.First, fmt.Sprintf("%d messages, UID %d to %d, cannot be read: %v", b.Count, b.First, b.Last, err), nil)
		return
	}
	c.bad++
}

func (c *boxCheck) message(r *MessageRow) {
	v, m := c.v, c.m
	v.p.Messages.Add(1)
	size := r.Size
	if e := v.table.refer(r.Body); e != nil {
		if size = e.size + int64(len(r.Prefix)); size != r.Size {
			c.bad++
		}
	}
	c.want.Messages++
	c.want.Size += size
	if r.Flags.System&Seen == 0 {
		c.want.Unseen++
	}
	c.want.UIDNext = max(c.want.UIDNext, r.UID+1)
	c.want.ModSeq = max(c.want.ModSeq, r.ModSeq, r.Created)
	if r.UID <= c.last.UID || r.Created < c.last.Created || r.ModSeq < r.Created {
		c.report("message", r.UID, fmt.Sprintf("it is out of order after UID %d", c.last.UID), nil)
	}
	if r.Mailbox != m.ID {
		c.report("message", r.UID, "it is of another mailbox", nil)
	}
	c.last = *r
}

// blocks calls fn for each message of a mailbox, and wrong for each block that
// cannot be read, or whose row does not say what is packed in it. stamp is the
// highest of the blocks.
func (v *verifier) blocks(m *MailboxRow, wrong func(*BlockRow, error), fn func(*MessageRow)) (stamp ModSeq, err error) {
	list, err := inOrder(func(fn func(*BlockRow) bool) error { return v.r.Blocks(m.ID, fn) },
		func(b **BlockRow) int64 { return int64((*b).First) })
	for i, b := range list {
		o, oerr := open(v.r, b)
		if oerr != nil {
			if !errors.Is(oerr, ErrDamaged) {
				err = errors.Join(err, oerr)
			}
			wrong(b, oerr)
			continue
		}
		list[i] = nil
		stamp = max(stamp, b.Stamp)
		top := ModSeq(0)
		for i := range o.marks.uids {
			row := o.row(i)
			top = max(top, row.ModSeq)
			fn(&row)
		}
		again := o.pack(m.ID, b.Stamp)
		if top > b.Stamp || again.First != b.First || again.Last != b.Last || again.Count != b.Count ||
			again.Unseen != b.Unseen || again.Size != b.Size {
			wrong(b, nil)
		}
	}
	return stamp, err
}

// mendMailbox gives a mailbox's row what its messages say, by the differences:
// they hold also when messages came and went meanwhile.
func mendMailbox(is, want MailboxRow) func(*Tx) error {
	return func(tx *Tx) error {
		if st := &tx.b.s.state; !st.dirty[is.ID] {
			delete(st.boxes, is.ID) // what was remembered may be older than the damage
		}
		box, err := tx.change(is.ID)
		if err != nil {
			return err
		}
		box.Messages += want.Messages - is.Messages
		box.Unseen += want.Unseen - is.Unseen
		box.Size += want.Size - is.Size
		box.Expunges += want.Expunges - is.Expunges
		box.UIDNext = max(box.UIDNext, want.UIDNext)
		box.ModSeq = max(box.ModSeq, want.ModSeq)
		tx.touch(box.ID, box.Account)
		return nil
	}
}

// mendExpunges forgets the record of a mailbox's expunges: who asks for what changed
// since before is told to see all anew.
func mendExpunges(m MailboxID) func(*Tx) error {
	return func(tx *Tx) error {
		box, err := tx.change(m)
		if err != nil {
			return err
		}
		box.Horizon, box.Expunges = box.ModSeq, 0
		tx.touch(m, box.Account)
		return tx.do(func(w Writer) error { return w.DeleteExpunges(m, math.MaxInt64) })
	}
}

// mendBlocks packs a mailbox's blocks anew, with the sizes that bodies have.
func mendBlocks(m MailboxID, size func(BodyID) (int64, bool)) func(*Tx) error {
	return func(tx *Tx) error {
		tx.b.s.indexes.drop(m)
		c, stamp, err := tx.edit(m)
		if err != nil {
			return err
		}
		for i, b := range c.blocks {
			o, err := open(tx.r, b)
			if errors.Is(err, ErrDamaged) {
				continue
			}
			if err != nil {
				return err
			}
			for j, id := range o.facts.bodies {
				if n, known := size(id); known {
					o.facts.sizes[j] = n + int64(len(o.row(j).Prefix))
				}
			}
			c.blocks[i] = o.pack(m, stamp)
		}
		_, err = tx.keep(c)
		return err
	}
}

// held counts the references of what is held.
func (v *verifier) held() {
	var last rising
	var order error
	err := v.r.Held(0, func(h *HeldRow) bool {
		if !last.next(int64(h.ID), &order) {
			return false
		}
		v.above(heldIDs, int64(h.ID))
		rows, err := Unpack(&h.BlockRow)
		if err != nil {
			v.unread = true
			v.reportFew(Finding{Kind: "held", Text: fmt.Sprintf("%d expunged messages of %q cannot be read: %v", h.Count, h.Name, err), Lost: true})
			return true
		}
		size := int64(0)
		for i := range rows {
			v.table.refer(rows[i].Body)
			size += rows[i].Size
		}
		_, err = v.r.Account(h.Account)
		if errors.Is(err, ErrNotFound) {
			v.reportFew(Finding{Kind: "held", Text: fmt.Sprintf("expunged messages are held of account %d, which is gone", h.Account),
				mend: func(tx *Tx) error { return tx.release(h) }})
			return true
		}
		v.trouble("held", h.Name, err)
		if h.Count != len(rows) || h.Size != size {
			want := *h
			want.Count, want.Size = len(rows), size
			v.reportFew(Finding{Kind: "held", Text: fmt.Sprintf("%d expunged messages (%d octets) of %q are said to be %d (%d)", len(rows), size, h.Name, h.Count, h.Size),
				mend: func(tx *Tx) error {
					if _, err := tx.r.HeldRow(h.ID); err != nil {
						return err
					}
					return tx.do(func(w Writer) error { return w.PutHeld(&want) })
				}})
		}
		return true
	})
	v.trouble("held", "what is held", errors.Join(err, order))
}

// queue checks the counts of the queue.
func (v *verifier) queue() {
	total := 0
	items, err := inOrder(func(fn func(QueueRow) bool) error { return v.r.QueueItems(math.MinInt64, fn) },
		func(q *QueueRow) int64 { return int64(q.ID) })
	v.trouble("queue", "the list of the queue", err)
	for _, q := range items {
		v.above(queueIDs, int64(q.ID))
		v.table.refer(q.Body)
		n := 0
		err := v.r.Recipients(q.ID, func(QueueRecipient) bool {
			n++
			return n < MaxQueueRecipients
		})
		v.trouble("queue", q.Envelope, err)
		total += n
		if n != q.Left || n == 0 {
			v.reportFew(Finding{Kind: "queue", Text: fmt.Sprintf("message %s waits for %d recipients, and is said to for %d", q.Envelope, n, q.Left),
				mend: mendItem(q, n-q.Left)})
		}
	}
	n, err := v.r.Counter(queueCounter)
	v.trouble("queue", "its length", err)
	if delta := total - int(n); delta != 0 {
		v.report(Finding{Kind: "queue", Text: fmt.Sprintf("the length is %d, and should be %d", n, total),
			mend: func(tx *Tx) error {
				_, err := tx.write()
				tx.queued += delta
				return err
			}})
	}
}

// mendItem corrects how many recipients an item has; one without any goes.
func mendItem(q QueueRow, delta int) func(*Tx) error {
	return func(tx *Tx) error {
		row, err := tx.r.QueueItem(q.ID)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if row.Left += delta; row.Left > 0 {
			return tx.do(func(w Writer) error { return w.PutQueueItem(row) })
		}
		tx.addRef(row.Body, -1)
		return tx.do(func(w Writer) error { return w.DeleteQueueItem(q.ID) })
	}
}
