package pop3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-sasl"

	"postrider/internal/directory"
	"postrider/internal/journey"
	"postrider/internal/wire"
	"postrider/internal/wire/wiretest"
	"postrider/mailstore"
)

// fakeDrops are maildrops in memory that can be made to fail.
type fakeDrops struct {
	mu     sync.Mutex
	boxes  map[string][]fakeMessage
	next   mailstore.UID
	fail   map[string]error // by method
	short  bool             // messages fail after their first octet
	opened int              // messages opened
}

type fakeMessage struct {
	uid  mailstore.UID
	text string
}

func (f *fakeDrops) add(user, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	f.boxes[user] = append(f.boxes[user], fakeMessage{f.next, text})
}

func (f *fakeDrops) uids(user string) (uids []mailstore.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.boxes[user] {
		uids = append(uids, m.uid)
	}
	return uids
}

func (f *fakeDrops) open(_ context.Context, a mailstore.Account) (*maildrop, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail["open"]; err != nil {
		return nil, err
	}
	d := &maildrop{account: a, validity: 4294967295}
	for _, m := range f.boxes[a.Address] {
		size := int64(len(m.text))
		if size > 0 && !strings.HasSuffix(m.text, "\r\n") {
			size += 2
		}
		d.uids = append(d.uids, m.uid)
		d.sizes = append(d.sizes, size)
		d.octets += size
	}
	d.count = len(d.uids)
	return d, nil
}

type fakeContent struct {
	*strings.Reader
	short bool
}

func (c fakeContent) ReadAt(p []byte, off int64) (int, error) {
	if c.short && off > 0 {
		return 0, errors.New("checksum differs")
	}
	return c.Reader.ReadAt(p, off)
}

func (fakeContent) Close() error { return nil }

func (f *fakeDrops) message(_ context.Context, d *maildrop, uid mailstore.UID) (mailstore.Content, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail["message"]; err != nil {
		return nil, err
	}
	f.opened++
	for _, m := range f.boxes[d.account.Address] {
		if m.uid == uid {
			return fakeContent{strings.NewReader(m.text), f.short}, nil
		}
	}
	return nil, fmt.Errorf("message %d: %w", uid, mailstore.ErrNotFound)
}

func (f *fakeDrops) describe(_ context.Context, d *maildrop, uid mailstore.UID) (mailstore.Message, error) {
	return mailstore.Message{UID: uid, Body: mailstore.BodyID(uid), Saved: time.Now()}, nil
}

func (f *fakeDrops) settle(ctx context.Context, d *maildrop, deleted, _ []mailstore.UID) (int, error) {
	return 0, f.remove(ctx, d, deleted)
}

func (f *fakeDrops) remove(ctx context.Context, d *maildrop, uids []mailstore.UID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := errors.Join(ctx.Err(), f.fail["remove"]); err != nil {
		return err
	}
	f.boxes[d.account.Address] = slices.DeleteFunc(f.boxes[d.account.Address], func(m fakeMessage) bool {
		return slices.Contains(uids, m.uid)
	})
	return nil
}

// fakeDirectory knows bob, whose password is "hungry", and carol, "a b ".
type fakeDirectory struct {
	plaintext bool
	err       error // of every login
}

func (f *fakeDirectory) PlaintextAllowed(p directory.Peer) bool { return f.plaintext || p.TLS != nil }

func (f *fakeDirectory) Mechanisms(p directory.Peer) []string {
	if f.PlaintextAllowed(p) {
		return []string{"PLAIN", "LOGIN", "FINAL"}
	}
	return []string{"FINAL"}
}

func (f *fakeDirectory) Login(_ context.Context, p directory.Peer, name, password string) (mailstore.Account, error) {
	ids := map[string]mailstore.AccountID{"bob/hungry": 2, "carol/a b ": 3, "bob two/hungry": 4}
	id := ids[name+"/"+password]
	switch {
	case f.err != nil:
		return mailstore.Account{}, f.err
	case !f.PlaintextAllowed(p):
		return mailstore.Account{}, directory.ErrPlaintext
	case id == 0:
		return mailstore.Account{}, directory.ErrCredentials
	}
	return mailstore.Account{ID: id, Address: name}, nil
}

func (f *fakeDirectory) SASL(ctx context.Context, p directory.Peer, mech string) (sasl.Server, func() mailstore.Account, error) {
	if !slices.Contains(f.Mechanisms(p), mech) {
		return nil, nil, directory.ErrMechanism
	}
	var account mailstore.Account
	login := func(name, password string) (err error) {
		account, err = f.Login(ctx, p, name, password)
		return err
	}
	get := func() mailstore.Account { return account }
	switch mech {
	case "PLAIN":
		return sasl.NewPlainServer(func(_, name, password string) error { return login(name, password) }), get, nil
	case "LOGIN":
		return &loginServer{login: login}, get, nil
	}
	return &finalServer{login: login}, get, nil
}

