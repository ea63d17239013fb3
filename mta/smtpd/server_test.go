package smtpd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postrider/internal/wire"
	"postrider/internal/wire/wiretest"
)

// serve runs o on l until the end of the test.
func serve(t *testing.T, o Options, l net.Listener) *Server {
	t.Helper()
	server, ws := New(o), wire.NewServer(wire.ServerOptions{})
	ws.Serve(l, server.Protocol("smtp", false))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := ws.Shutdown(ctx); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	return server
}

// dialogue sends each command when the one before was answered, and returns
// the last line of the last reply.
func dialogue(conn net.Conn, commands ...string) (string, error) {
	r := bufio.NewReader(conn)
	last := ""
	for i := 0; ; i++ {
		line, err := r.ReadString('\n')
		for err == nil && len(line) > 3 && line[3] == '-' {
			line, err = r.ReadString('\n')
		}
		if err != nil {
			return last, err
		}
		last = strings.TrimRight(line, "\r\n")
		if i == len(commands) {
			return last, nil
		}
		if _, err := io.WriteString(conn, commands[i]); err != nil {
			return last, err
		}
	}
}

var letter = []string{
	"EHLO crepes.fr\r\n", "MAIL FROM:<alice@crepes.fr>\r\n", "RCPT TO:<bob@hamburger.edu>\r\n",
	"DATA\r\n", "Subject: x\r\n\r\nhello\r\n.\r\n",
}

// TestSockets sends a letter over TCP and a UNIX socket, and sees early talkers
// on them refused.
func TestSockets(t *testing.T) {
	w := newWorld(t)
	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "smtp")
		}
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		serve(t, w.options(), l)
		conn, err := net.Dial(network, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if reply, err := dialogue(conn, letter...); err != nil || !strings.HasPrefix(reply, "250 2.0.0") {
			t.Errorf("%s: %q, %v", network, reply, err)
		}
		m := <-w.taken
		if (network == "tcp") != strings.HasPrefix(m.content, "Received: from crepes.fr ([127.0.0.1])\r\n") {
			t.Errorf("%s: %q", network, m.content)
		}
		conn.Close()
	}
}

// TestSocketHasInput: what waits in a socket is seen without reading it.
func TestSocketHasInput(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if waiting, err := socketHasInput(server); waiting || err != nil {
		t.Errorf("before: %v, %v", waiting, err)
	}
	if _, err := io.WriteString(client, "ab"); err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	if _, err := io.ReadFull(server, one); err != nil { // waits until it is there
		t.Fatal(err)
	}
	for range 2 {
		if waiting, err := socketHasInput(server); !waiting || err != nil {
			t.Errorf("after: %v, %v", waiting, err)
		}
	}
}

// TestManySessions sends letters from many clients at once.
func TestManySessions(t *testing.T) {
	const sessions, each = 32, 20
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := wiretest.Listen()
		o := w.options()
		o.MessagesPerMinute = sessions * each
		serve(t, o, l)
		var wg sync.WaitGroup
		for range sessions {
			wg.Go(func() {
				conn, err := l.Dial(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				commands := letter
				for range each - 1 {
					commands = append(commands[:len(commands):len(commands)], letter[1:]...)
				}
				if reply, err := dialogue(conn, commands...); err != nil || !strings.HasPrefix(reply, "250 2.0.0") {
					t.Errorf("%q, %v", reply, err)
				}
			})
		}
		wg.Wait()
		if n := len(w.taken); n != sessions*each {
			t.Errorf("%d messages, want %d", n, sessions*each)
		}
	})
}

// TestSetLimits: SIGHUP changes the limits of running sessions.
func TestSetLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := wiretest.Listen()
		server := serve(t, w.options(), l)
		conn, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		const mail = "MAIL FROM:<alice@crepes.fr> SIZE=1001\r\n"
		if reply, err := dialogue(conn, "EHLO crepes.fr\r\n", mail, "RSET\r\n"); err != nil || !strings.HasPrefix(reply, "250") {
			t.Fatalf("%q, %v", reply, err)
		}
		server.SetLimits(Limits{MaxSize: 1000})
		if _, err := io.WriteString(conn, mail); err != nil {
			t.Fatal(err)
		}
		if reply, err := dialogue(conn); err != nil || !strings.HasPrefix(reply, "552 5.3.4") {
			t.Errorf("%q, %v", reply, err)
		}
	})
}

// counter counts in a test.
type counter struct{ n int }

func (c *counter) Inc() { c.n++ }

func TestMetrics(t *testing.T) {
	w := newWorld(t)
	var sessions, accepted, refused, recipients, logins, failed counter
	o := w.options()
	o.Mode = Submission
	o.Metrics = Metrics{
		Sessions: &sessions, Accepted: &accepted, RefusedMessages: &refused, RefusedRecipient: &recipients,
		Logins: &logins, FailedLogins: &failed,
	}
	c := &script{out: io.Discard, pieces: inPieces(
		[]byte("EHLO crepes.fr\r\nAUTH SCRAM-TEST Og==\r\n"), []byte("eA==\r\n"),
		[]byte("AUTH SCRAM-TEST Og==\r\n"), []byte("cHJvb2Y=\r\n"), []byte("\r\n"),
		[]byte("MAIL FROM:<>\r\nRCPT TO:<nobody@hamburger.edu>\r\nRCPT TO:<bob@hamburger.edu>\r\nDATA\r\n"), []byte("a\n\r\n.\r\n"),
		[]byte("MAIL FROM:<>\r\nRCPT TO:<bob@hamburger.edu>\r\nDATA\r\n"), []byte(".\r\n"))}
	c.play(New(o))
	got := fmt.Sprint(sessions.n, accepted.n, refused.n, recipients.n, logins.n, failed.n)
	if want := "1 1 1 1 1 1"; got != want {
		t.Errorf("counts %s, want %s", got, want)
	}
}

// TestIdleMemory: an idle session costs little memory.
func TestIdleMemory(t *testing.T) {
	const connections, bound = 500, 32 << 10
	w := newWorld(t)
	server := New(w.options())
	released, done := make(chan struct{}), sync.WaitGroup{}
	waiting := make(chan struct{}, connections)
	before := memory()
	for range connections {
		step := 0
		c := &script{out: io.Discard, pieces: func() []byte {
			if step++; step == 1 {
				return []byte("EHLO crepes.fr\r\nMAIL FROM:<alice@crepes.fr>\r\nRCPT TO:<bob@hamburger.edu>\r\n")
			}
			waiting <- struct{}{}
			<-released
			return nil
		}}
		done.Go(func() { c.play(server) })
	}
	for range connections {
		<-waiting
	}
	per := (memory() - before) / connections
	close(released)
	done.Wait()
	t.Logf("%d octets for each idle connection", per)
	if per > bound {
		t.Errorf("%d octets for each idle connection, want at most %d", per, bound)
	}
}

func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
