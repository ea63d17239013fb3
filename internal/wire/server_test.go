package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"postrider/internal/wire/wiretest"
)

func refusal(reason string) string { return "421 4.3.2 " + reason + "\r\n" }

// serveLines is a small line protocol: it greets, and knows LOGIN, STARTTLS,
// PANIC, WORK (ten seconds of it) and QUIT.
func serveLines(tlsConfig *tls.Config) func(context.Context, *Conn, <-chan struct{}) {
	return func(ctx context.Context, c *Conn, draining <-chan struct{}) {
		fmt.Fprintf(c, "220 %s %s\r\n", c.ID, c.Remote)
		r := NewReader(c)
		for {
			c.Idle(5 * time.Minute)
			line, err := r.ReadLine(512)
			if err != nil {
				select {
				case <-draining:
					io.WriteString(c, "421 shutting down\r\n")
				default:
					io.WriteString(c, "421 too slow\r\n")
				}
				return
			}
			c.Busy(time.Minute)
			switch string(line) {
			case "LOGIN":
				c.SetAuthenticated()
			case "STARTTLS":
				io.WriteString(c, "220 go ahead\r\n")
				if err := c.StartTLS(ctx, tlsConfig); err != nil {
					return
				}
				r.Reset(c)
				continue
			case "PANIC":
				panic("by request")
			case "WORK":
				select {
				case <-time.After(10 * time.Second):
				case <-ctx.Done():
					return
				}
			case "QUIT":
				io.WriteString(c, "221 bye\r\n")
				return
			}
			io.WriteString(c, "250 ok\r\n")
		}
	}
}

type dialogue struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func talk(t *testing.T, c net.Conn, err error) *dialogue {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return &dialogue{t: t, Conn: c, r: bufio.NewReader(c)}
}

func (d *dialogue) send(line string) {
	d.t.Helper()
	if _, err := io.WriteString(d.Conn, line+"\r\n"); err != nil {
		d.t.Errorf("send %s: %v", line, err)
	}
}

// expect reads a line with the given beginning; "" stands for the end.
func (d *dialogue) expect(beginning string) string {
	d.t.Helper()
	line, err := d.r.ReadString('\n')
	switch {
	case beginning == "" && (line != "" || err == nil):
		d.t.Errorf("got %q, %v, want the end", line, err)
	case beginning != "" && (err != nil || !strings.HasPrefix(line, beginning)):
		d.t.Errorf("got %q, %v, want %q", line, err, beginning)
	}
	return line
}

// serve runs a Server on a listener in memory for the length of a bubble.
func serve(t *testing.T, g GateOptions, o ServerOptions, p Protocol) (*Server, *wiretest.Listener) {
	o.Gate = NewGate(g)
	s := NewServer(o)
	l := wiretest.Listen()
	if p.Serve == nil {
		p.Serve = serveLines(nil)
	}
	if p.Refusal == nil {
		p.Refusal = refusal
	}
	s.Serve(l, p)
	t.Cleanup(func() {
		s.Shutdown(context.Background())
		if n := o.Gate.Connections(); n != 0 {
			t.Errorf("%d connections after Shutdown", n)
		}
	})
	return s, l
}

func addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}) }

func TestServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, l := serve(t, GateOptions{}, ServerOptions{}, Protocol{})
		seen := make(map[string]bool)
		for i := range 3 {
			c, err := l.DialFrom(t.Context(), netip.AddrFrom16(addr(i).As16())) // ::ffff:192.0.2.i
			d := talk(t, c, err)
			f := strings.Fields(d.expect("220 "))
			if f[2] != addr(i).String() || seen[f[1]] {
				t.Errorf("id %s, remote %s", f[1], f[2])
			}
			seen[f[1]] = true
			d.send("NOOP\r\nQUIT")
			d.expect("250")
			d.expect("221")
			d.expect("")
		}
	})
}

func TestPanicIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logged := testLog()
		s, l := serve(t, GateOptions{}, ServerOptions{Log: log}, Protocol{})
		c, err := l.Dial(t.Context())
		d := talk(t, c, err)
		d.expect("220")
		d.send("PANIC")
		d.expect("")
		synctest.Wait()
		if s.Panics() != 1 || !strings.Contains(logged.String(), "serveLines") || !strings.Contains(logged.String(), "by request") {
			t.Errorf("%d panics, log: %s", s.Panics(), logged)
		}
		c, err = l.Dial(t.Context())
		talk(t, c, err).expect("220") // others go on
		c.Close()
	})
}

func TestBoundPerAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := serve(t, GateOptions{ConnectionsPerAddress: 2}, ServerOptions{}, Protocol{})
		v6 := func(last string) netip.Addr { return netip.MustParseAddr("2001:db8:0:1" + last) }
		for _, group := range [][3]netip.Addr{
			{addr(1), addr(1), netip.AddrFrom16(addr(1).As16())},
			{v6("::1"), v6(":ffff::2"), v6("::3")},
			{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.1")},
		} {
			var open []*dialogue
			for _, from := range group[:2] {
				c, err := l.DialFrom(t.Context(), from)
				open = append(open, talk(t, c, err))
				open[len(open)-1].expect("220")
			}
			c, err := l.DialFrom(t.Context(), group[2])
			d := talk(t, c, err)
			d.expect("421 4.3.2 too many connections from your address")
			d.expect("")
			open[0].Close()
			synctest.Wait()
			c, err = l.DialFrom(t.Context(), group[2])
			talk(t, c, err).expect("220")
			c.Close()
			open[1].Close()
		}
		c, err := l.DialFrom(t.Context(), netip.MustParseAddr("2001:db8:0:2::1"))
		talk(t, c, err).expect("220")
		c.Close()
		synctest.Wait()
		if n := len(s.gate.perNet); n != 0 {
			t.Errorf("%d addresses are still counted", n)
		}
	})
}

func TestBoundOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var evicted, refused counter
		s, l := serve(t, GateOptions{Connections: 3}, ServerOptions{Metrics: Metrics{Evicted: &evicted, Refused: &refused}}, Protocol{})
		dial := func(n int) *dialogue {
			c, err := l.DialFrom(t.Context(), addr(n))
			return talk(t, c, err)
		}
		login := func(d *dialogue) {
			d.send("LOGIN")
			d.expect("250")
		}
		first, second, third := dial(1), dial(2), dial(3)
		for _, d := range []*dialogue{first, second, third} {
			d.expect("220")
		}
		if !s.gate.Crowded() {
			t.Error("not crowded with every connection in use")
		}
		login(first)
		fourth := dial(4)
		fourth.expect("220")
		second.expect("421 4.3.2 too many connections") // the oldest stranger
		second.expect("")
		login(third)
		login(fourth)
		fifth := dial(5)
		fifth.expect("421 4.3.2 too many connections") // all the others are users
		fifth.expect("")
		first.send("QUIT")
		first.expect("221")
		synctest.Wait()
		sixth := dial(6)
		sixth.expect("220")
		if evicted != 1 || refused != 1 {
			t.Errorf("evicted %d, refused %d", evicted, refused)
		}
		s.gate.SetLimits(GateOptions{Connections: 100})
		if s.gate.Crowded() {
			t.Error("crowded with 3 of 100")
		}
	})
}

// TestLocalSocketsAreNotEvicted: a connection over a UNIX socket comes from
// this machine, by leave of the socket's mode.
func TestLocalSocketsAreNotEvicted(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(ServerOptions{Gate: NewGate(GateOptions{Connections: 1, ConnectionsPerAddress: 1})})
	s.Serve(l, Protocol{Name: "test", Refusal: refusal, Serve: serveLines(nil)})
	c, err := net.Dial("unix", sock)
	first := talk(t, c, err)
	if f := strings.Fields(first.expect("220 ")); f[2] != "invalid" { // netip's name of the zero Addr
		t.Errorf("remote %v", f)
	}
	c, err = net.Dial("unix", sock)
	talk(t, c, err).expect("421 4.3.2 too many connections")
	first.send("QUIT")
	first.expect("221")
	first.expect("")
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(sock); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stays behind: %v", err)
	}
}

// TestEvictionOfTheDeaf: clients that read nothing cannot keep their places,
// and while they are on their way out new ones are refused.
func TestEvictionOfTheDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flood := func(ctx context.Context, c *Conn, _ <-chan struct{}) {
			for {
				if _, err := c.Write(make([]byte, 1000)); err != nil {
					return
				}
			}
		}
		s, l := serve(t, GateOptions{Connections: 100}, ServerOptions{}, Protocol{Serve: flood})
		var got atomic.Int32
		for i := range 100 + maxLeaving + 50 {
			c, err := l.DialFrom(t.Context(), addr(i%200))
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if i >= 100+maxLeaving {
				talk(t, c, nil).expect("421 4.3.2 too many connections")
				got.Add(1)
			}
		}
		if n := s.gate.Connections(); got.Load() != 50 || n != 100+maxLeaving {
			t.Errorf("%d refused, %d open", got.Load(), n)
		}
		time.Sleep(refusalTimeout + time.Millisecond)
		synctest.Wait()
		if n := s.gate.Connections(); n != 100 {
			t.Errorf("%d open after the evicted had their second", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s.Shutdown(ctx)
	})
}

