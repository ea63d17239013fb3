package smtpd

import (
	"bytes"
	"strconv"
	"strings"

	"postrider/internal/journey"
	"postrider/internal/wire"
	"postrider/mta"
)

// record tells the journey what happened in the session, and to the message in
// hand if there is one.
func (s *session) record(kind journey.Kind, attrs ...journey.Attr) {
	j := s.srv.o.Journey
	if !j.Wants(kind) {
		return
	}
	j.Record(journey.Event{Kind: kind, Message: s.messageID(), Session: s.conn.ID, Peer: s.conn.Peer(), Attrs: attrs})
}

// messageID is the id of the message in hand.
func (s *session) messageID() string {
	if s.txn == nil {
		return ""
	}
	return s.txn.env.ID
}

// scope says on whose behalf names are looked up.
func (s *session) scope() journey.Scope {
	return journey.Scope{Message: s.messageID(), Session: s.conn.ID}
}

func (s *session) recordBegin() {
	protocol := "SMTP"
	if s.srv.o.Mode == LMTP {
		protocol = "LMTP"
	}
	s.record(journey.SessionBegin, journey.Attr{Key: "protocol", Value: protocol})
	if s.conn.TLS != nil {
		s.recordTLS()
	}
}

func (s *session) recordEnd() {
	why := ""
	if s.lost != nil {
		why = s.lost.Error()
	}
	s.record(journey.SessionEnd, journey.Attr{Key: "protocol", Value: "SMTP"}, journey.Attr{Key: "error", Value: why})
}

func (s *session) recordTLS() {
	s.record(journey.SessionTLS, journey.Attr{Key: "tls", Value: wire.TLSName(s.conn.TLS)})
}

// recordLine records a command as it came; secret says that it is a part of a
// login.
func (s *session) recordLine(line []byte, secret bool) {
	if !s.srv.o.Journey.Wants(journey.SMTPCommand) {
		return
	}
	text, verb := journey.MaskedLine, "AUTH"
	if !secret {
		text = appendedText(journey.MaskCommand(string(line)))
		verb, _, _ = strings.Cut(strings.ToUpper(text), " ")
	}
	s.verb = verb
	s.srv.o.Journey.Record(journey.Event{Kind: journey.SMTPCommand, Message: s.messageID(), Session: s.conn.ID, Peer: s.conn.Peer(),
		Text: text, Attrs: []journey.Attr{{Key: "verb", Value: verb}}})
}

// appendedText is s without control characters.
func appendedText(s string) string { return string(appendText(nil, s, maxAuthLine)) }

// put adds a reply to what is sent next.
func (s *session) put(r *mta.Reply) {
	start := len(s.out)
	s.out = appendReply(s.out, r)
	s.recordReply(s.out[start:])
}

// recordReply records the lines of a reply.
func (s *session) recordReply(lines []byte) {
	if !s.srv.o.Journey.Wants(journey.SMTPReply) {
		return
	}
	for line := range bytes.Lines(lines) {
		text := journey.MaskReply(strings.TrimRight(string(line), "\r\n"))
		s.srv.o.Journey.Record(journey.Event{Kind: journey.SMTPReply, Message: s.messageID(), Session: s.conn.ID, Peer: s.conn.Peer(),
			Text: text, Attrs: []journey.Attr{{Key: "verb", Value: s.verb}, {Key: "code", Value: text[:min(3, len(text))]}}})
	}
}

func (s *session) recordLogin(name, mechanism string, failure *mta.Reply) {
	verdict := "is right"
	if failure != nil {
		verdict = "is refused: " + failure.Error()
	}
	s.record(journey.SessionLogin, journey.Attr{Key: "login", Value: name}, journey.Attr{Key: "mechanism", Value: mechanism},
		journey.Attr{Key: "verdict", Value: verdict})
}

// recordSender tells what MAIL was judged by.
func (s *session) recordSender(from mta.Address, limits *Limits, r *mta.Reply) {
	address := from.String()
	key := journey.Attr{Key: "from", Value: address}
	check, input := journey.Attr{Key: "check", Value: "sender"}, journey.Attr{Key: "input", Value: "<" + address + ">"}
	if r != nil {
		s.record(journey.CheckFailed, key, check, input, journey.Attr{Key: "reply", Value: r.Error()})
		return
	}
	verdict := "anybody may give it here"
	switch {
	case s.login != nil:
		verdict = "is an address of " + s.login.Address
	case s.srv.o.Ours:
		verdict = "given by this server's owner"
	}
	if limits.MessagesPerMinute > 0 {
		verdict += "; within " + strconv.Itoa(limits.MessagesPerMinute) + " messages a minute"
	}
	s.record(journey.CheckPassed, key, check, input, journey.Attr{Key: "verdict", Value: verdict})
}