// loginServer is the server's side of LOGIN.
type loginServer struct {
	login func(name, password string) error
	name  string
}

func (l *loginServer) Next(response []byte) ([]byte, bool, error) {
	switch {
	case response == nil:
		return []byte("Username:"), false, nil
	case l.name == "":
		l.name = string(response)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.login(l.name, string(response))
}

// finalServer takes "name password" and speaks last, as SCRAM does.
type finalServer struct {
	login func(name, password string) error
}

func (s *finalServer) Next(response []byte) ([]byte, bool, error) {
	if response == nil {
		return nil, false, nil
	}
	name, password, _ := strings.Cut(string(response), " ")
	return []byte("v=proof"), true, s.login(name, password)
}

// fixture is one server on a listener in memory.
type fixture struct {
	drops    *fakeDrops
	dir      *fakeDirectory
	pop3     *Server
	server   *wire.Server
	listener *wiretest.Listener
	crowded  atomic.Bool

	clientTLS *tls.Config
}

// letter has exactly size octets.
func letter(n, size int) string {
	s := fmt.Sprintf("From: alice@crepes.fr\r\nTo: bob@hamburger.edu\r\nSubject: letter %d\r\n\r\n", n)
	for len(s) < size-80 {
		s += "Do you like ketchup? How about pickles? And a line of text more.\r\n"
	}
	return s + strings.Repeat("x", size-len(s)-2) + "\r\n"
}

// newFixture starts a server whose maildrop of bob has the two letters of the
// textbook, and of carol messages with difficult ends and dots.
func newFixture(t testing.TB, implicitTLS bool) *fixture {
	f := &fixture{
		drops: &fakeDrops{boxes: map[string][]fakeMessage{}, fail: map[string]error{}},
		dir:   &fakeDirectory{plaintext: true},
	}
	f.drops.add("bob", letter(1, 498))
	f.drops.add("bob", letter(2, 912))
	for _, text := range []string{
		".\r\n..\r\n.a\r\nb.\r\n\r\n.\r\nend\r\n",
		"Subject: no end\r\n\r\nlast line",
		"Subject: LF\n\nline\n.\n.\r\nlast\n",
		"",
		"Subject: no body\r\n",
		"Subject: empty body\r\n\r\n",
	} {
		f.drops.add("carol", text)
	}
	serverTLS, clientTLS := wiretest.TLS(t, "hamburger.edu")
	f.clientTLS = clientTLS
	events := journey.New(journey.Options{Memory: 50_000})
	listener := events.Follow(journey.Filter{Sessions: true})
	t.Cleanup(func() {
		listener.Close()
		checkJourney(t, events.Recent(journey.Filter{Sessions: true}))
	})
	f.pop3 = New(Options{Hostname: "hamburger.edu", TLS: serverTLS, Directory: f.dir, Crowded: f.crowded.Load, Journey: events})
	f.pop3.drops = f.drops
	f.server = wire.NewServer(wire.ServerOptions{})
	f.listener = wiretest.ListenAddr(netip.MustParseAddrPort("127.0.0.1:110"))
	f.server.Serve(f.listener, f.pop3.Protocol("pop3", implicitTLS))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := f.server.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if n := f.server.Panics(); n != 0 {
			t.Errorf("%d handlers panicked", n)
		}
		if len(f.pop3.held) != 0 {
			t.Errorf("maildrops still locked: %v", f.pop3.held)
		}
	})
	return f
}

// checkJourney: neither a password nor text of a message is in the journey, whatever
// the dialogue was; a dialogue is.
func checkJourney(t testing.TB, events []journey.Event) {
	begun, replies := 0, 0
	for _, e := range events {
		switch e.Kind {
		case journey.SessionBegin:
			begun++
		case journey.POP3Reply:
			replies++
		}
		all := fmt.Sprintf("%q %q %q", e.Text, e.Attrs, e.Wire)
		for _, secret := range []string{"hungry", "a b ", "aHVuZ3J5", "AGJvYgBodW5ncnk=", "ketchup", "Subject", "last line"} {
			if strings.Contains(all, secret) {
				t.Errorf("the journey has %q: %s", secret, all)
			}
		}
		if e.Text == "" || e.Peer == "" {
			t.Errorf("an event lacks text or peer: %+v", e)
		}
	}
	if begun > 0 && replies == 0 {
		t.Error("the journey has no reply")
	}
}

