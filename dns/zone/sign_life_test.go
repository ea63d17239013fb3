package zone

import (
	"context"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
	"postrider/internal/clock"
)

// moving is a clock that the test moves.
type moving struct {
	clock.Clock
	now time.Time
}

func (c *moving) Now() time.Time { return c.now }

// family is a parent zone with fixed keys, and a child whose keys roll over.
type family struct {
	t             *testing.T
	clock         *moving
	keys          []*dnssec.Key
	parent, child *Zone
}

func (f *family) Fetch(_ context.Context, name string, typ uint16) (*miekg.Msg, error) {
	if name == "example." || typ == miekg.TypeDS {
		return served{f.parent}.ask(name, typ), nil
	}
	return served{f.child}.ask(name, typ), nil
}

// delegate signs a parent with these DS records.
func (f *family) delegate(ds []miekg.RR) {
	f.t.Helper()
	text := "$TTL 3600\n@ SOA ns hostmaster 1 7200 3600 1209600 600\n@ NS ns.sub\nsub NS ns.sub\nns.sub A 192.0.2.1\n"
	for _, rr := range ds {
		text += rr.String() + "\n"
	}
	var err error
	s := signing(f.t, dnssec.Policy{}, f.clock.now, f.keys...)
	if f.parent, _, err = mustRead(f.t, "example.", text).Sign(SignOptions{Signing: s}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *family) validator() *dnssec.Validator {
	v, err := dnssec.New(dnssec.Options{Anchors: []miekg.RR{f.keys[0].DS()}, Clock: f.clock})
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

// TestKeysRollUnseen: over four months of rollovers, with a parent that follows CDS
// records, no validator ever finds an answer bogus: neither one that remembers the
// keys, nor one that does not, and answers of yesterday included.
func TestKeysRollUnseen(t *testing.T) {
	for _, single := range []bool{false, true} {
		f := &family{t: t, clock: &moving{now: signTime}, keys: signKeys(t, "example.")}
		policy := dnssec.Policy{SingleKey: single, ZSKLifetime: 30 * 24 * time.Hour, KSKLifetime: 60 * 24 * time.Hour, Algorithm: miekg.ED25519}
		dir := t.TempDir()
		f.child = mustRead(t, "sub.example.", signText)
		f.delegate(nil)
		remembers := f.validator()
		var yesterday []*miekg.Msg // answers of the last day, oldest first
		seen := map[uint16]bool{}
		secure := 0
		for range 120 * 3 {
			f.clock.now = f.clock.now.Add(8 * time.Hour)
			f.step(policy, dir)
			for _, rr := range f.child.Find("sub.example.", miekg.TypeDNSKEY) {
				seen[rr.(*miekg.DNSKEY).KeyTag()] = true
			}
			yesterday = append(yesterday, served{f.child}.ask("mail.sub.example.", miekg.TypeA))
			if len(yesterday) > 4 {
				yesterday = yesterday[1:]
			}
			knowsNothing := f.validator()
			for _, m := range yesterday {
				for _, v := range []*dnssec.Validator{remembers, knowsNothing} {
					got := v.Validate(context.Background(), m.Question[0], m, f)
					if got.Refuse() {
						t.Fatalf("single key %t, at %s: %s", single, f.clock.now, got.Text)
					}
					if got.Security == dnssec.Secure {
						secure++
					}
				}
			}
		}
		if want := map[bool]int{false: 5, true: 2}[single]; len(seen) < want || secure < 2000 {
			t.Errorf("single key %t: %d keys, %d secure answers", single, len(seen), secure)
		}
	}
}

// step lets eight hours pass at the child and its parent.
func (f *family) step(policy dnssec.Policy, dir string) {
	f.t.Helper()
	ring, err := dnssec.OpenRing(dir, "sub.example.", policy, dnssec.RingOptions{Clock: f.clock})
	if err != nil {
		f.t.Fatal(err)
	}
	how, _, err := ring.Step()
	if err != nil {
		f.t.Fatal(err)
	}
	old := f.child
	if !old.Signed() {
		old = nil
	}
	if f.child, _, err = f.child.Sign(SignOptions{Signing: how, Old: old, Scan: true}); err != nil {
		f.t.Fatal(err)
	}
	// The parent takes over what the child asks for, and signs often.
	var ds []miekg.RR
	for _, rr := range f.child.Find("sub.example.", miekg.TypeCDS) {
		d := rr.(*miekg.CDS).DS
		d.Hdr.Rrtype = miekg.TypeDS
		ds = append(ds, &d)
	}
	f.delegate(ds)
	var there []*miekg.DS
	for _, rr := range f.parent.Find("sub.example.", miekg.TypeDS) {
		there = append(there, rr.(*miekg.DS))
	}
	if err := ring.ParentDS(there); err != nil {
		f.t.Fatal(err)
	}
}
