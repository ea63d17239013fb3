package lab

import (
	"bytes"
	"context"
	"io"
	"net/textproto"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// screen keeps what the lab prints, and tells when a line comes.
type screen struct {
	mu    sync.Mutex
	text  bytes.Buffer
	fresh chan struct{} // closed at each write
}

func newScreen() *screen { return &screen{fresh: make(chan struct{})} }

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.fresh)
	s.fresh = make(chan struct{})
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// wait returns when something that matches was printed.
func (s *screen) wait(t *testing.T, expr string) {
	t.Helper()
	re := regexp.MustCompile(expr)
	late := time.After(30 * time.Second)
	for {
		s.mu.Lock()
		found, fresh := re.Match(s.text.Bytes()), s.fresh
		s.mu.Unlock()
		if found {
			return
		}
		select {
		case <-fresh:
		case <-late:
			t.Fatalf("nothing like %s in:\n%s", expr, s)
		}
	}
}

// talk types lines and checks the beginning of the replies; a command with ""
// for a reply gets none.
func talk(t *testing.T, addr, greeting string, dialogue ...string) []string {
	t.Helper()
	c, err := textproto.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var replies []string
	for i, line := range append([]string{""}, dialogue...) {
		want := greeting
		if i > 0 {
			line, want, _ = strings.Cut(line, "\t")
			if err := c.PrintfLine("%s", line); err != nil {
				t.Fatal(err)
			}
		}
		if want == "" {
			continue
		}
		reply, err := c.ReadLine()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if !strings.HasPrefix(reply, want) {
			t.Errorf("%s: got %q, want %s", line, reply, want)
		}
		if strings.HasPrefix(line, "list") || strings.HasPrefix(line, "retr") {
			b, err := io.ReadAll(c.DotReader())
			if err != nil {
				t.Fatal(err)
			}
			reply = string(b)
		}
		replies = append(replies, reply)
	}
	return replies
}

// The lines that the lab says to type, typed.
func typed(from, to *Server) []string {
	lines := dialogue(from, to)
	inData := false
	for i, line := range lines {
		switch {
		case line == ".":
			inData = false
			lines[i] += "\t250 "
		case inData:
		case line == "DATA":
			inData = true
			lines[i] += "\t354 "
		case line == "QUIT":
			lines[i] += "\t221 "
		default:
			lines[i] += "\t250 "
		}
	}
	return lines
}

func start(t *testing.T, dir string) (*Lab, *screen) {
	t.Helper()
	out := newScreen()
	l, err := Start(t.Context(), Options{Out: out, DataDir: dir, FreePorts: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, out
}

// A letter typed into the first server is read at the second, over POP3 and
// IMAP, and each step was shown.
func TestLetter(t *testing.T) {
	dir := t.TempDir()
	l, out := start(t, dir)
	crepes, hamburger := l.Servers[0], l.Servers[1]
	talk(t, crepes.Addr("smtp"), "220 crepes.fr", typed(crepes, hamburger)...)
	out.wait(t, `crepes\.fr +delivered to bob@hamburger\.edu: .*\n`)

	got := out.String()
	for _, step := range []string{
		`crepes\.fr +accepted a letter from alice@crepes\.fr \(\d+ octets\) to send it on, id \S+\n`,
		`name server +MX of hamburger\.edu\? 10 mx\.hamburger\.edu\.`,
		`name server +A of mx\.hamburger\.edu\? 127\.0\.0\.3`,
		`hamburger\.edu +accepted a letter from alice@crepes\.fr \(\d+ octets\) into the mailbox, id \S+\n`,
		`crepes\.fr +delivered to bob@hamburger\.edu: mx\.hamburger\.edu took it under TLS1\.3 and said 250 `,
	} {
		if !regexp.MustCompile(step).MatchString(got) {
			t.Errorf("no line %s in:\n%s", step, got)
		}
	}

	check := func(letter string) {
		t.Helper()
		letter = strings.ReplaceAll(letter, "\r\n", "\n")
		for _, part := range []string{
			"Return-Path: <alice@crepes.fr>", "by hamburger.edu", "with ESMTPS", "by crepes.fr",
			"Subject: Searching for the meaning of life\n\nDo you like ketchup?\nHow about pickles?\n",
		} {
			if !strings.Contains(letter, part) {
				t.Errorf("no %q in the letter:\n%s", part, letter)
			}
		}
	}
	check(readIMAP(t, hamburger))
	replies := talk(t, hamburger.Addr("pop3"), "+OK",
		"user bob\t+OK", "pass hungry\t+OK", "list\t+OK", "retr 1\t+OK", "quit\t+OK")
	check(replies[4])

	// Everything is there after a stop and a start.
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, _ = start(t, dir)
	check(readIMAP(t, l.Servers[1]))
	talk(t, l.Servers[1].Addr("pop3"), "+OK", "user bob\t+OK", "pass hungry\t+OK", "dele 1\t+OK", "quit\t+OK")
}

// readIMAP returns the only message in the user's INBOX.
func readIMAP(t *testing.T, s *Server) string {
	t.Helper()
	c, err := imapclient.DialInsecure(s.Addr("imap"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(s.User+"@"+s.Domain, s.Password).Wait(); err != nil {
		t.Fatalf("LOGIN: %v", err)
	}
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil || box.NumMessages != 1 {
		t.Fatalf("INBOX: %+v, %v", box, err)
	}
	section := &imap.FetchItemBodySection{Peek: true}
	list, err := c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil || len(list) != 1 {
		t.Fatalf("FETCH: %v, %v", list, err)
	}
	return string(list[0].FindBodySection(section))
}

// An unknown user is refused by the server that knows its users, and the
// sender reads why.
func TestBounce(t *testing.T) {
	l, out := start(t, t.TempDir())
	crepes, hamburger := l.Servers[0], l.Servers[1]
	lost := *hamburger
	lost.User = "carol"
	talk(t, crepes.Addr("smtp"), "220 crepes.fr", typed(crepes, &lost)...)
	out.wait(t, `crepes\.fr +report: .*alice@crepes\.fr`)
	report := readIMAP(t, crepes)
	for _, part := range []string{"carol@hamburger.edu", "multipart/report", "550 5.1.1"} {
		if !strings.Contains(report, part) {
			t.Errorf("no %q in the report:\n%s", part, report)
		}
	}
}

// Run says what there is and what to type, and ends with its context.
func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := newScreen()
	done := make(chan error, 1)
	go func() { done <- Run(ctx, Options{Out: out, FreePorts: true}) }()
	out.wait(t, `(?m)^ready$`)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	got := out.String()
	for _, part := range []string{
		`name server +dns +127\.0\.0\.1:\d+`, `crepes\.fr +smtp +127\.0\.0\.2:\d+`, `hamburger\.edu +smtp +127\.0\.0\.3:\d+`,
		`telnet 127\.0\.0\.2 \d+\n  HELO crepes\.fr\n  MAIL FROM: <alice@crepes\.fr>\n`, `telnet 127\.0\.0\.3 \d+\n  user bob\n  pass hungry\n`,
	} {
		if !regexp.MustCompile(part).MatchString(got) {
			t.Errorf("no %s in:\n%s", part, got)
		}
	}
}
