package search

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postrider/internal/clock"
	"postrider/mailstore"
)

// answers counts the messages of INBOX of which the index is sure that they have
// a key, is sure that they have not, and does not know.
func (w *world) answers(k Key) (found, absent, unsure int) {
	w.Helper()
	_, uids := w.messages(w.boxes[0])
	h := w.index.Lookup(context.Background(), w.account, w.boxes[0], uids, []Key{k})[0]
	for i := range uids {
		switch {
		case h.Found(i):
			found++
		case h.Absent(i):
			absent++
		default:
			unsure++
		}
	}
	return found, absent, unsure
}

// manyWords are n different words.
func manyWords(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "w%dx ", i)
	}
	return b.String()
}

// TestLimits: up to each limit the index is sure, beyond it the message is asked,
// and always what is found is right.
func TestLimits(t *testing.T) {
	long := strings.Repeat("abcdefghij", 40)
	for name, test := range map[string]struct {
		raw  string
		key  Key
		sure bool
	}{
		"word":                    {"\r\n" + long[:maxWord] + " x", NewKey(Body, "", long[60:60+maxInWord]), true},
		"longer word":             {"\r\n" + long + " x", NewKey(Body, "", long[303:303+maxInWord]), true},
		"longer key":              {"\r\n" + long + " x", NewKey(Body, "", long[3:3+maxInWord+1]), false},
		"longer key, not there":   {"\r\n" + long + " x", NewKey(Body, "", strings.Repeat("z", maxInWord+1)), true},
		"end of a long word":      {"\r\n" + long + " x", NewKey(Body, "", "ghij x"), false},
		"value":                   {"Subject: " + strings.Repeat(long+" ", 5) + "\r\n\r\n", NewKey(Subject, "", "j a"), true},
		"longer value":            {"Subject: " + strings.Repeat(long+" ", 20) + "end\r\n\r\n", NewKey(Subject, "", "hij end"), true},
		"longer key in a value":   {"Subject: " + strings.Repeat(long+" ", 20) + "\r\n\r\n", NewKey(Subject, "", long[:maxInside+1]), false},
		"words":                   {"\r\n" + manyWords(maxTerms), NewKey(Body, "", fmt.Sprintf("w%dx", maxTerms-1)), true},
		"more words":              {"\r\n" + manyWords(maxTerms+1), NewKey(Body, "", fmt.Sprintf("w%dx", maxTerms)), false},
		"more words, not there":   {"\r\n" + manyWords(maxTerms+1), NewKey(Text, "", "zanzibar"), false},
		"text":                    {"\r\n" + strings.Repeat(long+" ", maxIndexed/(len(long)+1)) + "q", NewKey(Body, "", "zanzibar"), true},
		"more text":               {"\r\n" + strings.Repeat(long+" ", maxIndexed/(len(long)+1)+1) + "zanzibar", NewKey(Body, "", "zanzibar"), false},
		"more text, its header":   {"Subject: one\r\n\r\n" + strings.Repeat(long+" ", maxIndexed/(len(long)+1)+1), NewKey(Subject, "", "two"), true},
		"tag with a longer name":  {"Content-Type: text/html\r\n\r\nshow<" + strings.Repeat("b", maxTagName+9) + ">n", NewKey(Body, "", "shown"), true},
		"longer character name":   {"Content-Type: text/html\r\n\r\n&" + strings.Repeat("b", maxEntity+9) + ";", NewKey(Body, "", strings.Repeat("b", maxEntity)), true},
		"too many embedded heads": {"Content-Type: message/rfc822\r\n\r\n" + strings.Repeat("Subject: x\r\nContent-Type: message/rfc822\r\n\r\n", 99), NewKey(Body, "", "subject: x"), false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, t.TempDir())
			defer w.close()
			w.deliver(w.boxes[0], "", []byte(test.raw), 1)
			w.settle()
			w.check([]Key{test.key})
			if _, _, unsure := w.answers(test.key); (unsure == 0) != test.sure {
				t.Errorf("not known: %d", unsure)
			}
		})
	}
}

