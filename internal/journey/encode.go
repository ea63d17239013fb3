package journey

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"time"
)

// A record is an event in a file: its length and the CRC-32C of what follows
// (four octets each, little-endian), then seq, time in nanoseconds, nine fields
// and the number of attributes as varints and strings behind their lengths.
const (
	recordHead = 8
	maxRecord  = 1 << 20 // octets; the bounds of Event keep far below
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errRecord  = errors.New("a record is damaged")
)

// appendRecord adds the record of e, within the bounds of an event.
func appendRecord(b []byte, e *Event) []byte {
	start := len(b)
	b = append(b, make([]byte, recordHead)...)
	b = binary.AppendUvarint(b, e.Seq)
	b = binary.AppendVarint(b, e.Time.UnixNano())
	b = appendString(b, e.Node, maxName)
	b = appendString(b, string(e.Kind), maxName)
	b = appendString(b, e.Message, maxName)
	b = appendString(b, e.Session, maxName)
	b = appendString(b, e.Peer, maxName)
	b = appendString(b, e.Text, maxText)
	b = appendString(b, e.RFC, maxName)
	wire := e.Wire[:min(len(e.Wire), maxWire)]
	b = binary.AppendUvarint(b, uint64(len(wire)))
	b = append(b, wire...)
	attrs := e.Attrs[:min(len(e.Attrs), maxAttrs)]
	b = binary.AppendUvarint(b, uint64(len(attrs)))
	for i := range attrs {
		b = appendString(b, attrs[i].Key, maxName)
		b = appendString(b, attrs[i].Value, maxText)
	}
	body := b[start+recordHead:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(body, castagnoli))
	return b
}

func appendString(b []byte, s string, limit int) []byte {
	if len(s) > limit {
		s = cut(s, limit)
	}
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// readRecord reads the record at the beginning of b and tells its length; an
// error where b has none that is whole.
func readRecord(b []byte) (e Event, n int, err error) {
	if len(b) < recordHead {
		return e, 0, errRecord
	}
	size := int(binary.LittleEndian.Uint32(b))
	if size == 0 || size > maxRecord || size > len(b)-recordHead {
		return e, 0, errRecord
	}
	body := b[recordHead : recordHead+size]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return e, 0, errRecord
	}
	d := decoder{b: body, text: string(body)}
	e.Seq = d.uvarint()
	e.Time = time.Unix(0, d.varint()).UTC()
	e.Node = d.string()
	e.Kind = Kind(d.string())
	e.Message, e.Session, e.Peer, e.Text, e.RFC = d.string(), d.string(), d.string(), d.string(), d.string()
	if wire := d.string(); wire != "" {
		e.Wire = []byte(wire)
	}
	attrs := d.uvarint()
	if d.bad || attrs > maxAttrs {
		return e, 0, errRecord
	}
	if attrs > 0 {
		e.Attrs = make([]Attr, attrs)
	}
	for i := range e.Attrs {
		e.Attrs[i] = Attr{d.string(), d.string()}
	}
	if d.bad || d.at < len(d.b) {
		return e, 0, errRecord
	}
	return e, recordHead + size, nil
}

// decoder reads values one after the other; what is not there is zero, and bad.
type decoder struct {
	b    []byte
	text string // b; strings are parts of it, in place of copies of their own
	at   int
	bad  bool
}

// took goes on behind a number of n octets; n below 1: there is none.
func (d *decoder) took(n int) {
	if n <= 0 {
		d.at, d.bad = len(d.b), true
		return
	}
	d.at += n
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b[d.at:])
	d.took(n)
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b[d.at:])
	d.took(n)
	return v
}

func (d *decoder) string() string {
	n := d.uvarint()
	if n > uint64(len(d.b)-d.at) {
		d.at, d.bad = len(d.b), true
		return ""
	}
	s := d.text[d.at : d.at+int(n)]
	d.at += int(n)
	return s
}

// An entry of the index is the hash of what an event is found by, in the upper
// half, and the offset of its record in the lower.
type entry uint64

func (e entry) hash() uint32   { return uint32(e >> 32) }
func (e entry) offset() uint32 { return uint32(e) }

// Prefixes of what is hashed.
const (
	byMessage   = 'm'
	bySession   = 's'
	byFrom      = 'f'
	byTo        = 't'
	byMessageID = 'i'
	byContent   = 'c' // mailstore's EMAILID, which a message keeps in all mailboxes
)

// hashKey is FNV-1a of the prefix and of the value in lower case.
func hashKey(prefix byte, value string) uint32 {
	h := (2166136261 ^ uint32(prefix)) * 16777619
	for i := range len(value) {
		c := value[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}

// indexed are the keys of attributes that events are found by.
func indexed(key string) byte {
	switch key {
	case "from":
		return byFrom
	case "to":
		return byTo
	case "message-id":
		return byMessageID
	case "content":
		return byContent
	}
	return 0
}

// indexer makes entries. Events of one message, and of one session, come one after
// the other: their hashes are remembered.
type indexer struct{ message, session hashed }

// hashed is a short value and its hash.
type hashed struct {
	value [32]byte
	size  int
	hash  uint32
}

func (h *hashed) of(prefix byte, value string) uint32 {
	if len(value) > len(h.value) {
		return hashKey(prefix, cut(value, maxName))
	}
	if string(h.value[:h.size]) != value {
		h.size, h.hash = copy(h.value[:], value), hashKey(prefix, value)
	}
	return h.hash
}

// appendEntries adds the entries of an event whose record is at offset.
func (x *indexer) appendEntries(list []entry, e *Event, offset uint32) []entry {
	if e.Message != "" {
		list = append(list, entry(x.message.of(byMessage, e.Message))<<32|entry(offset))
	}
	if e.Session != "" {
		list = append(list, entry(x.session.of(bySession, e.Session))<<32|entry(offset))
	}
	for i := range e.Attrs[:min(len(e.Attrs), maxAttrs)] {
		if p := indexed(e.Attrs[i].Key); p != 0 {
			list = append(list, entry(hashKey(p, cut(e.Attrs[i].Value, maxText)))<<32|entry(offset))
		}
	}
	return list
}

// has tells whether an event is found by a value.
func (e *Event) has(prefix byte, value string) bool {
	switch prefix {
	case byMessage:
		return e.Message == value
	case bySession:
		return e.Session == value
	}
	for i := range e.Attrs {
		if indexed(e.Attrs[i].Key) == prefix && strings.EqualFold(e.Attrs[i].Value, value) {
			return true
		}
	}
	return false
}
