package sqlite

import (
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

// BenchmarkCopyMoveExpunge copies 10,000 messages with a body each to another
// mailbox, moves the copies to a third, and expunges them there, in one commit each.
func BenchmarkCopyMoveExpunge(b *testing.B) {
	const n = 10000
	s, boxes := benchStore(b, 3)
	fillDistinct(b, s, boxes[0], n, 1024)
	uids := uidsOf(b, s, boxes[0])
	var took [3]time.Duration
	for b.Loop() {
		start := time.Now()
		update(b, s, func(tx *mailstore.Tx) error {
			_, _, err := tx.Copy(boxes[0], uids, boxes[1])
			return err
		})
		took[0] += time.Since(start)
		list := uidsOf(b, s, boxes[1])
		start = time.Now()
		update(b, s, func(tx *mailstore.Tx) error {
			_, _, err := tx.Move(boxes[1], list, boxes[2])
			return err
		})
		took[1] += time.Since(start)
		list = uidsOf(b, s, boxes[2])
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
	s := openWith(b, dir, mailstore.Options{})
	box := makeBoxes(b, s, 1)[0]
	fill(b, s, box, n)
	b.Run("warm", func(b *testing.B) {
		for b.Loop() {
			uidsOf(b, s, box)
		}
	})
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			s = openWith(b, dir, mailstore.Options{})
			b.StartTimer()
			if len(uidsOf(b, s, box)) != n {
				b.Fatal("messages are missing")
			}
		}
	})
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
