package imap

import (
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"postrider/imap/syntax"
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
	b := &selection{uids: []mailstore.UID{2, 3, 5, 8, 13, 21}, saved: []mailstore.UID{3, 4, 21}}
	tests := []struct {
		set   string
		byUID bool
		want  []span
	}{
		{"1:*", false, []span{{0, 6}}},
		{"*", false, []span{{5, 6}}},
		{"2:3,5:100", false, []span{{1, 3}, {4, 6}}},
		{"9:*", false, []span{{5, 6}}},
		{"4:8", true, []span{{2, 4}}},
		{"4", true, nil},
		{"22:*", true, []span{{5, 6}}},
		{"22:30", true, nil},
		{"1:3,3:5,13:4294967295", true, []span{{0, 3}, {4, 6}}},
		{"3:1,5:3", true, []span{{0, 3}}},
		{"$", true, []span{{1, 2}, {5, 6}}},
		{"$", false, []span{{1, 2}, {5, 6}}},
	}
	for _, test := range tests {
		got, err := b.spans(parseSet(t, test.set), test.byUID)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%v = %v, %v, want %v", test.set, got, err, test.want)
		}
	}
	if _, err := b.spans(parseSet(t, "7:9"), false); err == nil {
		t.Error("a number beyond the last is accepted")
	}
	empty := &selection{}
	for _, set := range []string{"1:*", "*"} {
		for _, byUID := range []bool{false, true} {
			if got, err := empty.spans(parseSet(t, set), byUID); err != nil || len(got) != 0 {
				t.Errorf("%v of nothing = %v, %v", set, got, err)
			}
		}
	}
}

func parseSet(t *testing.T, s string) syntax.Set {
	t.Helper()
	p := syntax.NewParser([]byte(s))
	set := p.Set()
	if err := p.End(); err != nil {
		t.Fatal(err)
	}
	return set
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

func itoa(i int) string { return strconv.Itoa(i) }

// contains tells whether an index is in one of spans, which are in order.
func contains(spans []span, i int) bool {
	_, found := slices.BinarySearchFunc(spans, i, func(sp span, i int) int {
		switch {
		case sp.hi <= i:
			return -1
		case sp.lo > i:
			return 1
		}
		return 0
	})
	return found
}

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

// TestCapabilitiesDocumented: what is offered is in the table of docs/imap.md.
func TestCapabilitiesDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/imap.md")
	if err != nil {
		t.Fatal(err)
	}
	table, _, _ := strings.Cut(string(text), "## Deviations")
	for _, name := range append([]string{"IMAP4rev1", "IMAP4rev2", "LITERAL+", "LITERAL-", "SASL-IR", "ENABLE", "ID", "APPENDLIMIT", "MESSAGELIMIT", "QUOTASET", "COMPRESS=DEFLATE", "UNAUTHENTICATE", "STARTTLS", "LOGINDISABLED"}, offered...) {
		if !regexp.MustCompile(`[|,] ` + regexp.QuoteMeta(name) + `[ ,|]`).MatchString(table) {
			t.Errorf("docs/imap.md does not say what %s is", name)
		}
	}
	if !slices.IsSorted(offered[:2]) || len(slices.Compact(slices.Sorted(slices.Values(offered)))) != len(offered) {
		t.Error("a capability is listed twice")
	}
}

// TestAbsent: however far UIDs reach, all that are not there are named, and in no more
// ranges than there are messages.
func TestAbsent(t *testing.T) {
	b := &selection{uids: []mailstore.UID{2, 3, 7, 3_000_000, 4_294_967_290}}
	for _, test := range []struct {
		known       string // "" is all
		next, after mailstore.UID
		want        string
	}{
		{"", 4_294_967_291, 0, "1,4:6,8:2999999,3000001:4294967289"},
		{"", 4_294_967_295, 7, "8:2999999,3000001:4294967289,4294967291:4294967294"},
		{"1:4,6:8,3000000:4294967295", 3_000_005, 0, "1,4,6,8,3000001:3000004"},
		{"2:3,7", 4_294_967_291, 0, ""},
		{"", 1, 0, ""},
	} {
		var known []syntax.Range
		if test.known != "" {
			known = syntax.NewParser([]byte(test.known)).UIDs()
		}
		var got []string
		for _, r := range b.absent(known, test.next, test.after) {
			got = append(got, string(syntax.AppendRange(nil, r.First, r.Last)))
		}
		if strings.Join(got, ",") != test.want {
			t.Errorf("of %q below %d and above %d: %s, not %s", test.known, test.next, test.after, got, test.want)
		}
	}
}
