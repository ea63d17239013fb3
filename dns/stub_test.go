package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnstest"
	"postrider/dns/exchange"
	"postrider/internal/clock"
)

const exampleZone = `
$TTL 300
example.com. SOA ns.example.com. hostmaster.example.com. 1 1h 10m 5d 60
example.com. MX 10 mx.example.com.
example.com. MX 20 mx2.example.com.
mx.example.com. A 192.0.2.1
mx.example.com. AAAA 2001:db8::1
`

// network is several servers in memory, by address.
type network map[string]*dnstest.Server

func (n network) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	s, ok := n[addr]
	if !ok {
		return nil, errors.New("connection refused")
	}
	return s.Dial(ctx, network, addr)
}

func newServer(t *testing.T, zone string) *dnstest.Server {
	t.Helper()
	z, err := dnstest.Parse(zone)
	if err != nil {
		t.Fatal(err)
	}
	s := dnstest.New(z)
	t.Cleanup(s.Close)
	return s
}

func newResolver(t *testing.T, o Options) *Resolver {
	t.Helper()
	r, err := NewResolver(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Over real sockets: UDP, and TCP for what does not fit.
func TestSockets(t *testing.T) {
	var big strings.Builder
	for i := range 100 {
		fmt.Fprintf(&big, "big.example.com. TXT \"%0100d\"\n", i)
	}
	server := dnstest.Start(t, exampleZone+big.String())
	r := newResolver(t, Options{Servers: []string{server.Addr}})
	mx, err := r.MX(t.Context(), "example.com")
	if err != nil || len(mx) != 2 || mx[0] != (MX{10, "mx.example.com"}) {
		t.Errorf("MX: %v, %v", mx, err)
	}
	list, err := r.Addresses(t.Context(), "mx.example.com")
	if err != nil || !slices.Equal(list, []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.1")}) {
		t.Errorf("Addresses: %v, %v", list, err)
	}
	txt, err := r.TXT(t.Context(), "big.example.com")
	if err != nil || len(txt) != 100 || txt[99] != fmt.Sprintf("%0100d", 99) {
		t.Errorf("TXT: %d texts, %v", len(txt), err)
	}
	a, err := r.Query(t.Context(), "big.example.com", TypeTXT)
	if err != nil || a.Network != "tcp" || len(a.Answer) != 100 || a.Size < 10_000 {
		t.Errorf("Query: %+v, %v", a, err)
	}
}

// A port on which nothing listens is an error at once, and a temporary one.
func TestRefused(t *testing.T) {
	server := dnstest.Start(t, exampleZone)
	server.Close()
	r := newResolver(t, Options{Servers: []string{server.Addr}})
	if _, err := r.MX(t.Context(), "example.com"); !errors.Is(err, ErrTemporary) {
		t.Errorf("got %v", err)
	}
}

// A server that is silent costs its timeout once; then it is asked last, until
// the penalty is over.
func TestSeveralServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead, good := newServer(t, exampleZone), newServer(t, exampleZone)
		dead.Break(dnstest.Fault{Drop: true})
		r := newResolver(t, Options{
			Servers: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, CacheSize: -1,
			Dial: network{"192.0.2.1:53": dead, "192.0.2.3:53": good}.dial,
		})
		for i, want := range []time.Duration{defaultTimeout, 0, 0} {
			began := time.Now()
			if _, err := r.MX(t.Context(), "example.com"); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took != want {
				t.Errorf("lookup %d took %v, want %v", i, took, want)
			}
		}
		if n := len(dead.Queries()); n != 1 {
			t.Errorf("the silent server was asked %d times", n)
		}
		dead.Heal()
		<-time.After(serverPenalty)
		if _, err := r.MX(t.Context(), "example.com"); err != nil {
			t.Fatal(err)
		}
		if n := len(dead.Queries()); n != 2 {
			t.Errorf("the server that is back was asked %d times", n)
		}
	})
}

