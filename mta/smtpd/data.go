package smtpd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"postrider/mta"
)

// data is DATA (RFC 5321 section 4.1.1.4).
func (s *session) data(ctx context.Context, arg string) *mta.Reply {
	switch {
	case s.hasInput():
		// DATA is the last command of a group (RFC 2920 section 3.1). What
		// follows may be content that, were DATA refused, would be taken for
		// commands.
		s.log.Info("refused: content before 354", "remote", s.conn.Peer())
		return closing(554, "5.5.0", "Wait for the reply to DATA before you send the message")
	case s.txn != nil && s.txn.msg != nil:
		return newReply(503, "5.5.1", "A message begun with BDAT or BURL must be finished with one of them")
	}
	if r := s.mayContent(); r != nil {
		return r
	}
	if arg != "" {
		return newReply(501, "5.5.4", "DATA has no argument")
	}
	defer s.drop()
	m := s.newMessage()
	m.scan.dots = true
	s.put(newReply(354, "", `Enter mail, end with "." on a line by itself`))
	if s.flush(); s.lost != nil {
		return nil
	}
	if err := s.readData(m); err != nil {
		return s.cutShort(err)
	}
	return s.conclude(ctx, m)
}

// mayContent tells what has to come before DATA or BDAT.
func (s *session) mayContent() *mta.Reply {
	switch {
	case s.txn == nil:
		return newReply(503, "5.5.1", "Send MAIL first")
	case len(s.txn.env.To) == 0 && s.txn.refused > 0:
		return newReply(554, "5.5.1", "No valid recipients")
	case len(s.txn.env.To) == 0:
		return newReply(503, "5.5.1", "Send RCPT first")
	}
	return nil
}

// newMessage begins the content of the transaction: with the trace field.
func (s *session) newMessage() *message {
	m := &message{
		body:  s.srv.o.Queue.NewBody(),
		limit: s.srv.limits.Load().MaxSize,
	}
	m.pace = s.newPace()
	m.scan.out = m
	m.scan.normalise = s.srv.o.BareNewline == NormaliseBareNewline
	if s.login != nil || s.srv.o.Ours {
		m.fix, m.head.strict = s.submission(), s.login != nil
	}
	if s.srv.o.EnvelopeTo {
		m.write(envelopeTo(s.txn.env.To))
	}
	m.write(s.received(s.txn))
	s.txn.msg = m
	return m
}

// readData reads content up to the end of DATA.
func (s *session) readData(m *message) error {
	defer s.borrow()()
	for {
		p, err := s.peekContent(&m.pace)
		if err != nil {
			return err
		}
		n, done := m.scan.scan(p)
		s.consume(&m.pace, n)
		if done {
			return nil
		}
	}
}

// borrow gives the reader a larger buffer until the function that it returns
// is called.
func (s *session) borrow() (giveBack func()) {
	b := s.srv.buffers.Get().(*[]byte)
	s.r.Lend(*b)
	return func() {
		s.r.Reclaim()
		s.srv.buffers.Put(b)
	}
}

// pace is how fast content comes.
type pace struct {
	begin  time.Time // of the content
	last   time.Time // when octets came last
	octets int64     // that were consumed
}

// errSlow: content drips while connections are short.
var errSlow = errors.New("content comes too slowly")

func (s *session) newPace() pace {
	now := s.srv.o.Clock.Now()
	return pace{begin: now, last: now}
}

// peekContent returns octets of content without consuming them. It fails when
// none come within bodyTimeout, or when they come slowly to a crowded server.
func (s *session) peekContent(pc *pace) ([]byte, error) {
	if s.r.Buffered() > 0 {
		return s.r.Peek()
	}
	if s.flush(); s.lost != nil {
		return nil, s.lost
	}
	for {
		now := s.srv.o.Clock.Now()
		silent, whole := now.Sub(pc.last), now.Sub(pc.begin)
		if silent >= bodyTimeout {
			return nil, os.ErrDeadlineExceeded
		}
		if whole >= crowdedTimeout && pc.octets < crowdedRate*int64(whole/time.Second) && s.srv.o.Crowded() {
			return nil, errSlow
		}
		if err := s.conn.Busy(min(bodyTimeout-silent, crowdedTimeout)); err != nil {
			return nil, err
		}
		p, err := s.r.Peek()
		if err == nil {
			pc.last = s.srv.o.Clock.Now()
			return p, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
	}
}

// consume takes n octets of what peekContent returned.
func (s *session) consume(pc *pace, n int) {
	s.r.Discard(n)
	pc.octets += int64(n)
}

// cutShort is the reply to content that has not ended: the connection ends.
func (s *session) cutShort(err error) *mta.Reply {
	s.log.Info("message cut short", "id", s.txn.env.ID, "remote", s.conn.Peer(), "err", err)
	s.recordRefused(mta.Errorf(421, "4.4.2", "The message was cut short: %v", err))
	host := s.srv.o.Hostname
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		count(s.srv.o.Metrics.TimedOut)
		return closing(421, "4.4.2", host+" The message stopped coming, closing connection")
	case errors.Is(err, errSlow):
		count(s.srv.o.Metrics.TimedOut)
		return closing(421, "4.4.2", host+" The message comes too slowly, closing connection")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return closing(421, "4.4.2", host+" The message ended too early, closing connection")
	}
	s.lost = err
	return nil
}

