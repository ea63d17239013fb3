package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postrider/dns/dnstest"
	"postrider/internal/journey"
)

var update = flag.Bool("update", false, "write the files of testdata anew")

// peer is a server that speaks as it is told: it refuses nobody@, defers late@ once,
// and takes all else.
type peer struct {
	l  net.Listener
	wg sync.WaitGroup

	mu     sync.Mutex
	latest bool // late@ was deferred
}

func newPeer(t *testing.T) *peer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{l: l}
	p.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() {
				defer conn.Close()
				p.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.wg.Wait()
	})
	return p
}

func (p *peer) port() int { return p.l.Addr().(*net.TCPAddr).Port }

func (p *peer) serve(conn net.Conn) {
	r := bufio.NewReader(conn)
	say := func(s string) { fmt.Fprintf(conn, "%s\r\n", s) }
	say("220 mx.crepes.fr")
	for content := false; ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case content:
			if line == ".\r\n" {
				content = false
				say("250 2.0.0 taken")
			}
		case verb == "EHLO":
			say("250-mx.crepes.fr\r\n250 8BITMIME")
		case verb == "RCPT" && strings.Contains(arg, "nobody@"):
			say("550 5.1.1 who is that?")
		case verb == "RCPT" && strings.Contains(arg, "late@") && p.defers():
			say("451 4.7.1 come again")
		case verb == "DATA":
			content = true
			say("354 go on")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("250 2.0.0 ok")
		}
	}
}

func (p *peer) defers() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.latest
	p.latest = true
	return !was
}

// traced runs a node whose mail for crepes.fr goes to a peer.
func traced(t *testing.T) (*running, Options) {
	p := newPeer(t)
	names := dnstest.Start(t, "crepes.fr. 300 IN MX 10 mx.crepes.fr.\nmx.crepes.fr. 300 IN A 127.0.0.1\n")
	o := options(t)
	o.Resolver, o.RemotePort = names.Addr, p.port()
	o.RelayNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	o.Retry = []time.Duration{50 * time.Millisecond}
	n := start(t, o)
	people(t, n.Node)
	return n, o
}

// send hands in a message.
func send(t *testing.T, n *running, to string) {
	t.Helper()
	c := dial(t, n.Addr("smtp"), "220")
	c.say("EHLO laptop.example", "250")
	c.say("MAIL FROM:<bob@hamburger.edu>", "250")
	c.say("RCPT TO:<"+to+">", "250")
	c.say("DATA", "354")
	c.say("Message-ID: <letter@hamburger.edu>\r\nSubject: Crepes\r\n\r\nDo you like ketchup?\r\n.", "250")
}

// wait follows the node until an event matches.
func wait(t *testing.T, f *journey.Follower, done func(*journey.Event) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for e := range f.All(ctx) {
		if done(&e) {
			return
		}
	}
	t.Fatal("it did not happen")
}

var unstable = regexp.MustCompile(`\b[0-9a-hjkmnp-tv-z]{18}\b|\d\d:\d\d:\d\d\.\d{3}|20\d\d-\d\d-\d\d(T[\d:]+Z)?|127\.0\.0\.1:\d+|\(?(in )?[\d.]+(µs|ms|s)\)|\d+ octets|TTL \d+|\(UID \d+\)`)

// stable is a trace without what is new in each run.
func stable(s string) string {
	s = unstable.ReplaceAllStringFunc(s, func(m string) string {
		switch {
		case len(m) == 18 && !strings.ContainsAny(m, ".:"):
			return "ID"
		case strings.HasPrefix(m, "127."):
			return "ADDR"
		case strings.HasSuffix(m, "octets"):
			return "N octets"
		case strings.HasPrefix(m, "("):
			return "(TOOK)"
		case strings.Contains(m, "-"):
			return "DATE"
		case strings.HasPrefix(m, "TTL"):
			return "TTL N"
		}
		return "TIME"
	})
	// Both types of an address are asked for at once.
	lines := strings.SplitAfter(s, "\n")
	both := func(line string) bool { return strings.Contains(line, "mx.crepes.fr A") }
	for i := 0; i < len(lines); i++ {
		j := i
		for j < len(lines) && both(lines[j]) {
			j++
		}
		slices.Sort(lines[i:j])
		i = max(i, j-1)
	}
	return strings.Join(lines, "")
}

