package imap

import (
	"fmt"
	"strings"
	"testing"

	"postrider/internal/journey"
	"postrider/mailstore"
)

// listen has the journey record all that a world's sessions say, and looks at the
// end that neither a password nor text of a message is in it.
func listen(t testing.TB, o *Options) {
	events := journey.New(journey.Options{Memory: 20_000})
	follower := events.Follow(journey.Filter{Sessions: true})
	o.Journey = events
	t.Cleanup(func() {
		follower.Close()
		checkJourney(t, events.Recent(journey.Filter{Sessions: true}))
	})
}

func checkJourney(t testing.TB, events []journey.Event) {
	for _, e := range events {
		all := fmt.Sprintf("%q %q %q", e.Text, e.Attrs, e.Wire)
		for _, secret := range []string{"hungry", "AGJvYgBodW5ncnk=", "AGFsaWNlAGh1bmdyeQ==", ":internal:91"} {
			if strings.Contains(all, secret) {
				t.Errorf("the journey has %q: %s", secret, all)
			}
		}
		for _, text := range []string{"ketchup", "pickles", "yummy", "innermost"} {
			if e.Kind == journey.IMAPReply && strings.Contains(all, text) {
				t.Errorf("the journey has text of a message: %s", all)
			}
		}
		if e.Text == "" || e.Peer == "" {
			t.Errorf("an event lacks text or peer: %+v", e)
		}
	}
}

// TestResponses: literals are left out, wherever the octets are cut.
func TestResponses(t *testing.T) {
	const sent = "* 1 FETCH (BODY[] {10}\r\n* OK\r\n\r\n)( FLAGS ())\r\n* LIST () \"/\" {3}\r\na{9\r\n" +
		"* 2 FETCH (BINARY[1] ~{0}\r\n)\r\na1 OK {5}x\r\n"
	want := []string{"* 1 FETCH (BODY[] {10} FLAGS ())", `* LIST () "/" {3}`, "* 2 FETCH (BINARY[1] ~{0})", "a1 OK {5}x"}
	for size := 1; size <= len(sent); size++ {
		var r responses
		var got []string
		for rest := []byte(sent); len(rest) > 0; {
			n := min(size, len(rest))
			r.feed(rest[:n], func(line string) { got = append(got, line) })
			rest = rest[n:]
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("in pieces of %d: %q", size, got)
		}
	}
	var r responses
	r.feed([]byte(strings.Repeat("x", 10*maxRecordedLine)+" {3}\r\nabc\r\n"), func(line string) {
		if len(line) > maxRecordedLine || strings.Contains(line, "abc") {
			t.Errorf("%d octets", len(line))
		}
	})
	if len(r.line)+len(r.tail) != 0 {
		t.Error("something is left")
	}
}

func TestMaskContent(t *testing.T) {
	for line, want := range map[string]string{
		`* 1 FETCH (ENVELOPE (NIL "a \" b" NIL) UID 1)`: `* 1 FETCH (ENVELOPE (NIL [6 octets] NIL) UID 1)`,
		`* LIST () "/" "My box"`:                        `* LIST () "/" "My box"`,
		`* METADATA INBOX (/private/comment "secret")`:  `* METADATA INBOX (/private/comment [6 octets])`,
		`* 1 FETCH (X "open`:                            `* 1 FETCH (X [3 octets]`,
	} {
		if got := maskContent(line); got != want {
			t.Errorf("%s: %s", line, got)
		}
	}
}

func FuzzResponses(f *testing.F) {
	f.Add([]byte("* 1 FETCH (BODY[] {3}\r\nabc)\r\n"), 3)
	f.Fuzz(func(t *testing.T, sent []byte, size int) {
		whole := func(size int) (lines []string) {
			var r responses
			for rest := sent; len(rest) > 0; {
				n := min(size, len(rest))
				r.feed(rest[:n], func(line string) { lines = append(lines, line) })
				rest = rest[n:]
			}
			return lines
		}
		if a, b := whole(max(1, len(sent))), whole(max(1, size)); fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%q and %q", a, b)
		}
	})
}

// TestFetchedOnce: the first time that a client reads a body is told; reading a
// header is not.
func TestFetchedOnce(t *testing.T) {
	events := journey.New(journey.Options{Memory: 100})
	w := newWorld(t, func(o *Options) { o.Journey = events })
	w.deliver("bob", "INBOX", []byte("Subject: x\r\n\r\nbody\r\n"), mailstore.Flags{}, 1)
	for range 2 {
		c := w.client("INBOX")
		c.do(`ID ("name" "Thunderbird")`)
		c.do("FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT)]")
		c.do("FETCH 1 BODY[]")
		c.do("FETCH 1 BODY.PEEK[TEXT]")
	}
	got := events.Recent(journey.Filter{Sessions: true})
	if len(got) != 1 || got[0].Kind != journey.MailboxFetched || !strings.HasSuffix(got[0].Text, "(Thunderbird) from INBOX of bob@hamburger.edu") {
		t.Errorf("%+v", got)
	}
}
