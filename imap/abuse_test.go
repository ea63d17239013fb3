package imap

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postrider/imap/syntax"
	"postrider/internal/clock"
	"postrider/internal/journey"
	"postrider/mailstore"
)

// TestAbuse (S4, S5): what strangers and users can send that is expensive or
// hostile is refused in words, and the session that had to end ends alone.
func TestAbuse(t *testing.T) {
	const login = "a LOGIN bob hungry\r\nb SELECT INBOX\r\n"
	long := strings.Repeat("x", 200<<10)
	tests := []struct{ name, script, want string }{
		{"an endless line", strings.Repeat("x", 1<<20), "* BYE [TOOBIG] The command is too long\r\n"},
		{"an endless line of a user", login + "c " + strings.Repeat("x", 1<<20), "* BYE [TOOBIG] The command is too long\r\n"},
		{"a long line", login + "c SEARCH SUBJECT " + long + "\r\nd LOGOUT\r\n", "c BAD [TOOBIG] The command is too long\r\n* BYE [TOOBIG] The command is too long\r\n"},
		{"a literal of 2^31", "a LOGIN {2147483648+}\r\nxxx", "* BYE [CLIENTBUG] It is not clear where your command ends\r\n"},
		{"a literal of 2^63", "a LOGIN {9223372036854775808}\r\n", "* BYE [CLIENTBUG] It is not clear where your command ends\r\n"},
		{"a literal of 2^64", "a LOGIN {18446744073709551616+}\r\nabc", "* BYE [CLIENTBUG] It is not clear where your command ends\r\n"},
		{"a large literal of a stranger", "a LOGIN {30000}\r\n", "a NO [TOOBIG] Literals are limited to 24"},
		{"many literals", login + "c SEARCH" + strings.Repeat(" {1+}\r\nx", 2000) + "\r\nd LOGOUT\r\n", "c NO [TOOBIG]"},
		{"an open quote", "a LOGIN \"bob\r\nb LOGOUT\r\n", "a BAD [CLIENTBUG] Syntax error"},
		{"open parentheses", login + "c SEARCH " + strings.Repeat("(", 60000) + "\r\nd LOGOUT\r\n", "c NO [LIMIT]"},
		{"open parentheses in FETCH", login + "c FETCH 1 " + strings.Repeat("(", 60000) + "\r\nd LOGOUT\r\n", "c BAD [CLIENTBUG]"},
		{"NOT within NOT", login + "c SEARCH " + strings.Repeat("NOT ", 10000) + "ALL\r\nd LOGOUT\r\n", "c NO [LIMIT]"},
		{"many keys", login + "c SEARCH" + strings.Repeat(" TEXT x", 5000) + "\r\nd LOGOUT\r\n", "c NO [LIMIT]"},
		{"many fuzzy words", login + "c SEARCH FUZZY TEXT \"" + strings.Repeat("x ", 20000) + "\"\r\nd LOGOUT\r\n", "c NO [LIMIT]"},
		{"fuzzy words to be scored", login + "c SEARCH RETURN (RELEVANCY) FUZZY TEXT \"" + strings.Repeat("x ", 200) + "\"\r\nd LOGOUT\r\n", "c NO [LIMIT]"},
		{"many items", login + "c FETCH 1 (" + strings.TrimSpace(strings.Repeat("BODY[] ", 5000)) + ")\r\nd LOGOUT\r\n", "c NO [LIMIT]"},
		{"many patterns", login + "c LIST \"\" (" + strings.TrimSpace(strings.Repeat("a ", 5000)) + ")\r\nd LOGOUT\r\n", "c NO [LIMIT]"},
		{"a worst pattern", login + "c LIST \"\" " + strings.Repeat("*a%", 10000) + "\r\nd LOGOUT\r\n", "c OK"},
		{"a deep part", login + "c FETCH 1 BODY[" + strings.TrimSuffix(strings.Repeat("1.", 5000), ".") + "]\r\nd LOGOUT\r\n", "c NO [LIMIT]"},
		{"a set bomb", login + "c FETCH " + strings.TrimSuffix(strings.Repeat("1:*,", 15000), ",") + " UID\r\nd LOGOUT\r\n", "c OK"},
		{"a set bomb of known UIDs", login + "c ENABLE QRESYNC\r\nd SELECT INBOX (QRESYNC (946684806 1 1:4294967295 (1:3 1:4294967295)))\r\ne LOGOUT\r\n", "d OK"},
		{"a flood of tags", strings.Repeat("a NOOP\r\n", 20000) + "b LOGOUT\r\n", "b OK"},
		{"nonsense", strings.Repeat("\x00\xff\r\n", 1000), "* BYE Too many errors\r\n"},
		{"commands before TLS", "a STARTTLS\r\nb LOGIN bob hungry\r\n", "a BAD"},
		{"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\na LOGIN bob hungry\r\n", "* BYE This is IMAP\r\n"},
		{"many keywords", login + "c STORE 1 FLAGS (" + strings.TrimSpace(strings.Repeat("k", 200)+strings.Repeat(" x", 5)) + ")\r\nd LOGOUT\r\n", "c NO [CANNOT]"},
		{"a name in control", login + "c CREATE {3+}\r\na\rb\r\nd LOGOUT\r\n", "c NO [CANNOT]"},
		{"many ID fields", "a ID (" + strings.TrimSpace(strings.Repeat("\"a\" \"b\" ", 2000)) + ")\r\nb LOGOUT\r\n", "a NO [LIMIT]"},
	}
	w := newWorld(t, nil)
	w.deliver("bob", "INBOX", fixture(t, "plain"), mailstore.Flags{}, 3)
	for _, test := range tests {
		said := w.raw(test.script)
		if !strings.Contains(said, "\r\n"+test.want) {
			t.Errorf("%s: no %q in %.2000q", test.name, test.want, said)
		}
		if strings.Contains(test.script, "d LOGOUT") && !strings.Contains(said, "* BYE") {
			t.Errorf("%s: ends with %.200q", test.name, said[max(0, len(said)-200):])
		}
	}
}

