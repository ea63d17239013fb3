package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postrider/internal/clock"
	"postrider/mailstore"
)

// benchStore opens a store in a new directory with one account and n mailboxes.
func benchStore(b *testing.B, n int) (*mailstore.Store, []mailstore.MailboxID) {
	b.Helper()
	s := openWith(b, b.TempDir()+"/data", mailstore.Options{})
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s, makeBoxes(b, s, n)
}

func update(b *testing.B, s *mailstore.Store, fn func(tx *mailstore.Tx) error) {
	if err := s.Update(context.Background(), fn); err != nil {
		b.Error(err)
	}
}

// measure runs b.N operations from some goroutines and reports the processor
// time of each beside the elapsed time.
func measure(b *testing.B, goroutines int, op func(g int)) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	start := clock.Processor()
	for g := range goroutines {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				op(g)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(clock.Processor()-start)/float64(b.N), "cpu-ns/op")
}

func message(size int) []byte {
	line := []byte("All work and no play makes Jack a dull boy, and so on and on.\r\n")
	return bytes.Repeat(line, size/len(line)+1)[:size]
}

func body(b *testing.B, s *mailstore.Store, data []byte) *mailstore.Body {
	w := s.NewBody()
	if _, err := w.Write(data); err != nil {
		b.Error(err)
	}
	body, err := w.Commit()
	if err != nil {
		b.Error(err)
	}
	return body
}

// BenchmarkAppend stores messages of 4 KiB, one commit each: that of its own
// or one that it shares with other goroutines.
func BenchmarkAppend(b *testing.B) {
	for _, goroutines := range []int{1, 8, 32} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			s, boxes := benchStore(b, 10)
			data := message(4096)
			measure(b, goroutines, func(g int) {
				m := body(b, s, data)
				update(b, s, func(tx *mailstore.Tx) error {
					_, err := tx.Append(boxes[g%len(boxes)], mailstore.NewMessage{Body: m})
					return err
				})
				m.Release()
			})
		})
	}
}

// BenchmarkAppendLarge stores messages of 1 MiB in files.
func BenchmarkAppendLarge(b *testing.B) {
	for _, goroutines := range []int{1, 4} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			s, boxes := benchStore(b, 10)
			data := message(1 << 20)
			measure(b, goroutines, func(g int) {
				m := body(b, s, data)
				update(b, s, func(tx *mailstore.Tx) error {
					_, err := tx.Append(boxes[g], mailstore.NewMessage{Body: m})
					return err
				})
				m.Release()
			})
		})
	}
}

// BenchmarkEnqueueRemove takes a message of 4 KiB for a remote recipient, and
// records that it was delivered: two commits.
func BenchmarkEnqueueRemove(b *testing.B) {
	for _, goroutines := range []int{1, 8, 32} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			s, _ := benchStore(b, 0)
			data := message(4096)
			now := time.Now()
			measure(b, goroutines, func(int) {
				m := body(b, s, data)
				var id mailstore.QueueID
				update(b, s, func(tx *mailstore.Tx) error {
					item, _, err := tx.Enqueue(m, mailstore.QueueItem{
						Envelope: "0123456789abcdef", From: "alice@example.org", Accepted: now, Expires: now.Add(time.Hour),
					}, []mailstore.QueueRecipient{{
						Address: "bob@example.net", Domain: "example.net", Original: "bob@example.net", Next: now,
					}})
					id = item.ID
					return err
				})
				m.Release()
				update(b, s, func(tx *mailstore.Tx) error { return tx.RemoveRecipient(id, 0) })
			})
		})
	}
}

// fill appends n messages in commits of a thousand.
func fill(b *testing.B, s *mailstore.Store, box mailstore.MailboxID, n int) {
	m := body(b, s, message(1024))
	defer m.Release()
	for n > 0 {
		update(b, s, func(tx *mailstore.Tx) error {
			for range min(n, 1000) {
				if _, err := tx.Append(box, mailstore.NewMessage{Body: m}); err != nil {
					return err
				}
			}
			return nil
		})
		n -= 1000
	}
}

// BenchmarkFlags lists the flags of 10,000 messages.
func BenchmarkFlags(b *testing.B) {
	s, boxes := benchStore(b, 1)
	fill(b, s, boxes[0], 10000)
	measure(b, 1, func(int) {
		n := 0
		err := s.View(context.Background(), func(v *mailstore.View) error {
			return v.Messages(boxes[0], 1, 0, func(m mailstore.Message) bool {
				n++
				return true
			})
		})
		if err != nil || n != 10000 {
			b.Errorf("%d messages, %v", n, err)
		}
	})
}

// BenchmarkStore sets a flag of 10,000 messages, and takes it back.
func BenchmarkStore(b *testing.B) {
	s, boxes := benchStore(b, 1)
	fill(b, s, boxes[0], 10000)
	uids := make([]mailstore.UID, 10000)
	for i := range uids {
		uids[i] = mailstore.UID(i + 1)
	}
	how := mailstore.AddFlags
	measure(b, 1, func(int) {
		update(b, s, func(tx *mailstore.Tx) error {
			_, _, err := tx.SetFlags(boxes[0], uids, how, mailstore.Flags{System: mailstore.Seen}, 0)
			return err
		})
		how = mailstore.AddFlags + mailstore.RemoveFlags - how
	})
}

// BenchmarkOpenMessage reads messages of 4 KiB.
func BenchmarkOpenMessage(b *testing.B) {
	s, boxes := benchStore(b, 1)
	m := body(b, s, message(4096))
	defer m.Release()
	update(b, s, func(tx *mailstore.Tx) error {
		_, err := tx.Append(boxes[0], mailstore.NewMessage{Body: m})
		return err
	})
	var msg mailstore.Message
	err := s.View(context.Background(), func(v *mailstore.View) (err error) {
		msg, err = v.Message(boxes[0], 1)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	measure(b, 1, func(int) {
		c, err := s.OpenMessage(context.Background(), msg)
		if err != nil {
			b.Error(err)
			return
		}
		if err := c.Close(); err != nil {
			b.Error(err)
		}
	})
}

// BenchmarkSync is what the disk gives: 8 KiB appended to a file and synced.
func BenchmarkSync(b *testing.B) {
	f, err := os.Create(b.TempDir() + "/file")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	data := message(8192)
	measure(b, 1, func(int) {
		if _, err := f.Write(data); err != nil {
			b.Error(err)
		}
		if err := f.Sync(); err != nil {
			b.Error(err)
		}
	})
}
