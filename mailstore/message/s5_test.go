package message

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"postrider/internal/clock"
)

// Gate S5: what a message may cost, whatever it is.
const (
	maxMessageTime = time.Second // of a processor, for each thing that is done with it
	maxMessageHeap = 32 << 20    // beside the message
)

// hostileMessage is given the size that it should have.
type hostileMessage struct {
	name string
	make func(size int) string
}

// fill is head, as many bodies as fit into size, and tail.
func fill(head, body, tail string) func(int) string {
	return func(size int) string {
		return head + strings.Repeat(body, max(0, size-len(head)-len(tail))/len(body)) + tail
	}
}

// field is a message whose header section has about the longest field that
// there can be, and a body of the rest.
func field(start, body string) func(int) string {
	return func(size int) string {
		n := min(size, MaxHeader-1000)
		return start + strings.Repeat(body, n/len(body)) + "\r\n\r\n" + strings.Repeat("body\r\n", (size-n)/6)
	}
}

const hostilePart = "--x\r\n"

// nestedBounds opens multiparts inside each other up to the limit, with
// boundaries that differ at their ends only.
func nestedBounds(length int) string {
	var b strings.Builder
	stem := strings.Repeat("b", length)
	for i := range MaxDepth {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%s%02d\r\n\r\n--%s%02d\r\n", stem, i, stem, i)
	}
	return b.String()
}

