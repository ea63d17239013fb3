package imap

import (
	"bufio"
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"postrider/internal/wire"
	"postrider/mailstore"
)

// TestCompress: both directions, with what is sent ahead, and IDLE.
func TestCompress(t *testing.T) {
	w := newWorld(t, nil)
	text := bytes.Repeat([]byte("0123456789abcde\r\n"), 30000)
	w.deliver("bob", "INBOX", text, mailstore.Flags{}, 1)
	conn := w.dial()
	defer conn.Close()
	r := bufio.NewReader(conn)
	line := func() string {
		s, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSuffix(s, "\r\n")
	}
	line()
	// What follows COMPRESS in the same packet is compressed already.
	var first bytes.Buffer
	z, err := flate.NewWriter(&first, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(z, "c SELECT INBOX\r\n")
	z.Flush()
	fmt.Fprintf(conn, "a LOGIN bob hungry\r\nx COMPRESS LZ4\r\nb COMPRESS DEFLATE\r\n%s", first.Bytes())
	line()
	if s := line(); !strings.HasPrefix(s, "x NO [CANNOT]") {
		t.Error(s)
	}
	if s := line(); s != "b OK DEFLATE active" {
		t.Fatal(s)
	}
	r = bufio.NewReader(flate.NewReader(r))
	for s := ""; s != "c OK [READ-WRITE] SELECT completed"; {
		s = line()
	}
	first.Reset()
	fmt.Fprint(z, "d COMPRESS DEFLATE\r\ne CAPABILITY\r\nf UNAUTHENTICATE\r\ng FETCH 1 BODY.PEEK[]\r\n")
	z.Flush()
	conn.Write(first.Bytes())
	if s := line(); !strings.HasPrefix(s, "d NO [COMPRESSIONACTIVE]") {
		t.Error(s)
	}
	if s := line(); strings.Contains(s, "COMPRESS=") {
		t.Error(s)
	}
	line()
	if s := line(); !strings.HasPrefix(s, "f NO [CANNOT]") {
		t.Error(s)
	}
	if s := line(); s != fmt.Sprintf("* 1 FETCH (BODY[] {%d}", len(text)) {
		t.Error(s)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, text) {
		t.Error(err)
	}
	// A delivery is told in IDLE.
	first.Reset()
	fmt.Fprint(z, "h IDLE\r\n")
	z.Flush()
	conn.Write(first.Bytes())
	for s := ""; s != "+ idling"; {
		s = line()
	}
	w.deliver("bob", "INBOX", text, mailstore.Flags{}, 1)
	if s := line(); s != "* 2 EXISTS" {
		t.Error(s)
	}
	first.Reset()
	fmt.Fprint(z, "DONE\r\ni LOGOUT\r\n")
	z.Flush()
	conn.Write(first.Bytes())
	for _, want := range []string{"h OK IDLE completed", "* BYE Logging out", "i OK LOGOUT completed"} {
		if s := line(); s != want {
			t.Error(s)
		}
	}
}

// FuzzInflate: what a compressor makes comes back, whatever the pieces that it
// comes in; anything else ends in an error and not in a panic.
func FuzzInflate(f *testing.F) {
	f.Add([]byte("a NOOP\r\nb NOOP\r\n"), uint8(9), uint8(1))
	f.Add(bytes.Repeat([]byte("abc"), 20000), uint8(1), uint8(200))
	f.Add([]byte{0x05, 0xe0, 0x81, 0x08, 0, 0, 0, 0, 0x20, 0x7f, 0xeb, 0x0b, 0, 0}, uint8(0), uint8(0))
	f.Fuzz(func(t *testing.T, text []byte, level, size uint8) {
		var b bytes.Buffer
		z, err := flate.NewWriter(&b, int(level)%12-2)
		if err != nil {
			return
		}
		var want bytes.Buffer
		for rest := text; len(rest) > 0; {
			n := min(int(size)+1, len(rest))
			z.Write(rest[:n])
			z.Flush()
			want.Write(rest[:n])
			rest = rest[n:]
		}
		z.Close()
		got, err := io.ReadAll(newInflater(&ahead{then: &b}))
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%d octets became %d, %v", want.Len(), len(got), err)
		}
		mine, err := io.ReadAll(io.LimitReader(newInflater(&ahead{first: text, then: &b}), 1<<20))
		theirs, theirErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(text)), 1<<20))
		// A stream that ends between two blocks has ended for us.
		if theirErr == nil && err != nil || err == nil && theirErr != nil && !errors.Is(theirErr, io.ErrUnexpectedEOF) ||
			err == nil && !bytes.Equal(mine, theirs) && theirErr == nil {
			t.Errorf("%x: %d octets, %v, and by the library %d, %v", text, len(mine), err, len(theirs), theirErr)
		}
	})
}

