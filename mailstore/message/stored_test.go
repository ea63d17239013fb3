package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// tester is what checks need of a test, be it rapid's or not.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// tracePrefix are fields as delivery puts them in front.
const tracePrefix = "Return-Path: <alice@crepes.fr>\r\nReceived: from crepes.fr\r\n\tby hamburger.edu; Fri, 27 Nov 2026 03:40:31 +0000\r\n"

// checkStored states what holds for the record of any octets.
func checkStored(t tester, d *Describer, b []byte) {
	t.Helper()
	s, err := d.Describe(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatalf("Describe: %v", err)
	}
	x := Parse(bytes.NewReader(b), int64(len(b)))
	narrow := parser{lr: newLineReader(bytes.NewReader(b), int64(len(b)), 0, headWindow)}
	equalIndex(t, narrow.index(), x)
	checkWire(t, s, x)
	record := s.Append(nil)
	if len(record) > MaxStored {
		t.Errorf("a record of %d octets", len(record))
	}
	r, err := ReadStored(record)
	if err != nil {
		t.Fatalf("ReadStored: %v", err)
	}
	if diff := cmp.Diff(*s, r, cmp.AllowUnexported(Stored{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("another record came back: %s", diff)
	}
	if (s.Envelope == nil) != (r.Envelope == nil) || (s.BodyStructure == nil) != (r.BodyStructure == nil) || (s.parts == nil) != (r.parts == nil) {
		t.Errorf("what is missing is another thing than what is empty")
	}
	if again := r.Append(nil); !bytes.Equal(again, record) {
		t.Errorf("a record is not its own copy")
	}
	checkIDs(t, &r)
	checkStoredIndex(t, &r, b, x)
	if !r.Headed {
		return
	}
	// The same with header fields in front.
	whole := append([]byte(tracePrefix), b...)
	y := Parse(bytes.NewReader(whole), int64(len(whole)))
	checkStoredPrefix(t, &r, whole, y)
	checkWire(t, s, y)
}

// checkWire compares the wire form with what the index says.
func checkWire(t tester, s *Stored, x *Index) {
	t.Helper()
	if s.Envelope != nil {
		env, err := x.Envelope()
		if err != nil {
			t.Fatalf("Envelope: %v", err)
		}
		v, err := readWhole(s.Envelope)
		if err != nil {
			t.Fatalf("ENVELOPE %q: %v", s.Envelope, err)
		}
		got, err := v.envelope()
		if err != nil {
			t.Fatalf("ENVELOPE %q: %v", s.Envelope, err)
		}
		want := envelopeText(asSent(env))
		if got != want {
			t.Errorf("ENVELOPE\n%s\nwant\n%s", got, want)
		}
		if back, err := ReadEnvelope(s.Envelope); err != nil || envelopeText(back) != want {
			t.Errorf("ReadEnvelope %+v, %v, want %s", back, err, want)
		}
		if !s.Sent().Equal(env.Date) || s.Sent().Format(time.RFC3339) != env.Date.Format(time.RFC3339) {
			t.Errorf("Sent %v, Date %v", s.Sent(), env.Date)
		}
	}
	if s.BodyStructure != nil {
		bs, err := x.BodyStructure()
		if err != nil {
			t.Fatalf("BodyStructure: %v", err)
		}
		v, err := readWhole(s.BodyStructure)
		if err != nil {
			t.Fatalf("BODYSTRUCTURE %q: %v", s.BodyStructure, err)
		}
		got, err := v.structure()
		if err != nil {
			t.Fatalf("BODYSTRUCTURE %q: %v", s.BodyStructure, err)
		}
		eachEnvelope(bs)
		want := structureText(bs)
		if got != want {
			t.Errorf("BODYSTRUCTURE\n%s\nwant\n%s", got, want)
		}
		if back, err := readBodyStructure(s.BodyStructure); err != nil || structureText(back) != want {
			t.Errorf("readBodyStructure %+v, %v, want %s", back, err, want)
		}
		if got, want := string(s.AppendBody([]byte("x"))), "x"+v.plain(); got != want {
			t.Errorf("BODY %q, want %q", got, want)
		}
	}
}

// asSent fills in what goes out for an envelope: the defaults of RFC 9051
// section 7.5.2, and encoded words.
func asSent(e *imap.Envelope) *imap.Envelope {
	if e.Sender == nil {
		e.Sender = slices.Clone(e.From)
	}
	if e.ReplyTo == nil {
		e.ReplyTo = slices.Clone(e.From)
	}
	e.Subject = mime.QEncoding.Encode("utf-8", e.Subject)
	for _, l := range [][]imap.Address{e.From, e.Sender, e.ReplyTo, e.To, e.Cc, e.Bcc} {
		for i := range l {
			l[i].Name = mime.QEncoding.Encode("utf-8", l[i].Name)
		}
	}
	return e
}

func eachEnvelope(bs imap.BodyStructure) {
	bs.Walk(func(_ []int, part imap.BodyStructure) bool {
		if s, ok := part.(*imap.BodyStructureSinglePart); ok && s.MessageRFC822 != nil {
			asSent(s.MessageRFC822.Envelope)
			eachEnvelope(s.MessageRFC822.BodyStructure)
		}
		return true
	})
}

func checkIDs(t tester, s *Stored) {
	t.Helper()
	n := 0
	for id := range s.References() {
		if n++; len(id) == 0 || len(id) > MaxThreadID || bytes.ContainsAny(id, "<> \t\r\n\x00") {
			t.Errorf("reference %q", id)
		}
	}
	if n > MaxReferences || len(s.MessageID) > MaxThreadID || len(s.BaseSubject) > MaxSubject {
		t.Errorf("%d references, id of %d, subject of %d octets", n, len(s.MessageID), len(s.BaseSubject))
	}
	if again := BaseSubject(string(s.BaseSubject)); !bytes.Equal(again, s.BaseSubject) && !bytes.Contains(s.BaseSubject, []byte("=?")) {
		t.Errorf("base subject of %q is %q", s.BaseSubject, again)
	}
}

func checkStoredIndex(t tester, s *Stored, b []byte, want *Index) {
	t.Helper()
	if _, err := s.Index(bytes.NewReader(b), 0, int64(len(b))+1); err == nil {
		t.Errorf("an index of another size")
	}
	if s.parts == nil {
		if _, err := s.Index(bytes.NewReader(b), 0, int64(len(b))); !errors.Is(err, ErrNotStored) {
			t.Errorf("an index without parts: %v", err)
		}
		return
	}
	got, err := s.Index(bytes.NewReader(b), 0, int64(len(b)))
	if err != nil {
		t.Fatalf("Index: %v", err)
	}
	equalIndex(t, got, want)
}

func checkStoredPrefix(t tester, s *Stored, whole []byte, want *Index) {
	t.Helper()
	got, err := s.Index(bytes.NewReader(whole), int64(len(tracePrefix)), int64(len(whole)))
	if errors.Is(err, ErrNotStored) && s.parts == nil {
		return
	}
	if err != nil {
		t.Fatalf("Index with a prefix: %v", err)
	}
	equalIndex(t, got, want)
}

func equalIndex(t tester, got, want *Index) {
	t.Helper()
	if got.size != want.size {
		t.Errorf("an index of %d octets, not %d", got.size, want.size)
	}
	equalPart(t, got.Root, want.Root)
}

// equalPart compares parts and those in them. (cmp.Diff takes time that doubles
// with each level.)
func equalPart(t tester, got, want *Part) {
	t.Helper()
	a, b := *got, *want
	a.Children, a.Message, a.note = nil, nil, 0
	b.Children, b.Message, b.note = nil, nil, 0
	if diff := cmp.Diff(b, a, cmp.AllowUnexported(Part{})); diff != "" {
		t.Fatalf("the index differs: %s", diff)
	}
	if len(got.Children) != len(want.Children) || (got.Message == nil) != (want.Message == nil) {
		t.Fatalf("part %v has %d children, %v, not %d, %v", got.Body, len(got.Children), got.Message, len(want.Children), want.Message)
	}
	for i := range got.Children {
		equalPart(t, got.Children[i], want.Children[i])
	}
	if got.Message != nil {
		equalPart(t, got.Message, want.Message)
	}
}

func TestStoredFixtures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.msg")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	var d Describer // one for all, as in the store
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".msg"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			checkStored(t, &d, b)
		})
	}
}

