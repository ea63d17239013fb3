package recursor

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	miekg "github.com/miekg/dns"
)

// No server sees more of the name than it must (RFC 9156), and none sees the
// type but the zone's own.
func TestMinimised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		r := newTest(t, w, Options{})
		if a := ask(t, r, "deep.in.here.example.com.", miekg.TypeTXT); a.Err != nil {
			t.Fatal(a.Err)
		}
		for _, q := range w.queries() {
			labels := miekg.CountLabel(q.name)
			switch {
			case strings.HasPrefix(q.addr.String(), "198.41.") && labels > 1,
				strings.HasPrefix(q.addr.String(), "192.5.6.3") && labels > 2,
				q.typ == miekg.TypeTXT && labels < 5:
				t.Errorf("asked %v", q)
			}
		}
	})
}

// Old servers that know only whole names are asked for them (section 3).
func TestMinimisedFallback(t *testing.T) {
	for name, rcode := range map[string]int{"refused": miekg.RcodeRefused, "nxdomain": miekg.RcodeNameError, "servfail": miekg.RcodeServerFailure} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := ordinary(t)
				for _, a := range []string{"9.9.9.1", "9.9.9.2"} {
					w.twist(a, func(q asking, m *miekg.Msg) []*miekg.Msg {
						if q.name == "here.example.com." || q.name == "in.here.example.com." {
							m.Rcode, m.Answer = rcode, nil
						}
						return []*miekg.Msg{m}
					})
				}
				r := newTest(t, w, Options{})
				if a := ask(t, r, "deep.in.here.example.com.", miekg.TypeA); data(a) != "NOERROR; A 9.9.9.99" {
					t.Errorf("got %v, %v", data(a), a.Err)
				}
			})
		})
	}
}

// A name of very many labels costs a bounded number of queries.
func TestMinimisedBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		long := strings.Repeat("a.", 100) + "here.example.com."
		for _, a := range []string{"9.9.9.1", "9.9.9.2"} {
			w.serve(a, "example.com.", exampleZone+strings.Repeat("a.", 99)+"a.here A 9.9.9.5\n")
		}
		r := newTest(t, w, Options{})
		if a := ask(t, r, long, miekg.TypeA); data(a) != "NOERROR; A 9.9.9.5" {
			t.Errorf("got %v, %v", data(a), a.Err)
		}
		if n := len(w.queries()); n > 20 {
			t.Errorf("%d queries", n)
		}
	})
}

// Names go out in random case, ports are the system's and identifiers random.
func TestMixedCase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		r := newTest(t, w, Options{})
		seen, ids := map[string]bool{}, map[uint16]bool{}
		for range 10 {
			ask(t, r, "web.example.com.", miekg.TypeA)
			r.Flush(".")
		}
		n := 0
		for _, q := range w.queries() {
			n++
			ids[q.query.Id] = true
			if q.name == "web.example.com." {
				seen[q.query.Question[0].Name] = true
			}
		}
		if len(seen) < 5 || len(ids) < n-2 {
			t.Errorf("spellings %v, %d identifiers of %d queries", seen, len(ids), n)
		}
	})
}

