package message

import (
	"io"
	"strconv"
)

// A Describer describes messages for the store, one after the other. It keeps
// its buffers for the next one: give each writer its own. The zero value is
// ready. Its work is linear in the size of a message; its memory is a window
// on the message, the parts, and what Stored may hold.
type Describer struct {
	window    []byte
	room      []Part
	notes     []note
	text      []byte // what notes point into
	full      bool   // text is at its limit: the structure will not be stored
	addresses addressParser
	out       [4][]byte // buffers of the present Stored
	stored    Stored
}

// maxRoom is how many parts a Describer keeps room for between messages.
const maxRoom = 64

// note is what a part's header says of it in a BODYSTRUCTURE: ranges of text.
type note struct {
	front    [2]int // from the type to the encoding; of a multipart, subtype and parameters
	tail     [2]int // the extension data after that
	envelope [2]int // of an embedded message
}

// Describe makes the record of the message of size octets in r. It is valid
// until the next call. The only errors are those of r, and io.ErrUnexpectedEOF
// where r is shorter.
func (d *Describer) Describe(r io.ReaderAt, size int64) (*Stored, error) {
	d.reset()
	defer clear(d.room)
	p := parser{lr: &lineReader{r: r, size: size}, d: d, room: d.room}
	p.lr.buf = d.window[:0:min(int64(cap(d.window)), max(size, 0))]
	x := p.index()
	if x.err != nil {
		return nil, x.err
	}
	s := &d.stored
	s.Size = size
	if !s.Headed && x.Root.Header.Len() == 0 {
		s.Headed = size == 0 || !isWSP(p.lr.bytes(Range{0, 1})[0])
	}
	if !d.full {
		d.out[1] = d.appendBody(d.out[1][:0], x.Root)
		if len(d.out[1]) <= maxStoredStructure {
			s.BodyStructure = d.out[1]
		}
	}
	d.out[2] = appendTable(d.out[2][:0], x.Root)
	if len(d.out[2]) <= maxStoredParts {
		s.parts = d.out[2]
	}
	return s, p.lr.err
}

func (d *Describer) reset() {
	if d.window == nil {
		d.window = make([]byte, 0, bodyBuffer)
		d.room = make([]Part, maxRoom)
	}
	d.notes = d.notes[:0]
	d.text = spare(d.text)
	for i := range d.out {
		d.out[i] = spare(d.out[i])
	}
	if a := &d.addresses; cap(a.list) > maxRoom || cap(a.outer.text) > maxRoom || cap(a.inner.text) > maxRoom {
		*a = addressParser{}
	}
	d.full = false
	d.stored = Stored{}
}

// spare empties a buffer to be used again, unless an unusual message made it
// large.
func spare(b []byte) []byte {
	if cap(b) > 2*maxStoredStructure {
		return nil
	}
	return b[:0]
}

// header takes note of the header of a part, whose type is known.
func (d *Describer) header(part *Part, h Header, f *fields, ps params, message bool) {
	root := len(d.notes) == 0
	if d.full && !root {
		return
	}
	var n note
	switch {
	case root:
		d.top(f, h)
	case message:
		n.envelope[0] = len(d.text)
		d.text = d.appendEnvelope(d.text, f, maxStoredStructure)
		n.envelope[1] = len(d.text)
	}
	if part.implied && part.Type == "text" {
		ps = params{{"charset", "us-ascii"}} // RFC 2045 section 5.2
	} else if part.opaque {
		ps = nil
	}
	n.front[0] = len(d.text)
	d.text = appendFront(d.text, part, ps, f)
	n.front[1] = len(d.text)
	d.text = appendTail(d.text, f)
	n.tail = [2]int{n.front[1], len(d.text)}
	d.notes = append(d.notes, n)
	part.note = len(d.notes)
	d.full = len(d.text) > maxStoredStructure
}

