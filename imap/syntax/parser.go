package syntax

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxDepth bounds nested parentheses, NOT and OR in one command.
const MaxDepth = 50

// Error is a command that does not follow the grammar.
type Error struct {
	Want string // what was expected, in words for the client
	Got  string // what was there instead; "" for nothing
}

func (e *Error) Error() string {
	if e.Got == "" {
		return "expected " + e.Want
	}
	return "expected " + e.Want + " at " + e.Got
}

// A LimitError is a command that the grammar allows, and that is too large.
type LimitError struct{ What string }

func (e *LimitError) Error() string { return "too many " + e.What }

// A Parser reads the arguments of one command. After its first error, which Err
// returns, its methods return zero values and consume nothing.
type Parser struct {
	b     []byte
	pos   int
	err   error
	depth int
}

// NewParser returns a Parser of arguments; what it returns shares nothing with
// them.
func NewParser(args []byte) *Parser { return &Parser{b: args} }

// Err is the first error: an *Error, a *LimitError, or what Fail was given.
func (p *Parser) Err() error { return p.err }

// Fail ends the command with an error of the caller's.
func (p *Parser) Fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// fail notes what was expected here.
func (p *Parser) fail(want string) {
	if p.err != nil {
		return
	}
	const excerpt = 20
	rest := p.b[p.pos:]
	e := &Error{Want: want, Got: "the end of the command"}
	if len(rest) > 0 {
		e.Got = fmt.Sprintf("%+q", rest[:min(len(rest), excerpt)])
	}
	p.err = e
}

func (p *Parser) limit(what string) {
	if p.err == nil {
		p.err = &LimitError{What: what}
	}
}

// peek is the next octet, 0 at the end and after an error.
func (p *Parser) peek() byte {
	if p.err != nil || p.pos >= len(p.b) {
		return 0
	}
	return p.b[p.pos]
}

// take consumes c if it is next.
func (p *Parser) take(c byte) bool {
	if p.err != nil || p.pos >= len(p.b) || p.b[p.pos] != c {
		return false
	}
	p.pos++
	return true
}

func (p *Parser) expect(c byte) {
	if !p.take(c) {
		p.fail(fmt.Sprintf("%q", string(c)))
	}
}

// SP consumes the space between two arguments.
func (p *Parser) SP() {
	if !p.take(' ') {
		p.fail("a space and another argument")
	}
}

// More consumes a space where one is next, and tells whether.
func (p *Parser) More() bool {
	if p.peek() != ' ' {
		return false
	}
	if len(bytes.TrimLeft(p.b[p.pos:], " ")) == 0 {
		return false // spaces at the end, which End forgives
	}
	return p.take(' ')
}

// takeBefore consumes a space where c is behind it, and tells whether.
func (p *Parser) takeBefore(c byte) bool {
	if p.peek() != ' ' || p.pos+1 >= len(p.b) || p.b[p.pos+1] != c {
		return false
	}
	return p.take(' ')
}

// End checks that nothing follows but spaces.
func (p *Parser) End() error {
	if p.err == nil && len(bytes.TrimLeft(p.b[p.pos:], " ")) > 0 {
		p.fail("the end of the command")
	}
	return p.err
}

// word consumes what can be an atom, without a judgement.
func (p *Parser) word(valid func(byte) bool) string {
	if p.err != nil {
		return ""
	}
	at := p.pos
	for p.pos < len(p.b) && valid(p.b[p.pos]) {
		p.pos++
	}
	return string(p.b[at:p.pos])
}

// Atom reads an atom; want names it in an error.
func (p *Parser) Atom(want string) string {
	s := p.word(isAtomChar)
	if s == "" {
		p.fail(want)
	}
	return s
}

// Keyword reads an atom in capitals.
func (p *Parser) Keyword(want string) string { return strings.ToUpper(p.Atom(want)) }

// letters reads a keyword that may be followed by "[" or "<": the name of a
// FETCH item.
func (p *Parser) letters() string {
	return strings.ToUpper(p.word(func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-'
	}))
}

