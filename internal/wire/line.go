package wire

import (
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
)

// Reader reads CRLF lines and counted or dotted data from a connection with a
// small fixed buffer. It is not safe for concurrent use.
type Reader struct{ _ struct{} }

// NewReader returns a Reader on r.
func NewReader(r io.Reader) *Reader { panic("unimplemented") }

// Reset makes the reader read from r and forgets what was buffered (STARTTLS).
func (r *Reader) Reset(src io.Reader) { panic("unimplemented") }

// ReadLine returns the next line without its CRLF; it is valid until the next
// call. limit counts the octets with CRLF.
func (r *Reader) ReadLine(limit int) ([]byte, error) { panic("unimplemented") }

// Buffered is the number of octets that were read and not yet consumed: 0 means
// that pending replies must be flushed before the next read.
func (r *Reader) Buffered() int { panic("unimplemented") }

// Read reads raw octets, buffered ones first.
func (r *Reader) Read(p []byte) (int, error) { panic("unimplemented") }

// ReadSlice-style access for body scanners: Peek returns up to the whole
// buffer without consuming, reading once when it is empty; Discard consumes.
func (r *Reader) Peek() ([]byte, error) { panic("unimplemented") }

// Discard consumes n octets of what Peek returned.
func (r *Reader) Discard(n int) { panic("unimplemented") }
