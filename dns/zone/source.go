package zone

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"postrider/dns/names"
)

// source is one file on its way to the parser. It counts lines, so that errors
// can say where they are, holds to the limits, and replaces a line of $GENERATE
// by the lines that it stands for.
//
// It hands out single octets and reads no line before it is asked for one, so
// that the line it is at is the parser's.
type source struct {
	p        *reading
	name     string
	r        *bufio.Reader
	closer   io.Closer
	line     int    // of the octets that go out
	at       int    // where the record that is being read began
	began    bool   // at holds
	directed bool   // the line before was a directive, which ends with its line
	text     []byte // what is left of the line
	state    lexical
	gen      *generator // lines yet to come from $GENERATE
	included string     // the file that the line's $INCLUDE names
}

// lexical is what a line inherits from those before it.
type lexical struct {
	depth  int // of parentheses
	quoted bool
}

func newSource(p *reading, name string, r io.Reader) *source {
	s := &source{p: p, name: name, r: bufio.NewReaderSize(r, maxLine)}
	if c, ok := r.(io.Closer); ok && len(p.open) > 0 {
		s.closer = c
	}
	return s
}

// settle tells that a record is complete: the next begins behind it.
func (s *source) settle() { s.began = false }

// Stat and Read make a source an fs.File. The parser calls neither.
func (s *source) Stat() (fs.FileInfo, error) { return nil, fs.ErrInvalid }
func (s *source) Read([]byte) (int, error)   { return 0, fs.ErrInvalid }

// Close closes an included file, once. It remains the current one until the
// parser reads on in another: the parser closes it before it tells an error.
func (s *source) Close() error {
	c := s.closer
	s.closer = nil
	if c == nil {
		return nil
	}
	return c.Close()
}

// ReadByte gives the parser the next octet.
func (s *source) ReadByte() (byte, error) {
	if len(s.text) == 0 {
		for s.p.current() != s {
			s.p.open = s.p.open[:len(s.p.open)-1]
		}
		if err := s.fill(); err != nil {
			if err != io.EOF && s.p.err == nil {
				s.p.err = err
			}
			return 0, err
		}
	}
	c := s.text[0]
	s.text = s.text[1:]
	return c, nil
}

// fill reads the next line.
func (s *source) fill() error {
	s.included = ""
	if s.directed && s.state == (lexical{}) {
		s.settle()
	}
	s.directed = false
	if s.gen != nil {
		line, err := s.gen.next()
		if err != nil {
			return err
		}
		if line != nil && line[0] == '$' {
			return fmt.Errorf("%w: $GENERATE makes a directive", ErrInvalid)
		}
		if line != nil {
			return s.take(line)
		}
		s.gen = nil
	}
	line, err := s.r.ReadSlice('\n')
	s.line++
	if err == bufio.ErrBufferFull {
		s.at = s.line
		return fmt.Errorf("%w: a line has more than %d octets", ErrTooLarge, maxLine)
	}
	if len(line) == 0 {
		return err
	}
	if s.state == (lexical{}) {
		word, rest := directive(line)
		s.directed = word != ""
		switch word {
		case "$GENERATE":
			s.at, s.began = s.line, true
			if s.gen, err = newGenerator(rest); err != nil {
				return err
			}
			return s.take([]byte("\n"))
		case "$INCLUDE":
			// The parser knows no quoted names; the name that it sees is not used.
			s.included, rest = firstWord(rest)
			line = []byte("$INCLUDE file" + rest)
		}
	}
	return s.take(line)
}

// take makes line the one that goes out.
func (s *source) take(line []byte) error {
	if s.p.bytes -= int64(len(line)); s.p.bytes < 0 {
		return fmt.Errorf("%w: more octets than allowed", ErrTooLarge)
	}
	if content := s.state.scan(line); content && !s.began {
		s.at, s.began = s.line, true
	}
	s.text = line
	return nil
}

// scan follows parentheses and quotes over a line, and tells whether it has
// anything but space and comment.
func (l *lexical) scan(line []byte) (content bool) {
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\':
			content = true
			i++
		case c == '"':
			content = true
			l.quoted = !l.quoted
		case l.quoted:
		case c == ';':
			return content
		case c == '(':
			l.depth++
		case c == ')':
			l.depth = max(l.depth-1, 0)
		case c != ' ' && c != '\t' && c != '\r' && c != '\n':
			content = true
		}
	}
	return content
}

// directive cuts the first word, in upper case, off a line that begins with "$".
func directive(line []byte) (word, rest string) {
	if line[0] != '$' {
		return "", ""
	}
	i := bytes.IndexAny(line, " \t\r\n;")
	if i < 0 {
		i = len(line)
	}
	return strings.ToUpper(string(line[:i])), string(line[i:])
}

