package syntax

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// read cuts a stream into commands and says what became of each.
func read(r *Reader, accept bool) []string {
	var said []string
	for {
		c, err := r.Next()
		said = append(said, one(r, c, err, accept))
		var literal *LiteralError
		var wrong *Error
		if err != nil && !errors.As(err, &literal) && !errors.As(err, &wrong) && !errors.Is(err, ErrBareLF) {
			return said
		}
		if len(said) > 10000 {
			return said
		}
		if last := said[len(said)-1]; strings.HasPrefix(last, "!") {
			return said
		}
	}
}

func one(r *Reader, c *Command, err error, accept bool) string {
	if err != nil {
		return fmt.Sprintf("%s: %v", c.Tag, err)
	}
	uid := ""
	if c.UID {
		uid = "UID "
	}
	s := fmt.Sprintf("%s %s%s %q", c.Tag, uid, c.Name, c.Args)
	for c.Message != nil {
		if !accept {
			if err := r.Refuse(c); err != nil {
				return "! " + err.Error()
			}
			return s + " refused"
		}
		body, err := r.Accept(c)
		if err != nil {
			return "! " + err.Error()
		}
		b, err := io.ReadAll(body)
		if err != nil {
			return "! " + err.Error()
		}
		if err := r.Rest(c); err != nil {
			return "! " + err.Error()
		}
		s += fmt.Sprintf(" <%s> %q", b, c.Args)
	}
	return s
}

func newReader(s string, known bool) (*Reader, *int) {
	r := NewReader(strings.NewReader(s))
	invited := new(int)
	r.Invite = func() error { *invited++; return nil }
	r.SetKnown(known)
	return r, invited
}

func TestReader(t *testing.T) {
	tests := []struct {
		name, in string
		accept   bool
		want     []string
		invited  int
	}{
		{"plain", "a NOOP\r\nb uid fetch 1 FLAGS\r\n", true, []string{`a NOOP ""`, `b UID FETCH "1 FLAGS"`, ": EOF"}, 0},
		{"literals", "a LOGIN {3}\r\nbob {6+}\r\nhu\r\nry\r\nb NOOP\r\n", true,
			[]string{`a LOGIN "{3}\r\nbob {6+}\r\nhu\r\nry"`, `b NOOP ""`, ": EOF"}, 1},
		{"message", "a APPEND INBOX (\\Seen) {5}\r\nhello\r\nb NOOP\r\n", true,
			[]string{`a APPEND "INBOX (\\Seen) {5}\r\n" <hello> ""`, `b NOOP ""`, ": EOF"}, 1},
		{"mailbox as a literal", "a APPEND {5+}\r\nINBOX ~{5+}\r\nhello\r\n", true,
			[]string{`a APPEND "{5+}\r\nINBOX ~{5+}\r\n" <hello> ""`, ": EOF"}, 0},
		{"several messages", "a APPEND INBOX {1+}\r\nx (\\Seen) {2+}\r\nyy\r\nb NOOP\r\n", true,
			[]string{`a APPEND "INBOX {1+}\r\n" <x> " (\\Seen) {2+}\r\n" <yy> ""`, `b NOOP ""`, ": EOF"}, 0},
		{"UTF8", "a APPEND INBOX UTF8 (~{1+}\r\nx)\r\n", true, []string{`a APPEND "INBOX UTF8 (~{1+}\r\n" <x> ")"`, ": EOF"}, 0},
		{"refused messages are consumed", "a APPEND INBOX {8+}\r\nb NOOP\r\n (\\Seen) {4+}\r\n....\r\nc NOOP\r\n", false,
			[]string{`a APPEND "INBOX {8+}\r\n" refused`, `c NOOP ""`, ": EOF"}, 0},
		{"a refused literal that came unasked is consumed", "a NOOP {300000+}\r\n" + strings.Repeat("x", 300000) + "\r\nb NOOP\r\n", true,
			[]string{"a: literal larger than 262126 octets", `b NOOP ""`, ": EOF"}, 0},
		{"one that was not waited for", "a NOOP {300000}\r\nb NOOP\r\n", true, []string{"a: " + ErrFraming.Error()}, 0},
		{"in quotes", "a LOGIN \"x{3+}\r\nabc\r\n", true, []string{": " + ErrFraming.Error()}, 0},
		{"behind quotes", "a LOGIN \"x\\\"{3+}\" {1+}\r\nabc\r\n", true, []string{`a LOGIN "\"x\\\"{3+}\" {1+}\r\nabc"`, ": EOF"}, 0},
		{"no size", "a NOOP {99999999999999999999+}\r\n", true, []string{": " + ErrFraming.Error()}, 0},
		{"bare LF", "a NOOP\nb NOOP\r\n", true, []string{": " + ErrBareLF.Error(), `b NOOP ""`, ": EOF"}, 0},
		{"bare LF behind a literal", "a NOOP {3+}\nabc\r\n", true, []string{": " + ErrFraming.Error()}, 0},
		{"no tag", "+ NOOP\r\n NOOP\r\n\r\na\r\na NOOP\r\n", true, []string{
			": expected a tag: letters and digits before the command", ": expected a tag: letters and digits before the command",
			": expected a tag: letters and digits before the command", "a: expected a command after the tag", `a NOOP ""`, ": EOF"}, 0},
		{"no tag and a literal", "* NOOP {3+}\r\nabc\r\nb NOOP\r\n", true, []string{
			": expected a tag: letters and digits before the command", `b NOOP ""`, ": EOF"}, 0},
		{"endless", "a " + strings.Repeat("x", MaxLine) + "\r\n", true, []string{"a: " + ErrTooLong.Error()}, 0},
		{"cut short", "a NOOP {5+}\r\nab", true, []string{"a: unexpected EOF"}, 0},
	}
	for _, test := range tests {
		r, invited := newReader(test.in, true)
		got := read(r, test.accept)
		if fmt.Sprint(got) != fmt.Sprint(test.want) || *invited != test.invited {
			t.Errorf("%s: %q, %d invitations, want %q", test.name, got, *invited, test.want)
		}
	}
}

