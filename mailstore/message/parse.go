package message

import (
	"bytes"
	"io"
	"strings"
)

// Limits of the index. A part beyond them is text of the part around it.
const (
	MaxDepth    = 64   // multiparts and embedded messages inside each other
	MaxParts    = 5000 // of one message
	MaxBoundary = 256  // octets (RFC 2046 section 5.1.1 allows 70)

	// What one BODYSTRUCTURE says in all; parts beyond are described by type,
	// encoding and size alone.
	maxStructureHeader    = 2 << 20 // octets of headers
	maxStructureParams    = 10000
	maxStructureAddresses = 50000
)

const (
	bodyBuffer   = 32 << 10
	headerBuffer = 4 << 10
	// maxDelimiter is the longest line that can be a delimiter: dashes, the
	// boundary, and some of the padding that RFC 2046 section 5.1.1 allows.
	maxDelimiter = MaxBoundary + 256
)

// Part is one MIME entity: the message itself, a part of a multipart, or the
// message inside a message/rfc822 part.
type Part struct {
	Header Range
	Body   Range
	Lines  int64 // of the body; an unterminated last line counts

	Type     string // lower case, such as "text"; "multipart" only with Children
	Subtype  string // lower case
	Charset  string // of a text part, as written; "" for none
	Encoding string // Content-Transfer-Encoding, lower case; "7bit" by default

	Children []*Part // of a multipart, at least one
	Message  *Part   // of a message/rfc822 or message/global part

	// opaque: the part claims to be composed, but its body is taken as
	// text/plain, since it exceeds a limit.
	opaque bool
	// implied: no Content-Type, so that of its surroundings holds.
	implied bool
	// note: what a Describer keeps of the header, 1 for the first; 0 for a part
	// without a header of its own.
	note int
}

// Range is the part with its header.
func (p *Part) Range() Range { return Range{p.Header.Start, p.Body.End} }

// Index is the structure of one message.
type Index struct {
	Root *Part
	r    io.ReaderAt
	size int64
	err  error
}

// Parse computes the index of the message of size octets in r. It never fails;
// where r fails, the index is that of the octets before, and Err tells.
func Parse(r io.ReaderAt, size int64) *Index {
	p := parser{lr: newLineReader(r, size, 0, bodyBuffer)}
	return p.index()
}

// index parses the whole message.
func (p *parser) index() *Index {
	root := p.part()
	p.parts = 1
	p.entity(root, 0, "text/plain", true)
	return &Index{Root: root, r: p.lr.r, size: p.lr.size, err: p.lr.err}
}

// ParseTop computes an index without the structure of the body, for those who
// need the header or the whole: it reads the header section only.
func ParseTop(r io.ReaderAt, size int64) *Index {
	p := parser{lr: newLineReader(r, size, 0, headerBuffer)}
	root := new(Part)
	p.header(root)
	setDefaults(root, "text/plain")
	root.Body.End = max(p.lr.size, root.Body.Start)
	return &Index{Root: root, r: r, size: p.lr.size, err: p.lr.err}
}

// Whole is an index that knows of nothing within the message, for those who need
// all of it: it reads nothing.
func Whole(r io.ReaderAt, size int64) *Index {
	return &Index{Root: &Part{Body: Range{0, size}}, r: r, size: size}
}

// Err is the first error of reading the message, nil if there was none.
func (x *Index) Err() error { return x.err }

// Size is the number of octets in the message.
func (x *Index) Size() int64 { return x.size }

// Header reads the header section of a part.
func (x *Index) Header(p *Part) (Header, error) {
	b := make([]byte, p.Header.Len())
	n, err := x.r.ReadAt(b, p.Header.Start)
	if n == len(b) {
		err = nil
	}
	return Header{Range: Range{p.Header.Start, p.Header.Start + int64(n)}, raw: b[:n]}, err
}

// parser makes one pass over the lines of a message.
type parser struct {
	lr     *lineReader
	bounds []string       // boundaries of the multiparts around, outermost first
	levels map[string]int // the innermost place of each, where they are many; nil before
	parts  int
	room   []Part     // that the next parts are made of
	block  int        // size of the last room
	d      *Describer // that is told of each part's header; nil for none
	st     stop       // the last one
	fields fields     // of the last header
	params params     // room for those of the last Content-Type

	seen    tally
	before  tally // seen, before the last line
	pending bool  // the last line is to be delivered again
	last    line
}

// part makes a part. They come in blocks, since most messages have several.
func (p *parser) part() *Part {
	if len(p.room) == 0 {
		p.block = min(max(2*p.block, 4), 256)
		p.room = make([]Part, p.block)
	}
	part := &p.room[0]
	p.room = p.room[1:]
	return part
}

// tally is what the parser knows of the lines that it passed.
type tally struct {
	lines int64 // terminators
	prev  line  // the last line
}

