package zone

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	miekg "github.com/miekg/dns"

	"postrider/dns/durable"
	"postrider/dns/names"
)

// A journal's file is journalMagic, then frames. A frame is the length of its
// content and the CRC-32C of it, both 32 bits, big-endian, then the content: one
// or more differences, each as RFC 1995 section 4 sends it, but with a length of
// 32 bits in front: the old SOA record, what is deleted, the new SOA record, what
// is added, in wire format without compression.
//
// A frame is one write and is synced before the next, so that only the last can
// be torn: it reaches to the end of the file, or is a length of zero where the
// file system had grown the file and not yet filled it. What is torn was never
// acknowledged, and is cut off.
const (
	journalMagic = "postrider zone journal 1\n"
	frameHeader  = 8
	// maxFrame is the largest frame that Append writes and OpenJournal takes.
	maxFrame = 1 << 30
)

var (
	// ErrCorrupt is wrapped by the error of OpenJournal when a frame that is not
	// the last has been damaged, or the file is no journal.
	ErrCorrupt = errors.New("the journal is damaged")

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Journal is the differences between the versions of a zone, the newest last. It
// answers incremental transfers, and after a restart brings the zone of a master
// file to its last version. All methods may be called concurrently.
type Journal struct {
	max int64

	mu      sync.Mutex
	f       journalFile // nil: in memory
	path    string
	end     int64 // of the last whole frame
	cut     int64 // octets that OpenJournal found torn
	entries []entry
	err     error // of a sync that failed; it is not tried again
}

// entry is one difference and where it is.
type entry struct {
	from, to uint32
	off      int64  // in the file
	size     int64  // octets
	data     []byte // in memory, instead of off
}

// journalFile is what a journal needs of a file.
type journalFile interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Close() error
}

// OpenJournal opens the journal at path, or makes it. With an empty path the
// journal is in memory. maxOctets is the size at which Full tells that it is time
// to call Trim; one in memory forgets its oldest differences at that size by
// itself. 0 is 16 MiB.
func OpenJournal(path string, maxOctets int64) (*Journal, error) {
	if maxOctets <= 0 {
		maxOctets = 16 << 20
	}
	j := &Journal{max: maxOctets, path: path}
	if path == "" {
		return j, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = j.load(f, info.Size())
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	return j, nil
}

// load reads what is in the file and cuts off what is torn.
func (j *Journal) load(f journalFile, size int64) error {
	j.f = f
	head := make([]byte, min(size, int64(len(journalMagic))))
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return err
	}
	if string(head) != journalMagic[:len(head)] {
		return fmt.Errorf("%w: it does not begin with %q", ErrCorrupt, journalMagic)
	}
	if len(head) < len(journalMagic) { // new, or torn at its birth
		if _, err := f.WriteAt([]byte(journalMagic), 0); err != nil {
			return err
		}
		size = int64(len(journalMagic))
	}
	j.end = int64(len(journalMagic))
	for j.end < size {
		content, err := readFrame(f, j.end, size)
		if err != nil {
			return err
		}
		if content == nil {
			break
		}
		if err := j.index(content, j.end+frameHeader); err != nil {
			return fmt.Errorf("%w: at octet %d: %w", ErrCorrupt, j.end, err)
		}
		j.end += frameHeader + int64(len(content))
	}
	j.cut = size - j.end
	if err := f.Truncate(j.end); err != nil {
		return err
	}
	return f.Sync()
}

// Cut is the number of octets at the end of the file that OpenJournal dropped:
// more than 0 after a crash during Append.
func (j *Journal) Cut() int64 { return j.cut }

