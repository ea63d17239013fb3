package server

import (
	"encoding/binary"

	miekg "github.com/miekg/dns"
)

// Sizes of the wire format (RFC 1035 sections 2.3.4, 4.1 and 4.2.1).
const (
	headerSize = 12
	maxName    = 255
	maxLabel   = 63
	minUDP     = 512
	maxMessage = 65535
)

// Bits of the header's second word (RFC 1035 section 4.1.1, RFC 4035 section 3).
const (
	flagQR = 1 << 15
	flagAA = 1 << 10
	flagTC = 1 << 9
	flagRD = 1 << 8
	flagRA = 1 << 7
	flagAD = 1 << 5
	flagCD = 1 << 4

	opcodeShift = 11
	opcodeMask  = 15
	rcodeMask   = 15
)

const (
	// maxOptions bounds the EDNS options of one query that are looked at.
	maxOptions = 16
	// maxAdditional bounds the additional records of a query: one OPT record
	// and one TSIG or SIG(0), and a few that nobody needs.
	maxAdditional = 4

	optCookie    = 10
	optKeepalive = 11
	optPadding   = 12
	optEDE       = 15

	serverCookieSize = 16 // RFC 9018 section 4
	clientCookieSize = 8
)

// query is a message from a client, read as far as most answers need it. It
// refers to the message's octets, and is used again for the next one.
type query struct {
	wire   []byte
	id     uint16
	flags  uint16
	opcode int

	questions int // 0 or 1
	name      [maxName]byte
	nameLen   int // of name, lower case, in wire format; 0 without a question
	labels    int // the root's not counted
	qtype     uint16
	class     uint16
	afterQ    int // where the question ends

	edns      bool
	version   uint8
	size      int // of the answers that the client takes over UDP
	do        bool
	cookie    []byte // the option's octets; nil without
	keepalive bool
	padding   bool

	tsigAt int // where the TSIG record begins; 0 without one
}

// verdict says what is to be done with a message, before anybody looked for an
// answer.
type verdict int

const (
	proceed verdict = iota
	drop            // no reply: too short, or a reply itself
	refuse          // a reply with an error code
)

// read parses a message. With refuse comes the error code; the question is set
// if it was readable.
func (q *query) read(wire []byte) (verdict, int) {
	// Field by field: to clear the name would cost as much as all the rest.
	q.wire, q.nameLen, q.labels, q.questions, q.afterQ = wire, 0, 0, 0, 0
	q.qtype, q.class, q.edns, q.version, q.size, q.do = 0, 0, false, 0, minUDP, false
	q.cookie, q.keepalive, q.padding, q.tsigAt = nil, false, false, 0
	if len(wire) < headerSize {
		return drop, 0
	}
	q.id = binary.BigEndian.Uint16(wire)
	q.flags = binary.BigEndian.Uint16(wire[2:])
	if q.flags&flagQR != 0 {
		return drop, 0 // two servers that answer each other's answers never end
	}
	q.opcode = int(q.flags >> opcodeShift & opcodeMask)
	q.questions = int(binary.BigEndian.Uint16(wire[4:]))
	switch q.opcode {
	case miekg.OpcodeQuery, miekg.OpcodeNotify, miekg.OpcodeUpdate:
	default:
		q.questions = 0
		return refuse, miekg.RcodeNotImplemented
	}
	if q.questions > 1 { // RFC 9619 section 4
		q.questions = 0
		return refuse, miekg.RcodeFormatError
	}
	off := headerSize
	if q.questions == 1 {
		if off = q.readQuestion(); off == 0 {
			q.questions = 0
			return refuse, miekg.RcodeFormatError
		}
	}
	q.afterQ = off
	if q.opcode == miekg.OpcodeUpdate {
		return q.skipUpdate(off)
	}
	return q.readRest(off)
}

// readQuestion returns the offset after the question; 0 if it is malformed. Of
// names in questions no part is compressed: there is nothing to point to.
func (q *query) readQuestion() int {
	off := headerSize
	for {
		if off >= len(q.wire) {
			return 0
		}
		n := int(q.wire[off])
		if n > maxLabel || q.nameLen+n+1 > maxName || off+n+1 > len(q.wire) {
			q.nameLen = 0
			return 0
		}
		q.name[q.nameLen] = byte(n)
		for i := 1; i <= n; i++ {
			q.name[q.nameLen+i] = lower(q.wire[off+i])
		}
		off += n + 1
		q.nameLen += n + 1
		if n == 0 {
			break
		}
		q.labels++
	}
	if off+4 > len(q.wire) {
		q.nameLen = 0
		return 0
	}
	q.qtype = binary.BigEndian.Uint16(q.wire[off:])
	q.class = binary.BigEndian.Uint16(q.wire[off+2:])
	return off + 4
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c |= 0x20
	}
	return c
}

