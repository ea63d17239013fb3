package search

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postrider/internal/clock"
	"postrider/mailstore"
	"postrider/mailstore/sqlite"
)

// Every hundredth message of a benchmark has these.
const (
	rareSubject = "zanzibar"
	rareWord    = "quixotic"
)

// benchVocabulary makes words that look like words.
func benchVocabulary() []string {
	r := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 3000)
	for i := range words {
		var b strings.Builder
		for range 1 + r.IntN(4) {
			b.WriteByte("bcdfghjklmnprstvw"[r.IntN(17)])
			b.WriteByte("aeiou"[r.IntN(5)])
			if r.IntN(3) == 0 {
				b.WriteByte("bcdfghjklmnprstvw"[r.IntN(17)])
			}
		}
		words[i] = b.String()
	}
	return words
}

// benchMessage makes the i-th message, of about 4 KiB: a third of them HTML.
func benchMessage(words []string, i int) []byte {
	r := rand.New(rand.NewPCG(3, uint64(i)))
	say := func(b *bytes.Buffer, n int) {
		for j := range n {
			if j > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(words[r.IntN(len(words))])
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "Received: from mx.sender.test (mx.sender.test [192.0.2.%d])\r\n\tby mail.bench.test with ESMTPS id %016x;\r\n\tMon, 12 Oct 1998 15:27:39 +0200\r\n",
		r.IntN(250), r.Uint64())
	fmt.Fprintf(&b, "Message-ID: <%d@sender.test>\r\nDate: Mon, 12 Oct 1998 15:27:39 +0200\r\nFrom: \"", i)
	say(&b, 2)
	fmt.Fprintf(&b, "\" <%s.%d@sender%d.test>\r\nTo: \"", words[r.IntN(300)], r.IntN(10), r.IntN(40))
	say(&b, 2)
	b.WriteString("\" <u1@bench.test>\r\nSubject: ")
	say(&b, 5)
	if i%100 == 7 {
		b.WriteString(" " + rareSubject)
	}
	kind := "plain"
	if i%3 == 0 {
		kind = "html"
	}
	fmt.Fprintf(&b, "\r\nMIME-Version: 1.0\r\nContent-Type: text/%s; charset=utf-8\r\n\r\n", kind)
	for b.Len() < 4<<10 {
		if kind == "html" {
			b.WriteString("<p style=\"margin:0\">")
		}
		say(&b, 9)
		b.WriteString("\r\n")
	}
	if i%100 == 27 {
		b.WriteString(rareWord + "\r\n")
	}
	return b.Bytes()
}

// benchWorld is a store on SQLite with n messages in a mailbox, not indexed.
func benchWorld(b *testing.B, n int) (store *mailstore.Store, a mailstore.AccountID, m mailstore.MailboxID, path string) {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "data")
	engine, err := sqlite.Open(context.Background(), dir, sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	if store, err = mailstore.Open(context.Background(), engine, mailstore.Options{}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	err = store.Update(context.Background(), func(tx *mailstore.Tx) error {
		if a, err = tx.CreateAccount(mailstore.Account{Address: "bob@hamburger.edu"}); err != nil {
			return err
		}
		box, err := tx.CreateMailbox(a, "INBOX", "")
		m = box.ID
		return err
	})
	words := benchVocabulary()
	for i := 0; i < n && err == nil; {
		var bodies []*mailstore.Body // released after the commit
		err = store.Update(context.Background(), func(tx *mailstore.Tx) error {
			for end := min(i+500, n); i < end; i++ {
				w := store.NewBody()
				if _, err := w.Write(benchMessage(words, i)); err != nil {
					return err
				}
				body, err := w.Commit()
				if err != nil {
					return err
				}
				bodies = append(bodies, body)
				if _, err := tx.Append(m, mailstore.NewMessage{Body: body}); err != nil {
					return err
				}
			}
			return nil
		})
		for _, body := range bodies {
			body.Release()
		}
	}
	if err != nil {
		b.Fatal(err)
	}
	return store, a, m, filepath.Join(dir, "search.db")
}

// BenchmarkIndex: the processor time from a message in the store to its place
// in the index, merges included.
func BenchmarkIndex(b *testing.B) {
	for _, n := range []int{1000, 10000, 100000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			store, _, _, path := benchWorld(b, n)
			messages := 0
			start := clock.Processor()
			for b.Loop() {
				indexAll(b, store, path, n)
				messages += n
			}
			b.ReportMetric(float64((clock.Processor()-start).Microseconds())/float64(messages), "cpu-µs/message")
		})
	}
}

// indexAll makes an index of n messages.
func indexAll(b *testing.B, store *mailstore.Store, path string, n int) {
	x := Open(store, Options{Path: path})
	err := x.Settle(context.Background())
	docs := x.Status().Documents
	x.Close()
	if err != nil {
		b.Fatal(err)
	}
	if docs != int64(n) {
		b.Fatalf("%d documents of %d", docs, n)
	}
	if info, err := os.Stat(path); err == nil {
		b.ReportMetric(float64(info.Size())/float64(n), "octets/message")
	}
	if err := sqlite.RemoveDerived(path); err != nil {
		b.Fatal(err)
	}
}

// tally counts the messages that are found and that are to be read.
func tally(h Hits, n int) (found, unsure int) {
	for i := range n {
		switch {
		case h.Found(i):
			found++
		case !h.Absent(i):
			unsure++
		}
	}
	return found, unsure
}

// BenchmarkLookup100k: what the index does for one SEARCH of 100,000 messages.
func BenchmarkLookup100k(b *testing.B) {
	const n = 100000
	store, a, m, path := benchWorld(b, n)
	x := Open(store, Options{Path: path})
	defer x.Close()
	if err := x.Settle(context.Background()); err != nil {
		b.Fatal(err)
	}
	uids := make([]mailstore.UID, n)
	for i := range uids {
		uids[i] = mailstore.UID(i + 1)
	}
	words := benchVocabulary()
	for _, bench := range []struct {
		name string
		key  Key
	}{
		{"subject/rare", NewKey(Subject, "", rareSubject)},
		{"subject/common", NewKey(Subject, "", words[2000])},
		{"subject/none", NewKey(Subject, "", "nosuchwordanywhere")},
		{"from/none", NewKey(From, "", "nosuchwordanywhere")},
		{"text/rare", NewKey(Text, "", rareWord)},
		{"text/common", NewKey(Text, "", words[2000])},
		{"text/letter", NewKey(Text, "", "e")},
		{"text/none", NewKey(Text, "", "nosuchwordanywhere")},
		{"text/fuzzy", NewFuzzyKey(Text, "", rareWord)},
		{"subject/fuzzy", NewFuzzyKey(Subject, "", "nosuchwordanywhere")},
		{"text/phrase", NewKey(Text, "", rareSubject+" "+rareWord)},
		{"body/rare", NewKey(Body, "", rareWord)},
		{"header/id", NewKey(Header, "Message-ID", "<4711@sender.test>")},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var found, unsure int
			for b.Loop() {
				found, unsure = tally(x.Lookup(context.Background(), a, m, uids, []Key{bench.key})[0], n)
			}
			b.ReportMetric(float64(found), "found")
			b.ReportMetric(float64(unsure), "to-read")
		})
	}
}