// TestStoredSections asks an index from a record for sections.
func TestStoredSections(t *testing.T) {
	var d Describer
	b := typical()
	s, err := d.Describe(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	whole := append([]byte(tracePrefix), b...)
	got, err := s.Index(bytes.NewReader(whole), int64(len(tracePrefix)), int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	want := Parse(bytes.NewReader(whole), int64(len(whole)))
	for _, part := range [][]int{nil, {1}, {1, 1}, {1, 2}, {2}, {3}, {1, 3}} {
		for _, spec := range []imap.PartSpecifier{imap.PartSpecifierNone, imap.PartSpecifierHeader, imap.PartSpecifierText, imap.PartSpecifierMIME} {
			section := &imap.FetchItemBodySection{Part: part, Specifier: spec}
			if !bytes.Equal(sectionBytes(t, got, section), sectionBytes(t, want, section)) {
				t.Errorf("BODY[%v %s] differs", part, spec)
			}
		}
		r, ok := got.Binary(part)
		r2, ok2 := want.Binary(part)
		one, _ := io.ReadAll(r)
		two, _ := io.ReadAll(r2)
		if ok != ok2 || !bytes.Equal(one, two) {
			t.Errorf("BINARY[%v] differs", part)
		}
	}
}

// genMessage draws a MIME entity with the faults that mail has.
func genMessage(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var b strings.Builder
		boundary := rapid.SampledFrom([]string{"a", "b", "=_x y", "a--", "\"'"}).Draw(t, "boundary")
		kind := rapid.SampledFrom([]string{"none", "text/plain; charset=utf-8", "text/html; charset=\"x\\\"y\"; charset*=no''z", "image/png; name*0=a; name*1*=%C3%BC; name=\xfc",
			"multipart/mixed", "multipart/alternative", "multipart/digest", "message/rfc822", "broken", "T\xe9xt/PLAIN"}).Draw(t, "kind")
		fields := []string{
			"Subject: Re: [l] =?utf-8?q?=C3=BC?= x (fwd)", "Subject: gr\xfc\xdfe \"\\", "subject:", "From: A <a@b>, \"c \\\" d\" <e@f> (x)",
			"To: g: a@b, \xfc@c;, <x>", "Sender:", "Reply-To: r@s", "Date: Fri, 27 Nov 2026 04:40:31 +0100", "Date: 27 Nov 26 4:40 EST", "Date: never \x01",
			"Message-ID: <1@a>", "Message-ID:\r\n bare@b", "In-Reply-To: yours of today <2@a> <3@a>", "References: <1@a>\r\n <2@a>\x00<4 5@a>",
			"Content-Transfer-Encoding: BASE64", "Content-Transfer-Encoding: x-\xe9", "Content-ID: <i@d>", "Content-Description: a \"b\" \\", "Content-Disposition: attachment; filename=\"a b\"",
			"Content-Language: de, en (x)", "Content-Location: http://x/\xe4", "Content-Length: 5", "no field", " continued", "X: " + strings.Repeat("long ", 900),
			"Subject: " + strings.Repeat("s", 4097),
		}
		eol := rapid.SampledFrom([]string{"\r\n", "\r\n", "\n"}).Draw(t, "eol")
		for range rapid.IntRange(0, 8).Draw(t, "fields") {
			b.WriteString(rapid.SampledFrom(fields).Draw(t, "field") + eol)
		}
		switch {
		case kind == "none":
		case strings.HasPrefix(kind, "multipart"):
			fmt.Fprintf(&b, "Content-Type: %s; boundary=%q%s", kind, boundary, eol)
		default:
			b.WriteString("Content-Type: " + kind + eol)
		}
		if rapid.IntRange(0, 9).Draw(t, "end") > 0 {
			b.WriteString(eol)
		}
		switch {
		case depth > 0 && strings.HasPrefix(kind, "multipart"):
			for range rapid.IntRange(0, 3).Draw(t, "parts") {
				b.WriteString(eol + "--" + boundary + eol + genMessage(depth-1).Draw(t, "part"))
			}
			if rapid.Bool().Draw(t, "closed") {
				b.WriteString(eol + "--" + boundary + "--" + eol)
			}
		case depth > 0 && kind == "message/rfc822":
			b.WriteString(genMessage(depth-1).Draw(t, "message"))
		default:
			b.WriteString(rapid.SampledFrom([]string{"", "text", "text" + eol, "a" + eol + "b" + eol + eol, "\x00\xff", "--a" + eol, "QUJD" + eol}).Draw(t, "body"))
		}
		return b.String()
	})
}