type counter int32

func (c *counter) Inc() { atomic.AddInt32((*int32)(c), 1) }

func TestShutdown(t *testing.T) {
	for _, tt := range []struct {
		grace  time.Duration
		answer string
		takes  time.Duration
		err    error
	}{
		{20 * time.Second, "250", 10*time.Second + lingerLast, nil}, // the client does not close
		{3 * time.Second, "", 3 * time.Second, context.DeadlineExceeded},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, l := serve(t, GateOptions{}, ServerOptions{}, Protocol{})
			c, err := l.Dial(t.Context())
			idle := talk(t, c, err)
			c, err = l.Dial(t.Context())
			busy := talk(t, c, err)
			other := wiretest.Listen()
			server, _ := localTLS(t)
			s.Serve(other, Protocol{TLS: server, Serve: serveLines(nil)})
			c, err = other.Dial(t.Context())
			handshaking := talk(t, c, err)
			idle.expect("220")
			busy.expect("220")
			busy.send("WORK")
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), tt.grace)
			defer cancel()
			start := time.Now()
			result := make(chan error)
			go func() { result <- s.Shutdown(ctx) }()
			idle.expect("421 shutting down")
			idle.expect("")
			handshaking.expect("")
			if time.Since(start) != 0 {
				t.Errorf("those that did nothing waited %v", time.Since(start))
			}
			if _, err := l.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("dial during Shutdown: %v", err)
			}
			busy.expect(tt.answer)
			if err := <-result; !errors.Is(err, tt.err) || time.Since(start) != tt.takes {
				t.Errorf("Shutdown: %v after %v", err, time.Since(start))
			}
			again := wiretest.Listen()
			s.Serve(again, Protocol{})
			if _, err := again.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Serve after Shutdown left its listener open: %v", err)
			}
		})
	}
}

func localTLS(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	c, err := LocalCertificates(filepath.Join(t.TempDir(), "tls"), []string{"mail.example.test"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(c.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return c.Config(), &tls.Config{RootCAs: roots, ServerName: "mail.example.test"}
}

func TestImplicitTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logged := testLog()
		server, client := localTLS(t)
		_, l := serve(t, GateOptions{Connections: 2}, ServerOptions{Log: log}, Protocol{TLS: server})
		silent, err := l.DialFrom(t.Context(), addr(1))
		if err != nil {
			t.Fatal(err)
		}
		// The silent one does not hold up another.
		c, err := l.DialFrom(t.Context(), addr(2))
		d := talk(t, tls.Client(c, client), err)
		d.expect("220")
		start := time.Now()
		talk(t, silent, nil).expect("")
		if took := time.Since(start); took != handshakeTimeout {
			t.Errorf("the silent one had %v", took)
		}
		c, err = l.DialFrom(t.Context(), addr(3))
		plain := talk(t, c, err)
		plain.send("EHLO a.example")
		io.Copy(io.Discard, plain)
		synctest.Wait()
		if !strings.Contains(logged.String(), "does not speak TLS") {
			t.Errorf("log: %s", logged)
		}
		// The refusal of an evicted one goes through its TLS.
		for i := range 2 {
			c, err := l.DialFrom(t.Context(), addr(4+i))
			other := talk(t, tls.Client(c, client), err)
			other.expect("220")
			defer other.Close()
		}
		d.expect("421 4.3.2 too many connections")
		d.expect("")
	})
}

func TestStartTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := localTLS(t)
		_, l := serve(t, GateOptions{}, ServerOptions{}, Protocol{Serve: serveLines(server)})
		c, err := l.Dial(t.Context())
		d := talk(t, c, err)
		d.expect("220")
		d.send("STARTTLS")
		d.expect("220")
		secure := talk(t, tls.Client(c, client), nil)
		secure.send("NOOP")
		secure.expect("250")
		time.Sleep(4 * time.Minute) // no deadline is left of the handshake
		secure.send("QUIT")
		secure.expect("221")
		secure.expect("")

		c, err = l.Dial(t.Context())
		d = talk(t, c, err)
		d.expect("220")
		d.send("STARTTLS")
		d.expect("220")
		start := time.Now()
		d.expect("") // we never begin
		if took := time.Since(start); took != handshakeTimeout {
			t.Errorf("a handshake that does not begin had %v", took)
		}
	})
}

