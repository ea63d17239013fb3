package journey

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"
)

// A segment is a file of records behind segmentMagic. One that takes no more
// is sealed: its index, sorted entries of eight octets, follows the records, and
// a trailer says where it begins. One without a trailer is read from its
// beginning to find out what it has.
const (
	segmentMagic = "journey1"
	trailerMagic = "journeyX"
	trailerSize  = 36
)

// trailer is the end of a sealed segment: the magic, the offset of the index, the
// number of its entries, the times of the first and last event in nanoseconds,
// and the CRC-32C of the trailer before it. Nothing vouches for the index but what
// it leads to: records have checksums, and whoever looks one up compares it.
type trailer struct {
	index       uint32 // offset
	entries     uint32
	first, last int64
}

func (t *trailer) append(b []byte) []byte {
	start := len(b)
	b = append(b, trailerMagic...)
	b = binary.LittleEndian.AppendUint32(b, t.index)
	b = binary.LittleEndian.AppendUint32(b, t.entries)
	b = binary.LittleEndian.AppendUint64(b, uint64(t.first))
	b = binary.LittleEndian.AppendUint64(b, uint64(t.last))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func readTrailer(b []byte) (t trailer, ok bool) {
	if len(b) != trailerSize || string(b[:8]) != trailerMagic ||
		crc32.Checksum(b[:trailerSize-4], castagnoli) != binary.LittleEndian.Uint32(b[trailerSize-4:]) {
		return t, false
	}
	return trailer{
		index: binary.LittleEndian.Uint32(b[8:]), entries: binary.LittleEndian.Uint32(b[12:]),
		first: int64(binary.LittleEndian.Uint64(b[16:])), last: int64(binary.LittleEndian.Uint64(b[24:])),
	}, true
}

// segment is one file. Of one that is sealed the fields do not change, but for
// checked.
type segment struct {
	number  uint64
	path    string
	size    int64
	first   time.Time // of its events
	last    time.Time
	sealed  bool
	trailer trailer
	entries []entry // until it is sealed, in the order of records
	indexer indexer
}

var errNotSegment = errors.New("it is no file of a journey")

// openSegment looks at a file that is there. One without a trailer is read to
// its last whole record; what is behind that, the write that a crash cut short,
// is cut off. An error means that the file is to be set aside.
func openSegment(number uint64, path string) (*segment, error) {
	s := &segment{number: number, path: path}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s.size = fi.Size()
	var magic [len(segmentMagic)]byte
	if _, err := io.ReadFull(f, magic[:]); err != nil || string(magic[:]) != segmentMagic || s.size > maxSegment {
		return nil, errNotSegment
	}
	var tail [trailerSize]byte
	if n, _ := f.ReadAt(tail[:], max(0, s.size-trailerSize)); n == trailerSize {
		if t, ok := readTrailer(tail[:]); ok {
			if int64(t.index)+8*int64(t.entries)+trailerSize != s.size {
				return nil, errNotSegment
			}
			s.sealed, s.trailer = true, t
			s.first, s.last = time.Unix(0, t.first), time.Unix(0, t.last)
			return s, nil
		}
	}
	return s, s.scan(f)
}

// scan reads all records of a segment that is not sealed.
func (s *segment) scan(f *os.File) error {
	b := make([]byte, s.size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	at := len(segmentMagic)
	for at < len(b) {
		e, n, err := readRecord(b[at:])
		if err != nil {
			break
		}
		s.note(&e, uint32(at))
		at += n
	}
	if wholeRecordAfter(b[at:]) {
		return fmt.Errorf("%w: at octet %d", errRecord, at)
	}
	s.size = int64(at)
	return f.Truncate(s.size)
}

// note adds an event's times and entries.
func (s *segment) note(e *Event, offset uint32) {
	if s.first.IsZero() || e.Time.Before(s.first) {
		s.first = e.Time
	}
	if e.Time.After(s.last) {
		s.last = e.Time
	}
	s.entries = s.indexer.appendEntries(s.entries, e, offset)
}

// wholeRecordAfter tells whether what a crash is taken to have cut short has a
// whole record later: then it was no crash that damaged the file.
func wholeRecordAfter(b []byte) bool {
	const look = 64 << 10
	for i := 1; i < min(len(b)-recordHead, look); i++ {
		if _, _, err := readRecord(b[i:]); err == nil {
			return true
		}
	}
	return false
}

// sortEntries sorts what is in the order of offsets, by hash: digit by digit, which
// takes a tenth of the time that comparisons do.
func sortEntries(list []entry) {
	const bits, digits = 8, 4
	var ends [digits][1 << bits]uint32
	for _, e := range list {
		for d := range ends {
			ends[d][byte(e.hash()>>(bits*d))]++
		}
	}
	from, to := list, make([]entry, len(list))
	for d := range ends {
		at := uint32(0)
		for i, n := range ends[d] {
			ends[d][i], at = at, at+n
		}
		for _, e := range from {
			i := byte(e.hash() >> (bits * d))
			to[ends[d][i]] = e
			ends[d][i]++
		}
		from, to = to, from
	}
} // digits is even: what is sorted is in list

// seal writes the index behind the records, over what a failed write left there.
func (s *segment) seal(f file) error {
	sortEntries(s.entries)
	b := make([]byte, 0, 8*len(s.entries)+trailerSize)
	for _, e := range s.entries {
		b = binary.LittleEndian.AppendUint64(b, uint64(e))
	}
	t := trailer{index: uint32(s.size), entries: uint32(len(s.entries)),
		first: s.first.UnixNano(), last: s.last.UnixNano()}
	b = t.append(b)
	if err := f.Truncate(s.size); err != nil {
		return err
	}
	if _, err := f.WriteAt(b, s.size); err != nil {
		return err
	}
	s.size += int64(len(b))
	s.sealed, s.trailer, s.entries = true, t, nil
	return nil
}

// offsets finds where the records with a hash are: of a sealed segment by
// bisection in its file.
func (s *segment) offsets(f io.ReaderAt, hash uint32) ([]uint32, error) {
	var list []uint32
	if !s.sealed {
		for _, e := range s.entries {
			if e.hash() == hash {
				list = append(list, e.offset())
			}
		}
		return list, nil
	}
	at := func(i int) (entry, error) {
		var b [8]byte
		_, err := f.ReadAt(b[:], int64(s.trailer.index)+8*int64(i))
		return entry(binary.LittleEndian.Uint64(b[:])), err
	}
	lo, hi := 0, int(s.trailer.entries)
	for lo < hi {
		mid := (lo + hi) / 2
		e, err := at(mid)
		if err != nil {
			return nil, err
		}
		if e.hash() < hash {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	for ; lo < int(s.trailer.entries); lo++ {
		e, err := at(lo)
		if err != nil || e.hash() != hash {
			return list, err
		}
		list = append(list, e.offset())
	}
	return list, nil
}

// event reads the record at an offset.
func (s *segment) event(f io.ReaderAt, offset uint32) (Event, error) {
	buf := make([]byte, 2<<10)
	n, err := f.ReadAt(buf, int64(offset))
	if n < recordHead {
		return Event{}, err
	}
	if size := int(binary.LittleEndian.Uint32(buf)) + recordHead; size > n {
		if size > maxRecord {
			return Event{}, errRecord
		}
		more := make([]byte, size)
		if _, err := f.ReadAt(more, int64(offset)); err != nil {
			return Event{}, err
		}
		buf, n = more, size
	}
	e, _, err := readRecord(buf[:n])
	e.fill()
	return e, err
}