// A failing server does not hide one that knows better, and a failing name is
// not asked for in all rounds.
func TestFailureThenAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, good := newServer(t, exampleZone), newServer(t, exampleZone)
		bad.Break(dnstest.Fault{Rcode: miekg.RcodeServerFailure})
		r := newResolver(t, Options{
			Servers: []string{"192.0.2.1", "192.0.2.2"}, CacheSize: -1,
			Dial: network{"192.0.2.1:53": bad, "192.0.2.2:53": good}.dial,
		})
		if _, err := r.MX(t.Context(), "example.com"); err != nil {
			t.Error(err)
		}
		good.Break(dnstest.Fault{Rcode: miekg.RcodeRefused})
		if _, err := r.MX(t.Context(), "example.com"); !errors.Is(err, ErrTemporary) {
			t.Errorf("got %v", err)
		}
		if b, g := len(bad.Queries()), len(good.Queries()); b != 2 || g != 2 {
			t.Errorf("asked %d and %d times", b, g)
		}
	})
}

// A server that does not recurse knows nothing about the name.
func TestReferral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(t, exampleZone)
		ns, err := miekg.NewRR("com. 300 IN NS a.gtld-servers.net.")
		if err != nil {
			t.Fatal(err)
		}
		server.Break(dnstest.Fault{Edit: func(m *miekg.Msg) {
			m.RecursionAvailable, m.Answer, m.Ns = false, nil, []miekg.RR{ns}
		}})
		r := newResolver(t, Options{Servers: []string{"192.0.2.1"}, Dial: server.Dial})
		if _, err := r.MX(t.Context(), "example.com"); !errors.Is(err, ErrTemporary) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRotate(t *testing.T) {
	c := config{servers: []string{"a", "b", "c"}, rotate: true}
	s := newResolver(t, Options{Servers: []string{"192.0.2.1"}}).stub
	var got []string
	for range 4 {
		got = append(got, strings.Join(s.order(c), ""))
	}
	if want := []string{"abc", "bca", "cab", "abc"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The first half of a chain in one answer, the rest in the next: each name is
// asked for, and the parts are kept apart.
func TestAliasAcrossAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(t, exampleZone+"www.example.com. CNAME web.example.com.\nweb.example.com. CNAME mx.example.com.\n")
		server.Break(dnstest.Fault{Edit: func(m *miekg.Msg) {
			m.Answer, m.Ns = m.Answer[:min(1, len(m.Answer))], nil
		}})
		r := newResolver(t, Options{Servers: []string{"192.0.2.1"}, Dial: server.Dial})
		for range 2 {
			list, err := r.Addresses(t.Context(), "www.example.com")
			if err != nil || len(list) != 2 {
				t.Errorf("got %v, %v", list, err)
			}
		}
		if n := len(server.Queries()); n != 6 {
			t.Errorf("%d questions: %v", n, server.Queries())
		}
	})
}

// Records that nobody asked for, in any section, lead to nothing (RFC 5452
// section 9.1, RFC 2181 section 5.4.1).
func TestForeignRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(t, exampleZone+"victim.example. A 192.0.2.1\n")
		poison, err := miekg.NewRR("victim.example. 86400 IN A 192.0.2.66")
		if err != nil {
			t.Fatal(err)
		}
		soa, err := miekg.NewRR("victim.example. 86400 IN SOA a. b. 1 2 3 4 86400")
		if err != nil {
			t.Fatal(err)
		}
		server.Break(dnstest.Fault{Name: "example.com", Edit: func(m *miekg.Msg) {
			m.Answer = append(m.Answer, poison)
			m.Ns = []miekg.RR{soa, poison}
			m.Extra = append(m.Extra, poison)
		}})
		r := newResolver(t, Options{Servers: []string{"192.0.2.1"}, Dial: server.Dial})
		if mx, err := r.MX(t.Context(), "example.com"); err != nil || len(mx) != 2 {
			t.Errorf("got %v, %v", mx, err)
		}
		// A foreign SOA record keeps no negative answer.
		for range 2 {
			if txt, err := r.TXT(t.Context(), "example.com"); !errors.Is(err, ErrNoData) {
				t.Errorf("got %v, %v", txt, err)
			}
		}
		list, err := r.Addresses(t.Context(), "victim.example")
		if err != nil || !slices.Equal(list, []netip.Addr{netip.MustParseAddr("192.0.2.1")}) {
			t.Errorf("got %v, %v", list, err)
		}
		if n := len(server.Queries()); n != 5 {
			t.Errorf("%d questions: %v", n, server.Queries())
		}
	})
}

