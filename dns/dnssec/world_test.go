package dnssec

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"postrider/dns/names"
	"postrider/internal/clock"
)

// start is when the tests' signatures are made; they hold from an hour before to
// thirty days after.
var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// testClock stands still until it is moved.
type testClock struct {
	clock.Clock
	now time.Time
}

func (c *testClock) Now() time.Time { return c.now }

// testKey is a key of a zone with its private half.
type testKey struct {
	*dns.DNSKEY
	signer crypto.Signer
}

func newTestKey(t testing.TB, zone string, flags uint16, alg uint8) testKey {
	t.Helper()
	bits := map[uint8]int{dns.RSASHA1: 1024, dns.RSASHA1NSEC3SHA1: 1024, dns.RSASHA256: 1024, dns.RSASHA512: 1024, dns.ECDSAP384SHA384: 384}[alg]
	if bits == 0 {
		bits = 256
	}
	k := &dns.DNSKEY{Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600}, Flags: flags, Protocol: 3, Algorithm: alg}
	private, err := k.Generate(bits)
	if err != nil {
		t.Fatal(err)
	}
	return testKey{k, private.(crypto.Signer)}
}

// fixedKey is an Ed25519 key that follows from its name.
func fixedKey(zone string, flags uint16) testKey {
	seed := sha256.Sum256([]byte(fmt.Sprint(zone, flags)))
	private := ed25519.NewKeyFromSeed(seed[:])
	k := &dns.DNSKEY{Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600}, Flags: flags, Protocol: 3,
		Algorithm: dns.ED25519, PublicKey: base64.StdEncoding.EncodeToString(private.Public().(ed25519.PublicKey))}
	return testKey{k, private}
}

// sign makes one signature over a set.
func (k testKey) sign(t testing.TB, rrs []dns.RR, inception, expiration time.Time) *dns.RRSIG {
	t.Helper()
	sig := &dns.RRSIG{KeyTag: k.KeyTag(), Algorithm: k.Algorithm, SignerName: k.Hdr.Name,
		Inception: uint32(inception.Unix()), Expiration: uint32(expiration.Unix())}
	sig.Hdr.Ttl = rrs[0].Header().Ttl
	if err := sig.Sign(k.signer, rrs); err != nil {
		t.Fatal(err)
	}
	return sig
}

// testZone is a zone of the world. Fields are set before world.build.
type testZone struct {
	name       string
	text       string // its records, without SOA
	algorithm  uint8  // 0 = unsigned
	nsec3      bool
	optOut     bool
	iterations uint16
	salt       string
	noDS       bool // signed, but the parent does not say so
	fixed      bool // Ed25519 keys that are the same in each process
	digest     uint8
	inception  time.Time
	expiration time.Time

	ksk, zsk testKey
	sets     map[string]map[uint16][]dns.RR
	sigs     map[string]map[uint16][]dns.RR
	names    []string // with something to deny: owners and empty non-terminals, in order
	chain    []dns.RR // NSEC3 in order of hashes
}

// world is a tree of zones that answers like authoritative servers, and a Fetcher.
type world struct {
	t       testing.TB
	zones   map[string]*testZone
	asked   map[string]int
	tamper  func(name string, typ uint16, m *dns.Msg) // changes answers to the validator
	failing map[string]bool                           // "name TYPE" cannot be fetched
}

func newWorld(t testing.TB, zones ...*testZone) *world {
	w := &world{t: t, zones: make(map[string]*testZone), asked: make(map[string]int), failing: make(map[string]bool)}
	for _, z := range zones {
		w.zones[z.name] = z
		z.load(t)
	}
	// Children first, since a parent signs the DS of its children.
	slices.SortFunc(zones, func(a, b *testZone) int { return dns.CountLabel(b.name) - dns.CountLabel(a.name) })
	for _, z := range zones {
		if z.algorithm != 0 && z.name != "." && !z.noDS {
			if up := w.zoneFor(z.name, dns.TypeDS); up != nil {
				up.add(z.ksk.ToDS(z.digest))
			}
		}
		z.sign(t)
	}
	return w
}

