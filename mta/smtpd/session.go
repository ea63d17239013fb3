package smtpd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"time"

	"postrider/internal/directory"
	"postrider/internal/wire"
	"postrider/mailstore"
	"postrider/mta"
)

// session is one connection. What the client has not reached yet is zero;
// leaving a state drops the value.
type session struct {
	srv      *Server
	conn     *wire.Conn
	r        *wire.Reader
	out      []byte // replies that were not sent yet
	lost     error  // why nothing can be sent or read any more
	draining <-chan struct{}
	log      *slog.Logger

	hello *hello             // of the last EHLO, HELO or LHLO; nil before it
	login *mailstore.Account // set by AUTH; nil for a stranger
	txn   *transaction       // from MAIL to the end of the content; nil otherwise
	verb  string             // of the last command, while someone listens

	errors     int // replies of 5xx since the last accepted message
	idle       int // commands since then that bring no message nearer
	unknown    int // recipients that do not exist
	authErrors int
}

// hello is how the client introduced itself.
type hello struct {
	name     string
	extended bool // EHLO or LHLO
}

// transaction is a message on its way in (RFC 5321 section 3.3).
type transaction struct {
	env     *mta.Envelope
	refused int                  // recipients that were refused
	targets int                  // that the recipients lead to
	msg     *message             // the content; nil before DATA or the first BDAT
	seen    map[mta.Address]bool // of many recipients, those that were indexed
	indexed int
	full    []*mta.Reply // LMTP: to recipients who turned out to have no room; else nil
}

func (s *Server) serve(ctx context.Context, conn *wire.Conn, draining <-chan struct{}) {
	ss := &session{
		srv:      s,
		conn:     conn,
		r:        wire.NewReader(conn),
		draining: draining,
		log:      conn.Log,
	}
	if ss.log == nil {
		ss.log = s.o.Log
	}
	count(s.o.Metrics.Sessions)
	ss.log.Debug("session begins", "remote", conn.Peer())
	ss.recordBegin()
	defer ss.recordEnd()
	defer ss.drop()
	ss.run(ctx)
	ss.log.Debug("session ends", "err", ss.lost)
}

// run is the whole dialogue: it reads commands, has them answered and sends
// the replies, all policy being in the commands.
func (s *session) run(ctx context.Context) {
	if !s.send(s.greet()) {
		return
	}
	for {
		line, err := s.readLine(maxAuthLine)
		if len(line) > 0 {
			s.recordLine(line, false)
		}
		var r *mta.Reply
		if err != nil {
			if r = s.explain(line, err); r == nil {
				s.lost = err
				return
			}
		} else {
			r = s.answer(ctx, line)
		}
		if !s.send(s.countErrors(r)) {
			return
		}
	}
}

// send has r sent with the next flush, and tells whether the session goes on.
// A nil r has been sent already.
func (s *session) send(r *mta.Reply) bool {
	if r == nil {
		return s.lost == nil
	}
	s.put(r)
	if r.Close {
		s.flush()
		return false
	}
	if len(s.out) >= replyFlush {
		s.flush()
	}
	return s.lost == nil
}

// flush sends what is to be sent.
func (s *session) flush() {
	if len(s.out) == 0 || s.lost != nil {
		return
	}
	patience := commandTimeout
	if s.login == nil && s.srv.o.Crowded() {
		patience = crowdedTimeout
	}
	err := s.conn.SetWriteDeadline(s.srv.o.Clock.Now().Add(patience))
	if err == nil {
		_, err = s.conn.Write(s.out)
	}
	s.lost = err
	if s.out = s.out[:0]; cap(s.out) > replyKeep {
		s.out = nil
	}
}

// errDraining: the server is about to stop and the session is idle.
var errDraining = errors.New("shutting down")

// readLine returns the next line without its CRLF. The line has commandTimeout
// in all, however it comes; a crowded server waits less for a stranger.
func (s *session) readLine(limit int) ([]byte, error) {
	if s.lineBuffered() {
		if s.txn == nil && s.isDraining() {
			return nil, errDraining
		}
		return s.r.ReadLine(limit)
	}
	if s.flush(); s.lost != nil {
		return nil, s.lost
	}
	begin := s.srv.o.Clock.Now()
	for {
		if err := s.await(begin); err != nil {
			return nil, err
		}
		line, err := s.r.ReadLine(limit)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return line, err
		}
	}
}

// await sets the deadline for the next read of a line that was begun to be
// waited for at begin. It looks again at least every crowdedTimeout, so that a
// server that becomes crowded meanwhile does not wait on.
func (s *session) await(begin time.Time) error {
	waited := s.srv.o.Clock.Now().Sub(begin)
	switch {
	case s.txn == nil && s.isDraining():
		return errDraining
	case waited >= commandTimeout, waited >= crowdedTimeout && s.login == nil && s.srv.o.Crowded():
		return os.ErrDeadlineExceeded
	}
	next := min(commandTimeout-waited, crowdedTimeout)
	if s.txn == nil {
		return s.conn.Idle(next)
	}
	return s.conn.Busy(next)
}

