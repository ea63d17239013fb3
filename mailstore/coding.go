package mailstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Where BodyRow.Coding is empty, a body's bytes are kept as they are. Otherwise
// each of its chunks is kept as one frame of zstd (RFC 8878), or as it is where
// that saves too little: the chunks one after another, so that any of them can
// be read alone. Coding is then their index: codingZstd, and for each chunk the
// number of octets kept and the CRC-32C of these, both big endian in 32 bits. A
// chunk of which all octets are kept is plain. That second checksum, beside the
// one in Sums, keeps damage away from the decoder.
const (
	codingZstd  = 1
	codingEntry = 8 // octets for each chunk

	minCoded  = 256 // octets; what is shorter is kept as it is
	minSaving = 8   // a chunk is kept as it is unless a frame saves 1/minSaving of it
)

// Coder turns chunks into what is kept of them, and back. The zero value works.
// All methods may be called concurrently; as many run at once as there are
// processors, and each takes less than 1 MiB of memory.
type Coder struct {
	once    sync.Once
	err     error
	enc     *zstd.Encoder
	dec     *zstd.Decoder
	scratch sync.Pool // *[]byte for chunks as they are kept
}

// start makes the encoder and the decoder.
func (c *Coder) start() error {
	c.once.Do(func() {
		n := runtime.GOMAXPROCS(0)
		// Literals are always entropy coded: that is most of what text gains,
		// and all that base64 does.
		c.enc, c.err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithAllLitEntropyCompression(true),
			zstd.WithEncoderConcurrency(n), zstd.WithWindowSize(ChunkSize), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
		if c.err == nil {
			c.dec, c.err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(n), zstd.WithDecoderMaxMemory(ChunkSize),
				zstd.WithDecoderMaxWindow(ChunkSize), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true))
		}
	})
	return c.err
}

// encode appends what is kept of a chunk to dst.
func (c *Coder) encode(dst, chunk []byte) ([]byte, error) {
	if len(chunk) < minCoded {
		return append(dst, chunk...), nil
	}
	if err := c.start(); err != nil {
		return dst, err
	}
	if kept := c.enc.EncodeAll(chunk, dst); len(kept)-len(dst) <= len(chunk)-len(chunk)/minSaving {
		return kept, nil
	}
	return append(dst, chunk...), nil
}

// decode makes a chunk of what was kept of it, which the entry of the index and
// the checksum of the chunk have to fit. After an error, which is ErrDamaged
// unless the library can not be set up, chunk is cleared.
func (c *Coder) decode(chunk, kept, entry, sum []byte) error {
	err := c.unpack(chunk, kept, entry)
	if err == nil && !chunksMatch(chunk, sum) {
		err = ErrDamaged
	}
	if err != nil {
		clear(chunk)
	}
	return err
}

func (c *Coder) unpack(chunk, kept, entry []byte) error {
	if uint32(len(kept)) != binary.BigEndian.Uint32(entry) || crc32.Checksum(kept, castagnoli) != binary.BigEndian.Uint32(entry[4:]) {
		return ErrDamaged
	}
	if len(kept) == len(chunk) {
		copy(chunk, kept)
		return nil
	}
	if err := c.start(); err != nil {
		return err
	}
	// The decoder never goes beyond the capacity that it is given.
	out, err := c.dec.DecodeAll(kept, chunk[:0:len(chunk)])
	if err != nil || len(out) != len(chunk) {
		return ErrDamaged
	}
	copy(chunk, out) // moves nothing where out is chunk
	return nil
}

// take lends a buffer of n <= ChunkSize octets; give takes it back.
func (c *Coder) take(n int) *[]byte {
	p, _ := c.scratch.Get().(*[]byte)
	if p == nil {
		b := make([]byte, ChunkSize+ChunkSize/64) // room for a frame that saves nothing
		p = &b
	}
	*p = (*p)[:n]
	return p
}

func (c *Coder) give(p *[]byte) { c.scratch.Put(p) }

// indexed appends the entry of a chunk of which kept is kept.
func indexed(index, kept []byte) []byte {
	if len(index) == 0 {
		index = append(index, codingZstd)
	}
	index = binary.BigEndian.AppendUint32(index, uint32(len(kept)))
	return binary.BigEndian.AppendUint32(index, crc32.Checksum(kept, castagnoli))
}

