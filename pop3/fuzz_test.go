package pop3

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"postrider/internal/wire"
	"postrider/internal/wire/wiretest"
	"postrider/mailstore"
)

// maxReply is what a client may have to hold of a status line (RFC 2449
// section 4).
const maxReply = 512

// FuzzSession: whatever a client sends, each line of his is answered by one
// well-formed reply, in batches as one by one; what RETR sends is the message;
// and only QUIT deletes, what DELE named.
func FuzzSession(f *testing.F) {
	login := "USER bob\r\nPASS hungry\r\n"
	for _, script := range []string{
		login + "STAT\r\nLIST\r\nUIDL\r\nDELE 1\r\nRSET\r\nDELE 2\r\nQUIT\r\n",
		login + "DELE 1\r\nDELE 2\r\nDELE 3\r\n",
		login + "RETR 1\r\nRETR 3\r\nTOP 3 1\r\nTOP 2 9\r\nNOOP\r\nDELE 3\r\nQUIT\r\n",
		"UTF8\r\nLANG\r\nLANG *\r\n" + login + "LANG en-x\r\nUTF8\r\nRETR 3\r\nQUIT\r\n",
		"AUTH PLAIN\r\nAGJvYgBodW5ncnk=\r\nDELE 1\r\nquit\r\nquit\r\n",
		"AUTH FINAL =\r\n*\r\nAUTH\r\nCAPA\r\nAPOP a b\r\nSTLS\r\nGET / HTTP/1.1\r\n\r\n",
		"USER a\nUSER b\rc\r\n\r\n \r\nUSRE\r\nTOP\r\nLIST 99999999999999999999\r\n\x00\r\n" + strings.Repeat("x", 5000) + "\r\nQUIT",
	} {
		f.Add(script, "Subject: fuzz\r\n\r\n.\r\n..\r\n.a\n.\n\r\n.")
	}
	f.Fuzz(func(t *testing.T, script, message string) {
		if len(script) > 1<<14 || len(message) > 1<<14 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			oneByOne, left := play(t, script, message, true)
			batch, leftToo := play(t, script, message, false)
			if oneByOne != batch || !slices.Equal(left, leftToo) {
				t.Errorf("one by one %q and left %v, in a batch %q and left %v", oneByOne, left, batch, leftToo)
			}
			checkDeletions(t, oneByOne, left)
			checkRetrieval(t, message)
		})
	})
}

// quiet starts a session of its own and returns the client's end and a
// function that waits for its end.
func quiet(drops maildrops) (client net.Conn, done chan struct{}) {
	s := New(Options{Hostname: "hamburger.edu", Directory: &fakeDirectory{plaintext: true}, Policy: Policy{SendUTF8: true}})
	s.drops = drops
	client, server := wiretest.Pipe()
	done = make(chan struct{})
	go func() {
		defer close(done)
		defer server.Close()
		s.serve(context.Background(), &wire.Conn{Conn: server}, make(chan struct{}))
	}()
	return client, done
}

// play sends a script and returns what was said and the UIDs that are left.
func play(t *testing.T, script, message string, oneByOne bool) (string, []mailstore.UID) {
	drops := &fakeDrops{boxes: map[string][]fakeMessage{}, fail: map[string]error{}}
	drops.add("bob", letter(1, 300))
	drops.add("bob", letter(2, 400))
	drops.add("bob", message)
	client, done := quiet(drops)
	pieces := []string{script}
	if oneByOne {
		pieces = strings.SplitAfter(script, "\n")
	}
	var said strings.Builder
	got := make(chan struct{})
	go func() { io.Copy(&said, client); close(got) }()
	seen := 0
	for _, piece := range pieces {
		synctest.Wait()
		if oneByOne && said.Len() > seen {
			checkReply(t, said.String()[seen:])
			seen = said.Len()
		}
		if _, err := io.WriteString(client, piece); err != nil {
			break // the server has closed
		}
	}
	client.(interface{ CloseWrite() error }).CloseWrite()
	<-done
	<-got
	client.Close()
	return said.String(), drops.uids("bob")
}

// checkReply holds one reply against the syntax of RFC 2449 section 3 and RFC
// 5034 section 5.
func checkReply(t *testing.T, reply string) {
	first, rest, ok := strings.Cut(reply, "\r\n")
	status, _, _ := strings.Cut(first, " ")
	if !ok || len(first)+2 > maxReply || status != "+OK" && status != "-ERR" && status != "+" {
		t.Errorf("reply %.600q", reply)
	}
	for _, c := range []byte(first) {
		if c < ' ' || c > '~' {
			t.Errorf("octet %q in %q", c, first)
		}
	}
	if rest == "" {
		return
	}
	if status != "+OK" || rest != ".\r\n" && !strings.HasSuffix(rest, "\r\n.\r\n") {
		t.Errorf("reply %.600q", reply)
	}
	for line := range strings.SplitAfterSeq(strings.TrimSuffix(rest, ".\r\n"), "\n") {
		if line == ".\r\n" || line == ".\n" {
			t.Errorf("reply %.600q ends early", reply)
		}
	}
}

// checkDeletions: the last words of a session tell what is left.
func checkDeletions(t *testing.T, said string, left []mailstore.UID) {
	lines := strings.Split(strings.TrimSuffix(said, "\r\n"), "\r\n")
	want := 3
	switch last := lines[len(lines)-1]; last {
	case "+OK POP3 server signing off (maildrop empty)":
		want = 0
	case "+OK POP3 server signing off (1 message left)":
		want = 1
	case "+OK POP3 server signing off (2 messages left)":
		want = 2
	}
	if len(left) != want {
		t.Errorf("%d messages are left after %q", len(left), said)
	}
}

// checkRetrieval: a client that takes doubled dots away has the message, with
// CRLF at its end.
func checkRetrieval(t *testing.T, message string) {
	drops := &fakeDrops{boxes: map[string][]fakeMessage{}, fail: map[string]error{}}
	drops.add("bob", message)
	client, done := quiet(drops)
	io.WriteString(client, "USER bob\r\nPASS hungry\r\nRETR 1\r\nQUIT\r\n")
	said, err := io.ReadAll(client)
	<-done
	client.Close()
	if err != nil {
		t.Error(err)
	}
	want := message
	if want != "" && !strings.HasSuffix(want, "\r\n") {
		want += "\r\n"
	}
	_, body, _ := strings.Cut(string(said), fmt.Sprintf("\r\n+OK %d octets\r\n", len(want)))
	body, ok := strings.CutSuffix(body, ".\r\n+OK POP3 server signing off (1 message left)\r\n")
	var got strings.Builder
	for line := range strings.SplitAfterSeq(body, "\n") {
		got.WriteString(strings.TrimPrefix(line, "."))
	}
	if !ok || got.String() != want {
		t.Errorf("retrieved %q of %q (%q)", got.String(), message, said)
	}
}
