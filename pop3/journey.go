package pop3

import (
	"context"
	"strconv"
	"strings"

	"postrider/internal/journey"
	"postrider/internal/wire"
	"postrider/mailstore"
)

// maxRecordedLines is how many lines of one reply the journey gets: a listing of a
// large maildrop is as good as its beginning.
const maxRecordedLines = 100

// record tells the journey what happened in the session.
func (s *session) record(kind journey.Kind, text string, attrs ...journey.Attr) {
	s.srv.journey.Record(journey.Event{Kind: kind, Session: s.conn.ID, Peer: s.conn.Peer(), Text: text, Attrs: attrs})
}

func (s *session) recordBegin() {
	if !s.srv.journey.Wants(journey.SessionBegin) {
		return
	}
	s.record(journey.SessionBegin, "", journey.Attr{Key: "protocol", Value: "POP3"})
	s.recordTLS()
}

func (s *session) recordTLS() {
	if s.conn.TLS != nil && s.srv.journey.Wants(journey.SessionTLS) {
		s.record(journey.SessionTLS, "", journey.Attr{Key: "tls", Value: wire.TLSName(s.conn.TLS)})
	}
}

func (s *session) recordEnd(reason string) {
	if s.srv.journey.Wants(journey.SessionEnd) {
		s.record(journey.SessionEnd, "", journey.Attr{Key: "protocol", Value: "POP3"}, journey.Attr{Key: "error", Value: reason})
	}
}

// recordLogin tells of a login that was right.
func (s *session) recordLogin(a mailstore.Account) {
	if s.srv.journey.Wants(journey.SessionLogin) {
		s.record(journey.SessionLogin, "", journey.Attr{Key: "login", Value: a.Address}, journey.Attr{Key: "verdict", Value: "is right"})
	}
}

// recordLine records a command; secret says that it is a part of a login.
func (s *session) recordLine(line string, secret bool) {
	if !s.srv.journey.Wants(journey.POP3Command) {
		return
	}
	text, verb := journey.MaskedLine, "AUTH"
	if !secret {
		text = journey.Plain(journey.MaskCommand(line))
		verb, _, _ = strings.Cut(strings.ToUpper(text), " ")
	}
	s.verb, s.recorded = verb, 0
	s.srv.journey.Record(journey.Event{Kind: journey.POP3Command, Session: s.conn.ID, Peer: s.conn.Peer(), Text: text,
		Attrs: []journey.Attr{{Key: "verb", Value: verb}}})
}

// recordReply records a line of a reply.
func (s *session) recordReply(line []byte) {
	if s.recorded++; s.recorded > maxRecordedLines {
		return
	}
	text := journey.MaskReply(strings.TrimRight(string(line), "\r\n"))
	s.srv.journey.Record(journey.Event{Kind: journey.POP3Reply, Session: s.conn.ID, Peer: s.conn.Peer(), Text: text,
		Attrs: []journey.Attr{{Key: "verb", Value: s.verb}}})
}

// listened tells whether replies are to be recorded.
func (s *session) listened() bool { return s.srv.journey.Wants(journey.POP3Reply) }

// recordContent tells that a message, or its top, was sent.
func (s *session) recordContent(octets int64) {
	if s.listened() {
		n := strconv.FormatInt(octets, 10)
		s.record(journey.POP3Reply, n+" octets of message", journey.Attr{Key: "verb", Value: s.verb}, journey.Attr{Key: "octets", Value: n})
	}
}

// recordFetched tells, the first time, that this client has fetched message i.
func (s *session) recordFetched(ctx context.Context, i int) {
	uid := strconv.FormatUint(uint64(s.drop.uids[i]), 10)
	client := "POP3 from " + s.conn.Peer()
	if !s.srv.journey.Wants(journey.MailboxFetched) ||
		!s.srv.journey.First(client, s.drop.account.Address, strconv.FormatUint(uint64(s.drop.validity), 10), uid) {
		return
	}
	m, err := s.srv.drops.describe(ctx, s.drop, s.drop.uids[i])
	if err != nil || !s.srv.journey.Remembers(m.Saved) {
		return // it was expunged meanwhile, or is older than what is remembered
	}
	s.record(journey.MailboxFetched, "", journey.Attr{Key: "account", Value: s.drop.account.Address}, journey.Attr{Key: "mailbox", Value: "INBOX"},
		journey.Attr{Key: "uid", Value: uid}, journey.Attr{Key: "content", Value: journey.Content(int64(m.Body))},
		journey.Attr{Key: "protocol", Value: "POP3"}, journey.Attr{Key: "client", Value: client})
}
