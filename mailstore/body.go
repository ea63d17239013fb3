package mailstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"
	"sync"
)

const (
	// InlineSize is the size up to which a body is kept in the index; a larger
	// one gets a file. It is also the most that a BodyWriter holds in memory.
	InlineSize = 64 << 10
	// ChunkSize is how many octets of a body one checksum covers. No octet is
	// handed out before the checksum of its chunk was found good.
	ChunkSize = 64 << 10

	lineEnd = "\r\n"
)

// castagnoli makes CRC-32C sums.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// NewBody begins a body: in memory up to InlineSize, then in a file. What can be
// compressed is, in the caller's goroutine, where Options.Compress is set.
func (s *Store) NewBody() *BodyWriter { return &BodyWriter{s: s, hash: sha256.New()} }

// BodyWriter takes a body's bytes. It is not safe for concurrent use.
type BodyWriter struct {
	s    *Store
	buf  []byte   // the whole body, or the chunk in hand of one that goes compressed to a file
	file BodyFile // nil while all is in buf
	kept int64    // octets in file of a compressed body
	// index of what is kept of the chunks: see BodyRow.Coding
	index []byte
	size  int64
	hash  hash.Hash
	sums  []byte
	crc   uint32  // of the chunk in hand
	last  [2]byte // octets written
	err   error
	done  bool
}

// Write adds bytes. An error stays: the body can not be committed any more.
func (w *BodyWriter) Write(p []byte) (int, error) {
	switch {
	case w.err != nil:
		return 0, w.err
	case w.done:
		return 0, errors.New("write to a body that is complete")
	}
	if w.file == nil && w.size+int64(len(p)) > InlineSize {
		w.spill()
	}
	if w.file == nil {
		w.buf = append(w.buf, p...)
	} else {
		w.put(p)
	}
	if w.err != nil {
		w.s.wantSpace(w.err)
		w.err = fmt.Errorf("write a body: %w", w.err)
		return 0, w.err
	}
	w.sum(p)
	return len(p), nil
}

// spill moves what is in memory to a file.
func (w *BodyWriter) spill() {
	if w.file, w.err = w.s.engine.CreateFile(); w.err != nil {
		w.file = nil
		return
	}
	// The janitor must not take the file for an orphan before a row names it.
	w.s.janitor.keep(w.file.Name())
	data := w.buf
	w.buf = nil
	w.put(data)
}

// put writes to the file.
func (w *BodyWriter) put(p []byte) {
	if !w.s.compress && w.err == nil {
		_, w.err = w.file.Write(p)
	}
	for w.s.compress && w.err == nil && len(p) > 0 {
		if w.buf == nil {
			w.buf = make([]byte, 0, ChunkSize)
		}
		n := min(len(p), ChunkSize-len(w.buf))
		w.buf = append(w.buf, p[:n]...)
		if len(w.buf) == ChunkSize {
			w.putChunk()
		}
		p = p[n:]
	}
}

// putChunk writes what is kept of the chunk in buf to the file.
func (w *BodyWriter) putChunk() {
	scratch := w.s.coder.take(0)
	defer w.s.coder.give(scratch)
	if *scratch, w.err = w.s.coder.encode(*scratch, w.buf); w.err != nil {
		return
	}
	w.index = indexed(w.index, *scratch)
	w.kept += int64(len(*scratch))
	w.buf = w.buf[:0]
	_, w.err = w.file.Write(*scratch)
}

// pack makes what is kept of a body that is whole in memory, chunk after chunk;
// nil where that is the body itself.
func (w *BodyWriter) pack() (kept []byte) {
	scratch := w.s.coder.take(0)
	defer w.s.coder.give(scratch)
	for chunk := range slices.Chunk(w.buf, ChunkSize) {
		if *scratch, w.err = w.s.coder.encode((*scratch)[:0], chunk); w.err != nil {
			return nil
		}
		w.index = indexed(w.index, *scratch)
		kept = append(kept, *scratch...)
	}
	if len(kept) == len(w.buf) {
		return nil
	}
	return kept
}

