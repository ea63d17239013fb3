package search

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestFold(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "",
		"Do you like ketchup?": "DO YOU LIKE KETCHUP?",
		"a\r\n\t b\x00c":       "A B C",
		"Grüße":                "GRU\u0308ßE",
		"straße":               "STRAßE",
		"σοφός":                "ΣΟΦΟ\u0301Σ",
		"Привет":               "ПРИВЕТ",
		"\ufb01ne":             "FINE",
		"\u01c6\u01c4":         "DZ\u030cDZ\u030c",
		"\uff21\uff42\u3000x":  "AB X",
		"x\u00a0\u2003y":       "X Y",
		"한":                    "\u1112\u1161\u11ab",
		"caf\xe9":              "CAFE\u0301",
		"\x93x\x94":            "“X”",
		"\u0131i":              "II",
	} {
		if got := Fold(in); got != want {
			t.Errorf("Fold(%q) = %q, want %q", in, got, want)
		}
	}
	if got := FoldFuzzy("Žluťoučký kůň, naïve Ελλάδα"); got != "ZLUTOUCKY KUN, NAIVE ΕΛΛΑΔΑ" {
		t.Errorf("FoldFuzzy = %q", got)
	}
}

// TestFoldEveryRune: folding again changes nothing, and case makes no
// difference, whatever the character.
func TestFoldEveryRune(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if r == 0x30000 {
			r = 0xe0000 // there is nothing between
		}
		s := string(r)
		folded := Fold(s)
		if again := Fold(folded); again != folded {
			t.Errorf("Fold(%q) = %q, folded again %q", s, folded, again)
		}
		if lower := Fold(string(unicode.ToLower(r))); unicode.ToTitle(unicode.ToLower(r)) == unicode.ToTitle(r) && lower != folded {
			t.Errorf("Fold(%q) = %q, in lower case %q", s, folded, lower)
		}
		if strings.ContainsFunc(folded, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("Fold(%q) = %q has control characters", s, folded)
		}
	}
}

// FuzzFold: folding twice is folding once, and where a text is cut into pieces
// makes no difference.
func FuzzFold(f *testing.F) {
	f.Add("Grüße  \r\n x", 3, 2)
	f.Add("\xe2\x82\xe2\x82\xac\xf0\x9f\x98\x80", 1, 3)
	f.Add("\xf0\x9f\xc3\xa9\xff", 2, 1)
	f.Fuzz(func(t *testing.T, s string, i, j int) {
		folded := Fold(s)
		if again := Fold(folded); again != folded {
			t.Errorf("Fold(%q) = %q, folded again %q", s, folded, again)
		}
		if !utf8.ValidString(folded) {
			t.Errorf("Fold(%q) = %q is not UTF-8", s, folded)
		}
		i = min(max(i, 0), len(s))
		j = min(max(j, 0), len(s)-i)
		var fo folder
		out := fo.append(nil, []byte(s[:i]), false)
		out = fo.append(out, []byte(s[i:i+j]), false)
		out = fo.append(out, []byte(s[i+j:]), true)
		if string(out) != folded {
			t.Errorf("Fold(%q) = %q, cut at %d and %d %q", s, folded, i, i+j, out)
		}
	})
}

// TestFoldEight: eight octets at once give what one after another gives.
func TestFoldEight(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		s := make([]byte, r.IntN(40))
		for i := range s {
			switch r.IntN(8) {
			case 0:
				s[i] = ' '
			case 1:
				s[i] = byte(r.IntN(256))
			case 2:
				s[i] = "@AZ[`az{~\x7f\x1f!"[r.IntN(12)]
			default:
				s[i] = 'a' + byte(r.IntN(26))
			}
		}
		var f folder
		var want []byte
		for i := range s {
			want = f.append(want, s[i:i+1], i == len(s)-1)
		}
		if got := Fold(string(s)); got != string(want) {
			t.Fatalf("Fold(%q) = %q, one by one %q", s, got, want)
		}
	}
}
