package mailstore

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"time"
)

// stamp is a time as rows keep it: without a zone and a monotonic reading.
func stamp(t time.Time) time.Time {
	switch {
	case t.IsZero():
		return time.Time{}
	case t.After(lastStamp()):
		return lastStamp()
	}
	return time.Unix(0, t.UnixNano()).UTC()
}

// lastStamp is the last time that nanoseconds can count to.
func lastStamp() time.Time { return time.Unix(0, math.MaxInt64).UTC() }

// second is a time as messages keep it.
func second(t time.Time) time.Time { return time.Unix(t.Unix(), 0).UTC() }

// absent turns the outcome of a getter into that of a creator's check.
func absent(err error) error {
	switch {
	case err == nil:
		return ErrExists
	case errors.Is(err, ErrNotFound):
		return nil
	default:
		return err
	}
}

// CreateAccount adds an account with an address that no other has. Its ID is
// given; Created is set when it is zero. It gets no mailboxes.
func (tx *Tx) CreateAccount(a Account) (AccountID, error) {
	_, err := tx.r.AccountByAddress(a.Address)
	if err := absent(err); err != nil {
		return 0, err
	}
	id, err := tx.b.s.state.take(tx, accountIDs)
	if err != nil {
		return 0, err
	}
	a.ID = AccountID(id)
	if a.Created.IsZero() {
		a.Created = tx.now()
	}
	a.Created = stamp(a.Created)
	a.Credentials = bytes.Clone(a.Credentials)
	a.Quota = a.Quota.clean()
	tx.touchList(a.ID)
	return a.ID, tx.do(func(w Writer) error { return w.PutAccount(a) })
}

// UpdateAccount replaces the account of that ID, Created excepted.
func (tx *Tx) UpdateAccount(a Account) error {
	old, err := tx.r.Account(a.ID)
	if err != nil {
		return err
	}
	if old.Address != a.Address {
		_, err := tx.r.AccountByAddress(a.Address)
		if err := absent(err); err != nil {
			return err
		}
	}
	a.Created = old.Created
	a.Credentials = bytes.Clone(a.Credentials)
	a.Quota = a.Quota.clean()
	if old.Address != a.Address {
		if err := tx.dropIdentifier(old.Address, a.Address); err != nil {
			return err
		}
	}
	tx.rights = tx.rights || old.Address != a.Address || old.Shared != a.Shared
	tx.touchLimits()
	return tx.do(func(w Writer) error { return w.PutAccount(a) })
}

// DeleteAccount removes the account with its mailboxes and messages, and the
// rights that it had to those of others.
func (tx *Tx) DeleteAccount(id AccountID) error {
	account, err := tx.r.Account(id)
	if err != nil {
		return err
	}
	if err := tx.dropIdentifier(account.Address, ""); err != nil {
		return err
	}
	boxes, err := tx.Mailboxes(id)
	if err != nil {
		return err
	}
	for _, box := range boxes {
		if err := tx.dropMailbox(box.ID); err != nil {
			return err
		}
	}
	names, err := tx.Subscriptions(id)
	if err != nil {
		return err
	}
	for _, name := range names {
		err := tx.do(func(w Writer) error { return w.DeleteSubscription(id, name) })
		if err != nil {
			return err
		}
	}
	if err := tx.unhold(id); err != nil {
		return err
	}
	delete(tx.threads, id)
	tx.rights = true // those that anyone has, too
	tx.touchList(id)
	tx.touchLimits()
	return tx.do(func(w Writer) error {
		if err := w.DeleteThreads(id); err != nil {
			return err
		}
		if err := w.DeleteAnnotations(id, 0); err != nil {
			return err
		}
		if err := w.DeleteURLKeys(id, 0); err != nil {
			return err
		}
		return w.DeleteAccount(id)
	})
}

// CreateDomain adds a domain (A-labels, lower case).
func (tx *Tx) CreateDomain(name string) error {
	_, err := tx.r.Domain(name)
	if err := absent(err); err != nil {
		return err
	}
	d := Domain{Name: name, Created: stamp(tx.now())}
	tx.touchLimits()
	return tx.do(func(w Writer) error { return w.PutDomain(d) })
}

// DeleteDomain removes a domain, and the rights that its accounts had as such.
func (tx *Tx) DeleteDomain(name string) error {
	if _, err := tx.r.Domain(name); err != nil {
		return err
	}
	if err := tx.dropIdentifier("@"+name, ""); err != nil {
		return err
	}
	tx.touchLimits()
	return tx.do(func(w Writer) error { return w.DeleteDomain(name) })
}

// PutAlias adds or replaces an alias.
func (tx *Tx) PutAlias(a Alias) error {
	a.Targets = slices.Clone(a.Targets)
	return tx.do(func(w Writer) error { return w.PutAlias(a) })
}

func (tx *Tx) DeleteAlias(address string) error {
	if _, err := tx.r.Alias(address); err != nil {
		return err
	}
	return tx.do(func(w Writer) error { return w.DeleteAlias(address) })
}

// PutSetting keeps a value under a key; nil removes it.
func (tx *Tx) PutSetting(key string, v []byte) error {
	v = bytes.Clone(v)
	return tx.do(func(w Writer) error { return w.PutSetting(key, v) })
}

// validity takes a UIDVALIDITY: it grows with time and by one at least, so that
// no two mailboxes ever share one, not even after the loss of the store.
func (tx *Tx) validity() (uint32, error) {
	last, err := tx.r.Counter(validityCounter)
	if err != nil {
		return 0, err
	}
	next := last + 1
	if now := tx.now().Unix(); now > next && now < math.MaxUint32/2 {
		next = now
	}
	if next > math.MaxUint32 {
		return 0, ErrLimit
	}
	err = tx.do(func(w Writer) error { return w.PutCounter(validityCounter, next) })
	return uint32(next), err
}
