package imap

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/emersion/go-imap/v2"

	"postrider/internal/journey"
	"postrider/internal/wire"
)

// Bounds of what one command adds to the journey.
const (
	maxRecordedLine  = 1000 // octets of a line; the rest is left out
	maxRecordedLines = 200  // of responses to one command
	maxClientName    = 80   // octets of what a client calls itself
)

// record tells the journey what happened in the session.
func (s *session) record(kind journey.Kind, attrs ...journey.Attr) {
	if j := s.srv.o.Journey; j.Wants(kind) {
		j.Record(journey.Event{Kind: kind, Session: s.conn.ID, Peer: s.conn.Peer(), Attrs: attrs})
	}
}

func (s *session) recordBegin() {
	s.record(journey.SessionBegin, journey.Attr{Key: "protocol", Value: "IMAP"})
	s.recordTLS()
	s.out.watch()
}

func (s *session) recordTLS() {
	if s.conn.TLS != nil && s.srv.o.Journey.Wants(journey.SessionTLS) {
		s.record(journey.SessionTLS, journey.Attr{Key: "tls", Value: wire.TLSName(s.conn.TLS)})
	}
}

// recordCommand records a command: without the texts of literals, and of those that
// carry a message without all behind the name of the mailbox.
func (s *session) recordCommand(tag, name string, uid bool, args []byte) {
	if !s.srv.o.Journey.Wants(journey.IMAPCommand) {
		return
	}
	s.out.recorded = 0
	line := name
	if text := withoutLiterals(args); text != "" {
		line += " " + text
	}
	switch name {
	case "APPEND", "REPLACE", "SETMETADATA":
		if i := endOfWord(line, len(name)+1); i < len(line) {
			line = line[:i] + " ..."
		}
	}
	line = journey.MaskCommand(line)
	if uid {
		line = "UID " + line
	}
	s.recordLine(tag+" "+line, name)
}

// endOfWord is where the word ends that begins at a place: a quoted one behind its
// quotation mark.
func endOfWord(s string, begin int) int {
	if begin >= len(s) {
		return len(s)
	}
	if s[begin] != '"' {
		if i := strings.IndexByte(s[begin:], ' '); i >= 0 {
			return begin + i
		}
		return len(s)
	}
	for i := begin + 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(s)
}

// recordSecret records a line within a login.
func (s *session) recordSecret() { s.recordLine(journey.MaskedLine, "AUTHENTICATE") }

func (s *session) recordLine(line, verb string) {
	if !s.srv.o.Journey.Wants(journey.IMAPCommand) {
		return
	}
	line = journey.Plain(line)
	s.srv.o.Journey.Record(journey.Event{Kind: journey.IMAPCommand, Session: s.conn.ID, Peer: s.conn.Peer(), Text: line,
		Attrs: []journey.Attr{{Key: "verb", Value: verb}}})
}

// withoutLiterals writes in the place of each literal how long it is.
func withoutLiterals(args []byte) string {
	var b strings.Builder
	for len(args) > 0 && b.Len() < maxRecordedLine {
		i := bytes.Index(args, []byte("}\r\n"))
		if i < 0 {
			b.Write(args)
			break
		}
		n, ok := announced(args[:i+1])
		b.Write(args[:i+1])
		if args = args[i+3:]; ok {
			args = args[min(int(n), len(args)):]
		}
	}
	return cutAt(b.String(), maxRecordedLine)
}

func cutAt(s string, limit int) string {
	if len(s) > limit {
		return s[:limit] + "..."
	}
	return s
}

// announced reads the announcement of a literal at the end of a line: {5}, {5+},
// ~{5}.
func announced(line []byte) (n int64, ok bool) {
	i := bytes.LastIndexByte(line, '{')
	if i < 0 || len(line) == 0 || line[len(line)-1] != '}' {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(string(line[i+1:len(line)-1]), "+"), 10, 64)
	return n, err == nil && n >= 0
}

// responses finds the lines in what is sent, and leaves literals out.
type responses struct {
	line    []byte // so far, at most maxRecordedLine octets
	tail    []byte // the last octets of the line, where a literal is announced
	literal int64  // octets of one that are still to come
}

