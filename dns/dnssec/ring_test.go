package dnssec

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// ringed is a ring over its life; each step survives a restart.
type ringed struct {
	t      *testing.T
	dir    string
	policy Policy
	clock  *testClock
	*Ring
	last Signing
	next time.Time
}

func newRinged(t *testing.T, p Policy) *ringed {
	r := &ringed{t: t, dir: t.TempDir(), policy: p, clock: &testClock{now: start}}
	r.step()
	return r
}

// step opens the ring anew, takes a step, and another that must change nothing.
func (r *ringed) step() {
	r.t.Helper()
	ring, err := OpenRing(r.dir, "example.", r.policy, RingOptions{Clock: r.clock})
	if err != nil {
		r.t.Fatal(err)
	}
	r.Ring = ring
	if r.last, r.next, err = ring.Step(); err != nil {
		r.t.Fatal(err)
	}
	again, next, err := ring.Step()
	if err != nil || fmt.Sprint(tags(again.Keys), tags(again.KeySigs), tags(again.Sigs)) != fmt.Sprint(tags(r.last.Keys), tags(r.last.KeySigs), tags(r.last.Sigs)) || !next.Equal(r.next) {
		r.t.Errorf("a second step changed something: %v, %v", again, err)
	}
	if !r.next.IsZero() && !r.next.After(r.clock.now) {
		r.t.Errorf("the next step is at %s, it is %s", r.next, r.clock.now)
	}
}

// until moves to the time of the next step, which must be d from now.
func (r *ringed) until(what string, d time.Duration) {
	r.t.Helper()
	if got := r.next.Sub(r.clock.now); got != d {
		r.t.Errorf("%s: the next step is in %s, want %s", what, got, d)
	}
	r.clock.now = r.clock.now.Add(d)
	r.step()
}

// parent publishes the DS records of those keys.
func (r *ringed) parent(keys ...*Key) {
	r.t.Helper()
	var seen []*dns.DS
	for _, k := range keys {
		seen = append(seen, k.DS())
	}
	if err := r.ParentDS(seen); err != nil {
		r.t.Fatal(err)
	}
	r.step()
}

func tags(keys []*Key) []uint16 {
	var list []uint16
	for _, k := range keys {
		list = append(list, k.tag)
	}
	return list
}

// want compares what is published and what signs.
func (r *ringed) want(what string, keys, keySigs, sigs []*Key) {
	r.t.Helper()
	got := [][]uint16{tags(r.last.Keys), tags(r.last.KeySigs), tags(r.last.Sigs)}
	for i, list := range [][]*Key{keys, keySigs, sigs} {
		want := tags(list)
		slices.Sort(want)
		slices.Sort(got[i])
		if !slices.Equal(got[i], want) {
			r.t.Errorf("%s: %s %v, want %v", what, []string{"published", "signing keys", "signing"}[i], got[i], want)
		}
	}
}

// cds are the tags that the CDS records name.
func (r *ringed) cds() []uint16 {
	var list []uint16
	for _, rr := range r.last.CDS {
		list = append(list, rr.(*dns.CDS).KeyTag)
	}
	if len(r.last.CDS) != len(r.last.CDNSKEY) {
		r.t.Errorf("%d CDS, %d CDNSKEY", len(r.last.CDS), len(r.last.CDNSKEY))
	}
	return list
}

// newKey is the published key that is not among the others.
func (r *ringed) newKey(others ...*Key) *Key {
	r.t.Helper()
	for _, k := range r.last.Keys {
		if !slices.ContainsFunc(others, func(o *Key) bool { return o.tag == k.tag }) {
			return k
		}
	}
	r.t.Fatal("no new key")
	return nil
}

const day = 24 * time.Hour

