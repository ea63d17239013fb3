package search

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// members are the numbers of a set.
func members(s *bitset) (list []uint32) {
	for i := range uint32(64 * len(s.words)) {
		if s.has(int(i)) {
			list = append(list, i)
		}
	}
	return list
}

func drawDocs(t *rapid.T, size int) []uint32 {
	docs := rapid.SliceOfNDistinct(rapid.Uint32Range(0, uint32(size-1)), 0, size, rapid.ID).Draw(t, "docs")
	slices.Sort(docs)
	return docs
}

// TestLists: a list that was written is read as it was, in both forms, and sets
// made of lists are those made one by one.
func TestLists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 700).Draw(t, "size")
		docs := drawDocs(t, size)
		b := appendList(nil, docs, size)
		base := rapid.IntRange(0, 200).Draw(t, "base")
		part, whole, want := newBitset(size), newBitset(base+size), newBitset(base+size)
		if err := addList(b, size, part); err != nil {
			t.Fatal(err)
		}
		if got := members(part); !slices.Equal(got, docs) || part.n != len(docs) {
			t.Fatalf("%v read as %v (%d)", docs, got, part.n)
		}
		if again := part.appendList(nil, size); !slices.Equal(again, b) {
			t.Fatalf("%v is %x as numbers, %x as a set", docs, b, again)
		}
		whole.or(part, base)
		for _, d := range docs {
			want.add(base + int(d))
		}
		if !slices.Equal(whole.words, want.words) || whole.n != len(docs) {
			t.Fatalf("%v at %d makes %v (%d)", docs, base, whole.words, whole.n)
		}
	})
}

// TestJoined: lists of neighbours, joined, are the list of what they hold together
// and is live; one after the other, since the room is used again.
func TestJoined(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 150), 1, 5).Draw(t, "sizes")
		total := 0
		for _, n := range sizes {
			total += n
		}
		var live *bitset
		if rapid.Bool().Draw(t, "some are dead") {
			live = newBitset(total)
			for _, d := range drawDocs(t, total) {
				live.add(int(d))
			}
		}
		j := newJoined(total, live)
		for range rapid.IntRange(1, 4).Draw(t, "terms") {
			var want []uint32
			base := 0
			for _, n := range sizes {
				docs := drawDocs(t, n)
				if err := j.add(appendList(nil, docs, n), n, base); err != nil {
					t.Fatal(err)
				}
				for _, d := range docs {
					if live == nil || live.has(base+int(d)) {
						want = append(want, uint32(base)+d)
					}
				}
				base += n
			}
			got, empty, err := j.append(nil)
			if err != nil || !slices.Equal(got, appendList(nil, want, total)) || empty != (len(want) == 0) {
				t.Fatalf("%v of %v joined as %x, empty %v, %v", want, sizes, got, empty, err)
			}
		}
	})
}

// FuzzList: whatever the bytes, what is read is in range, and is read in the same
// way when segments are merged.
func FuzzList(f *testing.F) {
	f.Add(appendList(nil, []uint32{1, 5, 9}, 300), 300)
	f.Add(appendList(nil, []uint32{0, 1, 2, 3}, 5), 5)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 9)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		size = min(max(size, 1), 1<<16)
		set := newBitset(size)
		err := addList(b, size, set)
		for _, d := range members(set) {
			if int(d) >= size {
				t.Errorf("%d of %d", d, size)
			}
		}
		j := newJoined(size, nil)
		e := j.add(b, size, 0)
		list, _, late := j.append(nil)
		if e = cmp.Or(e, late); (e == nil) != (err == nil) {
			t.Errorf("addList says %v, join %v", err, e)
		}
		if err == nil {
			again := newBitset(size)
			if err := addList(list, size, again); err != nil || !slices.Equal(again.words, set.words) {
				t.Errorf("%x joined is %x: %v", b, list, err)
			}
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