// stop is what ended a scan.
type stop struct {
	level   int // of the delimiter, in bounds; -1 at the end of the message
	closing bool
	end     int64 // of what stands before it, without the line end that belongs to the delimiter
	shared  bool  // end does contain that line end
	tally   tally // before the delimiter
}

// next returns the next line that is not a delimiter of a multipart around.
func (p *parser) next() (line, *stop) {
	if !p.pending {
		ln, ok := p.lr.next()
		if !ok {
			return line{}, p.stop(stop{level: -1, end: p.lr.offset(), tally: p.seen})
		}
		p.last = ln
	}
	p.pending = false
	p.before = p.seen
	p.seen.prev = p.last
	if p.last.term > 0 {
		p.seen.lines++
	}
	if level, closing := p.delimiter(p.last); level >= 0 {
		end := p.last.start - p.before.prev.term
		return line{}, p.stop(stop{level: level, closing: closing, end: end, tally: p.before})
	}
	return p.last, nil
}

// stop keeps the stop; nobody needs the one before it any more.
func (p *parser) stop(st stop) *stop {
	p.st = st
	return &p.st
}

// unread makes next return the last line again.
func (p *parser) unread() {
	p.pending = true
	p.seen = p.before
}

// skip passes over lines up to a delimiter or the end.
func (p *parser) skip() *stop {
	for {
		p.rush()
		if _, st := p.next(); st != nil {
			return st
		}
	}
}

// rush passes over the whole lines in the window that can be no delimiter. It
// does nothing that next would not do, but several times as fast.
func (p *parser) rush() {
	b := p.lr.buf[p.lr.pos:]
	n := -1 // where the last of those lines ends
	switch {
	case p.pending, len(p.bounds) > 0 && bytes.HasPrefix(b, dashes[1:]):
		return
	case len(p.bounds) > 0:
		n = bytes.Index(b, dashes)
	}
	if n < 0 {
		n = bytes.LastIndexByte(b, '\n')
	}
	if n < 0 {
		return
	}
	start := bytes.LastIndexByte(b[:n], '\n') + 1
	last := line{start: p.lr.offset() + int64(start), length: int64(n - start), term: 1}
	if n > start && b[n-1] == '\r' {
		last.length--
		last.term = 2
	}
	p.seen.lines += int64(bytes.Count(b[:n+1], dashes[:1]))
	p.seen.prev = last
	p.lr.pos += n + 1
}

// dashes end one line and begin a delimiter.
var dashes = []byte("\n--")

// delimiter tells whether a line is a delimiter (RFC 2046 section 5.1.1): the
// innermost wins where a boundary is used twice.
func (p *parser) delimiter(ln line) (level int, closing bool) {
	b := ln.head
	if len(p.bounds) == 0 || len(b) < 2 || b[0] != '-' || b[1] != '-' || ln.length > maxDelimiter {
		return -1, false
	}
	b = bytes.TrimRight(b[2:], " \t")
	if i := p.level(b); i >= 0 {
		return i, false
	}
	if n := len(b) - 2; n > 0 && b[n] == '-' && b[n+1] == '-' {
		return p.level(b[:n]), true
	}
	return -1, false
}

// level is the innermost place of a boundary, -1 for none.
func (p *parser) level(b []byte) int {
	if len(p.bounds) > manyBounds {
		if i, ok := p.levels[string(b)]; ok {
			return i
		}
		return -1
	}
	for i := len(p.bounds) - 1; i >= 0; i-- {
		if string(b) == p.bounds[i] {
			return i
		}
	}
	return -1
}

// manyBounds is how many boundaries are compared one by one.
const manyBounds = 8

// push adds the boundary of the multipart that begins.
func (p *parser) push(boundary string) {
	p.bounds = append(p.bounds, boundary)
	if len(p.bounds) <= manyBounds {
		return
	}
	if p.levels == nil {
		p.levels = make(map[string]int)
		for i, b := range p.bounds {
			p.levels[b] = i
		}
	}
	p.levels[boundary] = len(p.bounds) - 1
}

// pop removes the boundaries from a level on.
func (p *parser) pop(level int) {
	for len(p.bounds) > level {
		last := len(p.bounds) - 1
		boundary := p.bounds[last]
		p.bounds = p.bounds[:last]
		if p.levels == nil {
			continue
		}
		delete(p.levels, boundary)
		for i, b := range p.bounds { // one further out may be the same
			if b == boundary {
				p.levels[b] = i
			}
		}
	}
}

// read returns a header section that was just passed.
func (p *parser) read(rg Range) Header {
	b := p.lr.bytes(rg)
	return Header{Range: Range{rg.Start, rg.Start + int64(len(b))}, raw: b}
}

