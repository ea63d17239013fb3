package message

import (
	"strconv"
	"strings"
)

// Limits of one structured field; what goes beyond them is ignored.
const (
	maxParams     = 128
	maxParamBytes = 16 << 10
)

// params are the parameters of a Content-Type or Content-Disposition field as
// written: RFC 2231 names keep their asterisks, values their percent signs.
type params []param

type param struct{ name, value string } // name in lower case

// parseMediaType takes a Content-Type apart. Type and subtype are in lower
// case, and "" where the field is not well-formed (RFC 2045 section 5.2: the
// default holds then). The parameters are appended to room, which may be nil.
func parseMediaType(v string, room params) (typ, subtype string, ps params) {
	v = v[:min(len(v), maxParamBytes)]
	s := &scanner{s: v}
	typ = s.token()
	if s.skipSpace(); !s.take('/') {
		return "", "", nil
	}
	subtype = s.token()
	if typ == "" || subtype == "" {
		return "", "", nil
	}
	return strings.ToLower(typ), strings.ToLower(subtype), s.params(room)
}

// parseDisposition takes a Content-Disposition apart (RFC 2183).
func parseDisposition(v string) (value string, ps params) {
	s := &scanner{s: v[:min(len(v), maxParamBytes)]}
	value = s.token()
	return strings.ToLower(value), s.params(nil)
}

// firstToken is the token at the start of a field.
func firstToken(v string) string {
	s := &scanner{s: v[:min(len(v), maxParamBytes)]}
	return s.token()
}

// get returns the value of a parameter, with continuations joined and
// character set information removed (RFC 2231 sections 3 and 4).
func (ps params) get(name string) string {
	var first, extended string
	var have, haveExtended, haveSections bool
	for _, p := range ps {
		rest, ok := strings.CutPrefix(p.name, name)
		switch {
		case !ok:
		case rest == "" && !have:
			first, have = p.value, true
		case rest == "*" && !haveExtended:
			extended, haveExtended = decodeExtended(p.value, true), true
		case len(rest) > 1 && rest[0] == '*':
			haveSections = true
		}
	}
	switch {
	case haveExtended:
		return extended
	case have:
		return first
	case haveSections:
		return ps.continued(name)
	}
	return ""
}

func (ps params) continued(name string) string {
	sections := make(map[int]param)
	for _, p := range ps {
		rest, ok := strings.CutPrefix(p.name, name+"*")
		if !ok {
			continue
		}
		number, encoded := strings.CutSuffix(rest, "*")
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 {
			continue
		}
		if encoded {
			p.value = decodeExtended(p.value, n == 0)
		}
		if _, dup := sections[n]; !dup {
			sections[n] = p
		}
	}
	var b strings.Builder
	for i := 0; ; i++ {
		p, ok := sections[i]
		if !ok {
			return b.String()
		}
		b.WriteString(p.value)
	}
}

// decodeExtended decodes an extended value; the first section begins with
// charset'language'.
func decodeExtended(v string, first bool) string {
	if first {
		if _, rest, ok := strings.Cut(v, "'"); ok {
			if _, rest, ok := strings.Cut(rest, "'"); ok {
				v = rest
			}
		}
	}
	if !strings.Contains(v, "%") {
		return v
	}
	b := make([]byte, 0, len(v))
	for i := 0; i < len(v); i++ {
		if v[i] == '%' && i+2 < len(v) {
			if hi, lo := unhex(v[i+1]), unhex(v[i+2]); hi >= 0 && lo >= 0 {
				b = append(b, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		b = append(b, v[i])
	}
	return string(b)
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// scanner reads the lexical tokens of RFC 2045 and RFC 5322.
type scanner struct {
	s string
	i int
}

func (s *scanner) end() bool { return s.i >= len(s.s) }

func (s *scanner) take(c byte) bool {
	if s.end() || s.s[s.i] != c {
		return false
	}
	s.i++
	return true
}

// skipSpace passes over white space and comments.
func (s *scanner) skipSpace() {
	for !s.end() {
		switch s.s[s.i] {
		case ' ', '\t':
			s.i++
		case '(':
			s.comment()
		default:
			return
		}
	}
}

// comment passes over a comment, nested ones included, and returns its text.
// An unclosed one goes to the end.
func (s *scanner) comment() string {
	depth := 0
	start := s.i + 1
	for ; !s.end(); s.i++ {
		switch s.s[s.i] {
		case '\\':
			s.i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				s.i++
				return s.s[start : s.i-1]
			}
		}
	}
	s.i = len(s.s)
	return s.s[min(start, s.i):]
}

// token reads a token (RFC 2045 section 5.1).
func (s *scanner) token() string {
	s.skipSpace()
	start := s.i
	for !s.end() && s.s[s.i] > ' ' && !isTSpecial(s.s[s.i]) {
		s.i++
	}
	return s.s[start:s.i]
}

func isTSpecial(c byte) bool {
	switch c {
	case '(', ')', '<', '>', '@', ',', ';', ':', '\\', '"', '/', '[', ']', '?', '=':
		return true
	}
	return false
}

// quoted reads a quoted-string whose opening quote was taken; an unclosed one
// goes to the end.
func (s *scanner) quoted() string {
	start := s.i
	for !s.end() && s.s[s.i] != '"' && s.s[s.i] != '\\' {
		s.i++
	}
	if s.take('"') {
		return s.s[start : s.i-1]
	}
	b := []byte(s.s[start:s.i])
	for ; !s.end(); s.i++ {
		switch c := s.s[s.i]; {
		case c == '"':
			s.i++
			return string(b)
		case c == '\\' && s.i+1 < len(s.s):
			s.i++
			b = append(b, s.s[s.i])
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

// params appends "; name=value" up to the end. Broken ones are passed over.
func (s *scanner) params(ps params) params {
	for len(ps) < maxParams {
		for !s.end() && s.s[s.i] != ';' {
			switch s.s[s.i] {
			case '(':
				s.comment()
			case '"':
				s.i++
				s.quoted()
			default:
				s.i++
			}
		}
		if !s.take(';') {
			return ps
		}
		name := strings.ToLower(s.token())
		if s.skipSpace(); name == "" || !s.take('=') {
			continue
		}
		ps = append(ps, param{name, s.paramValue()})
	}
	return ps
}

// paramValue reads a quoted-string, or what stands before the next semicolon
// or comment: many programs do not quote file names with spaces.
func (s *scanner) paramValue() string {
	s.skipSpace()
	if s.take('"') {
		return s.quoted()
	}
	start := s.i
	for !s.end() && s.s[s.i] != ';' && s.s[s.i] != '(' {
		s.i++
	}
	return strings.Trim(s.s[start:s.i], " \t")
}
