package smtpd

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/emersion/go-sasl"

	"postrider/internal/directory"
	"postrider/internal/journey"
	"postrider/internal/wire"
	"postrider/mta"
)

// offersAuth tells whether this service has AUTH at all.
func (s *session) offersAuth() bool {
	o := &s.srv.o
	return o.Directory != nil && !o.Ours && (o.Mode == Submission || o.Mode == MX && o.RequireAuth)
}

// auth is AUTH (RFC 4954 section 4).
func (s *session) auth(ctx context.Context, arg string) *mta.Reply {
	mechanism, initial := cutWord(arg)
	switch {
	case !s.offersAuth():
		return newReply(502, "5.5.1", "AUTH is not offered here, but on the submission ports (587, 465)")
	case s.hello == nil || !s.hello.extended:
		return newReply(503, "5.5.1", "Say EHLO first")
	case s.login != nil:
		return newReply(503, "5.5.1", "You have logged in already")
	case s.txn != nil:
		return newReply(503, "5.5.1", "AUTH comes before MAIL")
	case mechanism == "":
		return newReply(501, "5.5.4", "AUTH needs a mechanism, as in AUTH PLAIN")
	case strings.Contains(initial, " "):
		return newReply(501, "5.5.4", "AUTH has at most two arguments")
	}
	mechanism = strings.ToUpper(mechanism)
	server, account, err := s.srv.o.Directory.SASL(ctx, s.peer(), mechanism)
	if err != nil {
		return s.authFailure(err)
	}
	if r := s.exchange(server, initial); r != nil {
		s.recordLogin("", mechanism, r)
		return r
	}
	who := account()
	s.login = &who
	s.conn.SetAuthenticated()
	count(s.srv.o.Metrics.Logins)
	s.log.Debug("logged in", "account", who.Address, "remote", s.conn.Peer(), "mechanism", mechanism)
	s.recordLogin(who.Address, mechanism, nil)
	return newReply(235, "2.7.0", "Authentication succeeded")
}

// exchange carries challenges and responses between the client and server; nil
// means that the client has logged in.
func (s *session) exchange(server sasl.Server, initial string) *mta.Reply {
	response, r := initialResponse(initial)
	if r != nil {
		return r
	}
	for {
		challenge, done, err := server.Next(response)
		switch {
		case err != nil:
			return s.authFailure(err)
		case done && len(challenge) == 0:
			return nil
		}
		if response, r = s.challenge(challenge); r != nil {
			return r
		}
		if done {
			if len(response) > 0 {
				return newReply(501, "5.5.2", "The last response must be empty")
			}
			return nil
		}
	}
}

// initialResponse decodes the second argument of AUTH; nil without one, and
// "=" for one that is empty.
func initialResponse(s string) ([]byte, *mta.Reply) {
	switch s {
	case "":
		return nil, nil
	case "=":
		return []byte{}, nil
	}
	return decodeResponse([]byte(s))
}

func decodeResponse(line []byte) ([]byte, *mta.Reply) {
	b, err := base64.StdEncoding.AppendDecode(make([]byte, 0, len(line)), line)
	if err != nil {
		return nil, newReply(501, "5.5.2", "That is not valid base64")
	}
	return b, nil
}

// challenge sends one and returns the client's response.
func (s *session) challenge(challenge []byte) ([]byte, *mta.Reply) {
	s.out = append(s.out, "334 "...)
	s.out = base64.StdEncoding.AppendEncode(s.out, challenge)
	s.out = append(s.out, "\r\n"...)
	if len(challenge) > 0 {
		s.recordReply([]byte("334 " + journey.MaskedLine))
	} else {
		s.recordReply([]byte("334 "))
	}
	line, err := s.readLine(maxAuthLine)
	s.recordLine(line, true)
	switch {
	case errors.Is(err, wire.ErrLineTooLong):
		return nil, newReply(500, "5.5.6", "The line is too long for an authentication exchange")
	case err != nil:
		if r := s.explain(line, err); r != nil {
			return nil, r
		}
		return nil, closing(421, "4.4.2", s.srv.o.Hostname+" Connection lost")
	case string(line) == "*":
		return nil, newReply(501, "5.7.0", "Authentication cancelled")
	}
	return decodeResponse(line)
}

// authFailure is the reply to a login that failed.
func (s *session) authFailure(err error) *mta.Reply {
	switch {
	case errors.Is(err, directory.ErrMechanism):
		return newReply(504, "5.5.4", "This mechanism is not offered here")
	case errors.Is(err, directory.ErrPlaintext):
		return newReply(538, "5.7.11", "Passwords need TLS here: say STARTTLS first")
	case errors.Is(err, directory.ErrTooManyLogins):
		return newReply(454, "4.7.0", "Too many failed logins, please wait a minute")
	case errors.Is(err, directory.ErrBusy):
		return newReply(454, "4.7.0", "Too many logins at once, please try again")
	case errors.Is(err, directory.ErrMalformed), errors.Is(err, sasl.ErrUnexpectedClientResponse):
		return newReply(501, "5.5.2", "The response does not fit the mechanism")
	case errors.Is(err, directory.ErrCredentials):
		return s.wrongPassword()
	}
	s.log.Error("cannot check a login", "err", err)
	return newReply(454, "4.7.0", "Temporary authentication failure")
}

func (s *session) wrongPassword() *mta.Reply {
	count(s.srv.o.Metrics.FailedLogins)
	if s.authErrors++; s.authErrors >= maxAuthErrors {
		return closing(421, "4.7.0", s.srv.o.Hostname+" Too many failed logins, closing connection")
	}
	return newReply(535, "5.7.8", "Wrong name or password")
}
