package imap

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/emersion/go-sasl"

	"postrider/imap/syntax"
	"postrider/internal/directory"
	"postrider/internal/journey"
	"postrider/mailstore"
)

func (s *session) cmdLogin(ctx context.Context, c *call) error {
	name := c.p.AString("a name")
	c.p.SP()
	password := c.p.AString("a password")
	if err := c.p.End(); err != nil {
		return err
	}
	account, err := s.srv.o.Directory.Login(ctx, s.peer(), name, password)
	if err != nil {
		return s.loginFailed(err)
	}
	s.loggedIn(c, account)
	return nil
}

func (s *session) loggedIn(c *call, account mailstore.Account) {
	s.account = &account
	s.errors = 0
	s.in.opened = time.Time{}
	s.r.SetKnown(true)
	s.conn.SetAuthenticated()
	s.record(journey.SessionLogin, journey.Attr{Key: "login", Value: account.Address}, journey.Attr{Key: "verdict", Value: "is right"})
	count(s.srv.o.Metrics.Logins, 1)
	s.log.Info("logged in", "account", account.Address)
	c.code, c.text = "CAPABILITY "+s.capabilities(), "Logged in"
}

// loginFailed chooses what the client sees (RFC 5530 section 3).
func (s *session) loginFailed(err error) error {
	switch {
	case errors.Is(err, directory.ErrCredentials):
		if s.failed++; s.failed >= maxFailedLogins {
			s.over, s.bye = true, "Too many failed logins"
		}
		return refuse("AUTHENTICATIONFAILED", "Wrong name or password")
	case errors.Is(err, directory.ErrPlaintext):
		return refuse("PRIVACYREQUIRED", "Passwords need TLS here")
	case errors.Is(err, directory.ErrTooManyLogins):
		return refuse("UNAVAILABLE", "Too many failed logins, try again in a minute")
	case errors.Is(err, directory.ErrBusy):
		return refuse("UNAVAILABLE", "Too many logins at once, try again in a moment")
	case errors.Is(err, directory.ErrMechanism):
		return refuse("CANNOT", "No such mechanism here")
	}
	s.log.Error("login failed for a reason of ours", "err", err)
	return refuse("UNAVAILABLE", "Login is not possible now, try again later")
}

// errCancelled: the client gave AUTHENTICATE up.
var errCancelled = errors.New("AUTHENTICATE cancelled")

// cmdAuthenticate is AUTHENTICATE mechanism [initial-response] (RFC 9051 section
// 6.2.2).
func (s *session) cmdAuthenticate(ctx context.Context, c *call) error {
	mechanism := c.p.Keyword("a SASL mechanism")
	var initial []byte
	if c.p.More() {
		encoded := c.p.AString("an initial response")
		var err error
		if initial, err = decode64([]byte(encoded)); err != nil {
			return bad("The initial response is not base64")
		}
	}
	if err := c.p.End(); err != nil {
		return err
	}
	server, account, err := s.srv.o.Directory.SASL(ctx, s.peer(), mechanism)
	if err != nil {
		return s.loginFailed(err)
	}
	err = s.exchange(server, initial)
	switch {
	case errors.Is(err, errCancelled):
		return &refusal{bad: true, text: errCancelled.Error()}
	case errors.Is(err, errTransport):
		return errors.Unwrap(err)
	case err != nil:
		var no *refusal
		if errors.As(err, &no) {
			return no
		}
		return s.loginFailed(err)
	}
	s.loggedIn(c, account())
	return nil
}

// errTransport marks an error of the connection, within an exchange.
var errTransport = errors.New("connection lost")

type transportError struct{ error }

func (e transportError) Unwrap() error        { return e.error }
func (e transportError) Is(target error) bool { return target == errTransport }

// exchange speaks SASL until the mechanism is content. Data that come with
// success have no other place than one more continuation.
func (s *session) exchange(server sasl.Server, response []byte) error {
	for {
		challenge, done, err := server.Next(response)
		if err != nil {
			return err
		}
		if done && len(challenge) == 0 {
			return nil
		}
		if response, err = s.ask(challenge); err != nil {
			return err
		}
		if done {
			return nil
		}
	}
}

// ask sends a challenge and reads the response.
func (s *session) ask(challenge []byte) ([]byte, error) {
	s.out.line("+ ", base64.StdEncoding.EncodeToString(challenge))
	s.in.expect()
	line, err := s.r.Line()
	s.recordSecret()
	switch {
	case errors.Is(err, syntax.ErrBareLF):
		return nil, errBareLF()
	case err != nil:
		return nil, transportError{err}
	case string(line) == "*":
		return nil, errCancelled
	}
	response, err := decode64(line)
	if err != nil {
		return nil, bad("The response is not base64")
	}
	return response, nil
}

// decode64 reads base64; "=" stands for nothing (RFC 4959 section 3). What it
// returns is not nil.
func decode64(b []byte) ([]byte, error) {
	if string(b) == "=" || len(b) == 0 {
		return []byte{}, nil
	}
	p := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	n, err := base64.StdEncoding.Decode(p, b)
	return p[:n], err
}

func (s *session) canStartTLS() bool { return s.srv.o.TLS != nil && s.conn.TLS == nil }

// cmdStartTLS is STARTTLS (RFC 9051 section 6.2.1). Nothing that came before the
// handshake may be taken for what came after it.
func (s *session) cmdStartTLS(ctx context.Context, c *call) error {
	if err := c.p.End(); err != nil {
		return err
	}
	if !s.canStartTLS() {
		return &refusal{bad: true, text: "STARTTLS is not available"}
	}
	if s.r.Buffered() > 0 {
		s.over = true
		return bad("Nothing may follow STARTTLS before the handshake")
	}
	c.text = "Begin TLS negotiation now"
	c.after = func() error {
		if err := s.out.flush(); err != nil {
			return err
		}
		if err := s.conn.StartTLS(ctx, s.srv.o.TLS); err != nil {
			return fmt.Errorf("TLS handshake failed: %w", err)
		}
		s.recordTLS()
		s.r.Reset(s.in)
		return nil
	}
	return nil
}

// cmdUnauthenticate returns to the state before login (RFC 8437).
func (s *session) cmdUnauthenticate(_ context.Context, c *call) error {
	if err := c.p.End(); err != nil {
		return err
	}
	if s.out.zip != nil {
		return refuse("CANNOT", "UNAUTHENTICATE is not possible after COMPRESS")
	}
	s.endNotify()
	s.forgetNotes()
	s.box, s.account, s.enabled, s.others = nil, nil, enabled{}, others{}
	s.in.opened = s.srv.o.Clock.Now()
	s.r.SetKnown(false)
	return nil
}

// cmdID is ID (RFC 2971). What the client says of itself is for the log.
func (s *session) cmdID(_ context.Context, c *call) error {
	fields := c.p.ID()
	if err := c.p.End(); err != nil {
		return err
	}
	if len(fields) > 0 {
		args := make([]any, 0, len(fields))
		for i := 0; i < len(fields); i += 2 {
			args = append(args, "client_"+fields[i], fields[i+1])
		}
		s.log.Debug("client says who it is", args...)
		s.noteClient(fields)
	}
	s.out.line(`* ID ("name" "postrider")`)
	return nil
}
