package search

import (
	"html"
	"strings"
)

const (
	maxTagName = 32 // octets looked at
	maxEntity  = 40 // octets of a character reference
)

// stripper takes the markup out of HTML that comes in pieces: tags, comments,
// scripts and style sheets go, character references become characters, and what
// stands in different blocks is kept apart. It needs no memory that grows with
// a token (images of megabytes stand in attributes), which is why it is not the
// tokenizer of x/net/html; the states are those of the HTML standard, section
// 13.2.5, as far as they matter for text.
type stripper struct {
	state  htmlState
	name   []byte // of the tag in hand, lower case
	closes bool   // it is an end tag
	quote  byte   // around the attribute value in hand
	last   byte   // the last octet in a tag that is not white space
	dashes int    // at the end of a comment so far
	raw    string // script or style, whose content is passed over; "" outside
	seen   int    // octets of its end tag
	entity []byte // a character reference that is not complete
}

type htmlState int

const (
	inText       htmlState = iota
	inEntity               // behind "&"
	inOpen                 // behind "<"
	inEndOpen              // behind "</"
	inName                 // of a tag
	inTag                  // behind its name
	inQuotes               // of an attribute value
	inDeclare              // behind "<!"
	inDash                 // behind "<!-"
	inComment              // behind "<!--"
	inBogus                // up to ">"
	inRawContent           // of a script or style sheet
)

func (h *stripper) reset() { *h = stripper{name: h.name[:0], entity: h.entity[:0]} }

// append appends the text in the next piece to dst; with last, the document
// ends with it.
func (h *stripper) append(dst, src []byte, last bool) []byte {
	for i := 0; i < len(src); i++ {
		c := src[i]
		if h.state == inText && c != '<' && c != '&' {
			dst = append(dst, c)
			continue
		}
		dst = h.octet(dst, c)
	}
	if last {
		switch h.state {
		case inEntity:
			dst = h.endEntity(dst)
		case inOpen:
			dst = append(dst, '<')
		case inEndOpen:
			dst = append(dst, "</"...)
		}
		h.reset()
	}
	return dst
}

// octet takes one octet where it is not plain text.
func (h *stripper) octet(dst []byte, c byte) []byte {
	switch h.state {
	case inText:
		return h.text(dst, c)
	case inEntity:
		return h.reference(dst, c)
	case inOpen, inEndOpen:
		return h.open(dst, c)
	case inName, inTag, inQuotes:
		return h.tag(dst, c)
	case inRawContent:
		h.rawContent(c)
	default:
		h.declaration(c)
	}
	return dst
}

func (h *stripper) text(dst []byte, c byte) []byte {
	switch c {
	case '<':
		h.state, h.closes = inOpen, false
	case '&':
		h.state, h.entity = inEntity, append(h.entity[:0], '&')
	default:
		dst = append(dst, c)
	}
	return dst
}

func (h *stripper) reference(dst []byte, c byte) []byte {
	if c == '#' && len(h.entity) == 1 || isAlnum(c) {
		if h.entity = append(h.entity, c); len(h.entity) >= maxEntity {
			dst = h.endEntity(dst)
		}
		return dst
	}
	if c == ';' {
		h.entity = append(h.entity, c)
		return h.endEntity(dst)
	}
	return h.text(h.endEntity(dst), c)
}

func (h *stripper) endEntity(dst []byte) []byte {
	h.state = inText
	return append(dst, html.UnescapeString(string(h.entity))...)
}

func isAlpha(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isAlnum(c byte) bool { return isAlpha(c) || c >= '0' && c <= '9' }

// open decides what "<" or "</" begins.
func (h *stripper) open(dst []byte, c byte) []byte {
	switch {
	case isAlpha(c):
		h.state, h.name, h.last = inName, append(h.name[:0], c|0x20), 0
	case h.state == inEndOpen && c == '>':
		h.state = inText // nothing is closed
	case h.state == inEndOpen:
		h.state = inBogus
	case c == '/':
		h.state, h.closes = inEndOpen, true
	case c == '!':
		h.state = inDeclare
	case c == '?':
		h.state = inBogus
	default: // "<" was text
		h.state = inText
		return h.text(append(dst, '<'), c)
	}
	return dst
}

// tag takes an octet between the name of a tag and its end.
func (h *stripper) tag(dst []byte, c byte) []byte {
	switch {
	case h.state == inQuotes:
		if c == h.quote {
			h.state, h.last = inTag, c
		}
	case c == '>':
		return h.endTag(dst)
	case h.state == inName && (c == '/' || isSpace(c)):
		h.state = inTag
	case h.state == inName:
		if len(h.name) < maxTagName {
			if 'A' <= c && c <= 'Z' {
				c |= 0x20
			}
			h.name = append(h.name, c)
		}
	case (c == '"' || c == '\'') && h.last == '=':
		h.state, h.quote = inQuotes, c
	case !isSpace(c):
		h.last = c
	}
	return dst
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f'
}

// endTag keeps apart what a block ends or begins.
func (h *stripper) endTag(dst []byte) []byte {
	h.state = inText
	name := string(h.name)
	if !inline[name] {
		dst = append(dst, '\n')
	}
	if !h.closes && (name == "script" || name == "style") {
		h.state, h.raw, h.seen = inRawContent, "</"+name, 0
	}
	return dst
}

// inline are the elements that may stand within a word.
var inline = map[string]bool{
	"a": true, "abbr": true, "acronym": true, "b": true, "bdi": true, "bdo": true, "big": true, "cite": true, "code": true,
	"del": true, "dfn": true, "em": true, "font": true, "i": true, "ins": true, "kbd": true, "label": true, "mark": true,
	"nobr": true, "q": true, "s": true, "samp": true, "small": true, "span": true, "strike": true, "strong": true,
	"sub": true, "sup": true, "tt": true, "u": true, "var": true, "wbr": true,
}

// rawContent passes over a script or style sheet up to its end tag.
func (h *stripper) rawContent(c byte) {
	switch {
	case h.seen < len(h.raw):
		lower := c
		if isAlpha(c) {
			lower |= 0x20
		}
		switch {
		case lower == h.raw[h.seen]:
			h.seen++
		case c == '<':
			h.seen = 1
		default:
			h.seen = 0
		}
	case c == '>' || c == '/' || isSpace(c):
		h.state, h.closes, h.last = inTag, true, 0
		h.name = append(h.name[:0], strings.TrimPrefix(h.raw, "</")...)
		if c == '>' {
			h.state = inText
		}
		h.raw = ""
	case c == '<':
		h.seen = 1
	default:
		h.seen = 0
	}
}

// declaration takes an octet of what "<!" or "<?" begins.
func (h *stripper) declaration(c byte) {
	switch {
	case h.state == inDeclare && c == '-':
		h.state = inDash
		return
	case h.state == inDash && c == '-':
		h.state, h.dashes = inComment, 2 // "<!-->" is a comment
		return
	case h.state == inComment:
		h.comment(c)
		return
	}
	h.state = inBogus
	if c == '>' {
		h.state = inText
	}
}

// bang is a value of dashes: they are followed by "!".
const bang = 1 << 20

func (h *stripper) comment(c byte) {
	switch {
	case c == '>' && h.dashes >= 2:
		h.state = inText
	case c == '-' && h.dashes < 2:
		h.dashes++
	case c == '-' && h.dashes == bang:
		h.dashes = 1
	case c == '-':
	case c == '!' && h.dashes == 2:
		h.dashes = bang
	default:
		h.dashes = 0
	}
}
