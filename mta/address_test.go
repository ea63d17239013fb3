package mta

import (
	"errors"
	"strings"
	"testing"
)

func TestParsePath(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	label := long(63) + "."
	tests := []struct {
		in   string
		want Address
		rest string
		err  string // part of the error
	}{
		{in: "<alice@crepes.fr>", want: Address{"alice", "crepes.fr"}},
		{in: " <alice@crepes.fr>", want: Address{"alice", "crepes.fr"}},
		{in: "alice@crepes.fr", want: Address{"alice", "crepes.fr"}},
		{in: "alice@crepes.fr SIZE=3", want: Address{"alice", "crepes.fr"}, rest: "SIZE=3"},
		{in: "<Alice@Crepes.FR> SIZE=3 BODY=7BIT ", want: Address{"Alice", "crepes.fr"}, rest: "SIZE=3 BODY=7BIT"},
		{in: "<>", want: Address{}},
		{in: "<> SIZE=3", want: Address{}, rest: "SIZE=3"},
		{in: "<Postmaster>", want: Address{"postmaster", ""}},
		{in: "POSTMASTER", want: Address{"postmaster", ""}},
		{in: "<@a.org,@b.org:bob@c.org>", want: Address{"bob", "c.org"}},
		{in: `<"bob"@c.org>`, want: Address{"bob", "c.org"}},
		{in: `<"b\ob jr."@c.org> SIZE=1`, want: Address{"bob jr.", "c.org"}, rest: "SIZE=1"},
		{in: `<"a@b> \"\\"@c.org>`, want: Address{`a@b> "\`, "c.org"}},
		{in: "<bob+list@c.org>", want: Address{"bob+list", "c.org"}},
		{in: "<bob%d.org@c.org>", want: Address{"bob%d.org", "c.org"}},
		{in: "<d.org!bob@c.org>", want: Address{"d.org!bob", "c.org"}},
		{in: "<bob@[192.0.2.1]>", want: Address{"bob", "[192.0.2.1]"}},
		{in: "<bob@[ipv6:2001:DB8:0::1]>", want: Address{"bob", "[IPv6:2001:db8::1]"}},
		{in: "<bob@[IPv6:::ffff:192.0.2.1]>", want: Address{"bob", "[192.0.2.1]"}},
		{in: "<bob@Bücher.example>", want: Address{"bob", "xn--bcher-kva.example"}},
		{in: "<bob@xn--bcher-kva.example>", want: Address{"bob", "xn--bcher-kva.example"}},
		{in: "<ju\u0308rgen@c.org>", want: Address{"j\u00fcrgen", "c.org"}},
		{in: "<" + long(64) + "@c.org>", want: Address{long(64), "c.org"}},
		{in: "<a@" + label + label + label + long(60) + ">", want: Address{"a", label + label + label + long(60)}},

		{in: "", err: "missing"},
		{in: "<alice@crepes.fr", err: "closing >"},
		{in: "<alice@crepes.fr>SIZE=3", err: "space must follow"},
		{in: "alice@crepes.fr>", err: "space must follow"},
		{in: "<alice>", err: "needs a domain"},
		{in: "alice", err: "needs a domain"},
		{in: "<alice@>", err: "domain is missing"},
		{in: "<@crepes.fr>", err: "local part is missing"},
		{in: "<@a.org:>", err: "missing"},
		{in: "<@a.org,b.org:bob@c.org>", err: "source route"},
		{in: "<@a..org:bob@c.org>", err: "source route"},
		{in: `<""@c.org>`, err: "empty"},
		{in: `<"bob@c.org>`, err: "closing quote"},
		{in: `<"bob\`, err: "closing quote"},
		{in: "<.bob@c.org>", err: "dot"},
		{in: "<bob.@c.org>", err: "dot"},
		{in: "<b..ob@c.org>", err: "dot"},
		{in: "<bob@c..org>", err: "dot"},
		{in: "<bob@c.org.>", err: "dot"},
		{in: "<bob@b@c.org>", err: "domain"},
		{in: "<bob smith@c.org>", err: "space"},
		{in: "<bob> x@c.org", err: "needs a domain"},
		{in: "<bob@-c.org>", err: "hyphen"},
		{in: "<bob@c_d.org>", err: "characters"},
		{in: "<bob@192.0.2.1>", err: "brackets"},
		{in: "<bob@[192.0.2]>", err: "literal"},
		{in: "<bob@[2001:db8::1]>", err: "literal"},
		{in: "<bob@[IPv6:fe80::1%eth0]>", err: "literal"},
		{in: "<bob@[X400:c=us]>", err: "literal"},
		{in: "<bob@[192.0.2.1>", err: "literal"},
		{in: "<b\rob@c.org>", err: "needs quotes"},
		{in: "<\"b\nob\"@c.org>", err: "control"},
		{in: "<\"b\\\x00ob\"@c.org>", err: "control"},
		{in: "<bob@c.org\r\n>", err: "characters"},
		{in: "<b\x80b@c.org>", err: "UTF-8"},
		{in: "<b\u0085b@c.org>", err: "UTF-8"},
		{in: "<" + long(65) + "@c.org>", err: "longer than 64"},
		{in: "<a@" + label + label + label + long(61) + ">", err: "longer than 256"},
		{in: "<@" + label + label + label + "org:bob@" + label + "org>", err: "longer than 256"},
		{in: "<a@" + long(64) + ".org>", err: "longer than 63"},
	}
	for _, tt := range tests {
		got, rest, err := ParsePath(tt.in)
		if tt.err != "" {
			var ae *AddressError
			if !errors.As(err, &ae) || !strings.Contains(ae.Reason, tt.err) {
				t.Errorf("ParsePath(%q) = %#v, %v; want an error with %q", tt.in, got, err, tt.err)
			}
			continue
		}
		if err != nil || got != tt.want || rest != tt.rest {
			t.Errorf("ParsePath(%q) = %#v, %q, %v; want %#v, %q", tt.in, got, rest, err, tt.want, tt.rest)
		}
	}
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]Address{
		"bob@Example.COM":       {"bob", "example.com"},
		"  bob@example.com ":    {"bob", "example.com"},
		`"b ob"@example.com`:    {"b ob", "example.com"},
		"postmaster":            {"postmaster", ""},
		"bob@ｅxample。com":       {"bob", "example.com"},
		"用户@例子.广告":              {"用户", "xn--fsqu00a.xn--4rr70v"},
		"bob@sub.localhost":     {"bob", "sub.localhost"},
		"bob@mail-1.example.gg": {"bob", "mail-1.example.gg"},
	} {
		if got, err := ParseAddress(in); err != nil || got != want {
			t.Errorf("ParseAddress(%q) = %#v, %v; want %#v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "<bob@example.com>", "bob@example.com x", "bob@example.com,a@b.org", "bob", "\tbob@example.com", "bob@example.com\r\n"} {
		if got, err := ParseAddress(in); err == nil {
			t.Errorf("ParseAddress(%q) = %#v, want an error", in, got)
		}
	}
}

func TestAddressMethods(t *testing.T) {
	tests := []struct {
		a     Address
		str   string
		base  string
		ascii bool
	}{
		{Address{}, "", "", true},
		{Address{"bob", "c.org"}, "bob@c.org", "bob@c.org", true},
		{Address{"bob+x+y", "c.org"}, "bob+x+y@c.org", "bob@c.org", true},
		{Address{"+x", "c.org"}, "+x@c.org", "+x@c.org", true},
		{Address{"b ob", "c.org"}, `"b ob"@c.org`, `"b ob"@c.org`, true},
		{Address{"b.", "c.org"}, `"b."@c.org`, `"b."@c.org`, true},
		{Address{`"`, "c.org"}, `"\""@c.org`, `"\""@c.org`, true},
		{Address{"jürgen", "c.org"}, "jürgen@c.org", "jürgen@c.org", false},
		{Address{"postmaster", ""}, "postmaster", "postmaster", true},
	}
	for _, tt := range tests {
		if got := tt.a.String(); got != tt.str {
			t.Errorf("%#v.String() = %q, want %q", tt.a, got, tt.str)
		}
		if got := tt.a.Base().String(); got != tt.base {
			t.Errorf("%#v.Base() = %q, want %q", tt.a, got, tt.base)
		}
		if got := tt.a.ASCII(); got != tt.ascii {
			t.Errorf("%#v.ASCII() = %v", tt.a, got)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"<bob@c.org>", "<> X", `<"a\"b"@c.org> SIZE=1`, "<@a,@b:c@[IPv6:::1]>", "Postmaster", "<\u037e@Bücher.example>", "a@xn--bcher-kva"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		a, rest, err := ParsePath(in)
		if err != nil {
			if !a.IsZero() || rest != "" {
				t.Errorf("ParsePath(%q) = %#v, %q beside an error", in, a, rest)
			}
			return
		}
		if !strings.HasSuffix(strings.TrimRight(in, " "), rest) {
			t.Errorf("ParsePath(%q) invents the rest %q", in, rest)
		}
		out := "<" + a.String() + ">"
		if len(out) > maxPath || strings.ContainsAny(out, "\r\n\x00") {
			t.Errorf("ParsePath(%q) prints as %q", in, out)
		}
		if b, rest, err := ParsePath(out + " X"); err != nil || b != a || rest != "X" {
			t.Errorf("ParsePath(%q) = %#v, reparsed as %#v, %q, %v", in, a, b, rest, err)
		}
		if a.IsZero() {
			return
		}
		if b, err := ParseAddress(a.String()); err != nil || b != a {
			t.Errorf("ParseAddress(%q) = %#v, %v; want %#v", a.String(), b, err, a)
		}
	})
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"bob@c.org", `"a b"@Bücher.example`, "postmaster", "用户@例子.广告", "a@[192.0.2.1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		a, err := ParseAddress(in)
		if err != nil {
			return
		}
		if b, err := ParseAddress(a.String()); err != nil || b != a {
			t.Errorf("ParseAddress(%q) = %#v, reparsed as %#v, %v", in, a, b, err)
		}
	})
}

func FuzzNormalizeDomain(f *testing.F) {
	for _, s := range []string{"c.org", "Bücher.example", "[IPv6:::1]", "[192.0.2.1]", "xn--bcher-kva.example", "a。b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		d, err := NormalizeDomain(in)
		if err != nil {
			return
		}
		if again, err := NormalizeDomain(d); err != nil || again != d || len(d) > maxDomain || !isASCII(d) {
			t.Errorf("NormalizeDomain(%q) = %q, again %q, %v", in, d, again, err)
		}
	})
}

func BenchmarkParsePath(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ParsePath("<alice.liddell@mail.crepes.fr> SIZE=4096"); err != nil {
			b.Fatal(err)
		}
	}
}
