package dnssec

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// check validates the honest answer to a question over the world's chain.
func (w *world) check(v *Validator, name string, typ uint16) Verdict {
	return v.Validate(context.Background(), question(name, typ), w.resolve(name, typ), w)
}

// TestBrokenChains changes what the validator fetches on its way.
func TestBrokenChains(t *testing.T) {
	w := tree(t)
	plain := w.zones["plain.test."]
	for _, c := range []struct {
		what  string
		at    string // "name TYPE" of the answer that is changed
		twist func(m *dns.Msg)
		code  uint16
		text  string
	}{
		{"DS stripped", "plain.test. DS", func(m *dns.Msg) { m.Answer = nil }, 12, "neither has a DS"},
		{"DS denied by another delegation's proof", "plain.test. DS", func(m *dns.Msg) { *m = *w.resolve("island.test.", dns.TypeDS) }, 12, "neither has a DS"},
		{"DS denied by NXDOMAIN of another name", "plain.test. DS", func(m *dns.Msg) { *m = *w.resolve("zz.test.", dns.TypeDS) }, 12, "neither has a DS"},
		{"DS changed", "plain.test. DS", func(m *dns.Msg) { m.Answer[0].(*dns.DS).KeyTag++ }, 6, "is wrong"},
		{"DS signature stripped", "plain.test. DS", func(m *dns.Msg) { m.Answer = without(m.Answer, isSig) }, 10, "no signature"},
		{"keys stripped", "plain.test. DNSKEY", func(m *dns.Msg) { m.Answer = nil }, 9, "no DNSKEY records"},
		{"signatures of keys stripped", "plain.test. DNSKEY", func(m *dns.Msg) { m.Answer = without(m.Answer, isSig) }, 10, "no signature"},
		{"other keys", "plain.test. DNSKEY", func(m *dns.Msg) {
			k := newTestKey(t, "plain.test.", 257, dns.ECDSAP256SHA256)
			m.Answer = w.signWith(k, k.DNSKEY)
		}, 9, "none of the keys"},
		{"a key added", "plain.test. DNSKEY", func(m *dns.Msg) {
			m.Answer = append(m.Answer, newTestKey(t, "plain.test.", 256, dns.ECDSAP256SHA256).DNSKEY)
		}, 6, "is wrong"},
		{"keys signed by the zone-signing key alone", "plain.test. DNSKEY", func(m *dns.Msg) {
			m.Answer = w.signWith(plain.zsk, plain.ksk.DNSKEY, plain.zsk.DNSKEY)
		}, 9, "not among the keys"},
		{"keys without the zone bit", "plain.test. DNSKEY", func(m *dns.Msg) {
			for _, rr := range m.Answer {
				if k, ok := rr.(*dns.DNSKEY); ok {
					k.Flags = 1
				}
			}
		}, 11, "none of the keys"},
		{"keys revoked", "plain.test. DNSKEY", func(m *dns.Msg) {
			for _, rr := range m.Answer {
				if k, ok := rr.(*dns.DNSKEY); ok {
					k.Flags |= dns.REVOKE
				}
			}
		}, 9, "none of the keys"},
		{"the root's keys replaced", ". DNSKEY", func(m *dns.Msg) {
			k := newTestKey(t, ".", 257, dns.ED25519)
			m.Answer = w.signWith(k, k.DNSKEY)
		}, 9, "a trust anchor names"},
	} {
		t.Run(c.what, func(t *testing.T) {
			w.tamper = func(name string, typ uint16, m *dns.Msg) {
				if name+" "+dns.Type(typ).String() == c.at {
					c.twist(m)
				}
			}
			defer func() { w.tamper = nil }()
			now := &testClock{now: start}
			v := w.validator(now)
			got := w.check(v, "a.plain.test.", dns.TypeA)
			if got.Security != Bogus || got.ExtendedError != c.code || !strings.Contains(got.Text, c.text) {
				t.Errorf("%s, code %d: %s\nwant bogus, code %d: %s", got.Security, got.ExtendedError, got.Text, c.code, c.text)
			}
			if last := got.Chain[len(got.Chain)-1]; !strings.Contains(last, "bogus") {
				t.Errorf("the chain ends %q", last)
			}
			// A fetcher that can ask elsewhere gets round it, once the memory of
			// the failure has gone.
			now.now = now.now.Add(bogusAge)
			got = v.Validate(context.Background(), question("a.plain.test.", dns.TypeA), w.resolve("a.plain.test.", dns.TypeA), refetching{w})
			if got.Security != Secure {
				t.Errorf("with a second server: %s: %s", got.Security, got.Text)
			}
		})
	}
}

