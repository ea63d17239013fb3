package syntax

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"postrider/internal/wire"
)

// Limits of one command.
const (
	MaxStrangerLine    = 16 << 10  // octets of a line, CRLF included, before login
	MaxStrangerCommand = 24 << 10  // octets with literals, before login
	MaxLine            = 64 << 10  // octets of a line after login
	MaxCommand         = 256 << 10 // octets with literals, those of messages apart
	MaxLiterals        = 1000      // of one command, those of messages apart
	MaxTag             = 128       // octets
	// maxDrain is how many octets of refused literals are read and thrown away
	// before the connection is given up.
	maxStrangerDrain = 64 << 10
	maxDrain         = 256 << 20
	// MaxUnasked is how many octets of a literal may come without being asked for
	// under LITERAL- (RFC 7888 section 5).
	MaxUnasked = 4096
)

var (
	// ErrFraming: where this command ends and the next begins is not certain any
	// more. The connection must be closed.
	ErrFraming = errors.New("the end of the command is not certain")
	// ErrTooLong: a line or a command exceeds its limit. The connection must be
	// closed: nobody knows whether the line announced a literal.
	ErrTooLong = errors.New("command too long")
	// ErrBareLF: the line did not end in CRLF. It was consumed, and announced
	// nothing.
	ErrBareLF = errors.New("line ends in bare LF")
)

// A LiteralError refuses a literal that is too large or one too many. The
// command is over and the next one can be read.
type LiteralError struct {
	Tag     string // of the command; "" where it had none
	Limit   int64  // octets that are left, or MaxUnasked
	Unasked bool   // it should have waited to be asked for
}

func (e *LiteralError) Error() string { return fmt.Sprintf("literal larger than %d octets", e.Limit) }

// Literal is the announcement of a literal (RFC 9051 section 4.3, RFC 7888,
// RFC 3516 section 4.4).
type Literal struct {
	Size     int64
	NonSync  bool // its octets come without being asked for
	Binary   bool // "~{": may hold NUL
	announce int  // octets of the announcement
}

// Command is a command, whole or up to a literal that its handler takes.
type Command struct {
	Tag  string
	Name string // in capitals
	UID  bool   // it was "UID Name"
	Args []byte // after the name and its space; valid until the next call of Reader
	// Message is a literal at the end of Args that holds a message: accept or
	// refuse it. nil when the command is whole.
	Message *Literal
}

// Reader cuts a stream into commands.
type Reader struct {
	line *wire.Reader
	// Invite asks the client for a literal ("+ ..."); set by the owner.
	Invite func() error
	// Minus refuses what LITERAL- forbids.
	Minus bool
	known bool   // the client has logged in
	buf   []byte // the command in hand
	head  int    // where its arguments begin in buf
	rest  bool   // buf is what follows a message
	n     int    // literals in it
	drain int64  // octets of refused literals so far
}

// NewReader returns a Reader of src.
func NewReader(src io.Reader) *Reader { return &Reader{line: wire.NewReader(src)} }

// Reset goes on with another source and forgets what was buffered (STARTTLS,
// COMPRESS).
func (r *Reader) Reset(src io.Reader) { r.line.Reset(src) }

// Buffered is the number of octets that were read from the source and belong to
// no command yet.
func (r *Reader) Buffered() int { return r.line.Buffered() }

// Take consumes what is buffered and returns a copy of it.
func (r *Reader) Take() []byte {
	if r.line.Buffered() == 0 {
		return nil
	}
	b, err := r.line.Peek()
	if err != nil {
		return nil
	}
	b = bytes.Clone(b)
	r.line.Discard(len(b))
	return b
}

// SetKnown tells whether the client has logged in, which raises the limits.
func (r *Reader) SetKnown(known bool) { r.known = known }

func (r *Reader) limits() (line, command int) {
	if r.known {
		return MaxLine, MaxCommand
	}
	return MaxStrangerLine, MaxStrangerCommand
}

// Line reads one line that is no command: a response in AUTHENTICATE, DONE. It
// is valid until the next call.
func (r *Reader) Line() ([]byte, error) {
	limit, _ := r.limits()
	line, err := r.line.ReadLine(limit)
	return line, lineError(line, err)
}

// lineError translates the errors of the line reader.
func lineError(line []byte, err error) error {
	switch {
	case errors.Is(err, wire.ErrBareLF):
		if bytes.HasSuffix(bytes.TrimRight(line, "\r\n"), []byte("}")) || bytes.IndexByte(bytes.TrimRight(line, "\r\n"), '\r') >= 0 {
			return ErrFraming // was that the announcement of a literal?
		}
		return ErrBareLF
	case errors.Is(err, wire.ErrLineTooLong), errors.Is(err, wire.ErrEndlessLine):
		return ErrTooLong
	}
	return err
}

// maxKept is the largest buffer that is kept between commands.
const maxKept = 1 << 10

