package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postrider/mailstore"
)

var epoch = time.Date(2026, 11, 20, 12, 0, 0, 123456789, time.UTC)

func (s *suite) queue() {
	b := s.body("queued")
	item := mailstore.QueueItem{
		Envelope: "0123456789", From: "alice@example.org", BodyType: "8BITMIME", UTF8: true, Return: "HDRS",
		EnvID: "id with spaces", Login: "alice@example.org", Accepted: epoch, Expires: epoch.Add(time.Hour),
	}
	to := []mailstore.QueueRecipient{
		{Address: "a@example.net", Domain: "example.net", Notify: "NEVER", ORCPT: "rfc822;x", Original: "x@example.org", Next: epoch},
		{Address: "b@example.com", Domain: "example.com", Original: "b@example.com", Held: true},
	}
	var got mailstore.QueueItem
	var gotTo []mailstore.QueueRecipient
	s.update(func(tx *mailstore.Tx) (err error) {
		_, _, err = tx.Enqueue(b, item, nil)
		if err == nil {
			s.Error("an item without recipients was taken")
		}
		got, gotTo, err = tx.Enqueue(b, item, to)
		n, qerr := tx.QueueLength()
		s.ok(qerr)
		s.equal(n, 2)
		return err
	})
	b.Release()
	item.ID, item.Body, item.Size = got.ID, got.Body, 6
	s.equal(got, item)
	for i := range to {
		to[i].Item, to[i].Index = item.ID, i
	}
	s.equal(gotTo, to)
	s.reopened()
	s.queueIs("[2]", item, to)
	c, err := s.store.OpenBody(context.Background(), item.Body)
	s.ok(err)
	text, err := readAll(c)
	s.ok(err)
	s.equal(text, "queued")

	to[0].Attempts, to[0].Last, to[0].Next = 1, epoch.Add(time.Second), epoch.Add(time.Minute)
	to[0].Reply, to[0].Host, to[0].Delayed, to[0].Held = "451 4.3.0 later\n\xff", "mx.example.net", true, false
	s.update(func(tx *mailstore.Tx) error {
		s.is(tx.UpdateRecipient(mailstore.QueueRecipient{Item: item.ID, Index: 2}), mailstore.ErrNotFound)
		s.is(tx.UpdateRecipient(mailstore.QueueRecipient{Item: item.ID + 1}), mailstore.ErrNotFound)
		s.is(tx.UpdateRecipient(mailstore.QueueRecipient{Item: item.ID, Index: -1}), mailstore.ErrNotFound)
		return tx.UpdateRecipient(to[0])
	})
	s.queueIs("[2]", item, to)
	s.update(func(tx *mailstore.Tx) error {
		s.is(tx.RemoveRecipient(item.ID, 2), mailstore.ErrNotFound)
		s.is(tx.RemoveRecipient(item.ID+1, 0), mailstore.ErrNotFound)
		return tx.RemoveRecipient(item.ID, 0)
	})
	s.queueIs("[1]", item, to[1:])
	s.update(func(tx *mailstore.Tx) error { return tx.RemoveRecipient(item.ID, 1) })
	s.view(func(v *mailstore.View) error {
		_, _, err := v.QueueItem(item.ID)
		s.is(err, mailstore.ErrNotFound)
		n, err := v.QueueLength()
		s.equal(n, 0)
		return err
	})
	_, err = s.store.OpenBody(context.Background(), item.Body)
	s.is(err, mailstore.ErrNotFound)
	s.reopened()
	b = s.body("again")
	defer b.Release()
	s.update(func(tx *mailstore.Tx) error {
		again, _, err := tx.Enqueue(b, mailstore.QueueItem{}, to[:1])
		if again.ID <= item.ID {
			s.Errorf("queue id %d after %d", again.ID, item.ID)
		}
		return err
	})
}

// queueIs checks that the queue has one item.
func (s *suite) queueIs(length string, item mailstore.QueueItem, to []mailstore.QueueRecipient) {
	s.Helper()
	s.view(func(v *mailstore.View) error {
		got, gotTo, err := v.QueueItem(item.ID)
		s.ok(err)
		s.equal([]any{got, gotTo}, []any{item, to})
		n := 0
		s.ok(v.Queue(0, func(q mailstore.QueueItem, r []mailstore.QueueRecipient) bool {
			n++
			s.equal([]any{q, r}, []any{item, to})
			return true
		}))
		s.equal(n, 1)
		l, err := v.QueueLength()
		s.equal(fmt.Sprintf("[%d]", l), length)
		return err
	})
}

func (s *suite) due() {
	b := s.body("x")
	defer b.Release()
	const items = 600 // more than one page of View.Queue
	var want []string
	s.update(func(tx *mailstore.Tx) error {
		for i := range items {
			// Times go down in steps, several items to each; one in seven is held.
			next := epoch.Add(-time.Duration(i/10) * time.Second)
			to := []mailstore.QueueRecipient{{Next: next}, {Next: next.Add(time.Hour)}, {Next: next, Held: i%7 == 0}}
			if i == 5 {
				to[0].Next = time.Time{}
			}
			if _, _, err := tx.Enqueue(b, mailstore.QueueItem{}, to); err != nil {
				return err
			}
		}
		return nil
	})
	name := func(r mailstore.QueueRecipient) string { return fmt.Sprintf("%d.%d", r.Item, r.Index) }
	want = append(want, "6.0")
	for step := items/10 - 1; step >= 0; step-- {
		for i := step * 10; i < step*10+10; i++ {
			for index := range 3 {
				if index == 1 || index == 2 && i%7 == 0 || index == 0 && i == 5 {
					continue
				}
				want = append(want, fmt.Sprintf("%d.%d", i+1, index))
			}
		}
	}
	for _, limit := range []int{1000000, 7, 1} {
		var got []string
		var last *mailstore.QueueRecipient
		s.view(func(v *mailstore.View) error {
			for {
				list, err := v.Due(epoch, limit, last)
				s.ok(err)
				if len(list) > limit {
					s.Fatalf("%d recipients, limit %d", len(list), limit)
				}
				for _, r := range list {
					got = append(got, name(r))
				}
				if len(list) < limit {
					return nil
				}
				last = &list[len(list)-1]
			}
		})
		s.equal(got, want)
	}
	s.view(func(v *mailstore.View) error {
		list, err := v.Due(epoch.Add(-time.Hour), 10, nil)
		s.equal(len(list), 1) // the one without a time
		all, aerr := v.Due(time.Now().AddDate(1000, 0, 0), 10*items, nil)
		s.equal(len(all), 3*items-(items+6)/7)
		n := 0
		qerr := v.Queue(3, func(q mailstore.QueueItem, r []mailstore.QueueRecipient) bool {
			n++
			s.equal([]any{int(q.ID), len(r)}, []any{n + 3, 3})
			return n < 300
		})
		s.equal(n, 300)
		l, lerr := v.QueueLength()
		s.equal(l, 3*items)
		return errors.Join(err, aerr, qerr, lerr)
	})
}
