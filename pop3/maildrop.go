package pop3

import (
	"context"
	"slices"

	"postrider/internal/clock"
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
	read     []bool  // sent whole by RETR; nil until the first
	count    int     // messages not deleted
	octets   int64   // the sum of their sizes
}

// maildrops is what a session needs of the store.
type maildrops interface {
	// open lists the account's INBOX without reading bodies.
	open(ctx context.Context, a mailstore.Account) (*maildrop, error)
	// message opens one message; mailstore.ErrNotFound when it was expunged.
	message(ctx context.Context, d *maildrop, uid mailstore.UID) (mailstore.Content, error)
	// describe tells of one message when and whence it came; the error as above.
	describe(ctx context.Context, d *maildrop, uid mailstore.UID) (mailstore.Message, error)
	// settle expunges messages in one commit; those that are gone are no error.
	// Where messages expire it notes those that were retrieved, and expunges what
	// was retrieved, now or earlier, and is old enough; it tells how many.
	settle(ctx context.Context, d *maildrop, deleted, retrieved []mailstore.UID) (expired int, err error)
}

// storedDrops are the maildrops of a mailstore.
type storedDrops struct {
	store  *mailstore.Store
	policy Policy
	clock  clock.Clock
}

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

func (s storedDrops) describe(ctx context.Context, d *maildrop, uid mailstore.UID) (m mailstore.Message, err error) {
	err = s.store.View(ctx, func(v *mailstore.View) error {
		m, err = v.Message(d.mailbox, uid)
		return err
	})
	return m, err
}

func (s storedDrops) settle(ctx context.Context, d *maildrop, deleted, retrieved []mailstore.UID) (expired int, err error) {
	err = s.store.Update(ctx, func(tx *mailstore.Tx) error {
		expired = 0
		uids := deleted
		if s.policy.Expires {
			old, err := s.expire(tx, d, retrieved)
			if err != nil {
				return err
			}
			expired = len(old)
			uids = slices.Concat(deleted, old)
		}
		_, err := tx.Expunge(d.mailbox, uids)
		return err
	})
	return expired, err
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

// retrieve notes that message i was sent whole.
func (d *maildrop) retrieve(i int) {
	if d.read == nil {
		d.read = make([]bool, len(d.uids))
	}
	d.read[i] = true
}

// left lists the UIDs of messages that were sent and are not to be deleted.
func (d *maildrop) left() []mailstore.UID {
	var uids []mailstore.UID
	for i, read := range d.read {
		if read && !d.isDeleted(i) {
			uids = append(uids, d.uids[i])
		}
	}
	return uids
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
