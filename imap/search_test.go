package imap

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"postrider/imap/syntax"
	"postrider/internal/wire/wiretest"
	"postrider/mailstore"
	"postrider/mailstore/search"
)

// addIndex gives a server that is about to be made a search index.
func addIndex(t testing.TB, o *Options) *search.Index {
	x := search.Open(o.Store, search.Options{Path: filepath.Join(t.TempDir(), "search.db"), Log: slog.New(noPanics{t})})
	o.Search = x
	return x
}

// TestTranscriptsIndexed: an index changes no answer.
func TestTranscriptsIndexed(t *testing.T) {
	for _, files := range []string{"testdata/search.txt", "testdata/fuzzy.txt"} {
		wiretest.RunFiles(t, files, func(t *testing.T) wiretest.Dialogue {
			var x *search.Index
			w := newWorld(t, func(o *Options) { x = addIndex(t, o) })
			w.index = x
			t.Cleanup(x.Close)
			return wiretest.Dialogue{Dial: w.listener.Dial, Do: w.do}
		})
	}
}

// randomKey is a search key as a client writes it.
func randomKey(r *rand.Rand, depth int) string {
	texts := []string{"crepe", "e", "\"do you\"", "ketchup", "jörg", "\"grüße\"", "\"\"", "\": \"", "alice@crepes.fr", "nosuchword", "hamburger", "\"subject: \"", "image.jpg", "1998"}
	text := func() string { return texts[r.IntN(len(texts))] }
	if depth > 0 && r.IntN(3) == 0 {
		switch r.IntN(4) {
		case 0:
			return "NOT " + randomKey(r, depth-1)
		case 1:
			return "OR " + randomKey(r, depth-1) + " " + randomKey(r, depth-1)
		case 2:
			return "FUZZY " + randomKey(r, depth-1)
		}
		return "(" + randomKey(r, depth-1) + " " + randomKey(r, depth-1) + ")"
	}
	switch r.IntN(12) {
	case 0:
		return []string{"SEEN", "UNSEEN", "FLAGGED", "DELETED", "KEYWORD $Work"}[r.IntN(5)]
	case 1:
		return fmt.Sprintf("%d:%d", 1+r.IntN(5), 1+r.IntN(20))
	case 2:
		return fmt.Sprintf("LARGER %d", r.IntN(1000))
	case 3:
		return "SENTBEFORE 1-Jan-1997"
	case 4:
		return "HEADER " + []string{"Subject", "Message-ID", "Content-Type", "X-None"}[r.IntN(4)] + " " + text()
	}
	return []string{"SUBJECT", "FROM", "TO", "CC", "BCC", "TEXT", "BODY"}[r.IntN(7)] + " " + text()
}

