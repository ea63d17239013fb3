package dnssec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// rootKeys is a Fetcher for the keys of a root that change.
type rootKeys struct {
	t       *testing.T
	clock   *testClock
	keys    []testKey // in the set
	signers []testKey
	err     error
}

func (r *rootKeys) Fetch(ctx context.Context, name string, typ uint16) (*dns.Msg, error) {
	if name != "." || typ != dns.TypeDNSKEY {
		return nil, fmt.Errorf("asked for %s %s", name, dns.Type(typ))
	}
	m := new(dns.Msg)
	for _, k := range r.keys {
		m.Answer = append(m.Answer, k.DNSKEY)
	}
	set := m.Answer
	for _, k := range r.signers {
		m.Answer = append(m.Answer, k.sign(r.t, set, r.clock.now.Add(-time.Hour), r.clock.now.Add(14*24*time.Hour)))
	}
	return m, r.err
}

// revoked is the key with the REVOKE bit.
func (k testKey) revoked() testKey {
	c := dns.Copy(k.DNSKEY).(*dns.DNSKEY)
	c.Flags |= dns.REVOKE
	return testKey{c, k.signer}
}

// rollover is a validator whose anchors change, and a root to change them.
type rollover struct {
	*rootKeys
	file    string
	anchors []dns.RR
	v       *Validator
}

func newRollover(t *testing.T, first testKey) *rollover {
	r := &rollover{rootKeys: &rootKeys{t: t, clock: &testClock{now: start}}, file: filepath.Join(t.TempDir(), "anchors.json")}
	r.anchors = []dns.RR{first.ToDS(dns.SHA256)}
	r.keys, r.signers = []testKey{first}, []testKey{first}
	r.restart()
	return r
}

// restart opens the state file anew: each test survives it at any step.
func (r *rollover) restart() {
	r.t.Helper()
	var err error
	if r.v, err = New(Options{Anchors: r.anchors, State: r.file, Clock: r.clock}); err != nil {
		r.t.Fatal(err)
	}
}

// pass moves the clock day by day, looking at the keys each time, with a restart
// in between.
func (r *rollover) pass(days int) {
	r.t.Helper()
	for range days {
		r.clock.now = r.clock.now.Add(24 * time.Hour)
		if _, err := r.v.Refresh(context.Background(), r); err != nil {
			r.t.Fatal(err)
		}
		r.restart()
	}
}

func (r *rollover) look() {
	r.t.Helper()
	if _, err := r.v.Refresh(context.Background(), r); err != nil {
		r.t.Fatal(err)
	}
	r.restart()
}

// want compares the states of the keys in the file, and who is trusted: a set
// signed by that key alone is valid.
func (r *rollover) want(when string, states map[*testKey]string) {
	r.t.Helper()
	for k, state := range states {
		got := "start"
		if known := r.v.anchors.points["."].known(k.DNSKEY); known != nil {
			got = string(known.state)
		}
		if got != state {
			r.t.Errorf("%s: key %d is %s, want %s", when, k.KeyTag(), got, state)
		}
		old := *r.rootKeys
		r.keys, r.signers = []testKey{*k}, []testKey{*k}
		r.v.Flush()
		_, err := r.v.newRun(r).walk(context.Background(), ".")
		if trusted := state == "valid" || state == "missing"; (err == nil) != trusted {
			r.t.Errorf("%s: a set by key %d (%s): %v", when, k.KeyTag(), state, err)
		}
		*r.rootKeys = old
		r.v.Flush()
	}
}

