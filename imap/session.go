package imap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"

	"postrider/imap/syntax"
	"postrider/internal/directory"
	"postrider/internal/journey"
	"postrider/internal/wire"
	"postrider/mailstore"
)

// session is one connection. Its state is in two values: without an account the
// client has not logged in, without a box it has selected no mailbox.
type session struct {
	srv  *Server
	conn *wire.Conn
	in   *input
	out  *output
	r    *syntax.Reader
	log  *slog.Logger

	account *mailstore.Account
	box     *selection
	others  others // mailboxes of others; none before login
	enabled enabled
	noted   *mailstore.AnnotationWatcher // of ENABLE METADATA; nil without it
	notify  *notification                // what NOTIFY asked for; nil without it

	client string // what it calls itself; "" = nothing

	failed int    // logins
	errors int    // BAD answers
	over   bool   // close after this
	bye    string // with these words; "" for none
	broken bool   // close now, without another word: a literal was cut short
}

// enabled is what changes the meaning of what we say (RFC 5161).
type enabled struct {
	rev2      bool // IMAP4rev2: UTF-8 names, ESEARCH, no \Recent
	utf8      bool // UTF8=ACCEPT (RFC 6855)
	condstore bool // FETCH tells MODSEQ (RFC 7162)
	qresync   bool // VANISHED instead of EXPUNGE
	uidonly   bool // no message numbers (RFC 9586)
	metadata  bool // METADATA responses come unasked (RFC 5464)
}

// wide tells whether names and strings go out in UTF-8.
func (e *enabled) wide() bool { return e.rev2 || e.utf8 }

// call is one command under way.
type call struct {
	*syntax.Command
	p     *syntax.Parser
	code  string       // response code of the tagged OK, without brackets
	text  string       // of the tagged OK; "" is "NAME completed"
	after func() error // runs when the tagged OK was written
	told  bool         // the tagged OK has HIGHESTMODSEQ, where QRESYNC is enabled
	limit string       // response code where not all messages were processed; "" where they were

	unlimited bool // not the client's command: it has no limit of messages
}

// refusal is a tagged NO or BAD.
type refusal struct {
	bad  bool
	code string // response code without brackets; "" for none
	text string
}

func (r *refusal) Error() string { return r.text }

// refuse makes a NO.
func refuse(code, text string) error { return &refusal{code: code, text: text} }

// bad makes a BAD: the client should not have asked.
func bad(text string) error { return &refusal{bad: true, code: "CLIENTBUG", text: text} }

// unaskedText refuses what LITERAL- forbids.
const unaskedText = "Announce a literal of more than 4096 octets without + and wait to be asked for it"

func errBareLF() error { return bad("A line ends in CR LF; yours had a bare LF") }

// byeRevoked goes with errRevoked.
const byeRevoked = "[NOPERM] You may not read the selected mailbox any more"

// serve is the handler of one connection.
func (s *Server) serve(ctx context.Context, conn *wire.Conn, draining <-chan struct{}) {
	out := &output{srv: s, conn: conn}
	in := &input{srv: s, conn: conn, out: out, draining: draining, opened: s.o.Clock.Now()}
	log := conn.Log
	if log == nil {
		log = s.o.Log
	}
	ss := &session{srv: s, conn: conn, in: in, out: out, r: syntax.NewReader(in), log: log}
	ss.r.Minus = s.o.LiteralMinus
	ss.r.Invite = func() error {
		out.line("+ Ready for literal data")
		return out.err
	}
	defer ss.endNotify()
	ss.recordBegin()
	err := ss.run(ctx)
	ss.farewell(err)
}

