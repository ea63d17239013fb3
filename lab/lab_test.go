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

// typed are the lines that the lab says to type, with the replies.
func typed(lines []string) []string {
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

func start(t *testing.T, o Options) (*Lab, *screen) {
	t.Helper()
	out := newScreen()
	o.Out, o.FreePorts, o.Seed = out, true, 1
	l, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("what happened in the lab:\n%s", out)
		}
	})
	return l, out
}

func (l *Lab) account(t *testing.T, address string) *Account {
	t.Helper()
	a, ok := l.World().Account(address)
	if !ok {
		t.Fatalf("no account %s", address)
	}
	return a
}

func (l *Lab) real(t *testing.T, host, service string) string {
	t.Helper()
	e, err := l.Endpoint(host, service)
	if err != nil {
		t.Fatal(err)
	}
	return e.Real
}

// arrives waits until an account has n letters in its INBOX and returns them.
func arrives(t *testing.T, l *Lab, account string, n int) []Stored {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	list, err := l.Arrives(ctx, account, n)
	if err != nil {
		t.Fatalf("%v: %+v", err, list)
	}
	return list
}

// A letter typed into the first server is read at the second.
func TestLetter(t *testing.T) {
	dir := t.TempDir()
	l, out := start(t, Options{Keep: dir})
	alice, bob := l.account(t, "alice@crepes.fr"), l.account(t, "bob@hamburger.edu")
	talk(t, l.real(t, "mx.crepes.fr", "smtp"), "220 mx.crepes.fr", typed(Toppings(alice, bob, "crepes.fr"))...)
	letters := arrives(t, l, "bob@hamburger.edu", 1)
	if s := letters[0]; s.From != "alice@crepes.fr" || s.Subject != "Searching for the meaning of life" {
		t.Errorf("%+v", s)
	}
	out.wait(t, `mx\.hamburger\.edu +.*bob@hamburger\.edu`)
	read := func(l *Lab) string {
		t.Helper()
		replies := talk(t, l.real(t, "mx.hamburger.edu", "pop3"), "+OK", "user bob\t+OK", "pass hungry\t+OK", "list\t+OK", "retr 1\t+OK", "quit\t+OK")
		return strings.ReplaceAll(replies[4], "\n\t", " ")
	}
	for _, part := range []string{"Return-Path: <alice@crepes.fr>", "by mx.hamburger.edu", "with ESMTPS", "by mx.crepes.fr", "How about pickles?\n"} {
		if letter := read(l); !strings.Contains(letter, part) {
			t.Errorf("no %q in the letter:\n%s", part, letter)
		}
	}
	// Everything is there after a stop and a start.
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, _ = start(t, Options{Keep: dir})
	if letter := read(l); !strings.Contains(letter, "How about pickles?") {
		t.Errorf("after a restart:\n%s", letter)
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
		`(?m)dns\.crepes\.fr +resolver +127\.33\.0\.2 +dns \d+$`, `(?m)mx\.crepes\.fr +mail +127\.33\.0\.25 +smtp \d+, submission \d+, pop3 \d+, imap \d+$`,
		`IMAP at 127\.34\.0\.25 port \d+, or POP3 at 127\.34\.0\.25 port \d+, outgoing SMTP at 127\.34\.0\.25 port \d+,`,
		`telnet 127\.33\.0\.25 \d+\n  HELO crepes\.fr\n  MAIL FROM: <alice@crepes\.fr>\n`, `telnet 127\.34\.0\.25 \d+\n  user bob\n  pass hungry\n`,
	} {
		if !regexp.MustCompile(part).MatchString(got) {
			t.Errorf("no %s in:\n%s", part, got)
		}
	}
}

// A server that is down gets its mail later; five days without it end in a
// report.
func TestDownAndJump(t *testing.T) {
	l, _ := start(t, Options{})
	ctx := t.Context()
	for _, h := range []string{"mx.hamburger.edu", "mx.relay.test"} {
		if _, err := l.SetFault(ctx, Fault{Kind: FaultDown, Host: h}); err != nil {
			t.Fatal(err)
		}
	}
	send := func(subject string) {
		t.Helper()
		if _, err := l.Send(ctx, Letter{From: "alice@crepes.fr", To: []string{"bob@hamburger.edu"}, Subject: subject, Text: "Hello"}); err != nil {
			t.Fatal(err)
		}
	}
	send("never")
	if err := l.Jump(ctx, 3*time.Hour); err != nil {
		t.Fatal(err)
	}
	q, err := l.Queues(ctx, "mx.crepes.fr")
	if err != nil || len(q) != 1 || len(q[0].Items) != 1 || q[0].Items[0].Recipients[0].Attempts < 5 {
		t.Fatalf("queue: %+v, %v", q, err)
	}
	began := time.Now()
	if err := l.Jump(ctx, 6*24*time.Hour); err != nil {
		t.Fatal(err)
	}
	t.Logf("six days took %v", time.Since(began))
	report := arrives(t, l, "alice@crepes.fr", 2) // after the warning, the report
	if !strings.Contains(report[1].From, "MAILER-DAEMON") && !strings.Contains(report[1].Subject, "deliver") {
		t.Errorf("%+v", report)
	}
	if err := l.ClearFaults(ctx, "", FaultDown); err != nil {
		t.Fatal(err)
	}
	send("later")
	if err := l.Jump(ctx, time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := arrives(t, l, "bob@hamburger.edu", 1); got[0].Subject != "later" {
		t.Errorf("%+v", got)
	}
}

// A registered domain gets mail, also in the next run on the same folder; what
// cannot be registered is refused.
func TestRegister(t *testing.T) {
	dir := t.TempDir()
	l, _ := start(t, Options{Keep: dir, Instant: true})
	ctx := t.Context()
	for _, name := range []string{"", "com", "a.b.com", "crepes.fr", "no..com", "x.invalid", strings.Repeat("a", 64) + ".com"} {
		if _, err := l.Register(ctx, name); err == nil {
			t.Errorf("%q was registered", name)
		}
	}
	r, err := l.Register(ctx, "NetworkUtopia.com.")
	if err != nil || r.Domain != "networkutopia.com" || len(r.Steps) != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	write := func(subject string) {
		t.Helper()
		if _, err := l.Send(ctx, Letter{From: "alice@crepes.fr", To: []string{r.Account.Address}, Subject: subject}); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	arrives(t, l, r.Account.Address, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, _ = start(t, Options{Keep: dir, Instant: true})
	write("two")
	if s := arrives(t, l, r.Account.Address, 2); s[0].Subject != "one" || s[1].Subject != "two" {
		t.Errorf("%+v", s)
	}
	if _, err := l.Register(ctx, "networkutopia.com"); err == nil {
		t.Error("it was registered twice")
	}
}
