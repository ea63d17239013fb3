package imap

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"postrider/mailstore"
)

// TestKept: a mailbox that was sorted by date or threaded is as if it never had been,
// whatever came and went meanwhile.
func TestKept(t *testing.T) {
	w := newWorld(t, nil)
	come := func(from, n int) {
		for i := from; i < from+n; i++ {
			header := fmt.Sprintf("Date: Mon, %d Oct 2020 %02d:00:00 +0000\r\n", 1+i*17%28, i*7%24)
			if i%9 == 0 {
				header = "" // by INTERNALDATE then, which is the same for all
			}
			header += fmt.Sprintf("Message-ID: <%d@a>\r\nReferences: <%d@a> <%d@b> <%d@a>\r\n", i, i*13%40, i/3, i*7%40)
			if i%4 == 0 {
				header += fmt.Sprintf("Subject: re: %d\r\n", i%8)
			}
			w.deliver("bob", "INBOX", fmt.Appendf(nil, "%s\r\n%d\r\n", header, i), mailstore.Flags{}, 1)
		}
	}
	said := func(command string) string {
		said := w.raw("a LOGIN bob hungry\r\nb SELECT INBOX\r\nc UID " + command + "\r\nd LOGOUT\r\n")
		_, list, _ := strings.Cut(said, "] SELECT completed\r\n")
		list, _, ok := strings.Cut(list, "\r\nc OK")
		if !ok {
			t.Fatalf("%s: %q", command, said)
		}
		return list
	}
	same := func() {
		t.Helper()
		for _, command := range []string{
			"SORT (REVERSE DATE) UTF-8 ", "SORT (SIZE DATE ARRIVAL) UTF-8 ",
			"THREAD REFERENCES UTF-8 ", "THREAD REFS UTF-8 ", "THREAD ORDEREDSUBJECT UTF-8 ",
		} {
			for _, what := range []string{"ALL", "UID 5:20", "ALL"} {
				got := said(command + what)
				dates, members := setAside(&w.server.sent), setAside(&w.server.members)
				want := said(command + what)
				dates()
				members()
				if got != want {
					t.Errorf("%s%s is\n%s, not\n%s", command, what, got, want)
				}
			}
		}
	}
	come(0, 40)
	said("SORT (DATE) UTF-8 UID 7:30") // a part is known
	said("THREAD REFS UTF-8 UID 7:30")
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
	if n, m := w.server.sent.total, len(w.server.members.boxes); n != 43*12 || m != 1 {
		t.Errorf("%d octets of dates are kept, and threads of %d mailboxes", n, m)
	}
	for _, list := range w.server.members.boxes {
		if len(list.uids) != 43 || w.server.members.total != w.server.members.octets(list) {
			t.Errorf("%d messages of threads are kept, and %d octets are counted", len(list.uids), w.server.members.total)
		}
	}
}

// setAside lets k know nothing until restore is called.
func setAside[T any](k *kept[T]) (restore func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	boxes, total := k.boxes, k.total
	k.boxes, k.total = nil, 0
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.boxes, k.total = boxes, total
	}
}

// TestKeptBound: of however many mailboxes something is learned, so much is kept.
func TestKeptBound(t *testing.T) {
	k := &New(Options{}).members
	put := func(id, n int) {
		list := &keptList[member]{uids: make([]mailstore.UID, n), of: make([]member, n)}
		for i := range list.of {
			list.of[i].refs = make([]uint64, i%3)
		}
		k.put(keptBox{mailstore.MailboxID(id), 1}, list)
	}
	each := maxKeptThreads / 4 / 76
	for i := range 10 {
		put(i, each)
	}
	put(99, 5*each)
	put(9, each/2)
	octets := 0
	for _, list := range k.boxes {
		octets += k.octets(list)
	}
	if octets != k.total || octets > maxKeptThreads || octets < maxKeptThreads/2 || len(k.list(keptBox{9, 1}).uids) != each/2 {
		t.Errorf("%d octets kept, %d counted, in %d mailboxes", octets, k.total, len(k.boxes))
	}
}
