package zone

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
)

const small = `
$ORIGIN example.
$TTL 300
@        SOA  ns1 host 10 7200 900 604800 60
         NS   ns1
         NS   ns2
ns1      A    192.0.2.1
ns2      A    192.0.2.2
www      A    192.0.2.80
         A    192.0.2.81
         TXT  "hello"
alias    CNAME www
below.tree A  192.0.2.9
dn       DNAME other.test.
sub      NS   ns.sub
ns.sub   A    192.0.2.53
`

// message makes an UPDATE message of lines and sends it over the wire. A line is
// "?" for a prerequisite or "!" for an update, then name, TTL, class, type and
// data.
func message(t testing.TB, zone string, lines ...string) *miekg.Msg {
	t.Helper()
	m := new(miekg.Msg)
	m.SetUpdate(zone)
	for _, line := range lines {
		f := strings.SplitN(line[2:], " ", 5)
		class := miekg.StringToClass[f[2]]
		var rr miekg.RR
		if len(f) == 4 {
			rr = &miekg.ANY{Hdr: miekg.RR_Header{Name: f[0], Class: class, Rrtype: miekg.StringToType[f[3]]}}
			fmt.Sscan(f[1], &rr.Header().Ttl)
		} else {
			var err error
			if rr, err = miekg.NewRR(fmt.Sprintf("%s %s IN %s %s", f[0], f[1], f[3], f[4])); err != nil {
				t.Fatal(err)
			}
			rr.Header().Class = class
		}
		if line[0] == '?' {
			m.Answer = append(m.Answer, rr)
		} else {
			m.Ns = append(m.Ns, rr)
		}
	}
	buf, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	got := new(miekg.Msg)
	if err := got.Unpack(buf); err != nil {
		t.Fatal(err)
	}
	return got
}

// short prints a difference, one record a line, without TTLs that are 300.
func short(d Diff) string {
	var list []string
	for i, rrs := range [][]miekg.RR{d.Deleted, d.Added} {
		for _, rr := range rrs {
			list = append(list, []string{"-", "+"}[i]+strings.Join(strings.Fields(strings.Replace(rr.String(), "\t300\tIN", "", 1)), " "))
		}
	}
	return strings.Join(list, "; ")
}

