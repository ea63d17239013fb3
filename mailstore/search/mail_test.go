package search

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"mime"
	"mime/quotedprintable"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/unicode"
	"pgregory.net/rapid"
)

// letter is a message that a test made, with what there is to find in it.
type letter struct {
	raw    []byte
	fields [][2]string // of the header: name and value, decoded
	names  []string    // of attachments
	body   []string    // each text of the body
}

func (l *letter) String() string { return fmt.Sprintf("a letter of %d octets", len(l.raw)) }

// has is the plain answer: whether a text is in a field.
func (l *letter) has(field Field, name, text string, fold func(string) string) bool {
	text = fold(text)
	in := func(s string) bool { return strings.Contains(fold(s), text) }
	for _, f := range l.fields {
		switch {
		case field == Text && in(f[0]+": "+f[1]),
			field == Header && strings.EqualFold(f[0], name) && in(f[1]),
			field < Header && strings.EqualFold(f[0], headerNames[field]) && in(f[1]):
			return true
		}
	}
	if field < Body {
		return false
	}
	for _, s := range l.body {
		if in(s) {
			return true
		}
	}
	for _, s := range l.names {
		if field == Text && in(s) {
			return true
		}
	}
	return text == ""
}

// charsets, each with words that it can say.
var charsets = []struct {
	name  string
	enc   encoding.Encoding
	words []string
}{
	{"us-ascii", encoding.Nop, []string{"meaning", "life", "ketchup"}},
	{"utf-8", encoding.Nop, []string{"Grüße", "привет", "会议报告", "naïve", "žluťoučký", strings.Repeat("é", 70), strings.Repeat("łó", 60), "\ufb01ne", "한국어", "“quoted”"}},
	{"iso-8859-1", charmap.ISO8859_1, []string{"Grüße", "café", "señor"}},
	{"windows-1252", charmap.Windows1252, []string{"“quoted”", "naïve", "€5"}},
	{"koi8-r", charmap.KOI8R, []string{"привет", "сообщение"}},
	{"iso-8859-7", charmap.ISO8859_7, []string{"Ελλάδα", "καλημέρα"}},
	{"iso-2022-jp", japanese.ISO2022JP, []string{"こんにちは", "予定"}},
	{"shift_jis", japanese.ShiftJIS, []string{"会議", "報告"}},
	{"utf-16", unicode.UTF16(unicode.BigEndian, unicode.UseBOM), []string{"Привет", "Grüße"}},
}

// plainWords are words that each character set can say.
var plainWords = []string{"a", "of", "Pickles", "e-mail", "a.b@c.example", "don't", "X1", "1998-10-12", "re", "subject", "C++", "--", "end.", "(see",
	strings.Repeat("long", 50), strings.Repeat("0123456789", 40)}

var gaps = []string{" ", "  ", "\t", ", ", ". ", "/", " - "}

// sentence draws a text of words in a character set.
func sentence(t *rapid.T, charset int, gaps []string) string {
	words := append(plainWords[:len(plainWords):len(plainWords)], charsets[charset].words...)
	var b strings.Builder
	for i := range rapid.IntRange(0, 6).Draw(t, "words") {
		if i > 0 {
			b.WriteString(rapid.SampledFrom(gaps).Draw(t, "gap"))
		}
		b.WriteString(rapid.SampledFrom(words).Draw(t, "word"))
	}
	return b.String()
}

// headerText draws a text with the form that it has in a header.
func headerText(t *rapid.T) (text, raw string) {
	switch rapid.IntRange(0, 3).Draw(t, "form") {
	case 0:
		text = sentence(t, 0, []string{" ", ", ", "/"})
		return text, strings.ReplaceAll(text, " ", "\r\n ")
	case 1:
		text = sentence(t, 1, []string{" ", ", "})
		return text, text // raw UTF-8
	}
	// Encoded words side by side, with the words of the text cut anywhere.
	text = sentence(t, 1, []string{" ", ", "})
	enc := rapid.SampledFrom([]mime.WordEncoder{mime.QEncoding, mime.BEncoding}).Draw(t, "encoding")
	var list []string
	for rest := []rune(text); len(rest) > 0; {
		n := rapid.IntRange(1, min(10, len(rest))).Draw(t, "cut")
		word := string(rest[:n])
		if enc.Encode("utf-8", word) == word { // it says plain text plainly
			word = "=?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte(word)) + "?="
		} else {
			word = enc.Encode("utf-8", word)
		}
		list = append(list, word)
		rest = rest[n:]
	}
	return text, strings.Join(list, "\r\n ")
}

func (l *letter) header(b *bytes.Buffer, name, text, raw string) {
	fmt.Fprintf(b, "%s: %s\r\n", name, raw)
	l.fields = append(l.fields, [2]string{name, strings.TrimSpace(text)})
}

// drawLetter draws a message.
func drawLetter(t *rapid.T) *letter {
	l := new(letter)
	var b bytes.Buffer
	for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"Subject", "From", "To", "Cc", "Bcc", "X-Mailer", "Message-ID", "subject"}), 0, 5).Draw(t, "fields") {
		text, raw := headerText(t)
		l.header(&b, name, text, raw)
	}
	l.drawBody(t, &b, 0, func(name, value string) { l.header(&b, name, value, value) })
	l.raw = b.Bytes()
	return l
}

