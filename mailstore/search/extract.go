package search

import (
	"bytes"
	"io"
	"strings"

	"postrider/mailstore/message"
)

// Limits of what is searched in one message; what goes beyond is not found.
const (
	MaxText     = 16 << 20 // octets of text, decoded, of all parts together
	maxEmbedded = 4 << 20  // octets of headers of messages in the message
	maxNames    = 1000     // attachments whose name is looked at
)

// sink takes the strings that a message consists of for searching, folded.
type sink interface {
	// field takes a field of the message's own header.
	field(name, value string)
	// filename takes the name of an attachment.
	filename(name string)
	// begin, add and end take one string of the body: the text of a part, or a
	// header field of a message within the message, in pieces. begin says
	// whether it is wanted, add whether more of it is.
	begin() bool
	add(piece []byte) bool
	end()
}

// extractor reads messages; it is used for one after another.
type extractor struct {
	x     *message.Index
	out   sink
	left  int64 // of MaxText
	heads int64 // of maxEmbedded
	names int   // of maxNames
	fold  folder
	strip stripper
	raw   []byte
	plain []byte // HTML without markup
	text  []byte // folded
}

// textChunk is how much text is decoded at a time.
const textChunk = 8 << 10

// read hands the strings of a message to out: with body false only its own
// header fields. The error is that of r.
func (e *extractor) read(r io.ReaderAt, size int64, body bool, out sink) error {
	e.out, e.left, e.heads, e.names = out, MaxText, maxEmbedded, maxNames
	if e.raw == nil {
		e.raw = make([]byte, textChunk)
		e.fold.recent = new([recentRunes]foldedRune)
	}
	if body {
		e.x = message.Parse(r, size)
	} else {
		e.x = message.ParseTop(r, size)
	}
	defer func() { e.x, e.out = nil, nil }()
	if err := e.x.Err(); err != nil {
		return err
	}
	h, err := e.x.Header(e.x.Root)
	if err != nil {
		return err
	}
	for f := range h.Fields() {
		out.field(Fold(f.Name), foldValue(f))
	}
	if !body {
		return nil
	}
	e.name(h)
	return e.content(e.x.Root)
}

// foldValue folds a field body, its encoded words decoded.
func foldValue(f message.Field) string { return Fold(message.DecodeWords(f.Value())) }

// part reads a part of a multipart.
func (e *extractor) part(p *message.Part) error {
	if e.names > 0 {
		h, err := e.x.Header(p)
		if err != nil {
			return err
		}
		e.name(h)
	}
	return e.content(p)
}

func (e *extractor) name(h message.Header) {
	if name := h.Filename(); name != "" && e.names > 0 {
		e.names--
		e.out.filename(Fold(name))
	}
}

func (e *extractor) content(p *message.Part) error {
	switch {
	case p.Type == "text":
		if e.left > 0 && e.out.begin() {
			defer e.out.end()
			return e.body(p)
		}
		return nil
	case p.Message != nil:
		if err := e.embedded(p.Message); err != nil {
			return err
		}
		return e.content(p.Message)
	}
	for _, child := range p.Children {
		if err := e.part(child); err != nil {
			return err
		}
	}
	return nil
}

// embedded reads the header of a message within the message.
func (e *extractor) embedded(p *message.Part) error {
	if e.heads -= p.Header.Len(); e.heads < 0 {
		return nil
	}
	h, err := e.x.Header(p)
	if err != nil {
		return err
	}
	for f := range h.Fields() {
		if e.out.begin() {
			e.out.add([]byte(Fold(f.Name) + ": " + foldValue(f)))
			e.out.end()
		}
	}
	e.name(h)
	return nil
}

// body reads the text of a part.
func (e *extractor) body(p *message.Part) error {
	r := e.x.Text(p)
	markup := p.Subtype == "html"
	e.fold.reset()
	e.strip.reset()
	for {
		n, err := r.Read(e.raw[:min(textChunk, e.left)])
		e.left -= int64(n)
		last := err != nil || e.left == 0
		plain := e.raw[:n]
		if markup {
			e.plain = e.strip.append(e.plain[:0], plain, last)
			plain = e.plain
		}
		e.text = e.fold.append(e.text[:0], plain, last)
		more := e.out.add(e.text)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case last || !more:
			return nil
		}
	}
}