// TestJourney: the first time that a client fetches a message is told, the second
// is not.
func TestJourney(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, false)
		events := journey.New(journey.Options{Memory: 100})
		f.pop3.journey = events
		for range 2 {
			conn, err := f.listener.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, "USER bob\r\nPASS hungry\r\nRETR 2\r\nRETR 2\r\nTOP 1 0\r\nQUIT\r\n"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
		got := events.Recent(journey.Filter{Sessions: true})
		if len(got) != 1 || got[0].Kind != journey.MailboxFetched || got[0].Get("content") != "M2" || got[0].Text != "first fetched by POP3 from 127.0.0.1 from INBOX of bob" {
			t.Errorf("%+v", got)
		}
	})
}

// do runs the lines of transcripts that are about the server's surroundings.
func (f *fixture) do(line string) error {
	fields := strings.Fields(line)
	switch fields[0] {
	case "plaintext": // plaintext off
		f.dir.plaintext = fields[1] == "on"
	case "login": // login fails busy
		f.dir.err = map[string]error{
			"busy": directory.ErrBusy, "slow": directory.ErrTooManyLogins, "broken": errors.New("disk is gone"),
		}[fields[2]]
	case "store": // store fails remove; store works
		clear(f.drops.fail)
		if fields[1] == "fails" {
			f.drops.fail[fields[2]] = errors.New("disk is gone")
		}
	case "no-inbox":
		f.drops.fail["open"] = mailstore.ErrNotFound
	case "letter": // letter bob "Subject: a\r\n\r\nb\r\n"
		text, err := strconv.Unquote(strings.TrimPrefix(line, "letter "+fields[1]+" "))
		if err != nil {
			return err
		}
		f.drops.add(fields[1], text)
	case "login-delay": // login-delay 60s
		delay, err := time.ParseDuration(fields[1])
		if err != nil {
			return err
		}
		f.pop3.policy.LoginDelay = delay
	case "expire": // expire 30
		days, err := strconv.Atoi(fields[1])
		if err != nil {
			return err
		}
		f.pop3.policy.Expires, f.pop3.policy.ExpireDays = true, days
	case "send-utf8":
		f.pop3.policy.SendUTF8 = true
	case "crowded":
		f.crowded.Store(true)
	case "expunge": // expunge bob 2: another program does
		uid, err := strconv.Atoi(fields[2])
		if err != nil {
			return err
		}
		return f.drops.remove(context.Background(), &maildrop{account: mailstore.Account{Address: fields[1]}}, []mailstore.UID{mailstore.UID(uid)})
	case "deliver": // deliver bob 100
		size, err := strconv.Atoi(fields[2])
		if err != nil {
			return err
		}
		f.drops.add(fields[1], letter(0, size))
	case "has": // has bob 1 2: the UIDs that are there
		if got := fmt.Sprint(f.drops.uids(fields[1])); got != fmt.Sprint(fields[2:]) {
			return fmt.Errorf("the maildrop has %s", got)
		}
	case "shutdown":
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return f.server.Shutdown(ctx)
	default:
		return fmt.Errorf("unknown line %q", line)
	}
	return nil
}

func TestTranscripts(t *testing.T) {
	wiretest.RunFiles(t, "testdata/*.txt", func(t *testing.T) wiretest.Dialogue {
		f := newFixture(t, false)
		return wiretest.Dialogue{Dial: f.listener.Dial, TLS: f.clientTLS, Do: f.do}
	})
}

// dial connects to a fixture outside a transcript.
func dial(t testing.TB, f *fixture) net.Conn {
	t.Helper()
	c, err := f.listener.Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// speak sends commands in one write and returns all that the server says until
// it is still.
func speak(t testing.TB, c net.Conn, commands string) string {
	t.Helper()
	if _, err := io.WriteString(c, commands); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	if err := c.SetReadDeadline(time.Now().Add(time.Nanosecond)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return string(got)
}

// TestRefusal: what a client reads before an early close is a reply.
func TestRefusal(t *testing.T) {
	p := New(Options{}).Protocol("pop3", false)
	if got, want := p.Refusal("too many connections"), "-ERR [SYS/TEMP] too many connections\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestImplicitTLS: on a TLS port passwords need no STLS, and STLS is refused.
func TestImplicitTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true)
		f.dir.plaintext = false
		c := tls.Client(dial(t, f), f.clientTLS)
		io.WriteString(c, "STLS\r\nUSER bob\r\nPASS hungry\r\nQUIT\r\n")
		got, err := io.ReadAll(c)
		want := "+OK POP3 server ready\r\n-ERR TLS is active already\r\n+OK\r\n" +
			"+OK user successfully logged on, 2 messages (1410 octets)\r\n+OK POP3 server signing off (2 messages left)\r\n"
		if string(got) != want || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// TestRefusedHandshake: a client that speaks something else after STLS is
// disconnected and leaves nothing behind.
func TestRefusedHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, false)
		c := dial(t, f)
		speak(t, c, "STLS\r\n")
		c.SetReadDeadline(time.Time{})
		io.WriteString(c, "USER bob\r\n")
		if _, err := io.ReadAll(c); err != nil {
			t.Error(err)
		}
	})
}

