package dnssec

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"postrider/internal/clock"
)

// collide makes n keys of a zone that share a tag: bits of the flags that mean
// nothing make up for the difference.
func collide(t *testing.T, zone string, tag uint16, n int) []*dns.DNSKEY {
	t.Helper()
	var list []*dns.DNSKEY
	for len(list) < n {
		k := newTestKey(t, zone, 256, dns.ECDSAP256SHA256).DNSKEY
		k.Flags = 0
		k.Flags = tag - k.KeyTag()
		if k.KeyTag() != tag { // the carry
			k.Flags--
		}
		if k.KeyTag() == tag && usableKey(k) {
			list = append(list, k)
		}
	}
	return list
}

// TestCollidingKeys: KeyTrap (CVE-2023-50387). A zone with many keys of one tag
// and answers with many signatures of that tag costs no more than the bounds.
func TestCollidingKeys(t *testing.T) {
	w := tree(t)
	plain := w.zones["plain.test."]
	bombs := collide(t, "plain.test.", 4711, maxKeys-2)
	w.tamper = func(name string, typ uint16, m *dns.Msg) {
		if name == "plain.test." && typ == dns.TypeDNSKEY {
			m.Answer = []dns.RR{plain.ksk.DNSKEY, plain.zsk.DNSKEY}
			for _, k := range bombs {
				m.Answer = append(m.Answer, k)
			}
			m.Answer = w.signWith(plain.ksk, m.Answer...)
		}
	}
	m := w.resolve("a.plain.test.", dns.TypeA)
	honest := m.Answer
	m.Answer = nil
	for i := range 100 { // a hundred sets of addresses, each with a hundred wrong signatures
		name := fmt.Sprintf("a%d.plain.test.", i)
		m.Answer = append(m.Answer, record(t, name+" 3600 IN A 192.0.2.1"))
		for j := range 100 {
			sig := dns.Copy(honest[2]).(*dns.RRSIG)
			sig.Hdr.Name, sig.KeyTag = name, 4711
			sig.Signature = strings.Repeat(string(rune('A'+j%26)), 86) + "=="
			m.Answer = append(m.Answer, sig)
		}
	}
	v := w.validator(&testClock{now: start})
	r := v.newRun(w)
	before := clock.Processor()
	got := r.message(context.Background(), question("a0.plain.test.", dns.TypeA), m)
	took := clock.Processor() - before
	if got.Security != Bogus {
		t.Errorf("%+v", got)
	}
	if r.budget.failures > maxFailures || r.budget.verifications > maxVerifications || r.budget.verifications < 4 {
		t.Errorf("%+v", r.budget)
	}
	// Each wrong signature costs under a millisecond on any machine; without a
	// bound there would be 620,000.
	if took > 2*time.Second {
		t.Errorf("took %s of processor time", took)
	}
	// The zone's honest keys go on to work beside the bombs.
	if got := w.check(v, "a.plain.test.", dns.TypeA); got.Security != Secure {
		t.Errorf("%+v", got)
	}
}

// TestManyDelegationSigners: many DS records times many keys of one tag.
func TestManyDelegationSigners(t *testing.T) {
	keys := collide(t, "z.", 4711, maxKeys)
	var ds strings.Builder
	for i := range 60 {
		fmt.Fprintf(&ds, "z. 3600 IN DS 4711 13 2 %064x\n", i)
	}
	w := newWorld(t, &testZone{name: ".", algorithm: dns.ED25519, text: "z. NS ns.nic.\n" + ds.String()},
		&testZone{name: "z.", algorithm: dns.ECDSAP256SHA256, noDS: true, text: "a A 192.0.2.1"})
	w.tamper = func(name string, typ uint16, m *dns.Msg) {
		if name == "z." && typ == dns.TypeDNSKEY {
			m.Answer = nil
			for _, k := range keys {
				m.Answer = append(m.Answer, k)
			}
			m.Answer = w.signWith(w.zones["z."].zsk, m.Answer...)
		}
	}
	before := clock.Processor()
	got := w.check(w.validator(&testClock{now: start}), "a.z.", dns.TypeA)
	if took := clock.Processor() - before; got.Security != Bogus || took > time.Second {
		t.Errorf("%+v in %s", got, took)
	}
}

