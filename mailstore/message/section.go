package message

import (
	"bytes"
	"io"

	"github.com/emersion/go-imap/v2"
)

// Find returns the part with an IMAP part number (RFC 9051 section 6.4.5.1),
// nil if there is none. No number at all is the message.
func (x *Index) Find(number []int) *Part {
	var p *Part
	container := x.Root
	for i, n := range number {
		if i > 0 {
			switch {
			case p.Type == "multipart":
				container = p
			case p.Message != nil:
				container = p.Message
			default:
				return nil
			}
		}
		switch {
		case container.Type == "multipart":
			if n < 1 || n > len(container.Children) {
				return nil
			}
			p = container.Children[n-1]
		case n == 1 && p != container:
			p = container
		default:
			return nil
		}
	}
	if p == nil {
		return x.Root
	}
	return p
}

// Section returns the octets of BODY[section], the partial range applied. A
// section that the message does not have is empty.
func (x *Index) Section(s *imap.FetchItemBodySection) (*io.SectionReader, error) {
	b, err := x.section(s)
	if err != nil {
		return nil, err
	}
	return cut(b, s.Partial), nil
}

func (x *Index) section(s *imap.FetchItemBodySection) (*io.SectionReader, error) {
	p := x.Find(s.Part)
	top := len(s.Part) == 0
	switch {
	case p == nil:
		return inMemory(nil), nil
	case s.Specifier == imap.PartSpecifierNone && top:
		return x.at(Range{0, x.size}), nil
	case s.Specifier == imap.PartSpecifierNone:
		return x.at(p.Body), nil
	case s.Specifier == imap.PartSpecifierMIME:
		return x.at(p.Header), nil
	case !top && p.Message == nil: // HEADER and TEXT are of messages
		return inMemory(nil), nil
	case !top:
		p = p.Message
	}
	if s.Specifier == imap.PartSpecifierText {
		return x.at(p.Body), nil
	}
	if len(s.HeaderFields) == 0 && len(s.HeaderFieldsNot) == 0 {
		return x.at(p.Header), nil
	}
	h, err := x.Header(p)
	if err != nil {
		return nil, err
	}
	if len(s.HeaderFields) > 0 {
		return inMemory(h.Select(s.HeaderFields, false)), nil
	}
	return inMemory(h.Select(s.HeaderFieldsNot, true)), nil
}

func (x *Index) at(r Range) *io.SectionReader {
	return io.NewSectionReader(x.r, r.Start, r.Len())
}

func inMemory(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

// cut applies <offset.size> (RFC 9051 section 6.4.5).
func cut(r *io.SectionReader, p *imap.SectionPartial) *io.SectionReader {
	if p == nil {
		return r
	}
	start := min(max(p.Offset, 0), r.Size())
	return io.NewSectionReader(r, start, min(max(p.Size, 0), r.Size()-start))
}

// Binary returns the octets of a part with its content transfer encoding
// removed (RFC 9051 section 6.4.5.1, BINARY). ok is false where the encoding is
// unknown. The message itself, multiparts and embedded messages come as they are.
func (x *Index) Binary(number []int) (r io.Reader, ok bool) {
	p := x.Find(number)
	switch {
	case p == nil:
		return bytes.NewReader(nil), true
	case len(number) == 0:
		return x.at(Range{0, x.size}), true
	case p.Type == "multipart" || p.Message != nil:
		return x.at(p.Body), true
	}
	return x.decoded(p)
}
