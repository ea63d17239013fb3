package directory

import (
	"bytes"
	"context"
	"strings"

	"github.com/emersion/go-sasl"

	"postrider/mailstore"
)

// maxResponse bounds one response of a client; protocols have lower limits.
const maxResponse = 9216

// Mechanisms lists the SASL mechanisms to advertise to p, the stronger first.
func (d *Directory) Mechanisms(p Peer) []string {
	var list []string
	// Only to the one who can use it: clients that see it may try nothing else.
	if account, err := d.certified(context.Background(), p); err == nil && account.ID != 0 {
		list = append(list, mechExternal)
	}
	if len(d.bindings(p)) > 0 {
		for _, h := range scramHashes {
			list = append(list, h.name+plus)
		}
	}
	for _, h := range scramHashes {
		list = append(list, h.name)
	}
	if d.tokens != nil && p.TLS != nil {
		list = append(list, mechOAuth, mechXOAuth2)
	}
	if d.PlaintextAllowed(p) {
		list = append(list, sasl.Plain, sasl.Login)
	}
	return list
}

// SASL starts an exchange of mechanism mech. After the server's Next reports
// done without an error, account returns who logged in. Next fails with the
// errors of Login; a mechanism that is unknown, or not for this connection, is
// ErrMechanism. ctx bounds the whole exchange. The exchange is for one goroutine.
func (d *Directory) SASL(ctx context.Context, p Peer, mech string) (srv sasl.Server, account func() mailstore.Account, err error) {
	x := &exchange{d: d, ctx: ctx, peer: p}
	if x.step, err = x.first(strings.ToUpper(mech)); err != nil {
		return nil, nil, err
	}
	return x, func() mailstore.Account { return x.account }, nil
}

// first is the first step of a mechanism.
func (x *exchange) first(mech string) (step, error) {
	if hash, binds, ok := scramMechanism(mech); ok {
		x.scram = &scramState{hash: hash, binds: binds, bindings: x.d.bindings(x.peer)}
		if binds && len(x.scram.bindings) == 0 {
			return nil, ErrMechanism
		}
		return x.scramFirst, nil
	}
	var first step
	bearer := false
	switch mech {
	case mechOAuth:
		first, bearer = x.oauthBearer, true
	case mechXOAuth2:
		first, bearer = x.xoauth2, true
	case mechExternal:
		if presented(x.peer) == nil {
			return nil, ErrMechanism
		}
		return x.external, nil
	case sasl.Plain:
		first = x.plain
	case sasl.Login:
		first = x.loginName
	default:
		return nil, ErrMechanism
	}
	switch {
	case bearer && x.d.tokens == nil:
		return nil, ErrMechanism
	// A token is never sent in clear (RFC 7628 section 3), whatever the policy.
	case bearer && x.peer.TLS == nil, !x.d.PlaintextAllowed(x.peer):
		return nil, ErrPlaintext
	}
	return first, nil
}

// step takes a response of the client; nil stands for no initial response.
type step func(response []byte) (challenge []byte, done bool, err error)

// exchange is one SASL exchange. Its state is the step that takes the client's
// next response; nil when the exchange is over.
type exchange struct {
	d    *Directory
	ctx  context.Context // of the exchange: sasl.Server has no room for one
	peer Peer
	step step

	name    string            // LOGIN: the user name
	scram   *scramState       // SCRAM: nil for other mechanisms
	account mailstore.Account // who logged in; zero before that
}

// Next takes a response of the client; nil stands for no initial response.
func (x *exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	now := x.step
	x.step = nil
	if now == nil || len(response) > maxResponse {
		return nil, false, ErrMalformed
	}
	return now(response)
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
