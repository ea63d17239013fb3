package transfer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// ending says what a converter does to line ends.
type ending int

const (
	keepEnds ending = iota
	toCRLF          // a lone LF becomes CRLF
	toLF            // every CR goes; for a clean message only
)

// quoting says what a converter does to lines that look like a From_ line.
type quoting int

const (
	noQuotes  quoting = iota
	quoteFrom         // mboxo: "From " becomes ">From "
	quoteMore         // mboxrd: any number of ">" before "From " gets one more
	unquoteFrom
	unquoteMore
)

const (
	fromPrefix   = "From "
	quotedPrefix = ">From "
)

// converter reads lines and changes their ends and their quoting. It needs the
// same memory however long a line is.
type converter struct {
	br     *bufio.Reader
	ends   ending
	quotes quoting

	inside bool  // of a line
	last   byte  // that was read
	arrows int64 // ">" still to be given out
	rest   []byte
	err    error
}

// newConverter reads r, which has about size octets; -1 = nobody knows.
func newConverter(r io.Reader, size int64, e ending, q quoting) *converter {
	return &converter{br: bufio.NewReaderSize(r, bufferFor(size)), ends: e, quotes: q}
}

// bufferFor is the size of a buffer for so many octets: most messages are small,
// and each gets a few buffers.
func bufferFor(size int64) int {
	const most = 32 << 10
	if size < 0 || size > most {
		return most
	}
	return max(int(size), 512)
}

func (c *converter) Read(p []byte) (int, error) {
	for {
		if c.arrows > 0 && len(p) > 0 {
			n := int(min(c.arrows, int64(len(p))))
			for i := range n {
				p[i] = '>'
			}
			c.arrows -= int64(n)
			return n, nil
		}
		if len(c.rest) > 0 {
			n := copy(p, c.rest)
			c.rest = c.rest[n:]
			return n, nil
		}
		if c.err != nil {
			return 0, c.err
		}
		if !c.inside && c.quotes != noQuotes {
			c.startLine()
			if c.arrows > 0 {
				continue
			}
		}
		c.piece()
	}
}

// startLine counts the ">" before a line and changes their number.
func (c *converter) startLine() {
	c.inside = true
	n := int64(0)
	for {
		b, err := c.br.Peek(1)
		if err != nil || b[0] != '>' {
			break
		}
		c.br.Discard(1)
		c.last = '>'
		n++
	}
	c.arrows = n
	if b, _ := c.br.Peek(len(fromPrefix)); string(b) != fromPrefix {
		return
	}
	switch {
	case c.quotes == quoteFrom && n == 0, c.quotes == quoteMore:
		c.arrows++
	case c.quotes == unquoteFrom && n == 1, c.quotes == unquoteMore && n > 0:
		c.arrows--
	}
}

// piece reads the rest of a line, or as much of it as there is room for.
func (c *converter) piece() {
	b, err := c.br.ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		c.err = err
	}
	if len(b) == 0 {
		return
	}
	before := c.last
	c.last = b[len(b)-1]
	c.inside = c.last != '\n'
	c.rest = b
	switch {
	case c.ends == toLF && bytes.IndexByte(b, '\r') >= 0:
		c.rest = bytes.ReplaceAll(b, []byte{'\r'}, nil)
	case c.ends == toCRLF && !c.inside:
		if len(b) > 1 {
			before = b[len(b)-2]
		}
		if before != '\r' {
			c.rest = append(bytes.Clone(b[:len(b)-1]), '\r', '\n')
		}
	}
}

// facts is what has to be known of a message before it is written.
type facts struct {
	size    int64
	wide    int64 // size with every line end as CRLF
	clean   bool  // empty, or all lines end in CRLF and no CR or LF stands alone
	unended bool  // does not end in LF
	// headEnd is the offset of the first empty line, or the size without one.
	headEnd int64
	// quoted: a line begins with ">From ".
	quoted bool
}

// examine reads a message once.
func examine(c content) (facts, error) {
	f := facts{clean: true, headEnd: -1}
	br := bufio.NewReaderSize(io.NewSectionReader(c, 0, c.Size()), bufferFor(c.Size()))
	var last byte
	inside := false
	start := int64(0) // of the line in hand
	short := []byte{} // its first octets
	for {
		b, err := br.ReadSlice('\n')
		if !inside {
			start, short = f.size, short[:0]
		}
		short = append(short, b[:min(len(b), len(quotedPrefix)-len(short))]...)
		for _, ch := range b {
			if (last == '\r') != (ch == '\n') {
				f.clean = false
			}
			if ch == '\n' && last != '\r' {
				f.wide++
			}
			last = ch
		}
		f.size += int64(len(b))
		f.wide += int64(len(b))
		if len(b) > 0 {
			inside = last != '\n'
		}
		if f.headEnd < 0 && !inside && (string(short) == "\n" || string(short) == "\r\n") {
			f.headEnd = start
		}
		if string(short) == quotedPrefix {
			f.quoted = true
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return facts{}, err
		}
	}
	f.unended = f.size > 0 && last != '\n'
	if f.unended {
		f.clean = false
	}
	switch {
	case f.headEnd >= 0:
	case inside && string(short) == "\r": // empty, once it ends
		f.headEnd = start
	default:
		f.headEnd = f.size
	}
	return f, nil
}