// recordRecipient tells what became of one RCPT.
func (s *session) recordRecipient(to mta.Address, targets []mta.Target, r *mta.Reply) {
	if !s.srv.o.Journey.Wants(journey.CheckPassed) {
		return
	}
	address := to.String()
	key := journey.Attr{Key: "to", Value: address}
	check, input := journey.Attr{Key: "check", Value: "recipient"}, journey.Attr{Key: "input", Value: "<" + address + ">"}
	if r != nil {
		s.record(journey.CheckFailed, key, journey.Attr{Key: "from", Value: s.txn.env.From.String()}, check, input,
			journey.Attr{Key: "reply", Value: r.Error()})
		return
	}
	verdict := "a mailbox here"
	switch local, onward := split(targets); {
	case local+onward > 1:
		verdict = "an alias of " + strconv.Itoa(local) + " mailboxes here and " + strconv.Itoa(onward) + " addresses elsewhere"
	case onward == 1 && s.login != nil:
		verdict = "goes on to another server, since " + s.login.Address + " is logged in"
	case onward == 1 && targets[0].Remote != to:
		verdict = "an alias of " + targets[0].Remote.String()
	case onward == 1:
		verdict = "goes on to another server, for which this one relays"
	}
	s.record(journey.CheckPassed, key, check, input, journey.Attr{Key: "verdict", Value: verdict})
}

// recordContent tells what the content was judged by.
func (s *session) recordContent(m *message, r *mta.Reply) {
	if !s.srv.o.Journey.Wants(journey.CheckPassed) {
		return
	}
	octets := strconv.FormatInt(m.size, 10)
	s.record(journey.SMTPContent, journey.Attr{Key: "octets", Value: octets})
	check := journey.Attr{Key: "check", Value: "content"}
	input := octets + " octets, " + strconv.Itoa(m.head.hops) + " Received fields"
	if r != nil {
		s.record(journey.CheckFailed, check, journey.Attr{Key: "input", Value: input}, journey.Attr{Key: "reply", Value: r.Error()})
		return
	}
	verdict := "line ends, size and number of hops are in order"
	if m.scan.normalise {
		verdict = "size and number of hops are in order; line ends are CRLF, or were made so"
	}
	s.record(journey.CheckPassed, check, journey.Attr{Key: "input", Value: input}, journey.Attr{Key: "verdict", Value: verdict})
}

// recordAccepted tells that the message is durable.
func (s *session) recordAccepted(m *message) {
	env := s.txn.env
	attrs := make([]journey.Attr, 0, 12) // on the stack; more recipients than a few are rare
	attrs = append(attrs, journey.Attr{Key: "from", Value: env.From.String()}, journey.Attr{Key: "message-id", Value: m.messageID()},
		journey.Attr{Key: "protocol", Value: s.protocol(s.txn)}, journey.Attr{Key: "tls", Value: wire.TLSName(s.conn.TLS)},
		journey.Attr{Key: "hello", Value: s.hello.name}, journey.Attr{Key: "login", Value: env.Client.Login},
		journey.Attr{Key: "size", Value: strconv.FormatInt(m.size, 10)})
	const most = 16 // named here; each has an event of its own
	for i := range env.To[:min(len(env.To), most)] {
		attrs = append(attrs, journey.Attr{Key: "to", Value: env.To[i].Address.String()})
	}
	if more := len(env.To) - most; more > 0 {
		attrs = append(attrs, journey.Attr{Key: "more", Value: strconv.Itoa(more)})
	}
	// At the time when the content was complete: what the queue did with it came later.
	s.srv.o.Journey.Record(journey.Event{Kind: journey.MessageAccepted, Time: env.Accepted, Message: env.ID, Session: s.conn.ID,
		Peer: s.conn.Peer(), Attrs: attrs})
}

// recordRefused tells that the message is not taken.
func (s *session) recordRefused(r *mta.Reply) {
	s.record(journey.MessageRefused, journey.Attr{Key: "from", Value: s.txn.env.From.String()}, journey.Attr{Key: "reply", Value: r.Error()})
}

// messageID is the Message-ID of the message, with its angle brackets; "" if it has
// none that can be read.
func (m *message) messageID() string {
	if id := angled(m.head.id); id != "" {
		return id
	}
	if m.fix != nil && len(m.head.id) == 0 {
		return m.fix.messageID
	}
	return ""
}

func angled(field []byte) string {
	start := bytes.IndexByte(field, '<')
	if start < 0 {
		return ""
	}
	end := bytes.IndexByte(field[start:], '>')
	if end < 0 {
		return ""
	}
	var room [128]byte // for most
	return string(appendText(room[:0], string(field[start:start+end+1]), maxAuthLine))
}
