package wire

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadLine(t *testing.T) {
	const limit = 20
	long := strings.Repeat("x", 3*bufferSize)
	for _, tt := range []struct {
		in   string
		line string
		err  error
		next string // what can be read after it
	}{
		{"NOOP\r\nQUIT\r\n", "NOOP", nil, "QUIT\r\n"},
		{"\r\n", "", nil, ""},
		{"nul\x00 and 8 bit \xff\r\n", "nul\x00 and 8 bit \xff", nil, ""},
		{"NOOP\nQUIT\r\n", "NOOP\n", ErrBareLF, "QUIT\r\n"},
		{"\nQUIT\r\n", "\n", ErrBareLF, "QUIT\r\n"},
		{"a\rb\r\nQUIT\r\n", "a\rb\r\n", ErrBareLF, "QUIT\r\n"},
		{"a\r\r\nQUIT\r\n", "a\r\r\n", ErrBareLF, "QUIT\r\n"},
		{"\r\r\n", "\r\r\n", ErrBareLF, ""},
		{"123456789012345678\r\n", "123456789012345678", nil, ""},
		{"1234567890123456789\r\nQUIT\r\n", "1234567890123456789\r", ErrLineTooLong, "QUIT\r\n"},
		{"1234567890123456789012\nQUIT\r\n", "12345678901234567890", ErrLineTooLong, "QUIT\r\n"},
		{long + "\r\nQUIT\r\n", long[:limit], ErrLineTooLong, "QUIT\r\n"},
		{"", "", io.EOF, ""},
		{"QUI", "", io.ErrUnexpectedEOF, ""},
		{long, "", io.ErrUnexpectedEOF, ""},
	} {
		for name, src := range map[string]io.Reader{
			"whole":     strings.NewReader(tt.in),
			"dripped":   iotest.OneByteReader(strings.NewReader(tt.in)),
			"early EOF": iotest.DataErrReader(strings.NewReader(tt.in)),
		} {
			r := NewReader(src)
			line, err := r.ReadLine(limit)
			if string(line) != tt.line || err != tt.err {
				t.Errorf("%s: ReadLine(%.40q) = %q, %v, want %q, %v", name, tt.in, line, err, tt.line, tt.err)
			}
			if tt.err == io.ErrUnexpectedEOF {
				continue
			}
			if rest, err := readAll(r); string(rest) != tt.next || err != nil {
				t.Errorf("%s: after %.40q came %q, %v, want %q", name, tt.in, rest, err, tt.next)
			}
		}
	}
}

// readAll reads what is left as a body scanner does.
func readAll(r *Reader) ([]byte, error) {
	var all []byte
	for {
		p, err := r.Peek()
		if err == io.EOF {
			return all, nil
		} else if err != nil {
			return all, err
		}
		all = append(all, p...)
		r.Discard(len(p))
	}
}

func TestReadLineGrows(t *testing.T) {
	long := strings.Repeat("y", 100_000)
	r := NewReader(strings.NewReader("a\r\n" + long + "\r\nb\r\n" + long + "\r\n"))
	for _, want := range []string{"a", long, "b", long} {
		line, err := r.ReadLine(len(long) + 2)
		if string(line) != want || err != nil {
			t.Fatalf("ReadLine = %d octets, %v, want %d", len(line), err, len(want))
		}
	}
	if _, err := r.ReadLine(10); err != io.EOF || len(r.buf) != bufferSize {
		t.Errorf("%v, and the buffer has %d octets", err, len(r.buf))
	}
}