// TestUpdate goes through RFC 2136 sections 2.5 and 3.4.2.
func TestUpdate(t *testing.T) {
	z := mustRead(t, "example.", small)
	for _, c := range []struct {
		about  string
		lines  []string
		want   string
		serial uint32
	}{
		{"2.5.1 add to a set", []string{"! www.example. 300 IN A 192.0.2.82"}, "+www.example. A 192.0.2.82", 11},
		{"2.5.1 a duplicate is ignored", []string{"! www.example. 300 IN A 192.0.2.80"}, "", 10},
		{"add a new name", []string{"! a.b.example. 300 IN A 192.0.2.7"}, "+a.b.example. A 192.0.2.7", 11},
		{"2.5.2 delete a set", []string{"! www.example. 0 ANY A"}, "-www.example. A 192.0.2.80; -www.example. A 192.0.2.81", 11},
		{"2.5.2 none there", []string{"! www.example. 0 ANY MX"}, "", 10},
		{"2.5.3 delete a name", []string{"! www.example. 0 ANY ANY"}, `-www.example. A 192.0.2.80; -www.example. A 192.0.2.81; -www.example. TXT "hello"`, 11},
		{"2.5.4 delete a record", []string{"! www.example. 0 NONE A 192.0.2.81"}, "-www.example. A 192.0.2.81", 11},
		{"2.5.4 none such", []string{"! www.example. 0 NONE A 192.0.2.99"}, "", 10},
		{"names are compared without case", []string{"! WWW.Example. 0 NONE A 192.0.2.81"}, "-www.example. A 192.0.2.81", 11},
		{"3.4.2.2 SOA of a greater serial", []string{"! example. 300 IN SOA ns1.example. host.example. 20 1 2 3 4"}, "", 20},
		{"3.4.2.2 SOA of a lower serial", []string{"! example. 300 IN SOA ns1.example. host.example. 9 1 2 3 4"}, "", 10},
		{"3.4.2.2 SOA of the same serial", []string{"! example. 300 IN SOA ns1.example. host.example. 10 1 2 3 4"}, "", 10},
		{"3.4.2.2 SOA elsewhere", []string{"! www.example. 300 IN SOA ns1.example. host.example. 20 1 2 3 4"}, "", 10},
		{"7.13 SOA of no name", []string{"! new.example. 300 IN SOA ns1.example. host.example. 20 1 2 3 4"}, "", 10},
		{"3.4.2.2 CNAME beside data", []string{"! www.example. 300 IN CNAME ns1.example."}, "", 10},
		{"3.4.2.2 data beside CNAME", []string{"! alias.example. 300 IN A 192.0.2.1"}, "", 10},
		{"3.4.2.2 CNAME replaces CNAME", []string{"! alias.example. 300 IN CNAME ns1.example."}, "-alias.example. CNAME www.example.; +alias.example. CNAME ns1.example.", 11},
		{"RFC 6672 5.2 DNAME replaces DNAME", []string{"! dn.example. 300 IN DNAME x.test."}, "-dn.example. DNAME other.test.; +dn.example. DNAME x.test.", 11},
		{"RFC 6672 5.2 DNAME beside CNAME", []string{"! alias.example. 300 IN DNAME x.test."}, "", 10},
		{"RFC 6672 5.2 CNAME beside DNAME", []string{"! dn.example. 300 IN CNAME x.test."}, "", 10},
		{"RFC 6672 2.3 DNAME beside NS", []string{"! sub.example. 300 IN DNAME x.test."}, "", 10},
		{"RFC 6672 2.3 NS beside DNAME", []string{"! dn.example. 300 IN NS x.test."}, "", 10},
		{"3.4.2.3 everything at the origin", []string{"! example. 300 IN MX 1 ns1.example.", "! example. 0 ANY ANY"}, "", 10},
		{"3.4.2.3 NS at the origin", []string{"! example. 0 ANY NS"}, "", 10},
		{"3.4.2.3 SOA", []string{"! example. 0 ANY SOA"}, "", 10},
		{"3.4.2.4 the last NS", []string{"! example. 0 NONE NS ns1.example.", "! example. 0 NONE NS ns2.example."}, "-example. NS ns1.example.", 11},
		{"3.4.2.4 SOA", []string{"! example. 0 NONE SOA ns1.example. host.example. 10 7200 900 604800 60"}, "", 10},
		{"in order", []string{"! alias.example. 0 ANY CNAME", "! alias.example. 300 IN A 192.0.2.5"}, "-alias.example. CNAME www.example.; +alias.example. A 192.0.2.5", 11},
		{"RFC 2181 5.2 the TTL is that of the set", []string{"! www.example. 60 IN A 192.0.2.80"}, "-www.example. A 192.0.2.80; -www.example. A 192.0.2.81; +www.example. 60 IN A 192.0.2.80; +www.example. 60 IN A 192.0.2.81", 11},
		{"RFC 3597 unknown types", []string{`! x.example. 300 IN TYPE65280 \# 2 abcd`}, `+x.example. CLASS1 TYPE65280 \# 2 abcd`, 11},
		{"back to what was", []string{"! n.example. 300 IN A 192.0.2.5", "! n.example. 0 ANY ANY"}, "", 10},
	} {
		got, d, rcode := z.Update(message(t, "example.", c.lines...))
		if rcode != miekg.RcodeSuccess {
			t.Errorf("%s: rcode %s", c.about, miekg.RcodeToString[rcode])
			continue
		}
		if s := strings.ReplaceAll(short(d), " 300 CLASS1", " CLASS1"); s != c.want || got.Serial() != c.serial {
			t.Errorf("%s: serial %d, %s\nwant %d, %s", c.about, got.Serial(), s, c.serial, c.want)
		}
		again, err := z.Apply(d)
		if err != nil && !d.Empty() {
			t.Errorf("%s: apply: %v", c.about, err)
		} else if err == nil && text(again) != text(got) {
			t.Errorf("%s: applied, the difference makes another zone", c.about)
		}
	}
}