// farewell says why the connection ends, where that is our choice, and logs it.
func (s *session) farewell(err error) {
	reason := "logout"
	bye := ""
	switch {
	case s.broken:
		reason = "a message could not be sent whole"
		s.out.err = io.ErrClosedPipe // what was sent is incomplete: no BYE within a literal
	case err == nil && s.bye != "":
		reason, bye = s.bye, s.bye
	case err == nil:
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		reason = "client left"
	case errors.Is(err, errIdle):
		reason, bye = "idle", "Idle too long"
	case errors.Is(err, errDraining):
		reason, bye = "shutdown", "The server is shutting down"
	case errors.Is(err, errRevoked):
		reason, bye = err.Error(), byeRevoked
	case errors.Is(err, errNoAccount):
		reason, bye = err.Error(), "[NOPERM] Your account was removed"
	case errors.Is(err, syntax.ErrTooLong):
		reason, bye = "a command was too long", "[TOOBIG] The command is too long"
	case errors.Is(err, syntax.ErrFraming):
		reason, bye = "framing", "[CLIENTBUG] It is not clear where your command ends"
	default:
		reason = err.Error()
	}
	if bye != "" {
		s.out.line("* BYE ", bye)
	}
	if err := s.out.flush(); err != nil && reason == "logout" {
		reason = err.Error()
	}
	s.out.release()
	s.record(journey.SessionEnd, journey.Attr{Key: "protocol", Value: "IMAP"}, journey.Attr{Key: "error", Value: reason})
	s.forgetNotes()
	if s.account != nil {
		s.log.Info("session ended", "account", s.account.Address, "reason", reason)
	} else {
		s.log.Debug("session ended", "reason", reason)
	}
}