func TestUnreachableChain(t *testing.T) {
	for _, at := range []string{". DNSKEY", "test. DS", "plain.test. DS", "plain.test. DNSKEY"} {
		w := tree(t)
		v := w.validator(&testClock{now: start})
		w.failing[at] = true
		got := w.check(v, "a.plain.test.", dns.TypeA)
		if got.Security != Indeterminate || !got.Unreachable || !got.Refuse() || got.ExtendedError != dns.ExtendedErrorCodeNoReachableAuthority {
			t.Errorf("%s: %+v", at, got)
		}
		w.failing[at] = false // not remembered
		if got := w.check(v, "a.plain.test.", dns.TypeA); got.Security != Secure {
			t.Errorf("%s back: %+v", at, got)
		}
	}
}

func TestNoAnchor(t *testing.T) {
	w := tree(t)
	v, err := New(Options{Anchors: []dns.RR{}, Clock: &testClock{now: start}})
	if err != nil {
		t.Fatal(err)
	}
	if got := w.check(v, "a.plain.test.", dns.TypeA); got.Security != Indeterminate || got.Refuse() || got.ExtendedError != dns.ExtendedErrorCodeDNSSECIndeterminate {
		t.Errorf("%+v", got)
	}
	// An anchor below the root, as a DNSKEY: for its zone alone.
	v, err = New(Options{Anchors: []dns.RR{w.zones["island.test."].ksk.DNSKEY}, Clock: &testClock{now: start}})
	if err != nil {
		t.Fatal(err)
	}
	if got := w.check(v, "a.island.test.", dns.TypeA); got.Security != Secure {
		t.Errorf("%+v", got)
	}
	if got := w.check(v, "a.plain.test.", dns.TypeA); got.Security != Indeterminate {
		t.Errorf("%+v", got)
	}
}

// TestZoneMemory: what is learnt lives as long as the records say.
func TestZoneMemory(t *testing.T) {
	w := tree(t)
	c := &testClock{now: start}
	v := w.validator(c)
	w.check(v, "a.plain.test.", dns.TypeA)
	c.now = start.Add(time.Hour - time.Second)
	w.check(v, "a.plain.test.", dns.TypeA)
	if n := w.asked["plain.test. DNSKEY"]; n != 1 {
		t.Errorf("keys fetched %d times within their TTL", n)
	}
	c.now = start.Add(time.Hour)
	w.check(v, "a.plain.test.", dns.TypeA)
	if n := w.asked["plain.test. DNSKEY"]; n != 2 {
		t.Errorf("keys fetched %d times after their TTL", n)
	}
	v.Flush()
	w.check(v, "a.plain.test.", dns.TypeA)
	if n := w.asked["plain.test. DNSKEY"]; n != 3 {
		t.Errorf("keys fetched %d times after Flush", n)
	}
	small, err := New(Options{Anchors: []dns.RR{w.zones["."].ksk.DNSKEY}, Clock: c, Zones: 3})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.plain.test.", "a.signed.org.", "a.hashed.test.", "nosuch."} {
		w.check(small, name, dns.TypeA)
		if n := small.zones.order.Len(); n > 3 || n != len(small.zones.byName) {
			t.Fatalf("%d zones remembered", n)
		}
	}
	if got := w.check(small, "a.plain.test.", dns.TypeA); got.Security != Secure {
		t.Errorf("%+v", got)
	}
}

