package pop3

import (
	"context"

	"postrider/mailstore"
)

// maildrop is an account's INBOX as it was at login. Message n of the protocol
// is element n-1.
type maildrop struct {
	account  mailstore.Account
	mailbox  mailstore.MailboxID
	validity uint32
	uids     []mailstore.UID
	sizes    []int64 // octets as sent, before stuffing
	deleted  []bool  // nil until the first DELE
	count    int     // messages not deleted
	octets   int64   // the sum of their sizes
}

// maildrops is what a session needs of the store.
type maildrops interface {
	// open lists the account's INBOX without reading bodies.
	open(ctx context.Context, a mailstore.Account) (*maildrop, error)
	// message opens one message; mailstore.ErrNotFound when it was expunged.
	message(ctx context.Context, d *maildrop, uid mailstore.UID) (mailstore.Content, error)
	// remove expunges messages in one commit; those that are gone are no error.
	remove(ctx context.Context, d *maildrop, uids []mailstore.UID) error
}

// storedDrops are the maildrops of a mailstore.
type storedDrops struct{ store *mailstore.Store }

func (s storedDrops) open(ctx context.Context, a mailstore.Account) (*maildrop, error) {
	d := &maildrop{account: a}
	err := s.store.View(ctx, func(v *mailstore.View) error {
		box, err := v.MailboxByName(a.ID, "INBOX")
		if err != nil {
			return err
		}
		d.mailbox, d.validity = box.ID, box.UIDValidity
		d.uids = make([]mailstore.UID, 0, box.Messages)
		d.sizes = make([]int64, 0, box.Messages)
		return v.Messages(box.ID, 1, 0, func(m mailstore.Message) bool {
			size := m.Size
			if m.Unended {
				size += 2 // the CRLF that content adds
			}
			d.uids = append(d.uids, m.UID)
			d.sizes = append(d.sizes, size)
			d.octets += size
			return true
		})
	})
	d.count = len(d.uids)
	return d, err
}

func (s storedDrops) message(ctx context.Context, d *maildrop, uid mailstore.UID) (mailstore.Content, error) {
	return s.store.OpenUID(ctx, d.mailbox, uid)
}

func (s storedDrops) remove(ctx context.Context, d *maildrop, uids []mailstore.UID) error {
	return s.store.Update(ctx, func(tx *mailstore.Tx) error {
		_, err := tx.Expunge(d.mailbox, uids)
		return err
	})
}

// isDeleted tells whether message i, from 0, is marked.
func (d *maildrop) isDeleted(i int) bool { return d.deleted != nil && d.deleted[i] }

// mark marks message i, which is not marked, for deletion.
func (d *maildrop) mark(i int) {
	if d.deleted == nil {
		d.deleted = make([]bool, len(d.uids))
	}
	d.deleted[i] = true
	d.count--
	d.octets -= d.sizes[i]
}

// unmark takes all marks back.
func (d *maildrop) unmark() {
	for i, deleted := range d.deleted {
		if deleted {
			d.count++
			d.octets += d.sizes[i]
		}
	}
	d.deleted = nil
}

// marked lists the UIDs of the messages to delete.
func (d *maildrop) marked() []mailstore.UID {
	var uids []mailstore.UID
	for i, deleted := range d.deleted {
		if deleted {
			uids = append(uids, d.uids[i])
		}
	}
	return uids
}
