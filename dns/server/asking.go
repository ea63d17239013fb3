package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/internal/clock"
)

const (
	// askTime is how long another server may take to answer one datagram, and
	// to send one message of a transfer.
	askTime      = 4 * time.Second
	transferIdle = 30 * time.Second
	// transferTime bounds a transfer as a whole.
	transferTime = time.Hour
	// askTries is how often a datagram is sent.
	askTries = 3
)

// withTimeout is context.WithTimeout by the clock.
func withTimeout(ctx context.Context, c clock.Clock, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	t := c.AfterFunc(d, func() { cancel(errTimeout) })
	return ctx, func() {
		t.Stop()
		cancel(nil)
	}
}

var errTimeout = errors.New("no answer in time")

// ended prefers why the context ended to what the connection says of it.
func ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// pack makes the octets of a request, and the signature that its reply is
// checked by; nil without a key.
func (s *Server) pack(m *miekg.Msg, key *Key) ([]byte, *signature, error) {
	var id [2]byte
	if _, err := io.ReadFull(s.rand, id[:]); err != nil {
		return nil, nil, err
	}
	m.Id = binary.BigEndian.Uint16(id[:])
	wire, err := m.Pack()
	if err != nil || key == nil {
		return wire, nil, err
	}
	sig := &signature{key: key}
	return sig.sign(wire, s.clock.Now(), 0), &signature{key: key, mac: sig.mac}, nil
}

// open reads a reply: signed as it must be, to this request.
func (s *Server) unpack(wire []byte, id uint16, sig *signature) (*miekg.Msg, error) {
	if len(wire) < headerSize || binary.BigEndian.Uint16(wire) != id || wire[2]&(flagQR>>8) == 0 {
		return nil, errors.New("the reply is to another request")
	}
	if sig != nil {
		var err error
		if wire, err = sig.checkReply(wire, s.clock.Now()); err != nil {
			return nil, err
		}
	}
	m := new(miekg.Msg)
	if err := m.Unpack(wire); err != nil {
		return nil, fmt.Errorf("the reply is malformed: %w", err)
	}
	return m, nil
}

// ask sends a request over UDP, a few times if need be, and returns the reply.
// An answer that is cut short is asked for again over TCP.
func (s *Server) ask(ctx context.Context, addr string, m *miekg.Msg, key *Key) (*miekg.Msg, error) {
	for try := 0; ; try++ {
		reply, err := s.askOnce(ctx, "udp", addr, m, key)
		if err == nil && reply.Truncated {
			return s.askOnce(ctx, "tcp", addr, m, key)
		}
		if err == nil || !errors.Is(err, errTimeout) || try == askTries-1 {
			return reply, err
		}
	}
}

func (s *Server) askOnce(ctx context.Context, network, addr string, m *miekg.Msg, key *Key) (*miekg.Msg, error) {
	wire, sig, err := s.pack(m, key)
	if err != nil {
		return nil, err
	}
	asking := s.asking(network, addr, m, wire)
	wire, err = s.exchange(ctx, network, addr, wire)
	if err != nil {
		asking.said(nil, err)
		return nil, err
	}
	reply, err := s.unpack(wire, m.Id, sig)
	asking.said(wire, err)
	return reply, err
}

// exchange sends a request and returns the octets of the reply.
func (s *Server) exchange(ctx context.Context, network, addr string, wire []byte) ([]byte, error) {
	ctx, cancel := withTimeout(ctx, s.clock, askTime)
	defer cancel()
	conn, err := s.dial(ctx, network, addr)
	if err != nil {
		return nil, ended(ctx, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if network == "tcp" {
		reply, err := exchangeStream(conn, wire)
		if err != nil {
			return nil, ended(ctx, err)
		}
		return reply, nil
	}
	if _, err := conn.Write(wire); err != nil {
		return nil, ended(ctx, err)
	}
	buf := make([]byte, largestUDP)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, ended(ctx, err)
		}
		if n < headerSize || binary.BigEndian.Uint16(buf) != binary.BigEndian.Uint16(wire) {
			continue // an answer to an earlier try, or a guess
		}
		return buf[:n], nil
	}
}

// exchangeStream sends a message and reads the next.
func exchangeStream(c net.Conn, wire []byte) ([]byte, error) {
	if err := writeMessage(c, wire); err != nil {
		return nil, err
	}
	return readMessage(c)
}

func writeMessage(c net.Conn, wire []byte) error {
	_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...))
	return err
}

func readMessage(c io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(head[:]))
	_, err := io.ReadFull(c, msg)
	return msg, err
}