// TestAlgorithms: each that must be validated is, and zones with only others are
// insecure.
func TestAlgorithms(t *testing.T) {
	for _, alg := range []uint8{dns.RSASHA1, dns.RSASHA1NSEC3SHA1, dns.RSASHA256, dns.RSASHA512, dns.ECDSAP256SHA256, dns.ECDSAP384SHA384, dns.ED25519} {
		for _, digest := range []uint8{dns.SHA1, dns.SHA256, dns.SHA384} {
			w := newWorld(t, &testZone{name: ".", algorithm: dns.ED25519, text: "z. NS ns.nic.\n"},
				&testZone{name: "z.", algorithm: alg, digest: digest, text: "a A 192.0.2.1"})
			if got := w.check(w.validator(&testClock{now: start}), "a.z.", dns.TypeA); got.Security != Secure {
				t.Errorf("%s with digest %d: %+v", algorithmName(alg), digest, got)
			}
		}
	}
	for _, c := range []struct {
		ds   string
		want Security
		code uint16
	}{
		{"z. 3600 IN DS 1 1 2 00", Insecure, 1},   // RSAMD5
		{"z. 3600 IN DS 1 3 2 00", Insecure, 1},   // DSA
		{"z. 3600 IN DS 1 12 2 00", Insecure, 1},  // GOST
		{"z. 3600 IN DS 1 16 2 00", Insecure, 1},  // Ed448
		{"z. 3600 IN DS 1 253 2 00", Insecure, 1}, // private
		{"z. 3600 IN DS 1 13 3 00", Insecure, 2},  // GOST R 34.11-94
		{"z. 3600 IN DS 1 13 200 00", Insecure, 2},
		{"z. 3600 IN DS 1 13 2 00", Bogus, 9},
	} {
		w := newWorld(t, &testZone{name: ".", algorithm: dns.ED25519, text: "z. NS ns.nic.\n" + c.ds + "\n"},
			&testZone{name: "z.", algorithm: dns.ECDSAP256SHA256, noDS: true, text: "a A 192.0.2.1"})
		if got := w.check(w.validator(&testClock{now: start}), "a.z.", dns.TypeA); got.Security != c.want || got.ExtendedError != c.code {
			t.Errorf("%s: %+v", c.ds, got)
		}
		// One that is not supported does not spoil one that is, and cannot be
		// used to get round it.
		w = newWorld(t, &testZone{name: ".", algorithm: dns.ED25519, text: "z. NS ns.nic.\n" + c.ds + "\n"},
			&testZone{name: "z.", algorithm: dns.ECDSAP256SHA256, text: "a A 192.0.2.1"})
		if got := w.check(w.validator(&testClock{now: start}), "a.z.", dns.TypeA); got.Security != Secure {
			t.Errorf("%s beside a good one: %+v", c.ds, got)
		}
		m := w.resolve("a.z.", dns.TypeA)
		m.Answer = without(m.Answer, isSig)
		if got := w.validator(&testClock{now: start}).Validate(context.Background(), question("a.z.", dns.TypeA), m, w); got.Security != Bogus {
			t.Errorf("%s beside a good one, signatures stripped: %+v", c.ds, got)
		}
	}
}

// TestWeakDigest: a SHA-1 DS that somebody can forge does not count beside a
// better one (RFC 4509 section 3).
func TestWeakDigest(t *testing.T) {
	other := newTestKey(t, "z.", 257, dns.ECDSAP256SHA256)
	w := newWorld(t, &testZone{name: ".", algorithm: dns.ED25519, text: "z. NS ns.nic.\n" + other.ToDS(dns.SHA1).String() + "\n"},
		&testZone{name: "z.", algorithm: dns.ECDSAP256SHA256, text: "a A 192.0.2.1"})
	w.tamper = func(name string, typ uint16, m *dns.Msg) {
		if typ == dns.TypeDNSKEY && name == "z." {
			m.Answer = w.signWith(other, other.DNSKEY)
		}
	}
	if got := w.check(w.validator(&testClock{now: start}), "a.z.", dns.TypeA); got.Security != Bogus || got.ExtendedError != dns.ExtendedErrorCodeDNSKEYMissing {
		t.Errorf("%+v", got)
	}
}