// drawBody draws the rest of an entity; set writes its MIME fields.
func (l *letter) drawBody(t *rapid.T, b *bytes.Buffer, depth int, set func(name, value string)) {
	kind := rapid.IntRange(0, 9).Draw(t, "kind")
	switch {
	case kind < 5 || depth > 2:
		l.drawText(t, b, set)
	case kind < 6:
		name := rapid.SampledFrom([]string{"menu.pdf", "Speise_Karte.doc", "e-mail.zip"}).Draw(t, "name")
		set("Content-Type", "application/octet-stream")
		set("Content-Disposition", "attachment; filename=\""+name+"\"")
		l.names = append(l.names, name)
		b.WriteString("\r\nketchup that nobody finds\r\n")
	case kind < 8:
		bound := fmt.Sprintf("bound%d", depth)
		set("Content-Type", "multipart/mixed; boundary="+bound)
		b.WriteString("\r\n")
		for range rapid.IntRange(1, 3).Draw(t, "parts") {
			fmt.Fprintf(b, "--%s\r\n", bound)
			l.drawBody(t, b, depth+1, func(name, value string) { fmt.Fprintf(b, "%s: %s\r\n", name, value) })
			b.WriteString("\r\n")
		}
		fmt.Fprintf(b, "--%s--\r\n", bound)
	default:
		set("Content-Type", "message/rfc822")
		b.WriteString("\r\n")
		text, raw := headerText(t)
		fmt.Fprintf(b, "Subject: %s\r\n", raw)
		l.body = append(l.body, "Subject: "+strings.TrimSpace(text))
		l.drawBody(t, b, depth+1, func(name, value string) {
			fmt.Fprintf(b, "%s: %s\r\n", name, value)
			l.body = append(l.body, name+": "+value)
		})
	}
}

// drawText draws a text part.
func (l *letter) drawText(t *rapid.T, b *bytes.Buffer, set func(name, value string)) {
	i := rapid.IntRange(0, len(charsets)-1).Draw(t, "charset")
	text := sentence(t, i, append(gaps, "\r\n"))
	subtype := "plain"
	if rapid.Bool().Draw(t, "html") {
		subtype = "html"
		l.body = append(l.body, " "+text+" ") // what stands in blocks is kept apart
		text = markUp(t, text)
	} else {
		l.body = append(l.body, text)
	}
	data, err := charsets[i].enc.NewEncoder().String(text)
	if err != nil {
		t.Fatalf("%q in %s: %v", text, charsets[i].name, err)
	}
	set("Content-Type", "text/"+subtype+"; charset="+charsets[i].name)
	switch rapid.IntRange(0, 2).Draw(t, "transfer") {
	case 0:
		if charsets[i].name == "utf-16" {
			set("Content-Transfer-Encoding", "base64")
			data = base64.StdEncoding.EncodeToString([]byte(data))
		}
		b.WriteString("\r\n" + data)
	case 1:
		set("Content-Transfer-Encoding", "base64")
		b.WriteString("\r\n" + base64.StdEncoding.EncodeToString([]byte(data)))
	default:
		set("Content-Transfer-Encoding", "quoted-printable")
		b.WriteString("\r\n")
		w := quotedprintable.NewWriter(b)
		w.Binary = charsets[i].name == "utf-16"
		if _, err := w.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// markUp draws HTML that shows a text.
func markUp(t *rapid.T, text string) string {
	var b strings.Builder
	b.WriteString("<html><head><style>ketchup{}</style></head><body><!-- ketchup --><p title='ketchup>'>")
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "markup"), 0))
	for _, r := range text {
		switch random.IntN(12) {
		case 0:
			b.WriteString("<b class=\"ketchup\">")
		case 1:
			b.WriteString("</b>")
		case 2:
			if r > ' ' {
				fmt.Fprintf(&b, "&#%d;", r)
				continue
			}
		}
		switch r {
		case '<', '>', '&':
			fmt.Fprintf(&b, "&#x%x;", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteString("</p></body></html>")
	return b.String()
}

// makers make keys, each with the folding that it stands for.
var makers = []struct {
	key  func(field Field, name, text string) Key
	fold func(string) string
}{{NewKey, Fold}, {NewFuzzyKey, FoldFuzzy}}

// drawKey draws a key: often a part of what is in the letters.
func drawKey(t *rapid.T, letters []*letter) (field Field, name, text string) {
	field = Field(rapid.IntRange(int(Subject), int(Text)).Draw(t, "field"))
	if field == Header {
		name = rapid.SampledFrom([]string{"X-Mailer", "message-id", "Subject", "Content-Type", "X"}).Draw(t, "name")
	}
	var texts []string
	if len(letters) > 0 {
		l := rapid.SampledFrom(letters).Draw(t, "letter")
		for _, f := range l.fields {
			texts = append(texts, f[1], f[0]+": "+f[1])
		}
		texts = append(append(texts, l.body...), l.names...)
	}
	if len(texts) == 0 || rapid.IntRange(0, 9).Draw(t, "strange") == 0 {
		return field, name, rapid.SampledFrom([]string{"", " ", "!", "zzz", "nosuchwordanywhere", "KETCHUP", "e", "subject:", "-", "längst"}).Draw(t, "text")
	}
	runes := []rune(rapid.SampledFrom(texts).Draw(t, "from"))
	i := rapid.IntRange(0, len(runes)).Draw(t, "start")
	n := rapid.IntRange(0, min(len(runes)-i, rapid.SampledFrom([]int{3, 12, 400}).Draw(t, "most"))).Draw(t, "length")
	text = string(runes[i : i+n])
	if rapid.Bool().Draw(t, "case") {
		text = strings.ToUpper(text)
	}
	if rapid.IntRange(0, 3).Draw(t, "plain") == 0 {
		text = FoldFuzzy(text)
	}
	return field, name, text
}