func TestStoredProperties(t *testing.T) {
	var d Describer
	rapid.Check(t, func(t *rapid.T) {
		checkStored(t, &d, []byte(genMessage(4).Draw(t, "message")))
	})
	rapid.Check(t, func(t *rapid.T) {
		checkStored(t, &d, rapid.SliceOf(rapid.SampledFrom([]byte("\r\n\r\n :;=\"(<>[]@,-a\x00\xff"))).Draw(t, "garbage"))
	})
}

func FuzzStored(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var d Describer
		checkStored(t, &d, b)
	})
}

// FuzzReadStored: a record that is read is written as it stood, and an index
// that comes of it lies inside its message.
func FuzzReadStored(f *testing.F) {
	var d Describer
	b := typical()
	s, err := d.Describe(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Append(nil))
	f.Fuzz(func(t *testing.T, record []byte) {
		s, err := ReadStored(record)
		if err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Errorf("ReadStored: %v", err)
			}
			return
		}
		r, err := ReadStored(s.Append(nil))
		if err != nil || !cmp.Equal(s, r, cmp.AllowUnexported(Stored{}), cmpopts.EquateEmpty()) {
			t.Errorf("%+v was written as %+v, %v", s, r, err)
		}
		s.Sent()
		for range s.References() {
		}
		env, err := ReadEnvelope(s.Envelope)
		if err != nil && !errors.Is(err, ErrRecord) {
			t.Errorf("ReadEnvelope: %v", err)
		}
		if subject, e := ReadSubject(s.Envelope); err == nil && (e != nil || subject != env.Subject) {
			t.Errorf("ReadSubject %q, %v, the envelope has %q", subject, e, env.Subject)
		}
		if _, err := readBodyStructure(s.BodyStructure); err != nil && !errors.Is(err, ErrRecord) {
			t.Errorf("readBodyStructure: %v", err)
		}
		if body := s.AppendBody(nil); len(body) > 2*len(s.BodyStructure) {
			t.Errorf("BODYSTRUCTURE %q, BODY %q", s.BodyStructure, body)
		}
		x, err := s.Index(bytes.NewReader(nil), 0, s.Size)
		if err == nil {
			checkTree(t, x.Root, Range{0, s.Size})
		}
	})
}