func (z *testZone) load(t testing.TB) {
	z.sets = make(map[string]map[uint16][]dns.RR)
	if z.inception.IsZero() {
		z.inception, z.expiration = start.Add(-time.Hour), start.Add(30*24*time.Hour)
	}
	if z.digest == 0 {
		z.digest = dns.SHA256
	}
	soa := "@ 3600 IN SOA ns hostmaster 1 7200 3600 1209600 600\n@ 3600 IN NS ns.nic.\n"
	p := dns.NewZoneParser(strings.NewReader("$TTL 3600\n"+soa+z.text), z.name, z.name)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		rr.Header().Name = dns.CanonicalName(rr.Header().Name)
		z.add(rr)
	}
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	if z.algorithm != 0 {
		if z.fixed {
			z.ksk, z.zsk = fixedKey(z.name, 257), fixedKey(z.name, 256)
		} else {
			z.ksk, z.zsk = newTestKey(t, z.name, 257, z.algorithm), newTestKey(t, z.name, 256, z.algorithm)
		}
		z.add(z.ksk.DNSKEY)
		z.add(z.zsk.DNSKEY)
	}
}

func (z *testZone) add(rr dns.RR) {
	name, typ := rr.Header().Name, rr.Header().Rrtype
	if z.sets[name] == nil {
		z.sets[name] = make(map[uint16][]dns.RR)
	}
	z.sets[name][typ] = append(z.sets[name][typ], rr)
}

// cut is the delegation at or above name, or "".
func (z *testZone) cut(name string) string {
	for n := dns.CountLabel(z.name) + 1; n <= dns.CountLabel(name); n++ {
		if up := names.Tail(name, n); z.sets[up][dns.TypeNS] != nil {
			return up
		}
	}
	return ""
}

func (z *testZone) sign(t testing.TB) {
	z.sigs = make(map[string]map[uint16][]dns.RR)
	if z.algorithm == 0 {
		return
	}
	present := make(map[string]bool)
	for name := range z.sets {
		if c := z.cut(name); c != "" && c != name {
			continue // glue
		}
		for up := name; up != z.name; up = names.Parent(up) {
			if z.nsec3 || up == name {
				if z.optOut && z.cut(name) == name && z.sets[name][dns.TypeDS] == nil {
					continue
				}
				present[up] = true
			}
		}
	}
	present[z.name] = true
	for name := range present {
		z.names = append(z.names, name)
	}
	slices.SortFunc(z.names, names.Compare)
	if z.nsec3 {
		z.buildChain3()
	} else {
		for i, name := range z.names {
			z.add(&dns.NSEC{Hdr: z.header(name, dns.TypeNSEC), NextDomain: z.names[(i+1)%len(z.names)], TypeBitMap: z.types(name, dns.TypeNSEC)})
		}
	}
	for name, sets := range z.sets {
		c := z.cut(name)
		for typ, rrs := range sets {
			if c != "" && (c != name || typ != dns.TypeDS && typ != dns.TypeNSEC) && typ != dns.TypeNSEC3 {
				continue
			}
			k := z.zsk
			if typ == dns.TypeDNSKEY {
				k = z.ksk
			}
			if z.sigs[name] == nil {
				z.sigs[name] = make(map[uint16][]dns.RR)
			}
			z.sigs[name][typ] = []dns.RR{k.sign(t, rrs, z.inception, z.expiration)}
		}
	}
}

func (z *testZone) header(name string, typ uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: typ, Class: dns.ClassINET, Ttl: 600}
}

