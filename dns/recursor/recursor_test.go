package recursor

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	miekg "github.com/miekg/dns"
)

const rootZone = `
.              SOA a.root. nobody. 1 1h 10m 5d 60
.              NS  a.root.
.              NS  b.root.
a.root.        A   198.41.0.4
b.root.        A   198.41.0.5
com.           NS  a.gtld.net.
com.           NS  b.gtld.net.
a.gtld.net.    A   192.5.6.30
b.gtld.net.    A   192.5.6.31
net.           NS  a.gtld.net.
org.           NS  ns.org.
ns.org.        A   192.5.6.40
`

const comZone = `
@              SOA a.gtld.net. nobody. 1 1h 10m 5d 60
@              NS  a.gtld.net.
@              NS  b.gtld.net.
example        NS  ns1.example
example        NS  ns.hoster.org.
ns1.example    A   9.9.9.1
glueless       NS  ns.hoster.org.
`

const exampleZone = `
@              SOA ns1 nobody 1 1h 10m 5d 60
@              NS  ns1
@              NS  ns.hoster.org.
@              MX  10 mx
ns1            A   9.9.9.1
mx             A   9.9.9.25
www            CNAME web
web            A   9.9.9.80
out            CNAME web.glueless.com.
deep.in.here   A   9.9.9.99
`

