package dns

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// Hints says what a person should know of a name before believing it: how it
// reads where it is in A-labels, that a label mixes scripts or looks like
// another name (RFC 5890 section 4.4, UTS 39 sections 4 and 5), and that it has
// characters which registries do not allow. It returns none for most names.
// Nothing here is a verdict: names with hints are looked up like others.
func Hints(name string) []string {
	ascii, err := normalize(name)
	if err != nil || !strings.Contains(ascii, "xn--") {
		return nil
	}
	var hints []string
	for label := range strings.SplitSeq(strings.TrimSuffix(ascii, "."), ".") {
		if !strings.HasPrefix(label, "xn--") {
			continue
		}
		u, err := idna.Punycode.ToUnicode(label)
		if err != nil || u == label {
			hints = append(hints, fmt.Sprintf("label %s is not a name in another script, although it begins so", label))
			continue
		}
		hints = append(hints, fmt.Sprintf("label %s reads %q", label, u))
		if back, err := strictIDNA().ToASCII(u); err != nil || back != label {
			hints = append(hints, fmt.Sprintf("%q is not a label of IDNA: programs that check will refuse it", u))
		} else if c := symbol(u); c != 0 {
			hints = append(hints, fmt.Sprintf("%q has %q, which is not a letter or digit: no registry should have taken it (RFC 5892)", u, c))
		}
		hints = append(hints, scriptHints(u)...)
	}
	return hints
}

func strictIDNA() *idna.Profile {
	return idna.New(idna.MapForLookup(), idna.BidiRule())
}

// symbol is the first character that is neither letter, mark nor digit; 0: none.
// The joiners and the points that RFC 5892 allows in their contexts are none.
func symbol(u string) rune {
	for _, c := range u {
		if !unicode.In(c, unicode.L, unicode.M, unicode.Nd) && !strings.ContainsRune("-_\u200c\u200d\u00b7\u0375\u05f3\u05f4\u30fb\u3007", c) {
			return c
		}
	}
	return 0
}

// scriptHints tells of the scripts of one label.
func scriptHints(u string) []string {
	var scripts []string
	for _, c := range u {
		if s := script(c); s != "" && !slices.Contains(scripts, s) {
			scripts = append(scripts, s)
		}
	}
	slices.Sort(scripts)
	var hints []string
	if len(scripts) > 1 && !goTogether(scripts) {
		hints = append(hints, fmt.Sprintf("%q mixes %s: look at it letter by letter (%s)", u, strings.Join(scripts, " and "), letters(u)))
	}
	if latin, ok := skeleton(u); ok {
		hints = append(hints, fmt.Sprintf("%q looks like %q and is another name", u, latin))
	}
	return hints
}

// letters spells a label with the script of each letter that is not Latin.
func letters(u string) string {
	var list []string
	for _, c := range u {
		if s := script(c); s != "" && s != "Latin" {
			list = append(list, fmt.Sprintf("%c is U+%04X, %s", c, c, s))
		}
	}
	return strings.Join(list, "; ")
}

// script is that of a letter; "" for what belongs to several or to all.
func script(c rune) string {
	if c < 0x80 && !unicode.IsLetter(c) || unicode.In(c, unicode.Common, unicode.Inherited) {
		return ""
	}
	for _, s := range scriptsInUse {
		if unicode.Is(unicode.Scripts[s], c) {
			return s
		}
	}
	for s, table := range unicode.Scripts {
		if unicode.Is(table, c) {
			return s
		}
	}
	return "Unknown"
}

// scriptsInUse are looked at first.
var scriptsInUse = []string{"Latin", "Cyrillic", "Greek", "Han", "Hiragana", "Katakana", "Hangul", "Bopomofo", "Arabic", "Hebrew", "Armenian"}

// goTogether tells whether one language writes with these scripts (UTS 39
// section 5.2, highly restrictive).
func goTogether(scripts []string) bool {
	for _, set := range [][]string{
		{"Han", "Hiragana", "Katakana", "Latin"}, {"Bopomofo", "Han", "Latin"}, {"Han", "Hangul", "Latin"},
	} {
		if !slices.ContainsFunc(scripts, func(s string) bool { return !slices.Contains(set, s) }) {
			return true
		}
	}
	return false
}

// skeleton is the name in Latin letters that a label looks like; false when it
// has a character that looks like none. The table has the letters that most
// fonts draw alike (UTS 39 section 4, confusables), in lower case as labels are.
func skeleton(u string) (string, bool) {
	var b strings.Builder
	for _, c := range u {
		ascii, ok := lookAlikes[c]
		switch {
		case c < 0x80:
			b.WriteRune(c)
		case !ok:
			return "", false
		default:
			b.WriteByte(ascii)
		}
	}
	return b.String(), true
}

// lookAlikes are letters of other scripts, and of Latin itself, and the ASCII
// letter that each is taken for.
var lookAlikes = map[rune]byte{
	'а': 'a', 'с': 'c', 'ԁ': 'd', 'е': 'e', 'һ': 'h', 'і': 'i', 'ј': 'j', 'ӏ': 'l', 'о': 'o', 'р': 'p', 'ԛ': 'q', // Cyrillic
	'ѕ': 's', 'ԝ': 'w', 'х': 'x', 'у': 'y', 'ѵ': 'v',
	'ο': 'o', 'α': 'a', 'ι': 'i', 'ν': 'v', 'ρ': 'p', 'τ': 't', 'υ': 'u', 'χ': 'x', 'κ': 'k', // Greek
	'ո': 'n', 'ս': 'u', 'օ': 'o', 'հ': 'h', 'ց': 'g', 'զ': 'q', // Armenian
	'ı': 'i', 'ɡ': 'g', // Latin
}
