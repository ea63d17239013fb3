package mailstore

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Limits of one account's mailboxes.
const (
	MaxMailboxes     = 10000
	MaxSubscriptions = 10000
	// MaxExpunges is the number of rows in a mailbox's record of expunges
	// (runs of neighbours count once); when there are more, the older half goes
	// and the horizon rises.
	MaxExpunges = 20000
)

// CreateMailbox creates one mailbox (parents are the caller's business), with the
// access control list of the nearest one above it.
// UIDVALIDITY is never one that a mailbox of that name had before.
func (tx *Tx) CreateMailbox(a AccountID, name, specialUse string) (Mailbox, error) {
	name, err := CleanName(name)
	if err != nil {
		return Mailbox{}, err
	}
	if _, err := tx.r.Account(a); err != nil {
		return Mailbox{}, err
	}
	_, err = tx.r.MailboxByName(a, name)
	if err := absent(err); err != nil {
		return Mailbox{}, err
	}
	n, err := tx.r.CountMailboxes(a)
	if err != nil {
		return Mailbox{}, err
	}
	if n >= MaxMailboxes {
		return Mailbox{}, fmt.Errorf("%w: %d mailboxes", ErrLimit, n)
	}
	id, err := tx.b.s.state.take(tx, mailboxIDs)
	if err != nil {
		return Mailbox{}, err
	}
	valid, err := tx.validity()
	if err != nil {
		return Mailbox{}, err
	}
	row := MailboxRow{Mailbox: Mailbox{
		ID: MailboxID(id), Account: a, Name: name, SpecialUse: specialUse,
		UIDValidity: valid, UIDNext: 1, ModSeq: 1,
	}}
	if err := tx.putBox(row); err != nil {
		return Mailbox{}, err
	}
	if err := tx.inheritACL(&row); err != nil {
		return Mailbox{}, err
	}
	tx.touchList(a)
	return tx.subscribed(row, nil)
}

// putBox writes a row at once, where its name matters to later reads.
func (tx *Tx) putBox(row MailboxRow) error {
	if err := tx.do(func(w Writer) error { return w.PutMailbox(row) }); err != nil {
		return err
	}
	tx.setBox(row.ID, &row)
	return nil
}

// RenameMailbox renames the mailbox and all below it; subscriptions stay with
// the names. Renaming INBOX moves its messages into a new mailbox and leaves it
// empty, and what is below it where it is (RFC 9051 section 6.3.6); both have its
// annotations then.
func (tx *Tx) RenameMailbox(m MailboxID, name string) error {
	name, err := CleanName(name)
	if err != nil {
		return err
	}
	box, err := tx.mailbox(m)
	if err != nil {
		return err
	}
	if strings.HasPrefix(name, box.Name+"/") && box.Name != Inbox {
		return fmt.Errorf("%w: below the mailbox itself", ErrName)
	}
	_, err = tx.r.MailboxByName(box.Account, name)
	if err := absent(err); err != nil {
		return err
	}
	if box.Name == Inbox {
		to, err := tx.CreateMailbox(box.Account, name, "")
		if err != nil {
			return err
		}
		if _, _, err := tx.transfer(AllRights, m, everything(), to.ID, true); err != nil {
			return err
		}
		return tx.copyAnnotations(box.Account, m, to.ID) // RFC 5464 section 4.1
	}
	boxes, err := tx.Mailboxes(box.Account)
	if err != nil {
		return err
	}
	taken := make(map[string]bool)
	for _, b := range boxes {
		taken[b.Name] = true
	}
	prefix := box.Name + "/"
	for _, b := range boxes {
		rest, below := strings.CutPrefix(b.Name, prefix)
		if !below {
			continue
		}
		to, err := CleanName(name + "/" + rest)
		if err != nil {
			return err
		}
		if taken[to] {
			return ErrExists
		}
		if err := tx.renameOne(b.ID, to); err != nil {
			return err
		}
	}
	return tx.renameOne(m, name)
}

// renameOne changes one mailbox's name.
func (tx *Tx) renameOne(m MailboxID, name string) error {
	row, err := tx.mailbox(m)
	if err != nil {
		return err
	}
	shared, err := tx.isShared(m)
	if err != nil {
		return err
	}
	tx.rights = tx.rights || shared // who has rights to it finds it by its name
	row.Name = name
	tx.touchList(row.Account)
	tx.touch(m, row.Account)
	return tx.putBox(row)
}

// DeleteMailbox removes the mailbox and its messages, not those below it.
// INBOX stays (RFC 9051 section 6.3.5).
func (tx *Tx) DeleteMailbox(m MailboxID) error {
	box, err := tx.mailbox(m)
	if err != nil {
		return err
	}
	if box.Name == Inbox {
		return fmt.Errorf("%w: INBOX can not be deleted", ErrName)
	}
	return tx.dropMailbox(m)
}

// dropMailbox removes any mailbox.
func (tx *Tx) dropMailbox(m MailboxID) error {
	box, err := tx.mailbox(m)
	if err != nil {
		return err
	}
	x, err := tx.messages(m)
	if err != nil {
		return err
	}
	taken := make([]*BlockRow, len(x.blocks))
	for i, b := range x.blocks {
		whole := *b
		if whole.Data, err = data(tx.r, b); err != nil {
			return err
		}
		taken[i] = &whole
	}
	if err := tx.hold(&box, taken); err != nil {
		return err
	}
	shared, err := tx.isShared(m)
	if err != nil {
		return err
	}
	err = tx.do(func(w Writer) error {
		if err := w.DeleteBlocks(m); err != nil {
			return err
		}
		if err := w.DeleteExpunges(m, math.MaxInt64); err != nil {
			return err
		}
		if err := w.DeleteAnnotations(box.Account, m); err != nil {
			return err
		}
		if err := w.DeleteACLs(m); err != nil {
			return err
		}
		if err := w.DeleteURLKeys(0, m); err != nil {
			return err
		}
		return w.DeleteMailbox(m)
	})
	if err != nil {
		return err
	}
	tx.rights = tx.rights || shared
	tx.setEdit(m, nil)
	tx.setBox(m, nil)
	tx.touch(m, box.Account)
	if box.Messages > 0 {
		err = tx.spend(box.Account, Usage{-box.Size, -int64(box.Messages)})
	}
	tx.touchList(box.Account)
	return err
}

// Subscribe adds a name to the account's subscriptions or removes it. The name
// need not be that of a mailbox.
func (tx *Tx) Subscribe(a AccountID, name string, subscribed bool) error {
	name, err := CleanName(name)
	if err != nil {
		return err
	}
	if _, err := tx.r.Account(a); err != nil {
		return err
	}
	tx.touchList(a)
	if !subscribed {
		return tx.do(func(w Writer) error { return w.DeleteSubscription(a, name) })
	}
	names, err := tx.Subscriptions(a)
	if err != nil {
		return err
	}
	if len(names) >= MaxSubscriptions && !slices.Contains(names, name) {
		return fmt.Errorf("%w: %d subscriptions", ErrLimit, len(names))
	}
	return tx.do(func(w Writer) error { return w.PutSubscription(a, name) })
}
