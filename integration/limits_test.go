package integration

import (
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// unlimited takes away what would refuse a flood before the test's subject does.
const unlimited = "[limits]\nconnections = %d\nconnections_per_address = 0\nmessages_per_minute = 0\nfailed_logins_per_minute = 0\n"

// processorTime is what the server has used of the processors.
func (s *server) processorTime() time.Duration {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid()))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime, in 1/100 s
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// memory is the server's proportional set size in octets.
func (s *server) memory() int64 {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.pid()))
	if err != nil {
		s.t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^Pss: +(\d+) kB`).FindSubmatch(text)
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n << 10
}

// TestDescriptorsR9: a server that has run out of file descriptors does not
// spin, loses nothing that it acknowledges, and is back when there are some.
func TestDescriptorsR9(t *testing.T) {
	s := prepare(t, options{plain: true, config: fmt.Sprintf(unlimited, 0), expected: "too many open files",
		wrap: []string{"sh", "-c", `ulimit -n 80; exec "$0" "$@"`}})
	s.init()
	s.start()
	conn, err := smtp(s.addr["smtp"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	var crowd []net.Conn
	for range 150 {
		c, err := net.DialTimeout("tcp", s.addr["smtp"], patience)
		if err != nil {
			t.Fatal(err) // the kernel accepts for the server
		}
		defer c.Close()
		crowd = append(crowd, c)
	}
	acked := map[string]bool{}
	send := func(subject, body string) {
		t.Helper()
		reply, err := conn.mail("alice@crepes.fr", []string{"bob@" + hostname}, letter("alice@crepes.fr", "bob@"+hostname, subject, body))
		switch {
		case err == nil:
			acked[subject] = true
		case strings.HasPrefix(reply, "4"):
			if _, err := conn.ask("RSET", "250"); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("%s: %v", subject, err)
		}
	}
	before, begin := s.processorTime(), time.Now()
	for i := range 20 {
		send(fmt.Sprintf("small %d", i), "one of many")
	}
	for i := range 5 { // these need a file each
		send(fmt.Sprintf("large %d", i), strings.Repeat("one of a few large ones\r\n", 8000))
	}
	<-time.After(3*time.Second - time.Since(begin))
	if used := s.processorTime() - before; used > time.Second {
		t.Errorf("without descriptors it used %v of the processor in 3 s", used)
	}
	for _, c := range crowd {
		c.Close()
	}
	eventually(t, func() error {
		c, err := smtp(s.addr["smtp"])
		if err != nil {
			return err
		}
		return c.Close()
	})
	send("afterwards", strings.Repeat("there is room again\r\n", 8000))
	if !acked["afterwards"] {
		t.Error("it does not accept a large letter after that")
	}
	if len(acked) < 2 {
		t.Errorf("only %d letters were accepted", len(acked))
	}
	text := strings.Join(s.inbox("bob"), "")
	for subject := range acked {
		if strings.Count(text, "\r\nSubject: "+subject+"\r\n") != 1 {
			t.Errorf("LOST: %q was acknowledged", subject)
		}
	}
}

// slowClients opens n connections, spread over services, that never get to a
// login: they have sent half a line.
func slowClients(t *testing.T, s *server, n int, secure bool, services ...string) (conns []net.Conn) {
	t.Helper()
	for i := range n {
		c, err := dial(s.addr[services[i%len(services)]])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if secure {
			if err := c.startTLS(s); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.line(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "NO"); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c.Conn)
	}
	return conns
}

// TestSlowClientsS4: 2,000 slow clients take little memory each, and a real one
// is served meanwhile.
func TestSlowClientsS4(t *testing.T) {
	const slow = 2000
	for _, kind := range []struct {
		name     string
		secure   bool
		services []string
		most     int64 // octets for each connection
	}{
		{"plain", false, []string{"smtp", "pop3", "submission"}, 32 << 10},
		{"TLS", true, []string{"submissions", "pop3s"}, 64 << 10},
	} {
		t.Run(kind.name, func(t *testing.T) {
			s := newServer(t, options{plain: true, config: fmt.Sprintf(unlimited, 10000)})
			before := s.memory()
			conns := slowClients(t, s, slow, kind.secure, kind.services...)
			if per := (s.memory() - before) / slow; per > kind.most {
				t.Errorf("%d octets for each connection, %d are the bound", per, kind.most)
			} else {
				t.Logf("%d octets for each connection", per)
			}
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() { drip(conns, stop) })
			p99 := serveTimes(t, s, 200)
			close(stop)
			wg.Wait()
			t.Logf("p99 of a transaction: %v", p99)
			if p99 > time.Second {
				t.Errorf("a real client waits %v", p99)
			}
		})
	}
}

// drip sends an octet to one connection after the other.
func drip(conns []net.Conn, stop <-chan struct{}) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-tick.C:
			c := conns[i%len(conns)]
			c.SetWriteDeadline(time.Now().Add(time.Second))
			io.WriteString(c, "O")
		}
	}
}

// serveTimes does n whole SMTP transactions, each on a connection of its own,
// and returns how long all but one of a hundred took at most.
func serveTimes(t *testing.T, s *server, n int) time.Duration {
	t.Helper()
	var took []time.Duration
	for i := range n {
		begin := time.Now()
		c, err := smtp(s.addr["smtp"])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.mail("alice@crepes.fr", []string{"bob@" + hostname}, letter("a@crepes.fr", "b@"+hostname, fmt.Sprint(i), "x")); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begin))
		c.Close()
	}
	slices.Sort(took)
	return took[n*99/100-1]
}

// guess is one way to try a name and password; it returns all that the server
// says.
var guesses = []struct {
	name, service string
	try           func(c *talk, user, password string) (string, error)
}{
	{"POP3 PASS", "pop3", func(c *talk, user, password string) (string, error) {
		var said []string
		for _, command := range []string{"", "USER " + user, "PASS " + password} {
			if command != "" {
				if err := c.say(command); err != nil {
					return "", err
				}
			}
			line, err := c.line()
			if err != nil {
				return "", err
			}
			said = append(said, line)
		}
		return strings.Join(said, "\n"), nil
	}},
	{"POP3 AUTH", "pop3", func(c *talk, user, password string) (string, error) {
		return c.twoLines("AUTH PLAIN " + authPlain(user, password))
	}},
	{"SMTP AUTH PLAIN", "submission", func(c *talk, user, password string) (string, error) {
		if _, err := c.want("220"); err != nil {
			return "", err
		}
		if _, err := c.ask("EHLO x", "250"); err != nil {
			return "", err
		}
		return c.ask("AUTH PLAIN "+authPlain(user, password), "")
	}},
	{"IMAP LOGIN", "imap", func(c *talk, user, password string) (string, error) {
		return c.twoLines("t1 LOGIN " + user + " " + password)
	}},
	{"IMAP AUTHENTICATE", "imap", func(c *talk, user, password string) (string, error) {
		return c.twoLines("t1 AUTHENTICATE PLAIN " + authPlain(user, password))
	}},
}

// twoLines reads the greeting and the answer to one command.
func (c *talk) twoLines(command string) (string, error) {
	greeting, err := c.line()
	if err != nil {
		return "", err
	}
	if err := c.say(command); err != nil {
		return "", err
	}
	answer, err := c.line()
	return greeting + "\n" + answer, err
}

// TestGuessingS7: a wrong password and an unknown user get the same words after
// the same time.
func TestGuessingS7(t *testing.T) {
	s := newServer(t, options{plain: true, config: fmt.Sprintf(unlimited, 0)})
	for _, g := range guesses {
		t.Run(g.name, func(t *testing.T) {
			try := func(user string) (string, time.Duration) {
				t.Helper()
				c, err := dial(s.addr[g.service])
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				begin := time.Now()
				said, err := g.try(c, user, "wrong")
				if err != nil {
					t.Fatal(err)
				}
				return said, time.Since(begin)
			}
			// The best times tell; on a busy machine it takes more tries to see
			// them. A true difference does not go away.
			known, unknown := time.Hour, time.Hour
			alike := func() bool {
				ratio := float64(known) / float64(unknown)
				return ratio >= 0.75 && ratio <= 1.33
			}
			for n := 0; n < 12 || n < 120 && !alike(); n++ {
				said1, took1 := try("bob")
				said2, took2 := try("eve")
				if said1 != said2 {
					t.Fatalf("bob is told %q, and eve %q", said1, said2)
				}
				known, unknown = min(known, took1), min(unknown, took2)
			}
			t.Logf("at best %v for a known user, %v for an unknown one", known, unknown)
			if !alike() {
				t.Errorf("%v for a known user, %v for an unknown one", known, unknown)
			}
		})
	}
	t.Run("VRFY", func(t *testing.T) {
		c, err := smtp(s.addr["smtp"])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		known, err1 := c.ask("VRFY bob", "252")
		unknown, err2 := c.ask("VRFY eve", "252")
		if err1 != nil || err2 != nil || strings.ReplaceAll(known, "bob", "eve") != unknown {
			t.Errorf("%q and %q (%v, %v)", known, unknown, err1, err2)
		}
	})
}
