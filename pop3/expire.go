package pop3

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"time"

	"postrider/mailstore"
)

// retrievedSetting is where the store keeps which messages of an account's INBOX
// were retrieved and stay: the UIDVALIDITY and then the UIDs in order, each as what
// it is more than the one before, as uvarints. Only expiry needs it.
func retrievedSetting(a mailstore.AccountID) string {
	return "pop3/retrieved/" + strconv.FormatInt(int64(a), 10)
}

// ForgetAccount removes what the store keeps of an account that is gone.
func ForgetAccount(ctx context.Context, s *mailstore.Store, a mailstore.AccountID) error {
	return s.Update(ctx, func(tx *mailstore.Tx) error { return tx.PutSetting(retrievedSetting(a), nil) })
}

// expire returns the messages of a maildrop that were retrieved and are old
// enough to go, and notes which others were.
func (s storedDrops) expire(tx *mailstore.Tx, d *maildrop, retrieved []mailstore.UID) (old []mailstore.UID, err error) {
	setting := retrievedSetting(d.account.ID)
	text, err := tx.Setting(setting)
	if err != nil && !errors.Is(err, mailstore.ErrNotFound) {
		return nil, err
	}
	all := slices.Concat(decodeUIDs(text, d.validity), retrieved)
	slices.Sort(all)
	all = slices.Compact(all)
	border := s.clock.Now().Add(-time.Duration(s.policy.ExpireDays) * 24 * time.Hour)
	stay := all[:0]
	for _, uid := range all {
		i, there := slices.BinarySearch(d.uids, uid)
		if !there || d.isDeleted(i) {
			continue
		}
		m, err := tx.Message(d.mailbox, uid)
		switch {
		case errors.Is(err, mailstore.ErrNotFound): // expunged by another program
		case err != nil:
			return nil, err
		case s.policy.ExpireDays == 0 || m.Saved.Before(border):
			old = append(old, uid)
		default:
			stay = append(stay, uid)
		}
	}
	noted := encodeUIDs(stay, d.validity)
	if bytes.Equal(noted, text) {
		return old, nil // as after most sessions: nothing to write
	}
	return old, tx.PutSetting(setting, noted)
}

// encodeUIDs is nil for none.
func encodeUIDs(uids []mailstore.UID, validity uint32) []byte {
	if len(uids) == 0 {
		return nil
	}
	b := binary.AppendUvarint(nil, uint64(validity))
	last := mailstore.UID(0)
	for _, uid := range uids {
		b = binary.AppendUvarint(b, uint64(uid-last))
		last = uid
	}
	return b
}

// decodeUIDs reads them; none when they are of another UIDVALIDITY. What is
// damaged ends the list: those messages stay until they are retrieved again.
func decodeUIDs(b []byte, validity uint32) (uids []mailstore.UID) {
	v, n := binary.Uvarint(b)
	if n <= 0 || v != uint64(validity) {
		return nil
	}
	last := uint64(0)
	for b = b[n:]; len(b) > 0; b = b[n:] {
		var step uint64
		if step, n = binary.Uvarint(b); n <= 0 || step == 0 || step > 1<<32 || last+step >= 1<<32 {
			return uids
		}
		last += step
		uids = append(uids, mailstore.UID(last))
	}
	return uids
}
