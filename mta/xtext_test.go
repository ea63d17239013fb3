package mta

import (
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

func TestXtext(t *testing.T) {
	for in, want := range map[string]string{
		"":                "",
		"QQ314159":        "QQ314159",
		"a+b=c":           "a+2Bb+3Dc",
		"two words":       "two+20words",
		"bob@example.com": "bob@example.com",
	} {
		if got := EncodeXtext(in); got != want {
			t.Errorf("EncodeXtext(%q) = %q, want %q", in, got, want)
		}
		if got, err := DecodeXtext(want); err != nil || got != in {
			t.Errorf("DecodeXtext(%q) = %q, %v; want %q", want, got, err, in)
		}
	}
	for _, in := range []string{"a b", "a=b", "+", "+2", "+2b", "+0D+0A", "+00", "+7F", "é", "a\r\n"} {
		if got, err := DecodeXtext(in); err == nil {
			t.Errorf("DecodeXtext(%q) = %q, want an error", in, got)
		}
	}
}

func TestParseORCPT(t *testing.T) {
	tests := []struct {
		in   string
		kind smtp.DSNAddressType
		addr string
	}{
		{"rfc822;bob@example.com", smtp.DSNAddressTypeRFC822, "bob@example.com"},
		{"RFC822;bob+2Blist@example.com", smtp.DSNAddressTypeRFC822, "bob+list@example.com"},
		{`utf-8;j\x{FC}rgen\x{2B}x@example.com`, smtp.DSNAddressTypeUTF8, "jürgen+x@example.com"},
		{"UTF-8;jürgen@example.com", smtp.DSNAddressTypeUTF8, "jürgen@example.com"},
		{`utf-8;\x{1F600}@example.com`, smtp.DSNAddressTypeUTF8, "\U0001F600@example.com"},
	}
	for _, tt := range tests {
		kind, addr, err := ParseORCPT(tt.in)
		if err != nil || kind != tt.kind || addr != tt.addr {
			t.Errorf("ParseORCPT(%q) = %q, %q, %v", tt.in, kind, addr, err)
		}
		if _, again, err := ParseORCPT(FormatORCPT(kind, addr)); err != nil || again != addr {
			t.Errorf("FormatORCPT(%q, %q) reads back as %q, %v", kind, addr, again, err)
		}
	}
	for _, in := range []string{"", "rfc822", "rfc822;", "x400;c=us", ";a", "rfc822;a b", "rfc822;+0A", `utf-8;\x{A}`, `utf-8;\x{fc}`, `utf-8;\x{0000FC}x\`, `utf-8;\x{D800}`, "utf-8;a+b", "utf-8;\x80", `utf-8;\x{110000}`, "rfc822;" + strings.Repeat("a", maxORCPT)} {
		if kind, addr, err := ParseORCPT(in); err == nil {
			t.Errorf("ParseORCPT(%q) = %q, %q, want an error", in, kind, addr)
		}
	}
}

func TestNewID(t *testing.T) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	a, b := NewID(at, ^uint64(0)), NewID(at.Add(time.Microsecond), 0)
	if len(a) != 18 || a >= b || strings.ContainsFunc(a+b, func(r rune) bool { return !strings.ContainsRune(idAlphabet, r) }) {
		t.Errorf("NewID = %q, then %q", a, b)
	}
}

func FuzzXtext(f *testing.F) {
	f.Add("a+2Bb")
	f.Fuzz(func(t *testing.T, in string) {
		s, err := DecodeXtext(in)
		if err != nil {
			return
		}
		if again, err := DecodeXtext(EncodeXtext(s)); err != nil || again != s || strings.ContainsAny(s, "\r\n\x00") {
			t.Errorf("DecodeXtext(%q) = %q, again %q, %v", in, s, again, err)
		}
	})
}

func FuzzParseORCPT(f *testing.F) {
	f.Add("rfc822;bob+2Bx@c.org")
	f.Add(`utf-8;\x{1F600}jürgen@c.org`)
	f.Fuzz(func(t *testing.T, in string) {
		kind, addr, err := ParseORCPT(in)
		if err != nil {
			return
		}
		out := FormatORCPT(kind, addr)
		if len(out) > maxORCPT {
			return // the escaped form of an address may be longer than it
		}
		if k, again, err := ParseORCPT(out); err != nil || k != kind || again != addr {
			t.Errorf("ParseORCPT(%q) = %q, printed %q, reparsed %q, %v", in, addr, out, again, err)
		}
	})
}
