package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
)

// sink is another mail server: it accepts everything and remembers what it said
// about which message, and whether the client has gone on after that.
type sink struct {
	l  net.Listener
	wg sync.WaitGroup

	mu   sync.Mutex
	took map[string][]*taken // by Subject
}

// taken is one copy of a message that the sink said 250 to.
type taken struct {
	text  string
	after bool // another command came on that connection after the 250
}

func newSink(t *testing.T) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &sink{l: l, took: map[string][]*taken{}}
	k.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			k.wg.Go(func() {
				defer c.Close()
				k.serve(c)
			})
		}
	})
	t.Cleanup(func() { l.Close() })
	return k
}

func (k *sink) serve(c net.Conn) {
	r := bufio.NewReader(c)
	say := func(text string) { io.WriteString(c, text+"\r\n") }
	say("220 sink.test ESMTP")
	var last *taken
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if last != nil {
			k.mu.Lock()
			last.after = true
			k.mu.Unlock()
		}
		verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
		switch verb {
		case "EHLO":
			say("250-sink.test")
			say("250-PIPELINING")
			say("250 8BITMIME")
		case "DATA":
			say("354 go on")
			var text strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				text.WriteString(strings.TrimPrefix(line, "."))
			}
			last = &taken{text: text.String()}
			k.mu.Lock()
			id := "none"
			if m := subjectOf.FindStringSubmatch(last.text); m != nil {
				id = m[1]
			}
			k.took[id] = append(k.took[id], last)
			k.mu.Unlock()
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

// submit sends letters to the world, one after the other.
func submit(c *crashLoop, rng *rand.Rand, _ <-chan struct{}) error {
	conn, err := smtp(c.s.addr["submission"])
	if err != nil {
		return wrong(err)
	}
	defer conn.Close()
	if _, err := conn.ask("AUTH PLAIN "+authPlain("bob", password), "235"); err != nil {
		return wrong(err)
	}
	for {
		id := c.book.newID()
		text := letter("bob@"+hostname, "somebody@example.net", id, strings.Repeat("line of "+id+"\r\n", rng.IntN(300)))
		_, f := c.book.text(id, 0)
		c.book.add(id, f)
		if _, err := conn.mail("bob@"+hostname, []string{"somebody@example.net"}, text); err != nil {
			return wrong(err)
		}
		c.book.ends("submission", []*fact{f}, func(f *fact) { f.seen = true })
	}
}

// TestRemoteR4: each letter that was accepted for another server arrives there;
// twice only where that server's final reply was in flight at a kill.
func TestRemoteR4(t *testing.T) {
	k := newSink(t)
	config := fmt.Sprintf("%s[delivery]\nsmarthost = %q\ntls = \"never\"\nretry = [\"1s\"]\n", crashConfig, k.l.Addr())
	c := newCrashLoop(t, config)
	c.s.start()
	n := rounds(t, 5, 500)
	for range n {
		c.round([]worker{submit, submit, submit, submit})
		c.restart()
	}
	var waiting []json.RawMessage
	eventually(t, func() error {
		if err := json.Unmarshal([]byte(c.s.must("queue", "list", "--json")), &waiting); err != nil {
			t.Fatal(err)
		}
		if len(waiting) > 0 {
			return fmt.Errorf("the queue has %d items, such as %s", len(waiting), waiting[0])
		}
		return nil
	})
	c.s.stop()
	k.l.Close()
	k.wg.Wait()

	twice := 0
	for id, f := range c.book.facts {
		copies := k.took[id]
		if f.seen && len(copies) == 0 {
			t.Errorf("LOST: %s was accepted and never arrived", id)
		}
		for i, one := range copies {
			if one.text[strings.Index(one.text, "From: "):] != copies[0].text[strings.Index(copies[0].text, "From: "):] {
				t.Errorf("TORN: %s arrived in two versions", id)
			}
			if i < len(copies)-1 {
				twice++
				if one.after {
					t.Errorf("DUPLICATE: %s was sent again after its reply was read", id)
				}
			}
		}
	}
	for id := range k.took {
		if c.book.facts[id] == nil {
			t.Errorf("the sink has %s, which nobody sent", id)
		}
	}
	t.Logf("%d rounds, %d accepted, %d arrived, %d of them twice", n, c.book.acked["submission"], len(k.took), twice)
	if c.book.acked["submission"] < 20*n {
		t.Errorf("only %d were accepted", c.book.acked["submission"])
	}
}
