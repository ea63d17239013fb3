package sqlite

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"postrider/internal/clock"
	"postrider/mailstore"
)

// sized is the number of messages that a benchmark works with: n, or what an
// environment variable says, so that `make bench` ends within minutes and the
// sizes of docs/performance.md can still be had.
func sized(tb testing.TB, variable string, n int) int {
	tb.Helper()
	v := os.Getenv(variable)
	if v == "" {
		return n
	}
	set, err := strconv.Atoi(v)
	if err != nil || set < 1000 {
		tb.Fatalf("%s=%q is not a number of at least 1000", variable, v)
	}
	return set
}

// openDir opens a data directory with the settings that servers have.
func openDir(tb testing.TB, dir string) *mailstore.Store {
	tb.Helper()
	return openWith(tb, dir, mailstore.Options{Keep: 14 * 24 * time.Hour})
}

func openWith(tb testing.TB, dir string, o mailstore.Options) *mailstore.Store {
	tb.Helper()
	e, err := Open(context.Background(), dir, Options{})
	if err != nil {
		tb.Fatal(err)
	}
	s, err := mailstore.Open(context.Background(), e, o)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// makeBoxes creates an account with n mailboxes.
func makeBoxes(tb testing.TB, s *mailstore.Store, n int) []mailstore.MailboxID {
	tb.Helper()
	var boxes []mailstore.MailboxID
	change(tb, s, func(tx *mailstore.Tx) error {
		a, err := tx.CreateAccount(mailstore.Account{Address: "bob@example.org"})
		for i := 0; i < n && err == nil; i++ {
			var box mailstore.Mailbox
			box, err = tx.CreateMailbox(a, fmt.Sprintf("box %d", i), "")
			boxes = append(boxes, box.ID)
		}
		return err
	})
	return boxes
}

func change(tb testing.TB, s *mailstore.Store, fn func(tx *mailstore.Tx) error) {
	tb.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		tb.Fatal(err)
	}
}

// letter is message i of a correspondence: about size octets, with the header
// of a mail program and an answer to the message before it in each thread of ten.
func letter(i, size int) []byte {
	p := fmt.Appendf(nil, "Received: from mx.crepes.fr (mx.crepes.fr [192.0.2.7])\r\n\tby mail.example.org with ESMTPS id %016x;\r\n"+
		"\tMon, 12 Oct 1998 15:27:39 +0200\r\n"+
		"From: Alice Crêpe <alice%d@crepes.fr>\r\nTo: Bob <bob@example.org>\r\nSubject: Re: letter %d\r\n"+
		"Date: Mon, 12 Oct 1998 15:27:39 +0200\r\nMessage-ID: <%d.1998@crepes.fr>\r\n", i, i%100, i/10, i)
	if i%10 > 0 {
		p = fmt.Appendf(p, "In-Reply-To: <%d.1998@crepes.fr>\r\n", i-1)
	}
	p = append(p, "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"...)
	for line := 0; len(p) < size; line++ {
		p = fmt.Appendf(p, "Line %d of letter %d: all work and no play makes Jack a dull boy.\r\n", line, i)
	}
	return p
}

