package node

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postrider/internal/clock"
	"postrider/internal/wire"
	"postrider/mailstore/sqlite"
)

// options are those of a node on a directory of the test, on any free ports.
func options(t testing.TB) Options {
	o := DefaultOptions()
	o.Hostname, o.DataDir = "hamburger.edu", filepath.Join(t.TempDir(), "data")
	any := []string{"127.0.0.1:0"}
	o.Listen = Listen{SMTP: any, Submission: any, Submissions: any, POP3: any, IMAP: any, IMAPS: any, Metrics: any}
	o.Resolver, o.HostsFile = "127.0.0.1:9", ""
	return o
}

// running is a node in Run.
type running struct {
	*Node
	t      testing.TB
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of Run, when done is closed
}

func build(t testing.TB, o Options) *Node {
	t.Helper()
	ls, err := Bind(o)
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(t.Context(), o, ls)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func start(t testing.TB, o Options) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Node: build(t, o), t: t, cancel: cancel, done: make(chan struct{})}
	ready := make(chan struct{})
	go func() {
		defer close(r.done)
		r.err = r.Run(ctx, func() { close(ready) })
	}()
	t.Cleanup(r.end)
	<-ready
	return r
}

// end stops the node as SIGTERM does.
func (r *running) end() {
	r.t.Helper()
	r.cancel()
	<-r.done
	if r.err != nil {
		r.t.Errorf("Run: %v", r.err)
	}
}

// people makes bob@hamburger.edu, whose password is hungry.
func people(t testing.TB, n *Node) {
	t.Helper()
	if err := n.Directory.AddDomain(t.Context(), "hamburger.edu"); err != nil {
		t.Fatal(err)
	}
	if err := n.Directory.AddAccount(t.Context(), "bob@hamburger.edu", "hungry"); err != nil {
		t.Fatal(err)
	}
}

// talker types lines and checks how the replies begin.
type talker struct {
	t testing.TB
	*textproto.Conn
}

func dial(t testing.TB, addr, greeting string) *talker {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return talk(t, conn, greeting)
}

func talk(t testing.TB, conn net.Conn, greeting string) *talker {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	c := &talker{t, textproto.NewConn(conn)}
	t.Cleanup(func() { c.Close() })
	c.hear(greeting)
	return c
}

// hear reads one reply, all of its lines.
func (c *talker) hear(want string) string {
	c.t.Helper()
	for {
		line, err := c.ReadLine()
		if err != nil {
			c.t.Fatalf("%v, want %q", err, want)
		}
		if len(line) > 3 && line[3] == '-' && line[0] >= '0' && line[0] <= '9' {
			continue
		}
		if !strings.HasPrefix(line, want) {
			c.t.Errorf("got %q, want %q", line, want)
		}
		return line
	}
}

// say types a line; want "" expects no reply.
func (c *talker) say(line, want string) string {
	c.t.Helper()
	if err := c.PrintfLine("%s", line); err != nil {
		c.t.Fatal(err)
	}
	if want == "" {
		return ""
	}
	return c.hear(want)
}

// letter sends one message whose greeting and EHLO are done.
func (c *talker) letter(to, final string) {
	c.t.Helper()
	c.say("MAIL FROM:<alice@crepes.fr>", "250")
	c.say("RCPT TO:<"+to+">", "250")
	c.say("DATA", "354")
	c.say("Subject: hello", "")
	c.say("", "")
	c.say("Do you like ketchup?", "")
	c.say(".", final)
}