// TestReaderStranger: before login, less of everything.
func TestReaderStranger(t *testing.T) {
	for _, in := range []string{
		"a LOGIN " + strings.Repeat("x", MaxStrangerLine) + "\r\n",
		"a LOGIN {24600}\r\n",
		"a LOGIN {24600+}\r\n",
		"a LOGIN {70000+}\r\n" + strings.Repeat("x", 70000) + "\r\n",
		"a LOGIN" + strings.Repeat(" {2+}\r\nxx", 4000) + "\r\n",
	} {
		r, invited := newReader(in, false)
		c, err := r.Next()
		var literal *LiteralError
		if err == nil || errors.As(err, &literal) && literal.Limit >= MaxStrangerCommand {
			t.Errorf("%.30q: %v, %v", in, c, err)
		}
		if *invited > 0 {
			t.Errorf("%.30q: was invited", in)
		}
	}
}

// TestReaderLimit: one octet more than a command may have.
func TestReaderLimit(t *testing.T) {
	for extra := range 2 {
		size := MaxCommand - len("a X {262100+}\r\n") + extra
		in := fmt.Sprintf("a X {%d+}\r\n", size) + strings.Repeat("x", size) + "\r\nb NOOP\r\n"
		r, _ := newReader(in, true)
		_, err := r.Next()
		if (err != nil) != (extra > 0) {
			t.Errorf("%d octets: %v", size, err)
		}
	}
	r, _ := newReader("a X"+strings.Repeat(" {0+}\r\n", MaxLiterals+1)+"\r\nb NOOP\r\n", true)
	var literal *LiteralError
	if _, err := r.Next(); !errors.As(err, &literal) {
		t.Errorf("%d literals: %v", MaxLiterals+1, err)
	}
}

// FuzzReader: however the octets come, the same commands are read, and together
// with what belongs to them they are the octets: none is read twice or as part
// of another command.
func FuzzReader(f *testing.F) {
	for _, s := range []string{
		"a LOGIN {3}\r\nbob {6+}\r\nhungry\r\nb NOOP\r\n",
		"a APPEND INBOX (\\Seen) \"29-Feb-2024 12:30:00 +0100\" {5+}\r\nhello {3+}\r\nabc\r\nb NOOP\r\n",
		"a APPEND x CATENATE (URL \"a\" TEXT {3+}\r\nabc URL {1+}\r\nx TEXT {0+}\r\n)\r\n",
		"a UID REPLACE 4 INBOX UTF8 (~{3+}\r\nabc)\r\n",
		"a X \"{3+}\r\nabc\r\n", "a X {300000+}\r\nb NOOP\r\n", "* {2+}\r\nxx\r\na NOOP\r\n",
	} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, accept bool) {
		if len(s) > 1<<16 {
			return
		}
		whole, _ := newReader(s, true)
		pieces := NewReader(iotest.OneByteReader(strings.NewReader(s)))
		pieces.SetKnown(true)
		pieces.Invite = func() error { return nil }
		got, want := read(pieces, accept), read(whole, accept)
		// A client that does not wait for a literal to be refused is found out only
		// when its octets are there already.
		if strings.Contains(fmt.Sprint(want), ErrFraming.Error()) {
			return
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q octet by octet is\n%q\nat once\n%q", s, got, want)
		}
		if accept {
			checkExact(t, s)
		}
	})
}

// checkExact puts the commands together again.
func checkExact(t *testing.T, s string) {
	var raw bytes.Buffer
	r := NewReader(io.TeeReader(strings.NewReader(s), &raw))
	r.SetKnown(true)
	r.Invite = func() error { return nil }
	at := 0
	for {
		c, err := r.Next()
		if err != nil {
			return
		}
		name := c.Name
		if c.UID {
			name = "UID " + name
		}
		var b bytes.Buffer
		b.WriteString(c.Tag + " " + name)
		if at := len(c.Args); at > 0 {
			b.WriteString(" ")
		}
		b.Write(c.Args)
		for c.Message != nil {
			body, err := r.Accept(c)
			if err != nil {
				return
			}
			if _, err := io.Copy(&b, body); err != nil {
				return
			}
			if err := r.Rest(c); err != nil {
				return
			}
			b.Write(c.Args)
		}
		b.WriteString("\r\n")
		want := s[at : at+min(b.Len(), len(s)-at)]
		// An empty argument list may have had a space.
		if !strings.EqualFold(want, b.String()) && !strings.HasPrefix(strings.ToUpper(s[at:]), strings.ToUpper(strings.TrimSuffix(b.String(), "\r\n"))+" \r\n") {
			t.Fatalf("%q at %d became %q", s, at, b.String())
		}
		at = raw.Len() - r.Buffered()
	}
}
