package node

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// searched is the answer to one SEARCH in bob's INBOX.
func searched(t *testing.T, r *running, key string) (numbers string) {
	t.Helper()
	c := dial(t, r.Addr("imap"), "* OK")
	for i, command := range []string{"LOGIN bob@hamburger.edu hungry", "EXAMINE INBOX", "SEARCH " + key} {
		tag := fmt.Sprint("a", i)
		c.say(tag+" "+command, "")
		for line := ""; !strings.HasPrefix(line, tag); {
			var err error
			if line, err = c.ReadLine(); err != nil {
				t.Fatal(err)
			}
			if rest, ok := strings.CutPrefix(line, "* SEARCH"); ok {
				numbers = strings.TrimSpace(rest)
			}
			if strings.HasPrefix(line, tag) && !strings.HasPrefix(line, tag+" OK") {
				t.Fatalf("%s: %s", command, line)
			}
		}
	}
	return numbers
}

// TestSearch: mail is found as soon as it is delivered, by the index or without
// one, and while the index is made anew.
func TestSearch(t *testing.T) {
	for _, index := range []bool{true, false} {
		o := options(t)
		o.SearchIndex = index
		r := start(t, o)
		people(t, r.Node)
		for range 3 {
			c := dial(t, r.Addr("smtp"), "220")
			c.say("EHLO crepes.fr", "250 ")
			c.letter("bob@hamburger.edu", "250")
		}
		want := "1 2 3"
		if got := searched(t, r, "BODY ketchup"); got != want {
			t.Errorf("index %v: found %q", index, got)
		}
		x := r.searching.index
		if (x != nil) != index {
			t.Fatalf("index %v: %v", index, x)
		}
		a, err := OpenAdmin(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		err = a.Call("Reindex", "bob@hamburger.edu", new(SearchStatus))
		if index && err != nil || !index && (err == nil || !strings.Contains(err.Error(), "[search] index")) {
			t.Errorf("index %v: reindex says %v", index, err)
		}
		if index {
			if got := searched(t, r, "TEXT KETCHUP"); got != want {
				t.Errorf("found %q while reindexing", got)
			}
			if err := x.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := searched(t, r, "TEXT KETCHUP NOT BODY crepe"); got != want {
			t.Errorf("index %v: found %q", index, got)
		}
		files, err := filepath.Glob(filepath.Join(o.DataDir, "search.db"))
		if err != nil || len(files) > 0 != index {
			t.Errorf("index %v: %v, %v", index, files, err)
		}
	}
}
