package directory

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"

	"postrider/internal/oauth"
	"postrider/internal/wire/wiretest"
	"postrider/mailstore"
)

// TestTranscripts runs the SASL exchanges in testdata, as they are under the
// base64 of any protocol. In them
//
//	account NAME@DOMAIN PASSWORD [SALT COUNT]  makes an account; with this salt
//	                      (base64) and count for SCRAM
//	nonce TEXT            the server's part of the next nonces
//	certificate NAME      the client gets a key and a certificate
//	belongs NAME ADDRESS  which the account takes for its own
//	peer none|1.2|1.3 [NAME]  the connection: without TLS, or with this version,
//	                      and with that certificate shown
//	offered MECHANISM...  the mechanisms advertised to it
//	auth MECHANISM        begins an exchange
//	ask                   the client has sent no initial response
//	C: text               the client sends this; C" "a\x00" for a Go string
//	S: text               the server's challenge is exactly this
//	done ADDRESS          the exchange is over, and this account logged in
//	refused REASON        the last step failed: malformed, credentials, mechanism,
//	                      plaintext, wait, busy, or unable for a failure of ours
func TestTranscripts(t *testing.T) {
	wiretest.EachFile(t, "testdata/*.txt", func(t *testing.T, file, text string) {
		d := open(t, Options{Tokens: fakeTokens{}})
		must(t, d.AddDomain(t.Context(), "hamburger.edu"))
		p := &saslPlayer{t: t, d: d, peer: Peer{Addr: netip.MustParseAddr("192.0.2.1"), Protocol: "test"}, people: map[string]person{}}
		for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
			p.at = fmt.Sprintf("%s:%d", file, i+1)
			if line != "" && !strings.HasPrefix(line, "#") {
				p.play(line)
			}
		}
		p.settled()
	})
}

// fakeTokens are tokens whose names say what they are worth.
type fakeTokens struct{}

func (fakeTokens) Configuration() string {
	return "https://id.hamburger.edu/.well-known/openid-configuration"
}

func (fakeTokens) Scope() string { return "mail" }

func (fakeTokens) Name(_ context.Context, token string) (string, error) {
	switch token {
	case "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==":
		return "user@hamburger.edu", nil
	case "short-name":
		return "user", nil
	case "stranger":
		return "stranger@elsewhere.example", nil
	case "expired":
		return "", oauth.ErrExpired
	case "no-mail":
		return "", oauth.ErrScope
	case "busy":
		return "", oauth.ErrBusy
	case "unreachable":
		return "", errors.New("no route to the issuer")
	}
	return "", oauth.ErrToken
}

// saslPlayer plays the client of one transcript.
type saslPlayer struct {
	t    *testing.T
	at   string // file and line
	d    *Directory
	peer Peer

	people map[string]person

	server  sasl.Server
	account func() mailstore.Account
	said    []byte // by the server
	pending bool   // it said something, or failed or was done, and no line named it
	done    bool
	err     error
}

func (p *saslPlayer) play(line string) {
	p.t.Helper()
	word, arg, _ := strings.Cut(line, " ")
	switch word {
	case "S:", "done", "refused":
		p.judge(word, arg)
		return
	}
	p.settled()
	fields := strings.Fields(arg)
	switch word {
	case "account":
		p.addAccount(fields)
	case "nonce":
		p.d.nonce = func() string { return arg }
	case "certificate":
		p.people[arg] = newPerson(p.t)
	case "belongs":
		_, err := p.d.AddCertificate(p.t.Context(), fields[1], asPEM(p.people[fields[0]].current()))
		must(p.t, err)
	case "peer":
		p.connect(fields[0], fields[1:])
	case "offered":
		if got := p.d.Mechanisms(p.peer); !slices.Equal(got, fields) {
			p.t.Fatalf("%s: offered are %v", p.at, got)
		}
	case "auth":
		p.said, p.done = nil, false
		p.server, p.account, p.err = p.d.SASL(p.t.Context(), p.peer, arg)
		p.pending = p.err != nil
	case "ask":
		p.next(nil)
	case "C:":
		p.next([]byte(arg))
	case `C"`:
		raw, err := strconv.Unquote(arg)
		must(p.t, err)
		p.next([]byte(raw))
	default:
		p.t.Fatalf("%s: no such line in a transcript", p.at)
	}
}

