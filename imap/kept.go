package imap

import (
	"context"
	"slices"
	"sync"

	"postrider/mailstore"
)

// How many octets a server keeps of when messages were sent, and of what THREAD compares.
const (
	maxKeptDates   = 24 << 20 // of two million messages
	maxKeptThreads = 48 << 20 // of half a million, usually
)

// kept has what was learned of the messages of mailboxes, and never changes: to learn
// it takes a record of each.
type kept[T any] struct {
	most  int         // octets
	size  func(T) int // octets of what is known of a message
	mu    sync.Mutex
	boxes map[keptBox]*keptList[T]
	total int // octets of them
}

type keptBox struct {
	id       mailstore.MailboxID
	validity uint32
}

// keptList is never changed.
type keptList[T any] struct {
	uids []mailstore.UID // in order
	of   []T
}

func (k *kept[T]) list(box keptBox) *keptList[T] {
	k.mu.Lock()
	defer k.mu.Unlock()
	if list := k.boxes[box]; list != nil {
		return list
	}
	return new(keptList[T])
}

// octets is what a list takes.
func (k *kept[T]) octets(l *keptList[T]) int {
	n := 0
	for _, one := range l.of {
		n += 4 + k.size(one)
	}
	return n
}

// put keeps a mailbox's list, and lets go those of others when they are too large.
func (k *kept[T]) put(box keptBox, list *keptList[T]) {
	size := k.octets(list)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.boxes == nil {
		k.boxes = make(map[keptBox]*keptList[T])
	}
	k.forgetLocked(box)
	if size > k.most {
		return
	}
	for other := range k.boxes {
		if k.total+size <= k.most {
			break
		}
		k.forgetLocked(other)
	}
	k.boxes[box] = list
	k.total += size
}

func (k *kept[T]) forgetLocked(box keptBox) {
	if old := k.boxes[box]; old != nil {
		k.total -= k.octets(old)
		delete(k.boxes, box)
	}
}

// with is a list with some more messages, in order, but without those that are not in
// uids, where these are all.
func (l *keptList[T]) with(more *keptList[T], uids []mailstore.UID) *keptList[T] {
	n := min(len(l.uids)+len(more.uids), len(uids))
	all := &keptList[T]{uids: make([]mailstore.UID, 0, n), of: make([]T, 0, n)}
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
			all.uids, all.of = append(all.uids, uid), append(all.of, l.of[a])
		case b < len(more.uids) && more.uids[b] == uid:
			all.uids, all.of = append(all.uids, uid), append(all.of, more.of[b])
		}
	}
	return all
}

// learn is what is kept of messages, in order, or is made of what a study finds out of
// them. Of those that are gone it may say nothing.
func learn[T any](ctx context.Context, s *session, k *kept[T], found []int, what study, of func(*facts) T) ([]T, error) {
	box := keptBox{s.box.id, s.box.validity}
	list := k.list(box)
	all := make([]T, len(found))
	var unknown, places []int
	at := 0
	for i, index := range found {
		uid := s.box.uids[index]
		for at < len(list.uids) && list.uids[at] < uid {
			at++
		}
		if at < len(list.uids) && list.uids[at] == uid {
			all[i] = list.of[at]
		} else {
			unknown, places = append(unknown, index), append(places, i)
		}
	}
	if len(unknown) == 0 {
		return all, nil
	}
	var told []int // places in unknown
	err := s.study(ctx, unknown, what, func(at int, f *facts) {
		all[places[at]] = of(f)
		told = append(told, at)
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(told)
	more := new(keptList[T])
	for _, at := range told {
		more.uids = append(more.uids, s.box.uids[unknown[at]])
		more.of = append(more.of, all[places[at]])
	}
	k.put(box, list.with(more, s.box.uids))
	return all, nil
}