// TestSlowPeers (S4): a line has one deadline however it drips, a body may take
// its time, and a client that does not read is left.
func TestSlowPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		start := time.Now()
		drip := func(begin, with string, every time.Duration, n int) (time.Duration, string) {
			conn := w.dial()
			defer conn.Close()
			var said strings.Builder
			done := make(chan struct{})
			began := time.Now()
			ended := began
			go func() {
				defer close(done)
				_, _ = io.Copy(&said, conn)
				ended = time.Now()
			}()
			io.WriteString(conn, begin)
			for range n {
				time.Sleep(every)
				if _, err := io.WriteString(conn, with); err != nil {
					break
				}
			}
			time.Sleep(40 * time.Minute)
			conn.Close()
			<-done
			return ended.Sub(began), said.String()
		}
		if d, said := drip("a LOG", "I", 10*time.Second, 200); d > strangerPatience+time.Minute || !strings.Contains(said, "* BYE Idle too long") {
			t.Errorf("a dripping stranger had %v: %q", d, said)
		}
		if d, said := drip("a LOGIN bob hungry\r\nb NO", "O", time.Minute, 60); d > commandPatience+2*time.Minute || !strings.Contains(said, "* BYE Idle too long") {
			t.Errorf("a dripping user had %v: %q", d, said)
		}
		d, said := drip("a LOGIN bob hungry\r\nb APPEND INBOX {60+}\r\n", "x", 2*time.Minute, 59)
		if strings.Contains(said, "\r\nb ") || !strings.Contains(said, "* BYE Idle too long") || d > 59*2*time.Minute+bodyPatience {
			t.Errorf("half a message, after %v: %q", d, said)
		}
		if time.Since(start) < time.Hour {
			t.Error("time stood still")
		}
	})
}

// TestSlowMessage: a message that comes at an octet in two minutes arrives.
func TestSlowMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		c := w.connect()
		c.ok("LOGIN bob hungry")
		io.WriteString(c.conn, "x APPEND INBOX {60+}\r\n")
		for range 60 {
			time.Sleep(2 * time.Minute)
			io.WriteString(c.conn, "x")
		}
		io.WriteString(c.conn, "\r\n")
		if line := c.line(); !strings.HasPrefix(line, "x OK") {
			t.Error(line)
		}
	})
}

// TestStuckReader: a client that never reads what it asked for is closed after
// the time for one buffer.
func TestStuckReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.deliver("bob", "INBOX", []byte(strings.Repeat("0123456789abcde\r\n", 60000)), mailstore.Flags{}, 1)
		conn := w.dial()
		defer conn.Close()
		io.WriteString(conn, "a LOGIN bob hungry\r\nb SELECT INBOX\r\n"+strings.Repeat("c FETCH 1 BODY.PEEK[]\r\n", 10))
		time.Sleep(sendTimeout + time.Minute)
		if _, err := io.WriteString(conn, "d NOOP\r\n"); err == nil {
			t.Error("the connection is open still")
		}
	})
}