// peculiar are servers that do not do all that is asked of them.
var peculiar = map[string]func(q asking, m *miekg.Msg) []*miekg.Msg{
	"no EDNS, FORMERR": func(q asking, m *miekg.Msg) []*miekg.Msg {
		if q.query.IsEdns0() != nil {
			m.Rcode, m.Answer, m.Ns, m.Extra = miekg.RcodeFormatError, nil, nil, nil
		}
		return []*miekg.Msg{m}
	},
	"no EDNS, FORMERR without a question": func(q asking, m *miekg.Msg) []*miekg.Msg {
		if q.query.IsEdns0() != nil {
			m.Rcode, m.Question, m.Answer, m.Ns, m.Extra = miekg.RcodeFormatError, nil, nil, nil, nil
		}
		return []*miekg.Msg{m}
	},
	"no EDNS, NOTIMP": func(q asking, m *miekg.Msg) []*miekg.Msg {
		if q.query.IsEdns0() != nil {
			m.Rcode, m.Answer, m.Ns, m.Extra = miekg.RcodeNotImplemented, nil, nil, nil
		}
		return []*miekg.Msg{m}
	},
	"EDNS ignored": func(q asking, m *miekg.Msg) []*miekg.Msg {
		m.Extra = slices.DeleteFunc(slices.Clone(m.Extra), func(rr miekg.RR) bool { return rr.Header().Rrtype == miekg.TypeOPT })
		return []*miekg.Msg{m}
	},
	"truncating": func(q asking, m *miekg.Msg) []*miekg.Msg {
		if q.network == "udp" {
			m.Truncated, m.Answer, m.Ns = true, nil, nil
		}
		return []*miekg.Msg{m}
	},
	"lower case": func(q asking, m *miekg.Msg) []*miekg.Msg {
		m.Question[0].Name = strings.ToLower(m.Question[0].Name)
		return []*miekg.Msg{m}
	},
	"lower case without TCP": func(q asking, m *miekg.Msg) []*miekg.Msg {
		m.Question[0].Name = strings.ToLower(m.Question[0].Name)
		if q.network == "tcp" {
			return nil
		}
		return []*miekg.Msg{m}
	},
	"cookies": func(q asking, m *miekg.Msg) []*miekg.Msg {
		for _, o := range q.query.IsEdns0().Option {
			c := o.(*miekg.EDNS0_COOKIE)
			server := hex.EncodeToString([]byte("8 octets"))
			if c.Cookie[16:] != server && q.network == "udp" {
				m.Rcode, m.Answer, m.Ns = miekg.RcodeBadCookie, nil, nil
			}
			m.IsEdns0().Option = append(m.IsEdns0().Option, &miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: c.Cookie[:16] + server})
		}
		return []*miekg.Msg{m}
	},
	"BADVERS": func(q asking, m *miekg.Msg) []*miekg.Msg {
		if q.query.IsEdns0() != nil {
			m.Rcode, m.Answer, m.Ns = miekg.RcodeBadVers, nil, nil
		}
		return []*miekg.Msg{m}
	},
}

func TestPeculiar(t *testing.T) {
	for name, twist := range peculiar {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := ordinary(t)
				w.twistAll(twist)
				r := newTest(t, w, Options{})
				if a := ask(t, r, "web.example.com.", miekg.TypeA); data(a) != "NOERROR; A 9.9.9.80" {
					t.Errorf("got %v, %v", data(a), a.Err)
				}
				// What was learnt about the servers saves queries.
				w.queries()
				if a := ask(t, r, "mx.example.com.", miekg.TypeA); data(a) != "NOERROR; A 9.9.9.25" {
					t.Errorf("got %v, %v", data(a), a.Err)
				}
				if n := len(w.queries()); n > 4 {
					t.Errorf("%d queries for a neighbour", n)
				}
			})
		})
	}
}

// An answer without a cookie from a server that had sent one is not believed,
// but over TCP.
func TestCookieExpected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		var with atomic.Bool
		with.Store(true)
		for _, a := range []string{"9.9.9.1", "9.9.9.2"} {
			w.twist(a, func(q asking, m *miekg.Msg) []*miekg.Msg {
				if with.Load() {
					return peculiar["cookies"](q, m)
				}
				m = m.Copy()
				if len(m.Answer) > 0 && q.network == "udp" {
					m.Answer = []miekg.RR{rr(t, q.name+" 300 IN A 6.6.6.6")}
				}
				return []*miekg.Msg{m}
			})
		}
		r := newTest(t, w, Options{})
		ask(t, r, "web.example.com.", miekg.TypeA)
		ask(t, r, "mx.example.com.", miekg.TypeA)
		ask(t, r, "ns1.example.com.", miekg.TypeA)
		with.Store(false)
		r.Flush("web.example.com.")
		if a := ask(t, r, "web.example.com.", miekg.TypeA); strings.Contains(data(a), "6.6.6.6") {
			t.Errorf("got %v", data(a))
		}
	})
}

