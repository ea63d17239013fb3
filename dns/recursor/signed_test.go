package recursor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
	"postrider/dns/zone"
)

// sign signs the zone that a host has, and returns the DS records as text.
func (w *world) sign(policy dnssec.Policy, origin string, addrs ...string) string {
	w.t.Helper()
	ring, err := dnssec.OpenRing(w.t.(*testing.T).TempDir(), origin, policy, dnssec.RingOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	s, _, err := ring.Step()
	if err != nil {
		w.t.Fatal(err)
	}
	var signed *zone.Zone
	for _, addr := range addrs {
		w.mu.Lock()
		h := w.hosts[mustAddr(addr)]
		if signed == nil {
			signed, _, err = h.zones[origin].Sign(zone.SignOptions{Signing: s, Scan: true})
		}
		h.zones[origin] = signed
		w.mu.Unlock()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	var b strings.Builder
	for _, key := range s.KeySigs {
		fmt.Fprintln(&b, key.DS())
	}
	return b.String()
}

// signedWorld is ordinary with com and example.com signed by NSEC, net by
// NSEC3, and org not; it returns the anchors.
func signedWorld(t *testing.T) (*world, []miekg.RR) {
	w := ordinary(t)
	for _, a := range []string{"9.9.9.1", "9.9.9.2"} {
		w.serve(a, "example.com.", exampleZone+"a A 9.9.9.10\nz A 9.9.9.11\n*.wild A 9.9.9.12\n")
	}
	ds := w.sign(dnssec.Policy{}, "example.com.", "9.9.9.1", "9.9.9.2")
	for _, a := range []string{"192.5.6.30", "192.5.6.31"} {
		w.serve(a, "com.", comZone+ds+"a NS ns.a\nns.a A 9.9.9.1\nzz NS ns.a\n")
		w.serve(a, "net.", "@ SOA a.gtld nobody 1 1h 10m 5d 60\n@ NS a.gtld\na.gtld A 192.5.6.30\nmx A 9.9.9.25\nother A 9.9.9.26\n")
	}
	ds = w.sign(dnssec.Policy{}, "com.", "192.5.6.30", "192.5.6.31")
	ds += w.sign(dnssec.Policy{NSEC3: true}, "net.", "192.5.6.30", "192.5.6.31")
	for _, a := range []string{"198.41.0.4", "198.41.0.5"} {
		w.serve(a, ".", rootZone+ds)
	}
	anchors, err := dnssec.ReadAnchors(strings.NewReader(w.sign(dnssec.Policy{}, ".", "198.41.0.4", "198.41.0.5")), "anchors")
	if err != nil {
		t.Fatal(err)
	}
	return w, anchors
}

func newSecure(t *testing.T, w *world, anchors []miekg.RR, o Options) *Resolver {
	t.Helper()
	v, err := dnssec.New(dnssec.Options{Anchors: anchors})
	if err != nil {
		t.Fatal(err)
	}
	o.Validator = v
	return newTest(t, w, o)
}

// Every answer says how far it can be believed.
func TestSecurity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, anchors := signedWorld(t)
		r := newSecure(t, w, anchors, Options{})
		for _, tt := range []struct {
			name string
			typ  uint16
			want string
		}{
			{"web.example.com.", miekg.TypeA, "secure NOERROR; A 9.9.9.80"},
			{"www.example.com.", miekg.TypeA, "secure NOERROR; CNAME web.example.com.; A 9.9.9.80"},
			{"x.wild.example.com.", miekg.TypeA, "secure NOERROR; A 9.9.9.12"},
			{"none.example.com.", miekg.TypeA, "secure NXDOMAIN"},
			{"web.example.com.", miekg.TypeTXT, "secure NOERROR"},
			{"mx.net.", miekg.TypeA, "secure NOERROR; A 9.9.9.25"},
			{"none.net.", miekg.TypeA, "secure NXDOMAIN"},
			{"ns.hoster.org.", miekg.TypeA, "insecure NOERROR; A 9.9.9.2"},
			{"out.example.com.", miekg.TypeA, "insecure NOERROR; CNAME web.glueless.com.; A 9.9.9.81"},
			{"none.org.", miekg.TypeA, "insecure NXDOMAIN"},
			{"none.", miekg.TypeA, "secure NXDOMAIN"},
			{"example.com.", miekg.TypeDS, "secure "},
			{"example.com.", miekg.TypeDNSKEY, "secure "},
		} {
			for range 2 {
				a := ask(t, r, tt.name, tt.typ)
				a.Answer = slices.DeleteFunc(a.Answer, func(rr miekg.RR) bool { return rr.Header().Rrtype == miekg.TypeRRSIG })
				got := a.Security.String() + " " + data(a)
				if got != tt.want && !(strings.HasSuffix(tt.want, " ") && strings.HasPrefix(got, tt.want) && len(a.Answer) > 0) || a.Err != nil {
					t.Errorf("%s: got %s, %v; want %s", tt.name, got, a.Err, tt.want)
				}
				if a.Authenticated != (a.Security == Secure) {
					t.Errorf("%s: AD is %v", tt.name, a.Authenticated)
				}
			}
		}
	})
}

