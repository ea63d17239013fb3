package message

import (
	"bytes"
	"io"
	"iter"
	"strings"
)

// MaxHeader bounds one header section; what goes beyond it is body.
const MaxHeader = 1 << 20

// Range is a half-open range of octets of the message.
type Range struct{ Start, End int64 }

// Len is the number of octets in the range.
func (r Range) Len() int64 { return r.End - r.Start }

// Header is one header section, in memory, as it stands in the message.
type Header struct {
	Range        // with the empty line that ends it, where there is one
	raw   []byte // the octets of Range
}

// ReadHeader reads the header section at the start of a message. The error is
// that of r; the header is then what could be read.
func ReadHeader(r io.ReaderAt, size int64) (Header, error) {
	p := parser{lr: newLineReader(r, size, 0, headerBuffer)}
	var part Part
	p.header(&part)
	h := p.read(part.Header)
	return h, p.lr.err
}

// ParseHeader finds the header section at the start of b, which it shares.
func ParseHeader(b []byte) Header {
	h, _ := ReadHeader(bytes.NewReader(b), int64(len(b))) // cannot fail
	h.raw = b[h.Start:h.End]
	return h
}

// Bytes are the octets of the header section; the caller must not change them.
func (h Header) Bytes() []byte { return h.raw }

// Field is one header field as it stands in the message.
type Field struct {
	Name   string // as written
	Offset int64  // of Raw in the message
	Raw    []byte // name, value and continuation lines with their terminators
	value  []byte
}

// Value is the field body, unfolded (RFC 5322 section 2.2.3), without NUL and
// surrounding space. Encoded words and 8-bit octets are left as they are.
func (f Field) Value() string { return unfold(f.value) }

// Fields iterates over the fields in order.
func (h Header) Fields() iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for b := h.raw; len(b) > 0; {
			offset := h.Start + int64(len(h.raw)-len(b))
			var f rawField
			f, b = nextField(b)
			if f.name > 0 && !yield(Field{Name: string(f.raw[:f.name]), Offset: offset, Raw: f.raw, value: f.value()}) {
				return
			}
		}
	}
}

// Get returns the value of the first field of that name.
func (h Header) Get(name string) (string, bool) {
	for f := range h.Fields() {
		if strings.EqualFold(f.Name, name) {
			return f.Value(), true
		}
	}
	return "", false
}

// Count is the number of fields of that name.
func (h Header) Count(name string) int {
	n := 0
	for f := range h.Fields() {
		if strings.EqualFold(f.Name, name) {
			n++
		}
	}
	return n
}

// Select returns the fields whose name is (not: is not) among names and the
// empty line, as BODY[HEADER.FIELDS] wants them (RFC 9051 section 6.4.5.1).
func (h Header) Select(names []string, not bool) []byte {
	want := make(map[string]bool, len(names))
	for _, n := range names {
		want[strings.ToLower(n)] = true
	}
	var out []byte
	for f := range h.Fields() {
		if want[strings.ToLower(f.Name)] != not {
			out = append(out, f.Raw...)
		}
	}
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, "\r\n"...)
	}
	return append(out, "\r\n"...)
}

// fieldLen is the length of the field at the start of b: its first line and
// the continuation lines after it.
func fieldLen(b []byte) int {
	n := 0
	for {
		i := bytes.IndexByte(b[n:], '\n')
		if i < 0 {
			return len(b)
		}
		n += i + 1
		if n == len(b) || !isWSP(b[n]) {
			return n
		}
	}
}

// rawField is a field as nextField finds it.
type rawField struct {
	raw  []byte
	name int // octets of the name; 0 for the empty line at the end and for an mbox "From " line
}

// nextField takes the field at the start of b, which is not empty.
func nextField(b []byte) (f rawField, rest []byte) {
	n := fieldLen(b)
	return rawField{raw: b[:n], name: nameLen(b[:n])}, b[n:]
}

