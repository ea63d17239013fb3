package recursor

import (
	"crypto"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
	"postrider/dns/zone"
)

// rootKey signs the keys of a root; revoked says so itself (RFC 5011).
type rootKey struct {
	record *miekg.DNSKEY
	signer crypto.Signer
}

func newRootKey(t *testing.T) rootKey {
	t.Helper()
	k := &miekg.DNSKEY{Hdr: miekg.RR_Header{Name: ".", Rrtype: miekg.TypeDNSKEY, Class: miekg.ClassINET, Ttl: 3600}, Flags: 257, Protocol: 3, Algorithm: miekg.ED25519}
	private, err := k.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	return rootKey{k, private.(crypto.Signer)}
}

func (k rootKey) revoked() rootKey {
	r := miekg.Copy(k.record).(*miekg.DNSKEY)
	r.Flags |= miekg.REVOKE
	return rootKey{r, k.signer}
}

// signed is the set of keys with a signature by each of those that are for that.
func signed(t *testing.T, keys []rootKey, zsk *dnssec.Key) []miekg.RR {
	t.Helper()
	set := []miekg.RR{zsk.Record()}
	for _, k := range keys {
		set = append(set, k.record)
	}
	out := set
	for _, k := range keys {
		now := time.Now()
		sig := &miekg.RRSIG{Hdr: miekg.RR_Header{Name: ".", Rrtype: miekg.TypeRRSIG, Class: miekg.ClassINET, Ttl: 3600}, Algorithm: k.record.Algorithm,
			SignerName: ".", KeyTag: k.record.KeyTag(), Inception: uint32(now.Add(-time.Hour).Unix()), Expiration: uint32(now.Add(14 * 24 * time.Hour).Unix())}
		if err := sig.Sign(k.signer, set); err != nil {
			t.Fatal(err)
		}
		out = append(out, sig)
	}
	return out
}

// TestAnchorsFollow: over four months the root replaces its key by RFC 5011, and no
// answer is ever less than secure for a resolver that is asked once a day and
// started anew every week. One that begins at the end with the first key believes
// nothing.
func TestAnchorsFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		first, second := newRootKey(t), newRootKey(t)
		keys := []rootKey{first}
		var zsk [2]*dnssec.Key
		for i, role := range []dnssec.Role{dnssec.KSK, dnssec.ZSK} { // the former is not shown
			var err error
			if zsk[i], err = dnssec.GenerateKey(".", role, miekg.ED25519, 3600); err != nil {
				t.Fatal(err)
			}
		}
		hosts := []string{"198.41.0.4", "198.41.0.5"}
		day := func() {
			time.Sleep(24 * time.Hour)
			for _, a := range hosts {
				h := w.serve(a, ".", rootZone+"leaf. A 192.0.2.1\n")
				s, err := dnssec.NewSigning(dnssec.Policy{}, time.Now(), zsk[:]...)
				if err != nil {
					t.Fatal(err)
				}
				if h.zones["."], _, err = h.zones["."].Sign(zone.SignOptions{Signing: s, Scan: true}); err != nil {
					t.Fatal(err)
				}
				w.twist(a, func(q asking, m *miekg.Msg) []*miekg.Msg {
					if q.name == "." && q.typ == miekg.TypeDNSKEY {
						m.Answer = signed(t, keys, zsk[1])
					}
					return []*miekg.Msg{m}
				})
			}
		}
		anchors := []miekg.RR{first.record.ToDS(miekg.SHA256)}
		start := func(state string) *Resolver {
			v, err := dnssec.New(dnssec.Options{Anchors: anchors, State: state})
			if err != nil {
				t.Fatal(err)
			}
			return newTest(t, w, Options{Validator: v})
		}
		state := filepath.Join(t.TempDir(), "anchors")
		r := start(state)
		for n := range 120 {
			switch n {
			case 5:
				keys = []rootKey{first, second} // and only the first is trusted yet
			case 45:
				keys = []rootKey{first.revoked(), second}
			case 80:
				keys = []rootKey{second}
			}
			day()
			if a := ask(t, r, "leaf.", miekg.TypeA); a.Security != Secure {
				t.Fatalf("on day %d: %+v", n, a)
			}
			synctest.Wait() // the anchors are looked at beside the answer
			if n%7 == 6 {
				r.Close()
				r = start(state)
			}
		}
		if a := ask(t, start(""), "leaf.", miekg.TypeA); a.Security != Bogus {
			t.Errorf("with the first key alone: %+v", a)
		}
	})
}
