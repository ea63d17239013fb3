package message

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"postrider/internal/clock"
)

// maxWork is more than any of these messages needs on a slow machine under the
// race detector, and far less than quadratic work would take.
const maxWork = 10 * time.Second

// TestHostile holds messages that are built to be expensive to the linear
// bound.
func TestHostile(t *testing.T) {
	const mega = 1 << 20
	nested := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		}
		return b.String()
	}
	messages := map[string]string{
		"deep":            nested(20000),
		"deep messages":   strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 50000),
		"wide":            "Content-Type: multipart/mixed; boundary=x\r\n\r\n" + strings.Repeat("--x\r\n\r\n\r\n", mega/4),
		"near delimiters": nested(MaxDepth) + strings.Repeat("--b1x\r\n", mega),
		"dashes":          nested(MaxDepth) + strings.Repeat("-", 8*mega),
		"long line":       "Subject: " + strings.Repeat("x", 8*mega) + "\r\n\r\nbody",
		"long name":       strings.Repeat("x", 8*mega) + ": y\r\n\r\nbody",
		"long first":      strings.Repeat(" ", 8*mega) + "\r\n\r\nbody",
		"fields":          strings.Repeat("a:\r\n", mega) + "\r\nbody",
		"continuations":   "a: b\r\n" + strings.Repeat(" \r\n", mega) + "\r\nbody",
		"parameters":      "Content-Type: text/plain" + strings.Repeat(";a=b", mega/4) + "\r\n\r\nbody",
		"continued":       "Content-Type: text/plain" + strings.Repeat(";a*0=b;a*99999999999999999999=c", mega/32) + "\r\n\r\n",
		"comments":        "From: " + strings.Repeat("(", mega-100) + "\r\nTo: " + strings.Repeat("(", 50),
		"addresses":       "From: " + strings.Repeat("a,", mega/2-100) + "\r\n\r\n",
		"groups":          "From: " + strings.Repeat("a:", mega/2-100) + "\r\n\r\n",
		"angles":          "From: " + strings.Repeat("<", mega-100) + "\r\n\r\n",
		"quotes":          "From: " + strings.Repeat(`"\`, mega/2-100) + "\r\n\r\n",
		"words":           "Subject: " + strings.Repeat("=?utf-8?q?", mega/10-100) + "\r\n\r\n",
		"NUL":             strings.Repeat("\x00", 8*mega),
		"empty lines":     strings.Repeat("\n", 2*mega),
		"message lists": "Content-Type: multipart/mixed; boundary=x\r\n\r\n" +
			strings.Repeat("--x\r\nContent-Type: message/rfc822\r\n\r\nTo: "+strings.Repeat("a,", 1000)+"\r\n\r\n", 2*MaxParts),
	}
	for name, m := range messages {
		t.Run(name, func(t *testing.T) {
			b := []byte(m)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := clock.Processor()
			checkIndex(t, b)
			x := Parse(bytes.NewReader(b), int64(len(b)))
			bs, err := x.BodyStructure()
			if err != nil {
				t.Fatal(err)
			}
			s, err := new(Describer).Describe(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			if n := len(s.Append(nil)); n > MaxStored {
				t.Errorf("a record of %d octets", n)
			}
			if d := clock.Processor() - start; d > maxWork {
				t.Errorf("took %v", d)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
				t.Errorf("holds %d MiB", grown>>20)
			}
			runtime.KeepAlive(bs)
		})
	}
}

func TestLimits(t *testing.T) {
	depth := func(p *Part) int {
		n := 1
		for ; len(p.Children) > 0; n++ {
			p = p.Children[0]
		}
		return n
	}
	var b strings.Builder
	for i := range MaxDepth + 1 {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	if got := depth(parse(b.String()).Root); got != MaxDepth+1 {
		t.Errorf("depth %d, want %d", got, MaxDepth+1)
	}

	wide := func(n int) *Part {
		return parse("Content-Type: multipart/mixed; boundary=x\r\n\r\n" + strings.Repeat("--x\r\n\r\npart\r\n", n)).Root
	}
	if got := len(wide(MaxParts - 1).Children); got != MaxParts-1 {
		t.Errorf("%d parts", got)
	}
	root := wide(MaxParts + 5)
	if got := len(root.Children); got != MaxParts-1 {
		t.Errorf("%d parts", got)
	}
	if last := root.Children[len(root.Children)-1]; last.Body.End != root.Body.End {
		t.Error("the last part does not have the rest")
	}

	for _, n := range []int{MaxBoundary, MaxBoundary + 1} {
		boundary := strings.Repeat("b", n)
		root := parse("Content-Type: multipart/mixed; boundary=" + boundary + "\r\n\r\n--" + boundary + "\r\n\r\n1\r\n--" + boundary + "\r\n\r\n2").Root
		if got := len(root.Children); got != 2-(n-MaxBoundary) {
			t.Errorf("boundary of %d: %d parts", n, got)
		}
	}

	for _, n := range []int{0, 1} {
		h := ParseHeader([]byte("A: " + strings.Repeat("x", MaxHeader-9+n) + "\r\nB:\r\n\r\n"))
		if got := h.Count("b"); got != 1-n {
			t.Errorf("header of %d too many: %d fields b", n, got)
		}
	}

	if got := len(ParseAddresses(strings.Repeat("a@b,", MaxAddresses+1))); got != MaxAddresses {
		t.Errorf("%d addresses", got)
	}
	if got := ParseAddresses(strings.Repeat("a ", maxAddressWords+1) + ", b@c"); len(got) != 2 ||
		got[0].Mailbox != strings.TrimSuffix(strings.Repeat("a ", maxAddressWords), " ") {
		t.Errorf("addresses %.100v", got)
	}
	_, _, ps := parseMediaType("a/b"+strings.Repeat(";a=b", maxParams+1), nil)
	if len(ps) != maxParams {
		t.Errorf("%d parameters", len(ps))
	}
}

func parse(s string) *Index { return Parse(strings.NewReader(s), int64(len(s))) }
