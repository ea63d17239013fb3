package zone

import (
	"slices"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

// FuzzRead: what is read is written and read again as the same zone, in the same
// octets; and no answer holds a record outside the zone, but what its aliases
// make of the question.
func FuzzRead(f *testing.F) {
	f.Add(small, "www.example.", uint16(miekg.TypeA))
	f.Add(rfc4592, "foo.*.example.", uint16(miekg.TypeMX))
	f.Add(head+"$GENERATE 1-9 h${0,3,x} TXT \"$\"\n$ORIGIN x\n@ DNAME y", "a.x.example.", uint16(miekg.TypeANY))
	f.Add(head+"a\\000b TYPE65280 \\# 2 abcd\n* HTTPS 1 . alpn=h2\n", "q.example.", uint16(miekg.TypeHTTPS))
	f.Add("$TTL 1\n@ SOA \\@ \\\" 1 2 3 4 5\n@ NS .\n@ NSEC a A\na NSEC @ A\na A 1.2.3.4\n*.b RRSIG A 1 1 1 1 1 1 . AA==", "b.example.", uint16(miekg.TypeDS))
	f.Add("@ 1 SOA a b 1 2 3 4 5\n@ NS .\n@ 1 NSEC3PARAM 1 0 2 AB\n0p9mhaveqvm6t7vbl5lop2u3t2rp3tom NSEC3 1 1 2 AB 2t7b4g4vsa5smi47k61mv5bv1a22bojr A\n", "b.example.", uint16(1))
	f.Fuzz(func(t *testing.T, in, name string, typ uint16) {
		z, err := Read(strings.NewReader(in), Options{Origin: "example.", MaxBytes: 1 << 16, MaxRecords: 500})
		if err != nil {
			return
		}
		once := text(z)
		back, err := Read(strings.NewReader(once), Options{Origin: "example."})
		if err != nil {
			t.Fatalf("what was written does not read: %v\n%s", err, once)
		}
		if d := Between(z, back); !d.Empty() || text(back) != once {
			t.Fatalf("written and read it differs: lost %v, new %v\n%s", d.Deleted, d.Added, once)
		}
		for _, o := range []AnswerOptions{{}, {DNSSEC: true}, {Minimal: true, OneOfANY: true}} {
			checkAnswer(t, z, miekg.Question{Name: name, Qtype: typ, Qclass: miekg.ClassINET}, o)
		}
	})
}

// checkAnswer holds an answer to what is true of all.
func checkAnswer(t *testing.T, z *Zone, q miekg.Question, o AnswerOptions) {
	t.Helper()
	r := z.Answer(q, o)
	inside := names.Canonical(q.Name) != "" && z.within(q.Name)
	if (r.Rcode == miekg.RcodeRefused) == inside {
		t.Fatalf("%q: %s", q.Name, miekg.RcodeToString[r.Rcode])
	}
	for _, rr := range slices.Concat(r.Answer, r.Ns, r.Extra) {
		name := names.Canonical(rr.Header().Name)
		if !z.within(name) {
			t.Fatalf("%q %d: the answer has %s", q.Name, q.Qtype, rr)
		}
		if rr.Header().Rrtype == miekg.TypeRRSIG && !o.DNSSEC && q.Qtype != miekg.TypeRRSIG {
			t.Fatalf("%q %d: a signature without DO: %s", q.Name, q.Qtype, rr)
		}
	}
	negative := len(r.Answer) == 0 && r.Authoritative
	if negative && (len(r.Ns) == 0 || r.Ns[0].Header().Rrtype != miekg.TypeSOA) && r.Rcode != miekg.RcodeYXDomain {
		t.Fatalf("%q %d: a negative answer without SOA: %v", q.Name, q.Qtype, r)
	}
	if !r.Authoritative && r.Rcode == miekg.RcodeSuccess && (len(r.Ns) == 0 || r.Ns[0].Header().Rrtype != miekg.TypeNS) {
		t.Fatalf("%q %d: neither an answer nor a referral: %v", q.Name, q.Qtype, r)
	}
}

// FuzzUpdate: any message leads to a valid zone or to none; the difference,
// applied to the old version, makes the new one, and the journal keeps it; the old
// version stays as it was; and the serial rises exactly if something changes.
func FuzzUpdate(f *testing.F) {
	for _, lines := range [][]string{
		{"? www.example. 0 ANY A", "! new.example. 300 IN A 192.0.2.7"},
		{"! www.example. 0 ANY ANY", "! alias.example. 0 NONE CNAME www.example."},
		{"! example. 300 IN SOA ns1.example. host.example. 20 1 2 3 4", "! example. 0 ANY NS"},
		{"! example. 0 NONE NS ns1.example.", "! dn.example. 300 IN DNAME x.example.", "! *.example. 1 IN TXT x"},
	} {
		buf, err := message(f, "example.", lines...).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(buf)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		m := new(miekg.Msg)
		if m.Unpack(in) != nil {
			return
		}
		z := mustRead(t, "example.", small)
		before := text(z)
		next, d, rcode := z.Update(m)
		if text(z) != before {
			t.Fatal("the old version has changed")
		}
		if rcode != miekg.RcodeSuccess {
			if next != nil {
				t.Fatal("refused, and changed")
			}
			return
		}
		if d.Empty() != (next.Serial() == z.Serial()) || !d.Empty() && !SerialLess(z.Serial(), next.Serial()) {
			t.Fatalf("serial %d became %d: %v", z.Serial(), next.Serial(), d)
		}
		if d.Empty() {
			if next != z {
				t.Fatal("nothing changed, but the zone")
			}
			return
		}
		applied, err := z.Apply(d)
		if err != nil || text(applied) != text(next) || applied.Len() != next.Len() {
			t.Fatalf("the difference does not lead there: %v", err)
		}
		j, err := OpenJournal("", 0)
		if err == nil {
			err = j.Append(d)
		}
		if err != nil {
			t.Fatal(err)
		}
		if replayed, err := j.Replay(z); err != nil || text(replayed) != text(next) {
			t.Fatalf("nor does the journal: %v", err)
		}
		if _, err := New("example.", slices.Collect(next.All())); err != nil {
			t.Fatalf("the new zone is none: %v", err)
		}
	})
}

// FuzzJournal: any file is refused or taken, and what is taken can be added to.
func FuzzJournal(f *testing.F) {
	_, diffs := history(f, mustRead(f, "example.", small), 2)
	j := &Journal{max: 1 << 20}
	if err := j.load(&memory{}, 0); err != nil {
		f.Fatal(err)
	}
	if err := j.Append(diffs...); err != nil {
		f.Fatal(err)
	}
	f.Add(j.f.(*memory).data)
	f.Add([]byte(journalMagic))
	f.Fuzz(func(t *testing.T, in []byte) {
		j := &Journal{max: 1 << 20}
		m := &memory{slices.Clone(in)}
		if j.load(m, int64(len(in))) != nil {
			return
		}
		again := &Journal{max: 1 << 20}
		if err := again.load(m, int64(len(m.data))); err != nil || len(again.entries) != len(j.entries) || again.Cut() != 0 {
			t.Fatalf("loaded again: %v", err)
		}
		for _, e := range j.entries {
			if _, err := j.readLocked(e); err != nil {
				t.Fatal(err)
			}
		}
	})
}
