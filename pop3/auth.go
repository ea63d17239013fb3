package pop3

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"postrider/internal/directory"
	"postrider/mailstore"
)

// ways names the commands that log in here.
func (s *session) ways() string {
	switch {
	case s.srv.directory.PlaintextAllowed(s.peer()):
		return "USER and PASS, or AUTH"
	case s.canStls():
		return "STLS first, then USER and PASS"
	}
	return "AUTH"
}

// canStls tells whether STLS would be accepted.
func (s *session) canStls() bool {
	return s.srv.tls != nil && s.drop == nil && s.peer().TLS == nil
}

func (s *session) cmdUser(_ context.Context, arg string) error {
	name := strings.TrimSpace(arg)
	switch {
	case name == "":
		return refuse("the name is missing: USER name")
	case !s.srv.directory.PlaintextAllowed(s.peer()):
		// Without a response code: RFC 3206 section 5 advises against [AUTH] here.
		return refuse("passwords need TLS here: %s", s.protection())
	}
	if err := plainText("name", name); err != nil {
		return err
	}
	s.user = name
	s.out.line("+OK")
	return nil
}

// protection says how to get TLS.
func (s *session) protection() string {
	if s.canStls() {
		return "send STLS first"
	}
	return "use the POP3S port"
}

func (s *session) cmdPass(ctx context.Context, arg string) error {
	name := s.user
	s.user = ""
	switch {
	case name == "":
		return refuse("PASS comes after USER name")
	case arg == "":
		return refuse("the password is missing: PASS password")
	}
	if err := plainText("password", arg); err != nil {
		return err
	}
	// All of arg is the password, spaces too (RFC 1939 section 7).
	account, err := s.srv.directory.Login(ctx, s.peer(), name, arg)
	if err != nil {
		return s.loginFailed(err)
	}
	return s.login(ctx, account)
}

func (s *session) cmdApop(context.Context, string) error {
	return refuse("APOP would need the passwords in clear in the store, which has none: use %s", s.ways())
}

// loginFailed chooses what the client sees of a failed login.
func (s *session) loginFailed(err error) error {
	switch {
	case errors.Is(err, directory.ErrCredentials):
		return &refusal{code: "AUTH", text: "wrong name or password"}
	case errors.Is(err, directory.ErrPlaintext):
		return &refusal{code: "AUTH", text: "passwords need TLS here: " + s.protection()}
	case errors.Is(err, directory.ErrTooManyLogins):
		return &refusal{code: "SYS/TEMP", text: "too many failed logins, try again in a minute"}
	case errors.Is(err, directory.ErrBusy):
		return unable("too many logins at once, try again in a moment")
	}
	s.log.Error("login failed for a reason of ours", "err", err)
	return unable("login is not possible now, try again later")
}

// login enters the TRANSACTION state.
func (s *session) login(ctx context.Context, account mailstore.Account) error {
	if wait := s.srv.soon(account.ID); wait > 0 {
		return &refusal{code: "LOGIN-DELAY", text: fmt.Sprintf("one login in %d seconds, the next in %d",
			s.srv.policy.LoginDelay/time.Second, (wait+time.Second-1)/time.Second)}
	}
	if !s.srv.lock(account.ID) {
		return &refusal{code: "IN-USE", text: "another session has this maildrop open, try again when it has ended", blameless: true}
	}
	drop, err := s.srv.drops.open(ctx, account)
	if err != nil {
		s.srv.unlock(account.ID)
		s.log.Error("maildrop cannot be opened", "account", account.Address, "err", err)
		if errors.Is(err, mailstore.ErrNotFound) {
			return &refusal{code: "SYS/PERM", text: "this account has no INBOX, ask your postmaster", blameless: true}
		}
		return unable("the maildrop cannot be opened now, try again later")
	}
	s.srv.loggedIn(account.ID)
	s.drop, s.user = drop, ""
	s.in.opened = time.Time{}
	s.conn.SetAuthenticated()
	s.recordLogin(account)
	count(s.srv.metrics.Logins, 1)
	s.log.Info("logged in", "account", account.Address, "messages", drop.count, "octets", drop.octets)
	s.out.line("+OK user successfully logged on, ", drop.summary())
	return nil
}

// summary is "2 messages (1410 octets)".
func (d *maildrop) summary() string {
	return fmt.Sprintf("%s (%d octets)", messages(d.count), d.octets)
}

func messages(n int) string {
	if n == 1 {
		return "1 message"
	}
	return fmt.Sprintf("%d messages", n)
}

