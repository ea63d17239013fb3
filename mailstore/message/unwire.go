package message

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/emersion/go-imap/v2"
)

// ReadEnvelope takes an ENVELOPE apart that Stored holds. Subject and names
// have their encoded words; what defaults to From is filled in. The error wraps
// ErrRecord.
func ReadEnvelope(wire []byte) (*imap.Envelope, error) {
	r := wireReader{b: wire}
	env := r.envelope()
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: ENVELOPE of %d octets", ErrRecord, len(wire))
	}
	return env, nil
}

// ReadBodyStructure takes a BODYSTRUCTURE apart that Stored holds. The error
// wraps ErrRecord.
func ReadBodyStructure(wire []byte) (imap.BodyStructure, error) {
	r := wireReader{b: wire}
	bs := r.structure(0)
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: BODYSTRUCTURE of %d octets", ErrRecord, len(wire))
	}
	return bs, nil
}

func (r *wireReader) fail() { r.bad, r.b = true, nil }

func (r *wireReader) expect(c byte) {
	if !r.take(c) {
		r.fail()
	}
}

// nextList tells whether the next value is a list.
func (r *wireReader) nextList() bool { return len(r.b) > 0 && r.b[0] == '(' }

// string reads a string; NIL is "".
func (r *wireReader) string() string {
	switch {
	case len(r.b) == 0:
		r.fail()
		return ""
	case r.b[0] == '"':
		n := valueLen(r.b)
		v := r.b[:n]
		r.b = r.b[n:]
		if n < 2 || v[n-1] != '"' {
			r.fail()
			return ""
		}
		return unquote(v[1 : n-1])
	case r.b[0] == '{':
		n := valueLen(r.b)
		v := r.b[:n]
		r.b = r.b[n:]
		_, text, ok := bytes.Cut(v, []byte("}\r\n"))
		if !ok {
			r.fail()
		}
		return string(text)
	case bytes.HasPrefix(r.b, []byte("NIL")):
		r.b = r.b[3:]
		return ""
	}
	r.fail()
	return ""
}

// unquote removes the backslashes before quotes and backslashes.
func unquote(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) {
			i++
		}
		out = append(out, b[i])
	}
	return string(out)
}

func (r *wireReader) number() int64 {
	n := 0
	for n < len(r.b) && r.b[n] >= '0' && r.b[n] <= '9' {
		n++
	}
	v, err := strconv.ParseInt(string(r.b[:n]), 10, 64)
	if err != nil {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// spaced reads a string that comes after a space.
func (r *wireReader) spaced() string {
	r.expect(' ')
	return r.string()
}

func (r *wireReader) envelope() *imap.Envelope {
	var env imap.Envelope
	r.expect('(')
	env.Date, _ = ParseDate(r.string()) // zero where it is none
	env.Subject = r.spaced()
	for _, l := range [...]*[]imap.Address{&env.From, &env.Sender, &env.ReplyTo, &env.To, &env.Cc, &env.Bcc} {
		r.expect(' ')
		*l = r.addresses()
	}
	if id := messageIDs(r.spaced()); id != "" {
		env.InReplyTo = []string{id}
	}
	env.MessageID = messageIDs(r.spaced())
	r.expect(')')
	return &env
}

func (r *wireReader) addresses() []imap.Address {
	if !r.nextList() {
		r.string()
		return nil
	}
	r.expect('(')
	var l []imap.Address
	for r.take('(') {
		a := imap.Address{Name: r.string()}
		r.spaced() // the route
		a.Mailbox = r.spaced()
		a.Host = r.spaced()
		r.expect(')')
		l = append(l, a)
	}
	r.expect(')')
	return l
}

func (r *wireReader) structure(depth int) imap.BodyStructure {
	if depth > maxTableDepth {
		r.fail()
	}
	r.expect('(')
	if !r.nextList() {
		return r.singlePart(depth)
	}
	var m imap.BodyStructureMultiPart
	for r.nextList() {
		m.Children = append(m.Children, r.structure(depth+1))
	}
	m.Subtype = r.spaced()
	r.expect(' ')
	m.Extended = &imap.BodyStructureMultiPartExt{Params: r.params()}
	m.Extended.Disposition, m.Extended.Language, m.Extended.Location = r.tail()
	r.expect(')')
	return &m
}

func (r *wireReader) singlePart(depth int) imap.BodyStructure {
	var s imap.BodyStructureSinglePart
	s.Type = r.string()
	s.Subtype = r.spaced()
	r.expect(' ')
	s.Params = r.params()
	s.ID = r.spaced()
	s.Description = r.spaced()
	s.Encoding = r.spaced()
	r.expect(' ')
	s.Size = uint32(min(r.number(), maxNumber))
	switch {
	case s.Type == "text":
		r.expect(' ')
		s.Text = &imap.BodyStructureText{NumLines: r.number()}
	case isMessage(&Part{Type: s.Type, Subtype: s.Subtype}):
		s.MessageRFC822 = new(imap.BodyStructureMessageRFC822)
		r.expect(' ')
		s.MessageRFC822.Envelope = r.envelope()
		r.expect(' ')
		s.MessageRFC822.BodyStructure = r.structure(depth + 1)
		r.expect(' ')
		s.MessageRFC822.NumLines = r.number()
	}
	r.spaced() // MD5
	s.Extended = new(imap.BodyStructureSinglePartExt)
	s.Extended.Disposition, s.Extended.Language, s.Extended.Location = r.tail()
	r.expect(')')
	return &s
}

func (r *wireReader) params() map[string]string {
	if !r.nextList() {
		r.string()
		return nil
	}
	r.expect('(')
	m := make(map[string]string)
	for more := true; more && !r.bad; more = r.take(' ') {
		name := r.string()
		m[name] = r.spaced()
	}
	r.expect(')')
	return m
}

// tail reads disposition, language and location.
func (r *wireReader) tail() (d *imap.BodyStructureDisposition, languages []string, location string) {
	r.expect(' ')
	if r.nextList() {
		r.expect('(')
		d = &imap.BodyStructureDisposition{Value: r.string()}
		r.expect(' ')
		d.Params = r.params()
		r.expect(')')
	} else {
		r.string()
	}
	r.expect(' ')
	if r.nextList() {
		r.expect('(')
		for more := true; more && !r.bad; more = r.take(' ') {
			languages = append(languages, r.string())
		}
		r.expect(')')
	} else {
		r.string()
	}
	return d, languages, r.spaced()
}
