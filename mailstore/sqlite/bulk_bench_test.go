package sqlite

import (
	"context"
	"fmt"
	"testing"
	"time"

	"postrider/mailstore"
)

// fillDistinct appends n messages of size octets, each with a body of its own.
func fillDistinct(b *testing.B, s *mailstore.Store, box mailstore.MailboxID, n, size int) {
	b.Helper()
	data := message(size)
	for done := 0; done < n; {
		var bodies []*mailstore.Body
		for ; len(bodies) < 1000 && done < n; done++ {
			bodies = append(bodies, body(b, s, fmt.Appendf(data[:0:0], "Subject: %d\r\n\r\n%s", done, data)))
		}
		update(b, s, func(tx *mailstore.Tx) error {
			for _, m := range bodies {
				if _, err := tx.Append(box, mailstore.NewMessage{Body: m}); err != nil {
					return err
				}
			}
			return nil
		})
		for _, m := range bodies {
			m.Release()
		}
	}
}

// allUIDs lists a mailbox.
func allUIDs(b *testing.B, s *mailstore.Store, m mailstore.MailboxID) []mailstore.UID {
	b.Helper()
	var uids []mailstore.UID
	err := s.View(context.Background(), func(v *mailstore.View) error {
		box, err := v.Select(m)
		uids = box.UIDs
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return uids
}

// BenchmarkCopyMoveExpunge copies 10,000 messages with a body each to another
// mailbox, moves the copies to a third, and expunges them there, in one commit each.
func BenchmarkCopyMoveExpunge(b *testing.B) {
	const n = 10000
	s, boxes := benchStore(b, 3)
	fillDistinct(b, s, boxes[0], n, 1024)
	uids := allUIDs(b, s, boxes[0])
	var took [3]time.Duration
	for b.Loop() {
		start := time.Now()
		update(b, s, func(tx *mailstore.Tx) error {
			_, _, err := tx.Copy(boxes[0], uids, boxes[1])
			return err
		})
		took[0] += time.Since(start)
		list := allUIDs(b, s, boxes[1])
		start = time.Now()
		update(b, s, func(tx *mailstore.Tx) error {
			_, _, err := tx.Move(boxes[1], list, boxes[2])
			return err
		})
		took[1] += time.Since(start)
		list = allUIDs(b, s, boxes[2])
		start = time.Now()
		update(b, s, func(tx *mailstore.Tx) error {
			_, err := tx.Expunge(boxes[2], list)
			return err
		})
		took[2] += time.Since(start)
	}
	for i, name := range []string{"copied/s", "moved/s", "expunged/s"} {
		b.ReportMetric(n*float64(b.N)/took[i].Seconds(), name)
	}
}

// BenchmarkSelect opens a mailbox of 100,000 messages: again, and the first time
// after a start.
func BenchmarkSelect(b *testing.B) {
	const n = 100000
	dir := b.TempDir() + "/data"
	e, err := Open(context.Background(), dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	s, err := mailstore.Open(context.Background(), e, mailstore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	var box mailstore.MailboxID
	update(b, s, func(tx *mailstore.Tx) error {
		a, err := tx.CreateAccount(mailstore.Account{Address: "bob@example.org"})
		if err != nil {
			return err
		}
		m, err := tx.CreateMailbox(a, "box", "")
		box = m.ID
		return err
	})
	fill(b, s, box, n)
	b.Run("warm", func(b *testing.B) {
		for b.Loop() {
			allUIDs(b, s, box)
		}
	})
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			if e, err = Open(context.Background(), dir, Options{}); err != nil {
				b.Fatal(err)
			}
			if s, err = mailstore.Open(context.Background(), e, mailstore.Options{}); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			if len(allUIDs(b, s, box)) != n {
				b.Fatal("messages are missing")
			}
		}
	})
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