// top takes from the message's own header what is not structure.
func (d *Describer) top(f *fields, h Header) {
	s := &d.stored
	if d.out[0] = d.appendEnvelope(d.out[0][:0], f, maxStoredEnvelope); len(d.out[0]) <= maxStoredEnvelope {
		s.Envelope = d.out[0]
	}
	if f.have(idDate) {
		s.setSent(f.text(idDate))
	}
	s.MessageID = oneID(f.text(idMessageID))
	d.out[3] = appendReferences(d.out[3][:0], f.text(idReferences), f.text(idInReplyTo))
	s.refs = d.out[3]
	s.BaseSubject = BaseSubject(f.text(idSubject))
	s.Headed = len(h.raw) > 0 && h.Len()+MaxPrefix <= MaxHeader &&
		(nameLen(h.raw) > 0 || h.raw[0] == '\r' || h.raw[0] == '\n')
}

// appendFront appends what a body structure begins with (RFC 9051 section
// 7.5.2); of a multipart, what follows its parts.
func appendFront(dst []byte, part *Part, ps params, f *fields) []byte {
	if part.Type == "multipart" {
		dst = appendString(dst, part.Subtype)
		dst = append(dst, ' ')
		return appendParams(dst, ps)
	}
	dst = appendString(dst, part.Type)
	dst = append(dst, ' ')
	dst = appendString(dst, part.Subtype)
	dst = append(dst, ' ')
	dst = appendParams(dst, ps)
	dst = append(dst, ' ')
	dst = appendNString(dst, legible(f.text(idContentID)))
	dst = append(dst, ' ')
	dst = appendNString(dst, legible(f.text(idDescription)))
	dst = append(dst, ' ')
	return appendString(dst, part.Encoding)
}

// appendTail appends disposition, language and location.
func appendTail(dst []byte, f *fields) []byte {
	if !f.have(idDisposition) && !f.have(idLanguage) && !f.have(idLocation) {
		return append(dst, " NIL NIL NIL"...)
	}
	dst = append(dst, ' ')
	dst = appendDisposition(dst, f.text(idDisposition))
	dst = append(dst, ' ')
	dst = appendLanguages(dst, f.text(idLanguage))
	dst = append(dst, ' ')
	return appendNString(dst, legible(f.text(idLocation)))
}

// appendBody appends the structure of a part; where that becomes too long it
// stops somewhere.
func (d *Describer) appendBody(dst []byte, part *Part) []byte {
	front, tail, envelope := []byte(`"text" "plain" ("charset" "us-ascii") NIL NIL "7bit"`), []byte(" NIL NIL NIL"), []byte(plainEnvelope)
	if part.note > 0 {
		n := &d.notes[part.note-1]
		front, tail = d.text[n.front[0]:n.front[1]], d.text[n.tail[0]:n.tail[1]]
	}
	dst = append(dst, '(')
	if part.Type == "multipart" {
		for _, c := range part.Children {
			if dst = d.appendBody(dst, c); len(dst) > maxStoredStructure {
				return dst
			}
		}
		dst = append(dst, ' ')
		dst = append(dst, front...)
		dst = append(dst, tail...)
		return append(dst, ')')
	}
	dst = append(dst, front...)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, min(part.Body.Len(), maxNumber), 10)
	if m := part.Message; m != nil {
		if m.note > 0 {
			n := &d.notes[m.note-1]
			envelope = d.text[n.envelope[0]:n.envelope[1]]
		}
		dst = append(dst, ' ')
		dst = append(dst, envelope...)
		dst = append(dst, ' ')
		dst = d.appendBody(dst, m)
	}
	if part.Message != nil || part.Type == "text" {
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, part.Lines, 10)
	}
	dst = append(dst, " NIL"...) // MD5
	dst = append(dst, tail...)
	return append(dst, ')')
}

// maxNumber is the largest number that IMAP can say (RFC 9051 section 9).
const maxNumber = 1<<32 - 1
