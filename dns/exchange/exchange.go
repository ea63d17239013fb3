// Package exchange carries one question to one name server and decides which
// of the datagrams and messages that come back is the answer.
//
// Each question over UDP goes out on a connected socket of its own, whose port
// the system chooses at random, with a random identifier. A message counts as
// the answer only when identifier, QR bit and question are those of the query
// (RFC 5452 section 9.1); whatever else arrives is dropped and waiting goes on.
// When too many wrong datagrams arrive, somebody is guessing, and the caller is
// told to ask over TCP (section 9.3). What an answer says is not judged here.
package exchange

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/internal/clock"
)

const (
	// Size is the size of datagrams that we announce: it fits everywhere
	// without fragments, which can be forged.
	Size = 1232
	// MaxForged is how many wrong datagrams one query tolerates.
	MaxForged = 64
	// maxDatagram is the room for an answer over UDP. Servers may exceed what
	// we announced; what does not fit is asked for over TCP.
	maxDatagram = 4096
	headerLen   = 12
	// Bits of the header's third octet (RFC 1035 section 4.1.1).
	qr, opcode, tc = 0x80, 0x78, 0x02
)

// The ways in which an exchange fails, beside the errors of the socket. All but
// ErrTimeout and ErrClosed say that something did arrive.
var (
	ErrTimeout   = errors.New("it did not answer in time")
	ErrNoEDNS    = errors.New("it does not know EDNS")
	ErrTruncated = errors.New("its answer over UDP is not complete")
	ErrForged    = errors.New("too many datagrams that answer another question")
	ErrCase      = errors.New("its answer spells the name in another case")
	ErrHeader    = errors.New("it answered with an error")
	ErrMalformed = errors.New("its answer is malformed")
	ErrClosed    = errors.New("it closed the connection before it had answered")
	// ErrStray is what Query.Accept returns for a message that is not the
	// answer; waiting goes on.
	ErrStray = errors.New("it is not an answer to the query")
)

// Query is one question of class IN as it is sent, with what an answer to it
// must match.
type Query struct {
	ID   uint16
	Name string // with the case in which it is sent
	Type uint16
	EDNS bool // the query has an OPT record
	// Exact makes an answer that spells the name in another case give ErrCase
	// (the 0x20 bits of a name make an answer harder to guess).
	Exact bool
	// Accept, unless nil, has the last word on an answer that matches: ErrStray
	// drops it, another error ends the exchange.
	Accept func(*miekg.Msg) error
	Wire   []byte
}

// Pack makes the query with a random identifier; edit, unless nil, adds what
// is wanted beside the question.
func Pack(random io.Reader, name string, typ uint16, edit func(*miekg.Msg)) (*Query, error) {
	var b [2]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return nil, fmt.Errorf("random numbers: %w", err)
	}
	m := &miekg.Msg{Question: []miekg.Question{{Name: name, Qtype: typ, Qclass: miekg.ClassINET}}}
	m.Id = binary.BigEndian.Uint16(b[:])
	if edit != nil {
		edit(m)
	}
	wire, err := m.Pack()
	if err != nil {
		return nil, err
	}
	return &Query{ID: m.Id, Name: name, Type: typ, EDNS: m.IsEdns0() != nil, Wire: wire}, nil
}

// Reply is an answer that was accepted.
type Reply struct {
	*miekg.Msg
	Server  string
	Network string // "udp" or "tcp"
	Wire    []byte
	Took    time.Duration
}

// verdict is what a message is to a query.
type verdict int

const (
	stray     verdict = iota // not an answer to it: drop it
	noEDNS                   // the server did not understand EDNS
	failure                  // an error without a question: nothing is known of the name
	otherCase                // the answer, or a guess at it
	answer                   // the answer
)

// judge decides by the header and the question section alone (RFC 5452
// section 9.1). A header without a question can only say that the server
// failed; nothing about the name is ever taken from it.
func (q *Query) judge(b []byte) verdict {
	if len(b) < headerLen || binary.BigEndian.Uint16(b) != q.ID {
		return stray
	}
	if b[2]&qr == 0 || b[2]&opcode != 0 {
		return stray
	}
	rcode := int(b[3] & 15)
	confused := q.EDNS && (rcode == miekg.RcodeFormatError || rcode == miekg.RcodeNotImplemented)
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
	if err != nil || len(b)-off < 4 || miekg.CanonicalName(name) != miekg.CanonicalName(q.Name) {
		return stray
	}
	if binary.BigEndian.Uint16(b[off:]) != q.Type || binary.BigEndian.Uint16(b[off+2:]) != miekg.ClassINET {
		return stray
	}
	if q.Exact && name != q.Name {
		return otherCase
	}
	if confused {
		return noEDNS
	}
	return answer
}

