package message

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
)

var update = flag.Bool("update", false, "rewrite the .want files")

// TestFixtures compares the structure, the envelope and the parts of each
// testdata/*.msg with its .want file.
func TestFixtures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.msg")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".msg"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			checkIndex(t, b)
			got := describe(t, b)
			wantFile := strings.TrimSuffix(file, ".msg") + ".want"
			if *update {
				if err := os.WriteFile(wantFile, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(wantFile)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func describe(t *testing.T, b []byte) string {
	var w strings.Builder
	x := Parse(bytes.NewReader(b), int64(len(b)))
	describePart(&w, x, x.Root, "message", nil)
	env, err := x.Envelope()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&w, "ENVELOPE %s\n", envelopeText(env))
	bs, err := x.BodyStructure()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&w, "BODYSTRUCTURE %s\n", structureText(bs))
	s, err := new(Describer).Describe(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&w, "sent as ENVELOPE %s\n", oneLine(s.Envelope))
	fmt.Fprintf(&w, "sent as BODYSTRUCTURE %s\n", oneLine(s.BodyStructure))
	fmt.Fprintf(&w, "sent as BODY %s\n", oneLine(s.AppendBody(nil)))
	fmt.Fprintf(&w, "thread %q id %q references", s.BaseSubject, s.MessageID)
	for id := range s.References() {
		fmt.Fprintf(&w, " %q", id)
	}
	fmt.Fprintf(&w, "\nsent %v headed %v\n", s.Sent().Format(time.RFC3339), s.Headed)
	return w.String()
}

// oneLine shows what is no printable ASCII as escapes.
func oneLine(b []byte) string {
	var w strings.Builder
	for _, c := range b {
		if c < ' ' || c >= 0x7f {
			fmt.Fprintf(&w, "\\x%02x", c)
		} else {
			w.WriteByte(c)
		}
	}
	return w.String()
}

func describePart(w *strings.Builder, x *Index, p *Part, name string, number []int) {
	fmt.Fprintf(w, "%s %s/%s %s header %d-%d body %d-%d lines %d", name, p.Type, p.Subtype, p.Encoding,
		p.Header.Start, p.Header.End, p.Body.Start, p.Body.End, p.Lines)
	if p.Charset != "" {
		fmt.Fprintf(w, " charset %s", p.Charset)
	}
	if p.Type == "text" {
		b, _ := io.ReadAll(x.Text(p))
		fmt.Fprintf(w, " %q", b)
	}
	fmt.Fprintln(w)
	for i, c := range p.Children {
		n := append(slices.Clone(number), i+1)
		describePart(w, x, c, dotted(n), n)
	}
	if p.Message != nil {
		if len(number) == 0 {
			number = []int{1}
		}
		describePart(w, x, p.Message, dotted(number)+" message", number)
	}
}

func dotted(n []int) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(n), "[]"), " ", ".")
}

func envelopeText(e *imap.Envelope) string {
	date := "NIL"
	if !e.Date.IsZero() {
		date = e.Date.Format(time.RFC1123Z)
	}
	s := fmt.Sprintf("%q %q", date, e.Subject)
	for _, l := range [][]imap.Address{e.From, e.Sender, e.ReplyTo, e.To, e.Cc, e.Bcc} {
		s += " ("
		for i, a := range l {
			if i > 0 {
				s += " "
			}
			s += fmt.Sprintf("(%q %q %q)", a.Name, a.Mailbox, a.Host)
		}
		s += ")"
	}
	return s + fmt.Sprintf(" %q %q", strings.Join(e.InReplyTo, "> <"), e.MessageID)
}

func structureText(bs imap.BodyStructure) string {
	switch bs := bs.(type) {
	case *imap.BodyStructureMultiPart:
		s := "("
		for _, c := range bs.Children {
			s += structureText(c)
		}
		return s + fmt.Sprintf(" %q %v %s %q %q)", bs.Subtype, bs.Extended.Params, dispositionText(bs.Extended.Disposition), bs.Extended.Language, bs.Extended.Location)
	case *imap.BodyStructureSinglePart:
		s := fmt.Sprintf("(%q %q %q %q %q %q %d", bs.Type, bs.Subtype, bs.Params, bs.ID, bs.Description, bs.Encoding, bs.Size)
		if m := bs.MessageRFC822; m != nil {
			s += fmt.Sprintf(" [%s] %s %d", envelopeText(m.Envelope), structureText(m.BodyStructure), m.NumLines)
		}
		if bs.Text != nil {
			s += fmt.Sprintf(" %d", bs.Text.NumLines)
		}
		return s + fmt.Sprintf(" %s %q %q)", dispositionText(bs.Extended.Disposition), bs.Extended.Language, bs.Extended.Location)
	}
	return "?"
}

