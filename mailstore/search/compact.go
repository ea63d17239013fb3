package search

import (
	"context"
	"errors"

	"postrider/mailstore"
	"postrider/mailstore/sqlite"
)

// compactStale compacts those of the changed accounts whose documents are for
// the greater part without a message.
func (w *indexer) compactStale() error {
	for a := range w.changed {
		if w.ended() {
			return errEnded
		}
		delete(w.changed, a)
		live, err := number(w.db, "SELECT live FROM account WHERE id = ?", int64(a))
		if err != nil {
			return err
		}
		if live < minStale {
			continue
		}
		boxes, err := w.mailboxes(a)
		if err != nil {
			return err
		}
		messages := int64(0)
		for _, b := range boxes {
			messages += int64(b.Messages)
		}
		if live-messages < max(minStale, live/2) || w.low() { // it needs space before it frees some
			continue
		}
		if err := w.compact(a, boxes); err != nil {
			return err
		}
	}
	return nil
}

// compact drops the documents and places of an account that have no message any
// more. Documents keep their numbers.
func (w *indexer) compact(a mailstore.AccountID, boxes []mailstore.Mailbox) error {
	next, err := number(w.db, "SELECT next FROM account WHERE id = ?", int64(a))
	if err != nil {
		return err
	}
	if next < 0 || next > maxDocs {
		return errDamaged
	}
	live := newBitset(int(next))
	return within(w.db, func() error {
		for _, b := range boxes {
			if err := w.compactBox(b.ID, live); err != nil {
				return err
			}
		}
		if err := w.compactDocs(a, live); err != nil {
			return err
		}
		list, err := segments(w.db, a)
		if err != nil {
			return err
		}
		for len(list) > 0 {
			n, size := 1, list[0].size
			for n < len(list) && list[n-1].hi-list[0].lo < maxSegment && size < maxMergedSize {
				size += list[n].size
				n++
			}
			part := newBitset(int(list[n-1].hi - list[0].lo))
			for d := list[0].lo; d < list[n-1].hi; d++ {
				if live.has(int(d)) {
					part.add(int(d - list[0].lo))
				}
			}
			if _, err := w.mergeInto(a, list[:n], part); err != nil {
				return err
			}
			list = list[n:]
		}
		return w.countDocs()
	})
}

// compactBox keeps the places of messages that are still there, and notes their
// documents in live.
func (w *indexer) compactBox(m mailstore.MailboxID, live *bitset) error {
	var ids []int64
	err := w.db.Query("SELECT id FROM place WHERE mailbox = ? ORDER BY first", args(int64(m)), func(r sqlite.Row) bool {
		ids = append(ids, r.Int(0))
		return true
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		p, err := readPlaces(w.db, id)
		if err != nil {
			return err
		}
		if _, err := w.db.Exec("DELETE FROM place WHERE id = ?", id); err != nil {
			return err
		}
		kept, err := w.there(m, p)
		if err != nil {
			return err
		}
		for _, d := range kept.docs {
			if int(d) >= len(live.words)*64 {
				return errDamaged
			}
			live.add(int(d))
		}
		if len(kept.uids) > 0 {
			if err := w.putPlaces(m, kept); err != nil {
				return err
			}
		}
	}
	return nil
}

// there is what of p the mailbox still has.
func (w *indexer) there(m mailstore.MailboxID, p *places) (*places, error) {
	kept := new(places)
	if len(p.uids) == 0 {
		return kept, nil
	}
	i := 0
	err := view(context.Background(), w.store, func(v *mailstore.View) error {
		return v.Messages(m, p.uids[0], p.uids[len(p.uids)-1], func(one mailstore.Message) bool {
			for i < len(p.uids) && p.uids[i] < one.UID {
				i++
			}
			if i < len(p.uids) && p.uids[i] == one.UID {
				kept.add(one.UID, p.docs[i])
			}
			return true
		})
	})
	if errors.Is(err, mailstore.ErrDamaged) { // nobody can say what is there
		return p, nil
	}
	return kept, err
}

// compactDocs forgets the bodies of documents that are not live.
func (w *indexer) compactDocs(a mailstore.AccountID, live *bitset) error {
	var stale []docKey
	err := w.db.Query("SELECT body, prefix, doc FROM doc WHERE account = ?", args(int64(a)), func(r sqlite.Row) bool {
		if !live.has(int(r.Int(2))) {
			stale = append(stale, docKey{mailstore.BodyID(r.Int(0)), r.Int(1)})
		}
		return true
	})
	if err != nil {
		return err
	}
	for _, key := range stale {
		if _, err := w.db.Exec("DELETE FROM doc WHERE account = ? AND body = ? AND prefix = ?", int64(a), int64(key.body), key.prefix); err != nil {
			return err
		}
	}
	_, err = w.db.Exec("UPDATE account SET live = live - ? WHERE id = ?", int64(len(stale)), int64(a))
	return err
}
