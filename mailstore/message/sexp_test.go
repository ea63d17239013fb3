package message

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
)

// sexp is one value of an IMAP response as a strict client reads it.
type sexp struct {
	list   []sexp // of a list, which is not nil
	text   string // of a string or a number
	number bool
	nil    bool
}

var errSyntax = errors.New("not IMAP")

// readSexp reads one value by RFC 3501 section 4, without the extensions:
// strings in quotes hold ASCII but CR, LF and NUL, and are short; literals hold
// anything but NUL.
func readSexp(b []byte) (v sexp, rest []byte, err error) {
	if len(b) == 0 {
		return v, b, errSyntax
	}
	switch c := b[0]; {
	case c == '(':
		return readList(b[1:])
	case c == '"':
		return readQuoted(b[1:])
	case c == '{':
		return readLiteral(b[1:])
	case c >= '0' && c <= '9':
		n := 0
		for n < len(b) && b[n] >= '0' && b[n] <= '9' {
			n++
		}
		_, err := strconv.ParseUint(string(b[:n]), 10, 32)
		return sexp{text: string(b[:n]), number: true}, b[n:], err
	case strings.HasPrefix(string(b[:min(3, len(b))]), "NIL"):
		return sexp{nil: true}, b[3:], nil
	}
	return v, b, fmt.Errorf("%w: %.20q", errSyntax, b)
}

func readList(b []byte) (v sexp, rest []byte, err error) {
	v.list = []sexp{}
	for {
		if len(b) == 0 {
			return v, b, errSyntax
		}
		if b[0] == ')' && len(v.list) > 0 {
			return v, b[1:], nil
		}
		if n := len(v.list); n > 0 && b[0] == ' ' {
			b = b[1:]
		} else if n > 0 && (v.list[n-1].list == nil || b[0] != '(') {
			return v, b, fmt.Errorf("%w: no space before %.20q", errSyntax, b)
		}
		var item sexp
		if item, b, err = readSexp(b); err != nil {
			return v, b, err
		}
		v.list = append(v.list, item)
	}
}

func readQuoted(b []byte) (v sexp, rest []byte, err error) {
	var s strings.Builder
	for i := 0; i < len(b) && i < 9000; i++ {
		switch c := b[i]; {
		case c == '"':
			v.text = s.String()
			return v, b[i+1:], nil
		case c == '\\':
			if i++; i == len(b) || b[i] != '"' && b[i] != '\\' {
				return v, b, errSyntax
			}
			s.WriteByte(b[i])
		case c == 0 || c == '\r' || c == '\n' || c >= 0x80:
			return v, b, fmt.Errorf("%w: octet %x in quotes", errSyntax, c)
		default:
			s.WriteByte(c)
		}
	}
	return v, b, errSyntax
}

func readLiteral(b []byte) (v sexp, rest []byte, err error) {
	size, after, ok := strings.Cut(string(b[:min(len(b), 20)]), "}\r\n")
	n, err := strconv.Atoi(size)
	at := len(size) + len("}\r\n")
	if !ok || err != nil || n < 0 || n > len(b)-at {
		return v, b, fmt.Errorf("%w: literal %q %q", errSyntax, size, after)
	}
	v.text = string(b[at : at+n])
	if strings.Contains(v.text, "\x00") {
		return v, b, errSyntax
	}
	return v, b[at+n:], nil
}

// readWhole reads a value that is all of b.
func readWhole(b []byte) (sexp, error) {
	v, rest, err := readSexp(b)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %.20q after the end", errSyntax, rest)
	}
	return v, err
}

// is tells whether a value may stand in a place: s for a string, n for a
// nstring, l for a list, o for a list or NIL, d for a number.
func (v sexp) is(kind byte) bool {
	text := v.list == nil && !v.number && !v.nil
	switch kind {
	case 's':
		return text
	case 'n':
		return text || v.nil
	case 'l':
		return v.list != nil
	case 'o':
		return v.list != nil || v.nil
	case 'd':
		return v.number
	}
	return false
}

// fit checks the values of a list against kinds.
func (v sexp) fit(kinds string) error {
	if v.list == nil || len(v.list) != len(kinds) {
		return fmt.Errorf("%w: %d values for %s", errSyntax, len(v.list), kinds)
	}
	for i := range kinds {
		if !v.list[i].is(kinds[i]) {
			return fmt.Errorf("%w: value %d of %s: %+v", errSyntax, i, kinds, v.list[i])
		}
	}
	return nil
}

// envelope makes of the wire form what envelopeText makes of an
// Envelope in which nothing defaults.
func (v sexp) envelope() (string, error) {
	if err := v.fit("nnoooooonn"); err != nil {
		return "", err
	}
	date := "NIL"
	if t, err := ParseDate(v.list[0].text); err == nil && !t.IsZero() {
		date = t.Format(time.RFC1123Z)
	}
	var env imap.Envelope
	for i, l := range []*[]imap.Address{&env.From, &env.Sender, &env.ReplyTo, &env.To, &env.Cc, &env.Bcc} {
		for _, a := range v.list[2+i].list {
			if err := a.fit("nnnn"); err != nil {
				return "", err
			}
			*l = append(*l, imap.Address{Name: a.list[0].text, Mailbox: a.list[2].text, Host: a.list[3].text})
		}
	}
	env.Subject = v.list[1].text
	env.InReplyTo = []string{strings.TrimSuffix(strings.TrimPrefix(v.list[8].text, "<"), ">")}
	env.MessageID = strings.TrimSuffix(strings.TrimPrefix(v.list[9].text, "<"), ">")
	text := envelopeText(&env)
	return strconv.Quote(date) + strings.TrimPrefix(text, `"NIL"`), nil
}