// TestRingZSK: RFC 6781 section 4.1.1.1.
func TestRingZSK(t *testing.T) {
	r := newRinged(t, Policy{ZSKLifetime: 90 * day})
	k, z := r.last.KeySigs[0], r.last.Sigs[0]
	r.want("first", []*Key{k, z}, []*Key{k}, []*Key{z})
	if !k.SEP() || z.SEP() || r.last.CDS != nil || r.DS() != nil {
		t.Errorf("%v, %v, %v", k, z, r.last.CDS)
	}
	r.until("the first DS", day+time.Hour) // MaxTTL, since the zone was not signed before
	if got := r.cds(); !slices.Equal(got, []uint16{k.tag}) || r.DS()[0].KeyTag != k.tag {
		t.Errorf("CDS %v", got)
	}
	r.parent(k)
	r.until("the next ZSK is published", 90*day-2*time.Hour-day-time.Hour)
	z2 := r.newKey(k, z)
	r.want("published", []*Key{k, z, z2}, []*Key{k}, []*Key{z})
	r.until("it signs", 2*time.Hour)
	r.want("signs", []*Key{k, z, z2}, []*Key{k}, []*Key{z2})
	r.until("the old one goes", 15*day+time.Hour)
	r.want("gone", []*Key{k, z2}, []*Key{k}, []*Key{z2})
	if err := r.Roll(ZSK); err != nil {
		t.Fatal(err)
	}
	r.step()
	z3 := r.newKey(k, z2)
	if err := r.Roll(ZSK); err == nil {
		t.Error("two rollovers at once")
	}
	r.until("by hand", 2*time.Hour)
	r.want("by hand", []*Key{k, z2, z3}, []*Key{k}, []*Key{z3})
}

// TestRingKSK: RFC 6781 section 4.1.2; the old key waits for the parent.
func TestRingKSK(t *testing.T) {
	early := newRinged(t, Policy{})
	if err := early.Roll(KSK); err != nil || !strings.Contains(strings.Join(early.Advice(), "\n"), "is replaced then") {
		t.Errorf("a roll before a DS record may name the key: %v, %v", err, early.Advice())
	}
	r := newRinged(t, Policy{Algorithm: dns.ED25519, KSKLifetime: 365 * day})
	k, z := r.last.KeySigs[0], r.last.Sigs[0]
	r.until("the first DS", day+time.Hour)
	if text := strings.Join(r.Advice(), "\n"); !strings.Contains(text, "Publish this record") || !strings.Contains(text, k.DS().String()) {
		t.Errorf("advice: %s", text)
	}
	r.parent(k)
	if text := strings.Join(r.Advice(), "\n"); strings.Contains(text, "Publish") {
		t.Errorf("advice: %s", text)
	}
	r.until("the next KSK is published", 365*day-2*time.Hour-day-time.Hour)
	k2 := r.newKey(k, z)
	r.want("published", []*Key{k, k2, z}, []*Key{k, k2}, []*Key{z})
	if got := r.cds(); !slices.Equal(got, []uint16{k.tag}) {
		t.Errorf("CDS %v before the new key is known", got)
	}
	r.until("ready", 2*time.Hour)
	if got := r.cds(); !slices.Equal(got, []uint16{k2.tag}) {
		t.Errorf("CDS %v", got)
	}
	if !r.next.IsZero() {
		t.Errorf("next %s, though only the parent can act", r.next)
	}
	r.clock.now = r.clock.now.Add(365 * day) // it takes its time
	r.step()
	r.want("waiting", []*Key{k, k2, z}, []*Key{k, k2}, []*Key{z})
	r.parent(k, k2)
	if text := strings.Join(r.Advice(), "\n"); !strings.Contains(text, fmt.Sprintf("Remove the DS record with key tag %d", k.tag)) {
		t.Errorf("advice: %s", text)
	}
	r.parent(k2)
	r.want("the parent has changed", []*Key{k, k2, z}, []*Key{k, k2}, []*Key{z})
	r.until("old DS forgotten", day)
	if got := r.newKey(k2, z); got == nil {
		t.Error("no successor, though its lifetime is over")
	}
	if slices.Contains(tags(r.last.Keys), k.tag) {
		t.Error("the old key stays")
	}
}

// TestRingUnknownParent: as long as nobody has looked at the parent, no key that
// a DS may name goes.
func TestRingUnknownParent(t *testing.T) {
	r := newRinged(t, Policy{})
	k, z := r.last.KeySigs[0], r.last.Sigs[0]
	r.until("ready", day+time.Hour)
	if err := r.Roll(KSK); err != nil {
		t.Fatal(err)
	}
	r.step()
	k2 := r.newKey(k, z)
	r.until("ready", 2*time.Hour)
	r.clock.now = r.clock.now.Add(100 * day)
	r.step()
	r.want("nobody looked", []*Key{k, k2, z}, []*Key{k, k2}, []*Key{z})
	r.parent()
	r.until("there is no DS", day)
	r.want("there is no DS", []*Key{k2, z}, []*Key{k2}, []*Key{z})
}

