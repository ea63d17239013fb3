package deliver

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
)

// normalised is what a message's lines are when CR, LF and CRLF each end one.
func normalised(in []byte) []byte {
	out := regexp.MustCompile("\r\n|\r|\n").ReplaceAll(in, crlf)
	if len(out) > 0 && !bytes.HasSuffix(out, crlf) {
		out = append(out, crlf...)
	}
	return out
}

// receive reads what DATA sent, as RFC 5321 section 4.5.2 has it; rest is what
// stands after the end.
func receive(wire []byte) (message, rest []byte, err error) {
	for {
		line, after, ok := bytes.Cut(wire, crlf)
		if !ok {
			return nil, nil, errors.New("no end")
		}
		if bytes.ContainsAny(line, "\r\n") {
			return nil, nil, errors.New("bare CR or LF")
		}
		wire = after
		if string(line) == "." {
			return message, wire, nil
		}
		message = append(message, bytes.TrimPrefix(line, dot)...)
		message = append(message, crlf...)
	}
}

func stuff(t *testing.T, in []byte, cut, size int) []byte {
	t.Helper()
	var wire bytes.Buffer
	w := dataWriter{w: &wire, out: make([]byte, 0, size)}
	for rest := in; len(rest) > 0; {
		n := min(cut, len(rest))
		if m, err := w.Write(rest[:n]); m != n || err != nil {
			t.Fatalf("Write: %d, %v", m, err)
		}
		rest = rest[n:]
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	return wire.Bytes()
}

func TestDataWriter(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ".\r\n"},
		{"a", "a\r\n.\r\n"},
		{"a\r\n", "a\r\n.\r\n"},
		{".", "..\r\n.\r\n"},
		{".\r\n", "..\r\n.\r\n"},
		{"..\r\n.", "...\r\n..\r\n.\r\n"},
		{"a.\r\n.b", "a.\r\n..b\r\n.\r\n"},
		// Smuggling: what might end the message elsewhere does not.
		{"a\n.\nb", "a\r\n..\r\nb\r\n.\r\n"},
		{"a\n.\r\nb", "a\r\n..\r\nb\r\n.\r\n"},
		{"a\r.\rb", "a\r\n..\r\nb\r\n.\r\n"},
		{"a\r\n.\rb", "a\r\n..\r\nb\r\n.\r\n"},
		{"a\r\n.\nb", "a\r\n..\r\nb\r\n.\r\n"},
		{"a\r.\r\nb", "a\r\n..\r\nb\r\n.\r\n"},
		{"a\r\r\n.\r\r\nb", "a\r\n\r\n..\r\n\r\nb\r\n.\r\n"},
		{"a\r", "a\r\n.\r\n"},
		{"a\n\r", "a\r\n\r\n.\r\n"},
		{"\r.", "\r\n..\r\n.\r\n"},
		{"a\x00\r\n.\x00\r\n", "a\x00\r\n..\x00\r\n.\r\n"},
	} {
		for _, cut := range []int{1, 2, 3, 1000} {
			if got := stuff(t, []byte(tt.in), cut, 5); string(got) != tt.want {
				t.Errorf("%q cut at %d: %q, want %q", tt.in, cut, got, tt.want)
			}
		}
	}
}

// The receiver gets the normalised message and nothing is left after its end.
func FuzzDataWriter(f *testing.F) {
	f.Add([]byte("Subject: x\r\n\r\n.\r\n..\n\r.\r\r\n"), 3, 7)
	f.Add([]byte("\r\n.\r\nMAIL FROM:<x@y>\r\n"), 1, 1)
	f.Fuzz(func(t *testing.T, in []byte, cut, size int) {
		wire := stuff(t, in, max(cut, 1), min(max(size, 1), 1<<10))
		got, rest, err := receive(wire)
		if err != nil || len(rest) > 0 {
			t.Fatalf("%q on the wire: %v, rest %q", wire, err, rest)
		}
		if want := normalised(in); !bytes.Equal(got, want) {
			t.Errorf("%q arrives as %q", in, got)
		}
	})
}

// Time does not grow with the square of what a line holds.
func TestDataWriterHostile(t *testing.T) {
	for _, s := range []string{"\r", "\n", "\r\n", ".", "\r\n.", "x"} {
		in := []byte(strings.Repeat(s, 1<<20/len(s)))
		wire := stuff(t, in, blockSize, blockSize)
		if len(wire) < len(in) {
			t.Errorf("%q: %d octets became %d", s, len(in), len(wire))
		}
	}
}

func BenchmarkDataWriter(b *testing.B) {
	in := []byte(strings.Repeat(strings.Repeat("x", 70)+"\r\n", 57))
	out := make([]byte, 0, blockSize)
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		w := dataWriter{w: &bytes.Buffer{}, out: out}
		if _, err := w.Write(in); err != nil {
			b.Fatal(err)
		}
		if err := w.end(); err != nil {
			b.Fatal(err)
		}
	}
}
