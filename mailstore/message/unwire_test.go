package message

import (
	"fmt"
	"strconv"

	"github.com/emersion/go-imap/v2"
)

// readBodyStructure takes a BODYSTRUCTURE apart that Stored holds. The error
// wraps ErrRecord.
func readBodyStructure(wire []byte) (imap.BodyStructure, error) {
	r := wireReader{b: wire}
	bs := r.structure(0)
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: BODYSTRUCTURE of %d octets", ErrRecord, len(wire))
	}
	return bs, nil
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