// TestDeepNames: a name of 120 labels without signatures below a signed zone, and
// one whose every ancestor must be hashed.
func TestDeepNames(t *testing.T) {
	w := tree(t)
	v := w.validator(&testClock{now: start})
	deep := strings.Repeat("a.", 110) + "ent.sub.test."
	// The world's proof for it, if every ancestor were an empty non-terminal.
	w.tamper = func(name string, typ uint16, m *dns.Msg) {
		if typ == dns.TypeDS && strings.HasSuffix(name, ".sub.test.") {
			*m = dns.Msg{Ns: w.signWith(w.zones["test."].zsk, record(t, "sub.test. 600 IN NSEC "+strings.Repeat("a.", 111)+"ent.sub.test. A RRSIG NSEC"))}
		}
	}
	r := v.newRun(w)
	got := r.message(context.Background(), question(deep, dns.TypeA), &dns.Msg{Answer: []dns.RR{record(t, deep+" A 192.0.2.66")}})
	if got.Security != Bogus || !strings.Contains(got.Text, "more than 64 fetches") || r.budget.fetches != maxFetches {
		t.Errorf("%+v after %+v", got, r.budget)
	}
	w.tamper = nil
	zone := w.zones["hashed.test."]
	m := w.resolve("no.hashed.test.", dns.TypeA)
	name := strings.Repeat("a.", 115) + "hashed.test."
	r = v.newRun(w)
	before := clock.Processor()
	got = r.message(context.Background(), question(name, dns.TypeA), m)
	if took := clock.Processor() - before; got.Security == Indeterminate || r.budget.hashes > maxHashes || took > time.Second {
		t.Errorf("%+v after %+v and %s", got, r.budget, took)
	}
	// More names than the budget has hashes.
	b := &budget{hashes: maxHashes - 3}
	if _, err := deny(b, zone.name, name, dns.TypeA, zone.chain); err == nil || !strings.Contains(err.Error(), "hashes") {
		t.Errorf("hashes over the budget: %v", err)
	}
}

// TestManySets: more record sets than are checked.
func TestManySets(t *testing.T) {
	w := tree(t)
	for _, c := range []struct {
		n    int
		want string
	}{{maxSets, "no signature"}, {maxSets + 1, "more than 100 record sets"}} {
		m := new(dns.Msg)
		for i := range c.n {
			m.Answer = append(m.Answer, record(t, fmt.Sprintf("a%d.plain.test. A 192.0.2.1", i)))
		}
		v := w.validator(&testClock{now: start})
		got := v.Validate(context.Background(), question("a0.plain.test.", dns.TypeA), m, w)
		if got.Security != Bogus || !strings.Contains(got.Text, c.want) {
			t.Errorf("%d sets: %+v", c.n, got)
		}
	}
}

// TestSignaturesPerSet: a good signature behind others that look well is found
// up to the bound.
func TestSignaturesPerSet(t *testing.T) {
	w := tree(t)
	for _, c := range []struct {
		before int
		want   Security
	}{{maxSignaturesPerSet - 1, Secure}, {maxSignaturesPerSet, Bogus}} {
		m := w.resolve("a.plain.test.", dns.TypeA)
		good := m.Answer[2]
		m.Answer = m.Answer[:2]
		for range c.before {
			bad := dns.Copy(good).(*dns.RRSIG)
			bad.KeyTag++
			m.Answer = append(m.Answer, bad)
		}
		m.Answer = append(m.Answer, good)
		got := w.validator(&testClock{now: start}).Validate(context.Background(), question("a.plain.test.", dns.TypeA), m, w)
		if got.Security != c.want {
			t.Errorf("%d before the good one: %+v", c.before, got)
		}
	}
}
