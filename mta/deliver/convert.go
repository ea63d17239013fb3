package deliver

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"postrider/mailstore/message"
)

// errKeep says that a message cannot go as 7-bit text without damage; its text
// tells why.
type errKeep struct{ why string }

func (e *errKeep) Error() string { return e.why }

// conversion turns 8-bit content into 7-bit content (RFC 6152 section 3): the
// bodies of single parts become quoted-printable, each with the header field
// that says so. What a signature covers, encrypted parts and embedded messages
// are left alone, and if one of them has 8-bit octets there is no conversion.
type conversion struct {
	m     *content // what is converted
	x     *message.Index
	edits []edit // in order, not overlapping
}

// edit replaces a range of the content.
type edit struct {
	message.Range
	with   string // in its place
	encode bool   // its place keeps its text, as quoted-printable
}

// convert plans the conversion of m. The error is an *errKeep or one of the
// store's.
func convert(m *content) (*conversion, error) {
	c := &conversion{m: m, x: message.Parse(m.from, m.size)}
	if err := c.x.Err(); err != nil {
		return nil, err
	}
	return c, c.part(c.x.Root, true, false)
}

// part plans for one part and those in it. A sealed one may not be changed.
func (c *conversion) part(p *message.Part, root, sealed bool) error {
	header, err := c.look(p.Header)
	switch {
	case err != nil:
		return err
	case header.wide:
		return &errKeep{"a header has 8-bit text"}
	case p.Type == "multipart":
		return c.multipart(p, sealed || p.Subtype == "signed" || p.Subtype == "encrypted")
	}
	body, err := c.look(p.Body)
	switch {
	case err != nil || !body.wide:
		return err
	case sealed:
		return &errKeep{"a signed or encrypted part has 8-bit text"}
	}
	return c.leaf(p, body, root)
}

// multipart plans for the parts of one, and corrects its label (RFC 2045
// section 6.4).
func (c *conversion) multipart(p *message.Part, sealed bool) error {
	if !sealed && (p.Encoding == "8bit" || p.Encoding == "binary") {
		h, err := c.x.Header(p)
		if err != nil {
			return err
		}
		c.edits = append(c.edits, encodingFields(h, "7bit")...)
	}
	at := p.Body.Start
	for _, child := range p.Children {
		if err := c.between(at, child.Header.Start); err != nil {
			return err
		}
		if err := c.part(child, false, sealed); err != nil {
			return err
		}
		at = child.Body.End
	}
	return c.between(at, p.Body.End)
}

// between looks at what stands around the parts of a multipart.
func (c *conversion) between(from, to int64) error {
	l, err := c.look(message.Range{Start: from, End: to})
	if err == nil && l.wide {
		err = &errKeep{"the text around its parts is 8-bit"}
	}
	return err
}

// leaf plans for a single part whose body has 8-bit octets.
func (c *conversion) leaf(p *message.Part, body look, root bool) error {
	h, err := c.x.Header(p)
	if err != nil {
		return err
	}
	contentType, typed := h.Get("Content-Type")
	claimed, _, _ := strings.Cut(strings.ToLower(contentType), "/")
	claimed = strings.TrimSpace(claimed)
	switch {
	case p.Type == "message" || claimed == "message" || p.Message != nil:
		return &errKeep{"an embedded message has 8-bit text"}
	case claimed == "multipart":
		return &errKeep{"its parts are too many or too deep to be converted"}
	case p.Encoding != "7bit" && p.Encoding != "8bit" && p.Encoding != "binary":
		return &errKeep{"a part has 8-bit text within its encoding " + quoteEncoding(p.Encoding)}
	case h.Len() == 0 && !root:
		return &errKeep{"a part without a header has 8-bit text"}
	}
	fields := encodingFields(h, "quoted-printable")
	var add strings.Builder
	if root {
		if h.Count("MIME-Version") == 0 {
			add.WriteString("MIME-Version: 1.0\r\n")
		}
		if !typed {
			fmt.Fprintf(&add, "Content-Type: text/plain; charset=%s\r\n", body.charset())
		}
	}
	if len(fields) == 0 {
		add.WriteString("Content-Transfer-Encoding: quoted-printable\r\n")
	}
	end, complete := headerEndOf(h)
	if !complete {
		add.WriteString("\r\n")
	}
	if add.Len() > 0 {
		fields = append(fields, edit{Range: message.Range{Start: end, End: end}, with: add.String()})
	}
	c.edits = append(c.edits, fields...)
	c.edits = append(c.edits, edit{Range: p.Body, encode: true})
	return nil
}

func quoteEncoding(s string) string { return fmt.Sprintf("%.40q", s) }

// encodingFields replaces the first Content-Transfer-Encoding field of a header
// and removes others.
func encodingFields(h message.Header, encoding string) []edit {
	var list []edit
	for f := range h.Fields() {
		if !strings.EqualFold(f.Name, "Content-Transfer-Encoding") {
			continue
		}
		e := edit{Range: message.Range{Start: f.Offset, End: f.Offset + int64(len(f.Raw))}}
		if len(list) == 0 {
			e.with = "Content-Transfer-Encoding: " + encoding + "\r\n"
		}
		list = append(list, e)
	}
	return list
}

// headerEndOf is where fields can be added; complete tells that the empty line
// is there.
func headerEndOf(h message.Header) (at int64, complete bool) {
	b := string(h.Bytes())
	for _, blank := range []string{"\r\n", "\n"} {
		rest, ok := strings.CutSuffix(b, blank)
		if ok && (rest == "" || strings.HasSuffix(rest, "\n")) {
			return h.Start + int64(len(rest)), true
		}
	}
	return h.End, false
}

// look is what a range of the content has.
type look struct{ wide, notUTF8 bool }

func (l look) charset() string {
	if l.notUTF8 {
		return "unknown-8bit" // RFC 1428
	}
	return "utf-8"
}

func (c *conversion) look(r message.Range) (l look, err error) {
	var tail []byte // the beginning of a character that spans blocks
	err = c.m.eachOf(r, func(b []byte) error {
		if len(tail) == 0 && !isWide(b) {
			return nil
		}
		l.wide = true
		text := append(tail, b...)
		n := wholeRunes(text)
		l.notUTF8 = l.notUTF8 || !utf8.Valid(text[:n])
		tail = append([]byte(nil), text[n:]...)
		return nil
	})
	l.notUTF8 = l.notUTF8 || len(tail) > 0
	return l, err
}

// wholeRunes is the length of b without a character that is cut off at its end.
func wholeRunes(b []byte) int {
	for n := len(b) - 1; n >= 0 && n > len(b)-utf8.UTFMax; n-- {
		if utf8.RuneStart(b[n]) {
			if utf8.FullRune(b[n:]) {
				break
			}
			return n
		}
	}
	return len(b)
}

// each calls f with the converted content.
func (c *conversion) each(f func([]byte) error) error {
	at := int64(0)
	for _, e := range c.edits {
		if err := c.m.eachOf(message.Range{Start: at, End: e.Start}, f); err != nil {
			return err
		}
		at = e.End
		if e.with != "" {
			if err := f([]byte(e.with)); err != nil {
				return err
			}
		}
		if !e.encode {
			continue
		}
		w := newQuoter(f)
		err := c.m.eachOf(e.Range, func(b []byte) error {
			_, err := w.Write(b)
			return err
		})
		if err := errors.Join(err, w.Close()); err != nil {
			return err
		}
	}
	return c.m.eachOf(message.Range{Start: at, End: c.m.size}, f)
}
