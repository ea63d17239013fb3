package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"postrider/internal/wire"
)

const (
	// idleTime is how long a connection without a query in hand may stay
	// (RFC 7766 section 6.2.3).
	idleTime = 10 * time.Second
	// messageTime is how long a message may take from its first octet on.
	messageTime = 5 * time.Second
	// writeTime is how long a client may take to read an answer.
	writeTime = 10 * time.Second
	// maxPipelined bounds the queries of one connection that are in hand at
	// once; the next is read when one is done.
	maxPipelined = 32
	// readAhead is the buffer of a connection.
	readAhead = 1024
	// coalesced is how many octets of answers wait for those that come next.
	coalesced = 16 << 10
)

// Protocol serves TCP, and TLS with a configuration (RFC 7766, RFC 7858). The
// limits of connections are the wire.Server's.
func (s *Server) Protocol(name string, config *tls.Config) wire.Protocol {
	transport := TCP
	if config != nil {
		transport = TLS
		config = config.Clone()
		config.NextProtos = []string{"dot"}
	}
	return wire.Protocol{Name: name, TLS: config, Serve: func(ctx context.Context, conn *wire.Conn, draining <-chan struct{}) {
		st := &stream{s: s, conn: conn, slots: make(chan struct{}, maxPipelined), in: bufio.NewReaderSize(nil, readAhead)}
		st.client = client{addr: unmapped(conn.Remote), transport: transport}
		st.in.Reset(conn)
		st.serve(ctx, draining)
	}}
}

// stream is a connection. Answers go out as they are ready, in any order.
type stream struct {
	s      *Server
	conn   *wire.Conn
	client client
	in     *bufio.Reader
	slots  chan struct{} // one for each query in hand
	wg     sync.WaitGroup

	mu   sync.Mutex // of writing
	dead bool
}

func (st *stream) serve(ctx context.Context, draining <-chan struct{}) {
	defer st.wg.Wait()
	var w worker
	var out []byte
	for {
		msg, err := st.read(draining)
		if err != nil {
			return
		}
		w.now, w.listened = st.s.clock.Now(), st.s.listened()
		start := len(out)
		out = append(out, 0, 0)
		reply, pending := st.s.take(out, &w, &st.client, msg)
		switch {
		case pending:
			out = out[:start]
			if !st.begin(ctx, msg) {
				return
			}
		case reply == nil: // no query: whoever speaks so is not worth a connection
			return
		default:
			out = reply
			binary.BigEndian.PutUint16(out[start:], uint16(len(out)-start-2))
		}
		if len(out) > 0 && (!st.more() || len(out) >= coalesced) {
			if st.write(out) != nil {
				return
			}
			if out = out[:0]; cap(out) > coalesced || st.in.Buffered() == 0 {
				out = nil // an idle connection holds no buffer
			}
		}
	}
}

// more tells whether a whole message waits in the buffer.
func (st *stream) more() bool {
	n := st.in.Buffered()
	if n < 2 {
		return false
	}
	head, err := st.in.Peek(2)
	return err == nil && n >= 2+int(binary.BigEndian.Uint16(head))
}

// read reads the next message. The wait for it may be long while answers are in
// hand; from its first octet on it has one deadline.
func (st *stream) read(draining <-chan struct{}) ([]byte, error) {
	for {
		if st.in.Buffered() > 0 {
			break
		}
		if err := st.conn.Idle(idleTime); err != nil {
			return nil, err
		}
		_, err := st.in.Peek(1)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || len(st.slots) == 0 {
			return nil, err
		}
		select {
		case <-draining:
			return nil, err
		default:
		}
	}
	if err := st.conn.Busy(messageTime); err != nil {
		return nil, err
	}
	var head [2]byte
	if _, err := io.ReadFull(st.in, head[:]); err != nil {
		return nil, err
	}
	// Octets that have not come take no memory: a length alone is cheap to send.
	n := int(binary.BigEndian.Uint16(head[:]))
	msg := make([]byte, 0, min(n, readAhead))
	for len(msg) < n {
		part := min(n-len(msg), readAhead)
		msg = append(msg, make([]byte, part)...)
		if _, err := io.ReadFull(st.in, msg[len(msg)-part:]); err != nil {
			return nil, err
		}
	}
	return msg, nil
}

// begin leaves a message to a goroutine, when fewer than maxPipelined are in
// hand.
func (st *stream) begin(ctx context.Context, msg []byte) bool {
	select {
	case st.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	st.wg.Add(1)
	done := func() {
		<-st.slots
		st.wg.Done()
	}
	if !st.s.begin(&st.client, msg, st.send, done) {
		done()
		return false
	}
	return true
}

// send writes one message.
func (st *stream) send(msg []byte) error {
	out := make([]byte, 2, 2+len(msg))
	binary.BigEndian.PutUint16(out, uint16(len(msg)))
	return st.write(append(out, msg...))
}

var errGone = errors.New("the connection has ended")

func (st *stream) write(out []byte) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.dead {
		return errGone
	}
	err := st.conn.SetWriteDeadline(st.s.clock.Now().Add(writeTime))
	if err == nil {
		_, err = st.conn.Write(out)
	}
	if err != nil { // part of a message may be out: nothing can follow it
		st.dead = true
		st.conn.Close()
	}
	return err
}