// TestRollover: RFC 5011 section 6.2, from one key to the next.
func TestRollover(t *testing.T) {
	a, b := newTestKey(t, ".", 257, dns.ED25519), newTestKey(t, ".", 257, dns.ED25519)
	zsk := newTestKey(t, ".", 256, dns.ED25519)
	r := newRollover(t, a)
	r.keys = []testKey{a, zsk}
	r.look()
	r.want("first", map[*testKey]string{&a: "valid", &b: "start", &zsk: "start"})

	r.keys = []testKey{a, b, zsk}
	r.pass(1)
	r.want("new key published", map[*testKey]string{&a: "valid", &b: "pending", &zsk: "start"})
	r.pass(29)
	r.want("a day before the hold-down ends", map[*testKey]string{&b: "pending"})
	r.pass(1)
	r.want("after the hold-down", map[*testKey]string{&a: "valid", &b: "valid"})

	r.keys, r.signers = []testKey{a.revoked(), b, zsk}, []testKey{a.revoked(), b}
	r.pass(1)
	r.want("old key revoked", map[*testKey]string{&a: "revoked", &b: "valid"})
	r.keys, r.signers = []testKey{b, zsk}, []testKey{b}
	r.pass(29)
	r.want("before it is removed", map[*testKey]string{&a: "revoked"})
	r.pass(1)
	r.want("removed", map[*testKey]string{&a: "removed", &b: "valid"})

	// It never comes back, though it is the configured one.
	c := newTestKey(t, ".", 257, dns.ED25519)
	r.keys = []testKey{a, b, c}
	r.pass(40)
	r.want("published again", map[*testKey]string{&a: "removed", &b: "valid", &c: "valid"})

	r.keys, r.signers = []testKey{c, zsk}, []testKey{c}
	r.pass(1)
	r.want("no longer in the set", map[*testKey]string{&b: "missing"})
	r.keys = []testKey{b, c}
	r.pass(1)
	r.want("back in the set", map[*testKey]string{&b: "valid"})
}

// TestRolloverInterrupted: a new key must stay for the whole hold-down (RFC 5011
// section 2.2).
func TestRolloverInterrupted(t *testing.T) {
	a, b := newTestKey(t, ".", 257, dns.ED25519), newTestKey(t, ".", 257, dns.ED25519)
	r := newRollover(t, a)
	r.keys = []testKey{a, b}
	r.pass(20)
	r.want("on its way", map[*testKey]string{&b: "pending"})
	r.keys = []testKey{a}
	r.pass(1)
	r.want("gone for a day", map[*testKey]string{&b: "start"})
	r.keys = []testKey{a, b}
	r.pass(29)
	r.want("counted anew", map[*testKey]string{&b: "pending"})
	r.keys, r.signers = []testKey{a, b.revoked()}, []testKey{a, b.revoked()}
	r.pass(1)
	r.want("revoked before it was trusted", map[*testKey]string{&b: "start"})
}

// TestRolloverForged: keys that no trusted key vouches for, or revocations that
// the key itself did not sign, change nothing.
func TestRolloverForged(t *testing.T) {
	a, b := newTestKey(t, ".", 257, dns.ED25519), newTestKey(t, ".", 257, dns.ED25519)
	r := newRollover(t, a)
	r.look()
	r.keys, r.signers = []testKey{a, b}, []testKey{b}
	r.clock.now = r.clock.now.Add(24 * time.Hour)
	if _, err := r.v.Refresh(context.Background(), r); err == nil {
		t.Error("a set signed by an unknown key was taken")
	}
	r.want("a set by the new key alone", map[*testKey]string{&a: "valid", &b: "start"})
	r.keys, r.signers = []testKey{a.revoked(), b}, []testKey{b}
	r.clock.now = r.clock.now.Add(24 * time.Hour)
	if _, err := r.v.Refresh(context.Background(), r); err == nil {
		t.Error("a set signed by an unknown key was taken")
	}
	r.want("revoked by another", map[*testKey]string{&a: "valid", &b: "start"})
	r.keys, r.signers, r.err = []testKey{a}, []testKey{a}, errors.New("down")
	r.clock.now = r.clock.now.Add(24 * time.Hour)
	next, err := r.v.Refresh(context.Background(), r)
	if err == nil || next.Sub(r.clock.now) != minRefresh {
		t.Errorf("unreachable: next in %s, %v", next.Sub(r.clock.now), err)
	}
	r.err = nil
	r.want("unreachable", map[*testKey]string{&a: "valid"})
}

