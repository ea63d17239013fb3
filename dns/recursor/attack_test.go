package recursor

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/exchange"
	"postrider/internal/clock"
)

func rr(t testing.TB, s string) miekg.RR {
	t.Helper()
	r, err := miekg.NewRR(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// poison is what a server of one zone would like us to believe of another.
var poison = []string{
	"www.bank.org. 86400 IN A 6.6.6.6",
	"bank.org. 86400 IN NS ns.evil.com.",
	"org. 86400 IN NS ns.evil.com.",
	". 86400 IN NS ns.evil.com.",
	"ns.org. 86400 IN A 6.6.6.6",
	"a.root. 86400 IN A 6.6.6.6",
}

// A server that adds what nobody asked for, in every section, changes nothing
// outside its zone.
func TestPoison(t *testing.T) {
	for _, section := range []string{"answer", "authority", "additional", "all"} {
		for _, name := range []string{"www.evil.com.", "none.evil.com.", "cname.evil.com.", "sub.sub.evil.com."} {
			t.Run(section+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := ordinary(t)
					for _, a := range []string{"192.5.6.30", "192.5.6.31"} {
						w.serve(a, "com.", comZone+"evil NS ns.evil\nns.evil A 9.9.9.66\n")
					}
					w.serve("192.5.6.40", "org.", "@ SOA ns nobody 1 1h 10m 5d 60\n@ NS ns\nns A 192.5.6.40\nbank NS ns.bank\nns.bank A 9.9.9.3\n")
					w.serve("9.9.9.3", "bank.org.", "@ SOA ns nobody 1 1h 10m 5d 60\n@ NS ns\nns A 9.9.9.3\nwww A 9.9.9.4\n")
					w.serve("9.9.9.66", "evil.com.", "@ SOA ns nobody 1 1h 10m 5d 60\n@ NS ns\nns A 9.9.9.66\nwww A 9.9.9.67\ncname CNAME www.bank.org.\nsub NS ns.sub\nns.sub A 9.9.9.66\n")
					w.twist("9.9.9.66", func(q asking, m *miekg.Msg) []*miekg.Msg {
						m = m.Copy()
						for _, s := range poison {
							if section == "answer" || section == "all" {
								m.Answer = append(m.Answer, rr(t, s))
							}
							if section == "authority" || section == "all" {
								m.Ns = append(m.Ns, rr(t, s))
							}
							if section == "additional" || section == "all" {
								m.Extra = append([]miekg.RR{rr(t, s)}, m.Extra...)
							}
						}
						return []*miekg.Msg{m}
					})
					r := newTest(t, w, Options{})
					a := ask(t, r, name, miekg.TypeA)
					if strings.Contains(data(a), "6.6.6.6") {
						t.Errorf("%s is %s", name, data(a))
					}
					for _, row := range r.Snapshot(1000) {
						if strings.Contains(row.String(), "6.6.6.6") || strings.Contains(strings.Join(row.Data, " "), "ns.evil.com.") && row.Name != "evil.com" {
							t.Errorf("the cache holds %v", row)
						}
					}
					if a := ask(t, r, "www.bank.org.", miekg.TypeA); data(a) != "NOERROR; A 9.9.9.4" {
						t.Errorf("www.bank.org is %s", data(a))
					}
				})
			})
		}
	}
}

