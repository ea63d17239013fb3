package zone

import (
	"math/rand/v2"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
	"postrider/dns/names"
)

// TestDeny: what the denial records of a signed zone prove about a name is what
// the zone answers; and fewer records prove less, never something else. This is
// what the aggressive use of them (RFC 8198) rests on.
func TestDeny(t *testing.T) {
	keys := signKeys(t, "example.")
	for i, p := range signPolicies {
		for seed := range uint64(6) {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			z, _, err := randomZone(t, seed, 20).Sign(SignOptions{Signing: signing(t, p, time.Now(), keys...)})
			if err != nil {
				t.Fatal(err)
			}
			var all []miekg.RR
			for rr := range z.All() {
				if typ := rr.Header().Rrtype; typ == miekg.TypeNSEC || typ == miekg.TypeNSEC3 {
					all = append(all, rr)
				}
			}
			z.visit(func(n *node, _ position) bool {
				for _, name := range []string{n.name, names.Wildcard(n.name), "m." + n.name, "a.m." + n.name} {
					for _, typ := range []uint16{miekg.TypeA, miekg.TypeNS, miekg.TypeDS, miekg.TypeCNAME} {
						denies(t, r, z, all, name, typ)
					}
				}
				return !t.Failed()
			})
			if t.Failed() {
				t.Fatalf("%+v, seed %d", p, seed)
			}
		}
	}
}

func denies(t *testing.T, r *rand.Rand, z *Zone, all []miekg.RR, name string, typ uint16) {
	t.Helper()
	var l labels
	l.split(name)
	n, left, pos := z.search(&l, l.n-z.labels, typ)
	var want dnssec.Existence
	switch m := (served{z}).ask(name, typ); {
	case pos == delegation, pos == redirected, name == z.origin && typ == miekg.TypeDS:
		want = dnssec.Unproven
	case m.Rcode == miekg.RcodeNameError:
		want = dnssec.NoName
	case len(m.Answer) == 0:
		want = dnssec.NoData
	case pos == missing && left > 0 && n != nil:
		want = dnssec.Expands
	}
	got := dnssec.Deny(z.origin, name, typ, all)
	// Opt-out leaves insecure delegations, and what is below them, out.
	if got.Existence != want && !got.OptOut {
		t.Errorf("%s %s: proves %d, want %d (%v)", name, miekg.Type(typ), got.Existence, want, got.Used)
	}
	if got.Delegation && z.Find(name, miekg.TypeNS) == nil {
		t.Errorf("%s %s: no delegation", name, miekg.Type(typ))
	}
	some := make([]miekg.RR, 0, len(all))
	for _, rr := range all {
		if r.IntN(4) > 0 {
			some = append(some, rr)
		}
	}
	less := dnssec.Deny(z.origin, name, typ, some)
	if less.Existence != got.Existence && less.Existence != dnssec.Unproven &&
		(less.Existence != dnssec.Expands || got.Existence == dnssec.Unproven) && !less.OptOut {
		t.Errorf("%s %s: some records prove %d, all %d", name, miekg.Type(typ), less.Existence, got.Existence)
	}
	// Used records alone prove the same.
	if again := dnssec.Deny(z.origin, name, typ, got.Used); again.Existence != got.Existence {
		t.Errorf("%s %s: the records used prove %d, all %d", name, miekg.Type(typ), again.Existence, got.Existence)
	}
}
