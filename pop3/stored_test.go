package pop3

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"postrider/internal/wire"
	"postrider/internal/wire/wiretest"
	"postrider/mailstore"
	"postrider/mailstore/sqlite"
	"postrider/mailstore/storetest"
)

// stored is a server over a real store on the model engine, whose account bob
// has an empty INBOX.
type stored struct {
	*Server
	store   *mailstore.Store
	account mailstore.AccountID
	inbox   mailstore.MailboxID
}

func newStored(t testing.TB, engine mailstore.Engine) *stored {
	t.Helper()
	store, err := mailstore.Open(context.Background(), engine, mailstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &stored{store: store}
	err = store.Update(context.Background(), func(tx *mailstore.Tx) error {
		// The directory of the tests numbers bob 2.
		for _, address := range []string{"alice@hamburger.edu", "bob@hamburger.edu"} {
			if s.account, err = tx.CreateAccount(mailstore.Account{Address: address}); err != nil {
				return err
			}
		}
		box, err := tx.CreateMailbox(s.account, "INBOX", "")
		s.inbox = box.ID
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.account != 2 {
		t.Fatalf("bob is account %d", s.account)
	}
	s.Server = New(Options{Hostname: "hamburger.edu", Store: store, Directory: &fakeDirectory{plaintext: true}})
	return s
}

func (s *stored) body(t testing.TB, text string) *mailstore.Body {
	t.Helper()
	w := s.store.NewBody()
	io.WriteString(w, text)
	body, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// append adds n messages that share a body.
func (s *stored) append(t testing.TB, prefix, text string, n int) {
	t.Helper()
	body := s.body(t, text)
	defer body.Release()
	s.appendBodies(t, prefix, slices.Repeat([]*mailstore.Body{body}, n))
}

// appendEach adds n messages with a body each.
func (s *stored) appendEach(t testing.TB, text string, n int) {
	t.Helper()
	var bodies []*mailstore.Body
	for range n {
		bodies = append(bodies, s.body(t, text))
		defer bodies[len(bodies)-1].Release()
	}
	s.appendBodies(t, "", bodies)
}

func (s *stored) appendBodies(t testing.TB, prefix string, bodies []*mailstore.Body) {
	t.Helper()
	err := s.store.Update(context.Background(), func(tx *mailstore.Tx) error {
		for _, body := range bodies {
			if _, err := tx.Append(s.inbox, mailstore.NewMessage{Body: body, Prefix: prefix}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// play runs commands in one session to its end and returns what was said.
func (s *stored) play(t testing.TB, commands string) string {
	t.Helper()
	client, server := wiretest.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer server.Close()
		s.serve(context.Background(), &wire.Conn{Conn: server}, make(chan struct{}))
	}()
	go func() {
		io.WriteString(client, commands)
		client.(interface{ CloseWrite() error }).CloseWrite()
	}()
	said, err := io.ReadAll(client)
	if err != nil {
		t.Error(err)
	}
	client.Close()
	<-done
	return string(said)
}

func (s *stored) view(t testing.TB) (box mailstore.Mailbox, messages []mailstore.Message) {
	t.Helper()
	err := s.store.View(context.Background(), func(v *mailstore.View) (err error) {
		if box, err = v.Mailbox(s.inbox); err != nil {
			return err
		}
		return v.Messages(s.inbox, 1, 0, func(m mailstore.Message) bool {
			messages = append(messages, m)
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return box, messages
}

// TestStored: sizes are the octets sent, whatever a message begins and ends
// with; RETR leaves flags alone; a QUIT is seen by who watches the mailbox.
func TestStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStored(t, storetest.NewEngine())
		s.append(t, "Return-Path: <alice@crepes.fr>\r\n", letter(1, 498), 1)
		s.append(t, "", "Subject: no end\r\n\r\nlast", 1)
		s.append(t, "", strings.Repeat(".\r\n.. line of a large letter\r\n", 10_000), 1)
		s.append(t, "", strings.Repeat("x", 200_001), 1)
		s.append(t, "", "", 1)
		box, before := s.view(t)

		login := "USER bob\r\nPASS hungry\r\n"
		said := s.play(t, login+"LIST\r\nUIDL 3\r\nRETR 1\r\nRETR 2\r\nRETR 3\r\nRETR 4\r\nRETR 5\r\nQUIT\r\n")
		sizes := listed(t, said)
		for i, m := range before {
			if want := retrieved(t, said, sizes[i]); want != sizes[i] {
				t.Errorf("message %d: LIST says %d octets, RETR sent %d", m.UID, sizes[i], want)
			}
		}
		if want := fmt.Sprintf("\r\n+OK 3 %d.3\r\n", box.UIDValidity); !strings.Contains(said, want) {
			t.Errorf("no %q in %.300q", want, said)
		}
		_, after := s.view(t)
		if fmt.Sprint(before) != fmt.Sprint(after) {
			t.Errorf("a session without DELE changed %v to %v", before, after)
		}

		watcher := s.store.Watch(s.account, s.inbox)
		defer watcher.Close()
		s.play(t, login+"DELE 1\r\nDELE 4\r\n")
		if _, left := s.view(t); len(left) != 5 {
			t.Errorf("%d messages after a session without QUIT", len(left))
		}
		s.play(t, login+"DELE 1\r\nDELE 4\r\nQUIT\r\n")
		box, left := s.view(t)
		if len(left) != 3 || left[0].UID != 2 || box.UIDNext != 6 {
			t.Errorf("after QUIT: %v, %v", box, left)
		}
		select {
		case <-watcher.C():
		default:
			t.Error("QUIT woke nobody")
		}
	})
}

// listed takes the sizes from the reply to LIST.
func listed(t *testing.T, said string) (sizes []int) {
	_, list, _ := strings.Cut(said, "octets)\r\n+OK")
	for line := range strings.SplitSeq(list, "\r\n") {
		var n, size int
		if _, err := fmt.Sscanf(line, "%d %d", &n, &size); err == nil {
			sizes = append(sizes, size)
		}
		if line == "." {
			break
		}
	}
	return sizes
}

// retrieved counts the octets of the RETR reply that announces size of them.
func retrieved(t *testing.T, said string, size int) int {
	_, body, ok := strings.Cut(said, fmt.Sprintf("\r\n+OK %d octets\r\n", size))
	if !ok {
		t.Errorf("no reply announces %d octets", size)
		return -1
	}
	n := 0
	for line := range strings.SplitAfterSeq(body, "\r\n") {
		if line == ".\r\n" {
			return n
		}
		n += len(strings.TrimPrefix(line, "."))
	}
	return -1
}

// TestExpungedMeanwhile: what IMAP expunged is refused, also where another
// mailbox still has the body; UIDL never names another message.
func TestExpungedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStored(t, storetest.NewEngine())
		s.append(t, "", letter(1, 498), 3)
		client, server := wiretest.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer server.Close()
			s.serve(context.Background(), &wire.Conn{Conn: server}, make(chan struct{}))
		}()
		io.WriteString(client, "USER bob\r\nPASS hungry\r\n")
		synctest.Wait()
		err := s.store.Update(context.Background(), func(tx *mailstore.Tx) error {
			_, err := tx.Expunge(s.inbox, []mailstore.UID{2})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(client, "RETR 2\r\nRETR 3\r\nDELE 2\r\nDELE 1\r\nQUIT\r\n")
		said, err := io.ReadAll(client)
		<-done
		client.Close()
		if err != nil || strings.Count(string(said), "-ERR message 2 was deleted by another program meanwhile\r\n") != 1 ||
			strings.Count(string(said), "+OK 498 octets") != 1 {
			t.Errorf("%q, %v", said, err)
		}
		if _, left := s.view(t); len(left) != 1 || left[0].UID != 3 {
			t.Errorf("left: %v", left)
		}
		// A new message at the end has a new name.
		s.append(t, "", letter(2, 498), 1)
		if said := s.play(t, "USER bob\r\nPASS hungry\r\nUIDL\r\n"); !strings.Contains(said, ".3\r\n2 ") || !strings.Contains(said, ".4\r\n.\r\n") {
			t.Errorf("UIDL: %q", said)
		}
	})
}

// BenchmarkDrain retrieves and deletes 10,000 messages of 4 KiB in one session
// with pipelining, as fetchmail does.
func BenchmarkDrain(b *testing.B) {
	b.Run("model", func(b *testing.B) { benchmarkDrain(b, storetest.NewEngine()) })
	b.Run("sqlite", func(b *testing.B) {
		engine, err := sqlite.Open(context.Background(), filepath.Join(b.TempDir(), "data"), sqlite.Options{})
		if err != nil {
			b.Fatal(err)
		}
		benchmarkDrain(b, engine)
	})
}

func benchmarkDrain(b *testing.B, engine mailstore.Engine) {
	const n = 10_000
	s := newStored(b, engine)
	text := letter(1, 4096)
	sum := sha256.Sum256([]byte(text))
	for b.Loop() {
		b.StopTimer()
		for range n / 100 { // a body for each message, as separate letters have
			s.appendEach(b, text, 100)
		}
		b.StartTimer()
		drain(b, s.Server, n, sum)
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

// drain is the client's side of one session.
func drain(b *testing.B, s *Server, n int, sum [sha256.Size]byte) {
	client, server := wiretest.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer server.Close()
		s.serve(context.Background(), &wire.Conn{Conn: server}, make(chan struct{}))
	}()
	go func() {
		w := bufio.NewWriter(client)
		w.WriteString("USER bob\r\nPASS hungry\r\n")
		for i := 1; i <= n; i++ {
			fmt.Fprintf(w, "RETR %d\r\nDELE %d\r\n", i, i)
		}
		w.WriteString("QUIT\r\n")
		w.Flush()
	}()
	r := bufio.NewReaderSize(client, 64<<10)
	got := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			b.Fatalf("after %d messages: %v", got, err)
		}
		if strings.HasPrefix(string(line), "+OK POP3 server signing off") {
			break
		}
		if string(line) == "+OK 4096 octets\r\n" {
			body := make([]byte, 4096+3)
			if _, err := io.ReadFull(r, body); err != nil || got == 0 && sha256.Sum256(body[:4096]) != sum {
				b.Fatal("message differs", err)
			}
			got++
		}
	}
	<-done
	client.Close()
	if got != n {
		b.Fatalf("%d messages", got)
	}
}