// Wrong datagrams before the right one are not the answer.
func TestForged(t *testing.T) {
	forge := func(edit func(m *miekg.Msg)) func(q asking, m *miekg.Msg) []*miekg.Msg {
		return func(q asking, m *miekg.Msg) []*miekg.Msg {
			if q.network == "tcp" {
				return []*miekg.Msg{m}
			}
			bad := m.Copy()
			bad.Answer = []miekg.RR{&miekg.A{Hdr: miekg.RR_Header{Name: q.query.Question[0].Name, Rrtype: miekg.TypeA, Class: 1, Ttl: 300}, A: []byte{6, 6, 6, 6}}}
			bad.Rcode, bad.Ns = 0, nil
			edit(bad)
			return []*miekg.Msg{bad, bad, m}
		}
	}
	for name, edit := range map[string]func(m *miekg.Msg){
		"id":       func(m *miekg.Msg) { m.Id++ },
		"question": func(m *miekg.Msg) { m.Question[0].Name = "other.com." },
		"type":     func(m *miekg.Msg) { m.Question[0].Qtype = miekg.TypeTXT },
		"class":    func(m *miekg.Msg) { m.Question[0].Qclass = miekg.ClassCHAOS },
		"query":    func(m *miekg.Msg) { m.Response = false },
		"case":     func(m *miekg.Msg) { m.Question[0].Name = swapCase(m.Question[0].Name) },
		"cookie": func(m *miekg.Msg) {
			m.IsEdns0().Option = []miekg.EDNS0{&miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: "00112233445566778899aabbccddeeff"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := ordinary(t)
				w.twistAll(forge(edit))
				r := newTest(t, w, Options{})
				if a := ask(t, r, "web.example.com.", miekg.TypeA); data(a) != "NOERROR; A 9.9.9.80" {
					t.Errorf("got %v", data(a))
				}
			})
		})
	}
}

func swapCase(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z':
			return c - 'a' + 'A'
		case 'A' <= c && c <= 'Z':
			return c - 'A' + 'a'
		}
		return c
	}, s)
}

// Somebody who guesses at answers makes us ask over TCP.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		w.twist("9.9.9.1", func(q asking, m *miekg.Msg) []*miekg.Msg {
			if q.network == "tcp" {
				return []*miekg.Msg{m}
			}
			var list []*miekg.Msg
			for i := range 200 {
				bad := m.Copy()
				bad.Id += uint16(i + 1)
				list = append(list, bad)
			}
			return append(list, m)
		})
		w.twist("9.9.9.2", func(asking, *miekg.Msg) []*miekg.Msg { return nil })
		r := newTest(t, w, Options{})
		if a := ask(t, r, "web.example.com.", miekg.TypeA); data(a) != "NOERROR; A 9.9.9.80" {
			t.Errorf("got %v, %v", data(a), a.Err)
		}
	})
}

// Answers that are cut or changed at any octet are refused, or are answers: of
// their own name alone, within the bounds of one question, and other names are
// found as before.
func TestMangled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		r := newTest(t, w, Options{})
		if a := ask(t, r, "web.example.com.", miekg.TypeA); data(a) != "NOERROR; A 9.9.9.80" {
			t.Fatalf("got %v", data(a))
		}
		size := 0
		changes := []func(b []byte, i int) []byte{func(b []byte, i int) []byte { return b[:i] }}
		for _, c := range []byte{0, 1, 0x3f, 0xc0, 0xff} {
			changes = append(changes, func(b []byte, i int) []byte { b[i] = c; return b })
		}
		for _, change := range changes {
			for i := 0; i == 0 || i < size; i++ {
				w.mangle = func(b []byte) []byte {
					size = len(b)
					if i < len(b) {
						b = change(b, i)
					}
					return b
				}
				r.Flush("web.example.com.")
				w.queries()
				began := time.Now()
				a := ask(t, r, "web.example.com.", miekg.TypeA)
				if took, n := time.Since(began), len(w.queries()); took > 16*time.Second || n > maxQueries {
					t.Errorf("octet %d: %d queries, %v", i, n, took)
				}
				for _, rr := range a.Answer {
					if !strings.EqualFold(rr.Header().Name, "web.example.com.") {
						t.Errorf("octet %d: %v", i, rr)
					}
				}
				w.mangle = nil
				time.Sleep(20 * time.Minute) // servers that failed are tried again, caches forget
				if a := ask(t, r, "mx.example.com.", miekg.TypeA); data(a) != "NOERROR; A 9.9.9.25" {
					t.Errorf("octet %d: afterwards: %v, %v", i, data(a), a.Err)
				}
			}
		}
		if size < 50 {
			t.Errorf("an answer of %d octets", size)
		}
	})
}

