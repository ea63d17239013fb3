package syntax

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestStrings(t *testing.T) {
	tests := []struct{ in, want, err string }{
		{`abc`, "abc", ""},
		{`a]b`, "a]b", ""},
		{`"a\"b\\"`, `a"b\`, ""},
		{`"üb"`, "üb", ""},
		{`üb`, "üb", ""},
		{"{3}\r\na\"\n", "a\"\n", ""},
		{"~{2+}\r\na\x00", "a\x00", ""},
		{"{2}\r\na\x00", "", "no NUL"},
		{`"abc`, "", "at the end of a string"},
		{`"a\b"`, "", `\" or \\`},
		{"\"\xff\"", "", "UTF-8"},
		{"\"a\rb\"", "", "control"},
		{"{4}\r\nabc", "", "a literal"},
		{"a(b", "", "the end of the command"},
		{"(", "", "a text"},
		{"", "", "a text"},
		{"~abc", "~abc", ""},
	}
	for _, test := range tests {
		p := NewParser([]byte(test.in))
		got := p.AString("a text")
		err := p.End()
		if test.err == "" && (err != nil || got != test.want) || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%q = %q, %v; want %q, %q", test.in, got, err, test.want, test.err)
		}
	}
}

func TestDates(t *testing.T) {
	for in, want := range map[string]time.Time{
		`1-Feb-2024`:    time.Date(2024, 2, 1, 0, 0, 0, 0, time.UTC),
		`"29-feb-2024"`: time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC),
		`30-Feb-2024`:   {},
		`1-Foo-2024`:    {},
	} {
		p := NewParser([]byte(in))
		got := p.Date()
		if err := p.End(); (err != nil) != want.IsZero() || !got.Equal(want) && err == nil {
			t.Errorf("%s = %v, %v", in, got, err)
		}
	}
	for _, in := range []string{`" 1-Feb-2024 12:30:00 +0100"`, `"01-Feb-2024 12:30:00 +0100"`, `"1-Feb-2024 12:30:00 +0100"`} {
		p := NewParser([]byte(in))
		got := p.DateTime()
		if err := p.End(); err != nil || got.Unix() != 1706787000 {
			t.Errorf("%s = %v, %v", in, got, err)
		}
	}
	if got := string(AppendDateTime(nil, time.Date(24, 2, 1, 3, 4, 5, 0, time.FixedZone("", -3600*5-1800)))); got != `"01-Feb-0024 03:04:05 -0530"` {
		t.Error(got)
	}
}

// TestSearchDepth: nesting and numbers of keys are bounded, and what is within
// the bounds passes.
func TestSearchDepth(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("(", n) + "ALL" + strings.Repeat(")", n) }
	for in, ok := range map[string]bool{
		deep(MaxDepth - 1): true,
		deep(MaxDepth + 1): false,
		deep(60000):        false,
		strings.Repeat("NOT ", MaxDepth+1) + "ALL":         false,
		strings.Repeat("OR ALL ", MaxDepth+1) + "ALL":      false,
		strings.Repeat("ALL ", MaxSearchKeys-1) + "ALL":    true,
		strings.Repeat("ALL ", MaxSearchKeys) + "ALL":      false,
		"FUZZY " + strings.Repeat("FUZZY ", 30000) + "ALL": false,
	} {
		p := NewParser([]byte(in))
		p.Search()
		err := p.End()
		var limit *LimitError
		if ok != (err == nil) || !ok && !errors.As(err, &limit) {
			t.Errorf("%.40s... (%d octets): %v", in, len(in), err)
		}
	}
}

func TestLimits(t *testing.T) {
	for name, parse := range map[string]func(p *Parser){
		strings.TrimSuffix("("+strings.Repeat("UID ", MaxFetchItems+1), " ") + ")":      func(p *Parser) { p.Fetch() },
		"BODY[" + strings.TrimSuffix(strings.Repeat("1.", MaxPartNumbers+1), ".") + "]": func(p *Parser) { p.Fetch() },
		"BODY[HEADER.FIELDS (x" + strings.Repeat(" x", MaxFieldNames) + ")]":            func(p *Parser) { p.Fetch() },
		"FLAGS (x" + strings.Repeat(" x", MaxFlags) + ")":                               func(p *Parser) { p.Store() },
		"\"\" (x" + strings.Repeat(" x", MaxPatterns) + ")":                             func(p *Parser) { p.ListArgs() },
		"(SIZE" + strings.Repeat(" SIZE", MaxStatusItems) + ")":                         func(p *Parser) { p.StatusItems() },
		"(\"a\" \"b\"" + strings.Repeat(" \"a\" \"b\"", MaxIDFields) + ")":              func(p *Parser) { p.ID() },
	} {
		p := NewParser([]byte(name))
		parse(p)
		var limit *LimitError
		if err := p.End(); !errors.As(err, &limit) {
			t.Errorf("%.40s: %v", name, err)
		}
	}
}

