package zone

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
	"postrider/internal/clock"
)

var signTime = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// signKeys makes a KSK and a ZSK for a zone.
func signKeys(t testing.TB, origin string) []*dnssec.Key {
	t.Helper()
	var keys []*dnssec.Key
	for _, role := range []dnssec.Role{dnssec.KSK, dnssec.ZSK} {
		k, err := dnssec.GenerateKey(origin, role, miekg.ED25519, 3600)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	return keys
}

func signing(t testing.TB, p dnssec.Policy, now time.Time, keys ...*dnssec.Key) dnssec.Signing {
	t.Helper()
	s, err := dnssec.NewSigning(p, now, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const signText = `
$TTL 3600
@ SOA ns hostmaster 10 7200 3600 1209600 600
@ NS ns
@ MX 10 mail
ns A 192.0.2.1
mail A 192.0.2.2
a.b.ent TXT "below two empty non-terminals"
*.wild A 192.0.2.3
www CNAME mail
old DNAME elsewhere
hidden.old A 192.0.2.66
sub NS ns.sub
sub NS other.example.
ns.sub A 192.0.2.4
signed NS ns
signed DS 1234 13 2 0000000000000000000000000000000000000000000000000000000000000000
only.deleg NS ns
`

// signPolicies are the three kinds of denial.
var signPolicies = []dnssec.Policy{{}, {NSEC3: true}, {NSEC3: true, OptOut: true}}

// standsIn checks that a zone is signed as a whole: the outcome of signing it
// anew, but for the signatures themselves and the serial; and that each signature
// holds.
func standsIn(t *testing.T, z *Zone, s dnssec.Signing) {
	t.Helper()
	fresh, _, err := z.Sign(SignOptions{Signing: s})
	if err != nil {
		t.Fatal(err)
	}
	text := func(z *Zone) []string {
		var list []string
		for rr := range z.All() {
			if sig, ok := rr.(*miekg.RRSIG); ok {
				list = append(list, fmt.Sprintf("%s %d RRSIG %s %d", sig.Hdr.Name, sig.Hdr.Ttl, miekg.Type(sig.TypeCovered), sig.Algorithm))
				continue
			}
			list = append(list, rr.String())
		}
		return list
	}
	have, want := text(z), text(fresh)
	for _, line := range have {
		if !slices.Contains(want, line) {
			t.Errorf("too much: %s", line)
		}
	}
	for _, line := range want {
		if !slices.Contains(have, line) {
			t.Errorf("missing: %s", line)
		}
	}
	if z.Len() != len(have) {
		t.Errorf("Len %d, %d records", z.Len(), len(have))
	}
	verifyAll(t, z, s)
}

func verifyAll(t *testing.T, z *Zone, s dnssec.Signing) {
	t.Helper()
	check := func(n *node) bool {
		for _, set := range n.sets {
			for _, rr := range set.signatures() {
				sig := rr.(*miekg.RRSIG)
				i := slices.IndexFunc(s.Keys, func(k *dnssec.Key) bool { return k.Tag() == sig.KeyTag })
				if i < 0 {
					t.Errorf("%s: by an unknown key", sig)
				} else if err := sig.Verify(s.Keys[i].Record(), set.records(false)); err != nil {
					t.Errorf("%s: %v", sig, err)
				}
				if !sig.ValidityPeriod(s.Now) {
					t.Errorf("%s: not valid at %s", sig, s.Now)
				}
			}
		}
		return true
	}
	z.apex.walk(check)
	z.hashes.each(check)
}

// served answers the validator's questions from one zone.
type served struct{ z *Zone }

func (s served) Fetch(_ context.Context, name string, typ uint16) (*miekg.Msg, error) {
	return s.ask(name, typ), nil
}

func (s served) ask(name string, typ uint16) *miekg.Msg {
	q := miekg.Question{Name: name, Qtype: typ, Qclass: miekg.ClassINET}
	r := s.z.Answer(q, AnswerOptions{DNSSEC: true})
	return &miekg.Msg{MsgHdr: miekg.MsgHdr{Rcode: r.Rcode, Authoritative: r.Authoritative}, Question: []miekg.Question{q}, Answer: r.Answer, Ns: r.Ns, Extra: r.Extra}
}

// standing is a clock that does not go.
type standing struct {
	clock.Clock
	now time.Time
}

func (c standing) Now() time.Time { return c.now }

// TestSignedAnswers: what the zone answers, the validator believes.
func TestSignedAnswers(t *testing.T) {
	keys := signKeys(t, "example.")
	for _, p := range signPolicies {
		s := signing(t, p, signTime, keys...)
		z, due, err := mustRead(t, "example.", signText).Sign(SignOptions{Signing: s})
		if err != nil {
			t.Fatal(err)
		}
		if left := due.Sub(signTime); left < 7*24*time.Hour || left > 14*24*time.Hour {
			t.Errorf("due in %s", left)
		}
		standsIn(t, z, s)
		v, err := dnssec.New(dnssec.Options{Anchors: []miekg.RR{keys[0].DS()}, Clock: standing{now: signTime}})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"", "ns.", "mail.", "ent.", "b.ent.", "a.b.ent.", "no.ent.", "x.wild.", "x.y.wild.", "wild.", "*.wild.",
			"www.", "x.www.", "zzz.", "0.", "no.no.no.", "signed.", "only.", "sub.", "deleg.only.", "only.deleg."} {
			for _, typ := range []uint16{miekg.TypeA, miekg.TypeMX, miekg.TypeTXT, miekg.TypeDS, miekg.TypeCNAME, miekg.TypeNSEC, miekg.TypeDNSKEY, miekg.TypeNSEC3PARAM} {
				believed(t, v, z, name+"example.", typ, p.OptOut)
			}
		}
	}
}

// believed asks a zone, and wants an answer that is secure, or a denial with
// opt-out. It says false of a referral and of a question for the parent.
func believed(t *testing.T, v *dnssec.Validator, z *Zone, name string, typ uint16, optOut bool) bool {
	t.Helper()
	m := served{z}.ask(name, typ)
	if !m.Authoritative || name == z.origin && typ == miekg.TypeDS {
		return false
	}
	got := v.Validate(context.Background(), m.Question[0], m, served{z})
	if got.Security != dnssec.Secure && !(optOut && got.Security == dnssec.Insecure && strings.Contains(got.Text, "opt-out")) {
		t.Errorf("opt-out %t: %s %s: %s: %s\n%v", optOut, name, miekg.Type(typ), got.Security, got.Text, m)
	}
	return true
}

// TestSignFollows changes a zone at random, step by step, and compares what is
// signed incrementally with what is signed anew.
func TestSignFollows(t *testing.T) {
	keys := signKeys(t, "example.")
	for i, p := range signPolicies {
		for seed := range uint64(3) {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			s := signing(t, p, signTime, keys...)
			z, _, err := mustRead(t, "example.", signText).Sign(SignOptions{Signing: s})
			if err != nil {
				t.Fatal(err)
			}
			for step := range 8 {
				e := z.edit()
				for range 1 + r.IntN(4) {
					randomEdit(t, r, e)
				}
				changed, err := e.finish()
				if err != nil {
					t.Fatal(err)
				}
				s.Now = s.Now.Add(time.Hour)
				next, _, err := changed.Sign(SignOptions{Signing: s, Old: z})
				if err != nil {
					t.Fatal(err)
				}
				standsIn(t, next, s)
				if next != z && next.Serial() == z.Serial() {
					t.Errorf("serial stays %d", z.Serial())
				}
				if t.Failed() {
					t.Fatalf("%+v, seed %d, step %d: %v", p, seed, step, Between(z, changed))
				}
				z = next
			}
		}
	}
}

// randomEdit adds or removes a record of few names, so that they meet.
func randomEdit(t *testing.T, r *rand.Rand, e *edit) {
	t.Helper()
	labels := []string{"a", "b", "sub", "*", "only", "old"}
	name := "example."
	for range 1 + r.IntN(3) {
		name = labels[r.IntN(len(labels))] + "." + name
	}
	data := []string{"A 192.0.2.1", "A 192.0.2.2", "TXT x", "NS ns.example.", "NS ns.other.", "DNAME other.", "MX 1 mail.example.",
		"DS 1234 13 2 0000000000000000000000000000000000000000000000000000000000000000"}
	rr, err := miekg.NewRR(name + " 3600 IN " + data[r.IntN(len(data))])
	if err != nil {
		t.Fatal(err)
	}
	if r.IntN(3) > 0 {
		if err := e.add(rr); err != nil {
			t.Fatal(err)
		}
		return
	}
	// All records of a name go; what was signed is left behind.
	n := e.node(name, false)
	if n == nil {
		return
	}
	for _, set := range slices.Clone(n.sets) {
		if set.typ != miekg.TypeNSEC {
			for _, rr := range set.records(false) {
				e.remove(rr)
			}
		}
	}
}

// TestSignLittle: a small change of a large zone makes few signatures, and no
// change makes none.
func TestSignLittle(t *testing.T) {
	keys := signKeys(t, "example.")
	for _, p := range signPolicies {
		var text strings.Builder
		text.WriteString(signText)
		for i := range 300 {
			fmt.Fprintf(&text, "host%d A 192.0.2.1\n", i)
		}
		s := signing(t, p, signTime, keys...)
		z, _, err := mustRead(t, "example.", text.String()).Sign(SignOptions{Signing: s})
		if err != nil {
			t.Fatal(err)
		}
		if same, _, err := z.Sign(SignOptions{Signing: s, Old: z, Scan: true}); err != nil || same != z {
			t.Errorf("a scan at once made another version: %v, %v", Between(z, same), err)
		}
		e := z.edit()
		addText(t, e, "host5000.example. 3600 IN A 192.0.2.7")
		changed, err := e.finish()
		if err != nil {
			t.Fatal(err)
		}
		next, _, err := changed.Sign(SignOptions{Signing: s, Old: z})
		if err != nil {
			t.Fatal(err)
		}
		// Itself, its denial, the denial before it, the SOA.
		d := Between(z, next)
		sigs := 0
		for _, rr := range d.Added {
			if isSig(rr) {
				sigs++
			}
		}
		if sigs != 4 || len(d.Added) != 7 || next.Serial() != z.Serial()+1 {
			t.Errorf("%+v: %d signatures, %d records, serial %d: %v", p, sigs, len(d.Added), next.Serial(), d.Added)
		}
	}
}

// TestSignRefreshes: signatures are made anew before they end, and not all at
// once.
func TestSignRefreshes(t *testing.T) {
	keys := signKeys(t, "example.")
	var text strings.Builder
	text.WriteString(signText)
	for i := range 60 {
		fmt.Fprintf(&text, "host%d A 192.0.2.1\n", i)
	}
	s := signing(t, dnssec.Policy{}, signTime, keys...)
	z, due, err := mustRead(t, "example.", text.String()).Sign(SignOptions{Signing: s})
	if err != nil {
		t.Fatal(err)
	}
	end := signTime.Add(30 * 24 * time.Hour)
	for rounds := 0; s.Now.Before(end); rounds++ {
		if rounds == 1000 || !due.After(s.Now) {
			t.Fatalf("due %s at %s after %d rounds", due, s.Now, rounds)
		}
		s.Now = due.Truncate(3 * time.Hour).Add(3 * time.Hour)
		next, d, err := z.Sign(SignOptions{Signing: s, Old: z, Scan: true})
		if err != nil {
			t.Fatal(err)
		}
		if changed := len(Between(z, next).Added); changed == 0 || rounds == 0 && changed > z.Len()/4 {
			t.Errorf("round %d changed %d of %d records", rounds, changed, z.Len())
		}
		z, due = next, d
		if rounds%16 == 0 {
			verifyAll(t, z, s)
		}
	}
}

// TestSignKeysChange: with another ZSK the old one's signatures stay while it is
// published, and go with it.
func TestSignKeysChange(t *testing.T) {
	a, b := signKeys(t, "example."), signKeys(t, "example.")
	for _, p := range signPolicies {
		s := signing(t, p, signTime, a...)
		z, _, err := mustRead(t, "example.", signText).Sign(SignOptions{Signing: s})
		if err != nil {
			t.Fatal(err)
		}
		s.Keys = []*dnssec.Key{a[0], a[1], b[1]}
		s.Sigs = []*dnssec.Key{b[1]}
		next, _, err := z.Sign(SignOptions{Signing: s, Old: z, Scan: true})
		if err != nil {
			t.Fatal(err)
		}
		standsIn(t, next, s)
		if sigs := Between(z, next).Added; len(sigs) != 3 { // the new key, its set's signature and the SOA's
			t.Errorf("publishing a key changed %v", sigs)
		}
		s.Keys = []*dnssec.Key{a[0], b[1]}
		last, _, err := next.Sign(SignOptions{Signing: s, Old: next, Scan: true})
		if err != nil {
			t.Fatal(err)
		}
		standsIn(t, last, s) // which knows no other keys
		plain, _, err := last.Sign(SignOptions{Signing: dnssec.Signing{Zone: "example.", Remove: true}, Old: last})
		if err != nil {
			t.Fatal(err)
		}
		for rr := range plain.All() {
			switch rr.Header().Rrtype {
			case miekg.TypeRRSIG, miekg.TypeDNSKEY, miekg.TypeNSEC, miekg.TypeNSEC3, miekg.TypeNSEC3PARAM:
				t.Errorf("unsigned, but %s", rr)
			}
		}
		if plain.Signed() || plain.Serial() != last.Serial()+1 || plain.Len() != mustRead(t, "example.", signText).Len() {
			t.Errorf("unsigned: serial %d, %d records", plain.Serial(), plain.Len())
		}
		// From each kind of denial to each other.
		for _, other := range signPolicies {
			s := signing(t, other, signTime, a...)
			moved, _, err := z.Sign(SignOptions{Signing: s, Old: z})
			if err != nil {
				t.Fatal(err)
			}
			standsIn(t, moved, s)
		}
	}
	if _, _, err := mustRead(t, "other.", strings.ReplaceAll(signText, "example.", "other.")).Sign(SignOptions{Signing: signing(t, dnssec.Policy{}, signTime, a...)}); err == nil {
		t.Error("signed with the keys of another zone")
	}
}