// The TTL counts down, ends, and what has none is for one question.
func TestTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		for _, a := range []string{"9.9.9.1", "9.9.9.2"} {
			w.serve(a, "example.com.", exampleZone+"zero 0 A 9.9.9.7\nlong 9999999 A 9.9.9.8\nneg CNAME gone\n")
		}
		r := newTest(t, w, Options{NoPrefetch: true})
		ttl := func(name string, want uint32) {
			t.Helper()
			a := ask(t, r, name, miekg.TypeA)
			if a.Err != nil || len(a.Answer) == 0 || a.Answer[0].Header().Ttl != want {
				t.Errorf("%s: got %v, %v, want %d", name, a.Answer, a.Err, want)
			}
		}
		ttl("web.example.com.", 300)
		time.Sleep(100 * time.Second)
		ttl("web.example.com.", 200)
		time.Sleep(201 * time.Second)
		w.queries()
		ttl("web.example.com.", 300)
		if len(w.queries()) == 0 {
			t.Error("nobody was asked after the end")
		}
		ttl("zero.example.com.", 0)
		w.queries()
		ttl("zero.example.com.", 0)
		if len(w.queries()) == 0 {
			t.Error("nobody was asked for what has no TTL")
		}
		ttl("long.example.com.", uint32(maxTTL/time.Second))
		// RFC 2308 section 5: the lesser of the SOA's own TTL and its minimum.
		ask(t, r, "none.example.com.", miekg.TypeA)
		time.Sleep(59 * time.Second)
		w.queries()
		a := ask(t, r, "none.example.com.", miekg.TypeA)
		if len(w.queries()) != 0 || len(a.Ns) != 1 || a.Ns[0].Header().Ttl != 1 {
			t.Errorf("got %v", a)
		}
		time.Sleep(2 * time.Second)
		ask(t, r, "none.example.com.", miekg.TypeA)
		if len(w.queries()) == 0 {
			t.Error("a negative answer outlived its TTL")
		}
	})
}

// On an outage, what is over is given with a word about it, after a short wait
// at first and at once then (RFC 8767).
func TestStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		r := newTest(t, w, Options{})
		ask(t, r, "www.example.com.", miekg.TypeA)
		ask(t, r, "none.example.com.", miekg.TypeA)
		time.Sleep(time.Hour)
		var down atomic.Bool
		down.Store(true)
		w.twistAll(func(_ asking, m *miekg.Msg) []*miekg.Msg {
			if down.Load() {
				return nil
			}
			return []*miekg.Msg{m}
		})
		began := time.Now()
		a := ask(t, r, "www.example.com.", miekg.TypeA)
		if data(a) != "NOERROR; CNAME web.example.com.; A 9.9.9.80" || !a.Stale || a.Err != nil || a.Answer[0].Header().Ttl != 30 ||
			len(a.ExtendedErrors) != 1 || a.ExtendedErrors[0].Code != miekg.ExtendedErrorCodeStaleAnswer {
			t.Errorf("got %+v", a)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
		if a := ask(t, r, "none.example.com.", miekg.TypeA); a.Rcode != miekg.RcodeNameError || a.ExtendedErrors[0].Code != miekg.ExtendedErrorCodeStaleNXDOMAINAnswer {
			t.Errorf("got %+v", a)
		}
		time.Sleep(20 * time.Second) // the attempts have failed by now
		began = time.Now()
		if a := ask(t, r, "www.example.com.", miekg.TypeA); !a.Stale || time.Since(began) > 0 {
			t.Errorf("got %+v after %v", a, time.Since(began))
		}
		if a := ask(t, r, "mx.example.com.", miekg.TypeA); a.Rcode != miekg.RcodeServerFailure || !errors.Is(a.Err, errNoServer) && a.Err == nil {
			t.Errorf("got %+v", a)
		}
		down.Store(false)
		time.Sleep(10 * time.Minute)
		if a := ask(t, r, "www.example.com.", miekg.TypeA); a.Stale || a.Err != nil {
			t.Errorf("got %+v", a)
		}
		down.Store(true)
		time.Sleep(maxStale + time.Hour)
		if a := ask(t, r, "www.example.com.", miekg.TypeA); a.Rcode != miekg.RcodeServerFailure {
			t.Errorf("older than a day: %+v", a)
		}
	})
}