// TestUpdateRefusals goes through RFC 2136 sections 2.4, 3.1, 3.2 and 3.4.1.
func TestUpdateRefusals(t *testing.T) {
	z := mustRead(t, "example.", small)
	add := "! new.example. 300 IN A 192.0.2.7"
	for _, c := range []struct {
		about string
		zone  string
		lines []string
		want  int
	}{
		{"3.1.1 another zone", "example.org.", []string{add}, miekg.RcodeNotAuth},
		{"2.4.1 a set exists", "example.", []string{"? www.example. 0 ANY A", add}, miekg.RcodeSuccess},
		{"2.4.1 it does not", "example.", []string{"? www.example. 0 ANY MX", add}, miekg.RcodeNXRrset},
		{"2.4.1 nor has the name", "example.", []string{"? nix.example. 0 ANY A", add}, miekg.RcodeNXRrset},
		{"2.4.2 a set is", "example.", []string{"? www.example. 0 IN A 192.0.2.81", "? www.example. 0 IN A 192.0.2.80", add}, miekg.RcodeSuccess},
		{"2.4.2 more is there", "example.", []string{"? www.example. 0 IN A 192.0.2.81", add}, miekg.RcodeNXRrset},
		{"2.4.2 less is there", "example.", []string{"? ns1.example. 0 IN A 192.0.2.1", "? ns1.example. 0 IN A 192.0.2.80", add}, miekg.RcodeNXRrset},
		{"2.4.3 a set does not exist", "example.", []string{"? www.example. 0 NONE MX", add}, miekg.RcodeSuccess},
		{"2.4.3 it does", "example.", []string{"? www.example. 0 NONE A", add}, miekg.RcodeYXRrset},
		{"2.4.4 a name is in use", "example.", []string{"? www.example. 0 ANY ANY", add}, miekg.RcodeSuccess},
		{"2.4.4 an empty non-terminal is not", "example.", []string{"? tree.example. 0 ANY ANY", add}, miekg.RcodeNameError},
		{"2.4.5 a name is not in use", "example.", []string{"? tree.example. 0 NONE ANY", add}, miekg.RcodeSuccess},
		{"2.4.5 it is", "example.", []string{"? www.example. 0 NONE ANY", add}, miekg.RcodeYXDomain},
		{"3.2 outside the zone", "example.", []string{"? www.example.org. 0 NONE ANY", add}, miekg.RcodeNotZone},
		{"3.2.1 a TTL", "example.", []string{"? www.example. 1 ANY A", add}, miekg.RcodeFormatError},
		{"3.2.1 data", "example.", []string{"? www.example. 0 ANY A 192.0.2.80", add}, miekg.RcodeFormatError},
		{"3.2.2 data", "example.", []string{"? www.example. 0 NONE A 192.0.2.80", add}, miekg.RcodeFormatError},
		{"3.2.3 a TTL", "example.", []string{"? www.example. 9 IN A 192.0.2.80", add}, miekg.RcodeFormatError},
		{"3.2.3 another class", "example.", []string{"? www.example. 0 CH A 192.0.2.80", add}, miekg.RcodeFormatError},
		{"3.4.1 outside the zone", "example.", []string{add, "! www.example.org. 300 IN A 192.0.2.80"}, miekg.RcodeNotZone},
		{"3.4.1 another class", "example.", []string{add, "! www.example. 300 CH A 192.0.2.80"}, miekg.RcodeFormatError},
		{"3.4.1.2 a meta type", "example.", []string{add, "! www.example. 0 ANY AXFR"}, miekg.RcodeFormatError},
		{"3.4.1.2 a TTL", "example.", []string{add, "! www.example. 5 ANY A"}, miekg.RcodeFormatError},
		{"3.4.1.2 a TTL with NONE", "example.", []string{add, "! www.example. 5 NONE A 192.0.2.80"}, miekg.RcodeFormatError},
		{"3.4.1.2 data with ANY", "example.", []string{add, "! www.example. 0 ANY A 192.0.2.80"}, miekg.RcodeFormatError},
		{"3.4.1.2 nothing to add", "example.", []string{add, "! www.example. 0 IN A"}, miekg.RcodeFormatError},
		{"RFC 4035 2.4 DS at the origin", "example.", []string{add, "! example. 300 IN DS 1 8 2 00"}, miekg.RcodeRefused},
	} {
		before := text(z)
		got, _, rcode := z.Update(message(t, c.zone, c.lines...))
		if rcode != c.want {
			t.Errorf("%s: %s, want %s", c.about, miekg.RcodeToString[rcode], miekg.RcodeToString[c.want])
		}
		if (got != nil) != (rcode == miekg.RcodeSuccess) || text(z) != before {
			t.Errorf("%s: not all or nothing", c.about)
		}
	}
	m := message(t, "example.", add)
	m.Question[0].Qtype = miekg.TypeA
	if _, _, rcode := z.Update(m); rcode != miekg.RcodeFormatError {
		t.Errorf("a zone section that is not SOA: %d", rcode)
	}
	m = message(t, "example.", add)
	m.Question = append(m.Question, m.Question[0])
	if _, _, rcode := z.Update(m); rcode != miekg.RcodeFormatError {
		t.Errorf("two zones: %d", rcode)
	}
}