func hostileMessages() []hostileMessage {
	const mixed = "Content-Type: multipart/mixed; boundary=x\r\n\r\n"
	params := strings.Repeat(";a=b", maxParams)
	var pieces strings.Builder
	for i := range maxParams {
		fmt.Fprintf(&pieces, ";n*%d*=%%41%%42", i)
	}
	addresses := "To: " + strings.Repeat("a,", 1000) + "\r\n\r\n"
	return []hostileMessage{
		// Depth.
		{"multiparts inside each other", func(size int) string {
			var b strings.Builder
			for i := 0; b.Len() < size; i++ {
				fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
			}
			return b.String()
		}},
		{"messages inside each other", fill("", "Content-Type: message/rfc822\r\n\r\n", "text")},
		{"digests of digests", fill("", "Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\n\r\n", "text")},
		{"deep and wide", fill(nestedBounds(1), "--b63\r\nContent-Type: text/html\r\n\r\n--b62\r\n\r\n", "")},
		// Width and boundaries.
		{"empty parts", fill(mixed, hostilePart, "")},
		{"parts with parameters", fill(mixed, hostilePart+"Content-Type: text/plain"+params+"\r\n\r\n", "")},
		{"parts in pieces", fill(mixed, hostilePart+"Content-Type: text/plain"+pieces.String()+"\r\nContent-Disposition: a"+pieces.String()+"\r\n\r\n", "")},
		{"parts with long headers", fill(mixed, hostilePart+"X: "+strings.Repeat("y", 100<<10)+"\r\n\r\n", "")},
		{"messages with lists", fill(mixed, hostilePart+"Content-Type: message/rfc822\r\n\r\n"+addresses, "")},
		{"nearly delimiters", fill(nestedBounds(1), "--b1x\r\n", "")},
		{"nearly long delimiters", fill(nestedBounds(MaxBoundary-2), "--"+strings.Repeat("b", MaxBoundary-2)+"xx\r\n", "")},
		{"short lines of dashes", fill(nestedBounds(1), "--\r\n", "")},
		{"one line of dashes", fill(nestedBounds(1), "-", "")},
		{"only closing delimiters", fill(mixed, "--x--\r\n", "")},
		{"no delimiter at all", fill(mixed, "-x\n", "")},
		// Headers and lines.
		{"a line", fill("Subject: ", "x", "")},
		{"a field name", fill("", "x", ": y\r\n\r\n")},
		{"spaces first", fill("", " ", "\r\n\r\nbody")},
		{"fields", fill("", "a:\r\n", "\r\nbody")},
		{"fields that count", fill("", "To: a\r\nSubject: b\r\nContent-Type: c/d\r\n", "\r\nbody")},
		{"continuations", fill("a: b\r\n", " \r\n", "\r\nbody")},
		{"continued subject", fill("Subject: b\r\n", " \r\n\tx", "\r\nbody")},
		{"NUL", fill("", "\x00", "")},
		{"empty lines", fill("", "\n", "")},
		{"CR", fill("", "\r", "")},
		// Fields.
		{"parameters", field("Content-Type: text/plain", ";a=b")},
		{"quotes", field("Content-Type: text/plain", `;a="\"`)},
		{"pieces", field("Content-Type: text/plain", ";a*0=b;a*99999999999999999999=c")},
		{"percents", field("Content-Type: text/plain; charset*=''", "%41%zz%")},
		{"comments", field("Content-Type: ", "(")},
		{"languages", field("Content-Language: ", "de,(x)")},
		{"disposition", field("Content-Disposition: ", "a;b=\"")},
		{"description", field("Content-Description: ", "\\\"\xff")},
		{"addresses", field("From: ", "a,")},
		{"lists", field("From: ", "a@b,\r\n\t")},
		{"named addresses", field("To: ", "=?utf-8?q?=C3=BC?= <a@b>,")},
		{"8-bit addresses", field("Cc: ", "\xff\xfe@\xfd,")},
		{"groups", field("From: ", "a:")},
		{"group ends", field("From: ", "a:;")},
		{"angles", field("From: ", "<")},
		{"routes", field("From: <", "@a:")},
		{"at signs", field("From: ", "@")},
		{"words", field("From: ", "a ")},
		{"address comments", field("From: ", "(")},
		{"pairs of comments", field("From: ", "()")},
		{"address quotes", field("From: ", `"\`)},
		{"date", field("Date: ", "(Mon, 1 Jan 2020 ")},
		{"references", field("References: ", "<a@b>")},
		{"open references", field("References: ", "<")},
		{"ids of spaces", field("Message-ID: <", " a")},
		{"blobs", field("Subject: ", "[a]")},
		{"replies", field("Subject: ", "Re: ")},
		{"forwards", field("Subject: ", "[fwd:")},
		{"trailers", field("Subject: ", "(fwd)")},
		{"open words", field("Subject: ", "=?utf-8?q?")},
		{"encoded words", field("Subject: ", "=?iso-2022-jp?b?GyRCRnxLXDhsGyhC?= ")},
		{"words of unknown", field("Subject: ", "=?x?b?QUJD?= ")},
		{"8-bit subject", field("Subject: ", "\xe4\xff ")},
		// Encodings.
		{"base64 junk", fill("Content-Transfer-Encoding: base64\r\n\r\n", "=\x00A", "")},
		{"base64 without lines", fill("Content-Transfer-Encoding: base64\r\n\r\n", "QUJD", "")},
		{"quoted-printable escapes", fill("Content-Transfer-Encoding: quoted-printable\r\n\r\n", "==4", "")},
		{"quoted-printable padding", fill("Content-Transfer-Encoding: quoted-printable\r\n\r\n", " ", "x")},
		{"quoted-printable CR", fill("Content-Transfer-Encoding: quoted-printable\r\n\r\n", "=\r", "")},
		{"iso-2022-jp", fill("Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n", "\x1b$B\x1b(B", "")},
		{"utf-7", fill("Content-Type: text/plain; charset=utf-7\r\n\r\n", "+AGE-", "")},
		{"utf-16", fill("Content-Type: text/plain; charset=utf-16\r\n\r\n", "\xd8", "")},
		{"gb18030", fill("Content-Type: text/plain; charset=gb18030\r\n\r\n", "\x81\x30\x81", "")},
		{"hz", fill("Content-Type: text/plain; charset=hz-gb-2312\r\n\r\n", "~{~}", "")},
	}
}

// messageCost is what a child reports.
type messageCost struct {
	Time map[string]time.Duration
	Heap uint64 // beyond that of the program
}

// TestHostileS5 spends each hostile message in a process of its own: that
// tells time and memory of this message from those of the one before.
func TestHostileS5(t *testing.T) {
	if file := os.Getenv("POSTRIDER_HOSTILE"); file != "" {
		spendMessage(t, file)
		return
	}
	size := 1 << 20
	limit := maxMessageTime
	if os.Getenv("POSTRIDER_TORTURE") != "" {
		size = 50 << 20 // message_size as it comes
	}
	if racing {
		limit *= 10
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "msg")
	for _, m := range hostileMessages() {
		t.Run(m.name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(m.make(size)), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), self, "-test.run", "^TestHostileS5$")
			cmd.Env = append(os.Environ(), "POSTRIDER_HOSTILE="+file, "GOMAXPROCS=1")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%.2000s", err, out)
			}
			line, _, _ := bytes.Cut(out, []byte("\n"))
			var cost messageCost
			if err := json.Unmarshal(line, &cost); err != nil || len(cost.Time) == 0 {
				t.Fatalf("%v\n%.2000s", err, out)
			}
			t.Logf("%4d MiB %v", cost.Heap>>20, cost.Time)
			for what, d := range cost.Time {
				if d > limit {
					t.Errorf("%s took %v", what, d)
				}
			}
			if cost.Heap > maxMessageHeap {
				t.Errorf("took %d MiB", cost.Heap>>20)
			}
		})
	}
}

// spendMessage does with a message all that the package can, and prints what
// that took.
func spendMessage(t *testing.T, name string) {
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	size := info.Size()
	cost := messageCost{Time: map[string]time.Duration{}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	step := func(name string, do func()) {
		start := clock.Processor()
		do()
		cost.Time[name] = clock.Processor() - start
	}
	var x *Index
	step("describe", func() {
		s, err := new(Describer).Describe(f, size)
		if err != nil {
			t.Fatal(err)
		}
		record := s.Append(nil)
		if len(record) > MaxStored {
			t.Fatalf("a record of %d octets", len(record))
		}
		if _, err = ReadStored(record); err != nil {
			t.Fatal(err)
		}
		s.AppendBody(nil)
	})
	step("parse", func() { x = Parse(f, size) })
	step("envelope", func() { _, err = x.Envelope() })
	step("structure", func() { _, err = x.BodyStructure() })
	if err != nil {
		t.Fatal(err)
	}
	step("sections", func() { readSections(t, x) })
	step("text", func() { readTexts(t, x, x.Root) })
	runtime.ReadMemStats(&after)
	cost.Heap = max(after.HeapSys, before.HeapSys) - before.HeapSys
	if err := json.NewEncoder(os.Stdout).Encode(cost); err != nil {
		t.Fatal(err)
	}
}

func readSections(t *testing.T, x *Index) {
	for _, s := range []*imap.FetchItemBodySection{
		{Specifier: imap.PartSpecifierHeader, HeaderFields: []string{"Subject", "To"}},
		{Specifier: imap.PartSpecifierHeader, HeaderFieldsNot: []string{"Subject", "To"}},
		{Part: []int{1}, Specifier: imap.PartSpecifierMIME},
		{Part: []int{1, 1, 1}},
	} {
		r, err := x.Section(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Fatal(err)
		}
	}
	h, err := x.Header(x.Root)
	if err != nil {
		t.Fatal(err)
	}
	for f := range h.Fields() {
		DecodeWords(f.Value())
	}
}

// readTexts decodes every text part.
func readTexts(t *testing.T, x *Index, p *Part) {
	if p.Type == "text" {
		if _, err := io.Copy(io.Discard, x.Text(p)); err != nil {
			t.Logf("%s: %v", p.Charset, err)
		}
	}
	for _, c := range p.Children {
		readTexts(t, x, c)
	}
	if p.Message != nil {
		readTexts(t, x, p.Message)
	}
}
