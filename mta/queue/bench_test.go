package queue

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postrider/internal/clock"
	"postrider/mailstore"
	"postrider/mailstore/sqlite"
	"postrider/mailstore/storetest"
	"postrider/mta"
)

// BenchmarkRelay accepts messages of 4 KiB in some sessions at once and delivers
// them to a peer that takes everything at once. One operation is one message
// accepted, delivered and settled.
func BenchmarkRelay(b *testing.B) {
	for _, engine := range []string{"model", "sqlite"} {
		for _, sessions := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%s/sessions=%d", engine, sessions), func(b *testing.B) {
				benchmarkRelay(b, benchEngine(b, engine), sessions)
			})
		}
	}
}

func benchEngine(b *testing.B, name string) mailstore.Engine {
	if name == "model" {
		return storetest.NewEngine()
	}
	e, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "data"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return e
}

// countDeliverer reads the content and takes it.
type countDeliverer struct {
	want int64
	n    atomic.Int64
	done chan struct{}
}

func (c *countDeliverer) Deliver(_ context.Context, d *mta.Delivery) error {
	content, err := d.Open()
	if err != nil {
		return err
	}
	defer content.Close()
	var buf [4096]byte
	if _, err := content.ReadAt(buf[:], 0); err != nil {
		return err
	}
	out := make([]mta.Outcome, len(d.To))
	for i := range out {
		out[i] = mta.Outcome{Reply: &mta.Reply{Code: 250, Status: "2.0.0", Text: "ok"}, Host: "mx"}
	}
	if err := d.Record(out); err != nil {
		return err
	}
	if c.n.Add(int64(len(out))) == c.want {
		close(c.done)
	}
	return nil
}

func benchmarkRelay(b *testing.B, engine mailstore.Engine, sessions int) {
	store, err := mailstore.Open(b.Context(), engine, mailstore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	deliver := &countDeliverer{want: int64(b.N), done: make(chan struct{})}
	q, err := New(Options{Store: store, Router: &fakeRouter{}, Deliverer: deliver, Hostname: "mail.crepes.fr"})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var ran sync.WaitGroup
	ran.Go(func() {
		if err := q.Run(ctx); err != nil {
			b.Error(err)
		}
	})
	text := bytes.Repeat([]byte("0123456789012345678901234567890123456789012345678901234567890\r\n"), 65)
	text = append(text[:4094], "\r\n"...)
	var next atomic.Int64
	begin := clock.Processor()
	b.ResetTimer()
	var group sync.WaitGroup
	for range sessions {
		group.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				benchmarkAccept(b, q, text, n)
			}
		})
	}
	group.Wait()
	select {
	case <-deliver.done:
	case <-time.After(time.Minute):
		b.Fatalf("%d of %d delivered; %+v", deliver.n.Load(), b.N, q.Stats())
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64((clock.Processor()-begin).Microseconds())/float64(b.N), "cpu-µs/op")
	cancel()
	ran.Wait()
	if err := store.Close(); err != nil {
		b.Error(err)
	}
}

func benchmarkAccept(b *testing.B, q *Queue, text []byte, n int64) {
	w := q.NewBody()
	if _, err := w.Write(text); err != nil {
		b.Error(err)
		return
	}
	body, err := w.Commit()
	if err != nil {
		b.Error(err)
		return
	}
	defer body.Release()
	to := mta.Address{Local: "bob", Domain: fmt.Sprintf("d%d.example", n%10)}
	env := &mta.Envelope{
		ID: mta.NewID(time.Now(), uint64(n)), From: mta.Address{Local: "alice", Domain: "crepes.fr"}, Accepted: time.Now(),
		To: []mta.Recipient{{Address: to, Targets: []mta.Target{{Remote: to}}}},
	}
	if err := q.Accept(b.Context(), env, body); err != nil {
		b.Error(err)
	}
}

// BenchmarkDrain delivers a backlog that is not in memory: 20,000 messages to
// ten domains. One operation is one message.
func BenchmarkDrain(b *testing.B) {
	const backlog = 20000
	for b.Loop() {
		b.StopTimer()
		store, err := mailstore.Open(b.Context(), benchEngine(b, "sqlite"), mailstore.Options{})
		if err != nil {
			b.Fatal(err)
		}
		deliver := &countDeliverer{want: backlog, done: make(chan struct{})}
		q, err := New(Options{Store: store, Router: &fakeRouter{}, Deliverer: deliver, Hostname: "mail.crepes.fr", Active: 1000})
		if err != nil {
			b.Fatal(err)
		}
		text := bytes.Repeat([]byte("01234567890123456789012345678901234567890123456789012345678901\r\n"), 64)
		var next atomic.Int64
		var group sync.WaitGroup
		for range 64 {
			group.Go(func() {
				for n := next.Add(1); n <= backlog; n = next.Add(1) {
					benchmarkAccept(b, q, text, n)
				}
			})
		}
		group.Wait()
		ctx, cancel := context.WithCancel(b.Context())
		begin := clock.Processor()
		b.StartTimer()
		start := time.Now()
		group.Go(func() {
			if err := q.Run(ctx); err != nil {
				b.Error(err)
			}
		})
		<-deliver.done
		b.StopTimer()
		b.ReportMetric(backlog/time.Since(start).Seconds(), "msg/s")
		b.ReportMetric(float64((clock.Processor()-begin).Microseconds())/backlog, "cpu-µs/msg")
		cancel()
		group.Wait()
		if err := store.Close(); err != nil {
			b.Error(err)
		}
		b.StartTimer()
	}
}