// A popular answer is renewed ahead of its end, so that nobody waits.
func TestPrefetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		r := newTest(t, w, Options{})
		for range 5 {
			ask(t, r, "web.example.com.", miekg.TypeA)
		}
		ask(t, r, "mx.example.com.", miekg.TypeA) // asked for once only
		time.Sleep(280 * time.Second)
		w.queries()
		a := ask(t, r, "web.example.com.", miekg.TypeA)
		if !a.FromCache || a.Answer[0].Header().Ttl != 20 || !a.FreshUntil.Before(time.Now()) {
			t.Errorf("got %+v", a)
		}
		ask(t, r, "mx.example.com.", miekg.TypeA)
		synctest.Wait()
		if list := w.queries(); len(list) != 1 || list[0].name != "web.example.com." {
			t.Errorf("asked %v", list)
		}
		if a := ask(t, r, "web.example.com.", miekg.TypeA); a.Answer[0].Header().Ttl != 300 {
			t.Errorf("got %+v", a)
		}
	})
}

// Silent servers are asked last, less and less, and used again when they are
// back.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		var down atomic.Bool
		down.Store(true)
		w.twist("9.9.9.1", func(_ asking, m *miekg.Msg) []*miekg.Msg {
			if down.Load() {
				return nil
			}
			return []*miekg.Msg{m}
		})
		r := newTest(t, w, Options{NoStale: true})
		to := func() (n int) {
			for _, q := range w.queries() {
				if q.addr.String() == "9.9.9.1" {
					n++
				}
			}
			return n
		}
		for range 50 {
			r.Flush("web.example.com.")
			if a := ask(t, r, "web.example.com.", miekg.TypeA); a.Err != nil {
				t.Fatal(a.Err)
			}
		}
		if n := to(); n > 12 {
			t.Errorf("a silent server got %d queries", n)
		}
		down.Store(false)
		time.Sleep(time.Hour)
		for range 100 {
			r.Flush("web.example.com.")
			ask(t, r, "web.example.com.", miekg.TypeA)
		}
		if n := to(); n == 0 {
			t.Error("a server that is back gets no queries")
		}
	})
}

// The faster server gets most of the queries.
func TestRoundTrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		for a, d := range map[string]time.Duration{"9.9.9.1": 5 * time.Millisecond, "9.9.9.2": 300 * time.Millisecond} {
			w.twist(a, late(d))
		}
		r := newTest(t, w, Options{})
		ask(t, r, "web.glueless.com.", miekg.TypeA) // teaches the second server's address
		n := map[string]int{}
		for range 200 {
			r.Flush("web.example.com.")
			ask(t, r, "web.example.com.", miekg.TypeA)
		}
		for _, q := range w.queries() {
			n[q.addr.String()]++
		}
		if n["9.9.9.1"] < 150 || n["9.9.9.2"] == 0 {
			t.Errorf("queries: %v", n)
		}
		for _, s := range r.Servers(10) {
			if s.Addr.String() == "9.9.9.1" && (s.RoundTrip < 4*time.Millisecond || s.RoundTrip > 10*time.Millisecond) {
				t.Errorf("%+v", s)
			}
		}
	})
}

// Without recursion the cache answers, or says whom one might ask.
func TestNoRecursion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		r := newTest(t, w, Options{})
		without := func(name string) Answer {
			return r.Resolve(t.Context(), miekg.Question{Name: name, Qtype: miekg.TypeA, Qclass: 1}, Ask{NoRecursion: true})
		}
		if a := without("web.example.com."); a.Rcode != miekg.RcodeServerFailure || len(w.queries()) != 0 {
			t.Errorf("got %+v", a)
		}
		ask(t, r, "web.example.com.", miekg.TypeA)
		w.queries()
		if a := without("web.example.com."); data(a) != "NOERROR; A 9.9.9.80" || !a.FromCache {
			t.Errorf("got %+v", a)
		}
		if a := without("mx.example.com."); len(a.Answer) != 0 || len(a.Ns) != 2 || len(a.Extra) != 1 || len(w.queries()) != 0 {
			t.Errorf("got %+v", a)
		}
	})
}

// The root's servers are those that the root says (RFC 8109): hints are only
// where to ask for them.
func TestPriming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		h, err := ReadHints(strings.NewReader(". NS old.\nold. A 198.41.0.99\n. NS a.root.\na.root. A 198.41.0.4\n"), "hints")
		if err != nil {
			t.Fatal(err)
		}
		r := newTest(t, w, Options{Hints: h})
		if a := ask(t, r, "web.example.com.", miekg.TypeA); a.Err != nil {
			t.Fatal(a.Err)
		}
		var rows []string
		for _, row := range r.Snapshot(100) {
			if row.Name == "." && row.Rank == "referral" {
				rows = row.Data
			}
		}
		if strings.Join(rows, " ") != "a.root. b.root." {
			t.Errorf("servers of the root: %v", rows)
		}
	})
}

