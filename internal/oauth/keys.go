package oauth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// freshFor is how long keys are used without a look for newer ones: a key that
	// the issuer withdraws is good for so long.
	freshFor = time.Hour
	// staleFor is how long they are used when the issuer cannot be reached.
	staleFor = 24 * time.Hour
	// fetchEvery spaces the looks for a key that we do not know, which any stranger
	// can cause, and those after a failure.
	fetchEvery = time.Minute
	// maxKeys bounds the keys of an issuer; what is behind them is not looked at.
	maxKeys = 64
	// minRSA is the size of the smallest RSA key that is used, in bits (RFC 7518
	// section 3.3), and maxRSA of the largest.
	minRSA, maxRSA = 2048, 8192
)

// algorithms of signatures that are taken. None and HMAC are not among them: an
// issuer's public key is no secret.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA}
}

// keys are those of the issuer.
type keys struct {
	j    *Judge
	turn chan struct{} // one fetches at a time

	mu      sync.Mutex
	set     []jose.JSONWebKey
	fetched time.Time // when set came
	tried   time.Time // when it was last looked for
	failure error     // of that; nil when it went well
}

func newKeys(j *Judge) *keys { return &keys{j: j, turn: make(chan struct{}, 1)} }

// claims verifies a token's signature and returns what it says.
func (k *keys) claims(ctx context.Context, token string) (claims, error) {
	signed, err := jose.ParseSignedCompact(token, algorithms())
	if err != nil || len(signed.Signatures) != 1 {
		return nil, ErrToken
	}
	header := signed.Signatures[0].Protected
	fitting, err := k.fitting(ctx, header)
	if err != nil {
		return nil, err
	}
	for _, key := range fitting {
		payload, err := signed.Verify(key.Key)
		if err != nil {
			continue
		}
		var c claims
		if json.Unmarshal(payload, &c) != nil || c == nil {
			return nil, ErrToken
		}
		return c, nil
	}
	return nil, fmt.Errorf("%w: signed by none of the issuer's keys", ErrToken)
}

// fitting returns the keys that may have made a signature, after a look for new
// ones where there are none: issuers change keys, and name them (kid). Nobody whose
// key is known waits for the issuer, but the one who looks.
func (k *keys) fitting(ctx context.Context, h jose.Header) ([]jose.JSONWebKey, error) {
	found, fresh, _ := k.find(h)
	if len(found) > 0 && fresh {
		return found, nil
	}
	if len(found) > 0 {
		select {
		case k.turn <- struct{}{}:
		default:
			return found, nil // somebody looks already
		}
	} else {
		select {
		case k.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer func() { <-k.turn }()
	k.fetch(ctx)
	found, _, err := k.find(h)
	if len(found) > 0 {
		return found, nil
	}
	return nil, err
}

// find picks the keys of the header's name and algorithm, and tells whether they
// are fresh. err is why there are none, where that is no fault of the token.
func (k *keys) find(h jose.Header) (list []jose.JSONWebKey, fresh bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	age := k.j.o.Clock.Now().Sub(k.fetched)
	if k.failure != nil {
		err = fmt.Errorf("the issuer's keys: %w", k.failure)
	} else {
		err = fmt.Errorf("%w: signed by a key that the issuer does not name", ErrToken)
	}
	if age >= staleFor {
		return nil, false, err
	}
	for _, key := range k.set {
		if (h.KeyID == "" || key.KeyID == h.KeyID) && usable(key, h.Algorithm) {
			list = append(list, key)
		}
	}
	return list, age >= 0 && age < freshFor, err
}

// usable tells whether a key makes good signatures of an algorithm.
func usable(key jose.JSONWebKey, algorithm string) bool {
	if key.Algorithm != "" && key.Algorithm != algorithm && !(key.Algorithm == "Ed25519" && algorithm == "EdDSA") {
		return false
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return algorithm == string(jose.RS256) && public.N.BitLen() >= minRSA && public.N.BitLen() <= maxRSA
	case *ecdsa.PublicKey:
		return algorithm == string(jose.ES256) && public.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return algorithm == string(jose.EdDSA)
	}
	return false
}

// fetch looks for the issuer's keys, unless it did so lately. Keys that we have
// stay when it fails. The caller has the turn.
func (k *keys) fetch(ctx context.Context) {
	now := k.j.o.Clock.Now()
	k.mu.Lock()
	since := now.Sub(k.tried)
	k.mu.Unlock()
	if since >= 0 && since < fetchEvery {
		return
	}
	set, err := k.get(ctx)
	if err != nil {
		k.j.o.Log.Error("cannot fetch the keys of the OAuth issuer", "issuer", k.j.o.Issuer, "err", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tried, k.failure = now, err
	if err == nil {
		k.set, k.fetched = set, now
	}
}

// get is OpenID Connect Discovery 1.0 section 4 and RFC 7517 section 5.
func (k *keys) get(ctx context.Context) ([]jose.JSONWebKey, error) {
	var about struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := k.j.get(ctx, k.j.Configuration(), &about); err != nil {
		return nil, err
	}
	switch {
	case about.Issuer != k.j.o.Issuer:
		return nil, fmt.Errorf("%s says that the issuer is %q", k.j.Configuration(), about.Issuer)
	case !safeURL(about.Keys):
		return nil, fmt.Errorf("%s names no https URL of its keys", k.j.Configuration())
	}
	var answer struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := k.j.get(ctx, about.Keys, &answer); err != nil {
		return nil, err
	}
	var set []jose.JSONWebKey
	for _, raw := range answer.Keys[:min(len(answer.Keys), maxKeys)] {
		var key jose.JSONWebKey
		// A key that we do not understand is for somebody else (RFC 7517 section 5).
		if key.UnmarshalJSON(raw) == nil && key.IsPublic() && (key.Use == "" || key.Use == "sig") {
			set = append(set, key)
		}
	}
	if len(set) == 0 {
		return nil, fmt.Errorf("%s has no key for signatures", about.Keys)
	}
	return set, nil
}

// get fetches a JSON document.
func (j *Judge) get(ctx context.Context, from string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	return j.do(request, into)
}

// do asks the issuer, and reads its answer in JSON.
func (j *Judge) do(request *http.Request, into any) error {
	request.Header.Set("Accept", "application/json")
	response, err := j.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", request.URL.Redacted(), response.Status)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return err
	case len(text) > maxAnswer:
		return fmt.Errorf("%s answers with more than %d octets", request.URL.Redacted(), maxAnswer)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s answers with what is no JSON of that kind", request.URL.Redacted())
	}
	return nil
}
