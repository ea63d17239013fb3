package mailstore

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// View reads. Lists are complete and sorted by id or as said.
type View struct {
	s  *Store
	r  Reader
	tx *Tx // nil but for the View within a Tx
	// defaults is the quota of those that set none.
	defaults Quota
	// box is the mailbox whose index was asked for last, but in a Tx.
	box   MailboxID
	index *boxIndex
	// reading counts the lists that are being read by callbacks.
	reading int
}

// end makes later use of v fail at once.
func (v *View) end() { v.r = nil }

func (v *View) Account(id AccountID) (Account, error) { return v.r.Account(id) }

// AccountByAddress finds the account with this normalised address.
func (v *View) AccountByAddress(address string) (Account, error) {
	return v.r.AccountByAddress(address)
}

// FirstAccount is the account with the lowest id.
func (v *View) FirstAccount() (Account, error) {
	var first Account
	err := v.r.Accounts(func(a Account) bool {
		first = a
		return false
	})
	if err == nil && first.ID == 0 {
		err = ErrNotFound
	}
	return first, err
}

func (v *View) Accounts() ([]Account, error) { return collect(v.r.Accounts) }

// Domains lists our domains in order of creation.
func (v *View) Domains() ([]Domain, error) { return collect(v.r.Domains) }

func (v *View) Domain(name string) (Domain, error)    { return v.r.Domain(name) }
func (v *View) Alias(address string) (Alias, error)   { return v.r.Alias(address) }
func (v *View) Aliases() ([]Alias, error)             { return collect(v.r.Aliases) }
func (v *View) Setting(key string) ([]byte, error)    { return v.r.Setting(key) }
func (v *View) Mailbox(id MailboxID) (Mailbox, error) { return v.subscribed(v.mailbox(id)) }

// MailboxByName finds a mailbox; INBOX in any case, others exactly, after
// normalisation to NFC.
func (v *View) MailboxByName(a AccountID, name string) (Mailbox, error) {
	name, err := CleanName(name)
	if err != nil {
		return Mailbox{}, ErrNotFound
	}
	if v.tx != nil {
		if box, ok := v.tx.remembered(a, name); ok {
			return box, nil
		}
	}
	row, err := v.r.MailboxByName(a, name)
	box, err := v.subscribed(v.newest(row), err)
	if v.tx != nil && err == nil {
		v.tx.remember(&box)
	}
	return box, err
}

// Mailboxes lists the account's mailboxes by id.
func (v *View) Mailboxes(account AccountID) ([]Mailbox, error) {
	names := make(map[string]bool)
	err := v.r.Subscriptions(account, func(name string) bool {
		names[name] = true
		return true
	})
	if err != nil {
		return nil, err
	}
	var list []Mailbox
	err = v.r.Mailboxes(account, func(row MailboxRow) bool {
		box := v.newest(row).Mailbox
		box.Subscribed = names[box.Name]
		list = append(list, box)
		return true
	})
	return list, err
}

// CountMailboxes counts the mailboxes of an account; MaxMailboxes is their limit.
func (v *View) CountMailboxes(a AccountID) (int, error) { return v.r.CountMailboxes(a) }

// mailbox reads a row, as the transaction in hand sees it.
func (v *View) mailbox(id MailboxID) (MailboxRow, error) {
	if v.tx != nil {
		row, err := v.tx.box(id)
		if err != nil {
			return MailboxRow{}, err
		}
		return *row, nil
	}
	return v.r.Mailbox(id)
}

// newest replaces a row by what the transaction in hand knows of it.
func (v *View) newest(row MailboxRow) MailboxRow {
	if v.tx != nil {
		if r := v.tx.known(row.ID); r != nil {
			return *r
		}
	}
	return row
}

// subscribed turns a row into the mailbox that callers see.
func (v *View) subscribed(row MailboxRow, err error) (Mailbox, error) {
	if err != nil {
		return Mailbox{}, err
	}
	box := row.Mailbox
	box.Subscribed, err = v.r.Subscribed(box.Account, box.Name)
	return box, err
}

// Subscriptions lists the subscribed names of an account, those of mailboxes
// that do not exist any more included (RFC 9051 section 6.3.7).
func (v *View) Subscriptions(a AccountID) ([]string, error) {
	return collect(func(fn func(string) bool) error { return v.r.Subscriptions(a, fn) })
}

// Messages calls fn for each message of the mailbox with from <= UID <= to in
// order of UID, until fn returns false. to = 0 means no upper limit. fn may read
// by v; it may not write by a Tx.
func (v *View) Messages(m MailboxID, from, to UID, fn func(Message) bool) error {
	return v.listed(m, to, func(x *boxIndex, to UID) error {
		return x.between(v.r, from, to, func(r *MessageRow) bool { return fn(r.Message) })
	})
}

// Readable is Messages up to the last, but goes on behind messages that cannot be
// read, of which it tells damaged.
func (v *View) Readable(m MailboxID, from UID, fn func(Message) bool, damaged func(*DamagedRange)) error {
	for {
		err := v.Messages(m, from, 0, fn)
		var d *DamagedRange
		if !errors.As(err, &d) {
			return err
		}
		_ = v.s.noted(err)
		damaged(d)
		if d.Last == math.MaxUint32 {
			return nil
		}
		from = d.Last + 1
	}
}

// listed runs fn, which lists messages up to a UID, 0 for all, on a mailbox's
// index; a mailbox that is not there has no messages.
func (v *View) listed(m MailboxID, to UID, fn func(x *boxIndex, to UID) error) error {
	if to == 0 {
		to = math.MaxUint32
	}
	v.reading++
	defer func() { v.reading-- }()
	x, err := v.messages(m)
	if err != nil {
		return missing(err)
	}
	return fn(x, to)
}

