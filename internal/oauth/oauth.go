// Package oauth tells whom an OAuth 2.0 bearer token speaks for: by the signature
// of its issuer (RFC 7519, RFC 9068), whose keys it fetches (OpenID Connect
// Discovery 1.0, RFC 7517), or by asking the issuer about it (RFC 7662).
//
// It never issues, renews or keeps tokens, and does not know accounts. All methods
// may be called concurrently. Nothing outlives the process: keys and answers are
// kept in memory, within bounds, and fetched when they are first needed.
//
// A token is good for whoever holds it. So the issuer is reached by https alone,
// except on loopback, and no redirect is followed.
package oauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"postrider/internal/clock"
)

const (
	// MaxToken is the longest token that is looked at, in octets.
	MaxToken = 8192
	// MaxLeeway bounds how far the issuer's clock and ours may differ.
	MaxLeeway = 5 * time.Minute
	// patience is how long the issuer has for one answer, and maxAnswer how long
	// that may be, in octets.
	patience  = 10 * time.Second
	maxAnswer = 1 << 20
)

var (
	// ErrToken: the token is none, or not for us, or not from the issuer.
	ErrToken = errors.New("invalid token")
	// ErrExpired: it was good once. It is an ErrToken, too.
	ErrExpired = fmt.Errorf("%w: expired", ErrToken)
	// ErrScope: it is good, and not for mail.
	ErrScope = errors.New("insufficient scope")
	// ErrBusy: too many tokens are judged now. Any error but these four means that
	// the issuer could not be asked: temporary.
	ErrBusy = errors.New("too many tokens at once")
)

// Options says which tokens are good.
type Options struct {
	Issuer   string   // URL; where its keys are found and, exactly, its tokens' iss
	Audience string   // must be in a token's aud
	Scopes   []string // all must be in a token's scope
	Claim    string   // has the account's name; "" = email
	// Introspection is the URL that judges tokens; "" = by their signature.
	Introspection          string
	ClientID, ClientSecret string        // ours, for Introspection
	CAFile                 string        // PEM; "" = as the system trusts
	Leeway                 time.Duration // between the issuer's clock and ours; up to MaxLeeway
	Clock                  clock.Clock
	Log                    *slog.Logger
}

// Enabled tells whether the options ask for anything.
func (o Options) Enabled() bool { return o.Issuer != "" || o.Introspection != "" }

// Check finds what is missing or cannot be: the key of [auth.oauth] that it is
// about, "" when all is well.
func (o Options) Check() (key, problem string) {
	switch {
	case !o.Enabled():
		if o.Audience != "" || o.ClientID != "" || o.ClientSecret != "" || o.CAFile != "" || len(o.Scopes) > 0 {
			return "issuer", "is missing"
		}
		return "", ""
	case o.Issuer != "" && !safeURL(o.Issuer):
		return "issuer", `must be a URL that begins with "https://" (http is for loopback alone)`
	case o.Introspection != "" && !safeURL(o.Introspection):
		return "introspection", `must be a URL that begins with "https://" (http is for loopback alone)`
	case o.Introspection == "" && o.Audience == "":
		return "audience", "is missing: without it tokens that were made for other services would log in here"
	case o.Introspection != "" && o.ClientID == "":
		return "client_id", "is missing: our name at the introspection endpoint"
	case o.Leeway < 0 || o.Leeway > MaxLeeway:
		return "leeway", fmt.Sprintf("must be at most %v", MaxLeeway)
	case slices.ContainsFunc(o.Scopes, func(s string) bool { return s == "" || strings.ContainsFunc(s, notScope) }):
		return "scope", "must be a list of words"
	}
	return "", ""
}

// notScope tells what a scope cannot have (RFC 6749 section 3.3).
func notScope(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '\\' }

// safeURL tells whether answers from a URL can be trusted.
func safeURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return false
	}
	if u.Scheme == "https" {
		return true
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && ip.IsLoopback())
}

// Judge judges tokens.
type Judge struct {
	o      Options
	client *http.Client
	keys   *keys    // nil: by introspection
	asker  *answers // nil: by signature
}

// New returns a Judge. It reads the CA file, and asks nobody.
func New(o Options) (*Judge, error) {
	if key, problem := o.Check(); problem != "" {
		return nil, fmt.Errorf("auth.oauth.%s %s", key, problem)
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Claim == "" {
		o.Claim = "email"
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		text, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("auth.oauth.ca: %w", err)
		}
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("auth.oauth.ca: %s has no certificate in PEM", o.CAFile)
		}
	}
	j := &Judge{o: o, client: &http.Client{
		Timeout: patience,
		Transport: &http.Transport{TLSClientConfig: trust, MaxIdleConnsPerHost: 4, MaxConnsPerHost: maxAtOnce,
			IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if o.Introspection != "" {
		j.asker = newAnswers(j)
	} else {
		j.keys = newKeys(j)
	}
	return j, nil
}

// Close ends connections that wait for the next question.
func (j *Judge) Close() { j.client.CloseIdleConnections() }

// Configuration is where clients find how to get a token; "" when unknown.
func (j *Judge) Configuration() string {
	if j.o.Issuer == "" {
		return ""
	}
	return strings.TrimSuffix(j.o.Issuer, "/") + "/.well-known/openid-configuration"
}

// Scope is what a token needs, as clients ask for it.
func (j *Judge) Scope() string { return strings.Join(j.o.Scopes, " ") }

// Name returns the name that the token speaks for, as the configured claim has it.
func (j *Judge) Name(ctx context.Context, token string) (string, error) {
	if len(token) > MaxToken || !isToken(token) {
		return "", ErrToken
	}
	var c claims
	var err error
	if j.asker != nil {
		c, err = j.asker.claims(ctx, token)
	} else {
		c, err = j.keys.claims(ctx, token)
	}
	if err != nil {
		return "", err
	}
	return j.name(c)
}

// isToken tells whether s is a b64token (RFC 6750 section 2.1).
func isToken(s string) bool {
	s = strings.TrimRight(s, "=")
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~+/", r))
	})
}