// Loops of aliases, of delegations, of servers' names end soon.
func TestLoops(t *testing.T) {
	for name, zones := range map[string][2]string{
		"alias of itself":     {"", "x CNAME x\n"},
		"two aliases":         {"", "x CNAME y\ny CNAME x\n"},
		"long chain":          {"", longChain(40)},
		"names of each other": {"loop NS ns.pool\npool NS ns.loop\n", "x CNAME www.loop.com.\n"},
		"name below itself":   {"loop NS ns.loop\n", "x CNAME www.loop.com.\n"},
		"dname":               {"", "d DNAME d.d\nx CNAME a.d\n"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := ordinary(t)
				for _, a := range []string{"192.5.6.30", "192.5.6.31"} {
					w.serve(a, "com.", comZone+zones[0])
				}
				for _, a := range []string{"9.9.9.1", "9.9.9.2"} {
					w.serve(a, "example.com.", exampleZone+zones[1])
				}
				r := newTest(t, w, Options{})
				began := time.Now()
				a := ask(t, r, "x.example.com.", miekg.TypeA)
				if a.Rcode != miekg.RcodeServerFailure || a.Err == nil || len(a.ExtendedErrors) == 0 {
					t.Errorf("got %+v", a)
				}
				if n, took := len(w.queries()), time.Since(began); n > 60 || took > time.Second {
					t.Errorf("%d queries, %v", n, took)
				}
			})
		})
	}
}

func longChain(n int) string {
	var b strings.Builder
	b.WriteString("x CNAME c1\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "c%d CNAME c%d\n", i, i+1)
	}
	fmt.Fprintf(&b, "c%d A 9.9.9.9\n", n)
	return b.String()
}

// NXNSAttack: a delegation to many servers that do not exist makes few
// questions to the victim, however often it is tried.
func TestNXNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		var evil strings.Builder
		evil.WriteString("@ SOA ns nobody 1 1h 10m 5d 60\n@ NS ns\nns A 9.9.9.66\n")
		for sub := range 20 {
			for i := range 30 {
				fmt.Fprintf(&evil, "sub%d NS x%d-%d.victim.com.\n", sub, sub, i)
			}
		}
		for _, a := range []string{"192.5.6.30", "192.5.6.31"} {
			w.serve(a, "com.", comZone+"evil NS ns.evil\nns.evil A 9.9.9.66\nvictim NS ns.victim\nns.victim A 9.9.9.77\n")
		}
		w.serve("9.9.9.66", "evil.com.", evil.String())
		w.serve("9.9.9.77", "victim.com.", "@ SOA ns nobody 1 1h 10m 5d 60\n@ NS ns\nns A 9.9.9.77\n")
		r := newTest(t, w, Options{})
		began := clock.Processor()
		for sub := range 20 {
			a := ask(t, r, fmt.Sprintf("www.sub%d.evil.com.", sub), miekg.TypeA)
			if a.Rcode != miekg.RcodeServerFailure {
				t.Errorf("got %v", data(a))
			}
			victim, all := 0, w.queries()
			for _, q := range all {
				if q.addr == netip.MustParseAddr("9.9.9.77") {
					victim++
				}
			}
			if victim > 10 {
				t.Fatalf("the victim got %d queries of %d", victim, len(all))
			}
		}
		if took := clock.Processor() - began; took > 2*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// Many who ask the same at once cause the queries of one.
func TestMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		w.twist("9.9.9.1", late(100*time.Millisecond))
		w.twist("9.9.9.2", late(100*time.Millisecond))
		r := newTest(t, w, Options{})
		var wg sync.WaitGroup
		for i := range 300 {
			name := []string{"web.example.com.", "mx.example.com.", "WEB.example.com."}[i%3]
			wg.Go(func() {
				if a := ask(t, r, name, miekg.TypeA); a.Err != nil || len(a.Answer) != 1 {
					t.Errorf("got %v, %v", data(a), a.Err)
				}
			})
		}
		wg.Wait()
		if n := len(w.queries()); n > 12 {
			t.Errorf("%d queries", n)
		}
	})
}

// So do many different names that need the same name server's address.
func TestMergedFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		w.twistAll(late(50 * time.Millisecond))
		r := newTest(t, w, Options{})
		ask(t, r, "web.example.com.", miekg.TypeA)
		w.queries()
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() { ask(t, r, fmt.Sprintf("w%d.glueless.com.", i), miekg.TypeA) })
		}
		wg.Wait()
		n := 0
		for _, q := range w.queries() {
			if q.name == "ns.hoster.org." {
				n++
			}
		}
		if n > 6 {
			t.Errorf("%d questions for the address of one server", n)
		}
	})
}

// Addresses of servers outside the zone that refers to them are not believed:
// they are asked for.
func TestForeignGlue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		for _, a := range []string{"9.9.9.1", "9.9.9.2"} {
			w.serve(a, "example.com.", exampleZone+"sub NS ns.hoster.org.\n")
			w.twist(a, func(q asking, m *miekg.Msg) []*miekg.Msg {
				if len(m.Answer) == 0 && len(m.Ns) > 0 && m.Ns[0].Header().Name == "sub.example.com." {
					m.Extra = append(m.Extra, rr(t, "ns.hoster.org. 300 IN A 6.6.6.6"))
				}
				return []*miekg.Msg{m}
			})
		}
		w.serve("9.9.9.2", "sub.example.com.", "@ SOA ns nobody 1 1h 10m 5d 60\n@ NS ns.hoster.org.\n@ A 9.9.9.50\n")
		r := newTest(t, w, Options{})
		if a := ask(t, r, "sub.example.com.", miekg.TypeA); data(a) != "NOERROR; A 9.9.9.50" {
			t.Errorf("got %v, %v", data(a), a.Err)
		}
		for _, q := range w.queries() {
			if q.addr.String() == "6.6.6.6" {
				t.Errorf("asked %v", q)
			}
		}
	})
}

// A flood of random names stays within the cache's size, and what is asked for
// meanwhile stays known.
func TestCacheBound(t *testing.T) {
	const size = 1 << 20
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		r := newTest(t, w, Options{CacheBytes: size})
		for i := range 4000 {
			name := fmt.Sprintf("random-%d-%s.example.com.", i, strings.Repeat("x", i%40))
			if a := ask(t, r, name, miekg.TypeTXT); a.Rcode != miekg.RcodeNameError {
				t.Fatalf("got %v, %v", data(a), a.Err)
			}
			if i%100 == 0 {
				ask(t, r, "web.example.com.", miekg.TypeA)
			}
			r.cache.mu.Lock()
			if r.cache.bytes > size || len(r.cache.entries) != r.cache.recent.Len() {
				t.Fatalf("%d octets, %d and %d entries", r.cache.bytes, len(r.cache.entries), r.cache.recent.Len())
			}
			r.cache.mu.Unlock()
		}
		w.queries()
		if a := ask(t, r, "web.example.com.", miekg.TypeA); !a.FromCache {
			t.Errorf("got %+v", a)
		}
	})
}

