package dnssec

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestVerdicts asks an honest world all kinds of questions.
func TestVerdicts(t *testing.T) {
	w := tree(t)
	v := w.validator(&testClock{now: start})
	for _, c := range []struct {
		name string
		typ  uint16
		want Security
		text string
	}{
		{"a.plain.test.", dns.TypeA, Secure, "signed by plain.test."},
		{"a.plain.test.", dns.TypeMX, Secure, ""},
		{"plain.test.", dns.TypeDNSKEY, Secure, ""},
		{"plain.test.", dns.TypeDS, Secure, "signed by test."},
		{"plain.test.", dns.TypeSOA, Secure, ""},
		{"a.plain.test.", dns.TypeAAAA, Secure, ""},
		{"no.plain.test.", dns.TypeA, Secure, ""},
		{"a.hashed.test.", dns.TypeA, Secure, ""},
		{"a.hashed.test.", dns.TypeTXT, Secure, ""},
		{"no.hashed.test.", dns.TypeA, Secure, ""},
		{"no.no.hashed.test.", dns.TypeA, Secure, ""},
		{"ent.hashed.test.", dns.TypeA, Secure, ""},
		{"b.ent.hashed.test.", dns.TypeA, Secure, ""},
		{"x.wild.hashed.test.", dns.TypeTXT, Secure, ""},
		{"x.y.wild.hashed.test.", dns.TypeTXT, Secure, ""},
		{"x.wild.hashed.test.", dns.TypeA, Secure, ""},
		{"*.wild.hashed.test.", dns.TypeTXT, Secure, ""},
		{"a.child.hashed.test.", dns.TypeA, Insecure, "delegated without DS"},
		{"child.hashed.test.", dns.TypeDS, Secure, ""},
		{"child.hashed.test.", dns.TypeNS, Insecure, ""},
		{"a.open.test.", dns.TypeA, Secure, ""},
		{"a.open.test.", dns.TypeMX, Secure, ""},
		{"no.open.test.", dns.TypeA, Insecure, "opt-out"},
		{"a.child.open.test.", dns.TypeA, Insecure, "opt-out"},
		{"child.open.test.", dns.TypeDS, Insecure, "opt-out"},
		{"ent.open.test.", dns.TypeA, Insecure, "opt-out"},
		{"a.island.test.", dns.TypeA, Insecure, "delegated without DS"},
		{"no.island.test.", dns.TypeA, Insecure, ""},
		{"x.wild.test.", dns.TypeA, Secure, ""},
		{"exact.wild.test.", dns.TypeA, Secure, ""},
		{"x.wild.test.", dns.TypeMX, Secure, ""},
		{"x.exact.wild.test.", dns.TypeA, Secure, ""},
		{"x.alias.test.", dns.TypeA, Secure, ""},
		{"www.test.", dns.TypeA, Secure, ""},
		{"www.test.", dns.TypeCNAME, Secure, ""},
		{"www.test.", dns.TypeTXT, Secure, ""},
		{"far.test.", dns.TypeA, Insecure, "unsigned.org."},
		{"gone.test.", dns.TypeA, Secure, ""},
		{"a.dname.test.", dns.TypeA, Secure, ""},
		{"no.dname.test.", dns.TypeA, Secure, ""},
		{"ent.sub.test.", dns.TypeA, Secure, ""},
		{"sub.test.", dns.TypeA, Secure, ""},
		{"a.unsigned.org.", dns.TypeA, Insecure, ""},
		{"no.unsigned.org.", dns.TypeA, Insecure, ""},
		{"a.signed.org.", dns.TypeA, Secure, ""},
		{"a.to.signed.org.", dns.TypeA, Secure, ""},
		{"nosuchtld.", dns.TypeA, Secure, ""},
		{"no.nosuchtld.", dns.TypeA, Secure, ""},
		{".", dns.TypeNS, Secure, ""},
		{".", dns.TypeDS, Secure, ""},
		{"nic.", dns.TypeNS, Insecure, ""},
		{"a.plain.test.", dns.TypeRRSIG, Insecure, "not signed themselves"},
	} {
		got := v.Validate(context.Background(), question(c.name, c.typ), w.resolve(c.name, c.typ), w)
		if got.Security != c.want || !strings.Contains(got.Text, c.text) {
			t.Errorf("%s %s: %s (%s); want %s (%s)", c.name, dns.Type(c.typ), got.Security, got.Text, c.want, c.text)
		}
		if got.Refuse() || got.Security == Secure && (got.Lifetime <= 0 || len(got.Chain) == 0) {
			t.Errorf("%s %s: %+v", c.name, dns.Type(c.typ), got)
		}
	}
	for what, n := range w.asked {
		if n > 1 {
			t.Errorf("%s was fetched %d times", what, n)
		}
	}
}

