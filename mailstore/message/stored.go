package message

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// Limits of a record. What is longer is left out of it, and has to be found in
// the message again.
const (
	maxStoredEnvelope  = 32 << 10
	maxStoredStructure = 32 << 10
	maxStoredParts     = 16 << 10
	// MaxStored is the longest record.
	MaxStored = maxStoredEnvelope + maxStoredStructure + maxStoredParts +
		(1+MaxReferences)*(MaxThreadID+binary.MaxVarintLen16) + MaxSubject + 64
	// MaxPrefix is the most that may stand in front of a message that was
	// described without it.
	MaxPrefix = 64 << 10
)

// Stored is what the store keeps of a message beside its octets, so that
// nobody has to parse it again. After ReadStored its slices are parts of the
// record.
type Stored struct {
	// Envelope is the ENVELOPE as it goes out, "(...)", good for clients that
	// know no more than RFC 3501: 8-bit texts are encoded words or literals. nil
	// means that it is longer than a record holds.
	Envelope []byte
	// BodyStructure is the BODYSTRUCTURE as it goes out, with its extension
	// data. nil means that it is longer than a record holds.
	BodyStructure []byte
	// MessageID is the id of the message without angle brackets, empty for
	// none. See References for those that it answers.
	MessageID []byte
	// BaseSubject is the subject as threads compare it (see BaseSubject).
	BaseSubject []byte
	// Size is the number of octets that were described.
	Size int64
	// Headed tells that header fields may be put in front of the message (up to
	// MaxPrefix octets, whole lines) and everything here but the offsets still
	// holds, provided that they are none of those that Stored is made of: trace
	// fields are not.
	Headed bool

	hasSent  bool
	sent     int64  // seconds since 1970
	sentZone int64  // seconds east of UTC
	refs     []byte // see References
	parts    []byte // the part table; nil if it is longer than a record holds
}

// Errors of records.
var (
	// ErrRecord is a record that is damaged or of a newer version.
	ErrRecord = errors.New("message: unreadable record")
	// ErrNotStored means that the record does not hold what was asked; the
	// message has to be parsed.
	ErrNotStored = errors.New("message: not in the record")
)

// storedVersion is the first octet of a record.
//
// Version 1 goes on with an octet of flags; seven lengths and numbers, each a
// varint: those of the envelope, the structure, the message id, the base
// subject, the references and the part table, and the size of the message; the
// Date field in seconds since 1970 and its zone in seconds (signed varints, if
// the flag is set); then the six texts in that order. References are ids, each
// after its length. See appendTable for the part table.
const storedVersion = 1

const (
	flagEnvelope = 1 << iota
	flagStructure
	flagParts
	flagHeaded
	flagSent
)

// Sent is the time in the Date field in its own zone, zero when there is none
// that can be read.
func (s *Stored) Sent() time.Time {
	if !s.hasSent {
		return time.Time{}
	}
	return at(s.sent, int(s.sentZone))
}

// setSent reads a Date field.
func (s *Stored) setSent(v string) {
	if sec, zone, ok := standardDate(v); ok {
		s.hasSent, s.sent, s.sentZone = true, sec, int64(zone)
		return
	}
	if t, err := ParseDate(v); err == nil && !t.IsZero() {
		_, zone := t.Zone()
		s.hasSent, s.sent, s.sentZone = true, t.Unix(), int64(zone)
	}
}

