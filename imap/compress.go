package imap

import (
	"context"
	"io"

	"github.com/klauspost/compress/flate"
)

// deflater compresses what is sent (RFC 4978). It keeps nothing between two
// writes: that costs some of the gain, and no memory while the client is idle.
type deflater struct {
	out    *output
	packed []byte // of the write under way; nil between two
}

// Write is what the compressor writes to.
func (d *deflater) Write(p []byte) (int, error) {
	d.packed = append(d.packed, p...)
	return len(p), nil
}

// write compresses b, so that the client sees all of it at once. It sends it in one
// piece with the empty block that ends it: mutt 2.2.12 takes that block, when it
// comes in a packet of its own after "+ idling", for the beginning of a response,
// and waits for the rest of it instead of drawing its screen.
func (d *deflater) write(b []byte) error {
	pool := &d.out.srv.large
	if len(b) <= smallBuffer {
		pool = &d.out.srv.small
	}
	buf := pool.Get().(*[]byte)
	d.packed = *buf
	err := flate.StatelessDeflate(d, b, false, nil)
	if err == nil {
		err = d.out.raw(d.packed)
	}
	if cap(d.packed) <= maxBuffer {
		*buf = d.packed[:0]
		pool.Put(buf)
	}
	d.packed = nil
	return err
}

// cmdCompress is COMPRESS (RFC 4978): from the next line on both directions are
// compressed. What the client has sent behind the command is compressed already.
func (s *session) cmdCompress(_ context.Context, c *call) error {
	mechanism := c.p.Keyword("DEFLATE")
	if err := c.p.End(); err != nil {
		return err
	}
	switch {
	case mechanism != "DEFLATE":
		return refuse("CANNOT", "DEFLATE is the only mechanism here")
	case s.out.zip != nil:
		return refuse("COMPRESSIONACTIVE", "DEFLATE is active already")
	}
	c.after = func() error {
		if err := s.out.flush(); err != nil {
			return err
		}
		s.out.zip = &deflater{out: s.out}
		s.r.Reset(newInflater(&ahead{first: s.r.Take(), then: s.in}))
		return nil
	}
	c.text = "DEFLATE active"
	return nil
}

// ahead reads what was read ahead, and then goes on.
type ahead struct {
	first []byte
	then  io.Reader
	buf   []byte // of then; nil until needed
}

// compressedBuffer is how much is read from a compressed connection at a time.
const compressedBuffer = 4 << 10

func (a *ahead) fill() error {
	if len(a.first) > 0 {
		return nil
	}
	if a.buf == nil {
		a.buf = make([]byte, compressedBuffer)
	}
	n, err := a.then.Read(a.buf)
	a.first = a.buf[:n]
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

func (a *ahead) ReadByte() (byte, error) {
	if err := a.fill(); err != nil {
		return 0, err
	}
	c := a.first[0]
	a.first = a.first[1:]
	return c, nil
}

// Buffered is how many octets are there without waiting.
func (a *ahead) Buffered() int { return len(a.first) }
