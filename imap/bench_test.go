package imap

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"postrider/internal/wire"
	"postrider/internal/wire/wiretest"
	"postrider/mailstore"
	"postrider/mailstore/sqlite"
)

// newBench is a world over SQLite, with n messages of 4 KiB in bob's INBOX.
func newBench(b *testing.B, n int) *world {
	b.Helper()
	engine, err := sqlite.Open(context.Background(), filepath.Join(b.TempDir(), "data"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	store, err := mailstore.Open(context.Background(), engine, mailstore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	w := &world{t: b, store: store, directory: &fakeDirectory{plaintext: true, accounts: make(map[string]mailstore.Account)}}
	err = store.Update(context.Background(), func(tx *mailstore.Tx) error {
		id, err := tx.CreateAccount(mailstore.Account{Address: "bob@hamburger.edu"})
		if err != nil {
			return err
		}
		w.directory.accounts["bob"] = mailstore.Account{ID: id, Address: "bob@hamburger.edu"}
		_, err = tx.CreateMailbox(id, "INBOX", "")
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	w.server = New(Options{Store: store, Directory: w.directory})
	w.wire = wire.NewServer(wire.ServerOptions{})
	w.listener = wiretest.Listen()
	w.wire.Serve(w.listener, w.server.Protocol("imap", false))
	b.Cleanup(func() {
		w.shutdown()
		store.Close()
	})
	text := append([]byte("From: alice@crepes.fr\r\nTo: bob@hamburger.edu\r\nSubject: benchmark\r\nDate: Mon, 12 Oct 1998 15:27:39 +0200\r\n\r\n"), make([]byte, 4096)...)
	for ; n > 0; n -= 1000 {
		w.deliver("bob", "INBOX", text, mailstore.Flags{System: mailstore.Seen}, min(n, 1000))
	}
	return w
}

func benchCommand(b *testing.B, n int, command string) {
	w := newBench(b, n)
	c := w.client("INBOX")
	for b.Loop() {
		c.ok(command)
	}
	if len(c.all) != n {
		b.Errorf("%d responses", len(c.all))
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

// BenchmarkFetchFlags10k: what a client asks when it opens a mailbox.
func BenchmarkFetchFlags10k(b *testing.B) { benchCommand(b, 10000, "UID FETCH 1:* (FLAGS)") }

// BenchmarkFetchFlags100k: what a client asks that looks for changes by itself.
func BenchmarkFetchFlags100k(b *testing.B) { benchReader(b, "UID FETCH 1:* (FLAGS)") }

// BenchmarkFetchList100k: the list of a mailbox.
func BenchmarkFetchList100k(b *testing.B) {
	benchReader(b, "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)")
}

// benchReader asks 100,000 messages over a TCP socket, with a client that only
// reads. cpu/message is the processor time of the whole process.
func benchReader(b *testing.B, command string) {
	const n = 100000
	w := newBench(b, n)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	w.wire.Serve(l, w.server.Protocol("imap", false))
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 256<<10)
	ask := func(command string) (octets int) {
		fmt.Fprintf(conn, "t %s\r\n", command)
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if octets += len(line); bytes.HasPrefix(line, []byte("t ")) {
				if !bytes.HasPrefix(line, []byte("t OK")) {
					b.Fatalf("%s", line)
				}
				return octets
			}
		}
	}
	ask("LOGIN bob hungry")
	ask("SELECT INBOX")
	before := processorTime()
	octets := 0
	for b.Loop() {
		octets = ask(command)
	}
	b.ReportMetric(float64((processorTime()-before).Nanoseconds())/float64(n)/float64(b.N), "cpu-ns/message")
	b.ReportMetric(float64(octets)/n, "octets/message")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkFetchEnvelope1k(b *testing.B) { benchCommand(b, 1000, "FETCH 1:* (ENVELOPE)") }

func BenchmarkSelect100k(b *testing.B) {
	w := newBench(b, 100000)
	c := w.client("INBOX")
	for b.Loop() {
		c.ok("SELECT INBOX")
	}
}

// BenchmarkIdleLatency: from the commit of a delivery to its announcement.
func BenchmarkIdleLatency(b *testing.B) {
	w := newBench(b, 1)
	c := w.client("INBOX")
	fmt.Fprintf(c.conn, "i IDLE\r\n")
	c.line()
	var waited time.Duration
	for b.Loop() {
		w.deliver("bob", "INBOX", []byte("Subject: x\r\n\r\n"), mailstore.Flags{}, 1)
		start := time.Now()
		c.line()
		waited += time.Since(start)
	}
	b.ReportMetric(float64(waited.Microseconds())/float64(b.N), "µs/announcement")
}

// BenchmarkStore10k sets a flag of all messages and takes it back.
func BenchmarkStore10k(b *testing.B) {
	w := newBench(b, 10000)
	c := w.client("INBOX")
	for sign := "+"; b.Loop(); {
		c.ok("STORE 1:* " + sign + "FLAGS.SILENT (\\Flagged)")
		sign = map[string]string{"+": "-", "-": "+"}[sign]
	}
}