// Append appends the record, at most MaxStored octets.
func (s *Stored) Append(dst []byte) []byte {
	var flags byte
	set := func(ok bool, flag byte) {
		if ok {
			flags |= flag
		}
	}
	set(s.Envelope != nil, flagEnvelope)
	set(s.BodyStructure != nil, flagStructure)
	set(s.parts != nil, flagParts)
	set(s.Headed, flagHeaded)
	set(s.hasSent, flagSent)
	dst = append(dst, storedVersion, flags)
	texts := [...][]byte{s.Envelope, s.BodyStructure, s.MessageID, s.BaseSubject, s.refs, s.parts}
	for _, b := range texts {
		dst = binary.AppendUvarint(dst, uint64(len(b)))
	}
	dst = binary.AppendUvarint(dst, uint64(s.Size))
	if s.hasSent {
		dst = binary.AppendVarint(dst, s.sent)
		dst = binary.AppendVarint(dst, s.sentZone)
	}
	for _, b := range texts {
		dst = append(dst, b...)
	}
	return dst
}

// ReadStored reads a record. The result shares b, which must not change while
// it is used. The error wraps ErrRecord.
func ReadStored(b []byte) (Stored, error) {
	var s Stored
	if len(b) < 2 {
		return s, fmt.Errorf("%w: %d octets", ErrRecord, len(b))
	}
	if b[0] != storedVersion {
		return s, fmt.Errorf("%w: version %d, this program knows %d", ErrRecord, b[0], storedVersion)
	}
	flags := b[1]
	r := recordReader{b: b[2:]}
	var lens [6]uint64
	for i := range lens {
		lens[i] = r.uvarint()
	}
	size := r.uvarint()
	if s.hasSent = flags&flagSent != 0; s.hasSent {
		s.sent = r.varint()
		s.sentZone = r.varint()
	}
	texts := [...]*[]byte{&s.Envelope, &s.BodyStructure, &s.MessageID, &s.BaseSubject, &s.refs, &s.parts}
	for i, t := range texts {
		*t = r.take(lens[i])
	}
	if r.bad || len(r.b) > 0 || size > math.MaxInt64 || s.sentZone != int64(int32(s.sentZone)) {
		return Stored{}, fmt.Errorf("%w: of %d octets", ErrRecord, len(b))
	}
	s.Size = int64(size)
	s.Headed = flags&flagHeaded != 0
	if flags&flagEnvelope == 0 {
		s.Envelope = nil
	}
	if flags&flagStructure == 0 {
		s.BodyStructure = nil
	}
	if flags&flagParts == 0 {
		s.parts = nil
	}
	return s, nil
}

// Clone is a copy that shares nothing with the record.
func (s *Stored) Clone() Stored {
	record := s.Append(nil)
	clone, _ := ReadStored(record) // it was just written
	return clone
}

// recordReader reads from the front of b. After a fault it reads zeros.
type recordReader struct {
	b   []byte
	bad bool
}

func (r *recordReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	r.past(n)
	return v
}

func (r *recordReader) varint() int64 {
	v, n := binary.Varint(r.b)
	r.past(n)
	return v
}

// past goes on behind a number of n octets, which is 0 where n tells a fault.
func (r *recordReader) past(n int) {
	if n <= 0 {
		r.fail()
		return
	}
	r.b = r.b[n:]
}

func (r *recordReader) octet() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *recordReader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	t := r.b[:n:n]
	r.b = r.b[n:]
	return t
}

func (r *recordReader) fail() { r.bad, r.b = true, nil }

// Index makes from the record the index of a message of size octets in r that
// begins with prefix octets of header fields and goes on with what was
// described. It equals the one that Parse would make. The error is
// ErrNotStored where the message has to be parsed, and wraps ErrRecord where
// the record is damaged or of another message.
func (s *Stored) Index(r io.ReaderAt, prefix, size int64) (*Index, error) {
	switch {
	case s.parts == nil, prefix != 0 && !s.Headed, prefix > MaxPrefix:
		return nil, ErrNotStored
	case prefix < 0 || size != prefix+s.Size:
		return nil, fmt.Errorf("%w: of a message of %d octets, not %d", ErrRecord, s.Size, size-prefix)
	}
	root, err := readTable(s.parts, prefix, size)
	if err != nil {
		return nil, err
	}
	return &Index{Root: root, r: r, size: size}, nil
}
