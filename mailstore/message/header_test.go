package message

import (
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestHeader(t *testing.T) {
	h := ParseHeader([]byte("Received: one\r\nreceived : two\r\n\tfolded\r\nSubject:\r\n\r\nReceived: body\r\n"))
	if h.Range != (Range{0, 52}) {
		t.Errorf("range %v", h.Range)
	}
	if n := h.Count("RECEIVED"); n != 2 {
		t.Errorf("%d Received", n)
	}
	var got []string
	for f := range h.Fields() {
		got = append(got, f.Name+"|"+f.Value())
	}
	if diff := cmp.Diff([]string{"Received|one", "received|two\tfolded", "Subject|"}, got); diff != "" {
		t.Error(diff)
	}
	if v, ok := h.Get("subject"); v != "" || !ok {
		t.Errorf("Get(subject) = %q, %v", v, ok)
	}
	if _, ok := h.Get("to"); ok {
		t.Error("there is no To")
	}
}

func TestParams(t *testing.T) {
	tests := []struct{ in, name, want string }{
		{`text/plain; charset=utf-8`, "charset", "utf-8"},
		{`text/plain; charset="utf-8" (comment (nested))`, "charset", "utf-8"},
		{`text/plain; CharSet = "a\"b\\c"`, "charset", `a"b\c`},
		{`text/plain; broken; ;=x; charset=x`, "charset", "x"},
		{`text/plain; name="a;b"; charset=x`, "name", "a;b"},
		{`text/plain; name=a b c.txt; charset=x`, "name", "a b c.txt"},
		{`text/plain; name="unclosed; charset=x`, "name", "unclosed; charset=x"},
		{`text/plain; name=`, "name", ""},
		{`text/plain; name*=utf-8'en'%C3%BC%zz%`, "name", "ü%zz%"},
		{`text/plain; name*0="a"; name*2*=%20c; name*1=b`, "name", "ab c"},
		{`text/plain; name*0*=utf-8''%C3%BC; name*1*=%62; name*3=z`, "name", "üb"},
		{`text/plain; name*1=b`, "name", ""},
		{`text/plain; name=old; name*=utf-8''new`, "name", "new"},
		{`text/plain; name*=no-quotes`, "name", "no-quotes"},
		{`(c) text (c) / (c) plain (c) ; (c) name (c) = (c) v (c)`, "name", "v"},
	}
	for _, test := range tests {
		typ, sub, ps := parseMediaType(test.in, nil)
		if got := ps.get(test.name); got != test.want || typ != "text" || sub != "plain" {
			t.Errorf("%s = %s/%s %q, want %q", test.in, typ, sub, got, test.want)
		}
	}
	for _, in := range []string{"", "text", "text/", "/plain", ";", "text plain; charset=x", "(", "\x00/\x00"} {
		if typ, sub, _ := parseMediaType(in, nil); typ != "" || sub != "" {
			t.Errorf("%q = %s/%s", in, typ, sub)
		}
	}
}

func TestParseAddresses(t *testing.T) {
	type l = []imap.Address
	tests := []struct {
		in   string
		want l
	}{
		{"", nil},
		{" , ,", nil},
		{"a@b", l{{Mailbox: "a", Host: "b"}}},
		{"A B <a@b>", l{{Name: "A B", Mailbox: "a", Host: "b"}}},
		{`"A, B" <a@b>, c@d`, l{{Name: "A, B", Mailbox: "a", Host: "b"}, {Mailbox: "c", Host: "d"}}},
		{"a@b (Name (x))", l{{Name: "Name (x)", Mailbox: "a", Host: "b"}}},
		{"(Name) <a@b>", l{{Name: "Name", Mailbox: "a", Host: "b"}}},
		{"<a@b> (Name)", l{{Name: "Name", Mailbox: "a", Host: "b"}}},
		{"a.b+c@d.e", l{{Mailbox: "a.b+c", Host: "d.e"}}},
		{`"a b"@c`, l{{Mailbox: "a b", Host: "c"}}},
		{"a@[127.0.0.1]", l{{Mailbox: "a", Host: "[127.0.0.1]"}}},
		{"<@x,@y:a@b>", l{{Mailbox: "a", Host: "b"}}},
		{"<a@b> <c@d>", l{{Mailbox: "a", Host: "b"}, {Mailbox: "c", Host: "d"}}},
		{"G: a@b, c@d; e@f", l{{Mailbox: "G"}, {Mailbox: "a", Host: "b"}, {Mailbox: "c", Host: "d"}, {}, {Mailbox: "e", Host: "f"}}},
		{"G:", l{{Mailbox: "G"}, {}}},
		{"a@b, G:;", l{{Mailbox: "a", Host: "b"}, {Mailbox: "G"}, {}}},
		{"John Q. Public <j@p>", l{{Name: "John Q. Public", Mailbox: "j", Host: "p"}}},
		{"=?utf-8?q?a=2Cb?= <j@p>", l{{Name: "=?utf-8?q?a=2Cb?=", Mailbox: "j", Host: "p"}}},
		{"mailto:a@b", l{{Mailbox: "mailto"}, {Mailbox: "a", Host: "b"}, {}}},
		{">", nil},
		{"<", l{{Mailbox: MissingMailbox, Host: MissingDomain}}},
		{"a@b@c", l{{Mailbox: "a", Host: "b@c"}}},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, ParseAddresses(test.in)); diff != "" {
			t.Errorf("%q: %s", test.in, diff)
		}
	}
}

