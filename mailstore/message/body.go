package message

import "bytes"

// AppendBody appends the BODY of the message, which is its BodyStructure
// without the extension data (RFC 9051 section 7.5.2), as it goes out. Few
// clients ask for it, so it is made of the other one when they do. It appends
// nothing where the record holds no structure, and something shorter where the
// record is damaged.
func (s *Stored) AppendBody(dst []byte) []byte {
	if s.BodyStructure == nil {
		return dst
	}
	r := wireReader{b: s.BodyStructure, dst: dst}
	r.body(0)
	return r.dst
}

// wireReader reads IMAP values from b and copies some of them to dst. After a
// fault it reads nothing more.
type wireReader struct {
	b   []byte
	dst []byte
	bad bool
}

// The values that a body type has before its extension data.
const (
	basicValues   = 7
	textValues    = basicValues + 1
	messageValues = basicValues + 3
)

// body copies a body structure without its extension data.
func (r *wireReader) body(depth int) {
	if !r.take('(') || depth > maxTableDepth {
		r.b = nil
		return
	}
	r.dst = append(r.dst, '(')
	if len(r.b) > 0 && r.b[0] == '(' {
		for len(r.b) > 0 && r.b[0] == '(' {
			r.body(depth + 1)
		}
		r.take(' ')
		r.dst = append(r.dst, ' ')
		r.copy() // the subtype
	} else {
		r.onePart(depth)
	}
	for len(r.b) > 0 && !r.take(')') {
		r.take(' ')
		r.skip()
	}
	r.dst = append(r.dst, ')')
}

func (r *wireReader) onePart(depth int) {
	n := basicValues
	switch {
	case bytes.HasPrefix(r.b, []byte(`"text" `)):
		n = textValues
	case bytes.HasPrefix(r.b, []byte(`"message" "rfc822" `)), bytes.HasPrefix(r.b, []byte(`"message" "global" `)):
		n = messageValues
	}
	for i := range n {
		if i > 0 {
			r.take(' ')
			r.dst = append(r.dst, ' ')
		}
		if n == messageValues && i == basicValues+1 {
			r.body(depth + 1)
			continue
		}
		r.copy()
	}
}

// copy copies one value.
func (r *wireReader) copy() {
	b := r.b
	r.skip()
	r.dst = append(r.dst, b[:len(b)-len(r.b)]...)
}

// skip passes over one value.
func (r *wireReader) skip() {
	for depth := 0; len(r.b) > 0; {
		switch c := r.b[0]; c {
		case '(':
			depth++
			r.b = r.b[1:]
		case ')':
			if depth == 0 {
				return
			}
			depth--
			r.b = r.b[1:]
		case ' ':
			r.b = r.b[1:]
		default:
			r.b = r.b[valueLen(r.b):]
		}
		if depth == 0 {
			return
		}
	}
}

// valueLen is the length of the string, number or NIL at the start of b, which
// is not empty.
func valueLen(b []byte) int {
	switch b[0] {
	case '"':
		for i := 1; i < len(b); i++ {
			switch b[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
		return len(b)
	case '{':
		end := bytes.IndexByte(b, '\n') + 1
		size := digits(string(bytes.TrimSuffix(b[1:max(end, 1)], []byte("}\r\n"))))
		if end == 0 || size < 0 || size > len(b)-end {
			return len(b)
		}
		return end + size
	}
	n := 1
	for n < len(b) && b[n] != ' ' && b[n] != ')' && b[n] != '(' {
		n++
	}
	return n
}

func (r *wireReader) take(c byte) bool {
	if len(r.b) == 0 || r.b[0] != c {
		return false
	}
	r.b = r.b[1:]
	return true
}
