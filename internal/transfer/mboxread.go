package transfer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"postrider/mailstore"
)

// mboxReader finds the messages of an mbox file.
type mboxReader struct {
	r       io.ReaderAt
	size    int64
	dialect Dialect // "" until it is found out
	br      *bufio.Reader
	at      int64 // offset of br
	started bool
}

// mboxMessage is one message as it lies in the file.
type mboxMessage struct {
	number   int
	start    int64 // of the From_ line
	next     int64 // of what follows
	internal time.Time
	flags    mailstore.Flags
	dropped  int
	hidden   bool // Thunderbird's deleted messages, UW-IMAP's internal data

	// The message is from..cut and resume..end.
	from, cut, resume, end int64
	exact, unended         bool
	dialect                Dialect
}

func isEmptyLine(b []byte) bool { return string(b) == "\n" || string(b) == "\r\n" }

// errNotMbox: the file does not begin with a From_ line.
var errNotMbox = errors.New("not an mbox file: it does not begin with \"From \"")

func newMboxReader(r io.ReaderAt, size int64, d Dialect) *mboxReader {
	m := &mboxReader{r: r, size: size, dialect: d}
	m.seek(0)
	return m
}

func (m *mboxReader) seek(at int64) {
	m.at = at
	s := io.NewSectionReader(m.r, at, m.size-at)
	if m.br == nil {
		m.br = bufio.NewReaderSize(s, 64<<10)
		return
	}
	m.br.Reset(s)
}

// line reads a line, or as much of it as fits; whole tells which. At the end it
// is empty.
func (m *mboxReader) line() (b []byte, whole bool, err error) {
	b, err = m.br.ReadSlice('\n')
	m.at += int64(len(b))
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return b, false, nil
	case err != nil && !errors.Is(err, io.EOF):
		return nil, false, err
	}
	return b, true, nil
}

// endLine reads past what is left of a line.
func (m *mboxReader) endLine(whole bool) error {
	for !whole {
		var err error
		if _, whole, err = m.line(); err != nil {
			return err
		}
	}
	return nil
}

// next finds the next message; io.EOF after the last.
func (m *mboxReader) next() (*mboxMessage, error) {
	if m.at >= m.size {
		return nil, io.EOF
	}
	msg := &mboxMessage{start: m.at}
	first, whole, err := m.line()
	for err == nil && whole && isEmptyLine(first) { // lines too many
		msg.start = m.at
		first, whole, err = m.line()
	}
	switch {
	case err != nil:
		return nil, err
	case len(first) == 0:
		return nil, io.EOF
	case !bytes.HasPrefix(first, []byte(fromPrefix)):
		return nil, errNotMbox
	}
	msg.internal, _ = fromTime(bytes.TrimRight(first, "\r\n"))
	if err := m.endLine(whole); err != nil {
		return nil, err
	}
	if err := m.message(msg); err != nil {
		return nil, err
	}
	return msg, nil
}

// message reads what follows a From_ line.
func (m *mboxReader) message(msg *mboxMessage) error {
	msg.from = m.at
	h, err := m.header()
	if err != nil {
		return err
	}
	if !m.started {
		m.started = true
		if err := m.detect(h); err != nil {
			return err
		}
	}
	bySize := false
	if h.fields.length >= 0 && m.dialect.sized() && !h.ended {
		bySize, err = m.jump(msg, h.end+h.fields.length)
		if err != nil {
			return err
		}
	}
	if !bySize {
		if err := m.scan(msg, h); err != nil {
			return err
		}
	}
	msg.dialect = m.dialect
	m.apply(msg, h, bySize)
	return nil
}

// apply takes what the header says into the message.
func (m *mboxReader) apply(msg *mboxMessage, h *mboxHeader, bySize bool) {
	f := &h.fields
	msg.cut, msg.resume = h.fieldsEnd, h.fieldsEnd
	switch {
	case f.ours() || bySize && len(f.names) > 0:
		msg.cut = f.start
		msg.flags, msg.dropped = f.flags, f.dropped
		msg.exact, msg.unended = f.exact, f.unended
	case h.mozilla.end > 0:
		msg.from = h.mozilla.end
		msg.flags, msg.dropped = h.mozilla.flags, h.mozilla.dropped
		msg.hidden = h.mozilla.expunge
	}
	msg.hidden = msg.hidden || h.internal && h.imap
	msg.end = max(msg.end, msg.resume)
}

// mboxHeader is what a header tells of the mbox.
type mboxHeader struct {
	fields    fields
	mozilla   mozilla
	fieldsEnd int64 // offset behind the last field
	end       int64 // offset behind the empty line
	ended     bool  // the file ended before an empty line
	imap      bool  // has a field X-IMAP
	internal  bool  // the subject of UW-IMAP's internal data
}