// TestTrace: a letter into a mailbox here, one that is deferred and then delivered,
// and one that comes back, as trace prints them: from the running server, and after
// it ended.
func TestTrace(t *testing.T) {
	for name, letter := range map[string]struct {
		to   string
		done journey.Kind
	}{
		"local":    {"bob@hamburger.edu", journey.MessageAccepted},
		"deferred": {"late@crepes.fr", journey.QueueDelivered},
		"bounce":   {"nobody@crepes.fr", journey.QueueFailed},
	} {
		t.Run(name, func(t *testing.T) {
			n, o := traced(t)
			f := n.Journey().Follow(journey.Filter{})
			defer f.Close()
			send(t, n, letter.to)
			wait(t, f, func(e *journey.Event) bool { return e.Kind == letter.done })
			got := trace(t, o, journey.Query{To: letter.to, Messages: 1})
			file := "testdata/trace-" + name + ".txt"
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || got != string(want) {
				t.Errorf("%v\n%s", err, got)
			}
			n.end()
			if got := trace(t, o, journey.Query{To: letter.to, Messages: 1}); got != string(want) {
				t.Errorf("after the end:\n%s", got)
			}
		})
	}
}

// trace is what the command of that name prints.
func trace(t *testing.T, o Options, q journey.Query) string {
	t.Helper()
	a, err := OpenAdmin(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var found journey.Found
	if err := a.Call("Trace", q, &found); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	p := journey.Printer{W: &b, Location: time.UTC}
	if err := p.Print(found.Events); err != nil {
		t.Fatal(err)
	}
	return stable(b.String())
}

// TestTraceFollow: what happens comes over the control socket, session lines too,
// for as long as someone listens.
func TestTraceFollow(t *testing.T) {
	n, o := traced(t)
	a, err := OpenAdmin(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Call("TraceNext", None{}, &[]journey.Event{}); err == nil {
		t.Error("something comes before it was asked for")
	}
	if err := a.Call("TraceFollow", journey.Filter{Sessions: true}, &None{}); err != nil {
		t.Fatal(err)
	}
	if err := a.Call("TraceFollow", journey.Filter{}, &None{}); err == nil {
		t.Error("a connection follows twice")
	}
	c := dial(t, n.Addr("pop3"), "+OK")
	c.say("USER bob@hamburger.edu", "+OK")
	c.say("PASS hungry", "+OK")
	c.say("QUIT", "+OK")
	seen := ""
	for !strings.Contains(seen, "session of POP3 ends") {
		var events []journey.Event
		if err := a.Call("TraceNext", None{}, &events); err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			line, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			seen += string(line) + "\n"
		}
	}
	if !strings.Contains(seen, "PASS ***") || strings.Contains(seen, "hungry") {
		t.Error(seen)
	}
	a.Close()
	for deadline := time.Now().Add(10 * time.Second); n.Journey().Wants(journey.POP3Reply); {
		if time.Now().After(deadline) {
			t.Fatal("sessions are recorded although nobody listens")
		}
	}
}

// TestTraceOff: without a retention nothing is kept, and the command says why.
func TestTraceOff(t *testing.T) {
	o := options(t)
	o.JourneyRetention = 0
	start(t, o)
	a, err := OpenAdmin(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Call("Trace", journey.Query{Message: "x"}, &journey.Found{}); err == nil || !strings.Contains(err.Error(), "journey.retention") {
		t.Error(err)
	}
	if _, err := os.Stat(o.DataDir + "/journey"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