func (v *View) Message(m MailboxID, uid UID) (Message, error) {
	x, err := v.messages(m)
	if err != nil {
		return Message{}, err
	}
	row, err := x.message(v.r, uid)
	return row.Message, err
}

// missing makes a mailbox that is not there one without messages.
func missing(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// messages gives the index of a mailbox's messages as v sees them.
func (v *View) messages(m MailboxID) (*boxIndex, error) {
	if v.tx != nil {
		return v.tx.messages(m)
	}
	if v.index != nil && v.box == m {
		return v.index, nil
	}
	row, err := v.r.Mailbox(m)
	if err != nil {
		return nil, err
	}
	x, err := v.s.load(v.r, m, row.ModSeq)
	if err == nil {
		v.box, v.index = m, x
	}
	return x, err
}

// Selected is what a client is told of a mailbox that it opens, and the list
// that its sequence numbers are of.
type Selected struct {
	Mailbox
	// UIDs of all messages. The list is shared by all who see this state of the
	// mailbox: it must not be changed.
	UIDs []UID
	// FirstUnseen is the number, from 1, of the first message without \Seen; 0
	// for none.
	FirstUnseen uint32
	// Keywords that messages have, in the order in which they come, at most
	// MaxListedKeywords.
	Keywords []string
}

// Select reads a mailbox as SELECT needs it, without reading its messages.
func (v *View) Select(m MailboxID) (Selected, error) {
	var s Selected
	var err error
	if s.Mailbox, err = v.Mailbox(m); err != nil {
		return s, err
	}
	x, err := v.messages(m)
	if err != nil {
		return s, err
	}
	if s.UIDs, err = x.list(); err != nil {
		return s, err
	}
	sums, err := x.summary()
	if err == nil {
		s.FirstUnseen, s.Keywords = sums.unseen, sums.keywords
	}
	return s, err
}

// UIDs lists the UIDs of a mailbox, in order. The list is shared by all who see
// this state of the mailbox: it must not be changed.
func (v *View) UIDs(m MailboxID) ([]UID, error) {
	x, err := v.messages(m)
	if err != nil {
		return nil, err
	}
	return x.list()
}

// Changes tells what happened in m after since, in time proportional to that.
// Expunged may name UIDs that arrived after since and are gone again.
func (v *View) Changes(m MailboxID, since ModSeq) (Changes, error) {
	box, err := v.mailbox(m)
	if err != nil {
		return Changes{}, err
	}
	c := Changes{ModSeq: box.ModSeq, UIDNext: box.UIDNext}
	if since >= box.ModSeq {
		return c, nil
	}
	if since < box.Horizon {
		c.Horizon = true
		return c, nil
	}
	x, err := v.messages(m)
	if err != nil {
		return Changes{}, err
	}
	err = x.since(since, func(m *Message, created ModSeq) {
		if created > since {
			c.Arrived = append(c.Arrived, *m)
		} else {
			c.Changed = append(c.Changed, *m)
		}
	})
	if err != nil {
		return Changes{}, err
	}
	sound := true
	err = v.r.Expunges(m, since, func(e ExpungeRow) bool {
		if sound = box.sound(e); !sound {
			return false
		}
		for uid := e.First; ; uid++ {
			c.Expunged = append(c.Expunged, uid)
			if uid == e.Last {
				return true
			}
		}
	})
	if err != nil {
		return Changes{}, err
	}
	if !sound { // who asks has to see all anew
		_ = v.s.noted(fmt.Errorf("the record of expunges of mailbox %d: %w", m, ErrDamaged))
		return Changes{ModSeq: box.ModSeq, UIDNext: box.UIDNext, Horizon: true}, nil
	}
	slices.Sort(c.Expunged)
	return c, nil
}

// QueueItem reads an item with its recipients by Index.
func (v *View) QueueItem(id QueueID) (QueueItem, []QueueRecipient, error) {
	row, err := v.r.QueueItem(id)
	if err != nil {
		return QueueItem{}, nil, err
	}
	to, err := v.recipients(id)
	return row.QueueItem, to, err
}

func (v *View) recipients(id QueueID) ([]QueueRecipient, error) {
	return collect(func(fn func(QueueRecipient) bool) error { return v.r.Recipients(id, fn) })
}

// Queue calls fn for each item in order of ID, starting after id.
func (v *View) Queue(after QueueID, fn func(QueueItem, []QueueRecipient) bool) error {
	const page = 256 // items read before their recipients are
	for {
		var items []QueueItem
		err := v.r.QueueItems(after, func(q QueueRow) bool {
			items = append(items, q.QueueItem)
			return len(items) < page
		})
		if err != nil {
			return err
		}
		for _, item := range items {
			to, err := v.recipients(item.ID)
			if err != nil {
				return err
			}
			if !fn(item, to) {
				return nil
			}
			after = item.ID
		}
		if len(items) < page {
			return nil
		}
	}
}

// Due lists up to limit recipients that are not held, ordered by Next, then
// Item, then Index, whose Next is not after until; skip continues a list whose
// last element was (Next, Item, Index).
func (v *View) Due(until time.Time, limit int, skip *QueueRecipient) ([]QueueRecipient, error) {
	return v.r.Due(until, limit, skip)
}

// QueueLength counts the recipients in the queue.
func (v *View) QueueLength() (int, error) {
	n, err := v.r.Counter(queueCounter)
	if v.tx != nil {
		n += int64(v.tx.queued + v.tx.b.s.state.queued)
	}
	return int(n), err
}

// collect makes a slice of a list.
func collect[T any](list func(fn func(T) bool) error) ([]T, error) {
	var all []T
	err := list(func(one T) bool {
		all = append(all, one)
		return true
	})
	return all, err
}