// takeWord consumes a keyword of letters if it is next, and then a delimiter.
func (p *Parser) takeWord(word string) bool {
	rest := p.b[min(p.pos, len(p.b)):]
	if p.err != nil || len(rest) < len(word) || !strings.EqualFold(string(rest[:len(word)]), word) {
		return false
	}
	if len(rest) > len(word) && isAtomChar(rest[len(word)]) {
		return false
	}
	p.pos += len(word)
	return true
}

// AString reads an astring.
func (p *Parser) AString(want string) string {
	switch p.peek() {
	case '"', '{', '~':
		if p.peek() != '~' || p.atLiteral() {
			return p.String(want)
		}
	}
	s := p.word(isAStringChar)
	if s == "" {
		p.fail(want)
	}
	return s
}

// String reads a quoted string or a literal.
func (p *Parser) String(want string) string {
	switch p.peek() {
	case '"':
		return p.quoted()
	case '{', '~':
		return string(p.literal())
	}
	p.fail(want)
	return ""
}

// NString reads a string or NIL, which is "".
func (p *Parser) NString(want string) string {
	if p.takeWord("NIL") {
		return ""
	}
	return p.String(want)
}

func (p *Parser) quoted() string {
	p.pos++
	at := p.pos
	escaped := false
	for ; p.pos < len(p.b); p.pos++ {
		switch c := p.b[p.pos]; {
		case c == '"':
			s := p.b[at:p.pos]
			if !utf8.Valid(s) {
				p.fail("UTF-8 in a quoted string")
				return ""
			}
			p.pos++
			if escaped {
				return unescape(s)
			}
			return string(s)
		case c == '\\':
			p.pos++
			escaped = true
			if p.pos == len(p.b) || p.b[p.pos] != '"' && p.b[p.pos] != '\\' {
				p.pos = min(p.pos, len(p.b))
				p.fail(`\" or \\`)
				return ""
			}
		case c == 0 || c == '\r' || c == '\n':
			p.fail("no control characters in a quoted string")
			return ""
		}
	}
	p.fail(`'"' at the end of a string`)
	return ""
}

func unescape(b []byte) string {
	s := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' {
			i++
		}
		s = append(s, b[i])
	}
	return string(s)
}

// announced finds the announcement of a literal at the present place: its size
// and length.
func (p *Parser) announced() (size, n int, ok bool) {
	rest := p.b[min(p.pos, len(p.b)):]
	end := bytes.IndexByte(rest, '\n')
	if p.err != nil || end < 1 || rest[end-1] != '\r' {
		return 0, 0, false
	}
	lit, err := announcement(rest[:end-1])
	if err != nil || lit == nil || lit.announce != end-1 {
		return 0, 0, false
	}
	return int(min(lit.Size, math.MaxInt32)), end + 1, true
}

func (p *Parser) atLiteral() bool {
	_, _, ok := p.announced()
	return ok
}

func (p *Parser) literal() []byte {
	size, n, ok := p.announced()
	if !ok || size > len(p.b)-p.pos-n {
		p.fail("a literal")
		return nil
	}
	binary := p.b[p.pos] == '~'
	p.pos += n
	s := p.b[p.pos : p.pos+size]
	if !binary && bytes.IndexByte(s, 0) >= 0 {
		p.fail("no NUL in a literal")
		return nil
	}
	p.pos += size
	return s
}