// bdat is BDAT (RFC 3030 section 2).
func (s *session) bdat(ctx context.Context, arg string) *mta.Reply {
	size, last, ok := parseBdat(arg)
	if !ok {
		// Where the chunk ends is unknown, and so what is a command.
		return closing(501, "5.5.4", "Syntax error: say BDAT octets [LAST]; closing connection")
	}
	r := s.mayContent()
	if r != nil {
		return s.discardChunk(size, r)
	}
	m := s.txn.msg
	if m == nil {
		m = s.newMessage()
	}
	if err := s.readChunk(m, size); err != nil {
		defer s.drop()
		return s.cutShort(err)
	}
	switch {
	case last:
		defer s.drop()
		return s.conclude(ctx, m)
	case m.refusal != nil, m.scan.fault != noFault:
		defer s.drop()
		return s.refuseMessage(m.end(), m)
	}
	return newReply(250, "2.0.0", strconv.FormatInt(size, 10)+" octets received")
}

// parseBdat reads chunk-size and the end marker.
func parseBdat(arg string) (size int64, last, ok bool) {
	number, marker := cutWord(arg)
	if number == "" || strings.Trim(number, "0123456789") != "" {
		return 0, false, false
	}
	size, err := strconv.ParseInt(number, 10, 64)
	last = strings.EqualFold(marker, "LAST")
	return size, last, err == nil && (last || marker == "")
}

func (s *session) readChunk(m *message, size int64) error {
	if size == 0 {
		return nil
	}
	defer s.borrow()()
	m.pace.last = s.srv.o.Clock.Now()
	for size > 0 {
		p, err := s.peekContent(&m.pace)
		if err != nil {
			return err
		}
		p = p[:min(int64(len(p)), size)]
		m.scan.scan(p)
		s.consume(&m.pace, len(p))
		size -= int64(len(p))
	}
	return nil
}

// discardChunk reads a chunk that no message wants and returns r.
func (s *session) discardChunk(size int64, r *mta.Reply) *mta.Reply {
	pace := s.newPace()
	for size > 0 {
		p, err := s.peekContent(&pace)
		if err != nil {
			s.lost = err
			return nil
		}
		n := min(int64(len(p)), size)
		s.consume(&pace, int(n))
		size -= n
	}
	return r
}

// conclude decides about a message whose content is complete, or refused, and
// returns the reply; LMTP sends one for each recipient (RFC 2033 section 4.2).
func (s *session) conclude(ctx context.Context, m *message) *mta.Reply {
	to := s.txn.env.To // of which room may take some out
	r := s.accept(ctx, m)
	if s.srv.o.Mode != LMTP {
		return r
	}
	for i := range to {
		each := *r
		if s.txn.full != nil && s.txn.full[i] != nil {
			each = *s.txn.full[i]
		}
		each.Text = "<" + shown(to[i].Address, s.txn.env.Options.UTF8) + "> " + each.Text
		s.put(&each)
		if len(s.out) >= replyFlush {
			s.flush()
		}
	}
	return nil
}

// accept has the queue take the message, and returns the reply.
func (s *session) accept(ctx context.Context, m *message) *mta.Reply {
	env := s.txn.env
	r := m.end()
	s.recordContent(m, r)
	if r == nil {
		r = s.ownsAuthors(ctx, m.authors)
	}
	if r == nil {
		r = s.room(ctx, m.body.Size())
	}
	if r == nil {
		r = s.commit(ctx, env, m)
	}
	if r != nil {
		return s.refuseMessage(r, m)
	}
	s.recordAccepted(m)
	s.errors, s.idle = 0, 0
	count(s.srv.o.Metrics.Accepted)
	local, onward := 0, 0
	for i := range env.To {
		l, o := split(env.To[i].Targets)
		local, onward = local+l, onward+o
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "message accepted", slog.String("id", env.ID), slog.String("from", env.From.String()),
		slog.Int("recipients", len(env.To)), slog.Int("local", local), slog.Int("onward", onward), slog.Int64("size", m.size),
		slog.String("remote", s.conn.Peer()), slog.String("login", env.Client.Login))
	return newReply(250, "2.0.0", "Message accepted for delivery, id "+env.ID)
}

// split counts where targets are: in mailboxes, and at other servers.
func split(targets []mta.Target) (local, onward int) {
	for _, t := range targets {
		if t.Account != 0 {
			local++
		} else {
			onward++
		}
	}
	return local, onward
}

// refuseMessage notes that the message is refused with r and returns what to
// reply.
func (s *session) refuseMessage(r *mta.Reply, m *message) *mta.Reply {
	if m.failed != nil {
		r = s.failure("cannot store a message", m.failed)
	}
	env := s.txn.env
	s.recordRefused(r)
	count(s.srv.o.Metrics.RefusedMessages)
	s.log.Info("message refused", "id", env.ID, "from", env.From.String(),
		"recipients", len(env.To), "remote", s.conn.Peer(), "reply", r.Error())
	return r
}

// commit makes the message durable. A nil reply means that it is.
func (s *session) commit(ctx context.Context, env *mta.Envelope, m *message) *mta.Reply {
	body, err := m.body.Commit()
	if err != nil {
		return s.failure("cannot store a message", err)
	}
	defer body.Release()
	env.Accepted = s.srv.o.Clock.Now()
	if err := s.srv.o.Queue.Accept(ctx, env, body); err != nil {
		return s.failure("cannot accept a message", err)
	}
	return nil
}
