package oauth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"postrider/internal/clock"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hand is a clock that the test moves.
type hand struct {
	clock.Clock
	mu  sync.Mutex
	now time.Time
}

func newHand() *hand { return &hand{Clock: clock.System(), now: time.Now()} }

func (h *hand) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hand) move(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// issuer is one on loopback.
type issuer struct {
	t     testing.TB
	clock *hand
	ca    string

	mu      sync.Mutex
	url     string
	keys    []any // of the JWK set
	asked   map[string]int
	answers map[string]string // by path, in place of the usual ones
	status  int               // 0 = 200
	active  map[string]map[string]any
}

// signer is a key of an issuer.
type signer struct {
	kid       string
	algorithm jose.SignatureAlgorithm
	private   any
}

func (s signer) public(t testing.TB) jose.JSONWebKey {
	t.Helper()
	k := jose.JSONWebKey{Key: s.private, KeyID: s.kid, Algorithm: string(s.algorithm), Use: "sig"}
	return k.Public()
}

func newSigner(t testing.TB, kid string, algorithm jose.SignatureAlgorithm) signer {
	t.Helper()
	s := signer{kid: kid, algorithm: algorithm}
	var err error
	switch algorithm {
	case jose.RS256:
		s.private, err = rsa.GenerateKey(rand.Reader, 2048)
	case jose.ES256:
		s.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		_, s.private, err = ed25519.GenerateKey(rand.Reader)
	}
	must(t, err)
	return s
}

// sign makes a token.
func (s signer) sign(t testing.TB, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	must(t, err)
	o := (&jose.SignerOptions{}).WithType("at+jwt")
	if s.kid != "" {
		o.WithHeader("kid", s.kid)
	}
	j, err := jose.NewSigner(jose.SigningKey{Algorithm: s.algorithm, Key: s.private}, o)
	must(t, err)
	signed, err := j.Sign(payload)
	must(t, err)
	token, err := signed.CompactSerialize()
	must(t, err)
	return token
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	i := &issuer{t: t, clock: newHand(), asked: map[string]int{}, answers: map[string]string{}, active: map[string]map[string]any{}}
	server := httptest.NewTLSServer(http.HandlerFunc(i.serve))
	t.Cleanup(server.Close)
	i.url = server.URL
	i.ca = filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(i.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	return i
}

func (i *issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked[r.URL.Path]++
	if i.status != 0 {
		w.Header().Set("Location", i.url+"/elsewhere")
		w.WriteHeader(i.status)
		return
	}
	if text, ok := i.answers[r.URL.Path]; ok {
		fmt.Fprint(w, text)
		return
	}
	var answer any
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		answer = map[string]string{"issuer": i.url, "jwks_uri": i.url + "/keys"}
	case "/keys":
		answer = map[string]any{"keys": i.keys}
	case "/introspect":
		name, secret, _ := r.BasicAuth()
		if r.Method != http.MethodPost || name != url.QueryEscape("post rider") || secret != url.QueryEscape("s:cret") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		answer = map[string]any{"active": false}
		if said := i.active[r.PostFormValue("token")]; said != nil {
			answer = said
		}
	default:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		i.t.Error(err)
	}
}

// has replaces the issuer's keys.
func (i *issuer) has(signers ...signer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = nil
	for _, s := range signers {
		i.keys = append(i.keys, s.public(i.t))
	}
}

func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

// times tells how often a path was asked for.
func (i *issuer) times(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked[path]
}

func (i *issuer) judge(change func(*Options)) *Judge {
	i.t.Helper()
	o := Options{Issuer: i.url, Audience: "mail.hamburger.edu", Scopes: []string{"mail"}, CAFile: i.ca, Leeway: time.Minute, Clock: i.clock}
	if change != nil {
		change(&o)
	}
	j, err := New(o)
	must(i.t, err)
	i.t.Cleanup(j.Close)
	return j
}

// good is what a token for bob says; change has what is different, nil for gone.
func (i *issuer) good(change map[string]any) map[string]any {
	now := i.clock.Now().Unix()
	c := map[string]any{"iss": i.url, "aud": "mail.hamburger.edu", "scope": "openid mail", "email": "bob@hamburger.edu",
		"email_verified": true, "iat": now, "nbf": now, "exp": now + 3600, "sub": "248289761001"}
	maps.Copy(c, change)
	for name, v := range change {
		if v == nil {
			delete(c, name)
		}
	}
	return c
}

func TestSignatures(t *testing.T) {
	i := newIssuer(t)
	for _, algorithm := range []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA} {
		for _, kid := range []string{"", "one"} {
			j := i.judge(nil)
			ours, theirs := newSigner(t, kid, algorithm), newSigner(t, kid, algorithm)
			i.has(newSigner(t, "two", algorithm), ours)
			if name, err := j.Name(t.Context(), ours.sign(t, i.good(nil))); name != "bob@hamburger.edu" || err != nil {
				t.Errorf("%s, kid %q: %q, %v", algorithm, kid, name, err)
			}
			if _, err := j.Name(t.Context(), theirs.sign(t, i.good(nil))); !errors.Is(err, ErrToken) {
				t.Errorf("%s, kid %q, by another key: %v", algorithm, kid, err)
			}
			token := ours.sign(t, i.good(nil))
			parts := strings.Split(token, ".")
			for what, forged := range map[string]string{
				"another payload":  parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"x"}`)) + "." + parts[2],
				"no signature":     parts[0] + "." + parts[1] + ".",
				"algorithm none":   base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
				"two parts":        parts[0] + "." + parts[1],
				"four parts":       token + "." + parts[2],
				"not base64":       "!" + token,
				"too long":         token + strings.Repeat("A", MaxToken),
				"JSON":             `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
				"nothing":          "",
				"an opaque string": "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==",
			} {
				if _, err := j.Name(t.Context(), forged); !errors.Is(err, ErrToken) {
					t.Errorf("%s, %s: %v", algorithm, what, err)
				}
			}
		}
	}
}