// TestIterations: RFC 9276 section 3.2.
func TestIterations(t *testing.T) {
	for _, c := range []struct {
		n    uint16
		want Security
	}{{0, Secure}, {maxIterations, Secure}, {maxIterations + 1, Insecure}, {refuseIterations, Insecure}, {refuseIterations + 1, Bogus}} {
		w := newWorld(t, &testZone{name: ".", algorithm: dns.ED25519, text: "z. NS ns.nic.\n"},
			&testZone{name: "z.", algorithm: dns.ECDSAP256SHA256, nsec3: true, iterations: c.n, text: "a A 192.0.2.1\nsub NS ns.nic.\n*.wild A 192.0.2.2\n"},
			&testZone{name: "sub.z.", text: "a A 192.0.2.1\n"})
		v := w.validator(&testClock{now: start})
		for _, name := range []string{"no.z.", "a.wild.z.", "a.sub.z."} {
			got := w.check(v, name, dns.TypeA)
			want := c.want
			if name == "a.sub.z." && want == Secure {
				want = Insecure
			}
			if got.Security != want || c.n > maxIterations && got.ExtendedError != dns.ExtendedErrorCodeUnsupportedNSEC3IterValue {
				t.Errorf("%d iterations, %s: %+v", c.n, name, got)
			}
		}
		if got := w.check(v, "a.z.", dns.TypeA); got.Security != Secure {
			t.Errorf("%d iterations, a positive answer: %+v", c.n, got)
		}
		// The count must be the zone's own: changed on the way, it does not make
		// an answer insecure.
		m := w.resolve("no.z.", dns.TypeA)
		for _, rr := range m.Ns {
			if n, ok := rr.(*dns.NSEC3); ok {
				n.Iterations = maxIterations + 1
			}
		}
		if got := v.Validate(context.Background(), question("no.z.", dns.TypeA), m, w); c.want == Secure && got.Security != Bogus {
			t.Errorf("iterations raised on the way: %+v", got)
		}
	}
}

// TestOpenAlias: an answer that stops at an alias is as good as the alias.
func TestOpenAlias(t *testing.T) {
	w := tree(t)
	v := w.validator(&testClock{now: start})
	m := w.resolve("www.test.", dns.TypeA)
	m.Answer = m.Answer[:2]
	got := v.Validate(context.Background(), question("www.test.", dns.TypeA), m, w)
	if got.Security != Secure || !got.Open || got.Target != "a.plain.test." {
		t.Errorf("%+v", got)
	}
	if got := w.check(v, "www.test.", dns.TypeA); got.Open || got.Target != "a.plain.test." {
		t.Errorf("%+v", got)
	}
	// A loop of aliases ends.
	loop := &dns.Msg{Answer: []dns.RR{record(t, "a.unsigned.org. CNAME b.unsigned.org."), record(t, "b.unsigned.org. CNAME a.unsigned.org.")}}
	if got := v.Validate(context.Background(), question("a.unsigned.org.", dns.TypeA), loop, w); got.Security != Insecure {
		t.Errorf("%+v", got)
	}
	// Nothing below an alias is a zone of its own.
	forged := &dns.Msg{Answer: []dns.RR{record(t, "x.y.dname.test. A 192.0.2.66")}}
	for _, name := range []string{"x.y.dname.test.", "x.www.test.", "x.alias.test.", "x.y.alias.test."} {
		rename(forged.Answer, name)
		if got := v.Validate(context.Background(), question(name, dns.TypeA), forged, w); got.Security != Bogus {
			t.Errorf("forged %s: %+v", name, got)
		}
	}
}
