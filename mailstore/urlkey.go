package mailstore

import (
	"bytes"
	"fmt"
)

// Lengths of the key of URLs, in octets.
const (
	MinURLKey = 16
	MaxURLKey = 64
)

// URLKey is the mailbox access key (RFC 4467 section 4) by which user's URLs of
// messages in a mailbox are signed. ErrNotFound: there is none.
func (v *View) URLKey(user AccountID, m MailboxID) ([]byte, error) { return v.r.URLKey(user, m) }

// SetURLKey keeps a key of MinURLKey to MaxURLKey octets in place of the one that
// there was; it goes with the mailbox and with the account. Errors: ErrNotFound
// for either, ErrLimit for a key of another length.
func (tx *Tx) SetURLKey(user AccountID, m MailboxID, key []byte) error {
	if len(key) < MinURLKey || len(key) > MaxURLKey {
		return fmt.Errorf("%w: a key of %d octets", ErrLimit, len(key))
	}
	if _, err := tx.r.Account(user); err != nil {
		return err
	}
	if _, err := tx.box(m); err != nil {
		return err
	}
	key = bytes.Clone(key)
	return tx.do(func(w Writer) error { return w.PutURLKey(user, m, key) })
}

// DeleteURLKey removes user's key of a mailbox, where there is one.
func (tx *Tx) DeleteURLKey(user AccountID, m MailboxID) error {
	if user == 0 || m == 0 {
		return ErrNotFound
	}
	return tx.do(func(w Writer) error { return w.DeleteURLKeys(user, m) })
}

// DeleteURLKeys removes all keys of user.
func (tx *Tx) DeleteURLKeys(user AccountID) error {
	if user == 0 {
		return ErrNotFound
	}
	return tx.do(func(w Writer) error { return w.DeleteURLKeys(user, 0) })
}
