package transfer

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// kind is the first octet of a frame; four octets of length follow, high octet
// first, and then the octets.
type kind byte

const (
	// From the command.
	importKind kind = 'i' // importRequest
	folderKind kind = 'f' // folderRequest
	againKind  kind = 'a' // forget the marks of the folder that is open
	exportKind kind = 'o' // exportRequest
	boxKind    kind = 'b' // openBox, and from the store exportBox
	syncKind   kind = 's' // commit what came, then say ok
	// Either way.
	messageKind kind = 'm' // messageHead: a message begins
	dataKind    kind = 'd' // octets of it
	endKind     kind = 'e' // it is complete
	dropKind    kind = 'x' // forget it
	// From the store.
	okKind     kind = 'k' // the answer to a request
	marksKind  kind = 'n' // marks that the folder has
	doneKind   kind = 'c' // committed
	refuseKind kind = 'r' // refusal: one message that can not be had
	errorKind  kind = '!' // why the connection ends
)

// Limits of the protocol.
const (
	// maxFrame is the most octets of a frame. The largest are data, marks, and
	// the head of a message with all the keywords that it may have.
	maxFrame = 64 << 10
	maxData  = 32 << 10
)

var errFrame = errors.New("a malformed frame")

// frames is a connection as frames. One goroutine reads; any may write.
type frames struct {
	br  *bufio.Reader
	buf []byte

	mu sync.Mutex
	bw *bufio.Writer
}

func newFrames(c io.ReadWriter) *frames {
	return &frames{br: bufio.NewReaderSize(c, 64<<10), bw: bufio.NewWriterSize(c, 64<<10)}
}

// read returns the next frame, whose octets are good until the next read.
func (f *frames) read() (kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(f.br, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("%w: %d octets", errFrame, n)
	}
	if int(n) > cap(f.buf) {
		f.buf = make([]byte, maxFrame)
	}
	b := f.buf[:n]
	if _, err := io.ReadFull(f.br, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return kind(head[0]), b, nil
}

// write adds a frame to what is sent.
func (f *frames) write(k kind, b []byte) error {
	if len(b) > maxFrame {
		return fmt.Errorf("%w: %d octets", errFrame, len(b))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var head [5]byte
	head[0] = byte(k)
	binary.BigEndian.PutUint32(head[1:], uint32(len(b)))
	if _, err := f.bw.Write(head[:]); err != nil {
		return err
	}
	_, err := f.bw.Write(b)
	return err
}

// send writes a value as JSON.
func (f *frames) send(k kind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.write(k, b)
}

func (f *frames) flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bw.Flush()
}

// answer is send, then flush.
func (f *frames) answer(k kind, v any) error {
	if err := f.send(k, v); err != nil {
		return err
	}
	return f.flush()
}

// body sends octets up to the end of r, in frames; at most limit of them.
func (f *frames) body(r io.Reader, buf []byte, limit int64) (int64, error) {
	total := int64(0)
	for {
		n, err := r.Read(buf)
		total += int64(n)
		if limit > 0 && total > limit {
			return total, errTooLarge
		}
		if n > 0 {
			if err := f.write(dataKind, buf[:n]); err != nil {
				return total, connectionError{err}
			}
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// connectionError is one of the connection rather than of what is sent.
type connectionError struct{ error }

func (e connectionError) Unwrap() error { return e.error }

// errTooLarge: a message is larger than the server takes.
var errTooLarge = errors.New("too large")

// importRequest begins an import.
type importRequest struct {
	Account string
	Source  string // its identity
	Mailbox string // "" = each folder its own
	DryRun  bool
}

// importReply is the answer.
type importReply struct {
	MaxSize int64 // octets of one message; 0 = no limit
}

// folderRequest goes on with another folder.
type folderRequest struct {
	Folder, Validity    string
	Mailbox, SpecialUse string
	Subscribe           bool
}

// folderReply follows the folder's marks.
type folderReply struct {
	Mailbox string
	Created bool
}

// messageHead begins a message.
type messageHead struct {
	Mark     Mark
	System   uint8
	Keywords []string `json:",omitempty"`
	Internal int64    // seconds since 1970
	Dated    bool     // Internal says something
	Size     int64    // octets; in an export only
	UID      uint32   // in an export only
}

// committed counts what is on disk now.
type committed struct {
	Messages int
	Octets   int64
}

// refusal is a message that was not taken, or can not be given.
type refusal struct {
	Where  string
	Reason string
}

// exportRequest begins an export; the answer is a box frame for each mailbox,
// then ok.
type exportRequest struct {
	Account string
	Mailbox []string // "" = all
}

// exportBox is a mailbox that is there to be exported.
type exportBox struct {
	ID       int64
	Name     string
	Messages uint32
}

// openBox asks for the messages of a mailbox; ok follows the last.
type openBox struct{ ID int64 }