// TestRingCSK: one key for all.
func TestRingCSK(t *testing.T) {
	r := newRinged(t, Policy{SingleKey: true})
	c := r.last.Keys[0]
	r.want("first", []*Key{c}, []*Key{c}, []*Key{c})
	r.until("ready", day+time.Hour)
	r.parent(c)
	if err := r.Roll(CSK); err != nil {
		t.Fatal(err)
	}
	r.step()
	c2 := r.newKey(c)
	r.want("published", []*Key{c, c2}, []*Key{c, c2}, []*Key{c})
	r.until("ready", 2*time.Hour)
	r.want("ready", []*Key{c, c2}, []*Key{c, c2}, []*Key{c2})
	r.parent(c2)
	r.clock.now = r.clock.now.Add(2 * day)
	r.step()
	r.want("old signatures are still about", []*Key{c, c2}, []*Key{c, c2}, []*Key{c2})
	r.clock.now = r.clock.now.Add(14 * day)
	r.step()
	r.want("done", []*Key{c2}, []*Key{c2}, []*Key{c2})
}

// TestRingUnsign: RFC 8078 section 4, and back.
func TestRingUnsign(t *testing.T) {
	r := newRinged(t, Policy{})
	k := r.last.KeySigs[0]
	r.until("ready", day+time.Hour)
	r.parent(k)
	if err := r.Unsign(true); err != nil {
		t.Fatal(err)
	}
	r.step()
	if len(r.last.CDS) != 1 || !strings.HasSuffix(r.last.CDS[0].String(), "\tCDS\t0 0 0 00") ||
		len(r.last.CDNSKEY) != 1 || !strings.HasSuffix(r.last.CDNSKEY[0].String(), "\tCDNSKEY\t0 3 0 AA==") || r.DS() != nil {
		t.Errorf("%v, %v", r.last.CDS, r.last.CDNSKEY)
	}
	r.clock.now = r.clock.now.Add(30 * day)
	r.step()
	if r.last.Remove {
		t.Fatal("unsigned while the parent has a DS")
	}
	r.parent()
	r.until("the DS is forgotten", day)
	if !r.last.Remove || len(r.last.Keys) != 0 {
		t.Errorf("%+v", r.last)
	}
	if text := strings.Join(r.Advice(), "\n"); !strings.Contains(text, "not signed") {
		t.Errorf("advice: %s", text)
	}
	if err := r.Unsign(false); err != nil {
		t.Fatal(err)
	}
	r.step()
	if r.last.Remove || len(r.last.Keys) != 2 || slices.Contains(tags(r.last.Keys), k.tag) || r.last.CDS != nil {
		t.Errorf("signed again: %+v", r.last)
	}
}

// TestRingFiles: what a ring does not open, and what a crash leaves.
func TestRingFiles(t *testing.T) {
	r := newRinged(t, Policy{})
	state := r.file()
	good, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(state); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for _, text := range []string{"", "{}", "[]", strings.Replace(string(good), `"Version": 1`, `"Version": 2`, 1),
		strings.Replace(string(good), `"example."`, `"other."`, 1), strings.ReplaceAll(string(good), `"File": "`, `"File": "../`),
		strings.ReplaceAll(string(good), `"ksk"`, `"abc"`), strings.ReplaceAll(string(good), `+013+`, `+014+`)} {
		if err := os.WriteFile(state, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenRing(r.dir, "example.", Policy{}, RingOptions{}); err == nil {
			t.Errorf("opened with the state %q", text)
		}
	}
	// A crash after the keys were written and before the state: new keys.
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	r.step()
	if len(r.last.Keys) != 2 {
		t.Errorf("%v", r.last.Keys)
	}
	for _, p := range []Policy{{SingleKey: true}, {Algorithm: dns.ED25519}, {Algorithm: dns.RSASHA256}, {OptOut: true}, {Validity: time.Second},
		{Refresh: 13 * day}, {MaxTTL: 10 * day}, {KeyTTL: -1}} {
		if _, err := OpenRing(r.dir, "example.", p, RingOptions{}); err == nil {
			t.Errorf("opened with the policy %+v", p)
		}
	}
	// The state cannot be written: nothing is published that would be forgotten.
	dir := t.TempDir()
	ring, err := OpenRing(filepath.Join(dir, "keys"), "example.", Policy{}, RingOptions{Clock: r.clock})
	if err != nil {
		t.Fatal(err)
	}
	ring.dir = filepath.Join(dir, "gone")
	if s, _, err := ring.Step(); err == nil {
		t.Errorf("%+v", s)
	}
}
