package imap

import (
	"context"
	"slices"
	"sync"

	"postrider/mailstore"
)

// maxSentDates is how many messages' dates a server keeps, 12 octets each.
const maxSentDates = 2 << 20

// sentDates has when the messages of mailboxes were sent that were sorted by that:
// to know it takes a record of each, and it never changes.
type sentDates struct {
	mu    sync.Mutex
	boxes map[sentBox]*sentList
	total int // messages in them
}

type sentBox struct {
	id       mailstore.MailboxID
	validity uint32
}

// sentList is never changed.
type sentList struct {
	uids []mailstore.UID // in order
	sent []int64         // seconds since 1970
}

func (d *sentDates) of(box sentBox) *sentList {
	d.mu.Lock()
	defer d.mu.Unlock()
	if list := d.boxes[box]; list != nil {
		return list
	}
	return new(sentList)
}

// put keeps a mailbox's dates, and lets go those of others when they are too many.
func (d *sentDates) put(box sentBox, list *sentList) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.boxes == nil {
		d.boxes = make(map[sentBox]*sentList)
	}
	if old := d.boxes[box]; old != nil {
		d.total -= len(old.uids)
		delete(d.boxes, box)
	}
	if len(list.uids) > maxSentDates {
		return
	}
	for other, old := range d.boxes {
		if d.total+len(list.uids) <= maxSentDates {
			break
		}
		d.total -= len(old.uids)
		delete(d.boxes, other)
	}
	d.boxes[box] = list
	d.total += len(list.uids)
}

// with is a list with the dates of some more messages, in order, but without those of
// messages that are not in uids, where these are all.
func (l *sentList) with(more *sentList, uids []mailstore.UID) *sentList {
	n := min(len(l.uids)+len(more.uids), len(uids))
	all := &sentList{uids: make([]mailstore.UID, 0, n), sent: make([]int64, 0, n)}
	a, b := 0, 0
	for _, uid := range uids {
		for a < len(l.uids) && l.uids[a] < uid {
			a++
		}
		for b < len(more.uids) && more.uids[b] < uid {
			b++
		}
		switch {
		case a < len(l.uids) && l.uids[a] == uid:
			all.uids, all.sent = append(all.uids, uid), append(all.sent, l.sent[a])
		case b < len(more.uids) && more.uids[b] == uid:
			all.uids, all.sent = append(all.uids, uid), append(all.sent, more.sent[b])
		}
	}
	return all
}

// dates finds when messages, in order, were sent. Of those that are gone it may say 0.
func (s *session) dates(ctx context.Context, found []int) ([]int64, error) {
	box := sentBox{s.box.id, s.box.validity}
	list := s.srv.sent.of(box)
	dates := make([]int64, len(found))
	var unknown, places []int
	at := 0
	for i, index := range found {
		uid := s.box.uids[index]
		for at < len(list.uids) && list.uids[at] < uid {
			at++
		}
		if at < len(list.uids) && list.uids[at] == uid {
			dates[i] = list.sent[at]
		} else {
			unknown, places = append(unknown, index), append(places, i)
		}
	}
	if len(unknown) == 0 {
		return dates, nil
	}
	var told []int // places in unknown
	err := s.study(ctx, unknown, study{}, func(at int, f *facts) {
		dates[places[at]] = f.sent
		told = append(told, at)
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(told)
	more := new(sentList)
	for _, at := range told {
		more.uids = append(more.uids, s.box.uids[unknown[at]])
		more.sent = append(more.sent, dates[places[at]])
	}
	s.srv.sent.put(box, list.with(more, s.box.uids))
	return dates, nil
}
