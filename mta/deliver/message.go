package deliver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"postrider/mta"
)

var errShort = errors.New("the content is shorter than its size")

// message is the content of a Delivery while it is delivered. What fits into
// the first block is read once.
type message struct {
	err     error // it could not be opened or read
	content mta.Content
	size    int64
	buf     *buffers
	head    []byte // the first block; in buf.in

	scanned    bool
	wide       bool // has octets above 127
	wideHeader bool // has them in its header section
}

func (m *message) open(c *Client, d *mta.Delivery) {
	if m.content, m.err = d.Open(); m.err != nil {
		return
	}
	m.size = m.content.Size()
	m.buf = c.buffers.Get().(*buffers)
	m.head, m.err = m.block(0)
}

func (m *message) close(c *Client) {
	if m.content != nil {
		m.content.Close()
	}
	if m.buf != nil {
		c.buffers.Put(m.buf)
		m.buf, m.head = nil, nil
	}
}

// block reads the block at off into the buffer, which ends what head was.
func (m *message) block(off int64) ([]byte, error) {
	n := min(m.size-off, blockSize)
	got, err := m.content.ReadAt(m.buf.in[:n], off)
	if int64(got) == n {
		return m.buf.in[:n], nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = errShort
	}
	return nil, err
}

// each calls f with the content, block by block.
func (m *message) each(f func([]byte) error) error {
	if m.size <= blockSize {
		return f(m.head)
	}
	for off := int64(0); off < m.size; off += blockSize {
		b, err := m.block(off)
		if err != nil {
			return &contentError{err}
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
func (m *message) scan() error {
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
