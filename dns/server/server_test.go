package server

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// TestReplyFlags: query flags 0x0100 get the authoritative reply 0x8580 from one
// who may have recursion, and 0x8500 from others.
func TestReplyFlags(t *testing.T) {
	w := newTown(t, Options{Recursor: fixed{}}, Settings{Recursion: loopback}, parse(t, "example.test.", exampleZone))
	m := question("www.example.test.", miekg.TypeA)
	for range 2 { // made, and kept
		for from, want := range map[string]uint16{"127.0.0.1": 0x8580, "198.51.100.7": 0x8500} {
			query := packed(t, m)
			if got := binary.BigEndian.Uint16(query[2:]); got != 0x0100 {
				t.Fatalf("query flags %#x", got)
			}
			reply := w.direct(from, UDP, query)
			if got := binary.BigEndian.Uint16(reply[2:]); got != want {
				t.Errorf("from %s: flags %#x, want %#x", from, got, want)
			}
		}
	}
	if n := w.s.Stats().Hot; n != 2 {
		t.Errorf("%d hot answers, want 2", n)
	}
}

// TestAnswers: what a stranger gets of a zone.
func TestAnswers(t *testing.T) {
	w := newTown(t, Options{}, Settings{FixedOrder: true, Minimal: true}, parse(t, "example.test.", exampleZone))
	for _, c := range []struct {
		name      string
		typ       uint16
		rcode     int
		aa        bool
		answer    string
		authority string
	}{
		{"mail.example.test.", miekg.TypeAAAA, 0, true, "AAAA 2001:db8::25", ""},
		{"alias.example.test.", miekg.TypeA, 0, true, "CNAME www.example.test., A 192.0.2.80, A 192.0.2.81, A 192.0.2.82", ""},
		{"away.example.test.", miekg.TypeA, 0, true, "CNAME host.example.net.", ""},
		{"x.wild.example.test.", miekg.TypeTXT, 0, true, `TXT "any"`, ""},
		{"wild.example.test.", miekg.TypeA, 0, true, "", "SOA ns1.example.test. hostmaster.example.test. 10 7200 900 1209600 300"},
		{"none.example.test.", miekg.TypeA, miekg.RcodeNameError, true, "", "SOA ns1.example.test. hostmaster.example.test. 10 7200 900 1209600 300"},
		{"host.sub.example.test.", miekg.TypeA, 0, false, "", "NS ns.sub.example.test."},
		{"example.org.", miekg.TypeA, miekg.RcodeRefused, false, "", ""},
		{"www.example.test.", miekg.TypeTSIG, miekg.RcodeFormatError, false, "", ""},
		{"www.example.test.", miekg.TypeMAILB, miekg.RcodeNotImplemented, false, "", ""},
	} {
		for range 2 {
			r := w.ask(question(c.name, c.typ))
			if r.Rcode != c.rcode || r.Authoritative != c.aa || data(r.Answer) != c.answer || data(r.Ns) != c.authority {
				t.Errorf("%s %s: %v", c.name, miekg.TypeToString[c.typ], r)
			}
			if !r.Response || r.RecursionAvailable {
				t.Errorf("%s: QR %v, RA %v", c.name, r.Response, r.RecursionAvailable)
			}
		}
	}
}

// TestClasses: other classes than IN are refused, CHAOS among them.
func TestClasses(t *testing.T) {
	w := newTown(t, Options{}, Settings{}, parse(t, "example.test.", exampleZone))
	for _, class := range []uint16{miekg.ClassCHAOS, miekg.ClassANY, miekg.ClassHESIOD, 0} {
		m := question("www.example.test.", miekg.TypeA)
		m.Question[0].Qclass = class
		if r := w.ask(m); r.Rcode != miekg.RcodeRefused {
			t.Errorf("class %d: %v", class, r)
		}
	}
}

