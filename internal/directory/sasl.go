package directory

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"

	"postrider/mailstore"
)

const mechSCRAM = "SCRAM-SHA-256"

// maxResponse bounds one response of a client; protocols have lower limits.
const maxResponse = 4096

// Mechanisms lists the SASL mechanisms to advertise to p.
func (d *Directory) Mechanisms(p Peer) []string {
	if !d.PlaintextAllowed(p) {
		return []string{mechSCRAM}
	}
	return []string{mechSCRAM, sasl.Plain, sasl.Login}
}

// SASL starts an exchange of mechanism mech. After the server's Next reports
// done without an error, account returns who logged in. Next fails with the
// errors of Login; an unknown mechanism is ErrMechanism. ctx bounds the whole
// exchange. The exchange is for one goroutine.
func (d *Directory) SASL(ctx context.Context, p Peer, mech string) (srv sasl.Server, account func() mailstore.Account, err error) {
	x := &exchange{d: d, ctx: ctx, peer: p}
	switch {
	case strings.EqualFold(mech, mechSCRAM):
		x.step = x.scramFirst
	case strings.EqualFold(mech, sasl.Plain):
		x.step = x.plain
	case strings.EqualFold(mech, sasl.Login):
		x.step = x.loginName
	default:
		return nil, nil, ErrMechanism
	}
	if !strings.EqualFold(mech, mechSCRAM) && !d.PlaintextAllowed(p) {
		return nil, nil, ErrPlaintext
	}
	return x, func() mailstore.Account { return x.account }, nil
}

// exchange is one SASL exchange. Its state is the step that takes the client's
// next response; nil when the exchange is over.
type exchange struct {
	d    *Directory
	ctx  context.Context // of the exchange: sasl.Server has no room for one
	peer Peer
	step func(response []byte) (challenge []byte, done bool, err error)

	name    string            // LOGIN: the user name
	scram   *scramState       // SCRAM: between its messages
	account mailstore.Account // who logged in; zero before that
}

// Next takes a response of the client; nil stands for no initial response.
func (x *exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	step := x.step
	x.step = nil
	if step == nil || len(response) > maxResponse {
		return nil, false, ErrMalformed
	}
	return step(response)
}

// finish ends the exchange with the outcome of a login.
func (x *exchange) finish(account mailstore.Account, err error) ([]byte, bool, error) {
	if err != nil {
		return nil, false, err
	}
	x.account = account
	return nil, true, nil
}

// plain is RFC 4616.
func (x *exchange) plain(response []byte) ([]byte, bool, error) {
	if response == nil {
		x.step = x.plain
		return []byte{}, false, nil
	}
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 {
		return nil, false, ErrMalformed
	}
	return x.finish(x.d.login(x.ctx, x.peer, string(parts[0]), string(parts[1]), Password(parts[2])))
}

// loginName and loginPassword are the two steps of the LOGIN mechanism
// (draft-murchison-sasl-login).
func (x *exchange) loginName(response []byte) ([]byte, bool, error) {
	if response == nil {
		x.step = x.loginName
		return []byte("Username:"), false, nil
	}
	x.name = string(response)
	x.step = x.loginPassword
	return []byte("Password:"), false, nil
}

func (x *exchange) loginPassword(response []byte) ([]byte, bool, error) {
	return x.finish(x.d.login(x.ctx, x.peer, "", x.name, Password(response)))
}

// scramState is a SCRAM conversation after the client's first message.
type scramState struct {
	conversation *scram.ServerConversation
	who          who
	firstDomain  string
	account      mailstore.Account // ID 0 for nobody
}

// scramFirst takes client-first-message of RFC 5802 section 7.
func (x *exchange) scramFirst(response []byte) ([]byte, bool, error) {
	if response == nil {
		x.step = x.scramFirst
		return []byte{}, false, nil
	}
	s := new(scramState)
	var failed error // of the lookup, as it is
	server, err := scram.SHA256.NewServer(func(name string) (scram.StoredCredentials, error) {
		var stored scram.StoredCredentials
		stored, failed = x.scramLookup(s, name)
		return stored, failed
	})
	if err != nil {
		return nil, false, err
	}
	s.conversation = server.NewConversation()
	challenge, err := s.conversation.Step(string(response))
	switch {
	case failed != nil:
		return nil, false, failed
	case err != nil:
		return nil, false, ErrMalformed
	}
	x.scram = s
	x.step = x.scramFinal
	return []byte(challenge), false, nil
}

// scramLookup finds the verifier of a name, or one for nobody that looks like
// it: the salt is always the same for a name.
func (x *exchange) scramLookup(s *scramState, name string) (stored scram.StoredCredentials, err error) {
	if s.who, s.firstDomain, err = x.d.who(x.ctx, x.peer, name); err != nil {
		return stored, err
	}
	if err := x.d.throttle.wait(x.ctx, s.who); err != nil {
		return stored, err
	}
	if s.account, err = x.d.find(x.ctx, s.who); err != nil {
		return stored, err
	}
	c, err := parseCredentials(s.account.Credentials)
	if err != nil {
		return stored, fmt.Errorf("account %s: %w", s.account.Address, err)
	}
	salt := x.d.salt(s.who, name)
	if s.account.ID != 0 {
		salt = c.SCRAM.Salt
	}
	stored.KeyFactors = scram.KeyFactors{Salt: string(salt), Iters: c.SCRAM.Iterations}
	stored.StoredKey, stored.ServerKey = c.SCRAM.StoredKey, c.SCRAM.ServerKey
	return stored, nil
}

// salt is that of a name that nobody has.
func (d *Directory) salt(w who, name string) []byte {
	if !w.address.IsZero() {
		name = key(w.address)
	}
	h := hmac.New(sha256.New, d.scramKey)
	h.Write([]byte(name))
	return h.Sum(nil)[:saltSize]
}

// scramFinal takes client-final-message.
func (x *exchange) scramFinal(response []byte) ([]byte, bool, error) {
	s := x.scram
	// One at a time, so that each attempt sees the failures of those before.
	select {
	case x.d.scramTurn <- struct{}{}:
	case <-x.ctx.Done():
		return nil, false, x.ctx.Err()
	}
	defer func() { <-x.d.scramTurn }()
	if delay, err := x.d.throttle.delay(s.who); err != nil || delay > 0 {
		return nil, false, ErrTooManyLogins // others failed since the first message
	}
	challenge, err := s.conversation.Step(string(response))
	authzid := s.conversation.AuthzID()
	own := authzid == "" || loginAddress(authzid, s.firstDomain) == s.who.address
	if err != nil || !s.conversation.Valid() || !own || s.account.ID == 0 {
		return nil, false, x.d.reject(x.peer, s.who, s.account)
	}
	x.step = x.scramDone
	return []byte(challenge), false, nil
}

// scramDone takes the client's empty response to server-final-message.
func (x *exchange) scramDone(response []byte) ([]byte, bool, error) {
	if len(response) > 0 {
		return nil, false, ErrMalformed
	}
	return x.finish(x.d.admit(x.peer, x.scram.who, x.scram.account), nil)
}