// TestUpdateLimits: a set, and the types at a name, have a bound.
func TestUpdateLimits(t *testing.T) {
	z := mustRead(t, "example.", small)
	var lines []string
	for i := range maxSet {
		lines = append(lines, fmt.Sprintf("! many.example. 300 IN A 10.0.%d.%d", i/256, i%256))
	}
	full, _, rcode := z.Update(message(t, "example.", lines...))
	if rcode != miekg.RcodeSuccess || len(full.Find("many.example.", miekg.TypeA)) != maxSet {
		t.Fatalf("%d records: %s", maxSet, miekg.RcodeToString[rcode])
	}
	if _, _, rcode := full.Update(message(t, "example.", "! many.example. 300 IN A 10.1.0.0")); rcode != miekg.RcodeRefused {
		t.Errorf("one record more: %s", miekg.RcodeToString[rcode])
	}
	lines = nil
	for i := range maxTypes {
		lines = append(lines, fmt.Sprintf(`! types.example. 300 IN TYPE%d \# 1 00`, 30000+i))
	}
	if full, _, rcode = z.Update(message(t, "example.", lines...)); rcode != miekg.RcodeSuccess {
		t.Fatal(rcode)
	}
	if _, _, rcode := full.Update(message(t, "example.", "! types.example. 300 IN A 10.1.0.0")); rcode != miekg.RcodeRefused {
		t.Errorf("one type more: %s", miekg.RcodeToString[rcode])
	}
}

// TestSerials is RFC 1982 section 3.2 and RFC 2136 section 7.11.
func TestSerials(t *testing.T) {
	for _, c := range []struct {
		a, b uint32
		less bool
	}{{1, 2, true}, {2, 1, false}, {1, 1, false}, {0xffffffff, 1, true}, {0, 0x7fffffff, true}, {0, 0x80000000, false}, {0x80000000, 0, false}, {0x80000001, 0, true}} {
		if SerialLess(c.a, c.b) != c.less {
			t.Errorf("%#x < %#x is %v", c.a, c.b, !c.less)
		}
	}
	if NextSerial(0xffffffff) != 1 || NextSerial(7) != 8 {
		t.Error("the next serial is wrong")
	}
	z := mustRead(t, "example.", strings.Replace(small, " 10 7200", " 4294967295 7200", 1))
	next, _, _ := z.Update(message(t, "example.", "! www.example. 300 IN A 192.0.2.82"))
	if next.Serial() != 1 {
		t.Errorf("after the greatest serial comes %d", next.Serial())
	}
}

// text is a zone as a master file.
func text(z *Zone) string {
	var b strings.Builder
	if _, err := z.WriteTo(&b); err != nil {
		return err.Error()
	}
	return b.String()
}

// TestVersionsShare: what an update does not touch, it does not copy.
func TestVersionsShare(t *testing.T) {
	var b strings.Builder
	b.WriteString(small)
	for i := range 2000 {
		fmt.Fprintf(&b, "h%d A 10.0.%d.%d\n", i, i/256, i%256)
	}
	z := mustRead(t, "example.", b.String())
	before := slices.Collect(z.All())
	next, _, _ := z.Update(message(t, "example.", "! h5.example. 300 IN A 192.0.2.82", "! h1999.example. 0 ANY ANY"))
	if !slices.Equal(before, slices.Collect(z.All())) {
		t.Error("the old version has changed")
	}
	old := map[miekg.RR]bool{}
	for _, rr := range before {
		old[rr] = true
	}
	fresh := 0
	for rr := range next.All() {
		if !old[rr] {
			fresh++
		}
	}
	if fresh != 2 { // the address, and the SOA record
		t.Errorf("%d records are new", fresh)
	}
	if next.Len() != z.Len() || len(slices.Collect(next.All())) != next.Len() {
		t.Errorf("%d records, then %d, listed %d", z.Len(), next.Len(), len(slices.Collect(next.All())))
	}
	if e := next.edit(); e.apex.kids.chunks[0] != z.apex.kids.chunks[0] && e.apex.kids.chunks[1] != z.apex.kids.chunks[1] {
		t.Error("no part of the list of names is shared")
	}
}