// run reads commands and answers them until the session is over.
func (s *session) run(ctx context.Context) error {
	s.out.line("* OK [CAPABILITY ", s.capabilities(), "] IMAP server ready")
	for !s.over && !s.broken {
		s.in.expect()
		c, err := s.r.Next()
		if err == nil {
			err = s.execute(ctx, c)
		} else {
			err = s.unreadable(c, err)
		}
		if err == nil {
			err = s.out.err
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unreadable answers what is no command. Errors that the next command does not
// survive it returns.
func (s *session) unreadable(c *syntax.Command, err error) error {
	tag := "*"
	if c != nil && c.Tag != "" {
		tag = c.Tag
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errIdle) && !errors.Is(err, errDraining) {
		s.recordLine(journey.MaskedLine, "") // who knows what it was
	}
	var literal *syntax.LiteralError
	var wrong *syntax.Error
	switch {
	case errors.As(err, &literal) && literal.Unasked:
		s.out.line(tag, " BAD [TOOBIG] ", unaskedText)
		s.erred()
		return nil
	case errors.As(err, &literal) && c != nil && c.Name == "SETMETADATA" && s.account != nil:
		s.out.line(tag, " NO [", codeMaxSize(), "] That value is too large")
		return nil
	case errors.As(err, &literal):
		s.out.line(tag, " NO [TOOBIG] ", fmt.Sprintf("Literals are limited to %d octets here", literal.Limit))
		return nil
	case errors.As(err, &wrong):
		s.out.line(tag, " BAD [CLIENTBUG] Syntax error: ", wrong.Error())
		s.erred()
		return nil
	case errors.Is(err, syntax.ErrBareLF):
		s.out.line(tag, " BAD [CLIENTBUG] A line ends in CR LF; yours had a bare LF (with nc, use nc -C)")
		s.erred()
		return nil
	case errors.Is(err, syntax.ErrTooLong) && tag != "*":
		s.out.line(tag, " BAD [TOOBIG] The command is too long")
	}
	return err
}

// erred counts a BAD and ends the session when it was one too many.
func (s *session) erred() {
	limit := maxErrors
	if s.account == nil {
		limit = maxStrangerBad
	}
	if s.errors++; s.errors >= limit && !s.over {
		s.over, s.bye = true, "Too many errors"
	}
}

// execute runs one command and answers it.
func (s *session) execute(ctx context.Context, cmd *syntax.Command) error {
	s.recordCommand(cmd.Tag, cmd.Name, cmd.UID, cmd.Args)
	c := &call{Command: cmd, p: syntax.NewParser(cmd.Args)}
	err := s.dispatch(ctx, c)
	if s.broken {
		return nil
	}
	var no *refusal
	if err != nil {
		if no = s.chosen(err); no == nil {
			return err
		}
	}
	if c.Message != nil { // refused before its message was read
		if err := s.r.Refuse(cmd); err != nil {
			s.answer(c, no)
			return err
		}
	}
	if no == nil || !no.bad {
		if err := s.poll(ctx, c.Command); err != nil {
			return err
		}
		if err := s.tellNotes(ctx); err != nil {
			return err
		}
		s.tellReset()
		s.followSelected()
	}
	s.answer(c, no)
	if no == nil && c.after != nil {
		return c.after()
	}
	return s.out.err
}

// answer writes the tagged response.
func (s *session) answer(c *call, no *refusal) {
	name := c.Name
	if c.UID {
		name = "UID " + name
	}
	s.tellLimit(c, no != nil)
	b := s.out.begin()
	b = append(b, c.Tag...)
	switch {
	case no == nil:
		b = append(b, " OK "...)
		code := c.code
		if c.told && s.enabled.qresync && s.box != nil {
			code = strings.TrimSuffix("HIGHESTMODSEQ "+strconv.FormatUint(uint64(s.box.modseq), 10)+" "+code, " ")
		}
		b = appendCode(b, code)
		if c.text == "" {
			b = append(b, name...)
			b = append(b, " completed"...)
		}
		b = append(b, c.text...)
	default:
		word := " NO "
		if no.bad {
			word = " BAD "
			s.erred()
		}
		b = append(b, word...)
		b = appendCode(b, no.code)
		b = append(b, no.text...)
	}
	s.out.end(append(b, '\r', '\n'))
}

func appendCode(b []byte, code string) []byte {
	if code == "" {
		return b
	}
	b = append(b, '[')
	b = append(b, code...)
	return append(b, "] "...)
}

// chosen is the refusal that an error means for the client; nil for one that
// ends the session.
func (s *session) chosen(err error) *refusal {
	var no *refusal
	var wrong *syntax.Error
	var limit *syntax.LimitError
	switch {
	case errors.As(err, &no):
		return no
	case errors.As(err, &wrong):
		return &refusal{bad: true, code: "CLIENTBUG", text: "Syntax error: " + wrong.Error()}
	case errors.As(err, &limit):
		return &refusal{code: "LIMIT", text: strings.ToUpper(limit.Error()[:1]) + limit.Error()[1:]}
	}
	return nil
}

// dispatch finds and runs the command.
func (s *session) dispatch(ctx context.Context, c *call) error {
	cmd, ok := commands[c.Name]
	switch {
	case !ok, c.UID && cmd.form == plain:
		return s.unknown(c)
	case cmd.in&s.state() == 0:
		return bad(cmd.in.only())
	case s.enabled.uidonly && !c.UID && cmd.form != plain && c.Name != "EXPUNGE" && c.Name != "ESEARCH":
		return &refusal{bad: true, code: "UIDREQUIRED", text: "Message numbers are off: use UID " + c.Name}
	}
	if s.account != nil && c.Name != "LOGOUT" {
		if err := s.learnRights(ctx); err != nil {
			return err
		}
	}
	return cmd.run(s, ctx, c)
}

// unknown answers a verb that is none.
func (s *session) unknown(c *call) error {
	if s.account == nil {
		for _, verb := range []string{"GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "EHLO", "HELO"} {
			if c.Tag == verb { // a browser, or one that made another program send to us
				s.out.line(c.Tag, " BAD This is IMAP")
				s.out.line("* BYE This is IMAP")
				return errWrongProtocol
			}
		}
	}
	for name := range commands {
		if wire.OneOff(c.Name, name) {
			return &refusal{bad: true, text: "Unknown command, did you mean " + name + "?"}
		}
	}
	return &refusal{bad: true, text: "Unknown command"}
}

// errWrongProtocol: another protocol is spoken; all was said.
var errWrongProtocol = errors.New("the client speaks another protocol")

// peer describes the connection to the directory.
func (s *session) peer() directory.Peer {
	return directory.Peer{Addr: s.conn.Remote, TLS: s.conn.TLS, Protocol: "imap", Session: s.conn.ID}
}

// name reads a mailbox name.
func (s *session) name(c *call) string { return s.decode(c, c.p.AString("the name of a mailbox")) }

// decode reads modified UTF-7 where the client writes it.
func (s *session) decode(c *call, raw string) string {
	if s.enabled.wide() {
		return raw
	}
	name, err := syntax.DecodeUTF7(raw)
	if err != nil {
		c.p.Fail(refuse("CANNOT", "The name of the mailbox is not in modified UTF-7"))
	}
	return name
}

// fault chooses what the client sees of an error of the store.
func (s *session) fault(ctx context.Context, doing string, err error) error {
	var chosen *refusal
	var full *mailstore.QuotaError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &chosen):
		return chosen
	case errors.Is(err, mailstore.ErrNotFound):
		return refuse("NONEXISTENT", "No such mailbox")
	case errors.Is(err, mailstore.ErrExists):
		return refuse("ALREADYEXISTS", "A mailbox of that name exists already")
	case errors.Is(err, mailstore.ErrName), errors.Is(err, mailstore.ErrFlags):
		return refuse("CANNOT", err.Error()) // these tell only what the client said
	case errors.Is(err, mailstore.ErrLimit):
		return refuse("LIMIT", "That exceeds a limit of this server")
	case errors.As(err, &full) && s.account != nil && full.Account != s.account.ID:
		return refuse("OVERQUOTA", "The account that the mailbox belongs to has no room for that")
	case errors.As(err, &full):
		return overQuota(full)
	case errors.Is(err, mailstore.ErrFull):
		s.log.Warn("no space", "doing", doing, "err", err)
		return refuse("UNAVAILABLE", "The server has no space left, try again later")
	case errors.Is(err, mailstore.ErrDamaged):
		s.log.Error("a stored message is damaged", "doing", doing, "err", err)
		return refuse("CORRUPTION", "A stored message is damaged")
	case ctx.Err() == nil:
		s.log.Error("store failed", "doing", doing, "err", err)
	}
	return refuse("UNAVAILABLE", "That is not possible now, try again later")
}

// overQuota refuses what the account has no room for (RFC 5530 section 3).
func overQuota(full *mailstore.QuotaError) error {
	left := full.Room()
	text := "Your mailboxes are full: delete something first"
	switch messages := full.Quota.Messages; {
	case left > 0 && full.More.Messages > 1:
		text = fmt.Sprintf("Your mailboxes have no room for these %d messages of %d octets: delete something first, or take fewer",
			full.More.Messages, full.More.Storage)
	case left > 0 && full.More.Storage > full.Quota.Storage:
		text = fmt.Sprintf("The message is larger than all that your mailboxes may hold: %d octets", full.Quota.Storage)
	case left > 0:
		text = fmt.Sprintf("Your mailboxes have room for %d octets only: delete something first", left)
	case messages > 0 && full.Usage.Messages >= messages:
		text = fmt.Sprintf("Your mailboxes have all of the %d messages that they may hold: delete something first", messages)
	}
	return refuse("OVERQUOTA", text)
}

// change runs a transaction.
func (s *session) change(ctx context.Context, doing string, fn func(tx *mailstore.Tx) error) error {
	return s.fault(ctx, doing, s.srv.o.Store.Update(ctx, fn))
}

// view runs fn on a snapshot.
func (s *session) view(ctx context.Context, doing string, fn func(v *mailstore.View) error) error {
	return s.fault(ctx, doing, s.srv.o.Store.View(ctx, fn))
}