func TestFetchNames(t *testing.T) {
	for in, want := range map[string]string{
		"BODY.PEEK[]":         "BODY[]",
		"BODY[1.2.MIME]<3.4>": "BODY[1.2.MIME]<3>",
		"body.peek[header.fields (Subject \"x y\")]": "BODY[HEADER.FIELDS (Subject \"x y\")]",
		"BODY[2.HEADER.FIELDS.NOT (a)]":              "BODY[2.HEADER.FIELDS.NOT (a)]",
		"BINARY.SIZE[1]":                             "BINARY.SIZE[1]",
		"BINARY.PEEK[1.3]<0.1>":                      "BINARY[1.3]<0>",
		"RFC822.header":                              "RFC822.HEADER",
		"PREVIEW (LAZY)":                             "PREVIEW",
		"BODY":                                       "BODY",
	} {
		p := NewParser([]byte(in))
		f := p.Fetch()
		if err := p.End(); err != nil || len(f.Items) != 1 || string(f.Items[0].AppendName(nil)) != want {
			t.Errorf("%s = %v, %v", in, f.Items, err)
		}
	}
	for _, in := range []string{"BODY[MIME]", "BODY[1.]", "BODY[0]", "BODY[1.0]", "BODY[]<1>", "BODY[]<1.0>", "BODY[X]", "()", "(UID", "BODY[1.FOO]", "BODY[HEADER.FIELDS]", "BINARY.SIZE[1]<1.2>", "FLAGS (X)", "PREVIEW (X)"} {
		p := NewParser([]byte(in))
		p.Fetch()
		if p.End() == nil {
			t.Errorf("%s is accepted", in)
		}
	}
}

func TestUTF7(t *testing.T) {
	for raw, name := range map[string]string{
		"Entw&APw-rfe":                    "Entwürfe",
		"A&-B":                            "A&B",
		"&Jjo-!":                          "☺!",
		"~peter/mail/&U,BTFw-/&ZeVnLIqe-": "~peter/mail/台北/日本語",
		"&2D3eAA-":                        "😀",
	} {
		if got, err := DecodeUTF7(raw); err != nil || got != name {
			t.Errorf("%s = %q, %v", raw, got, err)
		}
		if got := EncodeUTF7(name); got != raw {
			t.Errorf("%s became %s", name, got)
		}
	}
	// RFC 3501 section 5.1.3: superfluous shifts, unfinished ones, ASCII in base64.
	for _, raw := range []string{"bad&", "&", "&AGE-", "&U,BTFw-&ZeVnLIqe-", "&!-", "&2D0-", "&3gA-", "&APw", "&AP-"} {
		if got, err := DecodeUTF7(raw); err == nil {
			t.Errorf("%s = %q", raw, got)
		}
	}
}

// FuzzUTF7: a name comes back as it was, and no two spellings name one mailbox.
func FuzzUTF7(f *testing.F) {
	f.Add("Entwürfe & 😀", "Entw&APw-rfe")
	f.Fuzz(func(t *testing.T, name, raw string) {
		if utf8.ValidString(name) {
			if got, err := DecodeUTF7(EncodeUTF7(name)); err != nil || got != name {
				t.Errorf("%q became %q, %v", name, got, err)
			}
		}
		isASCII := !strings.ContainsFunc(raw, func(r rune) bool { return r < ' ' || r >= 0x7f })
		if got, err := DecodeUTF7(raw); err == nil && isASCII && EncodeUTF7(got) != raw {
			t.Errorf("%q is %q, which is %q", raw, got, EncodeUTF7(got))
		}
	})
}

// FuzzStrings: what the writer writes the parser reads.
func FuzzStrings(f *testing.F) {
	f.Add("abc", true)
	f.Add("a\"\\ \r\n{3}", false)
	f.Add("NIL", true)
	f.Add("", false)
	f.Fuzz(func(t *testing.T, s string, wide bool) {
		if strings.ContainsRune(s, 0) {
			return
		}
		for _, written := range [][]byte{AppendString(nil, s), AppendUTF8(nil, s), AppendAString(nil, s), AppendNString(nil, s)} {
			p := NewParser(written)
			read := p.AString
			if string(written) == "NIL" {
				read = p.NString
			}
			if got := read("a text"); p.End() != nil || got != s {
				t.Errorf("%q was written as %q and read as %q, %v", s, written, got, p.Err())
			}
		}
	})
}

