package wire

import (
	"bytes"
	"errors"
	"io"
)

var (
	// ErrLineTooLong: the line exceeded the limit; it was read to its end
	// within the reader's discard bound, so that the next line can be read.
	ErrLineTooLong = errors.New("line too long")
	// ErrBareLF: the line ended in LF without CR, or had a CR within. The line
	// was consumed.
	ErrBareLF = errors.New("line ends in bare LF")
	// ErrEndlessLine: a line that was too long did not end within the discard
	// bound. It is final, as a read error is: the connection must be closed.
	ErrEndlessLine = errors.New("line does not end")
)

const (
	// idleSize is the buffer of a reader that waits: thousands wait at a time.
	idleSize = 256
	// bufferSize is the buffer of one to which more came at once than that; a longer
	// line gets one of its own for as long as it is in hand.
	bufferSize = 4 << 10
	// discardBound is how many octets of a line that is too long are read and
	// thrown away before the reader gives up on it.
	discardBound = 256 << 10
	// excerptSize is how much of a line that is too long is kept.
	excerptSize = 128
)

// Reader reads CRLF lines and counted or dotted data from a connection with a
// small fixed buffer. It is not safe for concurrent use.
//
// Errors of the source are passed on as they are, and what was read before
// them stays: after a timeout the caller may go on, and a line that came in
// part is completed by the next ReadLine.
type Reader struct {
	src  io.Reader
	own  []byte // idleSize octets, or what Lend gave
	base []byte // own before Lend; nil without it
	buf  []byte // own, or a larger one while much comes or a long line is in hand
	r, w int    // buf[r:w] was read and not yet consumed
	full bool   // the last read took all the room that there was: more waits
	scan int    // buf[r:r+scan] is known to have no LF

	excerpt   []byte // beginning of the line that is thrown away; nil for none
	discarded int    // octets of that line that were thrown away
	endless   bool
}

// NewReader returns a Reader on r.
func NewReader(r io.Reader) *Reader {
	own := make([]byte, idleSize)
	return &Reader{src: r, own: own, buf: own}
}

// Reset makes the reader read from r and forgets what was buffered (STARTTLS).
func (r *Reader) Reset(src io.Reader) {
	*r = Reader{src: src, own: r.own, base: r.base, buf: r.own}
}

// Lend makes the reader use p, which is larger than its own buffer, as soon as
// that is empty, so that a body comes in fewer reads. Reclaim takes it back.
func (r *Reader) Lend(p []byte) {
	if r.base == nil {
		r.base = r.own
	}
	r.own = p
}

// Reclaim ends Lend: the reader does not use what it was lent any more. What
// is buffered stays.
func (r *Reader) Reclaim() {
	lent := r.own
	r.own, r.base = r.base, nil
	if &r.buf[0] != &lent[0] {
		return
	}
	rest := r.buf[r.r:r.w]
	r.buf = r.own
	if len(rest) > len(r.buf) {
		r.buf = make([]byte, len(rest)) // until it is consumed
	}
	r.r, r.w = 0, copy(r.buf, rest)
}

// ReadLine returns the next line without its CRLF; it is valid until the next
// call. limit counts the octets with CRLF.
//
// With ErrBareLF it returns the whole line as it came, its end included. With
// ErrLineTooLong it returns the first octets of the line (at most 128), so that
// a reply can name the command or its tag. At the end of the source it is
// io.EOF after a whole line and io.ErrUnexpectedEOF within one.
func (r *Reader) ReadLine(limit int) ([]byte, error) {
	if r.excerpt != nil {
		return r.discardLine()
	}
	for {
		if i := bytes.IndexByte(r.buf[r.r+r.scan:r.w], '\n'); i >= 0 {
			return r.take(r.scan+i+1, limit)
		}
		r.scan = r.w - r.r
		if r.scan >= limit {
			r.excerpt = bytes.Clone(r.buf[r.r : r.r+min(limit, excerptSize)])
			return r.discardLine()
		}
		r.makeRoom(limit)
		if err := r.fill(); err != nil {
			if err == io.EOF && r.w > r.r {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// take consumes the next n octets, which end in LF, and judges them.
func (r *Reader) take(n, limit int) ([]byte, error) {
	line := r.buf[r.r : r.r+n]
	r.r += n
	r.scan = 0
	if n > limit {
		return line[:min(limit, excerptSize)], ErrLineTooLong
	}
	if n < 2 || bytes.IndexByte(line, '\r') != n-2 {
		return line, ErrBareLF
	}
	return line[:n-2], nil
}

// discardLine throws the rest of a line away that is too long. It may be
// called again after an error of the source.
func (r *Reader) discardLine() ([]byte, error) {
	if r.endless {
		return nil, ErrEndlessLine
	}
	for {
		if i := bytes.IndexByte(r.buf[r.r:r.w], '\n'); i >= 0 {
			excerpt := r.excerpt
			r.r += i + 1
			r.scan, r.excerpt, r.discarded = 0, nil, 0
			return excerpt, ErrLineTooLong
		}
		r.discarded += r.w - r.r
		r.empty()
		if r.discarded >= discardBound {
			r.endless = true
			return nil, ErrEndlessLine
		}
		if err := r.fill(); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// makeRoom makes sure that fill can read at least one octet of a line that may
// have limit of them, of which there are fewer yet.
func (r *Reader) makeRoom(limit int) {
	switch {
	case r.r == r.w:
		r.empty()
	case len(r.buf)-r.w > len(r.buf)/2, r.r == 0 && r.w < len(r.buf):
	case r.r > 0 && (!r.full || len(r.buf) >= bufferSize):
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	default:
		larger := make([]byte, min(max(2*len(r.buf), bufferSize), max(limit, bufferSize+1)))
		r.w = copy(larger, r.buf[r.r:r.w])
		r.r, r.buf = 0, larger
	}
}

// empty chooses the buffer for what comes next; what was buffered is consumed.
func (r *Reader) empty() {
	r.r, r.w, r.scan = 0, 0, 0
	switch {
	case !r.full || len(r.own) >= bufferSize:
		r.buf = r.own
	case len(r.buf) != bufferSize:
		r.buf = make([]byte, bufferSize)
	}
}

// fill reads once from the source into the room behind the buffered octets.
func (r *Reader) fill() error {
	for range 100 {
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		r.full = r.w == len(r.buf)
		if n > 0 {
			return nil // an error comes again with the next read
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// Buffered is the number of octets that were read and not yet consumed: 0 means
// that pending replies must be flushed before the next read.
func (r *Reader) Buffered() int { return r.w - r.r }

// Peek returns all buffered octets without consuming them, for body scanners;
// it reads once when there are none. They are valid until the next call of
// ReadLine or Peek.
func (r *Reader) Peek() ([]byte, error) {
	if r.r == r.w {
		r.empty()
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
	return r.buf[r.r:r.w], nil
}

// Discard consumes n octets of what Peek returned.
func (r *Reader) Discard(n int) {
	if n < 0 || n > r.w-r.r {
		panic("wire: Discard of more than was peeked")
	}
	r.r += n
	r.scan = 0
}
