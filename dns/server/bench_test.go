package server

import (
	"net/netip"
	"testing"

	miekg "github.com/miekg/dns"
)

// BenchmarkHot is the way of a query whose answer is kept, from its octets to
// those of the reply. It allocates nothing.
func BenchmarkHot(b *testing.B) {
	w := newTown(b, Options{}, Settings{Minimal: true, RateLimit: RateLimit{PerSecond: 10, Exempt: loopback}}, parse(b, "example.test.", exampleZone))
	m := question("www.example.test.", miekg.TypeA)
	m.SetEdns0(1232, false)
	msg := packed(b, m)
	c := client{addr: netip.MustParseAddr("127.0.0.1"), transport: UDP}
	k := worker{now: w.s.clock.Now()}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out, _ = w.s.take(out[:0], &k, &c, msg)
		if len(out) < 60 {
			b.Fatal("no answer")
		}
	}
}

// BenchmarkMade is the same of an answer that has to be made.
func BenchmarkMade(b *testing.B) {
	w := newTown(b, Options{HotOctets: -1}, Settings{Minimal: true}, parse(b, "example.test.", exampleZone))
	msg := packed(b, question("www.example.test.", miekg.TypeA))
	c := client{addr: netip.MustParseAddr("127.0.0.1"), transport: UDP}
	k := worker{now: w.s.clock.Now()}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out, _ = w.s.take(out[:0], &k, &c, msg)
	}
}