// header reads a header and the empty line behind it.
func (m *mboxReader) header() (*mboxHeader, error) {
	h := &mboxHeader{}
	h.fields.reset()
	for {
		at := m.at
		b, whole, err := m.line()
		if err != nil {
			return nil, err
		}
		if len(b) == 0 {
			h.fieldsEnd, h.end, h.ended = at, at, true
			return h, nil
		}
		if whole && isEmptyLine(b) {
			h.fieldsEnd, h.end = at, m.at
			return h, nil
		}
		if !whole {
			h.fields.reset()
			h.mozilla.closed = true
			if err := m.endLine(false); err != nil {
				return nil, err
			}
			continue
		}
		h.fields.add(b, at)
		h.mozilla.add(b, m.at)
		h.imap = h.imap || bytes.HasPrefix(b, []byte("X-IMAP:"))
		h.internal = h.internal || bytes.HasPrefix(b, []byte("Subject: DON'T DELETE THIS MESSAGE"))
	}
}

// jump ends the message at an offset, if the next one or the end of the file is
// there; false leaves all as it was.
func (m *mboxReader) jump(msg *mboxMessage, end int64) (bool, error) {
	if end < m.at || end > m.size {
		return false, nil
	}
	b := make([]byte, min(m.size-end, int64(2+len(fromPrefix))))
	if _, err := m.r.ReadAt(b, end); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	rest := bytes.TrimPrefix(bytes.TrimPrefix(b, []byte("\r")), []byte("\n"))
	if len(rest) > 0 && !bytes.HasPrefix(rest, []byte(fromPrefix)) {
		return false, nil
	}
	msg.end = end
	msg.next = end + int64(len(b)-len(rest))
	m.seek(msg.next)
	return true, nil
}

// scan looks for the next From_ line that follows an empty line.
func (m *mboxReader) scan(msg *mboxMessage, h *mboxHeader) error {
	msg.end, msg.next = m.at, m.at
	if h.ended {
		return nil
	}
	// The empty line may be the header's, or what ends a message without a body.
	blank := h.fieldsEnd
	for {
		at := m.at
		b, err := m.br.Peek(maxFromLine)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(b) == 0 {
			break
		}
		if blank >= 0 && bytes.HasPrefix(b, []byte(fromPrefix)) {
			line, _, _ := bytes.Cut(b, []byte("\n"))
			if _, ok := fromTime(bytes.TrimRight(line, "\r")); ok {
				msg.end, msg.next = blank, at
				return nil
			}
		}
		b, whole, err := m.line()
		if err != nil {
			return err
		}
		blank = -1
		if whole && isEmptyLine(b) {
			blank = at
		}
		if err := m.endLine(whole); err != nil {
			return err
		}
	}
	msg.end, msg.next = m.at, m.at
	if blank >= 0 {
		msg.end = blank
	}
	return nil
}

// detect finds the dialect by the first message: it says it itself, or has a
// Content-Length that is right; all others are read as mboxrd.
func (m *mboxReader) detect(h *mboxHeader) error {
	if m.dialect != "" {
		return nil
	}
	m.dialect = MboxRD
	if h.fields.dialect != "" {
		m.dialect = h.fields.dialect
		return nil
	}
	if h.fields.length < 0 || h.ended {
		return nil
	}
	back := m.at
	right, err := m.jump(&mboxMessage{}, h.end+h.fields.length)
	m.seek(back)
	if err != nil || !right {
		return err
	}
	quoted, err := m.quotes()
	if quoted {
		m.dialect = MboxCL
	} else {
		m.dialect = MboxCL2
	}
	return err
}

// quotes looks through the whole file for whoever wrote it: whether all lines
// of text that begin with "From " are quoted.
func (m *mboxReader) quotes() (bool, error) {
	look := newMboxReader(m.r, m.size, MboxCL2)
	for {
		msg, err := look.next()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		lines := newMboxReader(io.NewSectionReader(m.r, msg.from, msg.end-msg.from), msg.end-msg.from, MboxRD)
		for {
			b, whole, err := lines.line()
			if err != nil {
				return false, err
			}
			if len(b) == 0 {
				break
			}
			if bytes.HasPrefix(b, []byte(fromPrefix)) {
				return false, nil
			}
			if err := lines.endLine(whole); err != nil {
				return false, err
			}
		}
	}
}

// open reads the message as the store will have it.
func (msg *mboxMessage) open(r io.ReaderAt) io.Reader {
	cut, end := msg.cut, msg.end
	if msg.unended { // the newline that ends the last line is the writer's
		if msg.resume == end {
			cut = max(cut-1, msg.from)
		} else {
			end--
		}
	}
	ends := toCRLF
	if msg.exact {
		ends = keepEnds
	}
	return newConverter(io.MultiReader(
		io.NewSectionReader(r, msg.from, cut-msg.from),
		io.NewSectionReader(r, msg.resume, end-msg.resume),
	), end-msg.from, ends, msg.dialect.unquote())
}

func (msg *mboxMessage) String() string {
	return fmt.Sprintf("message %d at octet %d", msg.number, msg.start)
}
