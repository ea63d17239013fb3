package message

import (
	"bytes"
	"io"
)

// headWindow is how much of a long line is looked at: enough for a field name
// and for every boundary delimiter that is honoured.
const headWindow = 1024

// line is one line of a message.
type line struct {
	start  int64
	length int64  // without its terminator
	term   int64  // 2 for CRLF, 1 for LF, 0 at the end of the message
	head   []byte // the content, or its first headWindow octets; valid until the next line
}

func (l line) end() int64 { return l.start + l.length + l.term }

// lineReader reads lines through a window that does not grow with them.
type lineReader struct {
	r    io.ReaderAt
	size int64

	buf  []byte // the window; buf[pos:] is unread
	base int64  // offset of buf[0]
	pos  int
	long []byte // head of a line that is larger than the window
	err  error  // of r
}

func newLineReader(r io.ReaderAt, size, start int64, window int) *lineReader {
	if left := size - start; left < int64(window) {
		window = int(left)
	}
	return &lineReader{r: r, size: size, base: start, buf: make([]byte, 0, max(window, 0))}
}

// offset is where the next line begins.
func (lr *lineReader) offset() int64 { return lr.base + int64(lr.pos) }

// fill drops what was read and fills the window. It reports whether the window
// has more unread octets than before.
func (lr *lineReader) fill() bool {
	if lr.pos > 0 {
		n := copy(lr.buf, lr.buf[lr.pos:])
		lr.buf = lr.buf[:n]
		lr.base += int64(lr.pos)
		lr.pos = 0
	}
	n := len(lr.buf)
	at := lr.base + int64(n)
	want := min(int64(cap(lr.buf)-n), lr.size-at)
	if want <= 0 || lr.err != nil {
		return false
	}
	got, err := lr.r.ReadAt(lr.buf[n:n+int(want)], at)
	lr.buf = lr.buf[:n+got]
	if int64(got) < want {
		// A short read ends the message where the bytes end.
		lr.size = at + int64(got)
		if err != nil && err != io.EOF {
			lr.err = err
		} else {
			lr.err = io.ErrUnexpectedEOF
		}
	}
	return got > 0
}

// next returns the next line; ok is false at the end of the message.
func (lr *lineReader) next() (ln line, ok bool) {
	i := bytes.IndexByte(lr.buf[lr.pos:], '\n')
	for i < 0 && lr.fill() {
		i = bytes.IndexByte(lr.buf[lr.pos:], '\n')
	}
	if i < 0 && lr.offset()+int64(len(lr.buf)-lr.pos) < lr.size {
		return lr.longLine(), true
	}
	ln.start = lr.offset()
	rest := lr.buf[lr.pos:]
	if i < 0 {
		lr.pos = len(lr.buf)
		ln.head, ln.length = rest, int64(len(rest))
		return ln, len(rest) > 0
	}
	lr.pos += i + 1
	ln.term = 1
	if i > 0 && rest[i-1] == '\r' {
		i--
		ln.term = 2
	}
	ln.head, ln.length = rest[:i], int64(i)
	return ln, true
}

// longLine reads a line that does not fit into the window, which is full.
func (lr *lineReader) longLine() line {
	ln := line{start: lr.offset()}
	lr.long = append(lr.long[:0], lr.buf[:min(headWindow, len(lr.buf))]...)
	ln.head = lr.long
	var last byte
	for {
		rest := lr.buf[lr.pos:]
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			if i > 0 {
				last = rest[i-1]
			}
			ln.length += int64(i)
			ln.term = 1
			lr.pos += i + 1
			break
		}
		ln.length += int64(len(rest))
		if len(rest) > 0 {
			last = rest[len(rest)-1]
		}
		lr.pos = len(lr.buf)
		if !lr.fill() {
			return ln
		}
	}
	if last == '\r' {
		ln.length--
		ln.term = 2
	}
	return ln
}

// bytes returns the octets of a range: from the window where it holds them, so
// that small messages are read once.
func (lr *lineReader) bytes(rg Range) []byte {
	if lo := rg.Start - lr.base; lo >= 0 && rg.End <= lr.base+int64(len(lr.buf)) {
		return lr.buf[lo : rg.End-lr.base]
	}
	b := make([]byte, rg.Len())
	n, err := lr.r.ReadAt(b, rg.Start)
	if n < len(b) && lr.err == nil && err != nil {
		lr.err = err
	}
	return b[:n]
}
