package zone

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"

	"postrider/dns/names"
)

// TestManyNames adds and deletes names at random, many in each edit, and compares
// every version with a map, also after later ones were made of it.
func TestManyNames(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	z := mustRead(t, "example.", head)
	want := map[string]bool{}
	name := func() string {
		// Keys that agree in their first octets, are short, or begin others.
		label := []string{"", "sharedprefix", "x", `\000`, `\255`}[r.IntN(5)] + fmt.Sprint(r.IntN(2000))
		return strings.Repeat(label+".", 1+r.IntN(2)) + "example."
	}
	type version struct {
		z    *Zone
		want map[string]bool
	}
	var versions []version
	for range 8 {
		e := z.edit()
		adding := r.IntN(3) > 0
		doomed := slices.Sorted(maps.Keys(want))
		r.Shuffle(len(doomed), func(i, j int) { doomed[i], doomed[j] = doomed[j], doomed[i] })
		for i := range 700 {
			rr := &miekg.A{Hdr: miekg.RR_Header{Name: name(), Rrtype: miekg.TypeA, Class: miekg.ClassINET, Ttl: 300}, A: []byte{192, 0, 2, 1}}
			if key := names.Canonical(rr.Hdr.Name); adding {
				if err := e.add(rr); err != nil {
					t.Fatal(err)
				}
				want[key] = true
			} else {
				if i < len(doomed) {
					rr.Hdr.Name = doomed[i]
				}
				if e.remove(rr) != want[names.Canonical(rr.Hdr.Name)] {
					t.Fatalf("%s: removed, or not", rr.Hdr.Name)
				}
				delete(want, names.Canonical(rr.Hdr.Name))
			}
		}
		next, err := e.finish()
		if err != nil {
			t.Fatal(err)
		}
		back, err := z.Apply(Between(z, next))
		if err != nil || text(back) != text(next) {
			t.Fatalf("the difference does not lead there: %v", err)
		}
		z = next
		versions = append(versions, version{z, maps.Clone(want)})
	}
	for i, v := range versions {
		checkNames(t, i, v.z, v.want)
	}
}

func checkNames(t *testing.T, i int, z *Zone, want map[string]bool) {
	t.Helper()
	var got []string
	for rr := range z.All() {
		if a, ok := rr.(*miekg.A); ok && a.Hdr.Name != "ns.example." {
			got = append(got, names.Canonical(a.Hdr.Name))
		}
	}
	if len(got) != len(want) || z.Len() != len(want)+3 {
		t.Fatalf("version %d: %d names, %d records, want %d", i, len(got), z.Len(), len(want))
	}
	// The same, ordered by labels from the right (RFC 4034 section 6.1).
	octets := func(name string) []string {
		var l labels
		l.split(name)
		var keys []string
		for i := l.n - 1; i >= 0; i-- {
			keys = append(keys, l.key(i))
		}
		return keys
	}
	if !slices.IsSortedFunc(got, func(a, b string) int { return slices.Compare(octets(a), octets(b)) }) {
		t.Fatalf("version %d: not in canonical order", i)
	}
	for name := range want {
		if len(z.Find(name, miekg.TypeA)) != 1 {
			t.Fatalf("version %d: %s is not found", i, name)
		}
	}
	n := 0
	for _, c := range z.apex.kids.chunks {
		n += len(c.nodes)
		if len(c.nodes) == 0 || len(c.nodes) > maxChunk || len(c.nodes) != len(c.keys.keys) || len(c.nodes) != len(c.keys.heads) {
			t.Fatalf("version %d: a part of %d names", i, len(c.nodes))
		}
	}
	if len(z.apex.kids.chunks) > 4+8*n/maxChunk {
		t.Fatalf("version %d: %d parts for %d names", i, len(z.apex.kids.chunks), n)
	}
}
