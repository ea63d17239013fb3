package deliver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postrider/internal/wire/wiretest"
	"postrider/mta"
)

// plainPeer accepts everything and keeps what was said on each connection.
type plainPeer struct {
	net   wiretest.Network
	l     *wiretest.Listener
	addr  netip.AddrPort
	peers sync.WaitGroup

	mu       sync.Mutex
	said     []string // by connection
	messages int
	open     int
}

func newPlainPeer(t *testing.T) *plainPeer {
	t.Helper()
	p := &plainPeer{addr: netip.MustParseAddrPort("192.0.2.1:25")}
	var err error
	if p.l, err = p.net.Listen(p.addr.String()); err != nil {
		t.Fatal(err)
	}
	p.peers.Go(func() {
		for {
			c, err := p.l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			n := len(p.said)
			p.said = append(p.said, "")
			p.open++
			p.mu.Unlock()
			p.peers.Go(func() { p.serve(c, n) })
		}
	})
	return p
}

func (p *plainPeer) close() {
	p.l.Close()
	p.peers.Wait()
}

func (p *plainPeer) serve(c io.ReadWriteCloser, n int) {
	defer func() {
		c.Close()
		p.mu.Lock()
		p.open--
		p.mu.Unlock()
	}()
	r := bufio.NewReader(c)
	say := func(s string) { _, _ = io.WriteString(c, s+"\r\n") }
	say("220 mx")
	for data := false; ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		p.mu.Lock()
		p.said[n] += line
		if line == ".\r\n" {
			p.messages++
		}
		p.mu.Unlock()
		switch {
		case line == ".\r\n":
			data = false
			say("250 taken")
		case data:
		case strings.HasPrefix(line, "EHLO"):
			say("250-mx\r\n250 PIPELINING")
		case line == "DATA\r\n":
			data = true
			say("354 go on")
		case line == "QUIT\r\n":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

// letter is a delivery of text to n recipients at p; its outcomes go to *out.
func (p *plainPeer) letter(n int, text string, out *[]mta.Outcome) *mta.Delivery {
	d := &mta.Delivery{
		ID: "x", From: mta.Address{Local: "a", Domain: "crepes.test"},
		Hops:   []mta.Hop{{Host: "mx", Addrs: []netip.AddrPort{p.addr}}},
		Open:   func() (mta.Content, error) { return memory(text), nil },
		Record: func(o []mta.Outcome) error { *out = o; return nil },
	}
	for i := range n {
		d.To = append(d.To, mta.DeliveryRecipient{Address: mta.Address{Local: fmt.Sprint("b", i), Domain: "hamburger.test"}})
	}
	return d
}

// More than a hundred recipients go in several transactions over one
// connection, each durable before the next.
func TestManyRecipients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlainPeer(t)
		c := New(Options{Hostname: "crepes.test", Dial: p.net.Dial})
		var out []mta.Outcome
		d := p.letter(2*maxRcpts+1, "x\r\n", &out)
		var known []int
		d.Partial = func(o []mta.Outcome) error {
			n := 0
			for _, x := range o {
				if x.Reply != nil {
					n++
				}
			}
			known = append(known, n)
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.messages != len(known) {
				t.Errorf("%d messages were sent when %d were known", p.messages, len(known))
			}
			return nil
		}
		if err := c.Deliver(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(known) != "[100 200]" || p.messages != 3 || len(p.said) != 1 {
			t.Errorf("known %v, %d messages, %d connections", known, p.messages, len(p.said))
		}
		for i, o := range out {
			if !o.Reply.Success() {
				t.Errorf("%d: %v", i, o.Reply)
			}
		}
		// Without Partial the first hundred.
		d.Partial = nil
		if err := c.Deliver(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if !out[99].Reply.Success() || out[100].Reply.Code != 451 || out[100].Reply.Status != "4.5.3" || out[100].Host != "" {
			t.Errorf("%v, %v", out[99].Reply, out[100].Reply)
		}
		c.Close()
		p.close()
	})
}

// Every limit of the pool, at one more.
func TestPoolLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlainPeer(t)
		c := New(Options{Hostname: "crepes.test", Dial: p.net.Dial, IdlePerHost: 2, IdleTotal: 3, MaxPerConnection: 4})
		var wg sync.WaitGroup
		together := func(n int, host string) {
			arrived := make(chan struct{})
			for range n {
				wg.Go(func() {
					var out []mta.Outcome
					d := p.letter(1, "x\r\n", &out)
					d.Hops[0].Host = host
					record := d.Record
					d.Record = func(o []mta.Outcome) error {
						<-arrived // all are under way
						return record(o)
					}
					if err := c.Deliver(t.Context(), d); err != nil || !out[0].Reply.Success() {
						t.Errorf("%v, %v", err, out[0].Reply)
					}
				})
			}
			synctest.Wait()
			close(arrived)
			wg.Wait()
			synctest.Wait()
		}
		idle := func(want int) {
			t.Helper()
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.open != want {
				t.Errorf("%d connections are open, want %d", p.open, want)
			}
		}
		together(3, "one")
		idle(2)
		together(2, "two")
		idle(3)
		time.Sleep(c.o.IdleTime)
		synctest.Wait()
		idle(0)
		for range 5 {
			together(1, "three")
		}
		idle(1)
		last := p.said[len(p.said)-2]
		if n := strings.Count(last, "MAIL"); n != 4 || !strings.HasSuffix(last, "QUIT\r\n") {
			t.Errorf("%d messages over one connection: %q", n, last)
		}
		c.Close()
		idle(0)
		p.close()
	})
}