// readRest looks at the sections after the question. A query has nothing in its
// answer section, and only IXFR and NOTIFY have records before the additional
// section (RFC 1995 section 3, RFC 1996 section 3.7).
func (q *query) readRest(off int) (verdict, int) {
	answers := int(binary.BigEndian.Uint16(q.wire[6:]))
	authority := int(binary.BigEndian.Uint16(q.wire[8:]))
	switch {
	case q.opcode == miekg.OpcodeNotify:
		if answers > 1 || authority > 1 {
			return refuse, miekg.RcodeFormatError
		}
	case answers > 0, authority > 1, authority == 1 && q.qtype != miekg.TypeIXFR:
		return refuse, miekg.RcodeFormatError
	}
	for range answers + authority {
		if off, _ = skipRR(q.wire, off); off == 0 {
			return refuse, miekg.RcodeFormatError
		}
	}
	return q.readAdditional(off)
}

// skipUpdate passes over the prerequisites and changes of an UPDATE, whose
// number the message's size alone bounds.
func (q *query) skipUpdate(off int) (verdict, int) {
	n := int(binary.BigEndian.Uint16(q.wire[6:])) + int(binary.BigEndian.Uint16(q.wire[8:]))
	for range n {
		if off, _ = skipRR(q.wire, off); off == 0 {
			return refuse, miekg.RcodeFormatError
		}
	}
	return q.readAdditional(off)
}

func (q *query) readAdditional(off int) (verdict, int) {
	n := int(binary.BigEndian.Uint16(q.wire[10:]))
	if n > maxAdditional {
		return refuse, miekg.RcodeFormatError
	}
	for i := range n {
		end, fixed := skipRR(q.wire, off)
		if end == 0 {
			return refuse, miekg.RcodeFormatError
		}
		switch binary.BigEndian.Uint16(q.wire[fixed:]) {
		case miekg.TypeOPT:
			// One at most, owned by the root (RFC 6891 section 6.1.1).
			if q.edns || fixed != off+1 || !q.readOPT(q.wire[fixed:end]) {
				q.edns = false
				return refuse, miekg.RcodeFormatError
			}
		case miekg.TypeTSIG:
			if i != n-1 { // RFC 8945 section 5.1
				return refuse, miekg.RcodeFormatError
			}
			q.tsigAt = off
		}
		off = end
	}
	if off != len(q.wire) {
		return refuse, miekg.RcodeFormatError
	}
	if q.edns && q.version > 0 {
		return refuse, miekg.RcodeBadVers // RFC 6891 section 6.1.3
	}
	return proceed, 0
}

// readOPT reads an OPT record from its type on (RFC 6891 section 6.1.2).
func (q *query) readOPT(rr []byte) bool {
	q.edns = true
	q.size = max(int(binary.BigEndian.Uint16(rr[2:])), minUDP)
	q.version = rr[5]
	q.do = rr[6]&0x80 != 0
	rdata := rr[10:]
	for range maxOptions {
		if len(rdata) == 0 {
			return true
		}
		if len(rdata) < 4 {
			return false
		}
		code, n := binary.BigEndian.Uint16(rdata), int(binary.BigEndian.Uint16(rdata[2:]))
		if rdata = rdata[4:]; n > len(rdata) {
			return false
		}
		switch code {
		case optCookie:
			// RFC 7873 section 5.2.2: 8 octets, or with the server's 16 to 40.
			if n != clientCookieSize && (n < 16 || n > 40) {
				return false
			}
			if q.cookie == nil {
				q.cookie = rdata[:n]
			}
		case optKeepalive:
			if n != 0 { // RFC 7828 section 3.2.1
				return false
			}
			q.keepalive = true
		case optPadding:
			q.padding = true
		}
		rdata = rdata[n:]
	}
	return true // what follows so many options is not looked at
}

// skipRR returns the offset after a record and that of its type; 0 if it does
// not fit.
func skipRR(wire []byte, off int) (end, fixed int) {
	if fixed = skipName(wire, off); fixed == 0 || fixed+10 > len(wire) {
		return 0, 0
	}
	end = fixed + 10 + int(binary.BigEndian.Uint16(wire[fixed+8:]))
	if end > len(wire) {
		return 0, 0
	}
	return end, fixed
}

// skipName returns the offset after a name, which may end in a pointer; 0 if it
// does not fit.
func skipName(wire []byte, off int) int {
	for size := 0; size < maxName; {
		if off >= len(wire) {
			return 0
		}
		n := int(wire[off])
		switch {
		case n == 0:
			return off + 1
		case n >= 0xc0:
			if off+2 > len(wire) {
				return 0
			}
			return off + 2
		case n > maxLabel:
			return 0
		}
		off += n + 1
		size += n + 1
	}
	return 0
}

// question is the question in the form of the library, its name in lower case.
func (q *query) question() miekg.Question {
	name, _, err := miekg.UnpackDomainName(q.name[:q.nameLen], 0)
	if err != nil {
		name = "." // cannot be: readQuestion has checked it
	}
	return miekg.Question{Name: name, Qtype: q.qtype, Qclass: q.class}
}
