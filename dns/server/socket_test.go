package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/recursor"
	"postrider/internal/wire"
	"postrider/internal/wire/wiretest"
)

// TestSockets: UDP and TCP say the same, and a wildcard socket answers from the
// address that was asked.
func TestSockets(t *testing.T) {
	w := newTown(t, Options{}, Settings{Minimal: true, FixedOrder: true}, parse(t, "example.test.", exampleZone)).listen()
	for _, network := range []string{"udp", "tcp"} {
		for range 2 {
			if r := overNet(t, network, w.udp, question("www.example.test.", miekg.TypeA)); len(r.Answer) != 3 {
				t.Errorf("%s: %v", network, r)
			}
		}
	}
	for _, network := range []string{"udp4", "udp"} {
		c, err := net.ListenPacket(network, ":0")
		if err != nil {
			t.Fatal(err)
		}
		if err := w.s.ServePacket(c); err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(c.LocalAddr().String())
		// A connected socket takes answers from this address alone.
		if r := overNet(t, "udp", net.JoinHostPort("127.0.0.1", port), question("www.example.test.", miekg.TypeA)); len(r.Answer) != 3 {
			t.Errorf("%s: %v", network, r)
		}
	}
}

// TestSocketIsFreed: Close ends a reader that waits, and frees the address, also
// when the socket has never had a query.
func TestSocketIsFreed(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", ":0"} {
		for _, asked := range []bool{false, true} {
			w := newTown(t, Options{}, Settings{Minimal: true}, parse(t, "example.test.", exampleZone))
			c, err := net.ListenPacket("udp", address)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.s.ServePacket(c); err != nil {
				t.Fatal(err)
			}
			bound := c.LocalAddr().String()
			_, port, _ := net.SplitHostPort(bound)
			if asked {
				overNet(t, "udp", net.JoinHostPort("127.0.0.1", port), question("www.example.test.", miekg.TypeA))
			}
			w.s.Close()
			for range 2 { // a closed server frees what it is given, too
				if c, err = net.ListenPacket("udp", bound); err != nil {
					t.Fatalf("%s, asked %v: %v", address, asked, err)
				}
				if err := w.s.ServePacket(c); err == nil {
					t.Error("a closed server serves")
				}
			}
		}
	}
}

