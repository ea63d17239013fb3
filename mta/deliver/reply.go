package deliver

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"postrider/mta"
)

// Limits of one reply. RFC 5321 section 4.5.3.1.5 has 512 octets for a line.
const (
	maxReplyLine  = 4096 // octets of a line with its end
	maxReplyLines = 256
	maxReplyText  = 4096 // octets of text kept; more is read and dropped
)

var (
	errReplyLine  = errors.New("a reply line is too long")
	errReplyLines = errors.New("a reply has too many lines")
	errReplyForm  = errors.New("a reply is malformed")
)

// replyReader reads replies from src through a buffer of one line.
type replyReader struct {
	src io.Reader
	// heard, if not nil, is told every line, and whether it is the last of a reply.
	heard func(line []byte, last bool)
	r, w  int // buf[r:w] is not consumed yet
	buf   [maxReplyLine]byte
}

// buffered is the number of octets that came and were not asked for.
func (r *replyReader) buffered() int { return r.w - r.r }

// line returns the next line without its end, valid until the next call. A
// line may end in LF alone: only the peer itself could be deceived by it.
func (r *replyReader) line() ([]byte, error) {
	seen := 0
	for {
		if i := bytes.IndexByte(r.buf[r.r+seen:r.w], '\n'); i >= 0 {
			line := r.buf[r.r : r.r+seen+i]
			r.r += seen + i + 1
			return bytes.TrimSuffix(line, []byte{'\r'}), nil
		}
		seen = r.w - r.r
		if seen == len(r.buf) {
			return nil, errReplyLine
		}
		if r.r > 0 {
			copy(r.buf[:], r.buf[r.r:r.w])
			r.r, r.w = 0, seen
		}
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		switch {
		case n > 0:
		case err == nil:
			err = io.ErrNoProgress
			fallthrough
		default:
			return nil, err
		}
	}
}

// reply reads one reply (RFC 5321 section 4.2). each, if not nil, gets the
// text of every line.
func (r *replyReader) reply(each func(n int, text []byte)) (*mta.Reply, error) {
	var rep mta.Reply
	var text strings.Builder
	for n := 0; ; n++ {
		if n == maxReplyLines {
			return nil, errReplyLines
		}
		line, err := r.line()
		if err != nil {
			return nil, err
		}
		code, last, rest, err := splitReplyLine(line)
		if err != nil {
			return nil, err
		}
		if r.heard != nil {
			r.heard(line, last)
		}
		if n > 0 && code != rep.Code {
			return nil, errReplyForm
		}
		rep.Code = code
		if each != nil {
			each(n, rest)
		}
		status, rest := cutStatus(code, rest)
		if rep.Status == "" {
			rep.Status = string(status)
		}
		appendText(&text, n, rest)
		if last {
			rep.Text = text.String()
			return &rep, nil
		}
	}
}

// splitReplyLine parses one line: three digits, then a hyphen where more lines
// follow, a space or nothing at the last one.
func splitReplyLine(line []byte) (code int, last bool, rest []byte, err error) {
	if len(line) < 3 {
		return 0, false, nil, errReplyForm
	}
	for _, c := range line[:3] {
		if c < '0' || c > '9' {
			return 0, false, nil, errReplyForm
		}
		code = code*10 + int(c-'0')
	}
	if code < 200 || code > 599 {
		return 0, false, nil, errReplyForm
	}
	if len(line) == 3 {
		return code, true, nil, nil
	}
	switch line[3] {
	case ' ':
		return code, true, line[4:], nil
	case '-':
		return code, false, line[4:], nil
	}
	return 0, false, nil, errReplyForm
}

// cutStatus takes an enhanced status code of code's class off the front of a
// line's text (RFC 2034 section 4).
func cutStatus(code int, text []byte) (status, rest []byte) {
	if len(text) < len("2.0.0") || int(text[0]-'0') != code/100 || code/100 == 3 || text[1] != '.' {
		return nil, text
	}
	i, dots, digits := 2, 0, 0
	for ; i < len(text) && text[i] != ' '; i++ {
		switch c := text[i]; {
		case '0' <= c && c <= '9' && digits < 3:
			digits++
		case c == '.' && digits > 0 && dots == 0:
			dots++
			digits = 0
		default:
			return nil, text
		}
	}
	if dots != 1 || digits == 0 {
		return nil, text
	}
	return text[:i], bytes.TrimPrefix(text[i:], []byte{' '})
}

// appendText adds the text of line n, made safe to log and to show: no control
// characters, valid UTF-8, bounded.
func appendText(b *strings.Builder, n int, line []byte) {
	if n > 0 && b.Len() < maxReplyText {
		b.WriteByte('\n')
	}
	for len(line) > 0 && b.Len() < maxReplyText-utf8.UTFMax {
		r, size := utf8.DecodeRune(line)
		line = line[size:]
		switch {
		case r == '\t':
			b.WriteByte(' ')
		case r == utf8.RuneError && size == 1, r < ' ', r >= 0x7f && r < 0xa0, r == '\u2028', r == '\u2029':
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
}