// header passes over the header section at the present line and sets the
// part's Header and the start of its Body. It returns what ended the part, if
// that came before a body.
func (p *parser) header(part *Part) *stop {
	start := p.lr.offset()
	if p.pending {
		start = p.last.start
	}
	part.Header = Range{start, start}
	setEnd := func(end int64) {
		part.Header.End = max(end, start)
		part.Body = Range{part.Header.End, part.Header.End}
	}
	for first := true; ; first = false {
		ln, st := p.next()
		switch {
		case st != nil:
			setEnd(st.end)
			return st
		case ln.length == 0:
			setEnd(ln.end())
			return nil
		case ln.end()-start > MaxHeader || !inHeader(ln.head, first):
			p.unread()
			setEnd(ln.start)
			return nil
		}
	}
}

func inHeader(b []byte, first bool) bool {
	if first {
		return nameLen(b) > 0 || isMboxFrom(b)
	}
	return nameLen(b) > 0 || isWSP(b[0])
}

// entity parses one entity from its header to its end; message tells that it
// is a message and not a part of one.
func (p *parser) entity(part *Part, depth int, implied string, message bool) *stop {
	st := p.header(part)
	boundary := p.classify(part, depth, implied, message)
	from := p.seen
	switch {
	case st != nil:
		from = st.tally
	case part.Type == "multipart":
		st = p.multipart(part, depth, boundary)
	case isMessage(part):
		part.Message = p.part()
		p.parts++
		st = p.entity(part.Message, depth+1, "text/plain", true)
	default:
		st = p.skip()
	}
	if st.end < part.Body.Start {
		// One line end ends the header and belongs to the delimiter.
		st.end, st.shared = part.Body.Start, true
	}
	part.Body.End = st.end
	part.Lines = countLines(from, st, part.Body)
	if part.Type == "multipart" && len(part.Children) == 0 {
		part.Children = []*Part{lonePart(part)}
	}
	if part.Message == nil && isMessage(part) {
		part.Message = &Part{Header: Range{part.Body.Start, part.Body.Start}, Body: part.Body}
		setDefaults(part.Message, "text/plain")
	}
	return st
}

// lonePart is the one part of a multipart in which no delimiter was found.
func lonePart(part *Part) *Part {
	c := &Part{
		Header: Range{part.Body.Start, part.Body.Start},
		Body:   part.Body,
		Lines:  part.Lines,
	}
	setDefaults(c, "text/plain")
	return c
}

func countLines(from tally, st *stop, body Range) int64 {
	if body.Len() == 0 {
		return 0
	}
	n := st.tally.lines - from.lines
	last := st.tally.prev
	switch {
	case st.level < 0 && last.term == 0:
		return n + 1
	case st.level >= 0 && last.length == 0 && !st.shared:
		return n - 1
	}
	return n
}

// multipart parses the parts of a multipart entity; its header was read.
func (p *parser) multipart(part *Part, depth int, boundary string) *stop {
	level := len(p.bounds)
	if boundary == "" {
		return p.skip()
	}
	p.push(boundary)
	implied := "text/plain"
	if part.Subtype == "digest" { // RFC 2046 section 5.1.5
		implied = "message/rfc822"
	}
	st := p.skip() // the preamble
	for st.level == level && !st.closing {
		if p.parts++; p.parts >= MaxParts {
			p.pop(0) // the last part takes the rest
		}
		child := p.part()
		part.Children = append(part.Children, child)
		st = p.entity(child, depth+1, implied, false)
	}
	p.pop(level)
	if st.level == level {
		st = p.skip() // the epilogue
	}
	return st
}

// classify sets what the header says about the body, and returns the boundary
// of a multipart.
func (p *parser) classify(part *Part, depth int, implied string, message bool) (boundary string) {
	h := p.read(part.Header)
	f := &p.fields
	f.read(h)
	part.Encoding = "7bit"
	if f.have(idEncoding) {
		if e := firstToken(f.text(idEncoding)); e != "" {
			part.Encoding = strings.ToLower(e)
		}
	}
	var params params
	if f.have(idContentType) {
		p.params = p.params[:0]
		part.Type, part.Subtype, params = parseMediaType(f.text(idContentType), p.params)
		p.params = params
	}
	if part.Type == "" {
		encoding := part.Encoding
		setDefaults(part, implied)
		part.Encoding = encoding
	}
	switch {
	case part.Type == "text":
		part.Charset = params.get("charset")
	case part.Type != "multipart" && !isMessage(part):
	case depth >= MaxDepth || p.parts >= MaxParts:
		part.opaque = true
		part.Type, part.Subtype = "text", "plain"
	case part.Type == "multipart":
		boundary = strings.TrimRight(params.get("boundary"), " \t")
		if len(boundary) > MaxBoundary {
			boundary = ""
		}
	}
	if p.d != nil {
		p.d.header(part, h, f, params, message)
	}
	return boundary
}

func setDefaults(part *Part, implied string) {
	part.implied = true
	part.Type, part.Subtype, _ = strings.Cut(implied, "/")
	part.Encoding = "7bit"
}

func isMessage(p *Part) bool {
	return p.Type == "message" && (p.Subtype == "rfc822" || p.Subtype == "global")
}
