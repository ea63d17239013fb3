package pop3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"postrider/internal/directory"
	"postrider/internal/wire"
)

// session is one connection. Its state is in two values: without a drop it is
// in AUTHORIZATION, with one in TRANSACTION. UPDATE lasts as long as the method
// quit, which takes the drop away.
type session struct {
	srv  *Server
	conn *wire.Conn
	in   *input
	out  *output
	line *wire.Reader
	log  *slog.Logger

	user   string    // argument of USER; "" before it and after PASS
	drop   *maildrop // nil before login
	utf8   bool      // the client has said UTF8
	errors int       // refusals that count
	over   bool      // close after this reply

	verb     string // of the last command, and
	recorded int    // lines of its reply, while someone listens

	retrieved int   // messages, for the log
	sent      int64 // their octets
}

// refusal is an -ERR reply.
type refusal struct {
	code string // response code without brackets: "AUTH", "IN-USE", "LOGIN-DELAY", "SYS/TEMP", "SYS/PERM", "UTF8"; "" for none
	text string
	// blameless: a well-behaved client may get it, so that it does not count
	// toward maxErrors.
	blameless bool
}

func (r *refusal) Error() string {
	if r.code == "" {
		return r.text
	}
	return "[" + r.code + "] " + r.text
}

// refuse makes the refusal of a command that the client should not have sent.
func refuse(format string, args ...any) error {
	return &refusal{text: fmt.Sprintf(format, args...)}
}

// unable makes the refusal of a command that met a failure of ours.
func unable(text string) error {
	return &refusal{code: "SYS/TEMP", text: text, blameless: true}
}

// state is a set of the states in which a command is valid.
type state int

const (
	authorization state = 1 << iota
	transaction
)

type command struct {
	in   state
	bare bool // takes no argument
	run  func(s *session, ctx context.Context, arg string) error
}

var commands = map[string]command{
	"USER": {authorization, false, (*session).cmdUser},
	"PASS": {authorization, false, (*session).cmdPass},
	"AUTH": {authorization, false, (*session).cmdAuth},
	"APOP": {authorization, false, (*session).cmdApop},
	"STLS": {authorization, true, (*session).cmdStls},
	"UTF8": {authorization, true, (*session).cmdUTF8},
	"LANG": {authorization | transaction, false, (*session).cmdLang},
	"STAT": {transaction, true, (*session).cmdStat},
	"LIST": {transaction, false, (*session).cmdList},
	"UIDL": {transaction, false, (*session).cmdUidl},
	"RETR": {transaction, false, (*session).cmdRetr},
	"TOP":  {transaction, false, (*session).cmdTop},
	"DELE": {transaction, false, (*session).cmdDele},
	"RSET": {transaction, true, (*session).cmdRset},
	"NOOP": {transaction, true, (*session).cmdNoop},
	"CAPA": {authorization | transaction, true, (*session).cmdCapa},
	"QUIT": {authorization | transaction, true, (*session).cmdQuit},
}

// serve is the handler of one connection.
func (s *Server) serve(ctx context.Context, conn *wire.Conn, draining <-chan struct{}) {
	out := &output{srv: s, conn: conn}
	in := &input{conn: conn, out: out, clock: s.clock, crowded: s.crowded, draining: draining, opened: s.clock.Now()}
	log := conn.Log
	if log == nil {
		log = s.log
	}
	c := &session{srv: s, conn: conn, in: in, out: out, line: wire.NewReader(in), log: log}
	out.said = c
	c.recordBegin()
	defer c.leave()
	err := c.run(ctx)
	if errors.Is(err, errDraining) {
		// The answer to whatever the client sends next.
		out.line("-ERR [SYS/TEMP] the server is shutting down, try again in a minute")
	}
	c.report(errors.Join(err, out.flush()))
}

// leave drops what the session holds, whatever its state.
func (s *session) leave() {
	if s.drop != nil {
		s.srv.unlock(s.drop.account.ID)
		s.drop = nil
	}
}

