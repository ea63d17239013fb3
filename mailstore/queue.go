package mailstore

import "errors"

// MaxQueueRecipients bounds the recipients of one item.
const MaxQueueRecipients = 1 << 20

// Enqueue adds an item with its recipients; Body, ID, Size, Item and Index are
// filled in.
func (tx *Tx) Enqueue(body *Body, item QueueItem, to []QueueRecipient) (QueueItem, []QueueRecipient, error) {
	if len(to) == 0 {
		return QueueItem{}, nil, errors.New("a queue item needs a recipient")
	}
	if len(to) > MaxQueueRecipients {
		return QueueItem{}, nil, ErrLimit
	}
	if err := tx.space(); err != nil {
		return QueueItem{}, nil, err
	}
	bodyID, err := tx.use(body)
	if err != nil {
		return QueueItem{}, nil, err
	}
	id, err := tx.b.s.state.take(tx, queueIDs)
	if err != nil {
		return QueueItem{}, nil, err
	}
	item.ID, item.Body, item.Size = QueueID(id), bodyID, body.Size()
	item.Accepted, item.Expires = stamp(item.Accepted), stamp(item.Expires)
	out := make([]QueueRecipient, len(to))
	err = tx.do(func(w Writer) error {
		if err := w.PutQueueItem(QueueRow{QueueItem: item, Left: len(to)}); err != nil {
			return err
		}
		for i, r := range to {
			r.Item, r.Index = item.ID, i
			out[i] = r.stamped()
			if err := w.PutRecipient(out[i]); err != nil {
				return err
			}
		}
		return nil
	})
	tx.addRef(bodyID, 1)
	tx.queued += len(to)
	return item, out, err
}

// stamped is the recipient with its times as rows keep them.
func (r QueueRecipient) stamped() QueueRecipient {
	r.Last, r.Next = stamp(r.Last), stamp(r.Next)
	return r
}

// UpdateRecipient replaces the recipient's row (same Item and Index).
func (tx *Tx) UpdateRecipient(r QueueRecipient) error {
	if _, err := tx.r.Recipient(r.Item, r.Index); err != nil {
		return err
	}
	return tx.do(func(w Writer) error { return w.PutRecipient(r.stamped()) })
}

// RemoveRecipient removes the recipient; with the last one the item and its
// share of the body go too. Missing is ErrNotFound.
func (tx *Tx) RemoveRecipient(item QueueID, index int) error {
	row, err := tx.r.QueueItem(item)
	if err != nil {
		return err
	}
	err = tx.do(func(w Writer) error { return w.DeleteRecipient(item, index) })
	if err != nil {
		return err
	}
	tx.queued--
	if row.Left--; row.Left > 0 {
		return tx.do(func(w Writer) error { return w.PutQueueItem(row) })
	}
	tx.addRef(row.Body, -1)
	return tx.do(func(w Writer) error { return w.DeleteQueueItem(item) })
}
