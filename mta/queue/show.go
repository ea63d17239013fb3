package queue

import (
	"context"
	"errors"

	"postrider/mailstore"
	"postrider/mailstore/message"
)

// Header gives the header of a message in the queue, at most limit octets of
// it. ErrNotFound when there is no such message.
func (q *Queue) Header(ctx context.Context, id string, limit int) ([]byte, error) {
	var item mailstore.QueueItem
	err := q.o.Store.View(ctx, func(v *mailstore.View) error {
		n, err := q.find(v, id)
		if err != nil {
			return err
		}
		item, _, err = v.QueueItem(n)
		return err
	})
	if errors.Is(err, mailstore.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	body, err := q.o.Store.OpenBody(ctx, item.Body)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	h, err := message.ReadHeader(body, body.Size())
	if err != nil {
		return nil, err
	}
	raw := h.Bytes()
	return raw[:min(len(raw), limit)], nil
}
