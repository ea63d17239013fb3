package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	miekg "github.com/miekg/dns"
)

const (
	// ednsSize is the size of datagrams that we announce: it fits everywhere
	// without fragments, which can be forged.
	ednsSize = 1232
	// maxDatagram is the room for an answer over UDP. Servers may exceed what
	// we announced; what does not fit is asked for over TCP.
	maxDatagram = 4096
	// maxForged is how many wrong datagrams one query tolerates.
	maxForged = 64
	headerLen = 12
	// Bits of the header's third octet (RFC 1035 section 4.1.1).
	qr, opcode, tc = 0x80, 0x78, 0x02
)

// question is one question of class IN.
type question struct {
	name string // normalised
	typ  Type
}

// expectation is what an answer must match.
type expectation struct {
	id   uint16
	q    question
	edns bool // the query had an OPT record
}

// verdict is what a datagram is to a query.
type verdict int

const (
	stray   verdict = iota // not an answer to it: drop it
	noEDNS                 // the server did not understand EDNS
	failure                // an error without a question: nothing is known of the name
	answer                 // the answer
)

// judge decides by the header and the question section alone (RFC 5452
// section 9.1). A header without a question can only say that the server
// failed; nothing about the name is ever taken from it.
func (e expectation) judge(b []byte) verdict {
	if len(b) < headerLen || binary.BigEndian.Uint16(b) != e.id {
		return stray
	}
	if b[2]&qr == 0 || b[2]&opcode != 0 {
		return stray
	}
	rcode := int(b[3] & 15)
	confused := e.edns && (rcode == miekg.RcodeFormatError || rcode == miekg.RcodeNotImplemented)
	switch binary.BigEndian.Uint16(b[4:]) {
	case 0:
		switch {
		case confused:
			return noEDNS
		case rcode != miekg.RcodeSuccess && rcode != miekg.RcodeNameError:
			return failure
		}
		return stray
	case 1:
	default:
		return stray
	}
	name, off, err := miekg.UnpackDomainName(b, headerLen)
	if err != nil || len(b)-off < 4 || miekg.CanonicalName(name) != e.q.name {
		return stray
	}
	if binary.BigEndian.Uint16(b[off:]) != uint16(e.q.typ) || binary.BigEndian.Uint16(b[off+2:]) != miekg.ClassINET {
		return stray
	}
	if confused {
		return noEDNS
	}
	return answer
}

var (
	errMalformed = errors.New("its answer is malformed")
	errClosed    = errors.New("it closed the connection before it had answered")
)

// parse reads an answer that judge accepted.
func parse(b []byte) (*message, error) {
	m := new(miekg.Msg)
	if err := m.Unpack(b); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	// The library takes a message that ends early for one with fewer records.
	for i, n := range []int{len(m.Question), len(m.Answer), len(m.Ns), len(m.Extra)} {
		if int(binary.BigEndian.Uint16(b[4+2*i:])) != n {
			return nil, fmt.Errorf("%w: it ends early", errMalformed)
		}
	}
	if m.Rcode == miekg.RcodeBadVers {
		return nil, errNoEDNS
	}
	return &message{Msg: m, size: len(b)}, nil
}

// overUDP sends the query and reads until the answer comes or the socket is
// closed.
func overUDP(conn net.Conn, query []byte, want expectation) (*message, error) {
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, maxDatagram)
	for range maxForged {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		switch b := buf[:n]; want.judge(b) {
		case stray:
		case noEDNS:
			return nil, errNoEDNS
		case failure:
			return nil, fmt.Errorf("%w: %s", errHeader, rcodeText(int(b[3]&15)))
		case answer:
			if b[2]&tc != 0 || n == len(buf) {
				return nil, errTruncated
			}
			m, err := parse(b)
			if errors.Is(err, errMalformed) {
				return nil, fmt.Errorf("%w: %w", errTruncated, err)
			}
			return m, err
		}
	}
	return nil, errForged
}

// overTCP sends the query and reads one answer (RFC 1035 section 4.2.2).
func overTCP(conn net.Conn, query []byte, want expectation) (*message, error) {
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(query)), uint16(len(query)))
	if _, err := conn.Write(append(framed, query...)); err != nil { // one segment: RFC 7766 section 8
		return nil, err
	}
	var length [2]byte
	_, err := io.ReadFull(conn, length[:])
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	if err == nil {
		_, err = io.ReadFull(conn, b)
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errClosed
	case err != nil:
		return nil, err
	}
	switch want.judge(b) {
	case noEDNS:
		return nil, errNoEDNS
	case failure:
		return nil, fmt.Errorf("%w: %s", errHeader, rcodeText(int(b[3]&15)))
	case answer:
		if b[2]&tc != 0 {
			return nil, errMalformed
		}
		return parse(b)
	}
	return nil, errMalformed
}

func rcodeText(rcode int) string {
	if s, ok := miekg.RcodeToString[rcode]; ok {
		return s
	}
	return fmt.Sprintf("RCODE%d", rcode)
}