func dispositionText(d *imap.BodyStructureDisposition) string {
	if d == nil {
		return "NIL"
	}
	return fmt.Sprintf("(%q %q)", d.Value, d.Params)
}

// checkIndex states what holds for the index of any octets.
func checkIndex(t *testing.T, b []byte) {
	t.Helper()
	size := int64(len(b))
	x := Parse(bytes.NewReader(b), size)
	if x.Err() != nil {
		t.Fatalf("Err() = %v", x.Err())
	}
	if r := x.Root.Range(); r != (Range{0, size}) {
		t.Errorf("the message is %v of %d octets", r, size)
	}
	parts := checkPart(t, x.Root, Range{0, size}, 0)
	if parts > 2*MaxParts {
		t.Errorf("%d parts", parts)
	}
	if got := sectionBytes(t, x, &imap.FetchItemBodySection{}); !bytes.Equal(got, b) {
		t.Errorf("BODY[] is not the message")
	}
	head := sectionBytes(t, x, &imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader})
	text := sectionBytes(t, x, &imap.FetchItemBodySection{Specifier: imap.PartSpecifierText})
	if !bytes.Equal(append(head, text...), b) {
		t.Errorf("BODY[HEADER] and BODY[TEXT] are not the message")
	}
	h := ParseHeader(b)
	if h.Range != x.Root.Header {
		t.Errorf("ParseHeader %v, Parse %v", h.Range, x.Root.Header)
	}
	checkFields(t, b, h)
	if top := ParseTop(bytes.NewReader(b), size); top.Root.Header != h.Range || top.Root.Range() != x.Root.Range() {
		t.Errorf("ParseTop %v %v", top.Root.Header, top.Root.Body)
	}
	if _, err := x.BodyStructure(); err != nil {
		t.Errorf("BodyStructure: %v", err)
	}
}

func checkFields(t *testing.T, b []byte, h Header) {
	t.Helper()
	at := h.Start
	for f := range h.Fields() {
		if f.Offset < at || !bytes.Equal(b[f.Offset:f.Offset+int64(len(f.Raw))], f.Raw) {
			t.Errorf("field %q is not at %d", f.Raw, f.Offset)
		}
		at = f.Offset + int64(len(f.Raw))
		if strings.ContainsAny(f.Value(), "\r\n\x00") {
			t.Errorf("value %q", f.Value())
		}
	}
	if at > h.End {
		t.Errorf("fields end at %d, header at %d", at, h.End)
	}
}

func checkPart(t *testing.T, p *Part, within Range, depth int) int {
	t.Helper()
	if p.Header.Start < within.Start || p.Header.Start > p.Header.End || p.Header.End > p.Body.Start ||
		p.Body.Start > p.Body.End || p.Body.End > within.End {
		t.Fatalf("part %v %v outside %v", p.Header, p.Body, within)
	}
	if depth > 2*MaxDepth {
		t.Fatalf("depth %d", depth)
	}
	if p.Lines < 0 || p.Lines > p.Body.Len() {
		t.Errorf("%d lines in %d octets", p.Lines, p.Body.Len())
	}
	if (p.Type == "multipart") != (len(p.Children) > 0) {
		t.Errorf("type %s, %d children", p.Type, len(p.Children))
	}
	n := 1
	from := p.Body.Start
	for _, c := range p.Children {
		n += checkPart(t, c, Range{from, p.Body.End}, depth+1)
		from = c.Body.End
	}
	if p.Message != nil {
		if p.Message.Range() != p.Body {
			t.Fatalf("message %v in %v", p.Message.Range(), p.Body)
		}
		n += checkPart(t, p.Message, p.Body, depth+1)
	}
	return n
}

func sectionBytes(t *testing.T, x *Index, s *imap.FetchItemBodySection) []byte {
	t.Helper()
	r, err := x.Section(s)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil || int64(len(b)) != r.Size() {
		t.Fatalf("section: %d of %d octets, %v", len(b), r.Size(), err)
	}
	return b
}

// seed adds the fixtures to a fuzz target.
func seed(f *testing.F) {
	files, err := filepath.Glob("testdata/*.msg")
	if err != nil || len(files) == 0 {
		f.Fatalf("no fixtures: %v", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

func FuzzParse(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		checkIndex(t, b)
		if one, two := describe(t, b), describe(t, b); one != two {
			t.Errorf("two indexes of one message:\n%s\n%s", one, two)
		}
	})
}