// Parse reads a message and refuses one that ends early, which the library
// takes for one with fewer records.
func Parse(b []byte) (*miekg.Msg, error) {
	m := new(miekg.Msg)
	if err := m.Unpack(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for i, n := range []int{len(m.Question), len(m.Answer), len(m.Ns), len(m.Extra)} {
		if int(binary.BigEndian.Uint16(b[4+2*i:])) != n {
			return nil, fmt.Errorf("%w: it ends early", ErrMalformed)
		}
	}
	return m, nil
}

// accept makes a reply of an answer that judge let through.
func (q *Query) accept(b []byte) (*Reply, error) {
	wire := append([]byte(nil), b...)
	if q.Exact {
		lowerQuestion(b)
	}
	m, err := Parse(b)
	switch {
	case err != nil:
		return nil, err
	case m.Rcode == miekg.RcodeBadVers:
		return nil, ErrNoEDNS
	}
	if q.Accept != nil {
		if err := q.Accept(m); err != nil {
			return nil, err
		}
	}
	if q.Exact {
		q.lowerOwners(m)
	}
	return &Reply{Msg: m, Wire: wire}, nil
}

// lowerQuestion takes our random case out of the question of an answer that
// judge let through, and so out of all names that point there (RFC 1035 section
// 4.1.4).
func lowerQuestion(b []byte) {
	for i := headerLen; i < len(b) && b[i] != 0 && b[i] < 0xc0; i += 1 + int(b[i]) {
		for j := i + 1; j <= i+int(b[i]) && j < len(b); j++ {
			if 'A' <= b[j] && b[j] <= 'Z' {
				b[j] += 'a' - 'A'
			}
		}
	}
}

// lowerOwners takes it out of owners that a server spelled as we had the name or
// its end, without pointing.
func (q *Query) lowerOwners(m *miekg.Msg) {
	name := miekg.CanonicalName(q.Name)
	for _, section := range [][]miekg.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			owner := rr.Header().Name
			if i := len(name) - len(owner); i >= 0 && strings.EqualFold(owner, name[i:]) {
				rr.Header().Name = name[i:]
			}
		}
	}
}

// UDP sends the query and reads until the answer comes or the socket is
// closed.
func (q *Query) UDP(conn net.Conn) (*Reply, error) {
	if _, err := conn.Write(q.Wire); err != nil {
		return nil, err
	}
	buf := make([]byte, maxDatagram)
	for range MaxForged {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		switch b := buf[:n]; q.judge(b) {
		case stray:
		case noEDNS:
			return nil, ErrNoEDNS
		case failure:
			return nil, fmt.Errorf("%w: %s", ErrHeader, RcodeText(int(b[3]&15)))
		case otherCase:
			return nil, ErrCase
		case answer:
			if b[2]&tc != 0 || n == len(buf) {
				return nil, ErrTruncated
			}
			r, err := q.accept(b)
			switch {
			case errors.Is(err, ErrStray):
			case errors.Is(err, ErrMalformed):
				return nil, fmt.Errorf("%w: %w", ErrTruncated, err)
			default:
				return r, err
			}
		}
	}
	return nil, ErrForged
}

// TCP sends the query and reads one answer (RFC 1035 section 4.2.2).
func (q *Query) TCP(conn net.Conn) (*Reply, error) {
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(q.Wire)), uint16(len(q.Wire)))
	if _, err := conn.Write(append(framed, q.Wire...)); err != nil { // one segment: RFC 7766 section 8
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
		return nil, ErrClosed
	case err != nil:
		return nil, err
	}
	switch q.judge(b) {
	case noEDNS:
		return nil, ErrNoEDNS
	case failure:
		return nil, fmt.Errorf("%w: %s", ErrHeader, RcodeText(int(b[3]&15)))
	case otherCase:
		return nil, ErrCase
	case answer:
		if b[2]&tc != 0 {
			return nil, ErrMalformed
		}
		r, err := q.accept(b)
		if errors.Is(err, ErrStray) {
			err = ErrMalformed // nothing else will come
		}
		return r, err
	}
	return nil, ErrMalformed
}

// Transport opens the sockets.
type Transport struct {
	Dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	Clock clock.Clock
}

// Do sends one query over a fresh socket and waits for its answer, at most as
// long as patience. Network is "udp" or "tcp".
func (t Transport) Do(ctx context.Context, network, server string, q *Query, patience time.Duration) (*Reply, error) {
	started := t.Clock.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := t.Clock.AfterFunc(patience, func() { cancel(ErrTimeout) })
	defer timer.Stop()

	conn, err := t.Dial(ctx, network, server)
	if err != nil {
		return nil, cause(ctx, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	over := q.UDP
	if network == "tcp" {
		over = q.TCP
	}
	r, err := over(conn)
	if err != nil {
		return nil, cause(ctx, err)
	}
	r.Server, r.Network, r.Took = server, network, t.Clock.Now().Sub(started)
	return r, nil
}

// cause tells a timeout from the error of the socket that it closed.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// RcodeText is the name of an rcode.
func RcodeText(rcode int) string {
	if s, ok := miekg.RcodeToString[rcode]; ok {
		return s
	}
	return fmt.Sprintf("RCODE%d", rcode)
}