// TestConnByHand: protocols are tested without a Server.
func TestConnByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := localTLS(t)
		near, far := wiretest.Pipe()
		go func() {
			defer far.Close()
			serveLines(server)(t.Context(), &Conn{Conn: far}, nil)
		}()
		d := talk(t, near, nil)
		d.expect("220")
		d.send("LOGIN\r\nSTARTTLS")
		d.expect("250")
		d.expect("220")
		secure := talk(t, tls.Client(near, client), nil)
		secure.send("QUIT")
		secure.expect("221")
	})
}

// TestAcceptBacksOff: an accept that keeps failing is tried about once a
// second, with one log line a minute, and connections that wait are refused.
func TestAcceptBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logged := testLog()
		s, l := serve(t, GateOptions{}, ServerOptions{Log: log}, Protocol{})
		var fail [1000]error
		for i := range fail {
			fail[i] = syscall.ENFILE
		}
		l.Fail(fail[:]...)
		synctest.Wait()
		time.Sleep(3 * time.Minute)
		left := l.Failures()
		// Each turn uses up two: one that reports, one in refuseWaiting.
		if turns := (len(fail) - left) / 2; turns > 200 || turns < 100 {
			t.Errorf("%d turns in three minutes", turns)
		}
		if n := strings.Count(logged.String(), "cannot accept"); n < 3 || n > 4 {
			t.Errorf("%d log lines in three minutes", n)
		}
		if !s.gate.Crowded() {
			t.Error("not crowded without file descriptors")
		}
		time.Sleep(20 * time.Minute)
		c, err := l.Dial(t.Context())
		talk(t, c, err).expect("220")
		c.Close()
		if s.gate.Crowded() {
			t.Error("still crowded")
		}
	})
}

// TestOutOfDescriptors runs the process out of file descriptors for real.
func TestOutOfDescriptors(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(ServerOptions{})
	s.Serve(l, Protocol{Name: "test", Refusal: refusal, Serve: serveLines(nil)})
	defer s.Shutdown(context.Background())

	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)
	var waiting []net.Conn // the server has one descriptor for each of them
	for range 5 {
		c, err := net.Dial("unix", sock)
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, c)
		talk(t, c, nil).expect("220")
	}
	fd, err := syscall.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.Close(fd)
	// One more descriptor for this side's socket, none for the server's.
	low := syscall.Rlimit{Cur: uint64(fd) + 1, Max: before.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", sock)
	d := talk(t, c, err)
	d.expect("421 4.3.2 out of resources")
	d.expect("")
	d.Close()
	if !s.gate.Crowded() {
		t.Error("not crowded")
	}
	for _, c := range waiting[1:] { // those that are in work go on
		d := talk(t, c, nil)
		d.send("NOOP")
		d.expect("250")
	}
	waiting[0].Close()
	waiting[1].Close()
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)
	for answer := "421"; !strings.HasPrefix(answer, "220"); { // a turn of refusals may still last
		c, err := net.Dial("unix", sock)
		answer, _ = talk(t, c, err).r.ReadString('\n')
		c.Close()
	}
	for _, c := range waiting[2:] {
		c.Close()
	}
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1":            "192.0.2.1/32",
		"::ffff:192.0.2.1":     "192.0.2.1/32",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"fe80::1%eth0":         "fe80::/64",
		"::1":                  "::/64",
	} {
		if got := Network(netip.MustParseAddr(in)); got.String() != want {
			t.Errorf("Network(%s) = %s, want %s", in, got, want)
		}
	}
	if Network(netip.Addr{}).IsValid() {
		t.Error("a UNIX socket has a network")
	}
}

// The last reply arrives although the client has sent what nobody reads.
func TestLastReplyArrives(t *testing.T) {
	s := NewServer(ServerOptions{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(l, Protocol{Name: "test", Serve: func(_ context.Context, c *Conn, _ <-chan struct{}) {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			_, _ = c.Write([]byte("bye\r\n"))
		}
	}})
	defer s.Shutdown(context.Background())
	for range 50 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if string(got) != "bye\r\n" || err != nil {
			t.Fatalf("read %q, %v", got, err)
		}
		c.Close()
	}
}