// What does not validate is SERVFAIL with a reason, unless the asker checks by
// itself; it is asked of another server first, and not kept for long.
func TestBogus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, anchors := signedWorld(t)
		spoof := func(q asking, m *miekg.Msg) []*miekg.Msg {
			if q.name != "web.example.com." || q.typ != miekg.TypeA {
				return []*miekg.Msg{m}
			}
			m = m.Copy()
			for _, rr := range m.Answer {
				if a, ok := rr.(*miekg.A); ok {
					a.A = []byte{6, 6, 6, 6}
				}
			}
			return []*miekg.Msg{m}
		}
		w.twist("9.9.9.1", spoof)
		w.twist("9.9.9.2", spoof)
		r := newSecure(t, w, anchors, Options{})
		a := ask(t, r, "web.example.com.", miekg.TypeA)
		if a.Rcode != miekg.RcodeServerFailure || a.Security != Bogus || len(a.Answer) > 0 || len(a.ExtendedErrors) != 1 || a.ExtendedErrors[0].Code != miekg.ExtendedErrorCodeDNSBogus {
			t.Errorf("got %+v", a)
		}
		w.queries()
		if ask(t, r, "web.example.com.", miekg.TypeA); len(w.queries()) > 0 {
			t.Error("a bogus answer is asked for again at once")
		}
		a = r.Resolve(t.Context(), miekg.Question{Name: "web.example.com.", Qtype: miekg.TypeA, Qclass: 1}, Ask{CheckingDisabled: true})
		if a.Rcode != 0 || len(a.Answer) != 2 || a.Authenticated {
			t.Errorf("without a check: %+v", a)
		}
		ask(t, r, "ns.hoster.org.", miekg.TypeA) // teaches the other server's address
		w.twist("9.9.9.2", nil)
		time.Sleep(bogusTTL + time.Second)
		for range 5 { // whichever is asked first
			if a := ask(t, r, "web.example.com.", miekg.TypeA); a.Security != Secure {
				t.Errorf("with one honest server: %+v", a)
			}
			r.Flush("web.example.com.")
		}
	})
}

// Proofs of neighbours answer for names that nobody asked about (RFC 8198), by
// NSEC and NSEC3, and hold no longer than they may.
func TestAggressive(t *testing.T) {
	for origin, names := range map[string][3]string{
		"example.com.": {"b.example.com.", "c.example.com.", "z.example.com."},
		"net.":         {"b.net.", "b.net.", "mx.net."},
		".":            {"b.", "c.", "com."},
	} {
		t.Run(origin, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, anchors := signedWorld(t)
				r := newSecure(t, w, anchors, Options{})
				ask(t, r, names[0], miekg.TypeA)
				w.queries()
				typ := miekg.TypeMX // a name that is denied has no type at all
				a := ask(t, r, names[1], typ)
				if n := len(w.queries()); n != 0 || a.Rcode != miekg.RcodeNameError || !a.Authenticated || len(a.Ns) < 4 || a.Ns[0].Header().Ttl > 60 {
					t.Errorf("%d queries, %+v", n, a)
				}
				if a := ask(t, r, names[2], miekg.TypeSOA); a.Rcode != 0 || a.Err != nil {
					t.Errorf("what exists: %+v", a)
				}
				w.queries()
				time.Sleep(61 * time.Second) // the SOA record's minimum
				ask(t, r, names[1], typ)
				if n := len(w.queries()); n == 0 {
					t.Error("a proof outlived its TTL")
				}
			})
		})
	}
}

// A flood of random names below a signed zone costs neither queries nor memory.
func TestAggressiveFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, anchors := signedWorld(t)
		r := newSecure(t, w, anchors, Options{})
		for i := range 2000 {
			if a := ask(t, r, fmt.Sprintf("random%d.example.com.", i), miekg.TypeA); a.Rcode != miekg.RcodeNameError {
				t.Fatalf("got %+v", a)
			}
		}
		if n := len(w.queries()); n > 60 {
			t.Errorf("%d queries", n)
		}
		if r.cache.bytes > 200_000 {
			t.Errorf("the cache holds %d octets", r.cache.bytes)
		}
	})
}
