package server

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

// TestLimiter: one network gets so many answers of a kind per second; every
// second one beyond is cut short; others are not concerned.
func TestLimiter(t *testing.T) {
	l := newLimiter(RateLimit{PerSecond: 10, Exempt: loopback})
	now := time.Unix(1e9, 0).UnixNano()
	count := func(addr string, kind uint64, n int) (sent, slipped int) {
		for range n {
			switch l.judge(netip.MustParseAddr(addr), kind, now) {
			case send:
				sent++
			case slip:
				slipped++
			}
		}
		return
	}
	if sent, slipped := count("192.0.2.1", 1, 30); sent != 10 || slipped != 10 {
		t.Errorf("30 at once: %d sent, %d slipped", sent, slipped)
	}
	if sent, _ := count("192.0.2.200", 1, 5); sent != 0 {
		t.Errorf("the same /24: %d sent", sent)
	}
	if sent, _ := count("192.0.3.1", 1, 5); sent != 5 {
		t.Errorf("another /24: %d sent", sent)
	}
	if sent, _ := count("192.0.2.1", 2, 5); sent != 5 {
		t.Errorf("another name: %d sent", sent)
	}
	if sent, _ := count("127.0.0.1", 1, 1000); sent != 1000 {
		t.Errorf("exempt: %d sent", sent)
	}
	if sent, _ := count("2001:db8::1", 1, 20); sent != 10 {
		t.Errorf("IPv6: %d sent", sent)
	}
	if sent, _ := count("2001:db8:0:ff::1", 1, 20); sent != 0 {
		t.Errorf("the same /56: %d sent", sent)
	}
	now += int64(2 * time.Second) // a debt of 25 is not paid by then
	if sent, _ := count("192.0.2.1", 1, 1); sent != 0 {
		t.Errorf("2 s later: %d sent", sent)
	}
	now += int64(5 * time.Second)
	if sent, _ := count("192.0.2.1", 1, 20); sent != 10 {
		t.Errorf("7 s later: %d sent", sent)
	}
	// All kinds together: random names are bounded, too.
	total := 0
	for kind := range uint64(1000) {
		sent, _ := count("203.0.113.5", kind, 1)
		total += sent
	}
	if total != 100 {
		t.Errorf("a thousand names: %d sent, want 100", total)
	}
}

// TestLimiterFlood: a flood from more networks than there are counters takes no
// more memory, and the one that floods most is still stopped.
func TestLimiterFlood(t *testing.T) {
	l := newLimiter(RateLimit{PerSecond: 5})
	now := time.Unix(1e9, 0).UnixNano()
	loud := netip.MustParseAddr("192.0.2.1")
	sent := 0
	for i := range 3 * limitBuckets {
		a := netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i), 1})
		l.judge(a, 1, now+int64(i))
		if i%10 == 0 && l.judge(loud, 1, now+int64(i)) == send {
			sent++
		}
	}
	if sent > 20 {
		t.Errorf("%d answers to the loud one", sent)
	}
}

// TestRateLimit: over UDP the limit holds by the name, for random names by the
// zone; a cookie of ours, or TCP, is a way past it.
func TestRateLimit(t *testing.T) {
	w := newTown(t, Options{}, Settings{RateLimit: RateLimit{PerSecond: 10}}, parse(t, "example.test.", exampleZone))
	ask := func(from, name string, transport Transport) *miekg.Msg {
		b := w.direct(from, transport, packed(t, question(name, miekg.TypeA)))
		if b == nil {
			return nil
		}
		return unpacked(t, b)
	}
	whole, cut := 0, 0
	for i := range 60 {
		switch r := ask("198.51.100.7", fmt.Sprintf("random%d.example.test.", i), UDP); {
		case r == nil:
		case r.Truncated && len(r.Ns) == 0:
			cut++
		default:
			whole++
		}
	}
	if whole < 10 || whole > 12 || cut < 20 || cut > 26 {
		t.Errorf("random names: %d answers, %d cut short", whole, cut)
	}
	if r := ask("198.51.100.7", "www.example.test.", UDP); r == nil || len(r.Answer) != 3 {
		t.Errorf("a name that exists: %v", r)
	}
	if r := ask("198.51.100.7", "random.example.test.", TCP); r == nil || r.Truncated {
		t.Errorf("over TCP: %v", r)
	}
	m := question("random.example.test.", miekg.TypeA)
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = []miekg.EDNS0{&miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: "0102030405060708"}}
	r := unpacked(t, w.direct("198.51.100.7", TCP, packed(t, m)))
	m.IsEdns0().Option = r.IsEdns0().Option
	for range 50 {
		if r := w.ask(m); r.Truncated {
			t.Fatalf("with a cookie: %v", r)
		}
	}
}