// Next reads the next command. After a *LiteralError, an *Error (which is a
// line without tag and name) and ErrBareLF the next one can be read; all other
// errors are final. With ErrTooLong the command may have a tag.
func (r *Reader) Next() (*Command, error) {
	if r.buf = r.buf[:0]; cap(r.buf) > maxKept {
		r.buf = nil
	}
	r.n, r.head, r.rest = 0, 0, false
	return r.more(nil)
}

// more reads on until the command is whole or a message begins.
func (r *Reader) more(c *Command) (*Command, error) {
	for {
		lit, err := r.segment()
		if err != nil {
			return &Command{Tag: tagOf(r.buf)}, err
		}
		begun := c
		if begun == nil {
			if begun, err = r.begin(lit); err != nil {
				return begun, err
			}
		}
		begun.Args, begun.Message = r.buf[r.head:], nil
		if lit == nil {
			return begun, nil
		}
		if r.Minus && lit.NonSync && lit.Size > MaxUnasked {
			if err := r.abandon(lit); err != nil {
				return begun, err
			}
			return begun, &LiteralError{Tag: begun.Tag, Limit: MaxUnasked, Unasked: true}
		}
		if isMessage(begun, r.rest) {
			begun.Message = lit
			return begun, nil
		}
		c = begun
		if err := r.collect(begun.Tag, lit); err != nil {
			return begun, err
		}
	}
}

// segment appends the next line to the command, with CRLF where it announces a
// literal.
func (r *Reader) segment() (*Literal, error) {
	limit, total := r.limits()
	line, err := r.line.ReadLine(limit)
	if err != nil {
		if len(r.buf) == 0 && errors.Is(err, wire.ErrLineTooLong) {
			r.buf = append(r.buf, line...)
		}
		return nil, lineError(line, err)
	}
	if len(r.buf)+len(line) > total {
		return nil, ErrTooLong
	}
	lit, err := announcement(line)
	if err != nil {
		return nil, err
	}
	r.buf = append(r.buf, line...)
	if lit != nil {
		r.buf = append(r.buf, '\r', '\n')
	}
	return lit, nil
}

// begin splits tag and name off the first line. Where that cannot be and a
// literal was announced, the literal is refused.
func (r *Reader) begin(lit *Literal) (*Command, error) {
	c, head, err := split(r.buf)
	if err == nil {
		r.head = head
		return c, nil
	}
	if e := r.abandon(lit); e != nil {
		return c, e
	}
	return c, err
}

// collect reads an ordinary literal into the command.
func (r *Reader) collect(tag string, lit *Literal) error {
	_, total := r.limits()
	left := int64(total - len(r.buf))
	if r.n++; lit.Size > left || r.n > MaxLiterals {
		if err := r.abandon(lit); err != nil {
			return err
		}
		return &LiteralError{Tag: tag, Limit: max(left, 0)}
	}
	if !lit.NonSync {
		if err := r.Invite(); err != nil {
			return err
		}
	}
	for n := lit.Size; n > 0; {
		p, err := r.line.Peek()
		if err != nil {
			return noEOF(err)
		}
		p = p[:min(int64(len(p)), n)]
		r.buf = append(r.buf, p...)
		r.line.Discard(len(p))
		n -= int64(len(p))
	}
	return nil
}

// refuse gets rid of a literal: one that comes without being asked for is
// consumed, another one is not there, provided that the client waits.
func (r *Reader) refuse(lit *Literal) error {
	if !lit.NonSync {
		if r.line.Buffered() > 0 {
			return ErrFraming // it did not wait: are these octets the literal?
		}
		return nil
	}
	bound := int64(maxDrain)
	if !r.known {
		bound = maxStrangerDrain
	}
	if lit.Size > bound-r.drain {
		return ErrFraming
	}
	r.drain += lit.Size
	_, err := io.Copy(io.Discard, &messageReader{r: r, left: lit.Size})
	return err
}

// Accept begins to read the message that a command stopped at. The reader must
// be read to its end, and then Rest called.
func (r *Reader) Accept(c *Command) (io.Reader, error) {
	if !c.Message.NonSync {
		if err := r.Invite(); err != nil {
			return nil, err
		}
	}
	return &messageReader{r: r, left: c.Message.Size}, nil
}

// Rest reads on after a message, up to the end of the command or the next
// message. c.Args are what follows the message, a space first.
func (r *Reader) Rest(c *Command) error {
	r.buf, r.head, r.rest = r.buf[:0], 0, true
	_, err := r.more(c)
	return err
}

// Refuse ends a command at the message that it stopped at. What else the client
// sends as part of the command, it has not sent yet (synchronising literals) or
// is consumed.
func (r *Reader) Refuse(c *Command) error {
	lit := c.Message
	c.Message = nil
	return r.abandon(lit)
}

