package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"postrider/internal/oauth"
	"postrider/mailstore"
	"postrider/mta"
)

const (
	mechOAuth   = "OAUTHBEARER"
	mechXOAuth2 = "XOAUTH2"
	// maxPairs bounds the key/value pairs of a client's message.
	maxPairs = 32
)

// Tokens judges bearer tokens; *oauth.Judge does.
type Tokens interface {
	// Name returns whom a token speaks for, or an error of package oauth.
	Name(ctx context.Context, token string) (string, error)
	// Configuration and Scope tell clients how to get one that is good.
	Configuration() string
	Scope() string
}

// bearer is what a client says in either mechanism.
type bearer struct {
	authzid string // "" = whom the token speaks for
	host    string // "" = not said
	token   string // "" = a client that asks what it needs
}

// kvsep is what pairs end with (RFC 7628 section 3.1).
const kvsep = "\x01"

// parseBearer reads the initial response of RFC 7628 section 3.1.
func parseBearer(response string) (b bearer, err error) {
	flag, rest, _ := strings.Cut(response, ",")
	authzid, rest, ok := strings.Cut(rest, ",")
	if (flag != "n" && flag != "y") || !ok || !strings.HasPrefix(rest, kvsep) {
		return b, ErrMalformed
	}
	if authzid != "" {
		if authzid, ok = strings.CutPrefix(authzid, "a="); !ok {
			return b, ErrMalformed
		}
		if b.authzid, ok = saslName(authzid); !ok {
			return b, ErrMalformed
		}
	}
	pairs, err := parsePairs(rest[len(kvsep):])
	if err != nil {
		return b, err
	}
	b.host = pairs["host"]
	b.token, err = bearerToken(pairs)
	return b, err
}

// parseXOAuth2 reads the initial response of XOAUTH2, which its inventors describe
// at https://developers.google.com/workspace/gmail/imap/xoauth2-protocol.
func parseXOAuth2(response string) (b bearer, err error) {
	pairs, err := parsePairs(response)
	if err != nil {
		return b, err
	}
	if b.authzid = pairs["user"]; b.authzid == "" {
		return b, ErrMalformed
	}
	b.token, err = bearerToken(pairs)
	return b, err
}

// parsePairs reads key/value pairs, each with its end, and the end of all.
func parsePairs(s string) (map[string]string, error) {
	pairs := make(map[string]string)
	for s != kvsep {
		pair, rest, ended := strings.Cut(s, kvsep)
		key, value, ok := strings.Cut(pair, "=")
		if _, twice := pairs[key]; !ended || !ok || key == "" || twice || len(pairs) == maxPairs {
			return nil, ErrMalformed
		}
		if strings.ContainsFunc(key, func(r rune) bool { return (r|0x20) < 'a' || (r|0x20) > 'z' }) ||
			strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' && r != '\r' && r != '\n' || r == 0x7f }) {
			return nil, ErrMalformed
		}
		pairs[key] = value
		s = rest
	}
	return pairs, nil
}

// bearerToken is the token of the pair auth (RFC 6750 section 2.1).
func bearerToken(pairs map[string]string) (string, error) {
	auth, there := pairs["auth"]
	if !there {
		return "", ErrMalformed
	}
	if auth == "" {
		return "", nil
	}
	scheme, token, _ := strings.Cut(auth, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", ErrMalformed
	}
	return strings.TrimLeft(token, " "), nil
}

// saslName undoes the encoding of a saslname (RFC 5801 section 4).
func saslName(s string) (string, bool) {
	for rest := s; ; {
		_, after, found := strings.Cut(rest, "=")
		if !found {
			return strings.NewReplacer("=2C", ",", "=3D", "=").Replace(s), true
		}
		if !strings.HasPrefix(after, "2C") && !strings.HasPrefix(after, "3D") {
			return "", false
		}
		rest = after[2:]
	}
}

// oauthBearer is RFC 7628, xoauth2 its predecessor.
func (x *exchange) oauthBearer(response []byte) ([]byte, bool, error) {
	return x.bearer(response, x.oauthBearer, parseBearer, x.d.bearerChallenge)
}

