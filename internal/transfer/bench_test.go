package transfer

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postrider/internal/clock"
	"postrider/mailstore"
	"postrider/mailstore/sqlite"
)

// benchStore is a store on disk with the account a@x, and its server.
func benchStore(b *testing.B) *Server {
	b.Helper()
	engine, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "data"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	s, err := mailstore.Open(b.Context(), engine, mailstore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	err = s.Update(b.Context(), func(tx *mailstore.Tx) error {
		id, err := tx.CreateAccount(mailstore.Account{Address: "a@x"})
		if err != nil {
			return err
		}
		_, err = tx.CreateMailbox(id, "INBOX", "")
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return NewServer(ServerOptions{Store: s, Account: func(ctx context.Context, address string) (a mailstore.Account, err error) {
		err = s.View(ctx, func(v *mailstore.View) error {
			a, err = v.AccountByAddress(address)
			return err
		})
		return a, err
	}})
}

// BenchmarkImport brings in, and BenchmarkExport writes, messages of 4 KiB; an
// operation is one message.
func BenchmarkImport(b *testing.B) { benchImport(b, func(*Server) {}) }

func BenchmarkExport(b *testing.B) {
	for _, format := range []string{"mbox", "maildir"} {
		b.Run(format, func(b *testing.B) {
			benchImport(b, func(s *Server) {
				b.ResetTimer()
				ours, theirs := net.Pipe()
				go s.Serve(context.Background(), theirs)
				sum, err := Export(b.Context(), ours, ExportOptions{Account: "a@x", Format: format, Dest: filepath.Join(b.TempDir(), "out"), Now: time.Unix(1e9, 0)})
				if err != nil || sum.Messages != int64(b.N) {
					b.Fatalf("%+v, %v", sum, err)
				}
			})
		})
	}
}

func benchImport(b *testing.B, then func(*Server)) {
	s := benchStore(b)
	name := filepath.Join(b.TempDir(), "mbox")
	file, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	body := strings.Repeat(strings.Repeat("x", 71)+"\n", 56)
	for i := range b.N {
		if _, err := fmt.Fprintf(file, "From a Tue Jan  2 03:04:05 2024\nSubject: %d\n\n%s\n", i, body); err != nil {
			b.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		b.Fatal(err)
	}
	src, err := OpenMbox(name, "")
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()
	ours, theirs := net.Pipe()
	go s.Serve(context.Background(), theirs)
	b.ReportAllocs()
	b.ResetTimer()
	before := clock.Processor()
	sum, err := Import(b.Context(), ours, src, ImportOptions{Account: "a@x"})
	if err != nil || sum.Messages != int64(b.N) {
		b.Fatalf("%+v, %v", sum, err)
	}
	then(s)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	b.ReportMetric(float64((clock.Processor()-before).Microseconds())/float64(b.N), "cpu-µs/op")
}