// decimal reads digits up to a limit. ok is false where b is something else.
func decimal(b []byte, limit uint64) (n uint64, ok bool) {
	if !allDigits(b) {
		return 0, false
	}
	for _, c := range b {
		d := uint64(c - '0')
		if n > (limit-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

func allDigits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}

// number reads digits up to a limit.
func (p *Parser) number(limit uint64, want string) uint64 {
	if p.err != nil {
		return 0
	}
	end := p.pos
	for end < len(p.b) && p.b[end] >= '0' && p.b[end] <= '9' {
		end++
	}
	n, ok := decimal(p.b[p.pos:end], limit)
	if !ok {
		p.fail(want)
		return 0
	}
	p.pos = end
	return n
}

// Number reads a number of 32 bits.
func (p *Parser) Number() uint32 { return uint32(p.number(math.MaxUint32, "a number")) }

// NzNumber reads one that is not 0.
func (p *Parser) NzNumber() uint32 { return p.nzNumber("a number") }

func (p *Parser) nzNumber(want string) uint32 {
	at := p.pos
	n := uint32(p.number(math.MaxUint32, want))
	if n == 0 && p.err == nil {
		p.pos = at
		p.fail(want + " above 0")
	}
	return n
}

// Number64 reads a number of 63 bits: a size, a mod-sequence (RFC 7162 section 7).
func (p *Parser) Number64() uint64 { return p.number(math.MaxInt64, "a number") }

// List reads "(" items ")" with one space between items. It may be empty.
func (p *Parser) List(item func()) {
	p.expect('(')
	if p.depth++; p.depth > MaxDepth {
		p.limit("parentheses")
	}
	for n := 0; p.err == nil && !p.take(')'); n++ {
		if n > 0 {
			p.SP()
		}
		item()
	}
	p.depth--
}

// items reads a list of limit items at most in parentheses; what names them in
// an error. want is expected where there is none; "" allows that.
func items[T any](p *Parser, limit int, what, want string, item func() T) []T {
	var list []T
	p.List(func() {
		if len(list) == limit {
			p.limit(what)
			return
		}
		list = append(list, item())
	})
	if len(list) == 0 && want != "" {
		p.fail(want)
	}
	return list
}

// oneOrMore is items, where one may stand without parentheses.
func oneOrMore[T any](p *Parser, limit int, what, want string, item func() T) []T {
	if p.peek() != '(' {
		return []T{item()}
	}
	return items(p, limit, what, want, item)
}

// Flag reads a flag: an atom, or one with a backslash in front.
func (p *Parser) Flag() string {
	prefix := ""
	if p.take('\\') {
		prefix = "\\"
	}
	return prefix + p.Atom("a flag")
}

// MaxFlags bounds the flags of one list.
const MaxFlags = 300

// FlagList reads a list of flags in parentheses.
func (p *Parser) FlagList() []string {
	return items(p, MaxFlags, "flags", "", p.Flag)
}

// Flags reads a list of flags, whose parentheses STORE may leave out.
func (p *Parser) Flags() []string {
	if p.peek() == '(' {
		return p.FlagList()
	}
	flags := []string{p.Flag()}
	for p.More() {
		if len(flags) == MaxFlags {
			p.limit("flags")
			break
		}
		flags = append(flags, p.Flag())
	}
	return flags
}

// Date reads a date as SEARCH has it, quoted or not, at midnight UTC.
func (p *Parser) Date() time.Time {
	quoted := p.take('"')
	at := p.pos
	s := p.word(isAtomChar)
	t, err := time.Parse("2-Jan-2006", s)
	if err != nil {
		p.pos = min(at, len(p.b))
		p.fail("a date such as 1-Jan-2024")
	}
	if quoted {
		p.expect('"')
	}
	return t
}

// DateTime reads a date-time in quotes.
func (p *Parser) DateTime() time.Time {
	at := p.pos
	s := ""
	if p.peek() == '"' {
		s = p.quoted()
	}
	t, err := time.Parse("_2-Jan-2006 15:04:05 -0700", s)
	if err != nil && p.err == nil {
		p.pos = at
		p.fail(`a date and time such as " 1-Jan-2024 12:00:00 +0000"`)
	}
	return t
}

// isAtomChar: RFC 9051 section 9.
func isAtomChar(c byte) bool {
	switch c {
	case '(', ')', '{', ' ', '%', '*', '"', '\\', ']':
		return false
	}
	return c > ' ' && c < 0x7f
}

// isAStringChar takes octets beyond ASCII too: people type them, and no client
// means anything else by them.
func isAStringChar(c byte) bool { return isAtomChar(c) || c == ']' || c >= 0x80 }
