package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// tokenIssuer is an OAuth issuer on loopback, with one key.
type tokenIssuer struct {
	t   *testing.T
	key *ecdsa.PrivateKey
	url string
	ca  string // file
}

func newTokenIssuer(t *testing.T) *tokenIssuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &tokenIssuer{t: t, key: key}
	server := httptest.NewTLSServer(http.HandlerFunc(i.serve))
	t.Cleanup(server.Close)
	i.url = server.URL
	i.ca = writeFile(t, filepath.Join(t.TempDir(), "ca.pem"),
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	return i
}

func (i *tokenIssuer) serve(w http.ResponseWriter, r *http.Request) {
	var answer any
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		answer = map[string]string{"issuer": i.url, "jwks_uri": i.url + "/keys"}
	case "/keys":
		answer = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "one", Algorithm: "ES256", Use: "sig"}}}
	case "/introspect":
		name, secret, _ := r.BasicAuth()
		answer = map[string]any{"active": name == "postrider" && secret == "s3cret" && r.PostFormValue("token") == "opaque-token",
			"username": "bob", "scope": "mail"}
	default:
		http.NotFound(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(answer) // a client that left is no failure
}

// token is one for an address that ends after d.
func (i *tokenIssuer) token(email string, d time.Duration) string {
	i.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: i.key}, (&jose.SignerOptions{}).WithHeader("kid", "one"))
	if err != nil {
		i.t.Fatal(err)
	}
	payload, err := json.Marshal(map[string]any{"iss": i.url, "aud": "mail", "scope": "mail", "email": email, "exp": time.Now().Add(d).Unix()})
	if err != nil {
		i.t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		i.t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return text
}

// TestTokens: curl and msmtp log in by bearer tokens on every protocol; tokens that
// are not good do not.
func TestTokens(t *testing.T) {
	i := newTokenIssuer(t)
	s := newServer(t, options{config: fmt.Sprintf("[auth.oauth]\nissuer = %q\naudience = \"mail\"\nscope = [\"mail\"]\nca = %q\n", i.url, i.ca)})
	from := "bob@" + hostname
	good, expired := i.token(from, time.Hour), i.token(from, -time.Hour)
	for _, mech := range []string{"oauthbearer", "xoauth2"} {
		succeed(t, nil, letter(from, from, "msmtp "+mech, "by msmtp"), "msmtp", "--host=localhost", "--port="+s.port("submission"),
			"--tls=on", "--tls-starttls=on", "--tls-trust-file="+s.caFile(), "--auth="+mech,
			"--user="+from, "--passwordeval=echo "+good, "--from="+from, from)
		s.received("bob", "msmtp "+mech)
	}
	curl := func(url, user, token, mech string) (string, int) {
		t.Helper()
		return execute(t, nil, "", "curl", "-sS", "--cacert", s.caFile(), "-u", user+":", "--oauth2-bearer", token,
			"--login-options", "AUTH="+mech, url)
	}
	for _, url := range []string{"pop3s://localhost:" + s.port("pop3s") + "/1", "imaps://localhost:" + s.port("imaps") + "/INBOX;MAILINDEX=1"} {
		for _, mech := range []string{"OAUTHBEARER", "XOAUTH2"} {
			if out, code := curl(url, from, good, mech); code != 0 || !strings.Contains(out, "Subject: msmtp oauthbearer") {
				t.Errorf("%s with %s: exit %d, %s", url, mech, code, out)
			}
			for what, refused := range map[string][2]string{"expired": {from, expired}, "of bob for alice": {"alice@" + hostname, good}} {
				if out, code := curl(url, refused[0], refused[1], mech); code != 67 { // CURLE_LOGIN_DENIED
					t.Errorf("%s with %s, %s: exit %d, %s", url, mech, what, code, out)
				}
			}
		}
	}
}

// TestIntrospection: a token that says nothing by itself.
func TestIntrospection(t *testing.T) {
	i := newTokenIssuer(t)
	s := newServer(t, options{config: fmt.Sprintf("[auth.oauth]\nintrospection = %q\nclient_id = \"postrider\"\nclient_secret = \"s3cret\"\nscope = [\"mail\"]\nclaim = \"username\"\nca = %q\n",
		i.url+"/introspect", i.ca)})
	for token, want := range map[string]int{"opaque-token": 0, "another": 67} {
		out, code := execute(t, nil, "", "curl", "-sS", "--cacert", s.caFile(), "-u", "bob@"+hostname+":", "--oauth2-bearer", token,
			"--login-options", "AUTH=OAUTHBEARER", "pop3s://localhost:"+s.port("pop3s")+"/")
		if code != want {
			t.Errorf("%s: exit %d, %s", token, code, out)
		}
	}
}
