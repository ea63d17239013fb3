package imap

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// followed is the result of a search as a client keeps it.
type followed struct {
	command, key string
	numbers      map[uint32]bool
}

var contextItem = regexp.MustCompile(`(ADDTO|REMOVEFROM) \(0 ([0-9:,]+)\)`)

// expand lists the numbers of a set.
func expand(set string) []uint32 {
	var list []uint32
	for _, r := range strings.Split(set, ",") {
		lo, hi, two := strings.Cut(r, ":")
		first, _ := strconv.Atoi(lo)
		last := first
		if two {
			last, _ = strconv.Atoi(hi)
		}
		for i := first; i <= last; i++ {
			list = append(list, uint32(i))
		}
	}
	return list
}

// apply does what the server told.
func (f *followed) apply(t *testing.T, tag string, line string) {
	var n uint32
	if _, err := fmt.Sscanf(line, "* %d EXPUNGE", &n); err == nil && strings.HasSuffix(line, "EXPUNGE") && !strings.HasPrefix(f.command, "UID") {
		if f.numbers[n] {
			t.Errorf("%s: %d is expunged and in the result", f.key, n)
		}
		moved := make(map[uint32]bool)
		for have := range f.numbers {
			if have > n {
				have--
			}
			moved[have] = true
		}
		f.numbers = moved
	}
	if !strings.HasPrefix(line, `* ESEARCH (TAG "`+tag+`")`) {
		return
	}
	for _, item := range contextItem.FindAllStringSubmatch(line, -1) {
		for _, n := range expand(item[2]) {
			if f.numbers[n] == (item[1] == "ADDTO") {
				t.Errorf("%s: %s of %d in %v", f.key, item[1], n, slices.Sorted(maps.Keys(f.numbers)))
			}
			if item[1] == "ADDTO" {
				f.numbers[n] = true
			} else {
				delete(f.numbers, n)
			}
		}
	}
}

// TestContexts: whatever happens in a mailbox, a client that does what it is told
// has what a search would find.
func TestContexts(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("bob", "INBOX", fixture(t, "plain"), mailstore.Flags{}, 5)
	w.deliver("bob", "INBOX", fixture(t, "alternative"), mailstore.Flags{}, 5)
	c, other := w.client("INBOX"), w.client("INBOX")
	r := rand.New(rand.NewPCG(11, 11))
	contexts := make(map[string]*followed)
	for _, f := range []followed{
		{command: "SEARCH", key: "FLAGGED"}, {command: "UID SEARCH", key: "OR FLAGGED SUBJECT crepe"},
		{command: "SEARCH", key: "ALL"}, {command: "UID SEARCH", key: "NOT (SEEN BODY ketchup)"}, {command: "UID SEARCH", key: "UID 8:* UNSEEN"},
	} {
		c.ok(fmt.Sprintf("%s RETURN (ALL UPDATE) %s", f.command, f.key))
		f.numbers = make(map[uint32]bool)
		tag := ""
		if _, err := fmt.Sscanf(c.all[0], "* ESEARCH (TAG %q)", &tag); err != nil {
			t.Fatal(c.all, err)
		}
		if _, set, ok := strings.Cut(c.all[0], " ALL "); ok {
			for _, n := range expand(set) {
				f.numbers[n] = true
			}
		}
		contexts[tag] = &f
	}
	hear := func() {
		for _, line := range c.all {
			for tag, f := range contexts {
				f.apply(t, tag, line)
			}
		}
	}
	total := func() int {
		other.ok("SEARCH ALL")
		return len(strings.Fields(other.all[0])) - 2
	}
	for step := range 120 {
		who := other
		if r.IntN(2) == 0 {
			who = c
		}
		n := total()
		switch k := r.IntN(6); {
		case k == 0 || n < 4:
			w.deliver("bob", "INBOX", fixture(t, []string{"plain", "alternative"}[r.IntN(2)]), mailstore.Flags{System: mailstore.SystemFlags(r.IntN(32))}, 1+r.IntN(2))
		case k == 1:
			who.ok("EXPUNGE")
		default:
			flag := []string{`\Seen`, `\Flagged`, `\Deleted`}[r.IntN(3)]
			who.ok(fmt.Sprintf("UID STORE %d:%d %sFLAGS.SILENT (%s)", 1+r.IntN(n+step), 1+r.IntN(n+step), []string{"+", "-"}[r.IntN(2)], flag))
		}
		if who == c {
			hear()
		}
		c.ok("UID FETCH 1 UID")
		hear()
		c.ok("NOOP")
		hear()
		for _, f := range contexts {
			c.ok(f.command + " " + f.key)
			var want []string
			for _, n := range slices.Sorted(maps.Keys(f.numbers)) {
				want = append(want, string(syntax.AppendNumber(nil, n)))
			}
			if got := strings.TrimSpace(strings.TrimPrefix(c.all[0], "* SEARCH")); got != strings.Join(want, " ") {
				t.Fatalf("step %d, %s: has %v, a search finds %s", step, f.key, want, got)
			}
		}
	}
}