// FuzzValues: the value of an entry is read back as it was written, whatever it has.
func FuzzValues(f *testing.F) {
	for _, s := range []string{"", "NIL", "a\x00b", "x\r\n{3+}\r\n", "\xff", "\"\\"} {
		f.Add(s, "/private/a b")
	}
	f.Fuzz(func(t *testing.T, value, entry string) {
		if entry == "" || strings.ContainsRune(entry, 0) {
			return
		}
		for _, v := range [][]byte{nil, []byte(value)} {
			b := append(AppendAString([]byte("("), entry), ' ')
			p := NewParser(append(AppendValue(b, v), ')'))
			list := p.EntryValues()
			if p.End() != nil || len(list) != 1 || list[0].Entry != entry || (list[0].Value == nil) != (v == nil) || string(list[0].Value) != string(v) {
				t.Errorf("%q %q was read as %q, %v", entry, v, list, p.Err())
			}
		}
	})
}

// FuzzArguments: whatever comes, all grammars end without a panic and within the
// arguments, and an error says something.
func FuzzArguments(f *testing.F) {
	for _, s := range []string{
		"1:*,$ (UID FLAGS BODY.PEEK[1.2.HEADER.FIELDS (a \"b\")]<1.2>) (CHANGEDSINCE 5 VANISHED)", "RETURN (MIN SAVE PARTIAL -1:-5) CHARSET UTF-8 OR (NOT TEXT {1+}\r\nx) SINCE 1-Jan-2000",
		"(SUBSCRIBED) \"\" (% *) RETURN (STATUS (SIZE))", "INBOX (QRESYNC (1 2 1:5,7 (1,2 3,4)))", "(UNCHANGEDSINCE 5) +FLAGS.SILENT (\\Seen)", "(\"name\" NIL)", "x (USE (\\Sent))",
		"(DEPTH infinity MAXSIZE 5) INBOX (/shared/a \"/private/b\")", "INBOX (DEPTH 1) /a", "INBOX (/a NIL /b ~{1+}\r\n\x00)", "\"\" % RETURN (METADATA (/shared/a))",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(p *Parser){
			func(p *Parser) { p.Set(); p.SP(); p.Fetch() },
			func(p *Parser) { p.Fetch() },
			func(p *Parser) { p.Search() },
			func(p *Parser) { p.Sort() },
			func(p *Parser) { p.Thread() },
			func(p *Parser) { p.ESearch() },
			func(p *Parser) { p.Notify() },
			func(p *Parser) { p.ListArgs() },
			func(p *Parser) { p.AString("x"); p.SelectParams() },
			func(p *Parser) { p.Store() },
			func(p *Parser) { p.ID() },
			func(p *Parser) { p.AString("x"); p.SP(); p.Use() },
			func(p *Parser) { p.AString("x"); p.SP(); p.AppendOptions() },
			func(p *Parser) { p.StatusItems() },
			func(p *Parser) { p.GetMetadata() },
			func(p *Parser) { p.AString("x"); p.SP(); p.EntryValues() },
		} {
			p := NewParser([]byte(s))
			parse(p)
			if err := p.End(); err != nil && err.Error() == "" {
				t.Error("an error without words")
			}
		}
	})
}

// TestSets: sets are read back as the numbers they were written of.
func TestSets(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var list []uint32
		n := uint32(0)
		for range 1 + r.IntN(20) {
			n += 1 + uint32(r.IntN(3))
			list = append(list, n)
		}
		p := NewParser(AppendNumbers(nil, list))
		var got []uint32
		for _, rg := range p.Set().Ranges {
			for i := rg.First; i <= rg.Last; i++ {
				got = append(got, i)
			}
		}
		if p.End() != nil || !slices.Equal(got, list) {
			t.Fatal(fmt.Sprint(list, got, p.Err()))
		}
	}
	for _, in := range []string{"0", "1:0", "1,,2", "", "1:", ":1", "a", "4294967296", "-1", "1 "} {
		p := NewParser([]byte(in))
		p.Set()
		if err := p.End(); (err == nil) != (in == "1 ") {
			t.Errorf("%q: %v", in, err)
		}
	}
}
