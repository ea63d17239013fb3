package dns

import (
	"strings"
	"testing"
)

func TestHints(t *testing.T) {
	for _, tt := range []struct {
		name string
		want []string // a part of each hint, in order
	}{
		{"hamburger.edu", nil},
		{"a..b", nil},
		{"bücher.example", []string{`xn--bcher-kva reads "bücher"`}},
		{"例え.テスト", []string{`reads "例え"`, `reads "テスト"`}},
		{"пример.example", []string{`reads "пример"`}},
		// All Cyrillic, each letter like a Latin one.
		{"аррӏе.com", []string{`reads "аррӏе"`, `"аррӏе" looks like "apple" and is another name`}},
		{"xn--80ak6aa92e.com", []string{`reads "аррӏе"`, `looks like "apple"`}},
		// One letter of another script.
		{"hаmburger.edu", []string{`reads "hаmburger"`, `mixes Cyrillic and Latin: look at it letter by letter (а is U+0430, Cyrillic)`, `looks like "hamburger"`}},
		{"ιnfo.example", []string{"reads", "Greek and Latin", `looks like "info"`}},
		{"i♥.example", []string{"reads", "'♥', which is not a letter or digit"}},
		{"xn--a.example", []string{"reads", "is not a label of IDNA"}},
		{"xn--999999999999.example", []string{"not a name in another script"}},
		{"www.xn--bcher-kva", []string{`reads "bücher"`}},
	} {
		got := Hints(tt.name)
		if len(got) != len(tt.want) {
			t.Errorf("Hints(%q) = %q, want %q", tt.name, got, tt.want)
			continue
		}
		for i, want := range tt.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("Hints(%q): %q has no %q", tt.name, got[i], want)
			}
		}
	}
}

// A hint is one line, whatever the name.
func FuzzHints(f *testing.F) {
	for _, s := range []string{"hаmburger.edu", "xn--80ak6aa92e.com", "xn--a", "例え.テスト", "i♥.x", "xn--\u0430"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, h := range Hints(s) {
			if strings.ContainsAny(h, "\r\n\x1b\x00") || h == "" {
				t.Errorf("Hints(%q): %q", s, h)
			}
		}
	})
}

func TestNameFaults(t *testing.T) {
	label := strings.Repeat("a", 63)
	for in, want := range map[string]string{
		"":                             "it is empty",
		".a":                           "it begins with a dot",
		"a..b":                         "label 2 is empty",
		"www." + label + "b.example":   "label 2, \"" + label + "b\", has 64 octets, and 63 are the most",
		`\097` + label + ".example":    "has 64 octets",
		strings.Repeat(label+".", 4):   "it has 257 octets on the wire, and 255 are the most",
		strings.Repeat("ü", 64) + ".x": "label 1, \"xn--",
		`a\`:                           "backslash",
		"www.a\u200db.example":         `label 2, "a\u200db", has characters`,
		"a\xff":                        "not in UTF-8",
	} {
		if _, err := ParseName(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseName(%q): %v, want %q", in, err, want)
		}
	}
}