// A root that leaves out addresses is asked at those of the hints.
func TestPrimingMinimal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		for _, a := range []string{"198.41.0.4", "198.41.0.5"} {
			w.twist(a, func(q asking, m *miekg.Msg) []*miekg.Msg {
				if q.name == "." {
					m.Extra = nil
				}
				return []*miekg.Msg{m}
			})
		}
		r := newTest(t, w, Options{})
		ask(t, r, "web.example.com.", miekg.TypeA)
		time.Sleep(time.Minute)
		w.queries()
		ask(t, r, "ns.org.", miekg.TypeA)
		for _, q := range w.queries() {
			if q.name == "." {
				t.Errorf("asked %v again", q)
			}
		}
	})
}

// A server that takes two seconds for each answer is waited for.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		w.twist("9.9.9.1", late(2*time.Second))
		w.twist("9.9.9.2", late(2*time.Second))
		r := newTest(t, w, Options{})
		if a := ask(t, r, "web.example.com.", miekg.TypeA); data(a) != "NOERROR; A 9.9.9.80" {
			t.Errorf("got %v, %v", data(a), a.Err)
		}
		began := time.Now()
		if a := ask(t, r, "mx.example.com.", miekg.TypeA); a.Err != nil || time.Since(began) > 4*time.Second {
			t.Errorf("once measured: %v after %v", a.Err, time.Since(began))
		}
	})
}

// Each step of a question is told, to those who join late too.
func TestSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		r := newTest(t, w, Options{})
		var kinds []string
		observe := func(s Step) {
			kinds = append(kinds, s.Kind.String())
			if _, ok := s.Event(); !ok {
				t.Errorf("no event of %v", s)
			}
		}
		q := miekg.Question{Name: "web.example.com.", Qtype: miekg.TypeA, Qclass: 1}
		r.Resolve(t.Context(), q, Ask{Observe: observe})
		if got := strings.Join(kinds, " "); got != "asked answered asked referral asked referral asked answered" {
			t.Errorf("steps: %s", got)
		}
		kinds = nil
		r.Resolve(t.Context(), q, Ask{Observe: observe})
		if got := strings.Join(kinds, " "); got != "cached" {
			t.Errorf("steps: %s", got)
		}
	})
}

// What is known of one type of a name says nothing about another.
func TestTypesApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTest(t, ordinary(t), Options{})
		for _, typ := range []uint16{miekg.TypeCNAME, miekg.TypeTXT, miekg.TypeDS} {
			if a := ask(t, r, "web.example.com.", typ); data(a) != "NOERROR" || a.Err != nil {
				t.Errorf("got %+v", a)
			}
		}
		if a := ask(t, r, "web.example.com.", miekg.TypeA); data(a) != "NOERROR; A 9.9.9.80" {
			t.Errorf("got %+v", a)
		}
	})
}

// The alias that a DNAME record makes is made here, and goes with the record
// also where it is what was asked for (RFC 6672 section 3.1).
func TestDNAME(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ordinary(t)
		for _, a := range []string{"9.9.9.1", "9.9.9.2"} {
			w.serve(a, "example.com.", exampleZone+"d DNAME example.com.\nroot DNAME .\n")
		}
		r := newTest(t, w, Options{})
		for typ, want := range map[uint16]string{
			miekg.TypeA:     "NOERROR; DNAME example.com.; CNAME web.example.com.; A 9.9.9.80",
			miekg.TypeCNAME: "NOERROR; DNAME example.com.; CNAME web.example.com.",
		} {
			if a := ask(t, r, "web.d.example.com.", typ); data(a) != want {
				t.Errorf("got %s, %v", data(a), a.Err)
			}
		}
		if a := ask(t, r, "web.example.com.root.example.com.", miekg.TypeA); data(a) != "NOERROR; DNAME .; CNAME web.example.com.; A 9.9.9.80" {
			t.Errorf("got %s, %v", data(a), a.Err)
		}
		long := strings.Repeat(strings.Repeat("x", 59)+".", 3)
		if a := ask(t, r, long+"d.example.com.", miekg.TypeA); a.Rcode != miekg.RcodeNameError {
			t.Errorf("got %s, %v", data(a), a.Err)
		}
	})
}

