package message

import (
	"bytes"
	"io"
	"mime"
	"slices"
	"strings"

	"github.com/emersion/go-message/charset"
)

// decoded reads the body of a part without its content transfer encoding; ok is
// false where that is unknown, and the body comes as it is.
func (x *Index) decoded(p *Part) (r io.Reader, ok bool) {
	raw := x.at(p.Body)
	switch p.Encoding {
	case "7bit", "8bit", "binary":
		return raw, true
	case "base64":
		return newDecoder(raw, &base64Decoder{}), true
	case "quoted-printable":
		return newDecoder(raw, &quotedPrintable{}), true
	}
	return raw, false
}

// Text reads a text part in UTF-8. Where encoding or character set is unknown
// the octets come as they are.
func (x *Index) Text(p *Part) io.Reader {
	r, _ := x.decoded(p)
	if p.Charset == "" || len(p.Charset) > maxCharset || strings.EqualFold(p.Charset, "utf-8") || strings.EqualFold(p.Charset, "us-ascii") {
		return r
	}
	if u, err := charset.Reader(p.Charset, r); err == nil {
		return u
	}
	return r
}

// Limits of what is decoded of headers for searching.
const (
	maxCharset = 64
	maxWords   = 64 << 10
)

// DecodeWords replaces the encoded words of a field body (RFC 2047) and makes
// UTF-8 of the rest. Words that cannot be decoded stay as they are.
func DecodeWords(s string) string {
	if len(s) > maxWords || !strings.Contains(s, "=?") {
		return legible(s)
	}
	d := mime.WordDecoder{CharsetReader: func(name string, r io.Reader) (io.Reader, error) {
		return charset.Reader(name[:min(len(name), maxCharset)], r)
	}}
	out, err := d.DecodeHeader(s)
	if err != nil {
		return legible(s)
	}
	return legible(out)
}

// transfer is a content transfer decoder: it appends what src means to dst.
// last tells that nothing follows.
type transfer interface {
	decode(dst, src []byte, last bool) []byte
}

// decodeChunk is how much is decoded at a time.
const decodeChunk = 16 << 10

type decoder struct {
	r    io.Reader
	t    transfer
	src  []byte
	buf  []byte
	out  []byte // part of buf that was not read yet
	done error
}

func newDecoder(r io.Reader, t transfer) *decoder {
	return &decoder{r: r, t: t, src: make([]byte, decodeChunk)}
}