// An MX record without data is a broken answer, not a null MX.
func TestEmptyRecord(t *testing.T) {
	q := question{"example.com.", TypeMX}
	m := new(miekg.Msg).SetQuestion("example.com.", miekg.TypeMX)
	m.Response = true
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint16(b[6:], 1)
	b = append(b, 0xc0, 12, 0, 15, 0, 1, 0, 0, 1, 0, 0, 0)
	got, err := exchange.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if s := interpret(q, &message{Msg: got}); s.outcome != failed || !errors.Is(s.err, ErrTemporary) {
		t.Errorf("got %+v", s)
	}
}

// Many who ask the same at once cause one question.
func TestMerge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(t, strings.ReplaceAll(exampleZone, "$TTL 300", "$TTL 0"))
		server.Break(dnstest.Fault{Delay: time.Second})
		r := newResolver(t, Options{Servers: []string{"192.0.2.1"}, Dial: server.Dial})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if mx, err := r.MX(t.Context(), "example.com"); err != nil || len(mx) != 2 {
					t.Errorf("got %v, %v", mx, err)
				}
			})
		}
		wg.Wait()
		if n := len(server.Queries()); n != 1 {
			t.Errorf("%d questions", n)
		}
	})
}

// When the one who asks goes away, another of those who wait asks; whoever goes
// away does so at once.
func TestMergeCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(t, exampleZone)
		server.Break(dnstest.Fault{Delay: 2 * time.Second})
		r := newResolver(t, Options{Servers: []string{"192.0.2.1"}, Dial: server.Dial})
		began := time.Now()
		ask := func(patience time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := r.MX(ctx, "example.com")
			return err
		}
		var wg sync.WaitGroup
		for _, patience := range []time.Duration{time.Second, 1500 * time.Millisecond} {
			wg.Go(func() {
				err := ask(patience)
				if !errors.Is(err, ErrTemporary) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(began); took != patience {
					t.Errorf("took %v instead of %v", took, patience)
				}
			})
			synctest.Wait()
		}
		wg.Go(func() {
			if err := ask(time.Minute); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if n := len(server.Queries()); n < 2 || n > 3 {
			t.Errorf("%d questions", n)
		}
		if len(r.flights) != 0 {
			t.Errorf("flights remain: %v", r.flights)
		}
	})
}

func TestCancelledBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(t, exampleZone)
		r := newResolver(t, Options{Servers: []string{"192.0.2.1"}, Dial: server.Dial})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.MX(ctx, "example.com"); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrTemporary) {
			t.Errorf("got %v", err)
		}
		if _, err := r.MX(t.Context(), "example.com"); err != nil {
			t.Errorf("the cancelled lookup was remembered: %v", err)
		}
		if n := len(server.Queries()); n != 1 {
			t.Errorf("%d questions", n)
		}
	})
}

// One half of an address lookup is enough; none is what can't be said.
func TestHalfAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(t, exampleZone+"four.example.com. A 192.0.2.4\n")
		server.Break(dnstest.Fault{Type: "AAAA", Rcode: miekg.RcodeServerFailure})
		r := newResolver(t, Options{Servers: []string{"192.0.2.1"}, Dial: server.Dial})
		if list, err := r.Addresses(t.Context(), "four.example.com"); err != nil || len(list) != 1 {
			t.Errorf("got %v, %v", list, err)
		}
		if _, err := r.Addresses(t.Context(), "example.com"); !errors.Is(err, ErrTemporary) {
			t.Errorf("no address of one kind, and nothing known of the other: %v", err)
		}
	})
}

func TestCacheBounds(t *testing.T) {
	r := newResolver(t, Options{Servers: []string{"192.0.2.1"}, CacheSize: 10})
	c := r.cache
	for i := range 100 {
		c.put(question{fmt.Sprintf("n%d.", i), TypeMX}, step{outcome: noData, ttl: time.Hour})
		c.get(question{"n0.", TypeMX})
	}
	if len(c.entries) != 10 || c.recent.Len() != 10 {
		t.Errorf("%d entries", len(c.entries))
	}
	if _, ok := c.get(question{"n0.", TypeMX}); !ok {
		t.Error("the entry in use was dropped")
	}
	if _, ok := c.get(question{"n50.", TypeMX}); ok {
		t.Error("an old entry was kept")
	}

	c.maxEntries = 1 << 30
	rr := &miekg.TXT{Hdr: miekg.RR_Header{Name: "big."}, Txt: repeat(strings.Repeat("x", 255), 200)}
	for i := range 1000 {
		c.put(question{fmt.Sprintf("n%d.", i), TypeTXT}, step{outcome: found, ttl: time.Hour, records: []miekg.RR{rr}})
		if c.bytes > maxCacheBytes {
			t.Fatalf("%d bytes", c.bytes)
		}
	}
	for el := c.recent.Front(); el != nil; el = c.recent.Front() {
		c.removeLocked(el)
	}
	if c.bytes != 0 || len(c.entries) != 0 {
		t.Errorf("%d bytes and %d entries remain", c.bytes, len(c.entries))
	}
}