// checkTree states where the parts of any index lie.
func checkTree(t *testing.T, p *Part, within Range) {
	t.Helper()
	if p.Header.Start < within.Start || p.Header.End < p.Header.Start || p.Body.Start != p.Header.End || p.Body.End < p.Body.Start || p.Body.End > within.End {
		t.Fatalf("part %v %v outside %v", p.Header, p.Body, within)
	}
	from := p.Body.Start
	for _, c := range p.Children {
		checkTree(t, c, Range{from, p.Body.End})
		from = c.Body.End
	}
	if p.Message != nil {
		checkTree(t, p.Message, p.Body)
	}
}

func TestReadStoredRefuses(t *testing.T) {
	var d Describer
	b := typical()
	s, err := d.Describe(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	record := s.Append(nil)
	for n := range record {
		if _, err := ReadStored(record[:n]); !errors.Is(err, ErrRecord) {
			t.Fatalf("%d octets of %d: %v", n, len(record), err)
		}
	}
	if _, err := ReadStored(append(record[:len(record):len(record)], 0)); !errors.Is(err, ErrRecord) {
		t.Errorf("one octet more: %v", err)
	}
	newer := slices.Clone(record)
	newer[0]++
	if _, err := ReadStored(newer); !errors.Is(err, ErrRecord) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("a newer version: %v", err)
	}
	if _, err := d.Describe(failing{bytes.NewReader(b), 100}, int64(len(b))); !errors.Is(err, errDisk) {
		t.Errorf("a failing disk: %v", err)
	}
	if _, err := d.Describe(bytes.NewReader(b), int64(len(b))+1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a message cut short: %v", err)
	}
}