// signer signs in the name of a zone of the world, as its keys could.
func (w *world) signWith(k testKey, rrs ...dns.RR) []dns.RR {
	return append(rrs, k.sign(w.t, rrs, start.Add(-time.Hour), start.Add(time.Hour)))
}

func record(t testing.TB, s string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(s)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

// without drops the records for which drop is true.
func without(rrs []dns.RR, drop func(dns.RR) bool) []dns.RR {
	var kept []dns.RR
	for _, rr := range rrs {
		if !drop(rr) {
			kept = append(kept, rr)
		}
	}
	return kept
}

// isSigned is for a set with its signatures.
func isSigned(typ uint16) func(dns.RR) bool {
	return func(rr dns.RR) bool {
		sig, ok := rr.(*dns.RRSIG)
		return rr.Header().Rrtype == typ || ok && sig.TypeCovered == typ
	}
}

func isSig(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeRRSIG }

// brokenAnswer is one change to an answer that would be secure, and what is
// found.
type brokenAnswer struct {
	what  string
	name  string
	typ   uint16
	twist func(m *dns.Msg)
	code  uint16
	text  string
}

// TestBrokenAnswers changes one thing in an answer that would be secure.
func TestBrokenAnswers(t *testing.T) {
	w := tree(t)
	for _, c := range append(brokenRecords(t, w), brokenDenials(t, w)...) {
		t.Run(c.what, func(t *testing.T) {
			v := w.validator(&testClock{now: start})
			m := w.resolve(c.name, c.typ)
			c.twist(m)
			got := v.Validate(context.Background(), question(c.name, c.typ), m, w)
			if got.Security != Bogus || got.ExtendedError != c.code || !strings.Contains(got.Text, c.text) || !got.Refuse() {
				t.Errorf("%s, code %d: %s\nwant bogus, code %d: %s", got.Security, got.ExtendedError, got.Text, c.code, c.text)
			}
		})
	}
}

func brokenRecords(t *testing.T, w *world) []brokenAnswer {
	stranger := newTestKey(t, "plain.test.", 256, dns.ECDSAP256SHA256)
	return []brokenAnswer{
		{"address changed", "a.plain.test.", dns.TypeA, func(m *dns.Msg) { m.Answer[0].(*dns.A).A[3] = 66 }, 6, "is wrong"},
		{"record removed", "a.plain.test.", dns.TypeA, func(m *dns.Msg) { m.Answer = m.Answer[1:] }, 6, "is wrong"},
		{"record added", "a.plain.test.", dns.TypeA, func(m *dns.Msg) { m.Answer = append(m.Answer, record(t, "a.plain.test. 3600 IN A 192.0.2.66")) }, 6, "is wrong"},
		{"signature stripped", "a.plain.test.", dns.TypeA, func(m *dns.Msg) { m.Answer = without(m.Answer, isSig) }, 10, "no signature"},
		{"everything stripped", "a.plain.test.", dns.TypeA, func(m *dns.Msg) { m.Answer = nil }, 12, "nothing proves"},
		{"unknown key", "a.plain.test.", dns.TypeA, func(m *dns.Msg) {
			m.Answer = w.signWith(stranger, record(t, "a.plain.test. 3600 IN A 192.0.2.66"))
		}, 9, "not among the keys"},
		{"signed by the parent", "a.plain.test.", dns.TypeA, func(m *dns.Msg) {
			m.Answer = w.signWith(stranger.of("org."), record(t, "a.plain.test. 3600 IN A 192.0.2.66"))
		}, 10, "not by its zone"},
		{"signer that only ends like the zone", "axtest.", dns.TypeA, func(m *dns.Msg) {
			m.Rcode, m.Ns = 0, nil
			m.Answer = w.signWith(w.zones["test."].zsk, record(t, "axtest. 3600 IN A 192.0.2.66"))
		}, 10, "not by its zone"},
		{"signer that is no zone", "a.plain.test.", dns.TypeA, func(m *dns.Msg) {
			m.Answer = w.signWith(stranger.of("a.plain.test."), record(t, "a.plain.test. 3600 IN A 192.0.2.66"))
		}, 10, "is not a zone"},
		{"wildcard forged from another", "exact.wild.test.", dns.TypeA, func(m *dns.Msg) {
			m.Answer = w.resolve("x.wild.test.", dns.TypeA).Answer
			rename(m.Answer, "exact.wild.test.")
		}, 12, "nothing proves"},
		{"wildcard with a proof about another name", "exact.wild.test.", dns.TypeA, func(m *dns.Msg) {
			*m = *w.resolve("x.wild.test.", dns.TypeA)
			rename(m.Answer, "exact.wild.test.")
		}, 12, "nothing proves"},
		{"hashed wildcard without proof", "x.wild.hashed.test.", dns.TypeTXT, func(m *dns.Msg) { m.Ns = nil }, 12, "nothing proves"},
	}
}

func brokenDenials(t *testing.T, w *world) []brokenAnswer {
	return []brokenAnswer{
		{"NXDOMAIN without proof", "a.plain.test.", dns.TypeA, func(m *dns.Msg) { m.Answer, m.Rcode = nil, dns.RcodeNameError }, 12, "nothing proves"},
		{"NXDOMAIN with a proof of another name", "a.plain.test.", dns.TypeA, func(m *dns.Msg) { *m = *w.resolve("zz.plain.test.", dns.TypeA) }, 12, "do not prove"},
		{"NODATA for a type that is there", "a.plain.test.", dns.TypeA, func(m *dns.Msg) { *m = *w.resolve("a.plain.test.", dns.TypeTXT) }, 12, "do not prove"},
		{"NXDOMAIN made NODATA", "no.plain.test.", dns.TypeA, func(m *dns.Msg) { m.Rcode = 0 }, 12, "do not prove"},
		{"NODATA made NXDOMAIN", "a.plain.test.", dns.TypeTXT, func(m *dns.Msg) { m.Rcode = dns.RcodeNameError }, 12, "do not prove"},
		{"NSEC changed", "no.plain.test.", dns.TypeA, func(m *dns.Msg) {
			for _, rr := range m.Ns {
				if n, ok := rr.(*dns.NSEC); ok {
					n.NextDomain = "zzz.plain.test."
				}
			}
		}, 6, "is wrong"},
		{"proof without the wildcard", "no.plain.test.", dns.TypeA, func(m *dns.Msg) {
			m.Ns = without(m.Ns, func(rr dns.RR) bool { return rr.Header().Name == "plain.test." && isSigned(dns.TypeNSEC)(rr) })
		}, 12, "do not prove"},
		{"hashed NXDOMAIN without the closest encloser", "no.no.hashed.test.", dns.TypeA, func(m *dns.Msg) {
			apex := w.zones["hashed.test."].match3("hashed.test.").Header().Name
			m.Ns = without(m.Ns, func(rr dns.RR) bool { return rr.Header().Name == apex })
		}, 12, "do not prove"},
		{"hashed NODATA for a type that is there", "a.hashed.test.", dns.TypeA, func(m *dns.Msg) { *m = *w.resolve("a.hashed.test.", dns.TypeTXT) }, 12, "do not prove"},
		{"the parent denies what is in the child", "a.plain.test.", dns.TypeA, func(m *dns.Msg) {
			*m = *w.resolve("plain.test.", dns.TypeAAAA)
			m.Ns = nil
			w.zones["test."].put(&m.Ns, "plain.test.", "plain.test.", dns.TypeNSEC)
			m.Rcode = dns.RcodeNameError
		}, 12, "do not prove"},
		{"the parent denies a type of the child's apex", "plain.test.", dns.TypeMX, func(m *dns.Msg) {
			m.Ns = nil
			w.zones["test."].put(&m.Ns, "plain.test.", "plain.test.", dns.TypeNSEC)
		}, 12, "do not prove"},
		{"the child denies its own DS", "plain.test.", dns.TypeDS, func(m *dns.Msg) {
			m.Answer = nil
			w.zones["plain.test."].put(&m.Ns, "plain.test.", "plain.test.", dns.TypeNSEC)
		}, 12, "do not prove"},
		{"DS signed by the child", "plain.test.", dns.TypeDS, func(m *dns.Msg) {
			z := w.zones["plain.test."]
			m.Answer = w.signWith(z.zsk, dns.Copy(m.Answer[0]))
		}, 10, "not by its zone"},
		{"an alias to where there is no proof", "www.test.", dns.TypeTXT, func(m *dns.Msg) {
			m.Ns = without(m.Ns, isSigned(dns.TypeNSEC))
		}, 12, "nothing proves"},
		{"an alias forged", "far.test.", dns.TypeA, func(m *dns.Msg) { m.Answer[0].(*dns.CNAME).Target = "child.open.test." }, 6, "is wrong"},
		{"alias of a DNAME leads elsewhere", "a.dname.test.", dns.TypeA, func(m *dns.Msg) {
			for _, rr := range m.Answer {
				if c, ok := rr.(*dns.CNAME); ok {
					c.Target = "a.unsigned.org."
				}
			}
		}, 10, "no signature"},
		{"unsigned name server record", "a.plain.test.", dns.TypeA, func(m *dns.Msg) { m.Ns = append(m.Ns, record(t, "plain.test. 3600 IN NS evil.org.")) }, 10, "no signature"},
		{"too many labels", "a.plain.test.", dns.TypeA, func(m *dns.Msg) {
			for _, rr := range m.Answer {
				if s, ok := rr.(*dns.RRSIG); ok {
					s.Labels = 4
				}
			}
		}, 6, "labels"},
		{"NSEC from a wildcard", "a.plain.test.", dns.TypeA, func(m *dns.Msg) {
			n := record(t, "*.plain.test. 600 IN NSEC zz.plain.test. NSEC RRSIG")
			m.Answer, m.Ns = nil, w.signWith(w.zones["plain.test."].zsk, n)
			rename(m.Ns, "a.plain.test.")
		}, 12, "nothing proves"},
	}
}

// of is the key under another zone's name.
func (k testKey) of(zone string) testKey {
	c := dns.Copy(k.DNSKEY).(*dns.DNSKEY)
	c.Hdr.Name = zone
	return testKey{c, k.signer}
}

func rename(rrs []dns.RR, name string) {
	for _, rr := range rrs {
		rr.Header().Name = name
	}
}

// TestSignatureTimes moves the clock over the life of signatures.
func TestSignatureTimes(t *testing.T) {
	w := tree(t)
	z := w.zones["plain.test."]
	for _, c := range []struct {
		now  time.Time
		want Security
		code uint16
		text string
	}{
		{z.inception, Secure, 0, ""},
		{z.inception.Add(-time.Second), Bogus, dns.ExtendedErrorCodeSignatureNotYetValid, "is valid from 2026-11-01T11:00:00Z on; it is now 2026-11-01T10:59:59Z"},
		{z.expiration, Secure, 0, ""},
		{z.expiration.Add(time.Second), Bogus, dns.ExtendedErrorCodeSignatureExpired, "expired at 2026-12-01T12:00:00Z; it is now 2026-12-01T12:00:01Z"},
	} {
		got := w.validator(&testClock{now: c.now}).Validate(context.Background(), question("a.plain.test.", dns.TypeA), w.resolve("a.plain.test.", dns.TypeA), w)
		if got.Security != c.want || got.ExtendedError != c.code || !strings.Contains(got.Text, c.text) {
			t.Errorf("at %s: %+v", c.now, got)
		}
	}
	// The serial of the year 2106 goes on (RFC 4034 section 3.1.5).
	k := newTestKey(t, ".", 257, dns.ED25519)
	turn := time.Unix(1<<32, 0)
	sig := k.sign(t, []dns.RR{k.DNSKEY}, turn.Add(-time.Hour), turn.Add(time.Hour))
	for _, now := range []time.Time{turn.Add(-time.Minute), turn, turn.Add(time.Minute)} {
		if err := checkTime(now, sig, "it"); err != nil {
			t.Error(err)
		}
	}
	if err := checkTime(turn.Add(2*time.Hour), sig, "it"); err == nil {
		t.Error("valid after its end")
	}
}

// TestLifetime: RFC 4035 section 5.3.3.
func TestLifetime(t *testing.T) {
	w := tree(t)
	c := &testClock{now: w.zones["plain.test."].expiration.Add(-90 * time.Second)}
	v := w.validator(c)
	m := w.resolve("a.plain.test.", dns.TypeA)
	if got := v.Validate(context.Background(), question("a.plain.test.", dns.TypeA), m, w); got.Lifetime != 90*time.Second {
		t.Errorf("near its end the answer may be kept for %s", got.Lifetime)
	}
	c.now = start
	for _, rr := range m.Answer {
		rr.Header().Ttl = 99999 // more than the zone said
	}
	if got := v.Validate(context.Background(), question("a.plain.test.", dns.TypeA), m, w); got.Lifetime != time.Hour {
		t.Errorf("an answer with a raised TTL may be kept for %s", got.Lifetime)
	}
}