// TestReadError: a message that cannot be read to its end is never shown as
// whole: the connection ends within it.
func TestReadError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, false)
		f.drops.add("bob", strings.Repeat(letter(3, 1000), 100))
		f.drops.short = true
		c := dial(t, f)
		got := speak(t, c, "USER bob\r\nPASS hungry\r\nDELE 1\r\nRETR 3\r\nQUIT\r\n")
		if strings.Contains(got, "\r\n.\r\n") || !strings.Contains(got, "+OK 100000 octets\r\n") {
			t.Errorf("the reply ends %q", got[max(0, len(got)-50):])
		}
		if n := len(f.drops.uids("bob")); n != 3 {
			t.Errorf("%d messages are left", n)
		}
	})
}

// TestStalledReader: who does not read what he asked for is disconnected after
// sendTimeout, and his maildrop is free again.
func TestStalledReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, false)
		f.drops.add("bob", strings.Repeat(letter(3, 1000), 1000))
		c := dial(t, f)
		io.WriteString(c, "USER bob\r\nPASS hungry\r\nRETR 3\r\n")
		<-time.After(sendTimeout - time.Second)
		if f.pop3.lock(2) {
			t.Fatal("the session ended early")
		}
		<-time.After(2 * time.Second)
		synctest.Wait()
		if !f.pop3.lock(2) {
			t.Error("the maildrop is still locked")
		}
		f.pop3.unlock(2)
	})
}

// TestRepliesAreBatched: the replies to a batch leave in one write, and those of
// a long listing in writes of bufferSize.
func TestRepliesAreBatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := wiretest.Pipe()
		f := newFixture(t, false)
		counted := &countingConn{Conn: server}
		done := make(chan struct{})
		go func() {
			f.pop3.serve(context.Background(), &wire.Conn{Conn: counted}, make(chan struct{}))
			server.Close()
			close(done)
		}()
		io.WriteString(client, "USER bob\r\nPASS hungry\r\nSTAT\r\nLIST\r\nUIDL\r\nRETR 1\r\nRETR 2\r\nDELE 1\r\nDELE 2\r\nQUIT\r\n")
		io.Copy(io.Discard, client)
		<-done
		if counted.writes > 2 { // the greeting, and the rest
			t.Errorf("%d writes", counted.writes)
		}
	})
}

type countingConn struct {
	net.Conn
	writes int
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes++
	return c.Conn.Write(p)
}

// TestLargeMaildrop: 100,000 messages are listed, and no message is opened.
func TestLargeMaildrop(t *testing.T) {
	const n = 100_000
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, false)
		text := letter(1, 2000)
		for range n {
			f.drops.add("bob two", text)
		}
		c := dial(t, f)
		go io.WriteString(c, "USER bob two\r\nPASS hungry\r\nLIST\r\nUIDL\r\nQUIT\r\n")
		got, err := io.ReadAll(c)
		if err != nil || strings.Count(string(got), "\r\n") != 2*n+8 {
			t.Errorf("%d lines, %v", strings.Count(string(got), "\r\n"), err)
		}
		if !strings.Contains(string(got), fmt.Sprintf("logged on, %d messages (%d octets)\r\n", n, n*2000)) {
			t.Errorf("got %.200q", got)
		}
		if f.drops.opened != 0 {
			t.Errorf("%d messages were opened", f.drops.opened)
		}
	})
}

// TestTopSplit: TOP sends the same however a message is cut into chunks.
func TestTopSplit(t *testing.T) {
	text := ".dot: a\r\nb: c\r\n\r\n.\r\nsecond\nthird\r\r\n\r\n.fourth"
	want := map[int64]string{
		0: ".dot: a\r\nb: c\r\n\r\n", 1: ".dot: a\r\nb: c\r\n\r\n.\r\n", 2: ".dot: a\r\nb: c\r\n\r\n.\r\nsecond\n",
		3: ".dot: a\r\nb: c\r\n\r\n.\r\nsecond\nthird\r\r\n", 9: text,
	}
	for n, want := range want {
		for size := 1; size <= len(text); size++ {
			var got strings.Builder
			w := &top{to: &got, lines: n}
			for rest := text; rest != ""; {
				piece := rest[:min(size, len(rest))]
				rest = rest[len(piece):]
				if _, err := io.WriteString(w, piece); err != nil {
					break
				}
			}
			if got.String() != want {
				t.Fatalf("TOP %d in pieces of %d: %q", n, size, got.String())
			}
		}
	}
}