// Many lookups at once, with a cache that is too small and a server that fails
// now and then, over sockets.
func TestConcurrent(t *testing.T) {
	var zone strings.Builder
	zone.WriteString("$TTL 1\n")
	for i := range 50 {
		fmt.Fprintf(&zone, "d%d.example. MX 10 mx%d.example.\nmx%d.example. A 192.0.2.%d\nwww%d.example. CNAME mx%d.example.\n", i, i, i, i, i, i)
	}
	server := dnstest.Start(t, zone.String())
	for range 10 {
		server.Break(dnstest.Fault{Times: 1, Rcode: miekg.RcodeServerFailure})
	}
	r := newResolver(t, Options{Servers: []string{server.Addr}, CacheSize: 20})
	var wg sync.WaitGroup
	var failures atomic.Int64
	for i := range 32 {
		wg.Go(func() {
			for j := range 50 {
				n := (i + j) % 50
				mx, err := r.MX(t.Context(), fmt.Sprintf("d%d.example", n))
				if err == nil && mx[0].Host != fmt.Sprintf("mx%d.example", n) {
					t.Errorf("d%d: %v", n, mx)
				}
				list, err2 := r.Addresses(t.Context(), fmt.Sprintf("www%d.example", n))
				if err2 == nil && list[0] != netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}) {
					t.Errorf("www%d: %v", n, list)
				}
				for _, err := range []error{err, err2} {
					if err != nil {
						failures.Add(1)
						if !errors.Is(err, ErrTemporary) {
							t.Error(err)
						}
					}
				}
			}
		})
	}
	wg.Wait()
	if n := failures.Load(); n == 32*100 {
		t.Error("nothing was looked up")
	}
}

// The largest answer that can be sent, made of names that are as long as names
// can be, takes little time and memory.
func TestLargestAnswer(t *testing.T) {
	q := question{"example.com.", TypeMX}
	m := new(miekg.Msg).SetQuestion(q.name, miekg.TypeMX)
	m.Response = true
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	label := append([]byte{63}, strings.Repeat("x", 63)...)
	long := slices.Concat(label, label, label, append([]byte{61}, strings.Repeat("\xff", 61)...), []byte{0})
	at := len(b) + 12
	record := func(owner, data []byte) {
		b = append(b, owner...)
		b = append(b, 0, 5, 0, 1, 0, 0, 1, 0) // CNAME, IN, TTL 256
		b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
		b = append(b, data...)
	}
	record([]byte{0xc0, 12}, long)
	n := 1
	pointer := []byte{0xc0 | byte(at>>8), byte(at)}
	for ; len(b)+14 <= miekg.MaxMsgSize; n++ {
		record(pointer, pointer)
	}
	binary.BigEndian.PutUint16(b[6:], uint16(n))
	began := clock.Processor()
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	reply, err := (&exchange.Query{ID: m.Id, Name: q.name, Type: miekg.TypeMX}).TCP(stream{nil, strings.NewReader(string(framed))})
	if err != nil {
		t.Fatal(err)
	}
	got := &message{Msg: reply.Msg}
	if s := interpret(q, got); s.outcome != failed || !errors.Is(s.err, ErrTemporary) {
		t.Errorf("a loop of aliases: %+v", s)
	}
	if err := Format(io.Discard, newAnswer(q, got)); err != nil {
		t.Error(err)
	}
	if took := clock.Processor() - began; took > time.Second {
		t.Errorf("took %v", took)
	} else {
		t.Logf("%d records in %v", n, took)
	}
}
