package deliver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"postrider/mailstore/message"
	"postrider/mta"
)

var errShort = errors.New("the content is shorter than its size")

// content is the message of a Delivery while it is delivered. What fits into
// the first block is read once.
type content struct {
	err  error // it could not be opened or read
	from mta.Content
	size int64
	buf  *buffers
	head []byte // the first block; in buf.in

	scanned    bool
	wide       bool // has octets above 127
	wideHeader bool // has them in its header section

	// narrow is the message as 7-bit text, once a peer needed it so, or why
	// that cannot be.
	narrow    *conversion
	narrowErr error
	narrowLen int64
}

// converted plans the conversion to 7-bit text, once.
func (m *content) converted() error {
	if m.narrow == nil && m.narrowErr == nil {
		m.narrow, m.narrowErr = convert(m)
		if m.narrowErr == nil {
			m.narrowErr = m.narrow.each(func(b []byte) error {
				m.narrowLen += int64(len(b))
				return nil
			})
		}
	}
	return m.narrowErr
}

func (m *content) open(c *Client, d *mta.Delivery) {
	if m.from, m.err = d.Open(); m.err != nil {
		return
	}
	m.size = m.from.Size()
	m.buf = c.buffers.Get().(*buffers)
	m.head, m.err = m.block(0, min(m.size, blockSize))
}

func (m *content) close(c *Client) {
	if m.from != nil {
		m.from.Close()
	}
	if m.buf != nil {
		c.buffers.Put(m.buf)
		m.buf, m.head = nil, nil
	}
}

// block reads n octets at off, at most blockSize, into the buffer, which ends
// what head was unless it is all.
func (m *content) block(off, n int64) ([]byte, error) {
	got, err := m.from.ReadAt(m.buf.in[:n], off)
	if int64(got) == n {
		return m.buf.in[:n], nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = errShort
	}
	return nil, &contentError{err}
}

// each calls f with the content, block by block.
func (m *content) each(f func([]byte) error) error {
	return m.eachOf(message.Range{End: m.size}, f)
}

// eachOf does it with a range of the content.
func (m *content) eachOf(r message.Range, f func([]byte) error) error {
	if m.size <= blockSize {
		if r.Len() <= 0 {
			return nil
		}
		return f(m.head[r.Start:r.End])
	}
	for off := r.Start; off < r.End; off += blockSize {
		b, err := m.block(off, min(r.End-off, blockSize))
		if err != nil {
			return err
		}
		if err := f(b); err != nil {
			return err
		}
	}
	return nil
}

// contentError is a failure of our own store, not of the peer.
type contentError struct{ err error }

func (e *contentError) Error() string { return e.err.Error() }
func (e *contentError) Unwrap() error { return e.err }

// scan finds out whether the message needs 8BITMIME or, in its header,
// SMTPUTF8.
func (m *content) scan() error {
	if m.scanned {
		return nil
	}
	header, tail := true, [3]byte{}
	err := m.each(func(b []byte) error {
		if header {
			end := headerEnd(tail, b)
			m.wideHeader = m.wideHeader || isWide(b[:end])
			header = end == len(b)
			if n := len(b); n >= len(tail) {
				copy(tail[:], b[n-len(tail):])
			}
		}
		m.wide = m.wide || isWide(b)
		return nil
	})
	m.scanned = err == nil
	return err
}

// headerEnd is where in b the header section ends; tail is what stood before b.
func headerEnd(tail [3]byte, b []byte) int {
	const blank = "\r\n\r\n"
	for n := 3; n > 0; n-- { // the blank line may span blocks
		if string(tail[3-n:]) == blank[:n] && bytes.HasPrefix(b, []byte(blank[n:])) {
			return 0
		}
	}
	if tail == [3]byte{} && bytes.HasPrefix(b, crlf) {
		return 0
	}
	if i := bytes.Index(b, []byte(blank)); i >= 0 {
		return i
	}
	return len(b)
}

// isWide tells whether b has an octet above 127.
func isWide(b []byte) bool {
	const high = 0x8080808080808080
	for len(b) >= 8 {
		if binary.NativeEndian.Uint64(b)&high != 0 {
			return true
		}
		b = b[8:]
	}
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}
