package smtpd

import (
	"bytes"
	"strings"
	"testing"
)

// gather is a sink that keeps everything.
type gather struct{ bytes.Buffer }

func (g *gather) take(p []byte) { g.Write(p) }

// scanned is what a scanner makes of input.
type scanned struct {
	content string
	used    int
	done    bool
	fault   scanFault
}

// scanPieces scans in as it would come in pieces of the given size.
func scanPieces(in string, piece int, dots, normalise bool) scanned {
	var g gather
	sc := scanner{out: &g, dots: dots, normalise: normalise}
	var s scanned
	for s.used < len(in) && !s.done {
		// A copy, since the scanner may not keep what it was given.
		p := []byte(in[s.used:min(s.used+piece, len(in))])
		var n int
		n, s.done = sc.scan(p)
		s.used += n
		clear(p)
		if n < len(p) && !s.done {
			panic("the scanner left octets without being done")
		}
	}
	if !s.done {
		sc.finish()
	}
	s.content, s.fault = g.String(), sc.fault
	return s
}

// plainScan is what a scanner should make of in, written down in the plainest
// way.
func plainScan(in string, dots, normalise bool) scanned {
	var s scanned
	raw := in
	s.used = len(in)
	if dots {
		if i := strings.Index("\r\n"+in, "\r\n.\r\n"); i >= 0 {
			raw, s.used, s.done = in[:i], i+len(".\r\n"), true
		}
		lines := strings.Split(raw, "\r\n")
		for i, line := range lines {
			lines[i] = strings.TrimPrefix(line, ".")
		}
		raw = strings.Join(lines, "\r\n")
	}
	rest := strings.ReplaceAll(raw, "\r\n", "")
	faulty := strings.ContainsAny(rest, "\r\n\x00")
	if !faulty || !normalise {
		s.content = raw
		if faulty {
			s.fault = bareNewline // or nulOctet
		}
		return s
	}
	raw = strings.ReplaceAll(raw, "\r\n", "\x00\x00\x01")
	raw = strings.NewReplacer("\x00\x00\x01", "\r\n", "\r", "\r\n", "\n", "\r\n", "\x00", "").Replace(raw)
	s.content = raw
	return s
}

func checkScan(t *testing.T, in string, piece int, dots, normalise bool) {
	t.Helper()
	got, want := scanPieces(in, piece, dots, normalise), plainScan(in, dots, normalise)
	whole := got.done || !dots // else the last octets are not judged yet
	if got.used != want.used || got.done != want.done || whole && (got.fault == noFault) != (want.fault == noFault) {
		t.Fatalf("scan(%q) in pieces of %d, dots %v, normalise %v = %+v, want %+v", in, piece, dots, normalise, got, want)
	}
	if got.fault == noFault && whole && got.content != want.content {
		t.Fatalf("scan(%q) in pieces of %d, dots %v, normalise %v: content %q, want %q", in, piece, dots, normalise, got.content, want.content)
	}
	if rest := strings.ReplaceAll(got.content, "\r\n", ""); got.fault == noFault && strings.ContainsAny(rest, "\r\n\x00") {
		t.Fatalf("scan(%q) passes on %q", in, got.content)
	}
}

// TestScanMixtures tries every string of up to seven of the octets that matter.
func TestScanMixtures(t *testing.T) {
	const octets = "\r\n.\x00a"
	var try func(prefix string, left int)
	try = func(prefix string, left int) {
		for piece := 1; piece <= 3; piece++ {
			for _, dots := range []bool{true, false} {
				checkScan(t, prefix, piece, dots, false)
				checkScan(t, prefix, piece, dots, true)
			}
		}
		if left == 0 {
			return
		}
		for i := range len(octets) {
			try(prefix+octets[i:i+1], left-1)
		}
	}
	try("", 6)
}

func FuzzScan(f *testing.F) {
	for _, s := range []string{"a\r\n.\r\nQUIT\r\n", "..a\r\n.b\r\n\r\n.\r\n", "a\n.\n\r\n.\r\n", "\r.\r\n.\r\r\n.\r\n", "\x00.\r\n\r\n.\r\n"} {
		f.Add(s, 4, true)
		f.Add(s, 1000, false)
	}
	f.Fuzz(func(t *testing.T, in string, piece int, dots bool) {
		if piece < 1 {
			piece = 1
		}
		checkScan(t, in, piece, dots, false)
		// The reference marks CRLF with octets that the input may not have.
		if !strings.ContainsAny(in, "\x01") {
			checkScan(t, in, piece, dots, true)
		}
	})
}

func BenchmarkScan(b *testing.B) {
	line := strings.Repeat("All work and no play makes Jack a dull boy. ", 2)[:74] + "\r\n"
	in := []byte(strings.Repeat(line, 64<<10/len(line)))
	m := nowhere{}
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		sc := scanner{out: m, dots: true}
		for rest := in; len(rest) > 0; {
			p := rest[:min(len(rest), bodyBuffer)]
			sc.scan(p)
			rest = rest[len(p):]
		}
	}
}

// nowhere is a sink that keeps nothing.
type nowhere struct{}

func (nowhere) take([]byte) {}
