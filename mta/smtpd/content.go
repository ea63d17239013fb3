package smtpd

import (
	"bytes"

	"postrider/mailstore"
	"postrider/mta"
)

// message is the content of one message on its way into the store. After a
// refusal the octets that still come are thrown away.
type message struct {
	body    *mailstore.BodyWriter
	scan    scanner
	head    header
	fix     *submission   // what to change in the header; nil = nothing
	begun   bool          // without fix: the first line is written
	kept    []byte        // with fix: the header as far as it came; else the first line
	authors []mta.Address // with fix: whom the header names as its authors
	limit   int64         // of size; 0 = off
	size    int64         // octets of content so far, as RFC 1870 section 5 counts them
	urls    int           // that BURL named
	pace    pace
	refusal *mta.Reply
	failed  error // of the store: it stands in the place of refusal
}

// take is how the scanner passes content on.
func (m *message) take(p []byte) {
	if m.refusal != nil || m.scan.fault != noFault {
		return
	}
	m.size += int64(len(p))
	if m.limit > 0 && m.size > m.limit {
		m.refuse(tooLarge(m.limit))
		return
	}
	if !m.head.done {
		n, r := m.head.take(p)
		if r != nil {
			m.refuse(r)
			return
		}
		if m.fix != nil {
			m.kept = append(m.kept, p[:n]...)
			p = p[n:]
			if m.head.done {
				m.endHeader()
			}
		}
	}
	if m.fix == nil && !m.begun {
		p = m.begin(p)
	}
	m.write(p)
}

// begin takes the first line off p and writes it. Where that is text, since the
// message has no header at all, the trace field in front gets an empty line
// after it: else the text would be part of the header.
func (m *message) begin(p []byte) (rest []byte) {
	n := bytes.IndexByte(p, '\n') + 1
	if n == 0 {
		n = len(p)
	}
	n = min(n, maxFirstLine-len(m.kept)) // content that is passed on is never empty
	m.kept = append(m.kept, p[:n]...)
	if len(m.kept) == maxFirstLine || m.kept[len(m.kept)-1] == '\n' {
		m.writeFirst()
	}
	return p[n:]
}

func (m *message) writeFirst() {
	if isText(m.kept) {
		m.write(crlf)
	}
	m.write(m.kept)
	m.kept, m.begun = nil, true
}

// isText tells whether the first line of a message is not of a header. The
// line that begins a message in an mbox file stands before one.
func isText(line []byte) bool {
	return len(line) > 0 && fieldName(line) == "" && !bytes.Equal(line, crlf) &&
		!bytes.HasPrefix(line, []byte("From ")) && !bytes.HasPrefix(line, []byte(">From "))
}

// endHeader writes a header that was kept, with the changes of a submission.
func (m *message) endHeader() {
	edited, authors, r := m.fix.apply(m.kept)
	if r != nil {
		m.refuse(r)
		return
	}
	m.kept, m.authors = nil, authors
	m.write(edited)
}

func (m *message) write(p []byte) {
	if m.refusal != nil || len(p) == 0 {
		return
	}
	if _, err := m.body.Write(p); err != nil {
		m.failed = err
		m.refuse(newReply(451, "4.3.0", "The message cannot be stored, please try again later"))
	}
}

// refuse decides that the message is not taken; the first reason stands.
func (m *message) refuse(r *mta.Reply) {
	if m.refusal == nil {
		m.refusal = r
		m.body.Abort()
	}
}

// end is called at the end of the content. It returns why the message is
// refused, or nil.
func (m *message) end() *mta.Reply {
	m.scan.finish()
	switch m.scan.fault {
	case bareNewline:
		m.refuse(newReply(550, "5.5.2", "The message has a bare CR or LF: its lines must end in CRLF"))
	case nulOctet:
		m.refuse(newReply(550, "5.6.0", "The message has a NUL octet"))
	}
	switch {
	case m.refusal != nil:
	case m.fix != nil && !m.head.done:
		m.endHeader()
	case m.fix == nil && !m.begun:
		m.writeFirst()
	}
	return m.refusal
}

// abort throws the message away; it does nothing after the body's Commit.
func (m *message) abort() { m.body.Abort() }

// header watches over a message's header while it passes: its size and the
// number of Received fields.
type header struct {
	strict bool // only an empty line ends it; else also a line that is no field
	done   bool // its end was seen
	size   int
	hops   int
	line   int      // octets of the line in hand
	prefix [10]byte // the first ones of them
	colon  bool     // whether there is a colon in it
	id     []byte   // the first Message-ID field as far as maxID
	inID   bool     // it is not at its end
}

// take consumes that part of p which belongs to the header, the line that ends
// it included, and returns its length.
func (h *header) take(p []byte) (n int, refusal *mta.Reply) {
	for n < len(p) && !h.done {
		piece := p[n:]
		end := bytes.IndexByte(piece, '\n')
		if end >= 0 {
			piece = piece[:end+1]
		}
		if h.line < len(h.prefix) {
			copy(h.prefix[h.line:], piece)
		}
		h.keepID(piece)
		h.colon = h.colon || bytes.IndexByte(piece, ':') >= 0
		h.line += len(piece)
		n += len(piece)
		if end >= 0 {
			h.endLine()
		}
	}
	switch h.size += n; {
	case h.size > maxHeader:
		return n, mta.Errorf(552, "5.3.4", "The header of the message is larger than %d octets", maxHeader)
	case h.hops > maxHops:
		return n, newReply(554, "5.4.6", "The message has passed too many servers: a mail loop")
	}
	return n, nil
}

// maxID is how much of a Message-ID is kept, folding included.
const maxID = 300

// keepID keeps the field Message-ID. It is called with each piece of a line, after
// prefix has what it has of the line.
func (h *header) keepID(piece []byte) {
	const name = "message-id"
	if h.line == 0 && h.inID && piece[0] != ' ' && piece[0] != '\t' {
		h.inID = false
	}
	if !h.inID {
		if len(h.id) > 0 || h.line >= len(name) || h.line+len(piece) < len(name) || !bytes.EqualFold(h.prefix[:], []byte(name)) {
			return
		}
		h.inID = true
		h.id = append(h.id, h.prefix[:h.line]...)
	}
	h.id = append(h.id, piece[:min(len(piece), maxID-len(h.id))]...)
}

func (h *header) endLine() {
	if h.inID && fieldName(h.id) != "message-id" { // but Message-ID-Hash, or a text
		h.id, h.inID = nil, false
	}
	switch {
	case h.line == len("\r\n"):
		h.done = true
	case !h.strict && !h.colon && h.prefix[0] != ' ' && h.prefix[0] != '\t':
		h.done = true // text from its first line, as it is typed into telnet
	case h.line > len("Received:") && isReceived(h.prefix[:]):
		h.hops++
	}
	h.line, h.colon = 0, false
}

// isReceived tells whether a line of the header, of which prefix are the first
// octets, begins a Received field.
func isReceived(prefix []byte) bool {
	const name = "received"
	if !bytes.EqualFold(prefix[:len(name)], []byte(name)) {
		return false
	}
	c := prefix[len(name)]
	return c == ':' || (c == ' ' || c == '\t') && prefix[len(name)+1] == ':'
}