// A record that does not hold something says so, and holds the rest.
func TestStoredLimits(t *testing.T) {
	one := "(NIL NIL \"a\" \"b\")"
	plain := len("(NIL NIL NIL NIL NIL () NIL NIL NIL NIL)")
	fit := (maxStoredEnvelope - plain) / len(one)
	tests := []struct {
		name                       string
		msg                        string
		envelope, structure, parts bool
	}{
		{"as many addresses as fit", "To: " + strings.Repeat("a@b,", fit) + "\r\n\r\n", true, true, true},
		{"one more", "To: " + strings.Repeat("a@b,", fit+1) + "\r\n\r\n", false, true, true},
		{"far more", "To: " + strings.Repeat("a@b,", MaxAddresses) + "\r\n\r\n", false, true, true},
		{"a long description", "Content-Description: " + strings.Repeat("x", maxStoredStructure) + "\r\n\r\n", true, false, true},
		{"many parts", "Content-Type: multipart/mixed; boundary=x\r\n\r\n" + strings.Repeat("--x\r\n\r\n", 1000), true, false, true},
		{"too many parts", "Content-Type: multipart/mixed; boundary=x\r\n\r\n" + strings.Repeat("--x\r\n\r\n", MaxParts), true, false, false},
		{"a long type", "Content-Type: x/" + strings.Repeat("y", maxParamBytes) + "\r\n\r\n", true, true, false},
	}
	var d Describer
	for _, test := range tests {
		checkStored(t, &d, []byte(test.msg))
		s, err := d.Describe(strings.NewReader(test.msg), int64(len(test.msg)))
		if err != nil {
			t.Fatal(err)
		}
		if (s.Envelope != nil) != test.envelope || (s.BodyStructure != nil) != test.structure || (s.parts != nil) != test.parts {
			t.Errorf("%s: envelope %d, structure %d, parts %d octets", test.name, len(s.Envelope), len(s.BodyStructure), len(s.parts))
		}
	}
}

func TestHeaded(t *testing.T) {
	var d Describer
	for _, test := range []struct {
		msg  string
		want bool
	}{
		{"A: b\r\n\r\nc", true},
		{"", true},
		{"\r\nbody", true},
		{"\nbody", true},
		{"a letter without a header\r\n", true},
		{"no line end", true},
		{" continues what stands before\r\nA: b\r\n\r\n", false},
		{"From a@b Fri Nov 27 03:40:31 2026\nA: b\n\n", false},
		{">From x\nA: b\n\n", false},
		{"From : a@b\n\n", true},
		{strings.Repeat("A: b\r\n", (MaxHeader-MaxPrefix-2)/6) + "\r\n", true},
		{strings.Repeat("A: b\r\n", (MaxHeader-MaxPrefix-2)/6+1) + "\r\n", false},
	} {
		checkStored(t, &d, []byte(test.msg))
		s, err := d.Describe(strings.NewReader(test.msg), int64(len(test.msg)))
		if err != nil || s.Headed != test.want {
			t.Errorf("%.40q: Headed %v, %v", test.msg, s.Headed, err)
			continue
		}
		size := int64(len(test.msg))
		if _, err := s.Index(nil, 10, size+10); (err == nil) != test.want {
			t.Errorf("%.40q: index with a prefix: %v", test.msg, err)
		}
		if _, err := s.Index(nil, MaxPrefix+1, size+MaxPrefix+1); !errors.Is(err, ErrNotStored) {
			t.Errorf("%.40q: index with too long a prefix: %v", test.msg, err)
		}
	}
}