// report logs how the session ended.
func (s *session) report(err error) {
	reason := "quit"
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		reason = "client left"
	case err != nil:
		reason = err.Error()
	case s.errors >= maxErrors:
		reason = "too many errors"
	}
	s.recordEnd(reason)
	s.log.Info("session ended", "reason", reason, "retrieved", s.retrieved, "octets", s.sent)
}

// run reads commands and answers them until the session is over.
func (s *session) run(ctx context.Context) error {
	s.out.line("+OK POP3 server ready")
	for !s.over {
		line, err := s.readLine(maxAuthLine)
		var no *refusal
		if err == nil {
			s.recordLine(line, false)
			err = s.dispatch(ctx, line)
		}
		if errors.As(err, &no) {
			s.refused(no)
			err = s.out.err
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refused answers a command that failed.
func (s *session) refused(no *refusal) {
	if !no.blameless {
		s.errors++
	}
	if s.errors < maxErrors {
		s.out.line("-ERR ", no.Error())
		return
	}
	s.over = true
	s.out.line("-ERR ", no.Error(), "; too many errors, closing")
}

// readLine reads one line. A line that breaks the rules of framing is a refusal.
func (s *session) readLine(limit int) (string, error) {
	s.in.nextLine()
	line, err := s.line.ReadLine(limit)
	switch {
	case errors.Is(err, wire.ErrLineTooLong):
		return "", refuse("line too long, %d octets are the limit", maxLine)
	case errors.Is(err, wire.ErrBareLF):
		return "", refuse("a line ends in CR LF; yours had a bare CR or LF (with nc, use nc -C)")
	case err != nil:
		return "", err
	}
	return string(line), nil
}

// dispatch runs one command.
func (s *session) dispatch(ctx context.Context, line string) error {
	verb, arg, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	cmd, ok := commands[verb]
	switch {
	case len(line)+2 > maxLine && verb != "AUTH":
		return refuse("line too long, %d octets are the limit", maxLine)
	case !ok:
		return s.unknown(verb)
	case !printable(arg):
		return refuse("control characters in the argument of %s", verb)
	case cmd.bare && strings.TrimSpace(arg) != "":
		return refuse("%s takes no argument", verb)
	case s.drop == nil && cmd.in&authorization == 0:
		return refuse("%s needs a login first: %s", verb, s.ways())
	case s.drop != nil && cmd.in&transaction == 0:
		return refuse("%s comes before the login, and you are logged in", verb)
	}
	return cmd.run(s, ctx, arg)
}

// printable tells whether an argument is free of control characters. Octets
// beyond ASCII pass: names and passwords may have them.
func printable(arg string) bool {
	return strings.IndexFunc(arg, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0
}

// unknown answers a verb that is none, with a guess at what was meant.
func (s *session) unknown(verb string) error {
	if verb == "" {
		return refuse("a command is missing at the beginning of the line")
	}
	for _, name := range []string{"USER", "PASS", "STAT", "LIST", "RETR", "DELE", "QUIT", "NOOP", "RSET",
		"TOP", "UIDL", "CAPA", "AUTH", "STLS", "APOP", "UTF8", "LANG"} {
		if wire.OneOff(verb, name) {
			return refuse("unknown command, did you mean %s?", name)
		}
	}
	switch verb {
	case "HELO", "EHLO", "MAIL", "RCPT", "DATA":
		return refuse("this is POP3, which reads mail; to send it, speak to the SMTP port")
	case "GET", "POST", "HEAD":
		s.over = true
		return refuse("this is POP3, not HTTP")
	}
	if s.drop == nil {
		return refuse("unknown command; log in with %s", s.ways())
	}
	return refuse("unknown command; there are STAT, LIST, RETR, TOP, UIDL, DELE, RSET, NOOP, CAPA and QUIT")
}

// peer describes the connection to the directory.
func (s *session) peer() directory.Peer {
	return directory.Peer{Addr: s.conn.Remote, TLS: s.conn.TLS, Protocol: "pop3", Session: s.conn.ID}
}