// types is the bitmap of a name.
func (z *testZone) types(name string, more ...uint16) []uint16 {
	list := slices.Clone(more)
	for typ := range z.sets[name] {
		if z.cut(name) == "" || typ == dns.TypeNS || typ == dns.TypeDS {
			list = append(list, typ)
		}
	}
	if len(list) > 0 && (z.cut(name) == "" || z.sets[name][dns.TypeDS] != nil || !z.nsec3) {
		list = append(list, dns.TypeRRSIG)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (z *testZone) buildChain3() {
	z.add(&dns.NSEC3PARAM{Hdr: z.header(z.name, dns.TypeNSEC3PARAM), Hash: 1, Iterations: z.iterations, SaltLength: uint8(len(z.salt) / 2), Salt: z.salt})
	var list []*dns.NSEC3
	for _, name := range z.names {
		h := dns.HashName(name, 1, z.iterations, z.salt)
		owner := strings.ToLower(h) + "." + strings.TrimPrefix(z.name, ".")
		rr := &dns.NSEC3{Hdr: z.header(owner, dns.TypeNSEC3), Hash: 1, Iterations: z.iterations, SaltLength: uint8(len(z.salt) / 2), Salt: z.salt,
			HashLength: 20, NextDomain: h, TypeBitMap: z.types(name)}
		if z.optOut {
			rr.Flags = 1
		}
		list = append(list, rr)
	}
	slices.SortFunc(list, func(a, b *dns.NSEC3) int { return strings.Compare(a.Hdr.Name, b.Hdr.Name) })
	first := list[0].NextDomain
	for i, rr := range list {
		if i+1 < len(list) {
			rr.NextDomain = list[i+1].NextDomain
		} else {
			rr.NextDomain = first
		}
		z.add(rr)
		z.chain = append(z.chain, rr)
	}
}

// zoneFor is the zone that answers for a name and type.
func (w *world) zoneFor(name string, typ uint16) *testZone {
	if typ == dns.TypeDS && name != "." {
		name = names.Parent(name)
	}
	for {
		if z := w.zones[name]; z != nil {
			return z
		}
		if name == "." {
			return nil
		}
		name = names.Parent(name)
	}
}

// resolve is the answer of a resolver that does not validate: it follows aliases
// through all zones.
func (w *world) resolve(name string, typ uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, typ)
	m.Response = true
	for range 12 {
		z := w.zoneFor(name, typ)
		if z == nil {
			m.Rcode = dns.RcodeServerFailure
			return m
		}
		next := z.answer(m, name, typ)
		if next == "" {
			return m
		}
		name = next
	}
	return m
}

// put adds a set with its signatures, under another name if a wildcard is expanded.
func (z *testZone) put(section *[]dns.RR, owner, as string, typ uint16) {
	for _, list := range [][]dns.RR{z.sets[owner][typ], z.sigs[owner][typ]} {
		for _, rr := range list {
			rr = dns.Copy(rr)
			rr.Header().Name = as
			*section = append(*section, rr)
		}
	}
}

// answer adds what the zone says; next is where an alias leads, "" at the end.
func (z *testZone) answer(m *dns.Msg, name string, typ uint16) (next string) {
	owner, encloser := name, name
	for encloser != z.name && !z.exists(encloser) {
		encloser = names.Parent(encloser)
		if d := z.sets[encloser][dns.TypeDNAME]; d != nil {
			return z.redirect(m, name, encloser, d[0].(*dns.DNAME))
		}
	}
	if encloser != name {
		owner = "*." + encloser
		if encloser == "." {
			owner = "*."
		}
		if z.sets[owner] == nil {
			m.Rcode = dns.RcodeNameError
			z.put(&m.Ns, z.name, z.name, dns.TypeSOA)
			z.prove(m, encloser, name, owner)
			return ""
		}
		z.prove(m, encloser, name, "")
	}
	if c := z.sets[owner][dns.TypeCNAME]; c != nil && typ != dns.TypeCNAME {
		z.put(&m.Answer, owner, name, dns.TypeCNAME)
		return dns.CanonicalName(c[0].(*dns.CNAME).Target)
	}
	if z.sets[owner][typ] != nil {
		z.put(&m.Answer, owner, name, typ)
		return ""
	}
	z.put(&m.Ns, z.name, z.name, dns.TypeSOA)
	z.prove(m, encloser, name, owner)
	return ""
}

func (z *testZone) redirect(m *dns.Msg, name, owner string, d *dns.DNAME) string {
	z.put(&m.Answer, owner, owner, dns.TypeDNAME)
	target := strings.TrimSuffix(name, owner) + d.Target
	m.Answer = append(m.Answer, &dns.CNAME{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: 3600}, Target: target})
	return target
}

// exists says that a name has records or something below it.
func (z *testZone) exists(name string) bool {
	for owner := range z.sets {
		if dns.IsSubDomain(name, owner) && z.sets[owner][dns.TypeNSEC3] == nil {
			return true
		}
	}
	return false
}

// prove adds the records that a name is not there (encloser above it), and those
// about owner, the name itself or a wildcard, if it is not "".
func (z *testZone) prove(m *dns.Msg, encloser, name, owner string) {
	add := func(rr dns.RR) {
		h := rr.Header()
		if !slices.ContainsFunc(m.Ns, func(o dns.RR) bool { return o.Header().Name == h.Name && o.Header().Rrtype == h.Rrtype }) {
			z.put(&m.Ns, h.Name, h.Name, h.Rrtype)
		}
	}
	switch {
	case z.algorithm == 0:
	case !z.nsec3:
		if encloser != name {
			add(z.nsecFor(name))
		}
		if owner != "" {
			add(z.nsecFor(owner))
		}
	default:
		if encloser != name || z.match3(name) == nil {
			for z.match3(encloser) == nil { // a name inside an opt-out span
				encloser = names.Parent(encloser)
			}
			add(z.match3(encloser))
			add(z.cover3(names.Tail(name, dns.CountLabel(encloser)+1)))
		}
		if owner == "" {
			return
		}
		if rr := z.match3(owner); rr != nil {
			add(rr)
		} else {
			add(z.cover3(owner))
		}
	}
}