// TestPublicKeyIsNoSecret: a token that is signed by HMAC with the issuer's public
// key, or by a key that came with it, is none.
func TestPublicKeyIsNoSecret(t *testing.T) {
	i := newIssuer(t)
	j := i.judge(nil)
	ours := newSigner(t, "one", jose.RS256)
	i.has(ours)
	public, err := json.Marshal(ours.public(t))
	must(t, err)
	h := signer{"one", jose.HS256, public}
	if _, err := j.Name(t.Context(), h.sign(t, i.good(nil))); !errors.Is(err, ErrToken) {
		t.Errorf("HMAC: %v", err)
	}
	own := newSigner(t, "one", jose.ES256)
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: own.algorithm, Key: own.private}, &jose.SignerOptions{EmbedJWK: true})
	must(t, err)
	payload, err := json.Marshal(i.good(nil))
	must(t, err)
	signed, err := s.Sign(payload)
	must(t, err)
	token, err := signed.CompactSerialize()
	must(t, err)
	if _, err := j.Name(t.Context(), token); !errors.Is(err, ErrToken) {
		t.Errorf("a key that came with the token: %v", err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	if usable(signer{"w", jose.RS256, weak}.public(t), "RS256") {
		t.Error("an RSA key of 1024 bits is used")
	}
	if usable(ours.public(t), "ES256") || usable(own.public(t), "RS256") || usable(jose.JSONWebKey{Key: public}, "HS256") {
		t.Error("a key is used for another algorithm")
	}
}

func TestClaims(t *testing.T) {
	i := newIssuer(t)
	ours := newSigner(t, "one", jose.ES256)
	i.has(ours)
	j := i.judge(nil)
	now := i.clock.Now().Unix()
	for _, tt := range []struct {
		change map[string]any
		want   error
	}{
		{map[string]any{"iss": i.url + "/"}, ErrToken},
		{map[string]any{"iss": nil}, ErrToken},
		{map[string]any{"aud": "other"}, ErrToken},
		{map[string]any{"aud": nil}, ErrToken},
		{map[string]any{"aud": []string{"other", "mail.hamburger.edu"}}, nil},
		{map[string]any{"exp": nil}, ErrToken},
		{map[string]any{"exp": "soon"}, ErrToken},
		{map[string]any{"exp": 1e300}, ErrToken},
		{map[string]any{"exp": now - 59}, nil}, // the leeway is a minute
		{map[string]any{"exp": now - 60}, ErrExpired},
		{map[string]any{"nbf": now + 60}, nil},
		{map[string]any{"nbf": now + 61}, ErrToken},
		{map[string]any{"nbf": nil, "iat": nil}, nil},
		{map[string]any{"nbf": []int{1}}, ErrToken},
		{map[string]any{"iat": now + 61}, ErrToken},
		{map[string]any{"scope": "openid"}, ErrScope},
		{map[string]any{"scope": "mailbox"}, ErrScope},
		{map[string]any{"scope": nil}, ErrScope},
		{map[string]any{"scope": nil, "scp": []string{"mail"}}, nil},
		{map[string]any{"scope": nil, "scp": "a mail"}, nil},
		{map[string]any{"email": nil}, ErrToken},
		{map[string]any{"email": []string{"bob@hamburger.edu"}}, ErrToken},
		{map[string]any{"email_verified": false}, ErrToken},
		{map[string]any{"email_verified": "false"}, ErrToken},
		{map[string]any{"email_verified": nil}, nil},
	} {
		name, err := j.Name(t.Context(), ours.sign(t, i.good(tt.change)))
		if !errors.Is(err, tt.want) || (err == nil) != (name == "bob@hamburger.edu") {
			t.Errorf("%v: %q, %v", tt.change, name, err)
		}
	}
	byName := i.judge(func(o *Options) { o.Claim = "preferred_username" })
	if name, err := byName.Name(t.Context(), ours.sign(t, i.good(map[string]any{"preferred_username": "bob"}))); name != "bob" || err != nil {
		t.Errorf("another claim: %q, %v", name, err)
	}
	if text, err := ours.sign(t, nil), error(nil); text != "" {
		_, err = j.Name(t.Context(), text)
		if !errors.Is(err, ErrToken) {
			t.Errorf("a payload of null: %v", err)
		}
	}
}

// TestRollover: a new key is found when a token names it, not more often than
// once a minute, and a key that is withdrawn ends within the hour.
func TestRollover(t *testing.T) {
	i := newIssuer(t)
	j := i.judge(nil)
	old, young := newSigner(t, "old", jose.ES256), newSigner(t, "young", jose.EdDSA)
	judge := func(s signer) error {
		t.Helper()
		_, err := j.Name(t.Context(), s.sign(t, i.good(nil)))
		return err
	}
	i.has(old)
	for range 3 {
		must(t, judge(old))
	}
	if err := judge(young); !errors.Is(err, ErrToken) || i.times("/keys") != 1 {
		t.Errorf("a key that nobody knows, at once: %v, %d looks", err, i.times("/keys"))
	}
	i.has(old, young)
	i.clock.move(fetchEvery)
	for range 3 {
		must(t, judge(young))
		must(t, judge(old))
	}
	if n := i.times("/keys"); n != 2 {
		t.Errorf("%d looks", n)
	}
	i.has(young)
	i.clock.move(freshFor)
	must(t, judge(young))
	if err := judge(old); !errors.Is(err, ErrToken) {
		t.Errorf("a key that was withdrawn: %v", err)
	}
	// The issuer is gone: what we know is good for a day, with a look each minute.
	i.set(func() { i.status = http.StatusServiceUnavailable })
	i.clock.move(freshFor)
	before := i.times("/.well-known/openid-configuration")
	for range 3 {
		must(t, judge(young))
	}
	if n := i.times("/.well-known/openid-configuration") - before; n != 1 {
		t.Errorf("%d looks at an issuer that is gone", n)
	}
	if err := judge(old); err == nil || errors.Is(err, ErrToken) {
		t.Errorf("a key that may be new: %v", err)
	}
	i.clock.move(staleFor)
	if err := judge(young); err == nil || errors.Is(err, ErrToken) {
		t.Errorf("after a day: %v", err)
	}
	i.set(func() { i.status = 0 })
	i.clock.move(fetchEvery)
	must(t, judge(young))
}

// TestBadIssuer: answers that are not what they should be are failures of ours and
// not of the token.
func TestBadIssuer(t *testing.T) {
	for what, change := range map[string]func(*issuer){
		"status":         func(i *issuer) { i.status = http.StatusInternalServerError },
		"redirect":       func(i *issuer) { i.status = http.StatusFound },
		"another issuer": func(i *issuer) { i.answers["/.well-known/openid-configuration"] = `{"issuer":"https://evil.example"}` },
		"keys in clear": func(i *issuer) {
			i.answers["/.well-known/openid-configuration"] = `{"issuer":"` + i.url + `","jwks_uri":"http://keys.example/"}`
		},
		"no JSON":    func(i *issuer) { i.answers["/keys"] = "<html>" },
		"no keys":    func(i *issuer) { i.answers["/keys"] = `{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"?"},7]}` },
		"too large":  func(i *issuer) { i.answers["/keys"] = strings.Repeat(" ", maxAnswer+1) },
		"empty JSON": func(i *issuer) { i.answers["/keys"] = "null" },
	} {
		i := newIssuer(t)
		ours := newSigner(t, "one", jose.ES256)
		i.has(ours)
		i.set(func() { change(i) })
		j := i.judge(nil)
		if _, err := j.Name(t.Context(), ours.sign(t, i.good(nil))); err == nil || errors.Is(err, ErrToken) {
			t.Errorf("%s: %v", what, err)
		}
		if i.times("/elsewhere") != 0 {
			t.Errorf("%s: a redirect was followed", what)
		}
	}
	i := newIssuer(t)
	ours := newSigner(t, "one", jose.ES256)
	i.has(ours)
	stranger := i.judge(func(o *Options) { o.CAFile = "" })
	if _, err := stranger.Name(t.Context(), ours.sign(t, i.good(nil))); err == nil || errors.Is(err, ErrToken) || i.times("/keys") != 0 {
		t.Errorf("a certificate that nobody trusts: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.judge(nil).Name(ctx, ours.sign(t, i.good(nil))); err == nil || errors.Is(err, ErrToken) {
		t.Errorf("a client that left: %v", err)
	}
}

// TestManyAtOnce: many logins while keys are unknown are one look.
func TestManyAtOnce(t *testing.T) {
	i := newIssuer(t)
	ours := newSigner(t, "one", jose.ES256)
	i.has(ours)
	j := i.judge(nil)
	token := ours.sign(t, i.good(nil))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := j.Name(context.Background(), token); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := i.times("/keys"); n != 1 {
		t.Errorf("%d looks", n)
	}
}

func TestIntrospection(t *testing.T) {
	i := newIssuer(t)
	j := i.judge(func(o *Options) {
		o.Introspection, o.ClientID, o.ClientSecret = i.url+"/introspect", "post rider", "s:cret"
	})
	now := i.clock.Now().Unix()
	good := i.good(map[string]any{"active": true, "exp": nil})
	i.set(func() {
		i.active["good"] = good
		i.active["said.otherwise"] = i.good(map[string]any{"active": false})
		i.active["in.words"] = i.good(map[string]any{"active": "true"})
		i.active["ended"] = i.good(map[string]any{"active": true, "exp": now - 61})
		i.active["other.issuer"] = i.good(map[string]any{"active": true, "iss": "https://other.example"})
		i.active["other.audience"] = i.good(map[string]any{"active": true, "aud": "x"})
		i.active["no.scope"] = i.good(map[string]any{"active": true, "scope": "openid"})
		i.active["no.issuer"] = i.good(map[string]any{"active": true, "iss": nil})
	})
	for token, want := range map[string]error{"good": nil, "no.issuer": nil, "unknown": ErrToken, "said.otherwise": ErrToken,
		"in.words": ErrToken, "ended": ErrExpired, "other.issuer": ErrToken, "other.audience": ErrToken, "no.scope": ErrScope} {
		for range 2 {
			name, err := j.Name(t.Context(), token)
			if !errors.Is(err, want) || (err == nil) != (name == "bob@hamburger.edu") {
				t.Errorf("%s: %q, %v", token, name, err)
			}
		}
	}
	if n := i.times("/introspect"); n != 9 {
		t.Errorf("%d questions about 9 tokens", n)
	}
	// Revoked: for a minute the answer is remembered.
	i.set(func() { delete(i.active, "good") })
	if _, err := j.Name(t.Context(), "good"); err != nil {
		t.Error(err)
	}
	i.clock.move(rememberFor)
	if _, err := j.Name(t.Context(), "good"); !errors.Is(err, ErrToken) {
		t.Errorf("revoked: %v", err)
	}
	i.set(func() { i.status = http.StatusBadGateway })
	if _, err := j.Name(t.Context(), "another"); err == nil || errors.Is(err, ErrToken) {
		t.Errorf("an endpoint that fails: %v", err)
	}
	stranger := i.judge(func(o *Options) { o.Introspection, o.ClientID, o.ClientSecret = i.url+"/introspect", "x", "y" })
	i.set(func() { i.status = 0 })
	if _, err := stranger.Name(t.Context(), "good"); err == nil || errors.Is(err, ErrToken) {
		t.Errorf("a wrong secret of ours: %v", err)
	}
}

// TestAnswersAreBounded: what is remembered, and who waits.
func TestAnswersAreBounded(t *testing.T) {
	i := newIssuer(t)
	j := i.judge(func(o *Options) { o.Introspection, o.ClientID = i.url+"/introspect", "x" })
	for n := range maxAnswers + 10 {
		j.asker.remember([32]byte{byte(n), byte(n >> 8)}, nil)
	}
	if len(j.asker.known) != maxAnswers {
		t.Errorf("%d answers", len(j.asker.known))
	}
	for range maxAtOnce {
		j.asker.turns <- struct{}{}
	}
	j.asker.waiting = maxWaiting
	if _, err := j.Name(t.Context(), "x"); err != ErrBusy {
		t.Errorf("one more than %d: %v", maxWaiting, err)
	}
}

func TestOptions(t *testing.T) {
	good := Options{Issuer: "https://id.example", Audience: "x"}
	for _, tt := range []struct {
		key    string
		change func(*Options)
	}{
		{"", func(*Options) {}},
		{"", func(o *Options) { *o = Options{} }},
		{"", func(o *Options) { o.Issuer = "http://127.0.0.1:1234/realm" }},
		{"", func(o *Options) { *o = Options{Introspection: "https://id.example/i", ClientID: "x"} }},
		{"issuer", func(o *Options) { o.Issuer = "" }},
		{"issuer", func(o *Options) { o.Issuer = "http://id.example" }},
		{"issuer", func(o *Options) { o.Issuer = "id.example" }},
		{"issuer", func(o *Options) { o.Issuer = "https://user:secret@id.example" }},
		{"issuer", func(o *Options) { o.Issuer = "http://127.0.0.1.example" }},
		{"audience", func(o *Options) { o.Audience = "" }},
		{"introspection", func(o *Options) { o.Introspection = "ftp://x" }},
		{"client_id", func(o *Options) { o.Introspection = "https://x" }},
		{"leeway", func(o *Options) { o.Leeway = MaxLeeway + 1 }},
		{"scope", func(o *Options) { o.Scopes = []string{"a b"} }},
	} {
		o := good
		tt.change(&o)
		key, problem := o.Check()
		if key != tt.key || (key == "") != (problem == "") {
			t.Errorf("%+v: %s %s", o, key, problem)
		}
		if _, err := New(o); (err != nil) != (problem != "") {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, file := range []string{"missing", "oauth.go"} {
		if _, err := New(Options{Issuer: "https://id.example", Audience: "x", CAFile: file}); err == nil {
			t.Errorf("the CA file %s is taken", file)
		}
	}
}

// FuzzToken: nothing but what the issuer signed is a token.
func FuzzToken(f *testing.F) {
	i := newIssuer(f)
	ours := newSigner(f, "one", jose.ES256)
	i.has(ours)
	j := i.judge(nil)
	good := ours.sign(f, i.good(map[string]any{"exp": maxSeconds}))
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add("a.b.c")
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","crit":["x"],"x":1}`)) + ".e30.AAAA")
	f.Fuzz(func(t *testing.T, token string) {
		name, err := j.Name(t.Context(), token)
		// The last bits of the signature's base64 say nothing.
		signed := strings.HasPrefix(token, good[:strings.LastIndexByte(good, '.')+1])
		if err == nil && !signed || err != nil && (token == good || !errors.Is(err, ErrToken) || name != "") {
			t.Errorf("%q: %q, %v", token, name, err)
		}
	})
}
