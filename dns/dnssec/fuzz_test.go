package dnssec

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// fuzzTree is a world whose keys and signatures are the same in each process.
func fuzzTree(t testing.TB) *world {
	return newWorld(t,
		&testZone{name: ".", algorithm: dns.ED25519, fixed: true, text: "z. NS ns.nic.\nh. NS ns.nic.\nu. NS ns.nic.\n"},
		&testZone{name: "z.", algorithm: dns.ED25519, fixed: true, text: "a A 192.0.2.1\na A 192.0.2.2\n*.w A 192.0.2.3\nx.w TXT x\nc CNAME a\nd DNAME w\nu CNAME a.u.\n"},
		&testZone{name: "h.", algorithm: dns.ED25519, fixed: true, nsec3: true, text: "a A 192.0.2.1\n*.w MX 1 a\nb.c TXT y\nz CNAME a.z.\n"},
		&testZone{name: "u.", text: "a A 192.0.2.1\n"},
	)
}

var fuzzNames = []string{"a.z.", "b.z.", "x.w.z.", "y.w.z.", "c.z.", "a.d.z.", "u.z.", "a.h.", "n.h.", "x.w.h.", "c.h.", "z.h.", "h.", "u.", "a.u.", "q."}
var fuzzTypes = []uint16{dns.TypeA, dns.TypeMX, dns.TypeTXT, dns.TypeDS, dns.TypeCNAME}

// said is the records of a set in a message, as text without TTL.
func said(m *dns.Msg, name string, typ uint16) []string {
	texts := make(map[string]bool)
	if s := find(groupSets(m.Answer), name, typ); s != nil {
		for _, rr := range s.rrs {
			rr = dns.Copy(rr)
			rr.Header().Ttl = 0
			texts[strings.ToLower(rr.String())] = true
		}
	}
	return slices.Sorted(maps.Keys(texts))
}

// FuzzValidate: whatever the message, if it is called secure then it says about
// the question what the zones say.
func FuzzValidate(f *testing.F) {
	w := fuzzTree(f)
	var seeds [][]byte
	for i, name := range fuzzNames {
		for j, typ := range fuzzTypes {
			packed, err := w.resolve(name, typ).Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), uint8(j), packed)
			seeds = append(seeds, packed)
		}
	}
	for i, packed := range seeds { // the answer to another question
		f.Add(uint8(i*7), uint8(i*3), packed)
	}
	c := &testClock{now: start}
	v := w.validator(c)
	f.Fuzz(func(t *testing.T, i, j uint8, packed []byte) {
		m := new(dns.Msg)
		if m.Unpack(packed) != nil {
			return
		}
		q := question(fuzzNames[int(i)%len(fuzzNames)], fuzzTypes[int(j)%len(fuzzTypes)])
		before := m.String()
		r := v.newRun(w)
		got := r.message(context.Background(), q, m)
		if m.String() != before {
			t.Error("the message was changed")
		}
		if b := r.budget; b.fetches > maxFetches || b.verifications > maxVerifications || b.failures > maxFailures || b.hashes > maxHashes {
			t.Errorf("%+v", b)
		}
		if got.Security != Secure {
			return
		}
		truth := w.resolve(q.Name, q.Qtype)
		target, _ := follow(groupSets(truth.Answer), q)
		if got.Open {
			partly := false // the target is on the way
			for _, s := range groupSets(truth.Answer) {
				cname, ok := s.rrs[0].(*dns.CNAME)
				partly = partly || ok && dns.CanonicalName(cname.Target) == got.Target
			}
			if !partly {
				t.Errorf("%s leads to %s\n%s", q.Name, got.Target, m)
			}
			return
		}
		if got.Target != target || m.Rcode != truth.Rcode || !slices.Equal(said(m, target, q.Qtype), said(truth, target, q.Qtype)) {
			t.Errorf("called secure (%s):\n%s\nthe truth is:\n%s", got.Text, m, truth)
		}
	})
}

// FuzzReadAnchors: what is accepted as an anchor prints as one and means the same.
func FuzzReadAnchors(f *testing.F) {
	f.Add(rootAnchors)
	f.Add(fixedKey("example.", 257).String() + "\n; comment\n")
	f.Add("$ORIGIN a.\n$TTL 1\n@ IN DS 1 8 2 (\n 00 )\n")
	f.Fuzz(func(t *testing.T, text string) {
		rrs, err := ReadAnchors(strings.NewReader(text), "fuzz")
		if err != nil {
			return
		}
		var b strings.Builder
		for _, rr := range rrs {
			b.WriteString(rr.String() + "\n")
		}
		again, err := ReadAnchors(strings.NewReader(b.String()), "again")
		if err != nil || len(again) != len(rrs) {
			t.Fatalf("%q: %v", b.String(), err)
		}
		for i := range rrs {
			if !dns.IsDuplicate(rrs[i], again[i]) {
				t.Errorf("%s became %s", rrs[i], again[i])
			}
		}
		if _, err := New(Options{Anchors: rrs}); err != nil {
			t.Error(err)
		}
	})
}

// FuzzDeny: records that are not what they seem do no harm, and names that are
// covered are in the zone.
func FuzzDeny(f *testing.F) {
	w := fuzzTree(f)
	for _, z := range []string{"z.", "h."} {
		m := w.resolve("n."+z, dns.TypeA)
		packed, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed, z, "n."+z)
	}
	f.Fuzz(func(t *testing.T, packed []byte, zone, name string) {
		m := new(dns.Msg)
		zone, name = dns.CanonicalName(zone), dns.CanonicalName(name)
		if _, ok := dns.IsDomainName(name); !ok || m.Unpack(packed) != nil {
			return
		}
		if _, ok := dns.IsDomainName(zone); !ok {
			return
		}
		d := Deny(zone, name, dns.TypeA, m.Ns)
		if d.Existence != Unproven && !dns.IsSubDomain(zone, name) {
			t.Errorf("%s proves about %s", zone, name)
		}
		if d.Encloser != "" && (!above(d.Encloser, name) || !dns.IsSubDomain(zone, d.Encloser)) {
			t.Errorf("the encloser of %s in %s is %s", name, zone, d.Encloser)
		}
	})
}