func (d *decoder) Read(p []byte) (int, error) {
	for len(d.out) == 0 {
		if d.done != nil {
			return 0, d.done
		}
		n, err := d.r.Read(d.src)
		d.done = err
		d.buf = d.t.decode(d.buf[:0], d.src[:n], err == io.EOF)
		d.out = d.buf
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	return n, nil
}

// base64Decoder decodes RFC 2045 section 6.8, and passes over all that is not
// of the alphabet. Padding ends a quantum, so that joined texts are read too.
type base64Decoder struct {
	bits uint32
	n    int // characters in bits
}

func (d *base64Decoder) decode(dst, src []byte, last bool) []byte {
	for _, c := range src {
		v := base64Value(c)
		switch {
		case v >= 0:
			d.bits = d.bits<<6 | uint32(v)
			if d.n++; d.n == 4 {
				dst = append(dst, byte(d.bits>>16), byte(d.bits>>8), byte(d.bits))
				d.bits, d.n = 0, 0
			}
		case c == '=':
			dst = d.flush(dst)
		}
	}
	if last {
		dst = d.flush(dst)
	}
	return dst
}

func (d *base64Decoder) flush(dst []byte) []byte {
	switch d.n {
	case 2:
		dst = append(dst, byte(d.bits>>4))
	case 3:
		dst = append(dst, byte(d.bits>>10), byte(d.bits>>2))
	}
	d.bits, d.n = 0, 0
	return dst
}

func base64Value(c byte) int {
	switch {
	case c >= 'A' && c <= 'Z':
		return int(c - 'A')
	case c >= 'a' && c <= 'z':
		return int(c-'a') + 26
	case c >= '0' && c <= '9':
		return int(c-'0') + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return -1
}

// maxPadding is the longest white space at the end of a quoted-printable line
// that is known to be padding (RFC 2045 section 6.7 rule 3).
const maxPadding = 1024

// quotedPrintable decodes RFC 2045 section 6.7; what is no escape stands for
// itself.
type quotedPrintable struct {
	held []byte // white space, or the start of an escape, not yet understood
}

func (d *quotedPrintable) decode(dst, src []byte, last bool) []byte {
	dst = slices.Grow(dst, len(d.held)+len(src))
	for i := 0; i < len(src); {
		c := src[i]
		switch {
		case isEscape(d.held):
			var used bool
			if dst, used = d.escape(dst, c); used {
				i++
			}
			continue
		case len(d.held) > 0:
		case c > ' ' && c != '=':
			n := i + 1
			for n < len(src) && (src[n] > ' ' && src[n] != '=' || src[n] == ' ' && n+1 < len(src) && src[n+1] > ' ') {
				n++
			}
			dst = append(dst, src[i:n]...)
			i = n
			continue
		case c == '=' || c == '\r':
			var n int
			if dst, n = wholeEscape(dst, src[i:]); n > 0 {
				i += n
				continue
			}
		}
		dst = d.octet(dst, c)
		i++
	}
	if !last {
		return dst
	}
	if !isEscape(d.held) || len(d.held) > 1 {
		dst = append(dst, bytes.TrimRight(d.held, " \t\r")...)
	}
	d.held = nil
	return dst
}

// wholeEscape decodes an escape or a line end of which all is at the start of
// src, and returns its length, else 0. It does nothing that octet and escape
// would not do.
func wholeEscape(dst, src []byte) ([]byte, int) {
	switch {
	case len(src) >= 2 && src[0] == '\r' && src[1] == '\n':
		return append(dst, '\r', '\n'), 2
	case len(src) < 3 || src[0] != '=':
		return dst, 0
	}
	second, third := src[1], src[2]
	switch {
	case second == '\r' && third == '\n':
		return dst, 3
	case second == '\r' && third > ' ':
		return append(dst, '=', '\r'), 2
	case second == '=':
		return append(dst, '='), 1
	}
	high, low := unhex(second), unhex(third)
	switch {
	case high >= 0 && low >= 0:
		return append(dst, byte(high<<4|low)), 3
	case high >= 0:
		return append(dst, '=', second), 2
	case second > ' ':
		return append(dst, '='), 1
	}
	return dst, 0
}

func isEscape(held []byte) bool { return len(held) > 0 && held[0] == '=' }

func (d *quotedPrintable) octet(dst []byte, c byte) []byte {
	switch {
	case c == '\n':
		// White space before a line end is padding; the CR was held with it.
		if n := len(d.held); n > 0 && d.held[n-1] == '\r' {
			dst = append(dst, '\r')
		}
		d.held = d.held[:0]
		return append(dst, '\n')
	case c == ' ' || c == '\t' || c == '\r':
		if n := len(d.held); n >= maxPadding || n > 0 && d.held[n-1] == '\r' {
			dst = d.release(dst)
		}
		d.held = append(d.held, c)
		return dst
	}
	dst = d.release(dst)
	if c == '=' {
		d.held = append(d.held, c)
		return dst
	}
	return append(dst, c)
}

// release gives out what was held: it stands for itself.
func (d *quotedPrintable) release(dst []byte) []byte {
	dst = append(dst, d.held...)
	d.held = d.held[:0]
	return dst
}

// escape reads the octet c after "=" and what is held. used tells whether it
// belongs to them; else it is to be read again.
func (d *quotedPrintable) escape(dst []byte, c byte) (_ []byte, used bool) {
	second := d.held[len(d.held)-1]
	switch {
	case c == '\n' && (len(d.held) == 1 || !isHex(second)):
		d.held = d.held[:0] // a soft line break, white space before it ignored
		return dst, true
	case isHex(c) && len(d.held) == 1:
		d.held = append(d.held, c)
		return dst, true
	case isHex(c) && len(d.held) == 2 && isHex(second):
		d.held = d.held[:0]
		return append(dst, byte(unhex(second)<<4|unhex(c))), true
	case (c == ' ' || c == '\t' || c == '\r') && (len(d.held) == 1 || !isHex(second)) && len(d.held) < maxPadding:
		d.held = append(d.held, c)
		return dst, true
	}
	return d.release(dst), false
}

func isHex(c byte) bool { return unhex(c) >= 0 }
