package mailstore

import "testing"

// TestFeedForgets: one mailbox more than a feed remembers, and it says so.
func TestFeedForgets(t *testing.T) {
	s := new(Store)
	s.watch.init()
	feed := s.WatchAll()
	touch := func(from, n int) {
		touched := make(map[MailboxID]AccountID)
		for i := range n {
			touched[MailboxID(from+i)] = 1
		}
		s.watch.wake(touched, nil)
	}
	touch(1, maxFed)
	if touched, complete := feed.Take(); len(touched) != maxFed || !complete {
		t.Errorf("told %d mailboxes, complete %v", len(touched), complete)
	}
	touch(1, maxFed/2)
	touch(maxFed/2, maxFed/2+2)
	if touched, complete := feed.Take(); len(touched) != maxFed || complete {
		t.Errorf("told %d mailboxes, complete %v", len(touched), complete)
	}
	touch(1, 1)
	if touched, complete := feed.Take(); len(touched) != 1 || !complete {
		t.Errorf("told %d mailboxes, complete %v", len(touched), complete)
	}
}
