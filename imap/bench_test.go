package imap

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
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

// letters fills bob's INBOX with n messages that differ, of about size octets, as
// deliveries would: a prefix, several fields, and text.
func (w *world) letters(n, size int) {
	w.t.Helper()
	filler := bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog and goes on.\r\n"), size/58+1)[:size]
	for at := 0; at < n; {
		var bodies []*mailstore.Body
		for ; len(bodies) < 500 && at < n; at++ {
			bw := w.store.NewBody()
			fmt.Fprintf(bw, "Received: from mx%d.example.net (mx [192.0.2.1]) by hamburger.edu with ESMTP id %d; Mon, 12 Oct 2020 15:27:39 +0200\r\n"+
				"From: \"Sender Number %d\" <sender%d@example.net>\r\nTo: Bob <bob@hamburger.edu>\r\nSubject: Re: letter %d of many\r\n"+
				"Date: Mon, %d Oct 2020 %02d:%02d:39 +0200\r\nMessage-ID: <%d@example.net>\r\nIn-Reply-To: <%d@example.net>\r\n"+
				"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n", at%7, at, at%1000, at%1000, at/4, 1+at%28, at%24, at%60, at, at-at%4)
			bw.Write(filler)
			body, err := bw.Commit()
			if err != nil {
				w.t.Fatal(err)
			}
			if err := body.Describe(); err != nil {
				w.t.Fatal(err)
			}
			bodies = append(bodies, body)
		}
		err := w.store.Update(context.Background(), func(tx *mailstore.Tx) error {
			m, err := tx.MailboxByName(w.account("bob"), "INBOX")
			for i := 0; err == nil && i < len(bodies); i++ {
				flags := mailstore.Flags{System: mailstore.Seen}
				if i%50 == 0 {
					flags.System = 0
				}
				_, err = tx.Append(m.ID, mailstore.NewMessage{Body: bodies[i], Prefix: "Return-Path: <sender@example.net>\r\n", Flags: flags})
			}
			return err
		})
		for _, body := range bodies {
			body.Release()
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// reading is a client over a TCP socket that reads and looks at nothing.
func (w *world) reading() func(command string) (octets int) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.wire.Serve(l, w.server.Protocol("imap", false))
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	r := bufio.NewReaderSize(conn, 1<<20)
	return func(command string) (octets int) {
		fmt.Fprintf(conn, "tag %s\r\n", command)
		for {
			line, err := r.ReadSlice('\n')
			octets += len(line)
			if bytes.HasPrefix(line, []byte("tag ")) {
				if !bytes.HasPrefix(line, []byte("tag OK")) {
					w.t.Fatalf("%s: %s", command, line)
				}
				return octets
			}
			if err != nil && err != bufio.ErrBufferFull {
				w.t.Fatal(err)
			}
		}
	}
}

// BenchmarkLarge has the figures of a mailbox of 100,000 messages that differ.
func BenchmarkLarge(b *testing.B) {
	const n = 100000
	w := newBench(b, 0)
	w.letters(n, 500)
	ask := w.reading()
	ask("LOGIN bob hungry")
	ask("SELECT INBOX")
	measure := func(name, command string) {
		b.Run(name, func(b *testing.B) {
			before, octets := processorTime(), 0
			for b.Loop() {
				octets = ask(command)
			}
			b.ReportMetric(float64((processorTime()-before).Nanoseconds())/n/float64(b.N), "cpu-ns/message")
			b.ReportMetric(float64(octets)/n, "octets/message")
		})
	}
	for _, test := range []struct{ name, command string }{
		{"list", "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"},
		{"flags", "UID FETCH 1:* (FLAGS)"},
		{"select", "SELECT INBOX"},
		{"unseen", "SEARCH UNSEEN"},
		{"since", "SEARCH SINCE 1-Jan-2020"},
		{"sort-date", "SORT (REVERSE DATE) UTF-8 ALL"},
		{"sort-arrival", "SORT (REVERSE ARRIVAL) UTF-8 ALL"},
		{"sort-subject", "SORT (SUBJECT) UTF-8 ALL"},
		{"sort-from", "SORT (FROM) UTF-8 ALL"},
		{"thread", "THREAD REFERENCES UTF-8 ALL"},
		{"bodies", "UID FETCH 1:10000 (BODY.PEEK[])"},
	} {
		measure(test.name, test.command)
	}
	var box mailstore.Mailbox
	err := w.store.View(context.Background(), func(v *mailstore.View) (err error) {
		box, err = v.MailboxByName(w.account("bob"), mailstore.Inbox)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 10 {
		ask(fmt.Sprintf("STORE %d +FLAGS.SILENT (\\Flagged)", 1+i*n/10))
	}
	ask("ENABLE QRESYNC")
	measure("qresync", fmt.Sprintf("SELECT INBOX (QRESYNC (%d %d))", box.UIDValidity, box.ModSeq))
}

// BenchmarkBodies10k: a mailbox of 10,000 messages of 11 KiB, taken whole.
func BenchmarkBodies10k(b *testing.B) {
	const n = 10000
	w := newBench(b, 0)
	w.letters(n, 11000)
	ask := w.reading()
	ask("LOGIN bob hungry")
	ask("SELECT INBOX")
	before, octets := processorTime(), 0
	for b.Loop() {
		octets = ask("UID FETCH 1:* (BODY.PEEK[])")
	}
	b.SetBytes(int64(octets))
	b.ReportMetric(float64((processorTime()-before).Nanoseconds())/n/float64(b.N), "cpu-ns/message")
}

// BenchmarkScattered: 20 messages here and there of a mailbox of 200, whose bodies
// came between those of others.
func BenchmarkScattered(b *testing.B) {
	w := newBench(b, 0)
	err := w.store.Update(context.Background(), func(tx *mailstore.Tx) error {
		_, err := tx.CreateMailbox(w.account("bob"), "Other", "")
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 200 {
		w.letters(1, 2000)
		for range 9 {
			w.deliver("bob", "Other", fmt.Appendf(nil, "Subject: %d\r\n\r\n", i), mailstore.Flags{}, 1)
		}
	}
	var set []string
	for i := range 20 {
		set = append(set, fmt.Sprint(1+i*10+i*i%7))
	}
	ask := w.reading()
	ask("LOGIN bob hungry")
	ask("SELECT INBOX")
	before := processorTime()
	for b.Loop() {
		ask("UID FETCH " + strings.Join(set, ",") + " (UID FLAGS ENVELOPE RFC822.SIZE)")
	}
	b.ReportMetric(float64((processorTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/command")
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
	ask := w.reading()
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