func (s *session) lineBuffered() bool {
	if s.r.Buffered() == 0 {
		return false
	}
	p, err := s.r.Peek()
	return err == nil && bytes.IndexByte(p, '\n') >= 0
}

func (s *session) isDraining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

// explain makes the reply to an error of readLine; nil when nobody is there to
// read one.
func (s *session) explain(line []byte, err error) *mta.Reply {
	host := s.srv.o.Hostname
	switch {
	case errors.Is(err, wire.ErrLineTooLong):
		return newReply(500, "5.5.2", "Line too long")
	case errors.Is(err, wire.ErrBareLF) && bytes.HasSuffix(line, []byte("\r\n")):
		return newReply(500, "5.5.2", "A command has a CR only before the LF at its end")
	case errors.Is(err, wire.ErrBareLF):
		return newReply(500, "5.5.2", "Lines end in CRLF, and this one ended in a bare LF (with nc, use nc -C)")
	case errors.Is(err, wire.ErrEndlessLine):
		return closing(421, "4.5.0", host+" The line does not end, closing connection")
	case errors.Is(err, errDraining):
		return closing(421, "4.3.2", host+" shutting down, please come again")
	case errors.Is(err, os.ErrDeadlineExceeded):
		count(s.srv.o.Metrics.TimedOut)
		return closing(421, "4.4.2", host+" Idle too long, closing connection")
	}
	return nil
}

// countErrors ends a session that is refused too often (RFC 5321 section
// 4.3.2 leaves that to the server). It returns the reply to send.
func (s *session) countErrors(r *mta.Reply) *mta.Reply {
	if r == nil || r.Code/100 != 5 || r.Close {
		return r
	}
	if s.errors++; s.errors < maxErrors {
		return r
	}
	s.log.Info("session ended: too many errors", "remote", s.conn.Peer())
	return closing(421, "4.7.0", s.srv.o.Hostname+" Too many errors, closing connection")
}

// drop forgets the transaction.
func (s *session) drop() {
	if s.txn != nil && s.txn.msg != nil {
		s.txn.msg.abort()
	}
	s.txn = nil
}

// greet looks for input before the greeting, which no client may send
// (RFC 5321 section 3.1), and returns the first reply.
func (s *session) greet() *mta.Reply {
	if s.early() {
		s.log.Info("refused: talked before the greeting", "remote", s.conn.Peer())
		return closing(554, "5.5.0", s.srv.o.Hostname+" Wait for the greeting before you talk")
	}
	if s.isDraining() {
		return closing(421, "4.3.2", s.srv.o.Hostname+" shutting down, please come again")
	}
	service := " ESMTP postrider"
	if s.srv.o.Mode == LMTP {
		service = " LMTP postrider"
	}
	return newReply(220, "", s.srv.o.Hostname+service)
}

// client is how the rest of the system sees the far end.
func (s *session) client() mta.Client {
	c := mta.Client{Addr: s.conn.Remote, Ours: s.srv.o.Ours}
	if s.hello != nil {
		c.Hello = s.hello.name
	}
	if s.login != nil {
		c.Account, c.Login = int64(s.login.ID), s.login.Address
	}
	return c
}

func (s *session) peer() directory.Peer {
	return directory.Peer{Addr: s.conn.Remote, TLS: s.conn.TLS, Protocol: "smtp", Session: s.conn.ID}
}

// failure is the reply to an error of the router, the queue or the store: a
// refusal as it is; anything else is temporary and stays in the log.
func (s *session) failure(what string, err error) *mta.Reply {
	var r *mta.Reply
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, mailstore.ErrFull):
		s.log.Error(what, "err", err)
		return newReply(452, "4.3.1", "Out of storage, please try again later")
	}
	s.log.Error(what, "err", err)
	return newReply(451, "4.3.0", "Local error in processing, please try again later")
}

// cutWord splits a command line at its first space.
func cutWord(line string) (word, rest string) {
	word, rest, _ = strings.Cut(line, " ")
	return word, strings.Trim(rest, " ")
}

// hasInput tells whether the client has sent something by now.
func (s *session) hasInput() bool {
	if s.r.Buffered() > 0 {
		return true
	}
	waiting, err := socketHasInput(s.conn.Conn)
	return err == nil && waiting
}

// early is hasInput for a client that may send nothing yet at all: a
// connection that is no socket (TLS, or in memory) is watched for a moment.
func (s *session) early() bool {
	if waiting, err := socketHasInput(s.conn.Conn); err == nil {
		return waiting
	}
	if s.conn.Busy(time.Millisecond) != nil {
		return false
	}
	_, err := s.r.Peek()
	return err == nil
}