func testHints(t testing.TB) *Hints {
	t.Helper()
	h, err := ReadHints(strings.NewReader(". NS a.root.\n. NS b.root.\na.root. A 198.41.0.4\nb.root. A 198.41.0.5\n"), "hints")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// ordinary is a world in which all is well.
func ordinary(t testing.TB) *world {
	w := newWorld(t)
	for _, a := range []string{"198.41.0.4", "198.41.0.5"} {
		w.serve(a, ".", rootZone)
	}
	for _, a := range []string{"192.5.6.30", "192.5.6.31"} {
		w.serve(a, "com.", comZone)
	}
	w.serve("192.5.6.40", "org.", "@ SOA ns nobody 1 1h 10m 5d 60\n@ NS ns\nns A 192.5.6.40\nhoster NS ns.hoster\nns.hoster A 9.9.9.2\n")
	w.serve("9.9.9.1", "example.com.", exampleZone)
	w.serve("9.9.9.2", "example.com.", exampleZone)
	w.serve("9.9.9.2", "hoster.org.", "@ SOA ns nobody 1 1h 10m 5d 60\n@ NS ns\nns A 9.9.9.2\n")
	w.serve("9.9.9.2", "glueless.com.", "@ SOA ns.hoster.org. nobody 1 1h 10m 5d 60\n@ NS ns.hoster.org.\nweb A 9.9.9.81\n")
	return w
}

func newTest(t testing.TB, w *world, o Options) *Resolver {
	t.Helper()
	if o.Hints == nil {
		o.Hints = testHints(t)
	}
	o.Dial = w.dial
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func ask(t testing.TB, r *Resolver, name string, typ uint16) Answer {
	t.Helper()
	return r.Resolve(t.Context(), miekg.Question{Name: name, Qtype: typ, Qclass: miekg.ClassINET}, Ask{})
}

// data is the rcode and the data of the answer.
func data(a Answer) string {
	list := []string{miekg.RcodeToString[a.Rcode]}
	for _, rr := range a.Answer {
		list = append(list, miekg.Type(rr.Header().Rrtype).String()+" "+strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(list, "; ")
}

// From the root down, with glue and without, through aliases.
func TestResolve(t *testing.T) {
	for _, tt := range []struct {
		name string
		typ  uint16
		want string
	}{
		{"example.com.", miekg.TypeMX, "NOERROR; MX 10 mx.example.com."},
		{"EXAMPLE.com.", miekg.TypeNS, "NOERROR; NS ns1.example.com.; NS ns.hoster.org."},
		{"www.example.com.", miekg.TypeA, "NOERROR; CNAME web.example.com.; A 9.9.9.80"},
		{"www.example.com.", miekg.TypeCNAME, "NOERROR; CNAME web.example.com."},
		{"out.example.com.", miekg.TypeA, "NOERROR; CNAME web.glueless.com.; A 9.9.9.81"},
		{"web.glueless.com.", miekg.TypeA, "NOERROR; A 9.9.9.81"},
		{"deep.in.here.example.com.", miekg.TypeA, "NOERROR; A 9.9.9.99"},
		{"in.here.example.com.", miekg.TypeA, "NOERROR"},
		{"none.example.com.", miekg.TypeA, "NXDOMAIN"},
		{"none.", miekg.TypeA, "NXDOMAIN"},
		{".", miekg.TypeNS, "NOERROR; NS a.root.; NS b.root."},
		{"com.", miekg.TypeDS, "NOERROR"},
		{"localhost.", miekg.TypeA, "NOERROR; A 127.0.0.1"},
		{"a.invalid.", miekg.TypeA, "NXDOMAIN"},
	} {
		t.Run(tt.name+miekg.Type(tt.typ).String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := ordinary(t)
				r := newTest(t, w, Options{})
				for range 2 {
					a := ask(t, r, tt.name, tt.typ)
					if got := data(a); got != tt.want || a.Err != nil {
						t.Errorf("got %s, %v; want %s", got, a.Err, tt.want)
					}
				}
				first := len(w.queries())
				if a := ask(t, r, tt.name, tt.typ); len(w.queries()) != 0 {
					t.Errorf("asked again: %v", a)
				}
				t.Logf("%d queries", first)
				if first > 16 {
					t.Errorf("%d queries", first)
				}
			})
		})
	}
}

func TestHints(t *testing.T) {
	h := BuiltinHints()
	n := 0
	for _, s := range h.servers {
		for _, a := range h.addrs[s] {
			if !mayAsk(a, nil) {
				t.Errorf("%v", a)
			}
			n++
		}
	}
	if len(h.servers) != 13 || n != 26 {
		t.Errorf("%d servers with %d addresses", len(h.servers), n)
	}
	for _, bad := range []string{"", ". NS a.", "com. NS a.\na. A 192.0.2.1\n", ". NS a.\na. A 192.0.2.999\n"} {
		if _, err := ReadHints(strings.NewReader(bad), "file"); err == nil || !strings.Contains(err.Error(), "hints") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestMayAsk(t *testing.T) {
	local := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for _, tt := range []struct {
		addr          string
		public, local bool
	}{
		{"8.8.8.8", true, true}, {"2001:503:ba3e::2:30", true, true}, {"127.0.0.1", false, true}, {"::ffff:127.0.0.1", false, true},
		{"0.0.0.0", false, false}, {"0.1.2.3", false, false}, {"224.0.0.1", false, false}, {"255.255.255.255", false, false},
		{"10.1.2.3", false, false}, {"192.168.1.1", false, false}, {"::1", false, false}, {"::", false, false}, {"ff02::1", false, false},
		{"fe80::1", false, false}, {"fd00::1", false, false}, {"172.31.255.255", false, false}, {"172.32.0.1", true, true},
	} {
		a := netip.MustParseAddr(tt.addr)
		if got := mayAsk(a, nil); got != tt.public {
			t.Errorf("%s: %v", a, got)
		}
		if got := mayAsk(a, local); got != tt.local {
			t.Errorf("%s with loopback allowed: %v", a, got)
		}
	}
}

// Servers that are silent, fail or do not serve the zone cost time; the others
// answer.
func TestFaults(t *testing.T) {
	for name, twist := range map[string]func(q asking, m *miekg.Msg) []*miekg.Msg{
		"silent": func(asking, *miekg.Msg) []*miekg.Msg { return nil },
		"servfail": func(_ asking, m *miekg.Msg) []*miekg.Msg {
			m.Rcode, m.Answer, m.Ns = miekg.RcodeServerFailure, nil, nil
			return []*miekg.Msg{m}
		},
		"refused": func(_ asking, m *miekg.Msg) []*miekg.Msg {
			m.Rcode, m.Answer, m.Ns = miekg.RcodeRefused, nil, nil
			return []*miekg.Msg{m}
		},
		"upward": func(_ asking, m *miekg.Msg) []*miekg.Msg {
			m.Authoritative, m.Answer, m.Ns = false, nil, []miekg.RR{&miekg.NS{Hdr: miekg.RR_Header{Name: ".", Rrtype: miekg.TypeNS, Class: 1, Ttl: 300}, Ns: "a.root."}}
			return []*miekg.Msg{m}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := ordinary(t)
				for _, addr := range []string{"198.41.0.4", "192.5.6.31", "9.9.9.1"} {
					w.twist(addr, twist)
				}
				r := newTest(t, w, Options{})
				if a := ask(t, r, "www.example.com.", miekg.TypeA); data(a) != "NOERROR; CNAME web.example.com.; A 9.9.9.80" {
					t.Errorf("got %v", a)
				}
				if n := len(w.queries()); n > 40 {
					t.Errorf("%d queries", n)
				}
			})
		})
	}
}