// readFrame reads the content of the frame at off; nil if it is torn.
func readFrame(f io.ReaderAt, off, size int64) ([]byte, error) {
	var head [frameHeader]byte
	if off+frameHeader > size {
		return nil, nil
	}
	if _, err := f.ReadAt(head[:], off); err != nil {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	end := off + frameHeader + n
	if n == 0 || end > size {
		return nil, nil
	}
	if n > maxFrame {
		return nil, fmt.Errorf("%w: a frame of %d octets at octet %d", ErrCorrupt, n, off)
	}
	content := make([]byte, n)
	if _, err := f.ReadAt(content, off+frameHeader); err != nil {
		return nil, err
	}
	if crc32.Checksum(content, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		if end == size {
			return nil, nil
		}
		return nil, fmt.Errorf("%w: wrong checksum at octet %d", ErrCorrupt, off)
	}
	return content, nil
}

// index adds the differences of a frame whose content is at off.
func (j *Journal) index(content []byte, off int64) error {
	for len(content) > 0 {
		if len(content) < 4 {
			return errors.New("a length is cut short")
		}
		n := int64(binary.BigEndian.Uint32(content))
		content, off = content[4:], off+4
		if n > int64(len(content)) {
			return errors.New("a difference is cut short")
		}
		d, err := decodeDiff(content[:n])
		if err != nil {
			return err
		}
		if err := j.follows(d); err != nil {
			return err
		}
		e := entry{from: d.From.Serial, to: d.To.Serial, off: off, size: n}
		if j.f == nil {
			e.data = slices.Clone(content[:n])
		}
		j.entries = append(j.entries, e)
		content, off = content[n:], off+n
	}
	return nil
}

// follows tells an error if a difference does not begin where the journal ends.
func (j *Journal) follows(d Diff) error {
	if d.From == nil || d.To == nil {
		return fmt.Errorf("%w: it has no SOA record", ErrMismatch)
	}
	if last := len(j.entries) - 1; last >= 0 && j.entries[last].to != d.From.Serial {
		return fmt.Errorf("%w: the journal is at serial %d, the difference begins at %d", ErrMismatch, j.entries[last].to, d.From.Serial)
	}
	if !SerialLess(d.From.Serial, d.To.Serial) {
		return fmt.Errorf("%w: serial %d does not come after %d (RFC 1982)", ErrMismatch, d.To.Serial, d.From.Serial)
	}
	return nil
}

// Append adds differences, all or none. When it returns nil they survive loss of
// power. The first begins at the serial where the journal ends, or the error wraps
// ErrMismatch; then, or after an error of writing, the journal is as it was. After
// an error of syncing it takes nothing more.
func (j *Journal) Append(diffs ...Diff) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	if len(diffs) == 0 {
		return nil
	}
	frame := make([]byte, frameHeader)
	for _, d := range diffs {
		at := len(frame)
		var err error
		if frame, err = appendDiff(append(frame, 0, 0, 0, 0), d); err != nil {
			return err
		}
		binary.BigEndian.PutUint32(frame[at:], uint32(len(frame)-at-4))
	}
	content := frame[frameHeader:]
	if len(content) > maxFrame {
		return fmt.Errorf("%w: a difference of %d octets", ErrTooLarge, len(content))
	}
	had := len(j.entries)
	if err := j.index(content, j.end+frameHeader); err != nil {
		j.entries = j.entries[:had]
		return err
	}
	if j.f == nil {
		j.end += int64(len(content))
		j.forget(func(entry) bool { return true })
		return nil
	}
	binary.BigEndian.PutUint32(frame, uint32(len(content)))
	binary.BigEndian.PutUint32(frame[4:], crc32.Checksum(content, castagnoli))
	if err := j.writeLocked(frame); err != nil {
		j.entries = j.entries[:had]
		return err
	}
	return nil
}

func (j *Journal) writeLocked(frame []byte) error {
	if _, err := j.f.WriteAt(frame, j.end); err != nil {
		// Space may come back; what was written in part must not stay.
		if terr := j.f.Truncate(j.end); terr != nil {
			j.err = fmt.Errorf("journal: %w", terr)
		}
		return fmt.Errorf("journal: %w", err)
	}
	if err := j.f.Sync(); err != nil {
		j.err = fmt.Errorf("journal: %w", err)
		return j.err
	}
	j.end += int64(len(frame))
	return nil
}

// forget drops the oldest differences while the journal is larger than half its
// bound, after it has passed it, as far as may says.
func (j *Journal) forget(may func(entry) bool) int {
	if j.end <= j.max {
		return 0
	}
	n := 0
	for n < len(j.entries) && j.end > j.max/2 && may(j.entries[n]) {
		j.end -= j.entries[n].size + 4
		n++
	}
	j.entries = slices.Delete(j.entries, 0, n)
	return n
}

// Full tells that the journal has outgrown its bound: write the master file,
// then call Trim.
func (j *Journal) Full() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.f != nil && j.end > j.max
}

// Trim drops the oldest differences, if the journal is full, until it has half
// the size that it may have. saved is the serial of the master file as it is on
// disk: what comes after it is never dropped.
func (j *Journal) Trim(saved uint32) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil || j.f == nil {
		return j.err
	}
	old := slices.Clone(j.entries)
	size := j.end
	n := j.forget(func(e entry) bool { return !SerialLess(saved, e.to) })
	keep := j.entries
	j.entries, j.end = old, size
	if n == 0 {
		return nil
	}
	return j.rewriteLocked(keep)
}

// Reset forgets everything, as after a transfer of the whole zone.
func (j *Journal) Reset() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil {
		j.entries, j.end = nil, 0
		return nil
	}
	if j.err != nil {
		return j.err
	}
	return j.rewriteLocked(nil)
}

