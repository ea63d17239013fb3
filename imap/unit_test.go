package imap

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"postrider/mailstore"
)

func TestPattern(t *testing.T) {
	tests := []struct {
		reference, pattern, name string
		want                     bool
	}{
		{"", "*", "a/b/c", true},
		{"", "%", "a", true},
		{"", "%", "a/b", false},
		{"", "%/%", "a/b", true},
		{"", "%/%", "a/b/c", false},
		{"", "a*c", "a/b/c", true},
		{"", "a%c", "a/c", false},
		{"", "*b%", "a/b/bc", true},
		{"", "%%", "abc", true},
		{"", "*%*", "a/b", true},
		{"", "inbox", "INBOX", true},
		{"", "iNb%", "INBOX", true},
		{"", "inbox/%", "INBOX/a", true},
		{"", "inbox", "inbox2", false},
		{"", "INBOXES", "INBOXES", true},
		{"a/", "%", "a/b", true},
		{"a", "%", "a/b", false},
		{"a", "/%", "a/b", true},
		{"", "ü*", "übung", true},
		{"", "u\u0308*", "übung", true},
		{"", "", "a", false},
		{"", "a", "A", false},
	}
	for _, test := range tests {
		p, ok := newPattern(test.reference, test.pattern)
		if got := ok && p.match(test.name); got != test.want {
			t.Errorf("%q %q on %q = %v", test.reference, test.pattern, test.name, got)
		}
	}
	if _, ok := newPattern("", strings.Repeat("a", 2*mailstore.MaxNameLength+1)); ok {
		t.Error("an endless pattern is accepted")
	}
}

// FuzzPattern compares with a regular expression.
func FuzzPattern(f *testing.F) {
	f.Add("a*b%c", "a/xb/c")
	f.Add("%/%", "a/b")
	f.Add("*%*a*%", strings.Repeat("a/", 50))
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if !utf8.ValidString(pattern) || !utf8.ValidString(name) || len(name) > mailstore.MaxNameLength || len(pattern) > 200 {
			return
		}
		expr := regexp.QuoteMeta(pattern)
		expr = strings.NewReplacer(`\*`, `.*`, `%`, `[^/]*`).Replace(expr)
		want := regexp.MustCompile(`(?s)^` + expr + `$`).MatchString(name)
		if got := matches(pattern, name); got != want {
			t.Errorf("%q on %q = %v", pattern, name, got)
		}
	})
}

func BenchmarkPatternWorst(b *testing.B) {
	pattern := strings.Repeat("*a%", 300)
	name := strings.Repeat("a", mailstore.MaxNameLength-1) + "b"
	for b.Loop() {
		matches(pattern, name)
	}
}

func TestSpans(t *testing.T) {
	b := newSelection(false)
	b.uids = []mailstore.UID{2, 3, 5, 8, 13, 21}
	b.saved = []mailstore.UID{3, 4, 21}
	tests := []struct {
		set  imap.NumSet
		want []span
	}{
		{imap.SeqSet{{Start: 1, Stop: 0}}, []span{{0, 6}}},
		{imap.SeqSet{{Start: 0, Stop: 0}}, []span{{5, 6}}},
		{imap.SeqSet{{Start: 2, Stop: 3}, {Start: 5, Stop: 100}}, []span{{1, 3}, {4, 6}}},
		{imap.SeqSet{{Start: 9, Stop: 0}}, []span{{5, 6}}},
		{imap.UIDSet{{Start: 4, Stop: 8}}, []span{{2, 4}}},
		{imap.UIDSet{{Start: 4, Stop: 4}}, nil},
		{imap.UIDSet{{Start: 22, Stop: 0}}, []span{{5, 6}}},
		{imap.UIDSet{{Start: 22, Stop: 30}}, nil},
		{imap.UIDSet{{Start: 1, Stop: 3}, {Start: 3, Stop: 5}, {Start: 13, Stop: 4294967295}}, []span{{0, 3}, {4, 6}}},
		{imap.SearchRes(), []span{{1, 2}, {5, 6}}},
		{imap.UIDSet{}, nil},
	}
	for _, test := range tests {
		got, err := b.spans(test.set)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%v = %v, %v, want %v", test.set, got, err, test.want)
		}
	}
	if _, err := b.spans(imap.SeqSet{{Start: 7, Stop: 9}}); err == nil {
		t.Error("a number beyond the last is accepted")
	}
	empty := newSelection(false)
	for _, set := range []imap.NumSet{imap.SeqSet{{Start: 1, Stop: 0}}, imap.SeqSet{{}}, imap.UIDSet{{Start: 1, Stop: 0}}, imap.UIDSet{{}}} {
		if got, err := empty.spans(set); err != nil || len(got) != 0 {
			t.Errorf("%v of nothing = %v, %v", set, got, err)
		}
	}
}

func TestSplit(t *testing.T) {
	spans := []span{{0, 3}, {5, 6}, {8, 20}}
	var got [][]span
	for rest := spans; len(rest) > 0; {
		var front []span
		front, rest = split(rest, 5)
		got = append(got, front)
	}
	want := [][]span{{{0, 3}, {5, 6}, {8, 9}}, {{9, 14}}, {{14, 19}}, {{19, 20}}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(span{})); diff != "" {
		t.Error(diff)
	}
}

// TestRead: scattered messages are found, with as few questions as that takes.
func TestRead(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("bob", "INBOX", []byte("x"), mailstore.Flags{}, 3000)
	r := rand.New(rand.NewPCG(1, 1))
	c := w.client("INBOX")
	for range 20 {
		var set, want []string
		for n, i := 1+r.IntN(400), 1+r.IntN(50); n > 0 && i <= 3000; n-- {
			set = append(set, itoa(i))
			want = append(want, "* "+itoa(i)+" FETCH (UID "+itoa(i)+" FLAGS ())")
			i += 1 + r.IntN(3)*r.IntN(100)
		}
		c.ok("FETCH " + strings.Join(set, ",") + " (UID FLAGS)")
		if diff := cmp.Diff(want, c.all); diff != "" {
			t.Fatal(diff)
		}
	}
}

func itoa(i int) string { return imap.SeqSetNum(uint32(i)).String() }

// TestIntersect compares with sets of numbers.
func TestIntersect(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	random := func() []span {
		var l []span
		for range r.IntN(6) {
			lo := r.IntN(40)
			l = append(l, span{lo, lo + r.IntN(8)})
		}
		return merge(l)
	}
	for range 500 {
		a, b := random(), random()
		both := intersect(a, b)
		for i := range 50 {
			if contains(both, i) != (contains(a, i) && contains(b, i)) {
				t.Fatalf("%v and %v = %v", a, b, both)
			}
		}
	}
}