// Open opens what a row of an engine keeps: file is its file where it has one.
// It is the content's then, and closed after an error. What is
// damaged is ErrDamaged, now or from ReadAt.
func (c *Coder) Open(row BodyRow, file Content) (Content, error) {
	return c.open(row, file, "", func(string, ...any) {})
}

// open is Open with a prefix; damaged is told what is.
func (c *Coder) open(row BodyRow, file Content, prefix string, damaged func(string, ...any)) (Content, error) {
	offsets, err := row.offsets()
	if file != nil && err != nil {
		err = errors.Join(err, file.Close())
	} else if file != nil {
		return &fileContent{coder: c, damaged: damaged, row: row, prefix: prefix, file: file, offsets: offsets}, nil
	}
	data := row.Data
	if err == nil {
		data, err = c.inline(&row, offsets)
	}
	if err != nil {
		damaged("a stored body is damaged", "body", row.ID)
		return nil, fmt.Errorf("body %d: %w", row.ID, err)
	}
	return &inlineContent{prefix: prefix, data: data}, nil
}

// inline is the body of a row without a file.
func (c *Coder) inline(row *BodyRow, offsets []int64) ([]byte, error) {
	if len(row.Coding) == 0 {
		if int64(len(row.Data)) != row.Size || !chunksMatch(row.Data, row.Sums) {
			return nil, ErrDamaged
		}
		return row.Data, nil
	}
	if int64(len(row.Data)) != offsets[len(offsets)-1] {
		return nil, ErrDamaged
	}
	var data []byte // grows by what was found good: Size alone is not believed
	for i := range len(offsets) - 1 {
		n := int(row.chunkLen(int64(i)))
		at := len(data)
		if cap(data) < at+n {
			data = append(make([]byte, 0, 2*at+n), data...)
		}
		data = data[:at+n]
		if err := c.decode(data[at:], row.Data[offsets[i]:offsets[i+1]], row.entry(i), row.Sums[4*i:]); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// sumsOf makes the checksums of a coded body's chunks anew: its index has others of
// what is kept of them. Whether these are the chunks that were stored, the hash
// tells. file is as in Open, but stays open.
func (c *Coder) sumsOf(row BodyRow, file io.ReaderAt) ([]byte, error) {
	chunks := max(len(row.Coding)-1, 0) / codingEntry
	row.Sums = make([]byte, 4*chunks)
	offsets, err := row.offsets()
	if err != nil || offsets == nil {
		return nil, errors.Join(err, ErrDamaged)
	}
	if file == nil {
		file = bytes.NewReader(row.Data)
	}
	chunk, buf := make([]byte, ChunkSize), make([]byte, ChunkSize)
	for i := range chunks {
		kept := buf[:offsets[i+1]-offsets[i]]
		if n, err := file.ReadAt(kept, offsets[i]); n < len(kept) {
			return nil, errors.Join(ErrDamaged, unlessEOF(err))
		}
		one := chunk[:row.chunkLen(int64(i))]
		if err := c.unpack(one, kept, row.entry(i)); err != nil {
			return nil, err
		}
		binary.BigEndian.PutUint32(row.Sums[4*i:], crc32.Checksum(one, castagnoli))
	}
	return row.Sums, nil
}

// chunkLen is the number of octets in a chunk.
func (r *BodyRow) chunkLen(index int64) int64 { return min(ChunkSize, r.Size-index*ChunkSize) }

// entry is a chunk's in the index.
func (r *BodyRow) entry(i int) []byte { return r.Coding[1+codingEntry*i:] }

// offsets are where what is kept of each chunk begins, and where the last ends;
// nil where all is plain. A row that contradicts itself is ErrDamaged.
func (r *BodyRow) offsets() ([]int64, error) {
	chunks := len(r.Sums) / 4
	if r.Size < 0 || len(r.Sums)%4 != 0 || r.Size > int64(chunks)*ChunkSize || r.Size <= int64(chunks-1)*ChunkSize {
		return nil, ErrDamaged
	}
	if len(r.Coding) == 0 {
		return nil, nil
	}
	if r.Coding[0] != codingZstd || len(r.Coding) != 1+codingEntry*chunks {
		return nil, ErrDamaged
	}
	offsets := make([]int64, 1, chunks+1)
	for i := range chunks {
		n := int64(binary.BigEndian.Uint32(r.entry(i)))
		if n == 0 || n > r.chunkLen(int64(i)) {
			return nil, ErrDamaged
		}
		offsets = append(offsets, offsets[i]+n)
	}
	return offsets, nil
}
