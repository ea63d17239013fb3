package mailstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// memory is a body file in memory.
type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// coded makes the row of a body, and its file.
func coded(c *Coder, body []byte, file bool) (BodyRow, Content, error) {
	row := BodyRow{ID: 1, Size: int64(len(body))}
	for rest := body; len(rest) > 0; {
		chunk := rest[:min(len(rest), ChunkSize)]
		rest = rest[len(chunk):]
		row.Sums = binary.BigEndian.AppendUint32(row.Sums, crc32.Checksum(chunk, castagnoli))
		at := len(row.Data)
		var err error
		if row.Data, err = c.encode(row.Data, chunk); err != nil {
			return row, nil, err
		}
		row.Coding = indexed(row.Coding, row.Data[at:])
	}
	if !file {
		return row, nil, nil
	}
	kept := memory{bytes.NewReader(row.Data)}
	row.File, row.Data = "file", nil
	return row, kept, nil
}

func codedText(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString([]string{"one ", "two ", "three ", "\r\n", "four "}[r.IntN(5)])
	}
	return b.Bytes()[:n]
}

// FuzzCoding: what is kept of any bytes is these bytes again, from any offset on.
func FuzzCoding(f *testing.F) {
	f.Add([]byte(nil), uint8(0), uint32(0))
	f.Add([]byte("x"), uint8(255), uint32(9))
	f.Add([]byte("Subject: x\r\n\r\n"), uint8(200), uint32(70000))
	f.Add(codedText(5000), uint8(60), uint32(65536))
	var c Coder
	f.Fuzz(func(t *testing.T, piece []byte, times uint8, off uint32) {
		body := bytes.Repeat(piece, 1+min(int(times), 3*ChunkSize/(len(piece)+1)))
		for _, file := range []bool{false, true} {
			row, kept, err := coded(&c, body, file)
			if err != nil {
				t.Fatal(err)
			}
			content, err := c.Open(row, kept)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(body))
			if n, err := content.ReadAt(got, 0); n != len(body) || !bytes.Equal(got, body) {
				t.Fatalf("%d octets of %d came back: %d, %v", n, len(body), n, err)
			}
			at := int(off) % (len(body) + 1)
			n, err := content.ReadAt(got[:min(len(got), 1000)], int64(at))
			if !bytes.Equal(got[:n], body[at:at+n]) || n < min(len(body)-at, 1000) || err != nil && !errors.Is(err, io.EOF) {
				t.Fatalf("at %d: %d octets, %v", at, n, err)
			}
		}
	})
}

// TestCodingDamage changes each field of a row in turn: no wrong octet is handed
// out, and what is said of lengths is not believed.
func TestCodingDamage(t *testing.T) {
	var c Coder
	body := append(codedText(2*ChunkSize+100), codedText(3*ChunkSize/2)...)
	r := rand.New(rand.NewPCG(3, 4))
	changed := func(p []byte) []byte {
		p = bytes.Clone(p)
		switch at := r.IntN(len(p)); r.IntN(4) {
		case 0:
			return p[:at]
		case 1:
			return append(p, p[at:]...)
		case 2:
			p[at] = byte(r.Uint32())
		default:
			p[at] ^= 1 << r.IntN(8)
		}
		return p
	}
	inline, _, err := coded(&c, body, false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1500 {
		row := inline
		var file Content
		if i%2 == 1 {
			file, row.File, row.Data = memory{bytes.NewReader(inline.Data)}, "file", nil
		}
		switch r.IntN(4) {
		case 0:
			row.Coding = changed(row.Coding)
		case 1:
			row.Sums = changed(row.Sums)
		case 2:
			row.Size = []int64{-1, 0, row.Size - 1, row.Size + 1, row.Size + ChunkSize, 1 << 62}[r.IntN(6)]
		default:
			if file == nil {
				row.Data = changed(row.Data)
				break
			}
			kept := make([]byte, file.Size())
			if _, err := file.ReadAt(kept, 0); err != nil {
				t.Fatal(err)
			}
			file = memory{bytes.NewReader(changed(kept))}
		}
		content, err := c.Open(row, file)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			continue
		}
		got := make([]byte, len(body)+1)
		for off := 0; off < len(body); off += ChunkSize / 2 {
			n, err := content.ReadAt(got[:ChunkSize/2], int64(off))
			if !bytes.Equal(got[:n], body[off:off+n]) {
				t.Fatal("wrong octets were handed out")
			}
			if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
	}
}

// TestCodingFrame: a frame that passes its checksum, but is not what the row
// says, takes no more memory than the row says and is damage.
func TestCodingFrame(t *testing.T) {
	var c Coder
	bomb, err := c.encode(nil, []byte(strings.Repeat("x", ChunkSize)))
	if err != nil || len(bomb) > 100 {
		t.Fatalf("%d octets, %v", len(bomb), err)
	}
	for _, frame := range [][]byte{bomb, append(bytes.Clone(bomb), bomb...), bomb[:len(bomb)-1], []byte(strings.Repeat("y", 50))} {
		for _, size := range []int64{1000, ChunkSize - 1} {
			row := BodyRow{Size: size, Sums: make([]byte, 4), Coding: indexed(nil, frame), Data: frame}
			if _, err := c.Open(row, nil); !errors.Is(err, ErrDamaged) {
				t.Errorf("a frame for %d octets: %v, want ErrDamaged", size, err)
			}
		}
	}
	row := BodyRow{Size: ChunkSize, Sums: make([]byte, 4), Coding: indexed(nil, bomb), Data: bomb}
	if _, err := c.Open(row, nil); !errors.Is(err, ErrDamaged) { // for its checksum
		t.Errorf("error %v, want ErrDamaged", err)
	}
}