// structure makes of the wire form what structureText makes of a
// BodyStructure.
func (v sexp) structure() (string, error) {
	if len(v.list) < 3 {
		return "", fmt.Errorf("%w: body %+v", errSyntax, v)
	}
	n := 0
	s := "("
	for ; n < len(v.list) && v.list[n].list != nil; n++ {
		child, err := v.list[n].structure()
		if err != nil {
			return "", err
		}
		s += child
	}
	if n > 0 {
		rest := sexp{list: v.list[n:]}
		if err := rest.fit("sooon"); err != nil {
			return "", err
		}
		ps, err := rest.list[1].params()
		if err != nil {
			return "", err
		}
		tail, err := sexp{list: rest.list[2:]}.tail()
		return s + fmt.Sprintf(" %q %v", rest.list[0].text, ps) + tail, err
	}
	return v.single()
}

// single is structure of what is no multipart.
func (v sexp) single() (string, error) {
	kinds := "ssonnsd"
	isText := v.list[0].text == "text"
	isMessage := v.list[0].text == "message" && (v.list[1].text == "rfc822" || v.list[1].text == "global")
	switch {
	case isText:
		kinds += "d"
	case isMessage:
		kinds += "lld"
	}
	at := len(kinds)
	if err := v.fit(kinds + "noon"); err != nil {
		return "", err
	}
	ps, err := v.list[2].params()
	if err != nil {
		return "", err
	}
	s := fmt.Sprintf("(%q %q %q %q %q %q %s", v.list[0].text, v.list[1].text, ps, v.list[3].text, v.list[4].text, v.list[5].text, v.list[6].text)
	if isMessage {
		env, err := v.list[7].envelope()
		if err != nil {
			return "", err
		}
		inner, err := v.list[8].structure()
		if err != nil {
			return "", err
		}
		s += fmt.Sprintf(" [%s] %s %s", env, inner, v.list[9].text)
	}
	if isText {
		s += " " + v.list[7].text
	}
	if md5 := v.list[at]; !md5.nil {
		return "", fmt.Errorf("%w: MD5 %+v", errSyntax, md5)
	}
	tail, err := sexp{list: v.list[at+1:]}.tail()
	return s + tail, err
}

func (v sexp) params() (map[string]string, error) {
	if v.nil {
		return nil, nil
	}
	m := make(map[string]string)
	for i, p := range v.list {
		if !p.is('s') || len(v.list)%2 != 0 {
			return nil, fmt.Errorf("%w: parameters %+v", errSyntax, v)
		}
		if i%2 == 0 {
			if _, dup := m[p.text]; dup {
				return nil, fmt.Errorf("parameter %q twice", p.text)
			}
			m[p.text] = v.list[i+1].text
		}
	}
	return m, nil
}

// tail is of disposition, language and location.
func (v sexp) tail() (string, error) {
	var d *imap.BodyStructureDisposition
	if l := v.list[0]; !l.nil {
		if err := l.fit("so"); err != nil {
			return "", err
		}
		ps, err := l.list[1].params()
		if err != nil {
			return "", err
		}
		d = &imap.BodyStructureDisposition{Value: l.list[0].text, Params: ps}
	}
	var lang []string
	for _, t := range v.list[1].list {
		if !t.is('s') {
			return "", fmt.Errorf("%w: language %+v", errSyntax, t)
		}
		lang = append(lang, t.text)
	}
	return fmt.Sprintf(" %s %q %q)", dispositionText(d), lang, v.list[2].text), nil
}

// plain makes of a BODYSTRUCTURE in wire form the BODY that belongs to it.
func (v sexp) plain() string {
	n := 0
	s := "("
	for ; n < len(v.list) && v.list[n].list != nil; n++ {
		s += v.list[n].plain()
	}
	if n > 0 {
		return s + " " + v.list[n].wire() + ")"
	}
	keep := len(v.list) - len("noon")
	for i, item := range v.list[:keep] {
		if i > 0 {
			s += " "
		}
		if i == 8 { // of a message
			s += item.plain()
		} else {
			s += item.wire()
		}
	}
	return s + ")"
}

// wire is the value as it goes out.
func (v sexp) wire() string {
	switch {
	case v.nil:
		return "NIL"
	case v.number:
		return v.text
	case v.list == nil:
		return string(appendString(nil, v.text))
	}
	s := "("
	for i, item := range v.list {
		if i > 0 && (item.list == nil || v.list[0].list == nil) { // addresses stand close
			s += " "
		}
		s += item.wire()
	}
	return s + ")"
}
