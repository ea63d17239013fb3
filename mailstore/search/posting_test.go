package search

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestLists: a list that was written is read as it was, in both forms, and sets
// made of lists are those made one by one.
func TestLists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 700).Draw(t, "size")
		docs := rapid.SliceOfNDistinct(rapid.Uint32Range(0, uint32(size-1)), 0, size, rapid.ID).Draw(t, "docs")
		slices.Sort(docs)
		b := appendList(nil, docs, size)
		var got []uint32
		if err := readList(b, size, func(d uint32) bool {
			got = append(got, d)
			return true
		}); err != nil || !slices.Equal(got, docs) {
			t.Fatalf("%v read as %v, %v", docs, got, err)
		}
		base := rapid.IntRange(0, 200).Draw(t, "base")
		part, whole, want := newBitset(size), newBitset(base+size), newBitset(base+size)
		if err := addList(b, size, part); err != nil {
			t.Fatal(err)
		}
		whole.or(part, base)
		for _, d := range docs {
			want.add(base + int(d))
		}
		if !slices.Equal(whole.words, want.words) || whole.n != len(docs) || part.n != len(docs) {
			t.Fatalf("%v at %d makes %v (%d)", docs, base, whole.words, whole.n)
		}
	})
}

// FuzzList: whatever the bytes, all that is read is in range and in order.
func FuzzList(f *testing.F) {
	f.Add(appendList(nil, []uint32{1, 5, 9}, 300), 300)
	f.Add(appendList(nil, []uint32{0, 1, 2, 3}, 5), 5)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 9)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		size = min(max(size, 1), 1<<16)
		last := -1
		err := readList(b, size, func(d uint32) bool {
			if int(d) <= last || int(d) >= size {
				t.Errorf("%d after %d, of %d", d, last, size)
			}
			last = int(d)
			return true
		})
		set := newBitset(size)
		if e := addList(b, size, set); (e == nil) != (err == nil) {
			t.Errorf("readList says %v, addList %v", err, e)
		}
	})
}

func columnOf(terms ...string) []byte {
	var w columnWriter
	for i, s := range terms {
		w.put([]byte(s), i+1)
	}
	return w.finish()
}

// TestColumn: terms are found as plain string functions find them.
func TestColumn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringOfN(rapid.RuneFrom([]rune("AB9É Q")), 0, 6, -1)
		terms := rapid.SliceOfDistinct(word, rapid.ID).Draw(t, "terms")
		slices.Sort(terms)
		c, err := decodeColumn(columnOf(terms...))
		if err != nil {
			t.Fatal(err)
		}
		at := uint32(0)
		for i, s := range terms {
			from, to := c.list(i)
			if string(c.term(i)) != s || from != at || to != at+uint32(i)+1 {
				t.Fatalf("term %d is %q, its list %d to %d", i, c.term(i), from, to)
			}
			at = to
		}
		p := piece{text: word.Draw(t, "key"), left: rapid.Bool().Draw(t, "left"), right: rapid.Bool().Draw(t, "right")}
		var got, want []string
		c.terms(p, func(i int) bool {
			got = append(got, string(c.term(i)))
			return true
		})
		for _, s := range terms {
			if s == p.text || strings.Contains(s, p.text) && !(p.left && !strings.HasPrefix(s, p.text)) && !(p.right && !strings.HasSuffix(s, p.text)) && !(p.left && p.right) {
				want = append(want, s)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%+v is in %q, got %q", p, want, got)
		}
	})
}

// FuzzColumn: no bytes make a column that can not be used; those that are
// accepted are what would be written.
func FuzzColumn(f *testing.F) {
	f.Add(columnOf("", "A", "AB", "B"))
	f.Add(columnOf())
	f.Add(seal([]byte{0, 1, 'A', 9, 0, 0, 0, 2}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, seal(slices.Clone(b))} {
			c, err := decodeColumn(b)
			if err != nil {
				continue
			}
			for i := range c.len() {
				if from, to := c.list(i); from > to {
					t.Errorf("list %d is %d to %d", i, from, to)
				}
				if i > 0 && string(c.term(i)) <= string(c.term(i-1)) {
					t.Errorf("%q comes after %q", c.term(i), c.term(i-1))
				}
			}
			c.inside("A", false, func(i int) bool { return i < c.len() })
		}
	})
}

// FuzzPlaces: as FuzzColumn.
func FuzzPlaces(f *testing.F) {
	p := new(places)
	p.add(1, 7)
	p.add(9, 2)
	f.Add(p.encode())
	f.Add([]byte{1, 1, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, seal(slices.Clone(b))} {
			p, err := decodePlaces(b)
			if err != nil {
				continue
			}
			if !slices.IsSorted(p.uids) || len(p.uids) != len(p.docs) {
				t.Errorf("places %v", p)
			}
			q, err := decodePlaces(p.encode())
			if err != nil || !slices.Equal(p.uids, q.uids) || !slices.Equal(p.docs, q.docs) {
				t.Errorf("%v read as %v, %v", p, q, err)
			}
		}
	})
}

// TestFinder: it finds what package strings does.
func TestFinder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		runes := rapid.StringOf(rapid.RuneFrom([]rune("ABZ0É\x00")))
		text, key := runes.Draw(t, "text"), rapid.StringOfN(rapid.RuneFrom([]rune("ABZ0É")), 0, 3, -1).Draw(t, "key")
		from := rapid.IntRange(0, len(text)).Draw(t, "from")
		want := strings.Index(text[from:], key)
		if want >= 0 {
			want += from
		}
		f := newFinder(key)
		if got := f.next([]byte(text), from); got != want {
			t.Fatalf("%q in %q from %d: %d, want %d", key, text, from, got, want)
		}
	})
}