// TestInflateAtOnce: all that can be known of a command is given out before the
// next octet is waited for.
func TestInflateAtOnce(t *testing.T) {
	// "a NOOP\r\n" with the fixed code, an empty block of the fixed code behind it,
	// and no end.
	var b bits
	b.add(2, 3) // not the last, fixed
	for _, c := range []byte("a NOOP\r\n") {
		b.huffman(0x30+uint(c), 8)
	}
	b.huffman(0, 7)
	b.add(2, 3)
	b.huffman(0, 7)
	src := &once{b: b.whole()}
	z := newInflater(&ahead{then: src})
	got := make([]byte, 100)
	n := 0
	for n < 8 {
		m, err := z.Read(got[n:])
		if err != nil {
			t.Fatalf("after %q: %v", got[:n], err)
		}
		n += m
	}
	if string(got[:n]) != "a NOOP\r\n" {
		t.Errorf("%q", got[:n])
	}
}

// once gives its octets and fails when it is read again.
type once struct {
	b    []byte
	done bool
}

func (o *once) Read(p []byte) (int, error) {
	if o.done {
		return 0, errors.New("read again")
	}
	o.done = true
	return copy(p, o.b), nil
}

// bits writes bits, the first lowest.
type bits struct {
	b []byte
	n int
}

func (w *bits) add(v, n uint) {
	for i := range n {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.n/8] |= byte(v>>i&1) << (w.n % 8)
		w.n++
	}
}

// huffman adds a code, which has its highest bit first.
func (w *bits) huffman(v, n uint) {
	for i := range n {
		w.add(v>>(n-1-i)&1, 1)
	}
}

// whole are the octets that are complete.
func (w *bits) whole() []byte { return w.b[:w.n/8] }

func BenchmarkInflate(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	var text []byte
	for range 20000 {
		text = append(text, "Subject: word "...)
		text = append(text, byte('a'+r.IntN(26)), ' ', byte('a'+r.IntN(26)))
	}
	var buf bytes.Buffer
	z, err := flate.NewWriter(&buf, 6)
	if err != nil {
		b.Fatal(err)
	}
	z.Write(text)
	z.Close()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := io.Copy(io.Discard, newInflater(&ahead{first: buf.Bytes()})); err != nil {
			b.Fatal(err)
		}
	}
}

// pieces keeps what each Write brought.
type pieces struct {
	net.Conn
	got [][]byte
}

func (p *pieces) Write(b []byte) (int, error) {
	p.got = append(p.got, bytes.Clone(b))
	return len(b), nil
}

func (p *pieces) SetWriteDeadline(time.Time) error { return nil }

// TestDeflateInOnePiece: a response goes out at once, and is whole when it has come.
func TestDeflateInOnePiece(t *testing.T) {
	w := newWorld(t, nil)
	conn := &pieces{}
	out := &output{srv: w.server, conn: &wire.Conn{Conn: conn}}
	out.zip = &deflater{out: out}
	random := make([]byte, largeBuffer/2)
	rand.NewChaCha8([32]byte{}).Read(random)
	for i, text := range [][]byte{[]byte("+ idling\r\n"), []byte("* 23 EXISTS\r\n* 23 EXISTS\r\n"), bytes.Repeat([]byte("abc"), 40_000), random} {
		out.Write(text)
		if err := out.flush(); err != nil || len(conn.got) != i+1 {
			t.Fatalf("%d octets: %d pieces, %v", len(text), len(conn.got), err)
		}
		if out.zip.packed != nil {
			t.Error("a buffer is kept")
		}
		got := make([]byte, len(text))
		z := newInflater(&ahead{first: conn.got[i], then: &once{done: true}})
		if _, err := io.ReadFull(z, got); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%d octets became something else: %v", len(text), err)
		}
	}
}