// TestAny: one set of records is the answer (RFC 8482).
func TestAny(t *testing.T) {
	w := newTown(t, Options{}, Settings{Minimal: true}, parse(t, "example.test.", exampleZone))
	r := w.ask(question("mail.example.test.", miekg.TypeANY))
	if len(r.Answer) != 1 || r.Rcode != 0 {
		t.Errorf("ANY: %v", r)
	}
}

// TestSpelling: the reply has the name as the query spelt it (0x20), also when
// the answer was kept, and the records' owners with it.
func TestSpelling(t *testing.T) {
	w := newTown(t, Options{}, Settings{Minimal: true}, parse(t, "example.test.", exampleZone))
	for _, name := range []string{"www.example.test.", "WwW.eXample.TEST.", "wWw.Example.test."} {
		r := w.ask(question(name, miekg.TypeA))
		if r.Question[0].Name != name {
			t.Errorf("question %s, want %s", r.Question[0].Name, name)
		}
		for _, rr := range r.Answer {
			if rr.Header().Name != name {
				t.Errorf("owner %s, want %s", rr.Header().Name, name)
			}
		}
	}
}

// TestRotation: each address is first equally often, and all are there always.
func TestRotation(t *testing.T) {
	w := newTown(t, Options{}, Settings{Minimal: true}, parse(t, "example.test.", exampleZone))
	for _, name := range []string{"www.example.test.", "alias.example.test."} {
		first := map[string]int{}
		for range 30 {
			r := w.ask(question(name, miekg.TypeA))
			all := map[string]bool{}
			var addrs []string
			for _, rr := range r.Answer {
				if a, ok := rr.(*miekg.A); ok {
					all[a.A.String()] = true
					addrs = append(addrs, a.A.String())
				}
			}
			if len(all) != 3 {
				t.Fatalf("%s: %v", name, r)
			}
			first[addrs[0]]++
		}
		if len(first) != 3 || first["192.0.2.80"] != 10 {
			t.Errorf("%s: first was %v, want each 10 times", name, first)
		}
	}
	w = newTown(t, Options{}, Settings{Minimal: true, FixedOrder: true}, parse(t, "example.test.", exampleZone))
	for range 5 {
		if r := w.ask(question("www.example.test.", miekg.TypeA)); data(r.Answer) != "A 192.0.2.80, A 192.0.2.81, A 192.0.2.82" {
			t.Errorf("fixed order: %v", data(r.Answer))
		}
	}
}

// TestTruncation: a UDP answer is as large as the client takes, and as we send
// (RFC 1035 section 4.2.1, RFC 6891 section 6.2.5).
func TestTruncation(t *testing.T) {
	w := newTown(t, Options{}, Settings{Minimal: true}, parse(t, "example.test.", exampleZone))
	for _, c := range []struct {
		edns  uint16
		limit int
	}{{0, 512}, {100, 512}, {512, 512}, {1000, 1000}, {4096, 1232}} {
		m := question("big.example.test.", miekg.TypeTXT)
		if c.edns > 0 {
			m.SetEdns0(c.edns, false)
		}
		b := w.direct("198.51.100.7", UDP, packed(t, m))
		r := unpacked(t, b)
		if len(b) > c.limit || !r.Truncated || len(r.Answer) != 0 || (r.IsEdns0() != nil) != (c.edns > 0) {
			t.Errorf("EDNS size %d: %d octets, %v", c.edns, len(b), r)
		}
		if b = w.direct("198.51.100.7", TCP, packed(t, m)); len(unpacked(t, b).Answer) != 6 {
			t.Errorf("over TCP: %v", unpacked(t, b))
		}
	}
	wide := newTown(t, Options{}, Settings{Minimal: true, MaxUDP: 4096}, parse(t, "example.test.", exampleZone))
	m := question("big.example.test.", miekg.TypeTXT)
	m.SetEdns0(4096, false)
	if r := wide.ask(m); r.Truncated || len(r.Answer) != 6 {
		t.Errorf("4096 octets: %v", r)
	}
}

