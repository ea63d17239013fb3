package search

import (
	"strings"
	"testing"

	"golang.org/x/net/html"
)

func strip(pieces ...string) string {
	var h stripper
	var out []byte
	for i, p := range pieces {
		out = h.append(out, []byte(p), i == len(pieces)-1)
	}
	return string(out)
}

func TestStrip(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                                            "plain",
		"a &lt; b &amp;&amp; c &eacute; d":                 "a < b && c é d",
		"caf&#233;, &#x20AC;5, &nosuch; &":                 "café, €5, &nosuch; &",
		"&notit; AT&T":                                     "¬it; AT&T",
		"<p>one</p><p>two</p>":                             "one two",
		"un<b>believ</b>able":                              "unbelievable",
		"a<br>b<td>c":                                      "a b c",
		"<style>p{x:y}</style>shown":                       "shown",
		"<SCRIPT a=\"</script>\">x</sCRIPT >shown":         "shown",
		"<script>if (a</b) '</scrip'</script\n>shown":      "shown",
		"<img src=\"data:>\" alt='>'>shown":                "shown",
		"<a title=it's>shown</a>":                          "shown",
		"1 < 2, 3 <4> 5 <":                                 "1 < 2, 3 <4> 5 <",
		"a<!-- hidden > -- -->b<!-->c<!--->d":              "abcd",
		"a<!--x--!>b<!DOCTYPE html>c<?php x>d":             "abcd",
		"<!--[if mso]>hidden<![endif]-->shown<![if x]>too": "showntoo",
		"a</>b</ x>c</x":                                   "abc",
		"<p" + strings.Repeat(" x=y", 50000) + ">end":      "end",
		"a<span\nclass='x y'>b</span>c":                    "abc",
	} {
		if got := strings.Join(strings.Fields(strip(in)), " "); got != want {
			t.Errorf("strip(%.60q) = %q, want %q", in, got, want)
		}
	}
}

// TestStripLikeTokenizer: where x/net/html has the same tokens, the text is the
// same.
func TestStripLikeTokenizer(t *testing.T) {
	for _, in := range []string{
		"<html><head><style>a>b</style></head><body><p class=\"x>y\">Gr&uuml;&szlig;e &amp; mehr</p><!-- no --><ul><li>one<li>two</ul></body></html>",
		"a<b>c</b>d<br/>e<a href=http://x/?a=b&c=d>link</a> 5 < 6 &copy 2024",
		"<div><!DOCTYPE x>x<img alt=\"a'b\" src='c\"d'>y</div>",
	} {
		var want strings.Builder
		skip := false
		for z := html.NewTokenizer(strings.NewReader(in)); ; {
			kind := z.Next()
			if kind == html.ErrorToken {
				break
			}
			tok := z.Token()
			switch {
			case kind == html.TextToken && !skip:
				want.WriteString(tok.Data)
			case kind == html.StartTagToken || kind == html.EndTagToken || kind == html.SelfClosingTagToken:
				skip = kind == html.StartTagToken && (tok.Data == "style" || tok.Data == "script")
				if !inline[tok.Data] {
					want.WriteByte('\n')
				}
			}
		}
		if got := strings.Fields(strip(in)); strings.Join(got, " ") != strings.Join(strings.Fields(want.String()), " ") {
			t.Errorf("strip(%q) = %q, the tokenizer has %q", in, got, want.String())
		}
	}
}

// FuzzStrip: where the document is cut into pieces makes no difference, and
// the text is not much longer than the document.
func FuzzStrip(f *testing.F) {
	f.Add("<p>a&amp;b</p><!-- x -->", 3, 5)
	f.Add("<script>x</script><a b='c'>&#x41;", 4, 9)
	f.Add("&NotEqualTilde;&;<!--!><", 7, 9)
	f.Fuzz(func(t *testing.T, s string, i, j int) {
		i = min(max(i, 0), len(s))
		j = min(max(j, i), len(s))
		whole := strip(s)
		if cut := strip(s[:i], s[i:j], s[j:]); cut != whole {
			t.Errorf("strip(%q) = %q, cut at %d and %d %q", s, whole, i, j, cut)
		}
		if len(whole) > 2*len(s) {
			t.Errorf("strip(%q) = %q", s, whole)
		}
	})
}
