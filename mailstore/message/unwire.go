package message

import (
	"bytes"
	"fmt"

	"github.com/emersion/go-imap/v2"
)

// ReadEnvelope takes an ENVELOPE apart that Stored holds. Subject and names
// have their encoded words; what defaults to From is filled in. The error wraps
// ErrRecord.
func ReadEnvelope(wire []byte) (*imap.Envelope, error) {
	r := wireReader{b: wire}
	env := r.envelope()
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: ENVELOPE of %d octets", ErrRecord, len(wire))
	}
	return env, nil
}

// ReadSubject takes the subject alone out of such an ENVELOPE.
func ReadSubject(wire []byte) (string, error) {
	r := wireReader{b: wire}
	r.expect('(')
	r.string()
	subject := r.spaced()
	if r.bad {
		return "", fmt.Errorf("%w: ENVELOPE of %d octets", ErrRecord, len(wire))
	}
	return subject, nil
}

func (r *wireReader) fail() { r.bad, r.b = true, nil }

func (r *wireReader) expect(c byte) {
	if !r.take(c) {
		r.fail()
	}
}

// nextList tells whether the next value is a list.
func (r *wireReader) nextList() bool { return len(r.b) > 0 && r.b[0] == '(' }

// string reads a string; NIL is "".
func (r *wireReader) string() string {
	switch {
	case len(r.b) == 0:
		r.fail()
		return ""
	case r.b[0] == '"':
		n := valueLen(r.b)
		v := r.b[:n]
		r.b = r.b[n:]
		if n < 2 || v[n-1] != '"' {
			r.fail()
			return ""
		}
		return unquote(v[1 : n-1])
	case r.b[0] == '{':
		n := valueLen(r.b)
		v := r.b[:n]
		r.b = r.b[n:]
		_, text, ok := bytes.Cut(v, []byte("}\r\n"))
		if !ok {
			r.fail()
		}
		return string(text)
	case bytes.HasPrefix(r.b, []byte("NIL")):
		r.b = r.b[3:]
		return ""
	}
	r.fail()
	return ""
}

// unquote removes the backslashes before quotes and backslashes.
func unquote(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) {
			i++
		}
		out = append(out, b[i])
	}
	return string(out)
}

// spaced reads a string that comes after a space.
func (r *wireReader) spaced() string {
	r.expect(' ')
	return r.string()
}

func (r *wireReader) envelope() *imap.Envelope {
	var env imap.Envelope
	r.expect('(')
	env.Date, _ = ParseDate(r.string()) // zero where it is none
	env.Subject = r.spaced()
	for _, l := range [...]*[]imap.Address{&env.From, &env.Sender, &env.ReplyTo, &env.To, &env.Cc, &env.Bcc} {
		r.expect(' ')
		*l = r.addresses()
	}
	if id := messageIDs(r.spaced()); id != "" {
		env.InReplyTo = []string{id}
	}
	env.MessageID = messageIDs(r.spaced())
	r.expect(')')
	return &env
}

func (r *wireReader) addresses() []imap.Address {
	if !r.nextList() {
		r.string()
		return nil
	}
	r.expect('(')
	var l []imap.Address
	for r.take('(') {
		a := imap.Address{Name: r.string()}
		r.spaced() // the route
		a.Mailbox = r.spaced()
		a.Host = r.spaced()
		r.expect(')')
		l = append(l, a)
	}
	r.expect(')')
	return l
}