// Field says where in a message a text is looked for.
type Field int

const (
	Subject Field = iota // the header fields of that name
	From
	To
	Cc
	Bcc
	Header // the header fields of a name that is given
	Body   // the text of the parts, and messages within the message
	Text   // everything: the header fields, names included, the body, names of attachments
)

// headerNames are the folded names of Subject to Bcc.
var headerNames = [...]string{"SUBJECT", "FROM", "TO", "CC", "BCC"}

// Key is one thing to look for in a message: text that is part of a field,
// compared as Fold has it.
type Key struct {
	field Field
	name  string // of Header
	text  string
	fuzzy bool // text has no diacritics, and those of messages make no difference
}

// NewKey makes a key; name is that of a header field, for Header alone. An
// empty text is in every field that there is.
func NewKey(field Field, name, text string) Key {
	k := Key{field: field, name: Fold(name), text: Fold(text)}
	if field != Header {
		k.name = ""
	}
	for f, n := range headerNames {
		if field == Header && k.name == n {
			k.field, k.name = Field(f), ""
		}
	}
	return k
}

// InBody tells whether more than the header of a message may have to be read to
// find the key.
func (k Key) InBody() bool { return k.field >= Body }

// Match tells which keys are in the message of size octets in r. It is what
// the index stands for: slow, and always right. The error is that of r.
func Match(r io.ReaderAt, size int64, keys []Key) ([]bool, error) {
	m := matcher{keys: keys, found: make([]bool, len(keys))}
	body := false
	for i, k := range keys {
		body = body || k.InBody()
		m.found[i] = k.field >= Body && k.text == ""
		m.longest = max(m.longest, len(k.text))
		m.fuzzy = m.fuzzy || k.fuzzy
	}
	var e extractor
	err := e.read(r, size, body, &m)
	return m.found, err
}

// matcher looks for keys.
type matcher struct {
	keys    []Key
	found   []bool
	fuzzy   bool   // some keys are
	longest int    // text among keys
	window  []byte // the end of the string in hand
	bare    []byte // the same without diacritics, for fuzzy keys
}

// bareOf is a text without diacritics, where a key asks for that.
func (m *matcher) bareOf(s string) string {
	if !m.fuzzy {
		return s
	}
	return string(plain(nil, []byte(s)))
}

// in tells whether a key is in a text, which comes with and without diacritics.
func (k *Key) in(text, bare string) bool {
	if k.fuzzy {
		text = bare
	}
	return strings.Contains(text, k.text)
}

func (m *matcher) field(name, value string) {
	bare := m.bareOf(value)
	for i := range m.keys {
		k := &m.keys[i]
		switch {
		case m.found[i] || k.field == Body:
		case k.field == Text:
			m.found[i] = k.in(name+": "+value, m.bareOf(name)+": "+bare)
		case k.field == Header && k.name == name, k.field < Header && headerNames[k.field] == name:
			m.found[i] = k.in(value, bare)
		}
	}
}

func (m *matcher) filename(name string) {
	bare := m.bareOf(name)
	for i := range m.keys {
		if k := &m.keys[i]; k.field == Text && !m.found[i] {
			m.found[i] = k.in(name, bare)
		}
	}
}

// wanted tells whether the body may hold a key that was not found yet.
func (m *matcher) wanted() bool {
	for i, k := range m.keys {
		if k.field >= Body && !m.found[i] {
			return true
		}
	}
	return false
}

func (m *matcher) begin() bool {
	m.window, m.bare = m.window[:0], m.bare[:0]
	return m.wanted()
}

func (m *matcher) add(piece []byte) bool {
	m.window = append(m.window, piece...)
	if m.fuzzy {
		m.bare = plain(m.bare, piece)
	}
	for i, k := range m.keys {
		if k.field >= Body && !m.found[i] {
			window := m.window
			if k.fuzzy {
				window = m.bare
			}
			m.found[i] = bytes.Contains(window, []byte(k.text))
		}
	}
	m.window, m.bare = m.tail(m.window), m.tail(m.bare)
	return m.wanted()
}

// tail leaves the end of a window, in which a key may have begun.
func (m *matcher) tail(window []byte) []byte {
	if keep := max(m.longest-1, 0); len(window) > keep {
		return append(window[:0], window[len(window)-keep:]...)
	}
	return window
}

func (m *matcher) end() {}