// TestSearchIndexed: whatever is asked, and while some of the mailbox is not
// indexed, a server with an index says what one without says.
func TestSearchIndexed(t *testing.T) {
	w := newWorld(t, nil)
	o := w.server.o
	x := addIndex(t, &o)
	defer x.Close()
	indexed := New(o)
	listener := wiretest.Listen()
	w.wire.Serve(listener, indexed.Protocol("imap", false))
	names := []string{"plain", "alternative", "forwarded", "eight-bit", "jpeg"}
	for i := range 20 {
		w.deliver("bob", "INBOX", fixture(t, names[i%len(names)]), mailstore.Flags{System: mailstore.SystemFlags(i)}, 1)
		if i == 13 {
			if err := x.Settle(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := rand.New(rand.NewPCG(7, 7))
	var script strings.Builder
	script.WriteString("a LOGIN bob hungry\r\nb EXAMINE INBOX\r\n")
	for i := range 300 {
		fmt.Fprintf(&script, "s%d SEARCH CHARSET UTF-8 %s\r\n", i, randomKey(r, 3))
	}
	plain := w.raw(script.String())
	w.listener = listener
	fast := w.raw(script.String())
	if n := strings.Count(plain, "OK SEARCH completed"); n != 300 {
		t.Errorf("%d searches succeeded of 300", n)
	}
	asked, got, want := strings.Split(script.String(), "\r\n"), strings.Split(fast, "\r\n* SEARCH"), strings.Split(plain, "\r\n* SEARCH")
	for i := 1; i < min(len(got), len(want)); i++ {
		if got[i] != want[i] {
			t.Errorf("%s\nwith index    %s\nwithout index %s", asked[i+1], got[i], want[i])
		}
	}
	if len(got) != len(want) || !strings.Contains(plain, "* SEARCH 1") {
		t.Errorf("%d answers with an index, %d without", len(got), len(want))
	}
}

// BenchmarkSearch100k: SEARCH of 100,000 messages, as a client sees it.
func BenchmarkSearch100k(b *testing.B) {
	w := newBench(b, 100000)
	x := search.Open(w.store, search.Options{Path: filepath.Join(b.TempDir(), "search.db")})
	b.Cleanup(x.Close)
	if err := x.Settle(context.Background()); err != nil {
		b.Fatal(err)
	}
	w.server.o.Search = x
	for _, key := range []string{"SUBJECT nosuchword", "TEXT nosuchword", "TEXT benchmark", "FROM alice UNSEEN",
		"ALL", "UNSEEN", "SEEN", "KEYWORD x", "SINCE 1-Jan-2020", "SAVEDSINCE 1-Jan-2020", "LARGER 5000", "UNSEEN SINCE 1-Jan-2020", "MODSEQ 90000"} {
		b.Run(strings.ReplaceAll(key, " ", "-"), func(b *testing.B) {
			c := w.client("INBOX")
			for b.Loop() {
				c.ok("SEARCH RETURN (COUNT) " + key)
			}
		})
	}
}

// TestSearchOldView: a session searches the messages that it knows, whatever
// others have removed or added since, with any set of numbers.
func TestSearchOldView(t *testing.T) {
	const n = 3000
	w := newWorld(t, nil)
	w.deliver("bob", "INBOX", []byte("Subject: x\r\n\r\n"), mailstore.Flags{}, n)
	c, other := w.client("INBOX"), w.client("INBOX")
	r := rand.New(rand.NewPCG(5, 5))
	flagged, gone := make(map[int]bool), make(map[int]bool)
	var flag, remove []mailstore.UID
	for i := 1; i <= n; i++ {
		if r.IntN(3) == 0 {
			flagged[i] = true
			flag = append(flag, mailstore.UID(i))
		}
		if r.IntN(4) == 0 {
			gone[i] = true
			remove = append(remove, mailstore.UID(i))
		}
	}
	other.ok("UID STORE " + string(syntax.AppendNumbers(nil, flag)) + " +FLAGS.SILENT (\\Flagged)")
	other.ok("UID STORE " + string(syntax.AppendNumbers(nil, remove)) + " +FLAGS.SILENT (\\Deleted)")
	other.ok("EXPUNGE")
	w.deliver("bob", "INBOX", []byte("Subject: x\r\n\r\n"), mailstore.Flags{System: mailstore.Flagged}, 5)
	for _, step := range []int{1, 2, 7, 300, 1500} {
		var set, want []mailstore.UID
		for i := 1; i <= n; i += step {
			set = append(set, mailstore.UID(i))
			if flagged[i] && !gone[i] {
				want = append(want, mailstore.UID(i))
			}
		}
		// A search by number keeps the expunges, and so the numbers, away; what came is told.
		c.ok("SEARCH RETURN (ALL) FLAGGED " + string(syntax.AppendNumbers(nil, set)))
		line := c.all[0]
		if len(want) > 0 && !strings.Contains(line, " ALL "+string(syntax.AppendNumbers(nil, want))) {
			t.Errorf("step %d: %.100s, want %.100s", step, line, syntax.AppendNumbers(nil, want))
		}
		if step == 1 && !strings.Contains(strings.Join(c.all, "\n"), fmt.Sprintf("* %d EXISTS", n+5)) {
			t.Errorf("no EXISTS in %.200q", c.all)
		}
	}
}

// TestAppendSpaced: numbers are written as they are, whatever came before them.
func TestAppendSpaced(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	list := []uint32{0, 9, 10, 99, 100, 99, 101, 199, 200, 1000, 999, 1099, 100, math.MaxUint32, math.MaxUint32 - 1}
	for range 10000 {
		list = append(list, list[len(list)-1]+r.Uint32N(150), r.Uint32()>>r.IntN(32))
	}
	var found []int
	var want []byte
	for i, n := range list {
		found, want = append(found, i), fmt.Appendf(want, " %d", n)
	}
	if got := appendSpaced(nil, found, func(i int) uint32 { return list[i] }); !bytes.Equal(got, want) {
		t.Errorf("%.200s, not %.200s", got, want)
	}
}

// BenchmarkAppendSpaced: every second of 100,000 messages.
func BenchmarkAppendSpaced(b *testing.B) {
	var found []int
	for i := range 50000 {
		found = append(found, 2*i)
	}
	var out []byte
	for b.Loop() {
		out = appendSpaced(out[:0], found, func(i int) uint32 { return uint32(i + 1) })
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(len(found))/float64(b.N), "ns/number")
}
