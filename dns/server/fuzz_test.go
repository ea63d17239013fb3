package server

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

// anyTown takes all kinds of messages, and some of each kind.
func anyTown(t testing.TB) (w *town, messages [][]byte) {
	k := key(t, "k", "hmac-sha256", secret)
	acl := ACL{Networks: loopback, Keys: []string{"k"}}
	w = newTown(t, Options{Recursor: fixed{"host.example.net. A": "host.example.net. 300 IN A 203.0.113.9"}},
		Settings{Recursion: loopback, Keys: []*Key{k}, LocalZones: true, Zones: []ZoneConfig{{Name: "example.test.", AllowTransfer: acl, AllowUpdate: acl}}})
	if err := w.s.Publish(parse(t, "example.test.", exampleZone)); err != nil {
		t.Fatal(err)
	}
	add := func(m *miekg.Msg) {
		b := packed(t, m)
		messages = append(messages, b, (&signature{key: k}).sign(bytes.Clone(b), time.Now(), 0))
	}
	ixfr := question("example.test.", miekg.TypeIXFR)
	ixfr.Ns = []miekg.RR{&miekg.SOA{Hdr: miekg.RR_Header{Name: "example.test.", Rrtype: miekg.TypeSOA, Class: 1}, Ns: ".", Mbox: ".", Serial: 9}}
	add(ixfr)
	add(new(miekg.Msg).SetNotify("example.test."))
	update := new(miekg.Msg)
	update.SetUpdate("example.test.")
	rr, err := miekg.NewRR("new.example.test. 60 IN A 192.0.2.9")
	if err != nil {
		t.Fatal(err)
	}
	update.Insert([]miekg.RR{rr})
	add(update)
	for _, name := range []string{"www.example.test.", "example.test.", "host.example.net.", "localhost.", "10.in-addr.arpa.", "."} {
		for _, typ := range []uint16{miekg.TypeA, miekg.TypeANY, miekg.TypeAXFR, miekg.TypeDS, miekg.TypeTSIG} {
			m := question(name, typ)
			add(m)
			m.SetEdns0(4096, true)
			m.IsEdns0().Option = []miekg.EDNS0{&miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: "0102030405060708"},
				&miekg.EDNS0_PADDING{Padding: make([]byte, 4)}, &miekg.EDNS0_TCP_KEEPALIVE{Code: miekg.EDNS0TCPKEEPALIVE}}
			add(m)
		}
	}
	return w, messages
}

// FuzzMessage: whatever arrives, there is at most one reply, to a query alone,
// with its identifier, that parses and is not larger than it may be; and the
// same again when the answer was kept.
func FuzzMessage(f *testing.F) {
	w, messages := anyTown(f)
	for i, b := range messages {
		f.Add(b, i%2 == 0)
		b = bytes.Clone(b)
		b[2] |= 0x80
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, msg []byte, stream bool) { w.holds(t, msg, stream) })
}

// TestEveryOffset: so it is with messages cut or changed anywhere.
func TestEveryOffset(t *testing.T) {
	w, messages := anyTown(t)
	for _, msg := range messages[:12] {
		for i := range msg {
			w.holds(t, msg[:i:i], i%2 == 0)
			for _, c := range []byte{0, 1, 0x3f, 0x40, 0xc0, 0xff} {
				bad := bytes.Clone(msg)
				bad[i] = c
				w.holds(t, bad, i%2 == 0)
			}
		}
	}
}

func (w *town) holds(t *testing.T, msg []byte, stream bool) {
	t.Helper()
	transport, limit := UDP, 1232
	if stream {
		transport, limit = TCP, maxMessage
	}
	for range 2 {
		var replies [][]byte
		var k worker
		k.now = time.Now()
		c := client{addr: loopback[0].Addr().Next(), transport: transport}
		reply, pending := w.s.take(nil, &k, &c, msg)
		if reply != nil {
			replies = append(replies, reply)
		}
		if pending {
			done := make(chan struct{})
			if !w.s.begin(&c, msg, func(b []byte) error { replies = append(replies, b); return nil }, func() { close(done) }) {
				t.Fatal("busy")
			}
			<-done
		}
		checkReplies(t, msg, replies, stream, limit)
	}
	if w.s.Stats().Panics > 0 {
		t.Fatalf("a panic: %x", msg)
	}
}

func checkReplies(t *testing.T, msg []byte, replies [][]byte, stream bool, limit int) {
	t.Helper()
	query := len(msg) >= 12 && msg[2]&0x80 == 0
	if len(replies) > 1 && !stream || len(replies) > 0 && !query {
		t.Fatalf("%d replies", len(replies))
	}
	for _, b := range replies {
		if len(b) > limit {
			t.Fatalf("%d octets", len(b))
		}
		m := new(miekg.Msg)
		if err := m.Unpack(b); err != nil {
			t.Fatalf("reply %x: %v", b, err)
		}
		if !m.Response || m.Id != binary.BigEndian.Uint16(msg) || m.Opcode != int(msg[2]>>3&15) {
			t.Fatalf("reply %v", m)
		}
		if len(m.Question) == 1 && !strings.Contains(string(msg), "\x00") {
			t.Fatalf("a question that was not asked: %v", m)
		}
	}
}