// sum takes p into the checksums.
func (w *BodyWriter) sum(p []byte) {
	w.hash.Write(p)
	switch len(p) {
	case 0:
	case 1:
		w.last[0], w.last[1] = w.last[1], p[0]
	default:
		w.last = [2]byte(p[len(p)-2:])
	}
	for len(p) > 0 {
		n := min(len(p), ChunkSize-int(w.size%ChunkSize))
		w.crc = crc32.Update(w.crc, castagnoli, p[:n])
		w.size += int64(n)
		p = p[n:]
		if w.size%ChunkSize == 0 {
			w.endChunk()
		}
	}
}

func (w *BodyWriter) endChunk() {
	w.sums = binary.BigEndian.AppendUint32(w.sums, w.crc)
	w.crc = 0
}

// Size is the number of octets written.
func (w *BodyWriter) Size() int64 { return w.size }

// Commit makes a large body durable as a file and returns it. The body still
// belongs to nobody: a Tx has to use it. After an error the body is gone.
func (w *BodyWriter) Commit() (*Body, error) {
	b, err := w.commit()
	w.s.wantSpace(err)
	return b, err
}

func (w *BodyWriter) commit() (*Body, error) {
	var kept []byte
	switch {
	case w.err != nil || w.done || !w.s.compress:
	case w.file == nil && len(w.buf) >= minCoded:
		kept = w.pack()
	case w.file != nil && len(w.buf) > 0:
		w.putChunk()
	}
	if w.err != nil || w.done {
		err := w.err
		w.Abort()
		if err == nil {
			err = errors.New("commit of a body that is complete")
		}
		return nil, err
	}
	w.done = true
	if w.size%ChunkSize != 0 {
		w.endChunk()
	}
	b := &Body{s: w.s, size: w.size, sums: w.sums}
	b.unended = w.size > 0 && string(w.last[:]) != lineEnd
	w.hash.Sum(b.hash[:0])
	if w.file == nil {
		b.data, w.buf = w.buf, nil
		if b.kept = kept; kept != nil {
			b.coding = w.index
		}
		return b, nil
	}
	w.buf = nil
	if w.kept < w.size {
		b.coding = w.index
	}
	b.file = w.file.Name()
	file, err := w.file.Commit()
	if err == nil {
		b.content, err = w.s.coder.open(b.row(), file, "", w.s.damaged)
	}
	if err != nil {
		w.drop()
		if errors.Is(err, ErrFailed) {
			w.s.fail(err)
		}
		return nil, fmt.Errorf("commit a body: %w", err)
	}
	return b, nil
}

// Abort throws the bytes away; it does nothing after Commit.
func (w *BodyWriter) Abort() {
	if w.done {
		return
	}
	w.done = true
	w.buf = nil
	if w.file != nil {
		w.drop()
	}
}

// drop removes the file.
func (w *BodyWriter) drop() {
	w.file.Abort()
	w.s.janitor.unkeep(w.file.Name())
}

// Body is a complete body that Append and Enqueue can use, any number of
// times and in any number of Updates. It can be read concurrently.
type Body struct {
	s       *Store
	size    int64
	hash    [sha256.Size]byte
	sums    []byte
	data    []byte  // where it is small
	kept    []byte  // what is kept of data; nil = itself
	coding  []byte  // see BodyRow
	file    string  // where it is large
	content Content // of file
	unended bool    // see Message.Unended
	record  []byte  // see Describe

	id       BodyID // of its row; belongs to the writer
	stored   bool   // came from the store: there is nothing to make a row of
	released bool
}

// row is the body as the index keeps it.
func (b *Body) row() BodyRow {
	row := BodyRow{ID: b.id, Size: b.size, Hash: b.hash, Sums: b.sums, Coding: b.coding, File: b.file, Data: b.data}
	if b.kept != nil {
		row.Data = b.kept
	}
	return row
}

// ID names the body in the store, within the Update that used it.
func (b *Body) ID() BodyID { return b.id }

// Size is the number of octets.
func (b *Body) Size() int64 { return b.size }

// ReadAt reads its bytes, before and after it was used, until Release.
func (b *Body) ReadAt(p []byte, off int64) (int, error) {
	if b.content != nil {
		return b.content.ReadAt(p, off)
	}
	return readAt(b.data, p, off)
}