// cmdAuth is AUTH mechanism [initial-response] (RFC 5034 section 4). Alone it
// lists the mechanisms, as clients older than CAPA expect.
func (s *session) cmdAuth(ctx context.Context, arg string) error {
	fields := strings.Fields(arg)
	switch len(fields) {
	case 0:
		s.out.line("+OK list of mechanisms follows")
		for _, mech := range s.srv.directory.Mechanisms(s.peer()) {
			s.out.line(mech)
		}
		s.out.line(".")
		return nil
	case 1, 2:
	default:
		return refuse("AUTH takes a mechanism and at most one response")
	}
	var response []byte // nil: the client has not spoken
	if len(fields) == 2 {
		var err error
		if response, err = decodeInitial(fields[1]); err != nil {
			return err
		}
	}
	account, err := s.exchange(ctx, strings.ToUpper(fields[0]), response)
	if err != nil {
		return err
	}
	return s.login(ctx, account)
}

func decodeInitial(text string) ([]byte, error) {
	if text == "=" {
		return []byte{}, nil
	}
	return decode(text)
}

// decode reads base64 in the strict form of RFC 5034 section 4.
func decode(text string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, refuse("that is not base64")
	}
	return b, nil
}

// exchange is a SASL exchange from the choice of the mechanism to its outcome.
func (s *session) exchange(ctx context.Context, mech string, response []byte) (mailstore.Account, error) {
	none := mailstore.Account{}
	peer := s.peer()
	server, account, err := s.srv.directory.SASL(ctx, peer, mech)
	if errors.Is(err, directory.ErrMechanism) {
		return none, refuse("no such mechanism on this connection; there is %s",
			strings.Join(s.srv.directory.Mechanisms(peer), ", "))
	}
	if err != nil {
		return none, s.loginFailed(err)
	}
	for {
		challenge, done, err := server.Next(response)
		if err != nil {
			return none, s.loginFailed(err)
		}
		if done && len(challenge) == 0 {
			return account(), nil
		}
		// A success reply cannot carry data: what the server has to say at the
		// end goes as a challenge with an empty response (RFC 5034 section 4).
		s.out.line("+ ", base64.StdEncoding.EncodeToString(challenge))
		if response, err = s.response(); err != nil {
			return none, err
		}
		if done {
			if len(response) > 0 {
				return none, refuse("an empty response was due")
			}
			return account(), nil
		}
	}
}

// response reads the client's answer to a challenge.
func (s *session) response() ([]byte, error) {
	line, err := s.readLine(maxAuthLine)
	if err != nil {
		return nil, err
	}
	s.recordLine(line, true)
	if line == "*" {
		return nil, refuse("authentication cancelled")
	}
	return decode(line)
}

func (s *session) cmdStls(ctx context.Context, _ string) error {
	switch {
	case s.srv.tls == nil:
		return refuse("TLS is not configured here")
	case s.peer().TLS != nil:
		return refuse("TLS is active already")
	case s.utf8:
		return refuse("STLS comes before UTF8") // RFC 6856 section 2.1
	case s.line.Buffered() > 0:
		// Whoever sent it may not be who will shake hands (RFC 2595 section 4).
		s.over = true
		return refuse("nothing may follow STLS before TLS begins; closing")
	}
	s.out.line("+OK begin TLS negotiation now")
	if err := s.out.flush(); err != nil {
		return err
	}
	if err := s.conn.StartTLS(ctx, s.srv.tls); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	s.recordTLS()
	s.line.Reset(s.in)
	s.user = ""
	return nil
}

// cmdCapa lists what RFC 2449 section 6 and its successors define.
func (s *session) cmdCapa(context.Context, string) error {
	peer := s.peer()
	s.out.line("+OK capabilities of ", s.srv.hostname, " follow")
	s.out.line("TOP")
	s.out.line("UIDL")
	if s.srv.directory.PlaintextAllowed(peer) {
		s.out.line("USER")
	}
	if mechs := s.srv.directory.Mechanisms(peer); len(mechs) > 0 {
		s.out.line("SASL ", strings.Join(mechs, " "))
	}
	if s.canStls() {
		s.out.line("STLS")
	}
	s.out.line("PIPELINING")
	s.out.line("RESP-CODES")
	s.out.line("AUTH-RESP-CODE")
	if delay := s.srv.policy.LoginDelay; delay > 0 {
		s.out.line("LOGIN-DELAY ", strconv.FormatInt(int64(delay/time.Second), 10))
	}
	if s.srv.policy.Expires {
		s.out.line("EXPIRE ", strconv.Itoa(s.srv.policy.ExpireDays))
	} else {
		s.out.line("EXPIRE NEVER")
	}
	s.out.line("UTF8 USER")
	s.out.line("LANG")
	s.out.line("IMPLEMENTATION postrider")
	s.out.line(".")
	return nil
}