// TestExtraFitsNot: addresses beside an answer are left out without TC; those of
// a referral are not (RFC 9471 section 3).
func TestExtraFitsNot(t *testing.T) {
	var b strings.Builder
	b.WriteString(exampleZone + "many MX 10 a\n")
	for i := range 40 {
		b.WriteString("a A 192.0.2." + string(rune('0'+i/10)) + string(rune('0'+i%10)) + "\n")
		b.WriteString("ns.deep A 192.0.2." + string(rune('0'+i/10)) + string(rune('0'+i%10)) + "\n")
	}
	b.WriteString("deep NS ns.deep\n")
	text := strings.ReplaceAll(b.String(), ".00\n", ".100\n")
	for i := range 10 {
		text = strings.ReplaceAll(text, ".0"+string(rune('0'+i))+"\n", ".20"+string(rune('0'+i))+"\n")
	}
	w := newTown(t, Options{}, Settings{}, parse(t, "example.test.", text))
	if r := w.ask(question("many.example.test.", miekg.TypeMX)); r.Truncated || len(r.Answer) != 1 || len(r.Extra) != 0 {
		t.Errorf("MX: %v", r)
	}
	if r := w.ask(question("x.deep.example.test.", miekg.TypeA)); !r.Truncated {
		t.Errorf("referral: %v", r)
	}
}

// TestMalformed: what is no query gets the error that it is due, or nothing.
func TestMalformed(t *testing.T) {
	w := newTown(t, Options{}, Settings{}, parse(t, "example.test.", exampleZone))
	good := packed(t, question("www.example.test.", miekg.TypeA))
	edit := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	opt := []byte{0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0}
	for name, c := range map[string]struct {
		msg   []byte
		rcode int // -1: no reply
	}{
		"empty":           {nil, -1},
		"eleven octets":   {good[:11], -1},
		"an answer":       {edit(func(b []byte) []byte { b[2] |= 0x80; return b }), -1},
		"header alone":    {edit(func(b []byte) []byte { clear(b[4:]); return b[:12] }), miekg.RcodeFormatError},
		"no question yet": {good[:12], miekg.RcodeFormatError},
		"question cut":    {good[:20], miekg.RcodeFormatError},
		"two questions":   {edit(func(b []byte) []byte { b[5] = 2; return append(b, b[12:]...) }), miekg.RcodeFormatError},
		"trailing":        {append(bytes.Clone(good), 0), miekg.RcodeFormatError},
		"pointer":         {edit(func(b []byte) []byte { b[12] = 0xc0; return b }), miekg.RcodeFormatError},
		"label of 64":     {edit(func(b []byte) []byte { b[12] = 64; return b }), miekg.RcodeFormatError},
		"IQUERY":          {edit(func(b []byte) []byte { b[2] |= 1 << 3; return b }), miekg.RcodeNotImplemented},
		"STATUS":          {edit(func(b []byte) []byte { b[2] |= 2 << 3; return b }), miekg.RcodeNotImplemented},
		"opcode 15":       {edit(func(b []byte) []byte { b[2] |= 15 << 3; return b }), miekg.RcodeNotImplemented},
		"answer count":    {edit(func(b []byte) []byte { b[7] = 1; return b }), miekg.RcodeFormatError},
		"authority":       {edit(func(b []byte) []byte { b[9] = 1; return b }), miekg.RcodeFormatError},
		"two OPT":         {edit(func(b []byte) []byte { b[11] = 2; return append(append(b, opt...), opt...) }), miekg.RcodeFormatError},
		"OPT not at root": {edit(func(b []byte) []byte { b[11] = 1; return append(append(b, 1, 'a'), opt...) }), miekg.RcodeFormatError},
		"cookie of 7":     {edit(func(b []byte) []byte { b[11] = 1; return append(b, withOption(opt, 10, 7)...) }), miekg.RcodeFormatError},
		"cookie of 12":    {edit(func(b []byte) []byte { b[11] = 1; return append(b, withOption(opt, 10, 12)...) }), miekg.RcodeFormatError},
		"cookie of 41":    {edit(func(b []byte) []byte { b[11] = 1; return append(b, withOption(opt, 10, 41)...) }), miekg.RcodeFormatError},
		"option cut":      {edit(func(b []byte) []byte { b[11] = 1; return append(b, withOption(opt, 10, 8)[:14]...) }), miekg.RcodeFormatError},
		"five additional": {edit(func(b []byte) []byte { b[11] = 5; return append(b, bytes.Repeat(opt, 5)...) }), miekg.RcodeFormatError},
		"version 1":       {edit(func(b []byte) []byte { b[11] = 1; o := bytes.Clone(opt); o[6] = 1; return append(b, o...) }), miekg.RcodeBadVers},
		"unknown option":  {edit(func(b []byte) []byte { b[11] = 1; return append(b, withOption(opt, 65001, 3)...) }), miekg.RcodeSuccess},
		"other record":    {edit(func(b []byte) []byte { b[11] = 1; return append(b, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4) }), miekg.RcodeSuccess},
	} {
		b := w.direct("198.51.100.7", UDP, c.msg)
		if b == nil || c.rcode < 0 {
			if (b == nil) != (c.rcode < 0) {
				t.Errorf("%s: reply %x", name, b)
			}
			continue
		}
		r := unpacked(t, b)
		rcode := r.Rcode
		if o := r.IsEdns0(); o != nil {
			rcode = rcode&15 | o.ExtendedRcode()&^15
		}
		if rcode != c.rcode || r.Id != binary.BigEndian.Uint16(c.msg) || r.Opcode != int(c.msg[2]>>3&15) {
			t.Errorf("%s: %v, want rcode %d", name, r, c.rcode)
		}
	}
}