// messages is how many there are in all mailboxes, by whatever serves the data
// directory.
func messages(t testing.TB, o Options) int64 {
	t.Helper()
	a, err := OpenAdmin(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var users []User
	if err := a.Call("UserList", None{}, &users); err != nil {
		t.Fatal(err)
	}
	var n int64
	for _, u := range users {
		n += u.Messages
	}
	return n
}

func TestStartAndStop(t *testing.T) {
	o := options(t)
	r := start(t, o)
	people(t, r.Node)
	if got := r.Listening(); len(got) != 7 || got[0].Service != "smtp" || got[6].Service != "metrics" {
		t.Errorf("Listening: %v", got)
	}
	for _, name := range []string{controlSocket, submitSocket} {
		if fi, err := os.Stat(filepath.Join(o.DataDir, name)); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
	}
	smtp := dial(t, r.Addr("smtp"), "220 hamburger.edu")
	dial(t, r.Addr("pop3"), "+OK")
	dial(t, r.Addr("imap"), "* OK")
	dial(t, r.Addr("submission"), "220 ")
	tlsConn, err := tls.Dial("tcp", r.Addr("imaps"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	talk(t, tlsConn, "* OK")
	addrs := r.Listening()

	r.cancel()
	smtp.hear("421 4.3.2")
	r.end()
	for _, l := range addrs {
		if c, err := net.Dial("tcp", l.Addr); err == nil {
			c.Close()
			t.Errorf("%s still listens on %s", l.Service, l.Addr)
		}
	}
	for _, name := range []string{controlSocket, submitSocket} {
		if _, err := os.Lstat(filepath.Join(o.DataDir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close after Run: %v", err)
	}
	if err := r.Run(t.Context(), nil); err == nil {
		t.Error("a second Run did not fail")
	}
	if err := build(t, o).Close(); err != nil { // as good as new
		t.Error(err)
	}
}

// A message that is being sent when the end comes is taken; nothing new is.
func TestStopFinishesWhatIsInHand(t *testing.T) {
	o := options(t)
	r := start(t, o)
	people(t, r.Node)
	c := dial(t, r.Addr("smtp"), "220")
	c.say("EHLO crepes.fr", "250")
	c.say("MAIL FROM:<alice@crepes.fr>", "250")
	c.say("RCPT TO:<bob@hamburger.edu>", "250")
	c.say("DATA", "354")
	c.say("Subject: hello", "")
	idle := dial(t, r.Addr("smtp"), "220")
	r.cancel()
	idle.hear("421")
	c.say("", "")
	c.say("Do you like ketchup?", "")
	c.say(".", "250")
	c.hear("421")
	r.end()
	if n := messages(t, o); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// Close may come at any time, from anyone, and Reload before Run.
func TestCloseRaces(t *testing.T) {
	o := options(t)
	n := build(t, o)
	if err := errors.Join(n.Reload(o), n.Close(), n.Close()); err != nil {
		t.Error(err)
	}
	if err := n.Run(t.Context(), nil); err == nil {
		t.Error("Run after Close did not fail")
	}
	r := start(t, o)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := r.Reload(o); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	<-r.done
	// Whoever still holds the node meets errors, never a panic.
	a := &Admin{n: r.Node, base: context.Background()}
	var users []User
	if err := a.UserList(None{}, &users); err == nil {
		t.Error("UserList after Close did not fail")
	}
	if got := r.metrics.queueLength(); got != -1 {
		t.Errorf("queue length after Close: %v", got)
	}
}

// setVersion writes the version of the schema into a database that is closed.
func setVersion(t *testing.T, o Options, v uint32) (was uint32) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(o.DataDir, "postrider.db"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [4]byte
	const userVersion = 60 // in the header of a SQLite database
	if _, err := f.ReadAt(b[:], userVersion); err != nil {
		t.Fatal(err)
	}
	was = binary.BigEndian.Uint32(b[:])
	binary.BigEndian.PutUint32(b[:], v)
	if _, err := f.WriteAt(b[:], userVersion); err != nil {
		t.Fatal(err)
	}
	return was
}

// Each failure to start is one line, leaves no listener open and nothing
// damaged.
func TestStartFailures(t *testing.T) {
	o := options(t)
	r := start(t, o)
	people(t, r.Node)
	fails := func(o Options, want ...string) {
		t.Helper()
		ls, err := Bind(o)
		if err == nil {
			_, err = New(t.Context(), o, ls)
			for _, b := range ls.all {
				if c, err := net.Dial("tcp", b.Addr().String()); err == nil {
					c.Close()
					t.Errorf("%s is left open", b.service)
				}
			}
		}
		for _, w := range want {
			if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), w) {
				t.Errorf("got %v, want one line with %q", err, w)
			}
		}
	}
	fails(o, "in use by process "+fmt.Sprint(os.Getpid()), o.DataDir)
	taken := options(t)
	taken.Listen.IMAPS = []string{r.Addr("smtp")}
	fails(taken, "listen.imaps", r.Addr("smtp"), "another process does")
	if _, err := os.Lstat(taken.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a data directory was made before the ports were bound: %v", err)
	}
	noKey := options(t)
	noKey.TLSCert, noKey.TLSKey = "/nowhere/cert.pem", "/nowhere/key.pem"
	fails(noKey, "TLS certificate", "/nowhere/cert.pem")
	r.end()

	was := setVersion(t, o, 1000)
	fails(o, "newer version")
	if got := setVersion(t, o, was); got != 1000 {
		t.Errorf("the version was changed to %d", got)
	}
	if n := messages(t, o); n != 0 { // it still opens
		t.Errorf("%d messages", n)
	}
}

func TestBind(t *testing.T) {
	fail := func(want string, addrs ...string) {
		t.Helper()
		ls, err := Bind(Options{Listen: Listen{SMTP: addrs}, PortOffset: 10000})
		if err == nil {
			ls.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", addrs, err, want)
		}
	}
	fail("there is no port 65537", "127.0.0.1:55537")
	fail("there is no port -5", "127.0.0.1:-10005")
	fail("the port is not a number", "127.0.0.1:smtp")
	fail("missing port", "127.0.0.1")
	o := Options{Listen: Listen{SMTP: []string{"127.0.0.1:0", "localhost:0"}}, PortOffset: 10000}
	ls, err := Bind(o)
	if err != nil {
		t.Fatal(err) // an offset moves no port that is free to choose
	}
	_, port, _ := net.SplitHostPort(ls.Addr("smtp"))
	ls.Close()
	ls.Close()
	o = Options{Listen: Listen{SMTP: []string{"127.0.0.1:" + port}, LMTP: []string{"127.0.0.1:" + port}}}
	if _, err := Bind(o); err == nil || !strings.Contains(err.Error(), "[listen] has the port already") {
		t.Errorf("twice the same: %v", err)
	}
	for _, tt := range []struct {
		host string
		four bool
		want string
	}{
		{"127.0.0.1", true, "tcp4"}, {"0.0.0.0", true, "tcp4"}, {"::", true, "tcp6"}, {"", true, "tcp6"},
		{"::", false, "tcp"}, {"", false, "tcp"}, {"localhost", true, "tcp"}, {"::1", true, "tcp"},
	} {
		if got := network(tt.host, tt.four); got != tt.want {
			t.Errorf("network(%q, %v) = %s, want %s", tt.host, tt.four, got, tt.want)
		}
	}
	if four := fourOnly(&Listen{SMTP: []string{"0.0.0.0:25", "[::]:25"}, POP3: []string{"[::]:110"}}); !four["25"] || four["110"] {
		t.Errorf("fourOnly: %v", four)
	}
}

// The LMTP socket is open to other users' programs, and only what an earlier run
// left is replaced.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lmtp.sock")
	o := options(t)
	o.Listen = Listen{LMTP: []string{path}}
	r := start(t, o)
	people(t, r.Node)
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v", fi, err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c := talk(t, conn, "220")
	c.say("LHLO crepes.fr", "250")
	c.letter("bob@hamburger.edu", "250")
	if _, err := Bind(o); err == nil || !strings.Contains(err.Error(), "another process does") {
		t.Errorf("a live socket: %v", err)
	}
	r.end()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close() // as a killed process leaves it
	ls, err := Bind(o)
	if err != nil {
		t.Fatalf("a dead socket: %v", err)
	}
	ls.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Bind(o); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a file: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file: %q, %v", b, err)
	}
	o.Listen.LMTP = []string{"/" + strings.Repeat("x", 200)}
	if _, err := Bind(o); err == nil || !strings.Contains(err.Error(), "at most 107 octets") {
		t.Errorf("a long path: %v", err)
	}
}

// A data directory whose sockets' paths do not fit sun_path serves the same.
func TestLongDataDir(t *testing.T) {
	o := options(t)
	o.DataDir = filepath.Join(o.DataDir, strings.Repeat("long", 30), "data")
	r := start(t, o)
	people(t, r.Node)
	conn, closeNode, err := OpenSubmission(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer closeNode()
	c := talk(t, conn, "220")
	c.say("EHLO localhost", "250")
	c.letter("bob@hamburger.edu", "250")
	if n := messages(t, o); n != 1 {
		t.Errorf("%d messages", n)
	}
	r.end()
	left, err := os.ReadDir(o.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if strings.HasSuffix(e.Name(), ".sock") {
			t.Errorf("%s is left", e.Name())
		}
	}
}

// Each limit is applied by a reload, and one more than it is refused.
func TestLimits(t *testing.T) {
	o := options(t)
	o.Limits = Limits{}
	r := start(t, o)
	people(t, r.Node)
	set := func(change func(l *Limits)) {
		t.Helper()
		next := o
		change(&next.Limits)
		if err := r.Reload(next); err != nil {
			t.Fatal(err)
		}
	}
	c := dial(t, r.Addr("smtp"), "220")
	c.say("EHLO crepes.fr", "250")

	set(func(l *Limits) { l.MessageSize = 1000 })
	c.say("MAIL FROM:<alice@crepes.fr> SIZE=1001", "552 5.3.4")
	c.say("MAIL FROM:<alice@crepes.fr> SIZE=1000", "250")
	c.say("RSET", "250")
	im := dial(t, r.Addr("imap"), "* OK")
	im.say("a LOGIN bob hungry", "a OK")
	im.say("b APPEND INBOX {1001}", "b NO")
	im.say("c APPEND INBOX {1000}", "+ ")

	set(func(l *Limits) { l.Recipients = 1 })
	c.say("MAIL FROM:<alice@crepes.fr> SIZE=1001", "250")
	c.say("RCPT TO:<bob@hamburger.edu>", "250")
	c.say("RCPT TO:<postmaster@hamburger.edu>", "452 4.5.3")
	c.say("RSET", "250")

	set(func(l *Limits) { l.MessagesPerMinute = 2 })
	c.letter("bob@hamburger.edu", "250")
	c.letter("bob@hamburger.edu", "250")
	c.say("MAIL FROM:<alice@crepes.fr>", "451 4.7.1")

	set(func(l *Limits) { l.ConnectionsPerAddress = 2 }) // c and im
	dial(t, r.Addr("smtp"), "421")
	set(func(l *Limits) { l.Connections = 2 })
	pop := dial(t, r.Addr("pop3"), "+OK")
	c.hear("421") // the oldest without login made room

	set(func(l *Limits) { l.FailedLoginsPerMinute = 1 })
	pop.say("USER bob", "+OK")
	pop.say("PASS wrong", "-ERR")
	pop.say("USER bob", "+OK")
	if said := pop.say("PASS hungry", "-ERR"); !strings.Contains(said, "too many") && !strings.Contains(said, "Too many") {
		t.Errorf("after one failure of one: %q", said)
	}
	set(func(*Limits) {})
	pop = dial(t, r.Addr("pop3"), "+OK")
	pop.say("USER bob", "+OK")
	pop.say("PASS hungry", "+OK")
}

// A certificate is replaced under an open session; a bad pair changes nothing.
func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	put := func(name string) {
		t.Helper()
		from := filepath.Join(dir, name)
		if _, err := wire.LocalCertificates(from, []string{name}, nil); err != nil {
			t.Fatal(err)
		}
		pem, err := os.ReadFile(filepath.Join(from, "server.pem"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{cert, key} {
			if err := os.WriteFile(path, pem, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("one.example")
	o := options(t)
	o.TLSCert, o.TLSKey = cert, key
	r := start(t, o)
	if r.CAFile() != "" {
		t.Errorf("CAFile: %s", r.CAFile())
	}
	connect := func(want string) net.Conn {
		t.Helper()
		c, err := tls.Dial("tcp", r.Addr("submissions"), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.ConnectionState().PeerCertificates[0].VerifyHostname(want); got != nil {
			t.Error(got)
		}
		return c
	}
	open := talk(t, connect("one.example"), "220")
	put("two.example")
	if err := r.Reload(o); err != nil {
		t.Fatal(err)
	}
	connect("two.example").Close()
	if err := os.WriteFile(key, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(o); err == nil {
		t.Error("a bad key was not reported")
	}
	connect("two.example").Close()
	open.say("NOOP", "250")
}

// A command waits for one that holds the data directory, and gives up on one
// that holds it for long.
func TestCommandsWait(t *testing.T) {
	o := options(t)
	first, err := New(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	waits := o
	c := &countingClock{Clock: clock.System(), timers: make(chan time.Duration, 1000)}
	waits.Clock = c
	got := make(chan error, 1)
	go func() {
		a, err := OpenAdmin(context.Background(), waits)
		if err == nil {
			a.Close()
		}
		got <- err
	}()
	for d := range c.timers {
		if d == busyPause {
			break
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	second, err := New(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	waits.Clock = instantClock{clock.System()}
	if _, err := OpenAdmin(t.Context(), waits); !errors.Is(err, sqlite.ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
}

// countingClock tells which timers are made.
type countingClock struct {
	clock.Clock
	timers chan time.Duration
}

func (c *countingClock) NewTimer(d time.Duration) clock.Timer {
	c.timers <- d
	return c.Clock.NewTimer(d)
}

// instantClock has timers that are due at once.
type instantClock struct{ clock.Clock }

func (c instantClock) NewTimer(time.Duration) clock.Timer { return c.Clock.NewTimer(0) }

// fetch reads what a metrics listener says.
func fetch(t testing.TB, addr, path string) (status, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path)
	var b strings.Builder
	if _, err := bufio.NewReader(conn).WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(b.String(), "\r\n\r\n")
	status, _, _ = strings.Cut(head, "\r\n")
	return status, body
}