// nsecFor is the NSEC at name or the one that spans it.
func (z *testZone) nsecFor(name string) dns.RR {
	at := z.names[0]
	for _, n := range z.names {
		if names.Compare(n, name) <= 0 {
			at = n
		}
	}
	return z.sets[at][dns.TypeNSEC][0]
}

func (z *testZone) match3(name string) dns.RR {
	for _, rr := range z.chain {
		if rr.(*dns.NSEC3).Match(name) {
			return rr
		}
	}
	return nil
}

func (z *testZone) cover3(name string) dns.RR {
	for _, rr := range z.chain {
		if rr.(*dns.NSEC3).Cover(name) {
			return rr
		}
	}
	return z.chain[0]
}

func (w *world) Fetch(ctx context.Context, name string, typ uint16) (*dns.Msg, error) {
	key := name + " " + dns.Type(typ).String()
	w.asked[key]++
	if w.failing[key] {
		return nil, errors.New("no server answers")
	}
	m := w.resolve(name, typ)
	if w.tamper != nil {
		w.tamper(name, typ, m)
	}
	return m, nil
}

// refetching is a world whose second answers are honest.
type refetching struct{ *world }

func (w refetching) Refetch(ctx context.Context, name string, typ uint16) (*dns.Msg, error) {
	w.asked["again "+name+" "+dns.Type(typ).String()]++
	return w.resolve(name, typ), nil
}

// validator trusts the world's root.
func (w *world) validator(c *testClock) *Validator {
	v, err := New(Options{Anchors: []dns.RR{w.zones["."].ksk.ToDS(dns.SHA256)}, Clock: c})
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func question(name string, typ uint16) dns.Question {
	return dns.Question{Name: name, Qtype: typ, Qclass: dns.ClassINET}
}

// tree is the world of most tests: signed with NSEC, NSEC3, opt-out, and not.
func tree(t testing.TB) *world {
	p256 := dns.ECDSAP256SHA256
	return newWorld(t,
		&testZone{name: ".", algorithm: dns.ED25519, text: "test. NS ns.nic.\norg. NS ns.nic.\nnic. NS ns.nic.\nns.nic. A 192.0.2.1\n"},
		&testZone{name: "nic.", text: "ns A 192.0.2.1\n"},
		&testZone{name: "test.", algorithm: p256, text: `
plain NS ns.nic.
hashed NS ns.nic.
open NS ns.nic.
island NS ns.nic.
*.wild A 192.0.2.7
*.alias CNAME a.plain.test.
exact.wild A 192.0.2.8
www CNAME a.plain
far CNAME a.unsigned.org.
gone CNAME nothing.plain
dname DNAME plain
a.b.ent.sub A 192.0.2.9
`},
		&testZone{name: "plain.test.", algorithm: p256, text: "a A 192.0.2.1\na A 192.0.2.2\na MX 10 a\n"},
		&testZone{name: "hashed.test.", algorithm: dns.RSASHA256, nsec3: true, salt: "AABB", iterations: 3, text: `
a A 192.0.2.1
a.b.ent A 192.0.2.3
*.wild TXT "w"
*.wild MX 10 a
child NS ns.nic.
`},
		&testZone{name: "open.test.", algorithm: p256, nsec3: true, optOut: true, text: "a A 192.0.2.1\nchild NS ns.nic.\ndeep.ent NS ns.nic.\n"},
		&testZone{name: "child.hashed.test.", text: "a A 192.0.2.1\n"},
		&testZone{name: "child.open.test.", text: "a A 192.0.2.1\n"},
		&testZone{name: "island.test.", algorithm: p256, noDS: true, text: "a A 192.0.2.1\n"},
		&testZone{name: "org.", algorithm: p256, nsec3: true, text: "unsigned NS ns.nic.\nsigned NS ns.nic.\n"},
		&testZone{name: "unsigned.org.", text: "a A 192.0.2.1\n"},
		&testZone{name: "signed.org.", algorithm: dns.ECDSAP384SHA384, digest: dns.SHA384, text: "a A 192.0.2.1\nto DNAME plain.test.\n"},
	)
}