// abandon gets rid of the rest of a command, from a literal on. A client that
// waits to be invited has sent no more of it.
func (r *Reader) abandon(lit *Literal) error {
	for lit != nil {
		if err := r.refuse(lit); err != nil || !lit.NonSync {
			return err
		}
		r.buf = r.buf[:0]
		var err error
		if lit, err = r.segment(); err != nil {
			return err
		}
	}
	return nil
}

// Lend gives the reader a larger buffer for what comes now; Reclaim takes it
// back.
func (r *Reader) Lend(p []byte) { r.line.Lend(p) }

func (r *Reader) Reclaim() { r.line.Reclaim() }

// messageReader reads the octets of a literal.
type messageReader struct {
	r    *Reader
	left int64
}

func (m *messageReader) Read(p []byte) (int, error) {
	if m.left == 0 {
		return 0, io.EOF
	}
	b, err := m.r.line.Peek()
	if err != nil {
		return 0, noEOF(err)
	}
	n := copy(p[:min(int64(len(p)), m.left)], b)
	m.r.line.Discard(n)
	m.left -= int64(n)
	return n, nil
}

// WriteTo spares a copy.
func (m *messageReader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for m.left > 0 {
		b, err := m.r.line.Peek()
		if err != nil {
			return total, noEOF(err)
		}
		b = b[:min(int64(len(b)), m.left)]
		n, err := w.Write(b)
		m.r.line.Discard(n)
		m.left -= int64(n)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// announcement finds the literal that a line announces. It stands at the end,
// outside quotes; within quotes that do not end it is ErrFraming.
func announcement(line []byte) (*Literal, error) {
	if len(line) < 3 || line[len(line)-1] != '}' {
		return nil, nil
	}
	at := bytes.LastIndexByte(line, '{')
	if at < 0 {
		return nil, nil
	}
	lit := &Literal{announce: len(line) - at}
	digits := line[at+1 : len(line)-1]
	if n := len(digits); n > 0 && (digits[n-1] == '+' || digits[n-1] == '-') {
		lit.NonSync = true
		if digits[n-1] == '-' {
			return nil, ErrFraming // of no RFC
		}
		digits = digits[:n-1]
	}
	size, ok := decimal(digits, math.MaxInt64)
	if !ok {
		if len(digits) > 0 && allDigits(digits) {
			return nil, ErrFraming // larger than any
		}
		return nil, nil
	}
	if inQuotes(line[:at]) {
		return nil, ErrFraming
	}
	if at > 0 && line[at-1] == '~' {
		lit.Binary = true
		lit.announce++
	}
	lit.Size = int64(size)
	return lit, nil
}

// inQuotes tells whether a quoted string is open at the end.
func inQuotes(b []byte) bool {
	open := false
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '"':
			open = !open
		case b[i] == '\\' && open:
			i++
		}
	}
	return open
}

// split takes tag and name from the beginning of a command, and finds where its
// arguments begin.
func split(b []byte) (c *Command, head int, err error) {
	tag, rest, ok := bytes.Cut(b, []byte(" "))
	switch {
	case !validTag(tag):
		return &Command{}, 0, &Error{Want: "a tag: letters and digits before the command"}
	case !ok || len(rest) == 0:
		return &Command{Tag: string(tag)}, 0, &Error{Want: "a command after the tag"}
	}
	c = &Command{Tag: string(tag)}
	name, rest, _ := bytes.Cut(rest, []byte(" "))
	c.Name = strings.ToUpper(string(name))
	if c.Name == "UID" {
		c.UID = true
		name, rest, _ = bytes.Cut(rest, []byte(" "))
		c.Name = strings.ToUpper(string(name))
	}
	if !validName(c.Name) {
		return c, 0, &Error{Want: "a command after the tag"}
	}
	return c, len(b) - len(rest), nil
}

// tagOf is the tag of what may be the beginning of a command.
func tagOf(b []byte) string {
	tag, _, ok := bytes.Cut(b, []byte(" "))
	if !ok || !validTag(tag) {
		return ""
	}
	return string(tag)
}

// validTag: any ASTRING-CHAR except "+" (RFC 9051 section 9).
func validTag(b []byte) bool {
	if len(b) == 0 || len(b) > MaxTag {
		return false
	}
	for _, c := range b {
		if !isAStringChar(c) || c == '+' {
			return false
		}
	}
	return true
}

func validName(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAtomChar(s[i]) {
			return false
		}
	}
	return s != ""
}

// isMessage tells whether the literal that a command stops at holds a message;
// rest: its arguments begin behind another one.
func isMessage(c *Command, rest bool) bool {
	p := NewParser(c.Args)
	switch {
	case c.Name == "APPEND" && rest, c.Name == "REPLACE" && rest:
		return p.messageNext()
	case c.Name == "APPEND":
		return p.messageFirst()
	case c.Name == "REPLACE":
		p.SeqNumber()
		p.SP()
		return p.messageFirst()
	}
	return false
}