// What is in the cache is answered without a queue or a goroutine.
func BenchmarkCached(b *testing.B) {
	r := newTest(b, ordinary(b), Options{})
	q := miekg.Question{Name: "www.example.com.", Qtype: miekg.TypeA, Qclass: miekg.ClassINET}
	if a := r.Resolve(b.Context(), q, Ask{}); a.Err != nil {
		b.Fatal(a.Err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if a := r.Resolve(b.Context(), q, Ask{}); len(a.Answer) != 2 {
			b.Fatal(a)
		}
	}
}

// Each query has a socket of its own, with a port that the system chooses.
func TestPorts(t *testing.T) {
	w := newWorld(t)
	w.serve("127.0.0.1", ".", "@ SOA a.root. nobody. 1 1h 10m 5d 60\n@ NS a.root.\na.root. A 127.0.0.1\n")
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ports := map[string]bool{}
	w.wg.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			ports[from.String()] = true
			for _, b := range w.handle(w.hosts[mustAddr("127.0.0.1")], mustAddr("127.0.0.1"), "udp", buf[:n]) {
				pc.WriteTo(b, from)
			}
		}
	})
	h, err := ReadHints(strings.NewReader(". NS a.root.\na.root. A 127.0.0.1\n"), "hints")
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Options{Hints: h, Port: uint16(pc.LocalAddr().(*net.UDPAddr).Port), Local: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		if a := ask(t, r, fmt.Sprintf("n%d.", i), miekg.TypeA); a.Rcode != miekg.RcodeNameError {
			t.Errorf("got %v, %v", data(a), a.Err)
		}
	}
	r.Close()
	pc.Close()
	w.wg.Wait()
	if n := len(w.queries()); len(ports) < 30 {
		t.Errorf("%d ports for %d queries", len(ports), n)
	}
	// Without leave, loopback is not asked at all.
	r, err = New(Options{Hints: h})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if a := ask(t, r, "n.", miekg.TypeA); a.Rcode != miekg.RcodeServerFailure || len(w.queries()) != 0 {
		t.Errorf("got %+v", a)
	}
}

// The random case of our queries is not in what we say, wherever the server
// repeats it: with pointers to the question (long answers, here) and without.
func TestCaseStays(t *testing.T) {
	for _, size := range []int{0, 40} {
		synctest.Test(t, func(t *testing.T) {
			w := ordinary(t)
			for _, a := range []string{"9.9.9.1", "9.9.9.2"} {
				w.serve(a, "example.com.", exampleZone+"d DNAME example.com.\nself MX 10 self\n")
				w.twist(a, func(q asking, m *miekg.Msg) []*miekg.Msg {
					m = m.Copy()
					for i := range size {
						m.Extra = append(m.Extra, rr(t, fmt.Sprintf("x%d.example.com. 1 IN A 9.9.9.9", i)))
					}
					for _, rr := range slices.Concat(m.Answer, m.Ns) {
						sent := q.query.Question[0].Name
						if i := len(sent) - len(rr.Header().Name); i >= 0 && strings.EqualFold(sent[i:], rr.Header().Name) {
							rr.Header().Name = sent[i:]
						}
					}
					return []*miekg.Msg{m}
				})
			}
			r := newTest(t, w, Options{})
			for _, q := range []key{{"www.example.com.", miekg.TypeA}, {"none.example.com.", miekg.TypeA}, {"web.d.example.com.", miekg.TypeA}, {"self.example.com.", miekg.TypeMX}} {
				for range 5 {
					a := ask(t, r, q.name, q.typ)
					for _, rr := range slices.Concat(a.Answer, a.Ns) {
						if s := strings.TrimSuffix(rr.Header().Name, "."); s != strings.ToLower(s) {
							t.Errorf("%v: %v", q, rr)
						}
					}
					r.Flush("example.com.")
				}
			}
		})
	}
}
