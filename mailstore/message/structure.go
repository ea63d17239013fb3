package message

import (
	"math"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// Envelope is the ENVELOPE of the message.
func (x *Index) Envelope() (*imap.Envelope, error) {
	h, err := x.Header(x.Root)
	if err != nil {
		return nil, err
	}
	return h.Envelope(), nil
}

// BodyStructure is the BODYSTRUCTURE of the message, with the extension data.
// Parameters are given as written, RFC 2231 names included, as RFC 9051
// section 7.5.2 has them. The error is that of reading the message.
func (x *Index) BodyStructure() (imap.BodyStructure, error) {
	if x.err != nil {
		return nil, x.err
	}
	b := &budget{header: maxStructureHeader, params: maxStructureParams, addresses: maxStructureAddresses}
	return x.structure(x.Root, b)
}

// budget is what is left to say in one BODYSTRUCTURE.
type budget struct {
	header            int64
	params, addresses int
}

// read returns a part's header, or an empty one when the budget is spent.
func (b *budget) read(x *Index, p *Part) (Header, error) {
	if b.header -= p.Header.Len(); b.header < 0 {
		return Header{Range: Range{p.Header.Start, p.Header.Start}}, nil
	}
	return x.Header(p)
}

// table has each parameter once, by its name as written; the first wins.
func (b *budget) table(ps params) map[string]string {
	if len(ps) == 0 || b.params < len(ps) {
		return nil
	}
	b.params -= len(ps)
	m := make(map[string]string, len(ps))
	for _, p := range ps {
		if _, dup := m[p.name]; !dup {
			m[p.name] = legible(p.value)
		}
	}
	return m
}

func (b *budget) envelope(h Header) *imap.Envelope {
	env := h.envelope(b.addresses)
	for _, l := range [][]imap.Address{env.From, env.Sender, env.ReplyTo, env.To, env.Cc, env.Bcc} {
		b.addresses -= len(l)
	}
	b.addresses = max(b.addresses, 0)
	return env
}

// content is what a part's header says beside its type and encoding.
type content struct {
	params      map[string]string
	id          string
	description string
	disposition *imap.BodyStructureDisposition
	language    []string
	location    string
}

func (x *Index) content(p *Part, b *budget) (content, error) {
	var c content
	h, err := b.read(x, p)
	if err != nil {
		return c, err
	}
	seen := make(map[string]bool)
	for f := range h.Fields() {
		name := strings.ToLower(f.Name)
		if !strings.HasPrefix(name, "content-") || seen[name] {
			continue
		}
		seen[name] = true
		v := f.Value()
		switch name {
		case "content-type":
			_, _, ps := parseMediaType(v, nil)
			c.params = b.table(ps)
		case "content-id":
			c.id = legible(v)
		case "content-description":
			c.description = legible(v)
		case "content-location":
			c.location = legible(v)
		case "content-disposition":
			if d, ps := parseDisposition(v); d != "" {
				c.disposition = &imap.BodyStructureDisposition{Value: d, Params: b.table(ps)}
			}
		case "content-language":
			c.language = languages(v)
		}
	}
	return c, nil
}

// languages reads a Content-Language field (RFC 3282).
func languages(v string) []string {
	s := &scanner{s: v[:min(len(v), maxParamBytes)]}
	var l []string
	for !s.end() && len(l) < maxParams {
		if t := s.token(); t != "" {
			l = append(l, legible(t))
		}
		for !s.end() && s.s[s.i] != ',' {
			s.i++
		}
		s.take(',')
	}
	return l
}

func (x *Index) structure(p *Part, b *budget) (imap.BodyStructure, error) {
	c, err := x.content(p, b)
	if err != nil {
		return nil, err
	}
	if p.Type == "multipart" {
		m := &imap.BodyStructureMultiPart{
			Subtype: p.Subtype,
			Extended: &imap.BodyStructureMultiPartExt{
				Params:      c.params,
				Disposition: c.disposition,
				Language:    c.language,
				Location:    c.location,
			},
		}
		for _, child := range p.Children {
			s, err := x.structure(child, b)
			if err != nil {
				return nil, err
			}
			m.Children = append(m.Children, s)
		}
		return m, nil
	}
	return x.single(p, c, b)
}

func (x *Index) single(p *Part, c content, b *budget) (imap.BodyStructure, error) {
	s := &imap.BodyStructureSinglePart{
		Type:        p.Type,
		Subtype:     p.Subtype,
		Params:      c.params,
		ID:          c.id,
		Description: c.description,
		Encoding:    p.Encoding,
		Size:        uint32(min(p.Body.Len(), math.MaxUint32)),
		Extended: &imap.BodyStructureSinglePartExt{
			Disposition: c.disposition,
			Language:    c.language,
			Location:    c.location,
		},
	}
	if p.opaque {
		s.Params = nil
	}
	if p.implied && p.Type == "text" {
		s.Params = map[string]string{"charset": "us-ascii"} // RFC 2045 section 5.2
	}
	switch {
	case p.Type == "text":
		s.Text = &imap.BodyStructureText{NumLines: p.Lines}
	case p.Message != nil:
		h, err := b.read(x, p.Message)
		if err != nil {
			return nil, err
		}
		inner, err := x.structure(p.Message, b)
		if err != nil {
			return nil, err
		}
		s.MessageRFC822 = &imap.BodyStructureMessageRFC822{
			Envelope:      b.envelope(h),
			BodyStructure: inner,
			NumLines:      p.Lines,
		}
	}
	return s, nil
}
