package search

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
)

// sound fails where Verify finds anything.
func (w *world) sound() {
	w.Helper()
	w.must(w.index.Verify(context.Background(), func(d Damage) { w.Fatalf("damage: %+v", d) }))
}

// TestVerify: each kind of damage is found, also that which would only make
// answers wrong, and it is told of which account.
func TestVerify(t *testing.T) {
	w := newWorld(t, t.TempDir())
	defer func() { w.must(w.store.Close()) }()
	for i := range 300 {
		w.deliver(w.boxes[i%2], "", fmt.Appendf(nil, "Subject: letter %d\r\n\r\nalpha w%d %s\r\n", i, i, strings.Repeat(fmt.Sprintf("x%dy ", i), i%7)), 1+i%2)
	}
	w.settle()
	w.sound()
	w.index.Close()
	sound, err := os.ReadFile(w.path)
	w.must(err)
	look := func() (found []string) {
		w.must(Verify(context.Background(), w.store, w.path, func(d Damage) {
			if d.Account != w.account {
				t.Errorf("%+v", d)
			}
			found = append(found, d.Text)
		}))
		return found
	}
	if found := look(); len(found) > 0 {
		t.Fatalf("of a sound index: %q", found)
	}
	for script, want := range map[string]string{
		"UPDATE mailbox SET watermark = 100000":                                                      "UIDs below 100000",
		"UPDATE mailbox SET validity = validity + 1":                                                 "of UIDVALIDITY",
		"UPDATE place SET count = count + 1":                                                         "not those of its row",
		"UPDATE mailbox SET watermark = 2":                                                           "not those of its row",
		"UPDATE place SET data = substr(data, 1, length(data) - 1) || x'00'":                         "damaged",
		"UPDATE doc SET doc = doc + 1 WHERE doc = (SELECT max(doc) FROM doc) - 1":                    "another message's or nobody's",
		"DELETE FROM doc WHERE doc = 5":                                                              "are counted",
		"UPDATE account SET next = 3":                                                                "in use",
		"UPDATE account SET next = 4294967296; UPDATE doc SET doc = 4294967295 WHERE doc = 7":        "another message's or nobody's",
		"UPDATE doc SET doc = 99999 WHERE doc = 7":                                                   "never made",
		"DELETE FROM part WHERE id & 7 = 6 AND id = (SELECT max(id) FROM part WHERE id & 7 = 6)":     "octets and should have",
		"UPDATE part SET terms = substr(terms, 1, 9) || x'7f' || substr(terms, 11)":                  "column 0 of segment",
		"UPDATE part SET lists = substr(lists, 1, 9) || x'ff' || substr(lists, 11) WHERE id & 7 = 6": "column 6 of segment",
		"DELETE FROM segment WHERE lo = 0":                                                           "another message's or nobody's",
		"UPDATE segment SET lo = 0, hi = 1":                                                          "segment",
	} {
		w.must(os.WriteFile(w.path, sound, 0o600))
		w.must(w.script(script))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		found := look()
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
			t.Errorf("%s: verify took %d MiB", script, n>>20)
		}
		if len(found) == 0 || len(found) > maxDamage || !strings.Contains(strings.Join(found, "\n"), want) {
			t.Errorf("%s: found %q, want %q", script, found, want)
		}
	}
}
