package search

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestMatch: what is found is what the maker of the message put there.
func TestMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLetter(t)
		for range 8 {
			field, name, text := drawKey(t, []*letter{l})
			var keys []Key
			for _, m := range makers {
				keys = append(keys, m.key(field, name, text))
			}
			got, err := Match(bytes.NewReader(l.raw), int64(len(l.raw)), keys)
			if err != nil {
				t.Fatal(err)
			}
			for i, m := range makers {
				if want := l.has(field, name, text, m.fold); got[i] != want {
					t.Fatalf("maker %d, field %d %q: %q found %v, want %v in\n%s", i, field, name, text, got[i], want, l.raw)
				}
			}
		}
	})
}

// TestMatchAcrossPieces: where a text is cut for reading makes no difference.
func TestMatchAcrossPieces(t *testing.T) {
	long := strings.Repeat("Grüße ", 10000)
	for _, test := range []struct {
		text, find string
		want       bool
	}{
		{"", "", true},
		{"", "a", false},
		{"Hello", "hello", true},
		{long + "ENDE", "grüße ende", true},
		{long, "ende", false},
		{"a\xffb", "ÿb", true},
		{strings.Repeat("x", textChunk-1) + "ÄÖÜ", "xäöü", true},
		{strings.Repeat("x", MaxText-4) + "ende", "ende", true},
		{strings.Repeat("x", MaxText-3) + "ende", "ende", false},
	} {
		raw := "Content-Type: text/plain; charset=utf-8\r\n\r\n" + test.text
		got, err := Match(strings.NewReader(raw), int64(len(raw)), []Key{NewKey(Body, "", test.find)})
		if err != nil || got[0] != test.want {
			t.Errorf("%.20q in %.20q = %v, %v", test.find, test.text, got, err)
		}
	}
}
