package search

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestVocabulary: each term has one number, in the order in which they came,
// also where the table had to grow, and an empty one is a term.
func TestVocabulary(t *testing.T) {
	var v vocabulary
	const terms = 5000
	for round := range 2 {
		for i := range terms {
			term := fmt.Sprint(i)
			if i == 7 {
				term = ""
			}
			n, fresh := v.number([]byte(term))
			if int(n) != i || fresh != (round == 0) {
				t.Fatalf("round %d: %q is %d, fresh %v", round, term, n, fresh)
			}
			if got := string(v.term(n)); got != term {
				t.Fatalf("term %d is %q, not %q", n, got, term)
			}
		}
	}
	sorted := v.sorted()
	if len(sorted) != terms || !slices.IsSortedFunc(sorted, func(a, b uint32) int {
		return strings.Compare(string(v.term(a)), string(v.term(b)))
	}) {
		t.Errorf("%d terms, not in order", len(sorted))
	}
}