// withOption gives an OPT record an option of n octets.
func withOption(opt []byte, code uint16, n int) []byte {
	out := bytes.Clone(opt)
	binary.BigEndian.PutUint16(out[9:], uint16(4+n))
	out = binary.BigEndian.AppendUint16(out, code)
	out = binary.BigEndian.AppendUint16(out, uint16(n))
	return append(out, make([]byte, n)...)
}

// TestRecursionPolicy: never an open resolver; listed networks get all names,
// strangers our zones.
func TestRecursionPolicy(t *testing.T) {
	w := newTown(t, Options{Recursor: fixed{"host.example.net. A": "host.example.net. 300 IN A 203.0.113.9"}},
		Settings{Recursion: loopback}, parse(t, "example.test.", exampleZone))
	m := question("host.example.net.", miekg.TypeA)
	m.SetEdns0(1232, false)
	for range 2 {
		r := unpacked(t, w.direct("127.0.0.1", UDP, packed(t, m)))
		if data(r.Answer) != "A 203.0.113.9" || !r.RecursionAvailable || r.Authoritative {
			t.Errorf("listed client: %v", r)
		}
		r = w.ask(m)
		if r.Rcode != miekg.RcodeRefused || r.RecursionAvailable || len(r.Answer) > 0 {
			t.Errorf("stranger: %v", r)
		}
		if e, ok := r.IsEdns0().Option[0].(*miekg.EDNS0_EDE); !ok || e.InfoCode != edeProhibited {
			t.Errorf("stranger: options %v", r.IsEdns0().Option)
		}
	}
	if w.s.Stats().Hot != 1 {
		t.Errorf("%d hot answers, want 1", w.s.Stats().Hot)
	}
	// An alias of ours that leads outside is followed for those who may.
	r := unpacked(t, w.direct("127.0.0.1", UDP, packed(t, question("away.example.test.", miekg.TypeA))))
	if data(r.Answer) != "CNAME host.example.net., A 203.0.113.9" {
		t.Errorf("alias: %v", r)
	}
}