// firstWord is the first word or quoted string of a line, and what follows it. A
// line without one gives "".
func firstWord(s string) (word, rest string) {
	s = strings.TrimLeft(s, " \t")
	if q, ok := strings.CutPrefix(s, `"`); ok {
		if word, rest, ok = strings.Cut(q, `"`); ok {
			return word, rest
		}
		return "", "\n"
	}
	if i := strings.IndexAny(s, " \t\r\n;"); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// generator makes the lines of a $GENERATE directive, which is not in an RFC: it
// is that of BIND, "range lhs [ttl] [class] type rhs". In the rest of the line $ is
// the number, ${offset,width,base} the number plus offset, padded with zeros to
// width, in base d, o, x, X, or n, N for nibbles with dots; \$ and $$ are a dollar
// sign.
type generator struct {
	template      string
	n, stop, step int64
	line          []byte
}

func newGenerator(rest string) (*generator, error) {
	rest = strings.TrimSpace(rest)
	span, template, found := strings.Cut(strings.ReplaceAll(rest, "\t", " "), " ")
	bad := func(why string) (*generator, error) {
		return nil, fmt.Errorf("%w: $GENERATE %q: %s", ErrInvalid, span, why)
	}
	if !found {
		return bad("expected START-STOP[/STEP] NAME TYPE DATA")
	}
	g := &generator{template: template, step: 1}
	ends, step, stepped := strings.Cut(span, "/")
	start, stop, ok := strings.Cut(ends, "-")
	var err error
	if g.n, err = strconv.ParseInt(start, 10, 32); err != nil || !ok || g.n < 0 {
		return bad("expected START-STOP[/STEP]")
	}
	if g.stop, err = strconv.ParseInt(stop, 10, 32); err != nil || g.stop < g.n {
		return bad("its range ends before it starts")
	}
	if stepped {
		if g.step, err = strconv.ParseInt(step, 10, 32); err != nil || g.step < 1 {
			return bad("the step is not a positive number")
		}
	}
	if (g.stop-g.n)/g.step >= maxGenerate {
		return nil, fmt.Errorf("%w: $GENERATE makes more than %d records", ErrTooLarge, maxGenerate)
	}
	return g, nil
}

// next is the next line, or nil at the end.
func (g *generator) next() ([]byte, error) {
	if g.n > g.stop {
		return nil, nil
	}
	g.line = g.line[:0]
	t := g.template
	for i := 0; i < len(t); i++ {
		switch {
		case t[i] == '\\' && i+1 < len(t):
			if t[i+1] != '$' {
				g.line = append(g.line, '\\')
			}
			i++
			g.line = append(g.line, t[i])
		case t[i] != '$':
			g.line = append(g.line, t[i])
		case strings.HasPrefix(t[i:], "$$"):
			g.line = append(g.line, '$')
			i++
		case strings.HasPrefix(t[i:], "${"):
			end := strings.IndexByte(t[i:], '}')
			if end < 0 {
				return nil, fmt.Errorf("%w: $GENERATE: %q has no }", ErrInvalid, t[i:])
			}
			if err := g.modified(t[i+2 : i+end]); err != nil {
				return nil, err
			}
			i += end
		default:
			g.line = strconv.AppendInt(g.line, g.n, 10)
		}
	}
	g.n += g.step
	return append(g.line, '\n'), nil
}

// modified appends the number as ${offset,width,base} wants it.
func (g *generator) modified(s string) error {
	bad := fmt.Errorf("%w: $GENERATE: ${%s} is not ${OFFSET[,WIDTH[,BASE]]}", ErrInvalid, s)
	f := strings.Split(s, ",")
	offset, err := strconv.ParseInt(f[0], 10, 32)
	if err != nil || len(f) > 3 {
		return bad
	}
	width, base := int64(0), "d"
	if len(f) > 1 {
		if width, err = strconv.ParseInt(f[1], 10, 32); err != nil || width < 0 || width > names.MaxWire {
			return bad
		}
	}
	if len(f) > 2 {
		base = f[2]
	}
	v := g.n + offset
	if v < 0 {
		return fmt.Errorf("%w: $GENERATE: ${%s} makes %d of %d", ErrInvalid, s, v, g.n)
	}
	switch base {
	case "d", "o", "x", "X":
		g.line = fmt.Appendf(g.line, "%0*"+base, int(width), v)
	case "n", "N":
		digits := "0123456789abcdef"
		if base == "N" {
			digits = "0123456789ABCDEF"
		}
		// Nibbles, the lowest first; width counts their dots.
		for used := int64(0); used == 0 || v > 0 || used < width; used += 2 {
			if used > 0 {
				g.line = append(g.line, '.')
			}
			g.line = append(g.line, digits[v&15])
			v >>= 4
		}
	default:
		return bad
	}
	return nil
}