// What the cache counts is what it takes: with signed answers, small ones,
// delegations, proofs, the heap stays within the size that was set.
func TestCacheMemory(t *testing.T) {
	const size = 2 << 20
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	unpacked := func(m *miekg.Msg) *miekg.Msg {
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if m, err = exchange.Parse(b); err != nil {
			t.Fatal(err)
		}
		return m
	}
	sig := func(name, typ string) string {
		return name + " 300 IN RRSIG " + typ + " 13 3 300 20300101000000 20200101000000 1 example.com. " + strings.Repeat("A", 86) + "=="
	}
	for kind, records := range map[string]func(name string) (answer, ns, extra []string){
		"addresses": func(name string) (a, n, e []string) { return []string{name + " 300 IN A 9.9.9.9"}, nil, nil },
		"signed": func(name string) (a, n, e []string) {
			return []string{name + " 300 IN A 9.9.9.9", sig(name, "A")}, nil, nil
		},
		"denied": func(name string) (a, n, e []string) {
			return nil, []string{"example.com. 60 IN SOA ns.example.com. nobody. 1 2 3 4 60", sig("example.com.", "SOA"),
				name + " 60 IN NSEC z." + name + " A RRSIG NSEC", sig(name, "NSEC")}, nil
		},
		"texts": func(name string) (a, n, e []string) {
			return []string{name + " 300 IN TXT " + strings.Repeat("x", 200)}, nil, nil
		},
		"delegated": func(name string) (a, n, e []string) {
			return nil, []string{name + " 300 IN NS ns." + name, name + " 300 IN NS ns2.example.com."}, []string{"ns." + name + " 300 IN A 9.9.9.9"}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			template := new(miekg.Msg)
			answer, ns, extra := records("random.example.com.")
			for i, list := range [][]string{answer, ns, extra} {
				for _, s := range list {
					section := []*[]miekg.RR{&template.Answer, &template.Ns, &template.Extra}[i]
					*section = append(*section, rr(t, s))
				}
			}
			before := heap()
			c := newCache(size, clock.System())
			for i := range 5_000 {
				q := key{fmt.Sprintf("random-%d.example.com.", i), miekg.TypeA}
				if kind == "texts" {
					q.typ = miekg.TypeTXT
				}
				m := template.Copy()
				m.SetQuestion(q.name, q.typ)
				m.Response, m.Authoritative = true, kind != "delegated"
				for _, rr := range slices.Concat(m.Answer, m.Ns, m.Extra) {
					rr.Header().Name = strings.Replace(rr.Header().Name, "random.example.com.", q.name, 1)
					if ns, ok := rr.(*miekg.NS); ok {
						ns.Ns = strings.Replace(ns.Ns, "random.example.com.", q.name, 1)
					}
				}
				res, err := read("example.com.", q, unpacked(m), false)
				if err != nil {
					t.Fatal(err)
				}
				now := time.Now()
				if res.cut != nil {
					res.cut.stored = now
					c.delegate(res.cut)
					continue
				}
				res.piece.stored = now
				c.put(res.piece)
				if kind == "denied" {
					c.learn("example.com.", res.piece, res.piece.ns[2:3])
				}
			}
			took := heap() - before
			if took > size {
				t.Errorf("a cache of %d octets takes %d with %d entries", size, took, len(c.entries))
			}
			t.Logf("%d entries, counted %d, taken %d", len(c.entries), c.bytes, took)
			runtime.KeepAlive(c)
		})
	}
}

// The largest answer that fits into a message takes little time.
func TestLargestAnswer(t *testing.T) {
	m := new(miekg.Msg).SetQuestion("www.evil.com.", miekg.TypeA)
	m.Response, m.Authoritative, m.Compress = true, true, true
	for i := range 4000 {
		m.Answer = append(m.Answer, &miekg.A{Hdr: miekg.RR_Header{Name: "www.evil.com.", Rrtype: miekg.TypeA, Class: 1, Ttl: 300}, A: []byte{9, 9, byte(i >> 8), byte(i)}})
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	began := clock.Processor()
	m, err = exchange.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	res, err := read("evil.com.", key{"www.evil.com.", miekg.TypeA}, m, false)
	if err != nil || len(res.piece.answer) != maxRecords {
		t.Errorf("%v", err)
	}
	if took := clock.Processor() - began; took > time.Second {
		t.Errorf("took %v", took)
	}
}
