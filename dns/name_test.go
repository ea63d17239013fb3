package dns

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

func TestNormalize(t *testing.T) {
	label := strings.Repeat("a", 63)
	long := label + "." + label + "." + label + "." + strings.Repeat("b", 61) // 253 octets of text
	for _, tt := range []struct{ in, want string }{
		{"Example.COM", "example.com."},
		{"example.com.", "example.com."},
		{".", "."},
		{"localhost", "localhost."},
		{"bücher.example", "xn--bcher-kva.example."},
		{"BÜCHER。example", "xn--bcher-kva.example."}, // ideographic full stop
		{"_dmarc.bücher.example", "_dmarc.xn--bcher-kva.example."},
		{"straße.example", "xn--strae-oqa.example."},
		{`a\.b.example`, `a\.b.example.`},
		{`\097\066.example`, "ab.example."}, // aB
		{`a\032b.example`, `a\ b.example.`},
		{label + ".example", label + ".example."},
		{long, long + "."},
		{long + ".", long + "."},
	} {
		got, err := normalize(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("normalize(%q) = %q, %v, want %q", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{
		"", "..", "a..b", ".a", "a..", label + "a.example", long + "c", long + ".c",
		"\xff\xfe", "a\u200db.example", strings.Repeat("ü", 64) + ".example",
	} {
		if got, err := normalize(in); !errors.Is(err, ErrNotExist) {
			t.Errorf("normalize(%q) = %q, %v, want ErrNotExist", in, got, err)
		}
	}
}

// What normalize gives, it gives again, and it goes onto the wire.
func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"example.com", "bücher.example.", `a\.b`, `\255.x`, ".", "a..b", "xn--a", "*.x", `\`, `a\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := normalize(s)
		var short [maxName]byte
		if isNormal(s) {
			n, err := miekg.PackDomainName(s+".", short[:], 0, nil, false)
			if whole, _, uerr := miekg.UnpackDomainName(short[:n], 0); err != nil || uerr != nil || whole != name {
				t.Errorf("normalize(%q) = %q, and by the wire %q, %v", s, name, whole, errors.Join(err, uerr))
			}
		}
		if err != nil {
			if !errors.Is(err, ErrNotExist) {
				t.Errorf("normalize(%q): %v", s, err)
			}
			return
		}
		if again, err := normalize(name); err != nil || again != name {
			t.Errorf("normalize(%q) = %q, which becomes %q, %v", s, name, again, err)
		}
		if !strings.HasSuffix(name, ".") || name != miekg.CanonicalName(name) {
			t.Errorf("normalize(%q) = %q", s, name)
		}
		var wire [maxName]byte
		if _, err := miekg.PackDomainName(name, wire[:], 0, nil, false); err != nil {
			t.Errorf("normalize(%q) = %q: %v", s, name, err)
		}
	})
}

func TestReverse(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1":          "1.2.0.192.in-addr.arpa.",
		"::ffff:192.0.2.1":   "1.2.0.192.in-addr.arpa.",
		"2001:db8::567:89ab": "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.",
		"fe80::1%eth0":       "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.e.f.ip6.arpa.",
	} {
		if got := reverse(netip.MustParseAddr(addr)); got != want {
			t.Errorf("reverse(%s) = %s, want %s", addr, got, want)
		}
	}
}

// Octets of a character-string survive the library's presentation form.
func FuzzUnescape(f *testing.F) {
	for _, s := range []string{"v=spf1 -all", `"\`, "\x00\xff\t\r\n", `\046`, `\04`, "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		names.Unescape(s) // anything at all
		if len(s) > 255 {
			return
		}
		b := append([]byte{byte(len(s))}, s...)
		rr, _, err := miekg.UnpackRRWithHeader(miekg.RR_Header{Name: ".", Rrtype: miekg.TypeTXT, Class: 1, Rdlength: uint16(len(b))}, b, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := names.Unescape(rr.(*miekg.TXT).Txt[0]); got != s {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func TestParseType(t *testing.T) {
	for in, want := range map[string]Type{
		"mx": TypeMX, "MX": TypeMX, "TYPE15": TypeMX, "type65280": 65280, "AAAA": TypeAAAA, "any": Type(miekg.TypeANY), "Caa": Type(miekg.TypeCAA),
	} {
		got, err := ParseType(in)
		if err != nil || got != want {
			t.Errorf("ParseType(%q) = %v, %v, want %v", in, got, err, want)
		}
		if again, err := ParseType(got.String()); err != nil || again != got {
			t.Errorf("%v is read as %v, %v", got, again, err)
		}
	}
	for _, in := range []string{"", "MXX", "TYPE", "TYPE0", "TYPE65536", "TYPE-1", "TYPE1x", "15", "None", "Reserved"} {
		if got, err := ParseType(in); err == nil {
			t.Errorf("ParseType(%q) = %v, want an error", in, got)
		}
	}
}