// Release ends the caller's use; a body that no committed Update used goes
// away. It does nothing when it is called again.
func (b *Body) Release() {
	if b.released {
		return
	}
	b.released = true
	b.data, b.kept = nil, nil
	if b.content != nil {
		if err := b.content.Close(); err != nil {
			b.s.log.Warn("close a body", "error", err)
		}
		if !b.stored {
			b.s.janitor.unkeep(b.file)
		}
	}
}

// StoredBody opens a body of the store for use by Append and Enqueue: those are
// ErrNotFound when it went away meanwhile. The caller releases it. Errors as
// OpenBody.
func (s *Store) StoredBody(ctx context.Context, id BodyID) (*Body, error) {
	c, err := s.OpenBody(ctx, id)
	if err != nil {
		return nil, err
	}
	b := &Body{s: s, id: id, stored: true, size: c.Size(), content: c}
	end := min(b.size, int64(len(lineEnd)))
	last := make([]byte, end)
	if n, err := c.ReadAt(last, b.size-end); n < len(last) {
		return nil, errors.Join(err, c.Close())
	}
	b.unended = b.size > 0 && string(last) != lineEnd
	return b, nil
}

// readAt is ReadAt of a slice.
func readAt(data, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read before the start of a body")
	}
	if off >= int64(len(data)) {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	n := copy(p, data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Content is a stored body or message open for reading; it stays readable
// until Close even when the message is expunged meanwhile.
type Content interface {
	io.ReaderAt
	Size() int64
	io.Closer
}

// OpenBody opens a body (queue). ErrDamaged, now or from ReadAt, means that its
// bytes are not what was stored; no wrong octet is ever returned.
func (s *Store) OpenBody(ctx context.Context, id BodyID) (Content, error) {
	return s.open(ctx, id, "")
}

// OpenMessage opens a message: its prefix, then its body. Errors as OpenBody;
// ErrNotFound also when the message went away since m was read.
func (s *Store) OpenMessage(ctx context.Context, m Message) (Content, error) {
	return s.open(ctx, m.Body, m.Prefix)
}

// OpenUID opens the message that a mailbox has now under uid: OpenMessage with
// the row and the body read in one snapshot.
func (s *Store) OpenUID(ctx context.Context, m MailboxID, uid UID) (Content, error) {
	return s.openIn(ctx, func(snap Snapshot) (BodyID, string, error) {
		msg, err := (&View{s: s, r: snap}).Message(m, uid)
		return msg.Body, msg.Prefix, err
	})
}

func (s *Store) open(ctx context.Context, id BodyID, prefix string) (Content, error) {
	return s.openIn(ctx, func(Snapshot) (BodyID, string, error) { return id, prefix, nil })
}

// openIn opens the body that which names in a snapshot.
func (s *Store) openIn(ctx context.Context, which func(Snapshot) (BodyID, string, error)) (Content, error) {
	snap, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	id, prefix, err := which(snap)
	var row BodyRow
	if err == nil {
		row, err = bodyText(snap, id)
	}
	snap.Close()
	if err != nil {
		return nil, err
	}
	return s.content(ctx, row, prefix)
}

// content opens the body of a row.
func (s *Store) content(ctx context.Context, row BodyRow, prefix string) (Content, error) {
	if row.File == "" {
		return s.coder.open(row, nil, prefix, s.damaged)
	}
	file, err := s.engine.OpenFile(row.File)
	if err != nil {
		if errors.Is(err, ErrNotFound) {
			return nil, s.missing(ctx, row.ID, row.File)
		}
		return nil, fmt.Errorf("open body %d: %w", row.ID, err)
	}
	return s.coder.open(row, file, prefix, s.damaged)
}

// missing tells a body that was removed meanwhile from one whose file is lost.
func (s *Store) missing(ctx context.Context, id BodyID, file string) error {
	snap, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	defer snap.Close()
	if _, err := snap.Body(id, false); err != nil {
		return err
	}
	s.damaged("the file of a stored body is gone", "body", id, "file", file)
	return fmt.Errorf("body %d: its file is gone: %w", id, ErrDamaged)
}

// chunksMatch checks data against the checksums of its chunks.
func chunksMatch(data, sums []byte) bool {
	for len(data) > 0 {
		n := min(len(data), ChunkSize)
		if crc32.Checksum(data[:n], castagnoli) != binary.BigEndian.Uint32(sums) {
			return false
		}
		data, sums = data[n:], sums[4:]
	}
	return true
}

// inlineContent is a body that came from the index.
type inlineContent struct {
	prefix string
	data   []byte
}

func (c *inlineContent) Size() int64  { return int64(len(c.prefix) + len(c.data)) }
func (c *inlineContent) Close() error { return nil }

func (c *inlineContent) ReadAt(p []byte, off int64) (int, error) {
	return readWithPrefix(c.prefix, p, off, func(p []byte, off int64) (int, error) {
		return readAt(c.data, p, off)
	})
}

// readWithPrefix is ReadAt of a prefix and what follows it.
func readWithPrefix(prefix string, p []byte, off int64, rest func([]byte, int64) (int, error)) (int, error) {
	if off < 0 {
		return 0, errors.New("read before the start of a body")
	}
	n := 0
	if off < int64(len(prefix)) {
		n = copy(p, prefix[off:])
		if n == len(p) {
			return n, nil
		}
	}
	m, err := rest(p[n:], off+int64(n)-int64(len(prefix)))
	return n + m, err
}

// fileContent is a body in a file. It keeps the chunk that was read last.
type fileContent struct {
	coder   *Coder
	damaged func(string, ...any)
	row     BodyRow
	prefix  string
	file    Content
	offsets []int64 // see BodyRow.offsets

	mu    sync.Mutex
	chunk []byte
	index int64 // of chunk, where it is not empty
}

func (c *fileContent) Size() int64  { return int64(len(c.prefix)) + c.row.Size }
func (c *fileContent) Close() error { return c.file.Close() }

func (c *fileContent) ReadAt(p []byte, off int64) (int, error) {
	return readWithPrefix(c.prefix, p, off, c.readBody)
}

func (c *fileContent) readBody(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at >= c.row.Size {
			return n, io.EOF
		}
		index := at / ChunkSize
		if whole := p[n:min(len(p), n+int(c.row.chunkLen(index)))]; at%ChunkSize == 0 && int64(len(whole)) == c.row.chunkLen(index) {
			if err := c.load(whole, index); err != nil {
				return n, err
			}
			n += len(whole)
			continue
		}
		if err := c.fillLocked(index); err != nil {
			return n, err
		}
		n += copy(p[n:], c.chunk[at%ChunkSize:])
	}
	return n, nil
}

// fillLocked makes c.chunk the chunk of that index.
func (c *fileContent) fillLocked(index int64) error {
	if len(c.chunk) > 0 && c.index == index {
		return nil
	}
	n := c.row.chunkLen(index)
	if int64(cap(c.chunk)) < n {
		c.chunk = make([]byte, n)
	}
	c.chunk = c.chunk[:n]
	if err := c.load(c.chunk, index); err != nil {
		c.chunk = c.chunk[:0]
		return err
	}
	c.index = index
	return nil
}

// load reads one whole chunk into p and checks it.
func (c *fileContent) load(p []byte, index int64) error {
	var err error
	if c.offsets == nil {
		err = c.read(p, index*ChunkSize)
		if err == nil && !chunksMatch(p, c.row.Sums[index*4:]) {
			err = ErrDamaged
		}
	} else {
		kept := c.coder.take(int(c.offsets[index+1] - c.offsets[index]))
		defer c.coder.give(kept)
		if err = c.read(*kept, c.offsets[index]); err == nil {
			err = c.coder.decode(p, *kept, c.row.entry(int(index)), c.row.Sums[index*4:])
		}
	}
	if err == nil {
		return nil
	}
	clear(p)
	if errors.Is(err, ErrDamaged) {
		c.damaged("a stored body is damaged", "body", c.row.ID, "file", c.row.File, "chunk", index)
	}
	return fmt.Errorf("read body %d: %w", c.row.ID, err)
}

// read fills p from the file; one that is too short is ErrDamaged.
func (c *fileContent) read(p []byte, off int64) error {
	n, err := c.file.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err != nil && !errors.Is(err, io.EOF):
		return err
	}
	return ErrDamaged
}