// TestIdleMemory: what an idle session costs, IDLE or not. Both ends of the
// connection are in this process, so that the server's is less.
func TestIdleMemory(t *testing.T) {
	const sessions, most = 200, 32 << 10
	w := newWorld(t, func(o *Options) { o.Journey = journey.New(journey.Options{}) })
	w.deliver("bob", "INBOX", fixture(t, "plain"), mailstore.Flags{}, 1000)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.wire.Serve(l, w.server.Protocol("imap", false))
	memory := func() int64 {
		runtime.GC()
		runtime.GC() // empties the pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	before := memory()
	var open []net.Conn
	buf := make([]byte, 64<<10)
	for range sessions {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open = append(open, conn)
		fmt.Fprint(conn, "a LOGIN bob hungry\r\nb SELECT INBOX\r\nc UID FETCH 1:* (FLAGS ENVELOPE)\r\nd IDLE\r\n")
		for said := 0; ; {
			n, err := conn.Read(buf[said:])
			if err != nil {
				t.Fatal(err)
			}
			if said += n; strings.HasSuffix(string(buf[:said]), "+ idling\r\n") {
				break
			}
			if said > len(buf)/2 {
				said = copy(buf, buf[said-100:said])
			}
		}
	}
	each := (memory() - before) / sessions
	t.Logf("%d octets for an idle session", each)
	if each > most {
		t.Errorf("%d octets for an idle session, %d are the limit", each, most)
	}
	runtime.KeepAlive(open)
}

// TestLimitsAreNamed: one octet more than a stranger's command may have.
func TestLimitsAreNamed(t *testing.T) {
	w := newWorld(t, nil)
	for extra, want := range []string{"a NO [AUTHENTICATIONFAILED]", "* BYE [TOOBIG]"} {
		line := "a LOGIN bob "
		line += strings.Repeat("x", syntax.MaxStrangerLine-len(line)-2+extra) + "\r\n"
		if said := w.raw(line); !strings.Contains(said, want) {
			t.Errorf("a line of %d octets: %q", len(line), said)
		}
	}
}

// slowClock is a clock that goes on by a second whenever somebody looks.
type slowClock struct {
	clock.Clock
	looks atomic.Int64
}

func (c *slowClock) Now() time.Time {
	return c.Clock.Now().Add(time.Duration(c.looks.Add(1)) * time.Second)
}

// TestInProgress (RFC 9585): a long search says how far it is.
func TestInProgress(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Clock = &slowClock{Clock: clock.System()} })
	w.deliver("bob", "INBOX", fixture(t, "plain"), mailstore.Flags{}, 30)
	said := w.raw("a LOGIN bob hungry\r\nb EXAMINE INBOX\r\nc SEARCH BODY nothing-of-this\r\nd LOGOUT\r\n")
	if !strings.Contains(said, "\r\n* OK [INPROGRESS (\"c\" 10 30)] Still working\r\n") || strings.Count(said, "INPROGRESS (") < 2 || !strings.Contains(said, "c OK") {
		t.Errorf("%q", said)
	}
}

// TestNotifyWhileSending: events neither disturb a message that comes nor are
// lost meanwhile.
func TestNotifyWhileSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := watching(t, "inboxes (MessageNew MessageExpunge)")
		io.WriteString(c.conn, "x APPEND Drafts {10+}\r\n12345")
		synctest.Wait()
		for range 3 {
			w.deliver("bob", "INBOX", fixture(t, "plain"), mailstore.Flags{}, 1)
			time.Sleep(time.Second)
		}
		io.WriteString(c.conn, "67890\r\n")
		if line := c.line(); !strings.HasPrefix(line, "x OK") {
			t.Error(line)
		}
		if line := c.line(); line != "* STATUS INBOX (MESSAGES 3 UIDNEXT 4)" {
			t.Error(line)
		}
		// A message that stops coming is still given up.
		io.WriteString(c.conn, "y APPEND Drafts {10+}\r\n12345")
		synctest.Wait()
		for range 10 {
			w.deliver("bob", "INBOX", fixture(t, "plain"), mailstore.Flags{}, 1)
			time.Sleep(bodyPatience / 5)
		}
		if line := c.line(); line != "* BYE Idle too long" {
			t.Error(line)
		}
	})
}