func TestReferences(t *testing.T) {
	many := make([]string, 60)
	for i := range many {
		many[i] = fmt.Sprintf("<%d@x>", i)
	}
	for _, test := range []struct{ header, id, want string }{
		{"Message-ID: <a@b>", "a@b", ""},
		{"Message-ID: a@b", "a@b", ""},
		{"Message-ID: <a@b> <c@d>", "a@b", ""},
		{"Message-ID: <a\r\n b@c>", "ab@c", ""},
		{"Message-ID: two words", "", ""},
		{"Message-ID: <" + strings.Repeat("x", MaxThreadID) + ">", strings.Repeat("x", MaxThreadID), ""},
		{"Message-ID: <" + strings.Repeat("x", MaxThreadID+1) + ">", "", ""},
		{"References: <a@b> (c) <d@e>\r\nIn-Reply-To: <d@e> <f@g>", "", "a@b d@e f@g"},
		{"References: <<a@b> <unclosed\r\nIn-Reply-To: Your message of <today>", "", "a@b today"},
		{"References: " + strings.Join(many[:21], " "), "", strings.NewReplacer("<", "", ">", "").Replace(strings.Join(many[:21], " "))},
		{"References: " + strings.Join(many, " "), "", "0@x " + strings.NewReplacer("<", "", ">", "").Replace(strings.Join(many[40:], " "))},
	} {
		var d Describer
		msg := test.header + "\r\n\r\n"
		checkStored(t, &d, []byte(msg))
		s, err := d.Describe(strings.NewReader(msg), int64(len(msg)))
		if err != nil {
			t.Fatal(err)
		}
		var refs []string
		for id := range s.References() {
			refs = append(refs, string(id))
		}
		if got := strings.Join(refs, " "); got != test.want || string(s.MessageID) != test.id {
			t.Errorf("%.60q: id %q, references %q, want %q, %q", test.header, s.MessageID, got, test.id, test.want)
		}
	}
}

// RFC 5256 section 2.1.
func TestBaseSubject(t *testing.T) {
	for in, want := range map[string]string{
		"":                                  "",
		"hello":                             "hello",
		"Re: hello":                         "hello",
		"RE : re: Fwd: fw:hello  there ":    "hello there",
		"Re[2]: hello":                      "hello",
		"Re [x]: hello":                     "hello",
		"[list] Re: [other] hello":          "hello",
		"[list]":                            "[list]",
		"Re: [list]":                        "[list]",
		"[a] [b]":                           "[b]",
		"hello (fwd) (FWD)":                 "hello",
		"[Fwd: Re: hello (fwd)]":            "hello",
		"[fwd: [fwd: hello]]":               "hello",
		"re":                                "re",
		"regarding: x":                      "regarding: x",
		"Re:":                               "",
		"=?utf-8?q?Re=3A_gr=C3=BC=C3=9Fe?=": "grüße",
		"Re: gr\xfc\xdfe":                   "grüße",
		"a\tb":                              "a b",
		"[not closed Re: x":                 "[not closed Re: x",
		"[a[b] x":                           "[a[b] x",
		strings.Repeat("é", MaxSubject):     strings.Repeat("é", MaxSubject/2),
		"x" + strings.Repeat("é", 600):      "x" + strings.Repeat("é", MaxSubject/2-1),
	} {
		if got := string(BaseSubject(in)); got != want {
			t.Errorf("%q = %q, want %q", in, got, want)
		}
	}
}

// TestStoredVersions reads a record of each released version.
func TestStoredVersions(t *testing.T) {
	files, err := filepath.Glob("testdata/*.record")
	if err != nil || len(files) == 0 {
		t.Fatalf("no records: %v", err)
	}
	var d Describer
	b := typical()
	want, err := d.Describe(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		name := fmt.Sprintf("testdata/typical.%d.record", storedVersion)
		if err := os.WriteFile(name, want.Append(nil), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range files {
		record, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadStored(record)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if diff := cmp.Diff(*want, got, cmp.AllowUnexported(Stored{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
	}
}
