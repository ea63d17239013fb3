package mailstore_test

import (
	"maps"
	"slices"
	"testing"

	"postrider/mailstore"
)

// TestFeed: a feed tells of every mailbox that a commit changed or deleted, once
// for all commits since it was asked.
func TestFeed(t *testing.T) {
	f := setUp(t)
	feed := f.store.WatchAll()
	defer feed.Close()
	if touched, complete := feed.Take(); len(touched) > 0 || !complete {
		t.Errorf("told %v, %v before a change", touched, complete)
	}
	f.must(f.add("three"))
	f.must(f.add("four"))
	<-feed.C()
	if touched, complete := feed.Take(); !slices.Equal(slices.Collect(maps.Keys(touched)), []mailstore.MailboxID{f.inbox}) || !complete {
		t.Errorf("told %v, %v", touched, complete)
	}
	f.must(f.update(func(tx *mailstore.Tx) error { return tx.DeleteMailbox(f.sent) }))
	<-feed.C()
	if touched, _ := feed.Take(); len(touched) != 1 || touched[f.sent] == 0 {
		t.Errorf("told %v of a deletion", touched)
	}
	feed.Close()
	f.must(f.add("five"))
	if touched, _ := feed.Take(); len(touched) > 0 {
		t.Errorf("told %v after its end", touched)
	}
}
