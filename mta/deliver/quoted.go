package deliver

// maxQuoted is the length of an encoded line without the "=" that continues it
// (RFC 2045 section 6.7).
const maxQuoted = 75

// quoter writes text as quoted-printable, line by line. Unlike the standard
// library's it never begins a continued line with a hyphen: such a line could
// read as the boundary of the multipart around it.
type quoter struct {
	f         func([]byte) error
	line      []byte
	continued bool // line continues another
	cr        bool // the last octet was a CR, and ended a line
}

func newQuoter(f func([]byte) error) *quoter {
	return &quoter{f: f, line: make([]byte, 0, maxQuoted+3)}
}

const upperHex = "0123456789ABCDEF"

func (q *quoter) Write(p []byte) (int, error) {
	for _, c := range p {
		cr := q.cr
		q.cr = c == '\r'
		var err error
		switch {
		case c == '\n' && cr: // the line was ended at the CR
		case c == '\r' || c == '\n':
			err = q.endLine()
		case c == ' ' || c == '\t' || c > ' ' && c <= '~' && c != '=':
			err = q.literal(c)
		default:
			err = q.escape(c)
		}
		if err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (q *quoter) literal(c byte) error {
	if err := q.room(1); err != nil {
		return err
	}
	if c == '-' && q.continued && len(q.line) == 0 {
		return q.escape(c)
	}
	q.line = append(q.line, c)
	return nil
}

func (q *quoter) escape(c byte) error {
	err := q.room(3)
	q.line = append(q.line, '=', upperHex[c>>4], upperHex[c&15])
	return err
}

// room makes sure that n octets fit into the line, and continues on another
// where they do not.
func (q *quoter) room(n int) error {
	if len(q.line)+n <= maxQuoted {
		return nil
	}
	return q.flush("=\r\n")
}

func (q *quoter) flush(end string) error {
	err := q.f(append(q.line, end...))
	q.line, q.continued = q.line[:0], end == "=\r\n"
	return err
}

// endLine ends a line of the text; a space before it has to be seen.
func (q *quoter) endLine() error {
	if err := q.guardSpace(); err != nil {
		return err
	}
	return q.flush("\r\n")
}

func (q *quoter) guardSpace() error {
	n := len(q.line)
	if n == 0 || q.line[n-1] != ' ' && q.line[n-1] != '\t' {
		return nil
	}
	c := q.line[n-1]
	q.line = q.line[:n-1]
	return q.escape(c)
}

// Close writes the last line, which has no end.
func (q *quoter) Close() error {
	if err := q.guardSpace(); err != nil || len(q.line) == 0 {
		return err
	}
	err := q.f(q.line)
	q.line = q.line[:0]
	return err
}
