package mailstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

const (
	textBatch = 256      // bodies that are read in one snapshot
	textBytes = 32 << 20 // after which it takes no more
)

// texts reads every body, in snapshots that are short: what a body is does not
// change as long as it is there.
func (v *verifier) texts(ctx context.Context) error {
	after, more := BodyID(math.MinInt64), true
	for more {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if after, more, err = v.batch(after); err != nil {
			return err
		}
		v.mendAll()
	}
	if err := v.name(); err != nil {
		return err
	}
	v.mendAll()
	return ctx.Err()
}

// batch reads some bodies, and tells where to go on.
func (v *verifier) batch(after BodyID) (last BodyID, more bool, err error) {
	r, end, err := v.snapshot()
	if err != nil {
		return 0, false, err
	}
	defer end()
	var rows []BodyRow
	size := int64(0)
	err = r.Bodies(after, func(b BodyRow) bool {
		rows = append(rows, b)
		size += b.Size
		return len(rows) < textBatch && size < textBytes
	})
	if err != nil { // said before, of the list in the snapshot of the rows
		return 0, false, nil
	}
	for i := range rows {
		v.text(r, &rows[i])
		v.p.Bodies.Add(1)
		v.p.Done.Add(rows[i].Size)
	}
	if n := len(rows); n > 0 && rows[n-1].ID > after { // else out of order, which was said
		return rows[n-1].ID, true, nil
	}
	return 0, false, nil
}

// text checks one body, its checksums and its record.
func (v *verifier) text(r Reader, b *BodyRow) {
	c, sums, err := v.readText(r, b, nil)
	if errors.Is(err, ErrDamaged) {
		// Perhaps only what says that it is.
		if good, serr := v.sums(r, b); serr == nil && !bytes.Equal(good, b.Sums) {
			c, sums, err = v.readText(r, b, good)
		}
	}
	if err != nil {
		v.lose(b.ID, err.Error())
		return
	}
	if c == nil {
		return // it went away meanwhile
	}
	defer c.Close()
	if !bytes.Equal(sums, b.Sums) {
		v.report(Finding{Kind: "checksums", Body: b.ID, Text: fmt.Sprintf("body %d is whole, and its checksums are not its", b.ID),
			mend: mendSums(b.ID, sums)})
	}
	record, err := r.Content(b.ID)
	if err != nil {
		return // there need not be one
	}
	again, err := v.describe.describe(c)
	if err == nil && !bytes.Equal(again, record) {
		v.report(Finding{Kind: "record", Body: b.ID, Text: fmt.Sprintf("what lists tell of body %d is not what it says", b.ID),
			mend: func(tx *Tx) error {
				if _, err := tx.r.Body(b.ID, false); err != nil {
					return nil // it went away
				}
				return tx.do(func(w Writer) error { return w.PutContent(b.ID, again) })
			}})
	}
}

// readText opens a body, with other checksums of its chunks than its row has where
// they are not nil, and reads it as rehash does. All are nil when it is not there any
// more.
func (v *verifier) readText(r Reader, b *BodyRow, sums []byte) (c Content, found []byte, err error) {
	if c, err = v.openText(r, b, sums); err != nil || c == nil {
		return nil, nil, err
	}
	found, why, err := rehash(c, b)
	if err == nil && why != "" {
		err = errors.New(why)
	}
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	return c, found, nil
}

// sums makes the checksums of a coded body's chunks anew.
func (v *verifier) sums(r Reader, b *BodyRow) (sums []byte, err error) {
	row, err := r.Body(b.ID, true)
	if err != nil {
		return nil, err
	}
	if b.File == "" {
		return v.coder.sumsOf(row, nil)
	}
	file, err := v.e.OpenFile(b.File)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return v.coder.sumsOf(row, file)
}

// openText opens a body; nil without an error when it is not there any more.
func (v *verifier) openText(r Reader, b *BodyRow, sums []byte) (Content, error) {
	row, err := r.Body(b.ID, true)
	if sums != nil {
		row.Sums = sums
	}
	coded := err == nil && len(row.Coding) > 0
	switch {
	case b.File == "" && coded:
		return v.coder.Open(row, nil)
	case b.File == "":
		return &inlineContent{data: row.Data}, err
	}
	c, err := v.e.OpenFile(b.File)
	switch {
	case err == nil && coded:
		return v.coder.Open(row, c)
	case err != nil && !errors.Is(err, ErrNotFound):
		return nil, err
	case err == nil:
		return c, nil
	}
	if !v.committed(b.File) {
		return nil, nil
	}
	return nil, errors.New("the file of its body is gone")
}

// rehash reads a body and returns the checksums of its chunks, and what is
// wrong with it.
func rehash(c Content, b *BodyRow) (sums []byte, why string, err error) {
	if c.Size() != b.Size {
		return nil, fmt.Sprintf("its body has %d octets, and should have %d", c.Size(), b.Size), nil
	}
	sum := sha256.New()
	buf := make([]byte, min(ChunkSize, b.Size))
	for at := int64(0); at < b.Size; at += ChunkSize {
		chunk := buf[:min(ChunkSize, b.Size-at)]
		if n, err := c.ReadAt(chunk, at); n < len(chunk) {
			return nil, "", errors.Join(errors.New("its body cannot be read"), unlessEOF(err))
		}
		sum.Write(chunk)
		sums = binary.BigEndian.AppendUint32(sums, crc32.Checksum(chunk, castagnoli))
	}
	if [sha256.Size]byte(sum.Sum(nil)) != b.Hash {
		return nil, "its body has other octets than were stored", nil
	}
	return sums, "", nil
}

func unlessEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// mendSums writes the row of a body anew with its checksums.
func mendSums(id BodyID, sums []byte) func(*Tx) error {
	return func(tx *Tx) error {
		row, err := tx.r.Body(id, true)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		record, err := tx.r.Content(id)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return tx.do(func(w Writer) error {
			if _, _, err := w.DropRefs(id, row.Refs); err != nil {
				return err
			}
			row.Sums = sums
			if err := w.InsertBody(&row); err != nil || record == nil {
				return err
			}
			return w.PutContent(id, record)
		})
	}
}