// rewriteLocked puts a file that holds some of the entries in the place of the
// journal's.
func (j *Journal) rewriteLocked(keep []entry) (err error) {
	next := &Journal{max: j.max, path: j.path}
	f, err := os.OpenFile(j.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	buf := []byte(journalMagic)
	for _, e := range keep {
		at := len(buf)
		buf = append(buf, make([]byte, frameHeader+4+e.size)...)
		content := buf[at+frameHeader:]
		binary.BigEndian.PutUint32(content, uint32(e.size))
		if _, err := j.f.ReadAt(content[4:], e.off); err != nil {
			return err
		}
		binary.BigEndian.PutUint32(buf[at:], uint32(len(content)))
		binary.BigEndian.PutUint32(buf[at+4:], crc32.Checksum(content, castagnoli))
	}
	if _, err := f.WriteAt(buf, 0); err != nil {
		return err
	}
	if err := next.load(f, int64(len(buf))); err != nil { // and syncs
		return err
	}
	if err := os.Rename(f.Name(), j.path); err != nil {
		return err
	}
	// From here the new file is the journal, come what may.
	j.f.Close()
	j.f, j.end, j.entries = next.f, next.end, next.entries
	if serr := durable.SyncDir(filepath.Dir(j.path)); serr != nil {
		j.err = fmt.Errorf("journal: %w", serr)
		return j.err
	}
	return nil
}

// Since gives the differences that lead from a serial to the newest version, the
// oldest first. It is nil if the journal does not know that serial, and empty if
// it is the newest.
func (j *Journal) Since(serial uint32) []Diff {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.entries) == 0 {
		return nil
	}
	if j.entries[len(j.entries)-1].to == serial {
		return []Diff{}
	}
	i := slices.IndexFunc(j.entries, func(e entry) bool { return e.from == serial })
	if i < 0 {
		return nil
	}
	var list []Diff
	for _, e := range j.entries[i:] {
		d, err := j.readLocked(e)
		if err != nil {
			return nil // the asker transfers the whole zone instead
		}
		list = append(list, d)
	}
	return list
}

func (j *Journal) readLocked(e entry) (Diff, error) {
	data := e.data
	if j.f != nil {
		data = make([]byte, e.size)
		if _, err := j.f.ReadAt(data, e.off); err != nil {
			return Diff{}, err
		}
	}
	return decodeDiff(data)
}

// Replay brings a zone, as its master file has it, to the newest version. An
// empty journal changes nothing. If the journal does not know the zone's serial,
// because the file was edited, or what it says does not fit the zone, the error
// wraps ErrMismatch: the file is then the truth, and the journal to be Reset.
func (j *Journal) Replay(z *Zone) (*Zone, error) {
	j.mu.Lock()
	empty := len(j.entries) == 0
	j.mu.Unlock()
	if empty {
		return z, nil
	}
	list := j.Since(z.Serial())
	if list == nil {
		return nil, fmt.Errorf("%w: the journal has no serial %d", ErrMismatch, z.Serial())
	}
	for _, d := range list {
		next, err := z.Apply(d)
		if err != nil {
			return nil, err
		}
		z = next
	}
	return z, nil
}

// Close closes the file. The journal must not be used after it.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil {
		return nil
	}
	return j.f.Close()
}

// appendDiff appends a difference in the form of the journal.
func appendDiff(to []byte, d Diff) ([]byte, error) {
	if d.From == nil || d.To == nil {
		return nil, fmt.Errorf("%w: it has no SOA record", ErrMismatch)
	}
	buf := make([]byte, miekg.MaxMsgSize+names.MaxWire)
	for _, part := range [][]miekg.RR{{d.From}, d.Deleted, {d.To}, d.Added} {
		for _, rr := range part {
			n, err := miekg.PackRR(miekg.Copy(rr), buf, 0, nil, false)
			if err != nil {
				return nil, fmt.Errorf("%w: %q: %w", ErrInvalid, rr, err)
			}
			to = append(to, buf[:n]...)
		}
	}
	return to, nil
}

// decodeDiff is the inverse of appendDiff.
func decodeDiff(data []byte) (Diff, error) {
	var d Diff
	for len(data) > 0 {
		// The library takes offsets within a message only.
		rr, n, err := miekg.UnpackRR(data[:min(len(data), miekg.MaxMsgSize+names.MaxWire)], 0)
		if err != nil {
			return Diff{}, err
		}
		data = data[n:]
		soa, isSOA := rr.(*miekg.SOA)
		switch {
		case isSOA && d.From == nil:
			d.From = soa
		case d.From == nil:
			return Diff{}, errors.New("a difference does not begin with an SOA record")
		case isSOA && d.To == nil:
			d.To = soa
		case isSOA:
			return Diff{}, errors.New("a difference has a third SOA record")
		case d.To == nil:
			d.Deleted = append(d.Deleted, rr)
		default:
			d.Added = append(d.Added, rr)
		}
	}
	if d.To == nil {
		return Diff{}, errors.New("a difference has no second SOA record")
	}
	return d, nil
}