// broken is content that fails after some octets.
type broken struct {
	memory
	good int64
}

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.good {
		return 0, errors.New("disk")
	}
	return b.memory.ReadAt(p, off)
}

// short is content that has fewer octets than it says.
type short struct{ memory }

func (s short) Size() int64 { return int64(len(s.memory)) + 1 }

// A message that cannot be read to its end is never ended by a dot.
func TestContentFails(t *testing.T) {
	text := memory(strings.Repeat("a line\r\n", 10_000))
	for name, content := range map[string]mta.Content{
		"at once": broken{text, 0}, "later": broken{text, 50_000}, "cut": short{text}, "small and cut": short{"x\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlainPeer(t)
				c := New(Options{Hostname: "crepes.test", Dial: p.net.Dial})
				var out []mta.Outcome
				d := p.letter(1, "", &out)
				d.Options.Body = "8BITMIME" // no scan, where the peer has it
				d.Open = func() (mta.Content, error) { return content, nil }
				if err := c.Deliver(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				if r := out[0].Reply; r.Code != 451 || r.Status != "4.3.0" || out[0].Host != "" {
					t.Errorf("%v at %q", r, out[0].Host)
				}
				c.Close()
				p.close()
				if p.messages != 0 {
					t.Errorf("sent: %q", p.said)
				}
			})
		})
	}
	p := &plainPeer{}
	var out []mta.Outcome
	d := p.letter(1, "", &out)
	d.Open = func() (mta.Content, error) { return nil, errors.New("gone") }
	if err := New(Options{}).Deliver(t.Context(), d); err != nil || out[0].Reply.Status != "4.3.0" {
		t.Errorf("%v, %v", err, out)
	}
}

// What could not be made durable ends the attempt and the connection.
func TestRecordFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlainPeer(t)
		c := New(Options{Hostname: "crepes.test", Dial: p.net.Dial})
		disk := errors.New("disk")
		var out []mta.Outcome
		d := p.letter(1, "x\r\n", &out)
		d.Record = func([]mta.Outcome) error { return disk }
		if err := c.Deliver(t.Context(), d); !errors.Is(err, disk) {
			t.Errorf("%v", err)
		}
		d = p.letter(maxRcpts+1, "x\r\n", &out)
		d.Partial = func([]mta.Outcome) error { return disk }
		if err := c.Deliver(t.Context(), d); !errors.Is(err, disk) || out != nil {
			t.Errorf("%v, %v", err, out)
		}
		synctest.Wait()
		if p.open != 0 || p.messages != 2 || strings.Contains(strings.Join(p.said, ""), "QUIT") {
			t.Errorf("%d open, %d messages: %q", p.open, p.messages, p.said)
		}
		c.Close()
		p.close()
	})
}

// No more than maxAddresses are tried, however many there are.
func TestMaxAddresses(t *testing.T) {
	var out []mta.Outcome
	d := new(plainPeer).letter(1, "x\r\n", &out)
	d.Hops[0].Addrs = nil
	for i := range maxAddresses + 1 {
		d.Hops[0].Addrs = append(d.Hops[0].Addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 25))
	}
	tried := 0
	dial := new(wiretest.Network).Dial
	c := New(Options{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		tried++
		return dial(ctx, network, addr)
	}})
	if err := c.Deliver(t.Context(), d); err != nil || tried != maxAddresses || out[0].Reply.Status != "4.4.1" {
		t.Errorf("%v: %d tried, %v", err, tried, out[0].Reply)
	}
	// Nobody to deliver to: nobody is asked.
	tried, d.To = 0, nil
	if err := c.Deliver(t.Context(), d); err != nil || tried != 0 || len(out) != 0 {
		t.Errorf("%v: %d tried", err, tried)
	}
}

// A connection that is neither made nor refused is given up, as is one whose
// peer does not answer QUIT.
func TestConnectAndQuitTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out []mta.Outcome
		d := new(plainPeer).letter(1, "x\r\n", &out)
		d.Hops[0].Addrs = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:25")}
		c := New(Options{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		begin := time.Now()
		err := c.Deliver(t.Context(), d)
		if r := out[0].Reply; err != nil || time.Since(begin) != c.o.Timeouts.Connect || r.Status != "4.4.1" || !strings.HasSuffix(r.Text, "no answer in time") {
			t.Errorf("%v after %v: %v", err, time.Since(begin), r)
		}

		client, server := wiretest.Pipe()
		defer server.Close()
		s := &session{c: c, conn: client}
		s.r.src = s
		begin = time.Now()
		s.quit()
		if took := time.Since(begin); took != c.o.Timeouts.Quit {
			t.Errorf("QUIT took %v", took)
		}
	})
}
