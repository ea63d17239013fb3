package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-sasl"

	"postrider/internal/directory"
	"postrider/mailstore"
)

// session is what imapserver asks. Its methods are called by the goroutine of
// the connection, and Idle beside it.
type session struct {
	srv    *Server
	ctx    context.Context // of the connection: the engine's interface has no room for one
	conn   *conn
	engine *imapserver.Conn
	log    *slog.Logger

	mu      sync.Mutex
	account *mailstore.Account // nil before login
	box     *selection         // nil when no mailbox is selected
	failed  int                // logins
}

var (
	_ imapserver.SessionIMAP4rev2      = (*session)(nil)
	_ imapserver.SessionSASL           = (*session)(nil)
	_ imapserver.SessionAppendLimit    = (*session)(nil)
	_ imapserver.SessionUnauthenticate = (*session)(nil)
)

// begin opens a command; the function that it returns ends it.
func (s *session) begin() func() {
	s.mu.Lock()
	s.conn.working.Store(true)
	return func() {
		s.conn.working.Store(false)
		s.mu.Unlock()
	}
}

// Close ends the session.
func (s *session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.box = nil
	if s.account != nil {
		s.log.Info("session ended", "account", s.account.Address)
	}
	s.conn.parts.Done()
	return nil
}

// peer is who is at the other end.
func (s *session) peer() directory.Peer {
	p := directory.Peer{Addr: s.conn.Remote, TLS: s.conn.TLS, Protocol: "imap", Session: s.conn.ID}
	if s.engine != nil {
		if t, ok := s.engine.NetConn().(*tls.Conn); ok { // after STARTTLS
			state := t.ConnectionState()
			p.TLS = &state
		}
	}
	return p
}

// Login is the command LOGIN.
func (s *session) Login(name, password string) error {
	defer s.begin()()
	account, err := s.srv.o.Directory.Login(s.ctx, s.peer(), name, password)
	if err != nil {
		return s.loginFailed(err)
	}
	s.loggedIn(account)
	return nil
}

func (s *session) loggedIn(account mailstore.Account) {
	s.account = &account
	s.conn.known.Store(true)
	s.conn.SetAuthenticated()
	count(s.srv.o.Metrics.Logins, 1)
	s.log.Info("logged in", "account", account.Address)
}

// loginFailed chooses what the client sees (RFC 5530 section 3).
func (s *session) loginFailed(err error) error {
	switch {
	case errors.Is(err, directory.ErrCredentials):
		if s.failed++; s.failed >= maxFailedLogins {
			words := "Too many failed logins"
			s.conn.farewell.Store(&words)
		}
		return refuse(imap.ResponseCodeAuthenticationFailed, "Wrong name or password")
	case errors.Is(err, directory.ErrPlaintext):
		return refuse(imap.ResponseCodePrivacyRequired, "Passwords need TLS here")
	case errors.Is(err, directory.ErrTooManyLogins):
		return refuse(imap.ResponseCodeUnavailable, "Too many failed logins, try again in a minute")
	case errors.Is(err, directory.ErrBusy):
		return refuse(imap.ResponseCodeUnavailable, "Too many logins at once, try again in a moment")
	case errors.Is(err, directory.ErrMechanism):
		return refuse(imap.ResponseCodeCannot, "No such mechanism here")
	}
	s.log.Error("login failed for a reason of ours", "err", err)
	return refuse(imap.ResponseCodeUnavailable, "Login is not possible now, try again later")
}

// AuthenticateMechanisms lists the SASL mechanisms.
func (s *session) AuthenticateMechanisms() []string {
	return s.srv.o.Directory.Mechanisms(s.peer())
}

// Authenticate begins AUTHENTICATE.
func (s *session) Authenticate(mech string) (sasl.Server, error) {
	defer s.begin()()
	srv, account, err := s.srv.o.Directory.SASL(s.ctx, s.peer(), mech)
	if err != nil {
		return nil, s.loginFailed(err)
	}
	s.conn.authing.Store(true)
	return &exchange{s: s, server: srv, account: account}, nil
}

// exchange is one SASL exchange as imapserver runs it.
type exchange struct {
	s       *session
	server  sasl.Server
	account func() mailstore.Account
	last    bool // the server's last data was sent
}

func (x *exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	defer x.s.begin()()
	if !x.last {
		challenge, done, err = x.server.Next(response)
	}
	switch {
	case err != nil:
		x.s.conn.authing.Store(false)
		return nil, false, x.s.loginFailed(err)
	case done && len(challenge) > 0:
		// The engine drops data that come with success; IMAP has no other place
		// for them than one more continuation (RFC 9051 section 6.2.2).
		x.last = true
		return challenge, false, nil
	case done || x.last:
		x.s.conn.authing.Store(false)
		x.s.loggedIn(x.account())
		return nil, true, nil
	case len(challenge) == 0:
		return nil, false, nil // the engine would write an empty one as "="
	}
	return challenge, false, nil
}

// Unauthenticate returns to the state before login (RFC 8437).
func (s *session) Unauthenticate() error {
	defer s.begin()()
	s.box, s.account = nil, nil
	s.conn.known.Store(false)
	return nil
}

// AppendLimit is the largest message that APPEND takes (RFC 7889).
func (s *session) AppendLimit() uint32 { return s.srv.maxSize.Load() }

// Namespace says that all mailboxes are one's own (RFC 2342).
func (s *session) Namespace() (*imap.NamespaceData, error) {
	return &imap.NamespaceData{Personal: []imap.NamespaceDescriptor{{Delim: '/'}}}, nil
}

// refuse makes a NO.
func refuse(code imap.ResponseCode, text string) error {
	return &imap.Error{Type: imap.StatusResponseTypeNo, Code: code, Text: text}
}

// bad makes a BAD: the client should not have asked.
func bad(text string) error {
	return &imap.Error{Type: imap.StatusResponseTypeBad, Code: imap.ResponseCodeClientBug, Text: text}
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
	return refuse(imap.ResponseCodeOverQuota, text)
}

// fault chooses what the client sees of an error of the store.
func (s *session) fault(doing string, err error) error {
	var chosen *imap.Error
	var full *mailstore.QuotaError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &chosen):
		return chosen
	case errors.Is(err, mailstore.ErrNotFound):
		return refuse(imap.ResponseCodeNonExistent, "No such mailbox")
	case errors.Is(err, mailstore.ErrExists):
		return refuse(imap.ResponseCodeAlreadyExists, "A mailbox of that name exists already")
	case errors.Is(err, mailstore.ErrName), errors.Is(err, mailstore.ErrFlags):
		return refuse(imap.ResponseCodeCannot, err.Error()) // these tell only what the client said
	case errors.Is(err, mailstore.ErrLimit):
		return refuse(imap.ResponseCodeLimit, "That exceeds a limit of this server")
	case errors.As(err, &full):
		return overQuota(full)
	case errors.Is(err, mailstore.ErrFull):
		s.log.Warn("no space", "doing", doing, "err", err)
		return refuse(imap.ResponseCodeUnavailable, "The server has no space left, try again later")
	case errors.Is(err, mailstore.ErrDamaged):
		s.log.Error("a stored message is damaged", "doing", doing, "err", err)
		return refuse(imap.ResponseCodeCorruption, "A stored message is damaged")
	case s.ctx.Err() == nil:
		s.log.Error("store failed", "doing", doing, "err", err)
	}
	return refuse(imap.ResponseCodeUnavailable, "That is not possible now, try again later")
}
