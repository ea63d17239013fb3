package imap

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"postrider/internal/wire"
)

// Buffers are held while there is something in them.
const (
	smallBuffer = 8 << 10   // for responses
	largeBuffer = 256 << 10 // for long lists and bodies
	maxBuffer   = 2 * largeBuffer
)

// Why a session ended before LOGOUT. Each has a BYE of its own.
var (
	errIdle     = errors.New("idle too long")
	errDraining = errors.New("server is shutting down")
)

// input is what the command reader reads. Before it waits for the client it
// sends what is pending, so that the answers to a batch of commands leave
// together.
type input struct {
	srv      *Server
	conn     *wire.Conn
	out      *output
	draining <-chan struct{}
	opened   time.Time // when the connection came; zero after login

	// A line has one deadline, a body one for each read.
	deadline time.Time
	begun    bool // the line has
	body     bool // octets of a literal come, which Shutdown waits for

	// onWake, when set, is called after wake was: within a read that waits for a
	// command, or in IDLE.
	onWake func() error
	woken  atomic.Bool
}

// expect begins the time for one command.
func (in *input) expect() {
	patience := idlePatience
	if !in.opened.IsZero() {
		patience = strangerPatience
	}
	in.deadline, in.begun, in.body = in.srv.o.Clock.Now().Add(patience), false, false
}

// wake makes a read that waits, or the next one, call onWake. It does not
// block, and any goroutine may call it.
func (in *input) wake() {
	in.woken.Store(true)
	// The read sets its deadline before it looks at woken.
	_ = in.conn.Conn.SetReadDeadline(time.Unix(1, 0))
}

func (in *input) Read(p []byte) (int, error) {
	limit := in.srv.o.Clock.Now().Add(bodyPatience)
	for {
		if err := in.out.flush(); err != nil {
			return 0, err
		}
		in.out.watch()
		if err := in.arm(); err != nil {
			return 0, err
		}
		if in.onWake != nil && !in.begun && !in.body && in.woken.Swap(false) {
			if err := in.onWake(); err != nil {
				return 0, err
			}
			continue
		}
		n, err := in.conn.Read(p)
		if n > 0 && !in.begun {
			in.begun = true
			if limit := in.srv.o.Clock.Now().Add(commandPatience); limit.Before(in.deadline) {
				in.deadline = limit
			}
		}
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if in.body && !in.srv.o.Clock.Now().Before(limit) {
			return 0, errIdle
		}
	}
}

// arm sets the deadline of one read, or tells why there shall be none. Before
// login it wakes every minute, to see whether connections became scarce.
func (in *input) arm() error {
	now := in.srv.o.Clock.Now()
	if in.body {
		return in.conn.Busy(bodyPatience)
	}
	select {
	case <-in.draining:
		return errDraining
	default:
	}
	patience := in.deadline.Sub(now)
	if patience <= 0 {
		return errIdle
	}
	if !in.opened.IsZero() {
		left, ok := wire.StrangerPatience(now.Sub(in.opened), crowdedPatience, in.srv.o.Crowded)
		if !ok {
			return errIdle
		}
		patience = min(patience, left)
	}
	return in.conn.Idle(patience)
}

// output collects responses. Its first error is final. It belongs to the
// goroutine that reads.
type output struct {
	srv  *Server
	conn *wire.Conn
	buf  *[]byte // nil when nothing is pending
	big  bool    // buf is a large one
	err  error
	zip  *deflater // nil without COMPRESS

	responses *responses // are recorded; nil = nobody listens
	recorded  int        // lines since the last command
}

// begin gives the buffer to append to; end takes it back.
func (o *output) begin() []byte {
	if o.buf == nil {
		o.buf, o.big = o.srv.small.Get().(*[]byte), false
	}
	return *o.buf
}

// beginLarge is begin for long responses.
func (o *output) beginLarge() []byte {
	if o.buf != nil && o.big {
		return *o.buf
	}
	old := o.buf
	o.buf, o.big = o.srv.large.Get().(*[]byte), true
	if old != nil {
		*o.buf = append(*o.buf, *old...)
		*old = (*old)[:0]
		o.srv.small.Put(old)
	}
	return *o.buf
}

// end keeps what was appended, and sends it when that is much.
func (o *output) end(b []byte) {
	*o.buf = b
	limit := smallBuffer
	if o.big {
		limit = largeBuffer
	}
	if len(b) >= limit {
		o.send()
	}
}

// keep is end, but sends nothing yet: for who must not wait.
func (o *output) keep(b []byte) { *o.buf = b }

// line appends one line.
func (o *output) line(parts ...string) {
	b := o.begin()
	for _, p := range parts {
		b = append(b, p...)
	}
	o.end(append(b, '\r', '\n'))
}

// Write appends octets.
func (o *output) Write(p []byte) (int, error) {
	o.end(append(o.begin(), p...))
	return len(p), o.err
}

// send writes what is pending and keeps the buffer.
func (o *output) send() {
	if o.buf == nil || len(*o.buf) == 0 {
		return
	}
	b := *o.buf
	*o.buf = b[:0]
	if o.err != nil {
		return
	}
	if o.responses != nil {
		o.recordResponses(b)
	}
	if o.zip != nil {
		o.err = o.zip.write(b)
		return
	}
	o.err = o.raw(b)
}

// raw writes to the connection.
func (o *output) raw(b []byte) error {
	if err := o.conn.SetWriteDeadline(o.srv.o.Clock.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, err := o.conn.Write(b)
	return err
}

// flush sends what is pending and gives the buffer back.
func (o *output) flush() error {
	if o.buf == nil {
		return o.err
	}
	o.send()
	o.release()
	return o.err
}

func (o *output) release() {
	switch {
	case o.buf == nil:
	case cap(*o.buf) > maxBuffer, !o.big && cap(*o.buf) > 2*smallBuffer: // an unusual response made it so
	case o.big:
		o.srv.large.Put(o.buf)
	default:
		o.srv.small.Put(o.buf)
	}
	o.buf = nil
}

// copyFrom sends n octets of r.
func (o *output) copyFrom(r io.Reader, n int64) error {
	for n > 0 && o.err == nil {
		b := o.beginLarge()
		room := cap(b) - len(b)
		if room < 4<<10 {
			o.send()
			continue
		}
		room = int(min(int64(room), n))
		m, err := io.ReadFull(r, b[len(b):len(b)+room])
		o.end(b[:len(b)+m])
		n -= int64(m)
		if err != nil {
			return err
		}
	}
	return o.err
}