// TestLastAnchorRevoked: RFC 5011 section 5.
func TestLastAnchorRevoked(t *testing.T) {
	a := newTestKey(t, ".", 257, dns.ED25519)
	r := newRollover(t, a)
	r.keys, r.signers = []testKey{a.revoked()}, []testKey{a.revoked()}
	if _, err := r.v.Refresh(context.Background(), r); err == nil {
		t.Error("no error about a root without keys")
	}
	r.restart()
	got := r.v.Validate(context.Background(), question("a.", dns.TypeA), &dns.Msg{Answer: []dns.RR{record(t, "a. A 192.0.2.1")}}, r)
	if got.Security != Insecure || !strings.Contains(got.Text, "revoked") {
		t.Errorf("%+v", got)
	}
}

// TestRefreshTimes: RFC 5011 section 2.3.
func TestRefreshTimes(t *testing.T) {
	for _, c := range []struct {
		ttl  uint32
		left time.Duration
		want time.Duration
	}{
		{172800, 14 * 24 * time.Hour, 24 * time.Hour},
		{60, 14 * 24 * time.Hour, time.Hour},
		{172800, 6 * time.Hour, 3 * time.Hour},
		{1 << 30, 300 * 24 * time.Hour, 15 * 24 * time.Hour},
	} {
		sig := &dns.RRSIG{OrigTtl: c.ttl, Expiration: uint32(start.Add(c.left).Unix())}
		if got := interval(start, sig, 2, maxRefresh); got != c.want {
			t.Errorf("TTL %d, %s left: %s, want %s", c.ttl, c.left, got, c.want)
		}
	}
	w := tree(t)
	v := w.validator(&testClock{now: start})
	if next, err := v.Refresh(context.Background(), w); !next.IsZero() || err != nil || len(w.asked) > 0 {
		t.Errorf("without a state file: %s, %v, asked %v", next, err, w.asked)
	}
}

func TestStateFileRefused(t *testing.T) {
	a := newTestKey(t, ".", 257, dns.ED25519)
	file := filepath.Join(t.TempDir(), "anchors.json")
	for _, text := range []string{
		"", "nonsense", `{"Version": 2}`, `{"Version":1,"Keys":[{"Key":". IN A 192.0.2.1"}]}`,
		`{"Version":1,"Keys":[{"Key":"` + strings.ReplaceAll(a.DNSKEY.String(), "\t", " ") + `","State":"believed"}]}`,
		`{"Version":1,"Keys":[{"Key":". IN DNSKEY 257 3 1 AAAA","State":"valid"}]}`,
		strings.Repeat(" ", maxState+1),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Options{Anchors: []dns.RR{a.DNSKEY}, State: file}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%.80q: %v", text, err)
		}
	}
}

// TestStateFileReplaced: the file is private, and nothing is left beside it; when
// it cannot be written, that is said and the old one stays.
func TestStateFileReplaced(t *testing.T) {
	a, b := newTestKey(t, ".", 257, dns.ED25519), newTestKey(t, ".", 257, dns.ED25519)
	r := newRollover(t, a)
	r.look()
	r.keys = []testKey{a, b}
	r.pass(1)
	entries, err := os.ReadDir(filepath.Dir(r.file))
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	before, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	r.v.anchors.state = filepath.Join(r.file, "not-a-directory")
	r.clock.now = r.clock.now.Add(40 * 24 * time.Hour)
	if _, err := r.v.Refresh(context.Background(), r); err == nil {
		t.Error("no error about a file that cannot be written")
	}
	after, err := os.ReadFile(r.file)
	if err != nil || !slices.Equal(before, after) {
		t.Errorf("changed: %v", err)
	}
}
