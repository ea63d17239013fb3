package imap

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"postrider/mailstore"
)

// TestSentDates: a mailbox that was sorted by date is sorted as if it never had been,
// whatever came and went meanwhile.
func TestSentDates(t *testing.T) {
	w := newWorld(t, nil)
	come := func(from, n int) {
		for i := from; i < from+n; i++ {
			date := fmt.Sprintf("Date: Mon, %d Oct 2020 %02d:00:00 +0000\r\n", 1+i*17%28, i*7%24)
			if i%9 == 0 {
				date = "" // by INTERNALDATE then, which is the same for all
			}
			w.deliver("bob", "INBOX", fmt.Appendf(nil, "%sSubject: same\r\n\r\n%d\r\n", date, i), mailstore.Flags{}, 1)
		}
	}
	order := func(command string) string {
		said := w.raw("a LOGIN bob hungry\r\nb SELECT INBOX\r\nc UID SORT " + command + "\r\nd LOGOUT\r\n")
		_, rest, _ := strings.Cut(said, "\r\n* SORT ")
		list, _, ok := strings.Cut(rest, "\r\nc OK")
		if !ok {
			t.Fatalf("SORT %s: %q", command, said)
		}
		return list
	}
	same := func() {
		t.Helper()
		for _, what := range []string{"ALL", "UID 5:20", "ALL"} {
			// With SUBJECT, all is read from the records.
			if got, want := order("(REVERSE DATE) UTF-8 "+what), order("(REVERSE DATE SUBJECT) UTF-8 "+what); got != want {
				t.Errorf("by date %s is\n%s, not\n%s", what, got, want)
			}
			if got, want := order("(SIZE DATE ARRIVAL) UTF-8 "+what), order("(SIZE DATE ARRIVAL SUBJECT) UTF-8 "+what); got != want {
				t.Errorf("by size and date %s is\n%s, not\n%s", what, got, want)
			}
		}
	}
	come(0, 40)
	order("(DATE) UTF-8 UID 7:30") // a part is known
	same()
	come(40, 5)
	same()
	err := w.store.Update(context.Background(), func(tx *mailstore.Tx) error {
		m, err := tx.MailboxByName(w.account("bob"), "INBOX")
		if err == nil {
			_, err = tx.Expunge(m.ID, []mailstore.UID{1, 10, 11, 45})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	come(45, 2)
	same()
	if n := w.server.sent.total; n != 43 {
		t.Errorf("the dates of %d messages are kept", n)
	}
}

// TestSentDatesBound: however many mailboxes are sorted, so much is kept.
func TestSentDatesBound(t *testing.T) {
	var d sentDates
	for i := range 10 {
		d.put(sentBox{mailstore.MailboxID(i), 1}, &sentList{uids: make([]mailstore.UID, maxSentDates/4), sent: make([]int64, maxSentDates/4)})
	}
	d.put(sentBox{99, 1}, &sentList{uids: make([]mailstore.UID, maxSentDates+1)})
	kept := 0
	for _, list := range d.boxes {
		kept += len(list.uids)
	}
	if kept != d.total || kept > maxSentDates || kept < maxSentDates/2 || len(d.of(sentBox{9, 1}).uids) == 0 {
		t.Errorf("%d kept, %d counted, in %d mailboxes", kept, d.total, len(d.boxes))
	}
}
