package pop3

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"postrider/internal/clock"
	"postrider/internal/wire"
)

// Why a session ended before QUIT.
var (
	errIdle     = errors.New("no command for too long")
	errCrowded  = errors.New("no login while connections were scarce")
	errDraining = errors.New("server is shutting down")

	errTopEnds = errors.New("top of the message ends here")
)

// input is the source of the line reader. Before it waits for the client it
// sends what is pending, so that replies to a batch of commands leave
// together (RFC 2449 section 6.6), and none is held back by half a line.
type input struct {
	conn     *wire.Conn
	out      *output
	clock    clock.Clock
	crowded  func() bool
	draining <-chan struct{}
	opened   time.Time // when the connection came; zero after login
	deadline time.Time // of the line that is being read
}

// nextLine begins the time for one line.
func (in *input) nextLine() { in.deadline = in.clock.Now().Add(idleTimeout) }

func (in *input) Read(p []byte) (int, error) {
	if err := in.out.flush(); err != nil {
		return 0, err
	}
	for {
		if err := in.arm(); err != nil {
			return 0, err
		}
		n, err := in.conn.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

// arm sets the deadline of one read, or tells why there shall be none. Before
// login it wakes every minute, to see whether connections became scarce.
func (in *input) arm() error {
	select {
	case <-in.draining:
		return errDraining
	default:
	}
	now := in.clock.Now()
	patience := in.deadline.Sub(now)
	if patience <= 0 {
		return errIdle
	}
	if !in.opened.IsZero() {
		left, ok := wire.StrangerPatience(now.Sub(in.opened), crowdedLogin, in.crowded)
		if !ok {
			return errCrowded
		}
		patience = min(patience, left)
	}
	return in.conn.Idle(patience)
}

// output collects replies. It holds a buffer only while something is pending.
// Its first error is final.
type output struct {
	srv  *Server
	conn *wire.Conn
	buf  *[]byte // from srv.buffers; nil when nothing is pending
	n    int     // octets pending
	err  error
	said *session // gets the lines, while someone listens; nil = nobody
}

func (o *output) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 && o.err == nil {
		if o.buf == nil {
			o.buf = o.srv.buffers.Get().(*[]byte)
		}
		n := copy((*o.buf)[o.n:], p)
		o.n += n
		p = p[n:]
		if o.n == len(*o.buf) {
			o.send()
		}
	}
	return total - len(p), o.err
}

// send writes what is pending to the connection and keeps the buffer.
func (o *output) send() {
	if o.err != nil || o.n == 0 {
		return
	}
	patience := sendTimeout
	if o.srv.crowded() {
		patience = crowdedSend
	}
	if o.err = o.conn.SetWriteDeadline(o.srv.clock.Now().Add(patience)); o.err == nil {
		_, o.err = o.conn.Write((*o.buf)[:o.n])
	}
	o.n = 0
}

// flush sends what is pending and gives the buffer back.
func (o *output) flush() error {
	o.send()
	if o.buf != nil {
		o.srv.buffers.Put(o.buf)
		o.buf = nil
	}
	return o.err
}

// line writes one line.
func (o *output) line(parts ...string) {
	if o.said != nil && o.said.listened() {
		o.said.recordReply([]byte(strings.Join(parts, "")))
	}
	for _, p := range parts {
		io.WriteString(o, p)
	}
	io.WriteString(o, "\r\n")
}

// pair writes "n value" and what follows, as in a listing.
func (o *output) pair(prefix string, n int, value int64) {
	b := make([]byte, 0, 64)
	b = append(b, prefix...)
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, value, 10)
	b = append(b, '\r', '\n')
	if o.said != nil && o.said.listened() {
		o.said.recordReply(b)
	}
	o.Write(b)
}

// uid writes "n validity.uid": at most 33 octets.
func (o *output) uid(prefix string, n int, validity, uid uint32) {
	b := make([]byte, 0, 64)
	b = append(b, prefix...)
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(validity), 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, uint64(uid), 10)
	b = append(b, '\r', '\n')
	if o.said != nil && o.said.listened() {
		o.said.recordReply(b)
	}
	o.Write(b)
}

// stuffer writes a message as the lines of a multi-line reply: a dot at the
// beginning of a line is doubled (RFC 1939 section 3). A stored message may
// have bare LFs, which many clients take for a line end: a dot after one is
// doubled too, so that no message can end its reply early.
type stuffer struct {
	out   *output
	begun bool
	last  [2]byte // the last octets written
}

func (d *stuffer) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, d.out.err
	}
	if p[0] == '.' && (!d.begun || d.last[1] == '\n') {
		d.out.Write(dot)
	}
	d.begun = true
	rest := p
	for {
		i := bytes.Index(rest, lineDot)
		if i < 0 {
			break
		}
		d.out.Write(rest[:i+2])
		d.out.Write(dot)
		rest = rest[i+2:]
	}
	d.out.Write(rest)
	if len(p) == 1 {
		d.last[0], d.last[1] = d.last[1], p[0]
	} else {
		d.last = [2]byte(p[len(p)-2:])
	}
	return len(p), d.out.err
}

var (
	dot     = []byte(".")
	lineDot = []byte("\n.")
)

// end closes the last line, where the message did not, and the reply.
func (d *stuffer) end() {
	if d.begun && d.last != [2]byte{'\r', '\n'} {
		io.WriteString(d.out, "\r\n")
	}
	d.out.line(".")
}

// top passes on the header of a message, the empty line after it and the first
// lines of the body (RFC 1939 section 7). Its Write returns errTopEnds
// when that is all.
type top struct {
	to    io.Writer
	lines int64 // of the body still to send
	body  bool  // the empty line was seen
	text  bool  // the current line has an octet other than CR
}

func (t *top) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) && (!t.body || t.lines > 0) {
		i := bytes.IndexByte(p[n:], '\n')
		if i < 0 {
			t.text = t.text || len(bytes.Trim(p[n:], "\r")) > 0
			n = len(p)
			break
		}
		t.text = t.text || len(bytes.Trim(p[n:n+i], "\r")) > 0
		n += i + 1
		switch {
		case t.body:
			t.lines--
		case !t.text:
			t.body = true
		}
		t.text = false
	}
	if _, err := t.to.Write(p[:n]); err != nil {
		return n, err
	}
	if t.body && t.lines == 0 {
		return n, errTopEnds
	}
	return n, nil
}