// feed takes octets and calls emit with each line that is whole.
func (r *responses) feed(b []byte, emit func(line string)) {
	const longest = 24 // of an announcement
	for len(b) > 0 {
		if r.literal > 0 {
			n := min(r.literal, int64(len(b)))
			b, r.literal = b[n:], r.literal-n
			continue
		}
		piece := b
		end := bytes.IndexByte(b, '\n')
		if end >= 0 {
			piece = b[:end+1]
		}
		b = b[len(piece):]
		r.line = append(r.line, piece[:min(len(piece), max(0, maxRecordedLine-len(r.line)))]...)
		r.tail = append(r.tail, piece[max(0, len(piece)-longest):]...)
		r.tail = r.tail[max(0, len(r.tail)-longest):]
		if end < 0 {
			continue
		}
		n, ok := announced(bytes.TrimRight(r.tail, "\r\n"))
		if ok {
			r.line = bytes.TrimRight(r.line, "\r\n")
			r.literal = n
		} else {
			emit(string(bytes.TrimRight(r.line, "\r\n")))
			r.line = r.line[:0]
		}
		r.tail = r.tail[:0]
	}
}

// watch begins or ends the recording of responses. It is called where all that was
// begun has been sent: what is pending is a beginning.
func (o *output) watch() {
	switch listened := o.srv.o.Journey.Wants(journey.IMAPReply); {
	case !listened:
		o.responses = nil
	case o.responses == nil:
		o.responses = new(responses)
	}
}

// recordResponses records lines of what is sent.
func (o *output) recordResponses(b []byte) {
	o.responses.feed(b, func(line string) {
		if o.recorded++; o.recorded > maxRecordedLines {
			return
		}
		line = journey.MaskReply(journey.Plain(maskContent(line)))
		o.srv.o.Journey.Record(journey.Event{Kind: journey.IMAPReply, Session: o.conn.ID, Peer: o.conn.Peer(), Text: line})
	})
}

// maskContent takes the strings out of responses in which they are text of a message
// or of a note.
func maskContent(line string) string {
	words := strings.SplitN(line, " ", 4)
	if len(words) < 3 || words[0] != "*" {
		return line
	}
	switch {
	case words[2] == "FETCH", words[2] == "UIDFETCH", words[1] == "METADATA", words[1] == "ANNOTATION":
	default:
		return line
	}
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		if line[i] != '"' {
			b.WriteByte(line[i])
			continue
		}
		end := endOfWord(line, i)
		b.WriteString("[" + strconv.Itoa(max(0, end-i-2)) + " octets]")
		i = end - 1
	}
	return b.String()
}

// noteClient keeps what the client calls itself (RFC 2971).
func (s *session) noteClient(fields []string) {
	for i := 0; i+1 < len(fields); i += 2 {
		if strings.EqualFold(fields[i], "name") {
			s.client = cutAt(journey.Plain(fields[i+1]), maxClientName)
		}
	}
}

// readsBody tells whether the items have more of a message than its header.
func (p *fetchPlan) readsBody() bool {
	for _, item := range p.bodies {
		if sec := item.Section; sec != nil && (sec.Specifier == imap.PartSpecifierNone || sec.Specifier == imap.PartSpecifierText) {
			return true
		}
	}
	return false
}

// recordFetched tells, the first time, that this client has fetched a body.
func (s *session) recordFetched(p *fetchPlan, m *numbered) {
	j := s.srv.o.Journey
	if s.account == nil || !j.Wants(journey.MailboxFetched) || !p.readsBody() || !j.Remembers(m.Saved) {
		return
	}
	client := "IMAP from " + s.conn.Peer()
	if s.client != "" {
		client += " (" + s.client + ")"
	}
	content := journey.Content(int64(m.Body))
	if !j.First(client, s.account.Address, content) {
		return
	}
	s.record(journey.MailboxFetched, journey.Attr{Key: "account", Value: s.account.Address}, journey.Attr{Key: "mailbox", Value: s.box.name},
		journey.Attr{Key: "uid", Value: strconv.FormatUint(uint64(m.UID), 10)}, journey.Attr{Key: "content", Value: content},
		journey.Attr{Key: "protocol", Value: "IMAP"}, journey.Attr{Key: "client", Value: client})
}
