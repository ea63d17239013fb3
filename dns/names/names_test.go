package names

import (
	"slices"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
)

func TestCanonical(t *testing.T) {
	long := strings.Repeat(strings.Repeat("x", 62)+".", 4)
	for in, want := range map[string]string{
		"":                            ".",
		".":                           ".",
		"example":                     "example.",
		"WWW.Example.COM":             "www.example.com.",
		`a\.b.example.`:               `a\.b.example.`,
		`\065b.example.`:              "ab.example.",
		`\000.example.`:               `\000.example.`,
		long:                          long,
		"Y." + long:                   "y." + long,
		"Xyz." + long:                 "", // 257 octets
		strings.Repeat("Y", 64) + ".": "",
		"A..b.":                       "",
	} {
		if got := Canonical(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if n := testing.AllocsPerRun(10, func() { Canonical("www.example.com.") }); n != 0 {
		t.Errorf("%v allocations for a name that is canonical", n)
	}
}

func TestAncestors(t *testing.T) {
	const name = `w\.w.b.example.`
	for n, want := range []string{".", "example.", "b.example.", name, name} {
		if got := Tail(name, n); got != want {
			t.Errorf("tail %d: %q, want %q", n, got, want)
		}
	}
	if got := Tail(".", 1); got != "." {
		t.Errorf("tail of the root: %q", got)
	}
	for in, want := range map[string]string{name: "b.example.", "example.": ".", ".": "."} {
		if got := Parent(in); got != want {
			t.Errorf("parent of %q: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{".": "*.", "example.": "*.example."} {
		if got := Wildcard(in); got != want {
			t.Errorf("wildcard at %q: %q, want %q", in, got, want)
		}
	}
}

// TestOrder is the list of RFC 4034 section 6.1, with the octets that Order
// writes otherwise.
func TestOrder(t *testing.T) {
	want := []string{
		".", "example.", "a.example.", "yljkjljk.a.example.", "Z.a.example.", "zABC.a.EXAMPLE.", "z.example.",
		`\000.z.example.`, `\000\000.z.example.`, `\000\001.z.example.`, `\001.z.example.`, `\001\000.z.example.`, `\002.z.example.`,
		"*.z.example.", `\200.z.example.`,
	}
	for i, a := range want {
		for j, b := range want {
			if c := Compare(a, b); (c < 0) != (i < j) || (c > 0) != (i > j) {
				t.Errorf("%s, %s: %d", a, b, c)
			}
		}
	}
	if Compare("a.Example.", "A.example.") != 0 {
		t.Error("letters' case counts")
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`a\.b`: "a.b", `\065\\`: `A\`, `\999`: "999", `x\`: `x\`, `\06`: "06", "plain": "plain"} {
		if got := Unescape(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// FuzzNames: the order is that of the labels' octets from the root on, a name
// is made of its label and its parent, and the canonical spelling stays.
func FuzzNames(f *testing.F) {
	f.Add("www.example.com", `\000\001.Example.com.`)
	f.Add(`a\.b.c.`, `*.c`)
	f.Fuzz(func(t *testing.T, x, y string) {
		a, b := Canonical(x), Canonical(y)
		for _, s := range []string{a, b} {
			if _, ok := miekg.IsDomainName(s); s == "" || !ok {
				return
			}
			if Canonical(s) != s {
				t.Errorf("%q becomes %q", s, Canonical(s))
			}
			if n := miekg.CountLabel(s); Tail(s, n) != s || n > 0 && Tail(s, n-1) != Parent(s) {
				t.Errorf("%q: parent %q", s, Parent(s))
			}
			if s != "." && Below(s[:len(s)-len(strings.TrimPrefix(Parent(s), "."))-1], Parent(s)) != s {
				t.Errorf("%q is not made of its parts", s)
			}
		}
		if got, want := Compare(a, b), slices.CompareFunc(labels(a), labels(b), strings.Compare); (got < 0) != (want < 0) || (got > 0) != (want > 0) {
			t.Errorf("%q, %q: %d, want %d", a, b, got, want)
		}
	})
}

// labels are the octets of each label, from the root on.
func labels(name string) []string {
	list := miekg.SplitDomainName(name)
	for i, l := range list {
		list[i] = Unescape(l)
	}
	slices.Reverse(list)
	return list
}