func (p *saslPlayer) next(response []byte) {
	p.t.Helper()
	if p.server == nil {
		p.t.Fatalf("%s: no exchange", p.at)
	}
	p.said, p.done, p.err = p.server.Next(response)
	p.pending = true
}

// settled wants that the transcript names all that the server did.
func (p *saslPlayer) settled() {
	p.t.Helper()
	if p.pending {
		p.t.Fatalf("%s: before that the server said %q, done %v, %v", p.at, p.said, p.done, p.err)
	}
}

// judge compares what the server did.
func (p *saslPlayer) judge(word, want string) {
	p.t.Helper()
	if !p.pending {
		p.t.Fatalf("%s: the server did nothing", p.at)
	}
	p.pending = false
	switch word {
	case "S:":
		if text, err := strconv.Unquote(want); err == nil {
			want = text
		}
		if p.err != nil || p.done || string(p.said) != want {
			p.t.Fatalf("%s: the server said %q, done %v, %v", p.at, p.said, p.done, p.err)
		}
	case "done":
		if p.err != nil || !p.done || len(p.said) > 0 || p.account().Address != want || p.account().Credentials != nil {
			p.t.Fatalf("%s: the server said %q, done %v, %v", p.at, p.said, p.done, p.err)
		}
	case "refused":
		reasons := map[string]error{"malformed": ErrMalformed, "credentials": ErrCredentials,
			"mechanism": ErrMechanism, "plaintext": ErrPlaintext, "wait": ErrTooManyLogins, "busy": ErrBusy}
		if want == "unable" && p.err != nil && !errors.Is(p.err, ErrCredentials) {
			return // none of the above
		}
		if reason := reasons[want]; reason == nil || !errors.Is(p.err, reason) || (want == "credentials" && p.err != reason) {
			p.t.Fatalf("%s: the server said %q, done %v, %v", p.at, p.said, p.done, p.err)
		}
		if p.account != nil && p.account().ID != 0 {
			p.t.Fatalf("%s: an account after a refusal", p.at)
		}
	}
}

// addAccount makes an account, whose salt and count may be those of an example.
func (p *saslPlayer) addAccount(f []string) {
	p.t.Helper()
	must(p.t, p.d.AddAccount(p.t.Context(), f[0], f[1]))
	if len(f) < 4 {
		return
	}
	salt, err := base64.StdEncoding.DecodeString(f[2])
	must(p.t, err)
	count, err := strconv.Atoi(f[3])
	must(p.t, err)
	must(p.t, p.d.update(p.t.Context(), func(tx *mailstore.Tx) error {
		a, err := tx.AccountByAddress(f[0])
		if err != nil {
			return err
		}
		c, err := parseCredentials(a.Credentials)
		if err != nil {
			return err
		}
		for _, h := range scramHashes {
			if *h.of(&c), err = h.derive(f[1], salt, count); err != nil {
				return err
			}
		}
		if a.Credentials, err = json.Marshal(c); err != nil {
			return err
		}
		return tx.UpdateAccount(a)
	}))
}

func (p *saslPlayer) connect(how string, shown []string) {
	p.t.Helper()
	p.peer.TLS = nil
	show := func(server, client *tls.Config) {
		if len(shown) == 0 {
			return
		}
		who := p.people[shown[0]]
		server.ClientAuth = tls.RequestClientCert
		client.Certificates = []tls.Certificate{{Certificate: [][]byte{who.current().Raw}, PrivateKey: who.key}}
	}
	versions := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	if version := versions[how]; version != 0 {
		state, _ := tlsPair(p.t, version, show)
		p.peer.TLS = &state
	} else if how != "none" {
		p.t.Fatalf("%s: no such connection", p.at)
	}
}