// TestManyDatagrams: what many clients ask at once is answered, each to its own.
func TestManyDatagrams(t *testing.T) {
	w := newTown(t, Options{}, Settings{Minimal: true}, parse(t, "example.test.", exampleZone)).listen()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			c, err := net.Dial("udp", w.udp)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			buf := make([]byte, 4096)
			for i := range 20 {
				m := question("x.wild.example.test.", miekg.TypeTXT)
				m.Id = uint16(i)
				if _, err := c.Write(packed(t, m)); err != nil {
					t.Error(err)
					return
				}
				c.SetReadDeadline(time.Now().Add(20 * time.Second))
				n, err := c.Read(buf)
				if err != nil || binary.BigEndian.Uint16(buf) != uint16(i) || n < 20 {
					t.Errorf("query %d: %d octets, %v", i, n, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// slow is a recursor whose answers wait.
type slow struct {
	fixed
	wait map[string]chan struct{} // by name; closed when it may go on
}

func (s slow) Resolve(ctx context.Context, q miekg.Question, a recursor.Ask) recursor.Answer {
	if c := s.wait[q.Name]; c != nil {
		select {
		case <-c:
		case <-ctx.Done():
		}
	}
	return s.fixed.Resolve(ctx, q, a)
}

// TestPipelining: over TCP many queries may be in hand, and each is answered
// when its answer is there (RFC 7766 section 7).
func TestPipelining(t *testing.T) {
	first := make(chan struct{})
	r := slow{fixed{"slow.example.net. A": "slow.example.net. 60 IN A 192.0.2.1", "fast.example.net. A": "fast.example.net. 60 IN A 192.0.2.2"},
		map[string]chan struct{}{"slow.example.net.": first}}
	w := newTown(t, Options{Recursor: r}, Settings{Recursion: loopback}, parse(t, "example.test.", exampleZone)).listen()
	c, err := net.Dial("tcp", w.tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	var out []byte
	for i, name := range []string{"slow.example.net.", "fast.example.net.", "www.example.test.", "mail.example.test."} {
		m := question(name, miekg.TypeA)
		m.Id = uint16(i)
		b := packed(t, m)
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(b))), b...)
	}
	if _, err := c.Write(out); err != nil {
		t.Fatal(err)
	}
	got := map[uint16]bool{}
	for range 3 {
		b, err := readMessage(c)
		if err != nil {
			t.Fatal(err)
		}
		got[unpacked(t, b).Id] = true
	}
	if len(got) != 3 || got[0] {
		t.Errorf("answers before the slow one: %v", got)
	}
	close(first)
	b, err := readMessage(c)
	if err != nil || unpacked(t, b).Id != 0 {
		t.Errorf("the slow one: %x, %v", b, err)
	}
}

// TestHalfSent: 200 connections with half a query do not stop others, over TCP
// or UDP (and hold no more memory than what they have sent).
func TestHalfSent(t *testing.T) {
	w := newTown(t, Options{}, Settings{}, parse(t, "example.test.", exampleZone)).listen()
	for i := range 200 {
		c, err := net.Dial("tcp", w.tcp)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		half := []byte{0xff, 0xff, 1, 2, 3, 4, 5}[:i%7]
		if _, err := c.Write(half); err != nil {
			t.Fatal(err)
		}
	}
	for _, network := range []string{"udp", "tcp"} {
		if r := overNet(t, network, w.tcp, question("www.example.test.", miekg.TypeA)); len(r.Answer) != 3 {
			t.Errorf("%s: %v", network, r)
		}
	}
}

// TestConnectionEnds: an answer, or what is no message, ends a connection; one
// message has one deadline.
func TestConnectionEnds(t *testing.T) {
	w := newTown(t, Options{}, Settings{}, parse(t, "example.test.", exampleZone)).listen()
	answer := packed(t, question("www.example.test.", miekg.TypeA))
	answer[2] |= 0x80
	for name, msg := range map[string][]byte{"an answer": answer, "nothing": {}} {
		c, err := net.Dial("tcp", w.tcp)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		if err := writeMessage(c, msg); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
			t.Errorf("%s: %x, %v", name, b, err)
		}
	}
}

// TestTLS: DNS over TLS, with padding for those who pad (RFC 7858, RFC 8467).
func TestTLS(t *testing.T) {
	w := newTown(t, Options{}, Settings{}, parse(t, "example.test.", exampleZone))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, trusting := wiretest.TLS(t, "127.0.0.1")
	streams := wire.NewServer(wire.ServerOptions{})
	streams.Serve(l, w.s.Protocol("dns_tls", server))
	defer func() {
		if err := streams.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	trusting.NextProtos = []string{"dot"}
	c, err := tls.Dial("tcp", l.Addr().String(), trusting)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	for _, padded := range []bool{false, true} {
		m := question("www.example.test.", miekg.TypeA)
		m.SetEdns0(1232, false)
		if padded {
			m.IsEdns0().Option = []miekg.EDNS0{&miekg.EDNS0_PADDING{Padding: make([]byte, 40)}}
		}
		if err := writeMessage(c, packed(t, m)); err != nil {
			t.Fatal(err)
		}
		b, err := readMessage(c)
		if err != nil {
			t.Fatal(err)
		}
		if r := unpacked(t, b); len(r.Answer) != 3 || padded != (len(b) == padBlock) {
			t.Errorf("padding %v: %d octets, %v", padded, len(b), r)
		}
	}
}

// TestKeepalive: the timeout is told over TCP to those who ask (RFC 7828).
func TestKeepalive(t *testing.T) {
	w := newTown(t, Options{}, Settings{}, parse(t, "example.test.", exampleZone))
	m := question("www.example.test.", miekg.TypeA)
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = []miekg.EDNS0{&miekg.EDNS0_TCP_KEEPALIVE{Code: miekg.EDNS0TCPKEEPALIVE}}
	for transport, want := range map[Transport]int{UDP: 0, TCP: 1} {
		r := unpacked(t, w.direct("198.51.100.7", transport, packed(t, m)))
		o := r.IsEdns0().Option
		if len(o) != want || want == 1 && o[0].(*miekg.EDNS0_TCP_KEEPALIVE).Timeout != 100 {
			t.Errorf("%s: %v", transport, r)
		}
	}
}

// TestBusy: of one network only so many questions are in hand; others are
// answered still.
func TestBusy(t *testing.T) {
	stop := make(chan struct{})
	r := slow{fixed{}, map[string]chan struct{}{"slow.example.net.": stop}}
	w := newTown(t, Options{Recursor: r}, Settings{Recursion: append(loopback[:1:1], clientNetwork(netip.MustParseAddr("198.51.100.7")))}, parse(t, "example.test.", exampleZone))
	msg := packed(t, question("slow.example.net.", miekg.TypeA))
	c := client{addr: netip.MustParseAddr("127.0.0.1"), transport: UDP}
	var wg sync.WaitGroup
	started := 0
	for range maxClientWorks + 10 {
		wg.Add(1)
		if w.s.begin(&c, bytes.Clone(msg), func([]byte) error { return nil }, wg.Done) {
			started++
		} else {
			wg.Done()
		}
	}
	if started != maxClientWorks || w.s.Stats().Busy != 10 {
		t.Errorf("%d started, %d busy", started, w.s.Stats().Busy)
	}
	if b := w.direct("198.51.100.7", UDP, packed(t, question("fast.example.net.", miekg.TypeA))); b == nil {
		t.Error("another network gets no answer")
	}
	close(stop)
	wg.Wait()
}
