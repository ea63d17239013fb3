package search

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// TestMatch: what is found is what the maker of the message put there.
func TestMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLetter(t)
		for range 8 {
			field, name, text := drawKey(t, []*letter{l})
			got, err := Match(bytes.NewReader(l.raw), int64(len(l.raw)), []Key{NewKey(field, name, text)})
			if err != nil {
				t.Fatal(err)
			}
			if want := l.has(field, name, text); got[0] != want {
				t.Fatalf("field %d %q: %q found %v, want %v in\n%s", field, name, text, got[0], want, l.raw)
			}
		}
	})
}
