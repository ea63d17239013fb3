package oauth

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// rememberFor is how long an answer about a token is good: one that is revoked
	// logs in for so long.
	rememberFor = time.Minute
	maxAnswers  = 4096
	// maxAtOnce bounds the questions that are under way, and maxWaiting those that
	// wait.
	maxAtOnce  = 16
	maxWaiting = 128
)

// answers asks the issuer about tokens and remembers for a while what it said.
type answers struct {
	j     *Judge
	turns chan struct{} // one element for each question under way

	mu      sync.Mutex
	waiting int
	known   map[[sha256.Size]byte]answer // by the token's hash
}

type answer struct {
	claims claims // nil: not active
	until  time.Time
}

func newAnswers(j *Judge) *answers {
	return &answers{j: j, turns: make(chan struct{}, maxAtOnce), known: make(map[[sha256.Size]byte]answer)}
}

// claims is what the issuer says about a token.
func (a *answers) claims(ctx context.Context, token string) (claims, error) {
	hash := sha256.Sum256([]byte(token))
	if known, ok := a.lookup(hash); ok {
		return known.result()
	}
	release, err := a.wait(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if known, ok := a.lookup(hash); ok { // somebody asked meanwhile
		return known.result()
	}
	c, err := a.ask(ctx, token)
	if err != nil {
		if ctx.Err() == nil {
			a.j.o.Log.Error("cannot ask about an OAuth token", "endpoint", a.j.o.Introspection, "err", err)
		}
		return nil, err
	}
	return a.remember(hash, c).result()
}

func (k answer) result() (claims, error) {
	if k.claims == nil {
		return nil, ErrToken
	}
	return k.claims, nil
}

// wait returns when a question may be asked.
func (a *answers) wait(ctx context.Context) (release func(), err error) {
	a.mu.Lock()
	if a.waiting >= maxWaiting {
		a.mu.Unlock()
		return nil, ErrBusy
	}
	a.waiting++
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.waiting--
		a.mu.Unlock()
	}()
	select {
	case a.turns <- struct{}{}:
		return func() { <-a.turns }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ask is RFC 7662 section 2; claims are nil for a token that is not active.
func (a *answers) ask(ctx context.Context, token string) (claims, error) {
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.j.o.Introspection, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// RFC 6749 section 2.3.1: encoded as in a form, and then as Basic has it.
	request.SetBasicAuth(url.QueryEscape(a.j.o.ClientID), url.QueryEscape(a.j.o.ClientSecret))
	var c claims
	if err := a.j.do(request, &c); err != nil {
		return nil, err
	}
	if string(c["active"]) != "true" {
		return nil, nil
	}
	return c, nil
}

func (a *answers) lookup(hash [sha256.Size]byte) (answer, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, ok := a.known[hash]
	return known, ok && a.j.o.Clock.Now().Before(known.until)
}

// remember keeps an answer. A full table loses any one: it is asked again.
func (a *answers) remember(hash [sha256.Size]byte, c claims) answer {
	k := answer{claims: c, until: a.j.o.Clock.Now().Add(rememberFor)}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.known[hash]; !ok && len(a.known) >= maxAnswers {
		for any := range a.known {
			delete(a.known, any)
			break
		}
	}
	a.known[hash] = k
	return k
}