func (f rawField) value() []byte { return f.raw[bytes.IndexByte(f.raw, ':')+1:] }

// fieldID is a field that the index knows.
type fieldID uint8

const (
	idOther fieldID = iota
	idDate
	idSubject
	idFrom
	idSender
	idReplyTo
	idTo
	idCc
	idBcc
	idInReplyTo
	idMessageID
	idReferences
	idContentType
	idEncoding
	idContentID
	idDescription
	idDisposition
	idLanguage
	idLocation
	fieldIDs
)

// maxKnownName is the length of the longest name that id knows.
const maxKnownName = len("content-transfer-encoding")

// id tells what the field is.
func (f rawField) id() fieldID {
	var lower [maxKnownName]byte
	if f.name < 2 || f.name > maxKnownName {
		return idOther
	}
	for i, c := range f.raw[:f.name] {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	switch string(lower[:f.name]) {
	case "date":
		return idDate
	case "subject":
		return idSubject
	case "from":
		return idFrom
	case "sender":
		return idSender
	case "reply-to":
		return idReplyTo
	case "to":
		return idTo
	case "cc":
		return idCc
	case "bcc":
		return idBcc
	case "in-reply-to":
		return idInReplyTo
	case "message-id":
		return idMessageID
	case "references":
		return idReferences
	case "content-type":
		return idContentType
	case "content-transfer-encoding":
		return idEncoding
	case "content-id":
		return idContentID
	case "content-description":
		return idDescription
	case "content-disposition":
		return idDisposition
	case "content-language":
		return idLanguage
	case "content-location":
		return idLocation
	}
	return idOther
}

// fields are the first of each known field of a header.
type fields struct {
	value [fieldIDs][]byte
	set   uint32
}

func (f *fields) read(h Header) {
	f.set = 0
	for b := h.raw; len(b) > 0; {
		var raw rawField
		raw, b = nextField(b)
		if id := raw.id(); id != idOther && !f.have(id) {
			f.set |= 1 << id
			f.value[id] = raw.value()
		}
	}
}

func (f *fields) have(id fieldID) bool { return f.set&(1<<id) != 0 }

// text is the value of the field; "" where it is missing.
func (f *fields) text(id fieldID) string {
	if !f.have(id) {
		return ""
	}
	return unfold(f.value[id])
}

// nameLen is the length of the field name at the start of a line, 0 if the
// line does not begin a field. Space before the colon is the obsolete syntax
// of RFC 5322 section 4.5.
func nameLen(b []byte) int {
	b = b[:min(len(b), headWindow)] // what is seen of every line, however long
	n := 0
	for n < len(b) && b[n] > ' ' && b[n] < 0x7f && b[n] != ':' {
		n++
	}
	for i := n; i < len(b); i++ {
		switch {
		case b[i] == ':':
			return n
		case !isWSP(b[i]):
			return 0
		}
	}
	return 0
}

func isWSP(c byte) bool { return c == ' ' || c == '\t' }

func isMboxFrom(b []byte) bool {
	return bytes.HasPrefix(b, []byte("From ")) || bytes.HasPrefix(b, []byte(">From "))
}

// unfold removes line ends and NUL and trims space.
func unfold(b []byte) string {
	for len(b) > 0 && (isWSP(b[0]) || isUnfolded(b[0])) {
		b = b[1:]
	}
	for len(b) > 0 && (isWSP(b[len(b)-1]) || isUnfolded(b[len(b)-1])) {
		b = b[:len(b)-1]
	}
	n := 0
	for _, c := range b {
		if isUnfolded(c) {
			n++
		}
	}
	if n == 0 {
		return string(b)
	}
	var s strings.Builder
	s.Grow(len(b) - n)
	for _, c := range b {
		if !isUnfolded(c) {
			s.WriteByte(c)
		}
	}
	return s.String()
}

func isUnfolded(c byte) bool { return c == '\r' || c == '\n' || c == 0 }