// TestLimitsOfReading: what is beyond is not found, and the rest is.
func TestLimitsOfReading(t *testing.T) {
	match := func(raw string, keys ...Key) []bool {
		t.Helper()
		found, err := Match(strings.NewReader(raw), int64(len(raw)), keys)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	var parts strings.Builder
	parts.WriteString("Content-Type: multipart/mixed; boundary=x\r\n\r\n")
	for i := range maxNames + 1 {
		fmt.Fprintf(&parts, "--x\r\nContent-Type: a/b; name=file%d.\r\n\r\n", i)
	}
	got := match(parts.String(), NewKey(Text, "", fmt.Sprintf("file%d.", maxNames-1)), NewKey(Text, "", fmt.Sprintf("file%d.", maxNames)))
	if !got[0] || got[1] {
		t.Errorf("names of attachments: %v", got)
	}
	var heads strings.Builder
	heads.WriteString("Content-Type: multipart/mixed; boundary=x\r\n\r\n")
	for i := range 9 { // each message in it has a header of half a mebibyte
		fmt.Fprintf(&heads, "--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: letter%d.\r\nX: %s\r\n\r\nbody%d.\r\n", i, strings.Repeat("y", maxEmbedded/8-60), i)
	}
	got = match(heads.String(), NewKey(Body, "", "letter7."), NewKey(Body, "", "letter8."), NewKey(Body, "", "body8."))
	if !got[0] || got[1] || !got[2] {
		t.Errorf("headers of embedded messages: %v", got)
	}
}

// TestLimitOfKeys: the keys beyond those that the index answers are not known.
func TestLimitOfKeys(t *testing.T) {
	w := newWorld(t, t.TempDir())
	defer w.close()
	w.deliver(w.boxes[0], "", []byte("Subject: one\r\n\r\n"), 1)
	w.settle()
	keys := make([]Key, maxLooked+1)
	for i := range keys {
		keys[i] = NewKey(Subject, "", "one")
	}
	_, uids := w.messages(w.boxes[0])
	hits := w.index.Lookup(context.Background(), w.account, w.boxes[0], uids, keys)
	if !hits[maxLooked-1].Found(0) || hits[maxLooked].Found(0) || hits[maxLooked].Absent(0) {
		t.Error("the limit does not hold")
	}
}

// TestCacheIsBounded: it keeps what was used last, and no more than it may.
func TestCacheIsBounded(t *testing.T) {
	c := newCache(100)
	loads := 0
	get := func(id int64, size int) {
		v, err := c.get(cacheKey{id: id}, func() (any, int, error) {
			loads++
			return id, size, nil
		})
		if err != nil || v != id {
			t.Errorf("got %v, %v for %d", v, err, id)
		}
	}
	get(1, 40)
	get(2, 40)
	get(1, 40)
	get(3, 40) // 2 goes
	get(1, 40)
	get(4, 101) // is not kept
	if loads != 4 || c.used != 80 || len(c.items) != 2 {
		t.Errorf("%d loads, %d octets, %d items", loads, c.used, len(c.items))
	}
	get(2, 40)
	get(4, 101)
	if loads != 6 {
		t.Errorf("%d loads", loads)
	}
}

// TestHostileMessages: no message costs a second of processor time, to read or
// to index.
func TestHostileMessages(t *testing.T) {
	const size = 1 << 20
	fill := func(head, unit string) []byte {
		return append([]byte(head), strings.Repeat(unit, size/len(unit))...)
	}
	html := "Content-Type: text/html\r\n\r\n"
	mixed := "Content-Type: multipart/mixed; boundary=x\r\n\r\n"
	for name, raw := range map[string][]byte{
		"one tag":     fill(html, "<a b='c' "),
		"tags":        fill(html, "<a>"),
		"angles":      fill(html, "<"),
		"ampersands":  fill(html, "&"),
		"references":  fill(html, "&#65"),
		"comments":    fill(html, "<!--"),
		"scripts":     fill(html, "<script></scrip"),
		"word":        fill("\r\n", "x"),
		"words":       []byte("\r\n" + manyWords(size/8)),
		"marks":       fill("Content-Type: text/plain; charset=utf-8\r\n\r\n", "\u0301"),
		"ligatures":   fill("Content-Type: text/plain; charset=utf-8\r\n\r\n", "\ufdfa"),
		"not UTF-8":   fill("Content-Type: text/plain; charset=utf-8\r\n\r\n", "\xf0\x9f"),
		"fields":      fill("", "Subject: a b c\r\n"),
		"parts":       fill(mixed, "--x\r\nContent-Type: text/html; name=a\r\n\r\n<b>\r\n"),
		"parts, deep": fill("Content-Type: message/rfc822\r\n\r\n", "Content-Type: message/rfc822\r\nSubject: x\r\n\r\n"),
	} {
		keys := []Key{NewKey(Text, "", "no such word"), NewKey(Body, "", "xxxxxxxy"), NewKey(Subject, "", "zz")}
		limit := time.Second
		if raceDetector {
			limit *= 20
		}
		start := clock.Processor()
		if _, err := Match(strings.NewReader(string(raw)), int64(len(raw)), keys); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		matched := clock.Processor() - start
		var b builder
		var e extractor
		b.next()
		if err := e.read(strings.NewReader(string(raw)), int64(len(raw)), true, &b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.done()
		if took := clock.Processor() - start; took > 2*limit || matched > limit {
			t.Errorf("%s: %v of processor time, %v of it to match", name, took, matched)
		}
		if b.size > 16<<20 {
			t.Errorf("%s: %d octets of index", name, b.size)
		}
	}
}

// FuzzIndex: whatever a message consists of, the index says of it what reading
// it says.
func FuzzIndex(f *testing.F) {
	list, err := filepath.Glob("../message/testdata/*.msg")
	if err != nil || len(list) == 0 {
		f.Fatal("no messages", err)
	}
	for _, name := range list {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, "crepe", "Content-Type")
	}
	f.Add([]byte("Subject: a.b\r\n\r\nc-\xe2\x80\x9cd\xe2\x80 e'f"), "-“", "subject")
	f.Fuzz(func(t *testing.T, raw []byte, text, name string) {
		if len(raw) == 0 || len(raw) > 1<<16 || len(text) > 1<<10 || len(name) > 1<<10 {
			return
		}
		w := newWorld(t, t.TempDir())
		defer w.close()
		w.deliver(w.boxes[0], "", raw, 1)
		w.settle()
		keys := []Key{NewKey(Header, name, text)}
		for field := Subject; field <= Text; field++ {
			keys = append(keys, NewKey(field, "", text))
		}
		w.check(keys)
		if _, uids := w.messages(w.boxes[0]); len(uids) != 1 || uids[0] != mailstore.UID(1) {
			t.Errorf("UIDs %v", uids)
		}
	})
}