func (x *exchange) xoauth2(response []byte) ([]byte, bool, error) {
	return x.bearer(response, x.xoauth2, parseXOAuth2, x.d.xoauth2Challenge)
}

// bearer takes the initial response. When that does not log in, the client is told
// why in a challenge, answers with nothing of interest, and is refused (RFC 7628
// section 3.2.3).
func (x *exchange) bearer(response []byte, again step, parse func(string) (bearer, error), explain func(status string) []byte) ([]byte, bool, error) {
	if response == nil {
		x.step = again
		return []byte{}, false, nil
	}
	b, err := parse(string(response))
	if err != nil {
		return nil, false, err
	}
	account, status, err := x.d.bearerLogin(x.ctx, x.peer, b)
	if err != nil || status == "" {
		return x.finish(account, err)
	}
	x.step = func([]byte) ([]byte, bool, error) { return nil, false, ErrCredentials }
	return explain(status), false, nil
}

// bearerLogin logs in by a token, or returns the error code of RFC 6750 section
// 3.1 that says why not. err is for failures that are not the token's.
func (d *Directory) bearerLogin(ctx context.Context, p Peer, b bearer) (account mailstore.Account, status string, err error) {
	if b.host != "" && p.TLS.ServerName != "" && !strings.EqualFold(strings.TrimSuffix(b.host, "."), p.TLS.ServerName) {
		return account, "invalid_request", nil // RFC 7628 section 3.2: meant for another server
	}
	if b.token == "" {
		return account, "invalid_token", nil // RFC 7628 section 4.3: how to ask what is needed
	}
	first, err := d.ourDomains(ctx)
	if err != nil {
		return account, "", err
	}
	// Nobody guesses a token, as with certificates.
	w := d.throttle.attempt(p.Addr, "token "+b.token, mta.Address{})
	if err := d.throttle.wait(ctx, w); err != nil {
		return account, "", err
	}
	name, err := d.tokens.Name(ctx, b.token)
	if errors.Is(err, oauth.ErrToken) || errors.Is(err, oauth.ErrScope) {
		d.log.Info("token refused", "session", p.Session, "protocol", p.Protocol, "remote", p.Addr.String(), "reason", err)
	}
	switch {
	case errors.Is(err, oauth.ErrExpired):
		return account, "invalid_token", nil // the client gets a new one: no offence
	case errors.Is(err, oauth.ErrScope):
		status = "insufficient_scope"
	case errors.Is(err, oauth.ErrToken):
		status = "invalid_token"
	case errors.Is(err, oauth.ErrBusy):
		return account, "", ErrBusy
	case err != nil:
		return account, "", fmt.Errorf("judge a token: %w", err)
	}
	if status == "" {
		account, err = d.find(ctx, who{address: loginAddress(name, first)})
		if err != nil {
			return account, "", err
		}
		account.Credentials = nil
		own := b.authzid == "" || key(loginAddress(b.authzid, first)) == account.Address
		if account.ID != 0 && own {
			return d.admit(p, w, account), "", nil
		}
		status = "invalid_token"
	}
	_ = d.reject(p, w, account) // the refusal follows the client's answer
	return mailstore.Account{}, status, nil
}

// bearerChallenge is RFC 7628 section 3.2.2.
func (d *Directory) bearerChallenge(status string) []byte {
	text, err := json.Marshal(struct {
		Status        string `json:"status"`
		Scope         string `json:"scope,omitempty"`
		Configuration string `json:"openid-configuration,omitempty"`
	}{status, d.tokens.Scope(), d.tokens.Configuration()})
	if err != nil {
		panic(err) // three strings
	}
	return text
}

// xoauth2Challenge is the same in the form that clients of XOAUTH2 know.
func (d *Directory) xoauth2Challenge(status string) []byte {
	code := "401"
	switch status {
	case "insufficient_scope":
		code = "403"
	case "invalid_request":
		code = "400"
	}
	text, err := json.Marshal(struct {
		Status  string `json:"status"`
		Schemes string `json:"schemes"`
		Scope   string `json:"scope,omitempty"`
	}{code, "bearer", d.tokens.Scope()})
	if err != nil {
		panic(err) // three strings
	}
	return text
}