// TestIdleBuffer: who waits has a small buffer, and where more comes at once it is
// read in large pieces.
func TestIdleBuffer(t *testing.T) {
	const line = "0123456789abcdef 0123456789abcdef\r\n"
	src := &pieces{text: strings.Repeat(line, 1000)}
	r := NewReader(src)
	for range 1000 {
		if got, err := r.ReadLine(100); err != nil || string(got)+"\r\n" != line {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if most := 2 + len(line)*1000/(bufferSize-len(line)); src.reads > most {
		t.Errorf("%d reads for %d octets, want at most %d", src.reads, len(line)*1000, most)
	}
	src.text = line
	if _, err := r.ReadLine(100); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadLine(100); err != io.EOF || len(r.buf) != idleSize {
		t.Errorf("%v, and a reader that waits has a buffer of %d octets", err, len(r.buf))
	}
}

// pieces counts the reads of a text.
type pieces struct {
	text  string
	reads int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.text == "" {
		return 0, io.EOF
	}
	p.reads++
	n := copy(b, p.text)
	p.text = p.text[n:]
	return n, nil
}

func TestEndlessLine(t *testing.T) {
	src := strings.NewReader(strings.Repeat("z", 10*discardBound))
	r := NewReader(src)
	for range 2 { // it stays
		if line, err := r.ReadLine(512); line != nil || err != ErrEndlessLine {
			t.Fatalf("ReadLine = %.40q, %v", line, err)
		}
	}
	if read := 10*discardBound - src.Len(); read > discardBound+2*bufferSize {
		t.Errorf("read %d octets of it", read)
	}
}

// TestReadLineAfterTimeout: a line that comes in two parts with a timeout
// between is one line, also when it is too long.
func TestReadLineAfterTimeout(t *testing.T) {
	for _, limit := range []int{12, 5} {
		r := NewReader(io.MultiReader(
			strings.NewReader("first "), &failOnce{err: os.ErrDeadlineExceeded}, strings.NewReader("part\r\nnext\r\n")))
		if _, err := r.ReadLine(limit); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("limit %d: %v", limit, err)
		}
		line, err := r.ReadLine(limit)
		if limit == 12 && (string(line) != "first part" || err != nil) {
			t.Errorf("ReadLine = %q, %v", line, err)
		}
		if limit == 5 && (string(line) != "first" || err != ErrLineTooLong) {
			t.Errorf("ReadLine = %q, %v", line, err)
		}
		if rest, err := readAll(r); string(rest) != "next\r\n" || err != nil {
			t.Errorf("limit %d: then %q, %v", limit, rest, err)
		}
	}
}

type failOnce struct{ err error }

func (f *failOnce) Read([]byte) (int, error) {
	err := f.err
	f.err = io.EOF
	return 0, err
}

func TestPeekDiscardReset(t *testing.T) {
	r := NewReader(strings.NewReader("DATA\r\nbody\r\n.\r\nQUIT\r\n"))
	if r.Buffered() != 0 {
		t.Errorf("Buffered before the first read = %d", r.Buffered())
	}
	r.ReadLine(512)
	p, err := r.Peek()
	if string(p) != "body\r\n.\r\nQUIT\r\n" || err != nil {
		t.Fatalf("Peek = %q, %v", p, err)
	}
	r.Discard(len("body\r\n.\r\n"))
	if r.Buffered() != len("QUIT\r\n") {
		t.Errorf("Buffered = %d", r.Buffered())
	}
	r.Reset(strings.NewReader("EHLO a\r\n"))
	if line, err := r.ReadLine(512); string(line) != "EHLO a" || err != nil {
		t.Errorf("after Reset: %q, %v", line, err)
	}
	defer func() {
		if recover() == nil {
			t.Error("Discard of more than there is did not panic")
		}
	}()
	r.Discard(1)
}

// chunks reads from a string in pieces whose sizes are bytes of a script.
type chunks struct {
	in     []byte
	script []byte
	n      int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	size := 1
	if len(c.script) > 0 {
		size = 1 + int(c.script[c.n%len(c.script)])
		c.n++
	}
	n := copy(p, c.in[:min(size, len(c.in))])
	c.in = c.in[n:]
	return n, nil
}

type lineResult struct {
	line string
	err  error
}

func readLines(src io.Reader, limit int) (lines []lineResult) {
	r := NewReader(src)
	for {
		line, err := r.ReadLine(limit)
		lines = append(lines, lineResult{string(line), err})
		if err != nil && err != ErrBareLF && err != ErrLineTooLong {
			return lines
		}
	}
}

// FuzzReadLine: the lines with their ends are the input again, and how the
// input was cut into reads makes no difference.
func FuzzReadLine(f *testing.F) {
	f.Add([]byte("EHLO a\r\nMAIL FROM:<>\r\n"), []byte{3, 1}, 512)
	f.Add([]byte("a\nb\r\nc\rd\r\n\r\r\n\n"), []byte{0}, 5)
	f.Add(bytes.Repeat([]byte("long"), 3000), []byte{255}, 9000)
	f.Fuzz(func(t *testing.T, in, script []byte, limit int) {
		if limit < 2 || limit > 1<<16 {
			return
		}
		lines := readLines(bytes.NewReader(in), limit)
		rest := in
		for i, l := range lines {
			switch l.err {
			case nil:
				l.line += "\r\n"
				if strings.Count(l.line, "\r") != 1 || strings.Count(l.line, "\n") != 1 {
					t.Errorf("%q is not one line", l.line)
				}
			case ErrBareLF:
				if !strings.HasSuffix(l.line, "\n") || strings.Count(l.line, "\n") != 1 {
					t.Errorf("%q is not one line", l.line)
				}
			case ErrLineTooLong:
				end := bytes.IndexByte(rest, '\n') + 1
				if end <= limit || !bytes.HasPrefix(rest, []byte(l.line)) {
					t.Errorf("line %d, %q: too long at %d octets, limit %d", i, l.line, end, limit)
				}
				rest = rest[end:]
				continue
			case io.EOF:
				if len(rest) != 0 {
					t.Errorf("%q lost at EOF", rest)
				}
				continue
			case io.ErrUnexpectedEOF:
				if len(rest) == 0 || bytes.IndexByte(rest, '\n') >= 0 {
					t.Errorf("%q taken for a part of a line", rest)
				}
				continue
			default:
				t.Fatalf("line %d: %v", i, l.err)
			}
			if len(l.line) > limit || !bytes.HasPrefix(rest, []byte(l.line)) {
				t.Fatalf("line %d is %q where the input has %q", i, l.line, rest)
			}
			rest = rest[len(l.line):]
		}
		again := readLines(&chunks{in: in, script: script}, limit)
		if len(again) != len(lines) {
			t.Fatalf("%d lines, in chunks %d", len(lines), len(again))
		}
		for i := range lines {
			if lines[i] != again[i] {
				t.Errorf("line %d is %v, in chunks %v", i, lines[i], again[i])
			}
		}
	})
}

func TestLend(t *testing.T) {
	const tail = "\r\nQUIT\r\n"
	body := strings.Repeat("x", 5*bufferSize) + tail
	for _, whole := range []bool{false, true} {
		r := NewReader(strings.NewReader("DATA\r\n" + body))
		if line, err := r.ReadLine(20); err != nil || string(line) != "DATA" {
			t.Fatalf("ReadLine = %q, %v", line, err)
		}
		lent := make([]byte, 8*bufferSize)
		r.Lend(lent)
		got := 0
		for got < len(body)-len(tail) {
			p, err := r.Peek()
			if err != nil {
				t.Fatal(err)
			}
			n := min(len(p), len(body)-len(tail)-got)
			if whole && len(p) > bufferSize {
				n = 1 // leave more than the reader's own buffer holds
			}
			r.Discard(n)
			got += n
			if n == 1 {
				break
			}
		}
		r.Reclaim()
		for i := range lent {
			lent[i] = '!'
		}
		rest, err := readAll(r)
		if err != nil || string(rest) != body[got:] {
			t.Errorf("after Reclaim: %d octets, %v; want %d", len(rest), err, len(body)-got)
		}
	}
}