func FuzzParseAddresses(f *testing.F) {
	for _, s := range []string{"a@b", `"A, B" <a@b>, c@d`, "G: a@b, c@d; e@f", "<@x,@y:a@b>", "a@b (N(a)me)", ";:<>,@\"\\("} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		group := false
		for _, a := range ParseAddresses(in) {
			switch {
			case a.IsGroupStart() && !group:
				group = true
			case a.IsGroupEnd() && group:
				group = false
			case a.Addr() == "":
				t.Errorf("%q: stray group marker %+v", in, a)
			}
		}
		if group {
			t.Errorf("%q: a group without an end", in)
		}
	})
}

func TestParseDate(t *testing.T) {
	tests := []struct{ in, want string }{
		{"Mon, 12 Oct 1998 15:27:39 +0200", "1998-10-12T15:27:39+02:00"},
		{"12 Oct 98 15:27:39 GMT", "1998-10-12T15:27:39Z"},
		{"Mon, 12 Oct 1998 15:27:39 +0200 (CEST)", "1998-10-12T15:27:39+02:00"},
		{"Mon, 12 Oct 1998 15:27 -0000", "1998-10-12T15:27:00Z"},
		{"Mon Oct 12 15:27:39 1998", "1998-10-12T15:27:39Z"},
		{"1998-10-12T15:27:39Z", "1998-10-12T15:27:39Z"},
		{"Mon, 12 Oct 1998 15:27:39", "1998-10-12T15:27:39Z"},
	}
	for _, test := range tests {
		got, err := ParseDate(test.in)
		if err != nil || got.Format(time.RFC3339) != test.want {
			t.Errorf("%q = %v, %v, want %s", test.in, got, err, test.want)
		}
	}
	for _, in := range []string{"", "yesterday", strings.Repeat("1", 1000), "32 Foo 2000"} {
		if got, err := ParseDate(in); err == nil || !got.IsZero() {
			t.Errorf("%q = %v, %v", in, got, err)
		}
	}
}

// TestStandardDate holds the fast way to the slow one.
func TestStandardDate(t *testing.T) {
	const layout = "Mon, 2 Jan 2006 15:04:05 -0700"
	rapid.Check(t, func(t *rapid.T) {
		zone := rapid.IntRange(-23*60, 23*60).Draw(t, "zone") * 60
		at := time.Unix(rapid.Int64Range(-62135510400, 253402214400).Draw(t, "sec"), 0).In(time.FixedZone("", zone))
		text := []byte(at.Format(layout))
		if rapid.Bool().Draw(t, "spoil") {
			text[rapid.IntRange(0, len(text)-1).Draw(t, "at")] = rapid.SampledFrom([]byte("0123456789 :,+-JFMnx")).Draw(t, "by")
		}
		sec, east, ok := standardDate(string(text))
		want, err := mail.ParseDate(string(text))
		switch {
		case !ok && string(text) == at.Format(layout):
			t.Fatalf("%s is no standard date", text)
		case !ok:
			return
		case err != nil:
			t.Fatalf("%s: %v", text, err)
		}
		if _, off := want.Zone(); sec != want.Unix() || east != off {
			t.Fatalf("%s = %d %d, want %v", text, sec, east, want)
		}
	})
	for _, in := range []string{"31 Apr 2026 00:00:00 +0000", "0 Jan 2026 00:00:00 +0000", "1 Jan 0000 00:00:00 +0000", "1 Jan 2026 24:00:00 +0000",
		"1 Jan 2026 00:00:60 +0000", "1 Jan 2026 00:00:00 +2400", "1 anF 2026 00:00:00 +0000", ",Mon, 1 Jan 2026 00:00:00 +0000", "on,M, 1 Jan 2026 00:00:00 +0000"} {
		if sec, _, ok := standardDate(in); ok {
			t.Errorf("%q = %d", in, sec)
		}
	}
}