// prepare makes the body of a letter, as a session does before its Update.
func prepare(tb testing.TB, s *mailstore.Store, data []byte) *mailstore.Body {
	tb.Helper()
	w := s.NewBody()
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	b, err := w.Commit()
	if err == nil {
		err = b.Describe()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// fillLetters appends letters from number first on, in commits of a thousand.
func fillLetters(tb testing.TB, s *mailstore.Store, box mailstore.MailboxID, first, n, size int) {
	tb.Helper()
	batches := make(chan []*mailstore.Body, 2)
	go func() {
		defer close(batches)
		for i := first; i < first+n; {
			var batch []*mailstore.Body
			for ; len(batch) < 1000 && i < first+n; i++ {
				batch = append(batch, prepare(tb, s, letter(i, size)))
			}
			batches <- batch
		}
	}()
	for batch := range batches {
		change(tb, s, func(tx *mailstore.Tx) error {
			for _, m := range batch {
				if _, err := tx.Append(box, mailstore.NewMessage{Body: m}); err != nil {
					return err
				}
			}
			return nil
		})
		for _, m := range batch {
			m.Release()
		}
	}
}

// copyAll copies all messages of a mailbox.
func copyAll(tb testing.TB, s *mailstore.Store, from, to mailstore.MailboxID) {
	tb.Helper()
	uids := uidsOf(tb, s, from)
	change(tb, s, func(tx *mailstore.Tx) error {
		_, _, err := tx.Copy(from, uids, to)
		return err
	})
}

func uidsOf(tb testing.TB, s *mailstore.Store, box mailstore.MailboxID) []mailstore.UID {
	tb.Helper()
	var uids []mailstore.UID
	look(tb, s, func(v *mailstore.View) error {
		box, err := v.Select(box)
		uids = box.UIDs
		return err
	})
	return uids
}

func look(tb testing.TB, s *mailstore.Store, fn func(v *mailstore.View) error) {
	tb.Helper()
	if err := s.View(context.Background(), fn); err != nil {
		tb.Fatal(err)
	}
}

// list reads what a mail program's message list shows, as FETCH (UID FLAGS
// INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE) needs it.
func list(tb testing.TB, s *mailstore.Store, box mailstore.MailboxID) (n, octets int) {
	tb.Helper()
	look(tb, s, func(v *mailstore.View) error {
		return v.Describe(box, 1, 0, func(d *mailstore.Described) bool {
			n++
			octets += len(d.Record.Envelope) + len(d.Record.BodyStructure)
			return true
		})
	})
	return n, octets
}

// BenchmarkDescribe lists a mailbox of 100,000 messages (SCALE), each with a body
// of its own. An op is one message.
func BenchmarkDescribe(b *testing.B) {
	n := sized(b, "SCALE", 100000)
	s := openDir(b, b.TempDir()+"/data")
	defer s.Close()
	box := makeBoxes(b, s, 1)[0]
	fillLetters(b, s, box, 0, n, 1024)
	start, rounds := clock.Processor(), 0
	for b.Loop() {
		if got, octets := list(b, s, box); got != n || octets < 100*n {
			b.Fatalf("%d messages, %d octets", got, octets)
		}
		rounds++
	}
	b.ReportMetric(float64(clock.Processor()-start)/float64(n*rounds), "cpu-ns/message")
}

// BenchmarkChanges asks what happened since ten flags were changed and ten
// messages came and went, in a mailbox of 100,000 (SCALE).
func BenchmarkChanges(b *testing.B) {
	n := sized(b, "SCALE", 100000)
	s := openDir(b, b.TempDir()+"/data")
	defer s.Close()
	box := makeBoxes(b, s, 1)[0]
	fillLetters(b, s, box, 0, n, 300)
	var since mailstore.ModSeq
	look(b, s, func(v *mailstore.View) error {
		row, err := v.Mailbox(box)
		since = row.ModSeq
		return err
	})
	for i := range 10 {
		change(b, s, func(tx *mailstore.Tx) error {
			_, _, err := tx.SetFlags(box, []mailstore.UID{mailstore.UID(1 + i*n/10)}, mailstore.AddFlags, mailstore.Flags{System: mailstore.Seen}, 0)
			if err == nil {
				_, err = tx.Expunge(box, []mailstore.UID{mailstore.UID(2 + i*n/10)})
			}
			return err
		})
	}
	fillLetters(b, s, box, n, 10, 300)
	for b.Loop() {
		look(b, s, func(v *mailstore.View) error {
			c, err := v.Changes(box, since)
			if len(c.Arrived) != 10 || len(c.Changed) != 10 || len(c.Expunged) != 10 {
				b.Errorf("%d, %d, %d", len(c.Arrived), len(c.Changed), len(c.Expunged))
			}
			return err
		})
	}
}

// BenchmarkStoreOne sets a flag of one message in a mailbox of 100,000 (SCALE) and
// takes it back.
func BenchmarkStoreOne(b *testing.B) {
	n := sized(b, "SCALE", 100000)
	s := openDir(b, b.TempDir()+"/data")
	defer s.Close()
	box := makeBoxes(b, s, 1)[0]
	fillLetters(b, s, box, 0, n, 300)
	how := mailstore.AddFlags
	for b.Loop() {
		storeOne(b, s, box, mailstore.UID(n/2), how)
		how = mailstore.AddFlags + mailstore.RemoveFlags - how
	}
}

func storeOne(tb testing.TB, s *mailstore.Store, box mailstore.MailboxID, uid mailstore.UID, how mailstore.FlagChange) {
	tb.Helper()
	change(tb, s, func(tx *mailstore.Tx) error {
		_, _, err := tx.SetFlags(box, []mailstore.UID{uid}, how, mailstore.Flags{System: mailstore.Seen}, 0)
		return err
	})
}

// BenchmarkOpen starts a store that has a mailbox of 1,000,000 messages (START):
// the copies of a tenth.
func BenchmarkOpen(b *testing.B) {
	n := sized(b, "START", 1000000)
	dir := b.TempDir() + "/data"
	s := openDir(b, dir)
	boxes := makeBoxes(b, s, 2)
	fillLetters(b, s, boxes[0], 0, n/10, 300)
	for range 10 {
		copyAll(b, s, boxes[0], boxes[1])
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s = openDir(b, dir)
		b.StopTimer()
		if got := len(uidsOf(b, s, boxes[1])); got != n {
			b.Fatalf("%d messages", got)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkBigStore delivers messages of 1 KiB by 32 sessions into ten mailboxes
// of an empty store and of one with 200,000 messages (BIG), which were delivered
// there too.
func BenchmarkBigStore(b *testing.B) {
	for _, n := range []int{0, sized(b, "BIG", 200000)} {
		s := openDir(b, b.TempDir()+"/data")
		boxes := makeBoxes(b, s, 10)
		for i, box := range boxes {
			fillLetters(b, s, box, i*n/10, n/10, 1024)
		}
		var next atomic.Int64
		next.Store(int64(n))
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			measure(b, 32, func(g int) {
				m := prepare(b, s, letter(int(next.Add(1)), 1024))
				update(b, s, func(tx *mailstore.Tx) error {
					_, err := tx.Append(boxes[g%len(boxes)], mailstore.NewMessage{Body: m})
					return err
				})
				m.Release()
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "delivered/s")
		})
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
