package directory

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"
	"pgregory.net/rapid"

	"postrider/mailstore"
)

// scramClient is the client's side of a SCRAM mechanism as a sasl.Client.
type scramClient struct {
	*scram.ClientConversation
	mech string
}

// newSCRAM is a client of SCRAM-SHA-256 that knows of no channel binding.
func newSCRAM(t testing.TB, name, password, authzid string) sasl.Client {
	t.Helper()
	return newSCRAMWith(t, "SCRAM-SHA-256", scram.ChannelBinding{}, name, password, authzid)
}

// newSCRAMWith is a client of any SCRAM mechanism; of one without -PLUS it says
// "y" when it has a binding.
func newSCRAMWith(t testing.TB, mech string, b scram.ChannelBinding, name, password, authzid string) sasl.Client {
	t.Helper()
	hash, binds, ok := scramMechanism(mech)
	if !ok {
		t.Fatalf("no mechanism %s", mech)
	}
	c, err := hash.generate.NewClientUnprepped(name, Password(password).prepared(), authzid)
	must(t, err)
	c.WithMinIterations(1)
	switch {
	case binds:
		return scramClient{c.NewConversationWithChannelBinding(b), mech}
	case b.IsSupported():
		return scramClient{c.NewConversationAdvertisingChannelBinding(), mech}
	}
	return scramClient{c.NewConversation(), mech}
}

func (c scramClient) Start() (string, []byte, error) {
	first, err := c.Step("")
	return c.mech, []byte(first), err
}

func (c scramClient) Next(challenge []byte) ([]byte, error) {
	response, err := c.Step(string(challenge))
	return []byte(response), err
}

// converse runs an exchange, with or without an initial response.
func converse(t testing.TB, d *Directory, p Peer, client sasl.Client, initial bool) (mailstore.Account, error) {
	t.Helper()
	mech, response, err := client.Start()
	must(t, err)
	server, account, err := d.SASL(t.Context(), p, mech)
	if err != nil {
		return mailstore.Account{}, err
	}
	if !initial {
		challenge, done, err := server.Next(nil)
		if done || err != nil || (mech != sasl.Login && len(challenge) > 0) {
			t.Errorf("%s without an initial response: %q, %v, %v", mech, challenge, done, err)
		}
	}
	for range 10 {
		challenge, done, err := server.Next(response)
		if (err != nil || !done) && account().ID != 0 {
			t.Fatal("an account before the end of the exchange")
		}
		if err != nil || done {
			return account(), err
		}
		if response, err = client.Next(challenge); err != nil {
			t.Fatalf("%s: the client refuses %q: %v", mech, challenge, err)
		}
	}
	t.Fatalf("%s does not end", mech)
	return mailstore.Account{}, nil
}

func TestSASL(t *testing.T) {
	d := demo(t, Options{})
	for _, tt := range []struct {
		authzid, name, password, want string
	}{
		{"", "bob@hamburger.edu", "hungry", "bob@hamburger.edu"},
		{"", "BOB", "hungry", "bob@hamburger.edu"},
		{"bob@hamburger.edu", "bob", "hungry", "bob@hamburger.edu"},
		{"Bob", "bob@hamburger.edu", "hungry", "bob@hamburger.edu"},
		{"alice@hamburger.edu", "bob", "hungry", ""},
		{"nobody", "bob", "hungry", ""},
		{"", "zoë@crêpes.example", "sucré", "zoë@xn--crpes-isa.example"},
		{"", "bob", "thirsty", ""},
		{"", "bob", "", ""},
		{"", "", "hungry", ""},
		{"", "carol", "hungry", ""},
		{"", "bob,=x@hamburger.edu", "hungry", ""},
	} {
		clients := []sasl.Client{
			sasl.NewPlainClient(tt.authzid, tt.name, tt.password),
			newSCRAM(t, tt.name, tt.password, tt.authzid),
			newSCRAMWith(t, "SCRAM-SHA-1", scram.ChannelBinding{}, tt.name, tt.password, tt.authzid),
		}
		if tt.authzid == "" {
			clients = append(clients, sasl.NewLoginClient(tt.name, tt.password))
		}
		for i, client := range clients {
			if client, ok := client.(scramClient); ok && tt.name == "" {
				_ = client // this client has no empty names
				continue
			}
			account, err := converse(t, d, overTLS("192.0.2.1"), client, i%2 == 0)
			if account.Address != tt.want || account.Credentials != nil || (tt.want == "") != (err == ErrCredentials) {
				t.Errorf("%T with %q, %q, %q: %q, %v", client, tt.authzid, tt.name, tt.password, account.Address, err)
			}
		}
	}
}

func TestMechanisms(t *testing.T) {
	d := demo(t, Options{})
	stranger := Peer{Addr: netip.MustParseAddr("192.0.2.1")}
	if _, _, err := d.SASL(t.Context(), stranger, "CRAM-MD5"); err != ErrMechanism {
		t.Errorf("CRAM-MD5: %v", err)
	}
	for _, mech := range []string{"PLAIN", "login"} {
		if _, _, err := d.SASL(t.Context(), stranger, mech); err != ErrPlaintext {
			t.Errorf("%s without TLS: %v", mech, err)
		}
	}
	account, err := converse(t, d, stranger, newSCRAM(t, "bob", "hungry", ""), true)
	if account.Address != "bob@hamburger.edu" || err != nil {
		t.Errorf("SCRAM without TLS: %v, %v", account.Address, err)
	}
	for _, mech := range d.Mechanisms(overTLS("192.0.2.1")) {
		if _, _, err := d.SASL(t.Context(), overTLS("192.0.2.1"), strings.ToLower(mech)); err != nil {
			t.Errorf("%s: %v", mech, err)
		}
	}
}

func TestMalformedExchanges(t *testing.T) {
	d := demo(t, Options{})
	for _, tt := range []struct {
		mech      string
		responses []string
	}{
		{"PLAIN", []string{""}},
		{"PLAIN", []string{"bob"}},
		{"PLAIN", []string{"bob\x00hungry"}},
		{"PLAIN", []string{"\x00bob\x00hungry\x00"}},
		{"PLAIN", []string{"\x00bob\x00" + strings.Repeat("x", maxResponse)}},
		{"LOGIN", []string{strings.Repeat("x", maxResponse+1)}},
		{"SCRAM-SHA-256", []string{""}},
		{"SCRAM-SHA-256", []string{"n,,n=bob"}},
		{"SCRAM-SHA-256", []string{"x,,n=bob,r=abc"}},
		{"SCRAM-SHA-256", []string{"n,,n=b=ob,r=abc"}},
		{"SCRAM-SHA-256", []string{"n,,m=1,n=bob,r=abc"}},
		{"SCRAM-SHA-256", []string{"p=tls-exporter,,n=bob,r=abc"}},
		{"SCRAM-SHA-256", []string{"n,,n=bob,r=abc", ""}},
		{"SCRAM-SHA-256", []string{"n,,n=bob,r=abc", "c=biws,r=abc,p="}},
	} {
		server, account, err := d.SASL(t.Context(), overTLS("192.0.2.1"), tt.mech)
		must(t, err)
		for i, r := range tt.responses {
			var done bool
			_, done, err = server.Next([]byte(r))
			if done || (i < len(tt.responses)-1) != (err == nil) {
				t.Errorf("%s %.60q: done %v, %v", tt.mech, r, done, err)
			}
		}
		if !errors.Is(err, ErrCredentials) || account().ID != 0 {
			t.Errorf("%s %.60q: %v", tt.mech, tt.responses, err)
		}
		if _, done, err := server.Next([]byte("\x00bob\x00hungry")); done || !errors.Is(err, ErrMalformed) {
			t.Errorf("%s goes on after its end: %v, %v", tt.mech, done, err)
		}
	}
}

// TestSCRAMEnd: the client has the last word, which must be empty.
func TestSCRAMEnd(t *testing.T) {
	d := demo(t, Options{})
	client := newSCRAM(t, "bob", "hungry", "")
	server, account, err := d.SASL(t.Context(), overTLS("192.0.2.1"), "SCRAM-SHA-256")
	must(t, err)
	_, response, err := client.Start()
	must(t, err)
	for range 2 {
		challenge, done, err := server.Next(response)
		if done || err != nil {
			t.Fatalf("%v, %v", done, err)
		}
		response, err = client.Next(challenge)
		must(t, err)
	}
	if _, done, err := server.Next([]byte("*")); done || err != ErrMalformed || account().ID != 0 {
		t.Errorf("a cancelled exchange: %v, %v, %v", done, err, account())
	}
}

// serverFirst is the salt and count that a name gets.
func serverFirst(t *testing.T, d *Directory, mech, name string) string {
	t.Helper()
	server, _, err := d.SASL(t.Context(), overTLS("192.0.2.1"), mech)
	must(t, err)
	challenge, _, err := server.Next([]byte("n,,n=" + name + ",r=abc"))
	must(t, err)
	_, saltAndCount, _ := strings.Cut(string(challenge), ",")
	return saltAndCount
}

// TestSaltsLookTheSame: a name that nobody has gets a salt that does not
// change, also in another spelling, and with the same count.
func TestSaltsLookTheSame(t *testing.T) {
	d := demo(t, Options{})
	seen := make(map[string]bool)
	for _, spellings := range [][]string{
		{"bob", "BOB", "bob@hamburger.edu", "Bob@Hamburger.EDU"},
		{"carol", "CAROL", "carol@hamburger.edu", "Carol@Hamburger.EDU"},
		{"dave@example.com", "Dave@EXAMPLE.com"},
		{"not a name"},
		{"zoë@crêpes.example", "ZOË@xn--crpes-isa.example"},
	} {
		for _, h := range scramHashes {
			first := serverFirst(t, d, h.name, spellings[0])
			for range 2 {
				for _, name := range spellings {
					if got := serverFirst(t, d, h.name, name); got != first {
						t.Errorf("%s gets %s, %s gets %s", spellings[0], first, name, got)
					}
				}
			}
			if salt, count, _ := strings.Cut(first, ","); seen[salt] || count != "i=10" || len(salt) != len("s=")+24 {
				t.Errorf("%s gets %s", spellings[0], first)
			} else {
				seen[salt] = true
			}
		}
	}
}

// TestSCRAMIsSlowed: guesses by SCRAM count like others, also many at once.
func TestSCRAMIsSlowed(t *testing.T) {
	for _, name := range []string{"bob", "carol"} {
		synctest.Test(t, func(t *testing.T) {
			d := demo(t, Options{FailedLoginsPerMinute: 4})
			var judged atomic.Int32
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					if _, err := converse(t, d, overTLS("192.0.2.1"), newSCRAM(t, name, "wrong", ""), true); err == ErrCredentials {
						judged.Add(1)
					} else if err != ErrTooManyLogins {
						t.Errorf("%v", err)
					}
				})
			}
			wg.Wait()
			for range 4 {
				if _, err := converse(t, d, overTLS("192.0.2.1"), newSCRAM(t, name, "wrong", ""), true); err == ErrCredentials {
					judged.Add(1)
				}
			}
			if judged.Load() != 4 {
				t.Errorf("%s: %d guesses were judged", name, judged.Load())
			}
			if _, err := d.Login(t.Context(), overTLS("192.0.2.1"), "alice", "wonderland"); err != ErrTooManyLogins {
				t.Errorf("the address by another mechanism: %v", err)
			}
		})
	}
}

// TestPasswordsFit: what can be set can be used, by every mechanism, and only
// that.
func TestPasswordsFit(t *testing.T) {
	d := demo(t, Options{})
	rapid.Check(t, func(r *rapid.T) {
		password := rapid.StringN(1, 60, maxPassword).Draw(r, "password")
		other := rapid.StringN(0, 60, maxPassword).Draw(r, "other")
		if err := d.SetPassword(t.Context(), "bob@hamburger.edu", password); err != nil {
			if !errors.Is(err, ErrInvalid) {
				r.Fatalf("%q: %v", password, err)
			}
			return
		}
		same := Password(password).prepared() == Password(other).prepared()
		for _, try := range []string{password, other} {
			want := try == password || same
			for _, c := range []sasl.Client{
				sasl.NewPlainClient("", "bob", try), sasl.NewLoginClient("bob", try), newSCRAM(t, "bob", try, ""),
				newSCRAMWith(t, "SCRAM-SHA-1", scram.ChannelBinding{}, "bob", try, ""),
			} {
				if _, ok := c.(scramClient); !ok && strings.Contains(try, "\x00") {
					continue // cannot be said
				}
				if _, err := converse(t, d, overTLS("192.0.2.1"), c, true); (err == nil) != want {
					r.Fatalf("password %q, %T with %q: %v", password, c, try, err)
				}
			}
		}
	})
}

// FuzzSASL: no bytes of a client that does not know the password log it in,
// and an exchange that failed stays so.
func FuzzSASL(f *testing.F) {
	server, _ := tlsPair(f, tls.VersionTLS13, nil)
	bound := overTLS("192.0.2.1")
	bound.TLS = &server
	for _, mech := range []string{mechOAuth, mechXOAuth2} {
		f.Add(mech, []byte("n,a=bob,\x01host=hamburger.edu\x01auth=Bearer short-name\x01\x01\n\x01"))
		f.Add(mech, []byte("user=bob\x01auth=Bearer expired\x01\x01\n\n"))
	}
	for _, mech := range []string{"PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"} {
		f.Add(mech, []byte("p=tls-exporter,,n=bob,r=abc\nc=cD10bHMtZXhwb3J0ZXIsLA==,r=abc,p=AAAA\n\n"))
		f.Add(mech, []byte("\x00bob\x00hungry"))
		f.Add(mech, []byte("bob\nhungry\n"))
		f.Add(mech, []byte("n,,n=bob,r=abc\nc=biws,r=abc,p=AAAA\n\n"))
		f.Add(mech, []byte("n,a=alice,n=b=2Cob,r=\nc=biws,r=,p=\n\n"))
	}
	d := open(f, Options{Tokens: fakeTokens{}})
	must(f, d.AddDomain(f.Context(), "hamburger.edu"))
	secret := fmt.Sprintf("%x", random(16))
	must(f, d.AddAccount(f.Context(), "bob@hamburger.edu", secret))
	f.Fuzz(func(t *testing.T, mech string, script []byte) {
		server, account, err := d.SASL(t.Context(), bound, mech)
		if err != nil {
			if slices.Contains(d.Mechanisms(bound), strings.ToUpper(mech)) {
				t.Errorf("%s: %v", mech, err)
			}
			return
		}
		failed := false
		for line := range bytes.SplitSeq(script, []byte("\n")) {
			challenge, done, err := server.Next(line)
			if done || account().ID != 0 {
				t.Fatalf("%s logs in with %q", mech, script)
			}
			if failed && err == nil {
				t.Fatalf("%s goes on after an error with %q", mech, line)
			}
			if err != nil && !errors.Is(err, ErrCredentials) && !bytes.Contains(script, []byte("Bearer ")) { // "busy" is a token
				t.Fatalf("%s: %q is answered by %v", mech, line, err)
			}
			if !utf8.Valid(challenge) && utf8.Valid(script) {
				t.Errorf("%s: challenge %q", mech, challenge)
			}
			failed = failed || err != nil
		}
	})
}

// FuzzLogin: no name and password but the right ones log in, and names are
// looked up in one form.
func FuzzLogin(f *testing.F) {
	f.Add("bob", "hungry")
	f.Add("bob@hamburger.edu", "")
	f.Add(`"b\ob"@hamburger.edu`, "x")
	d := open(f, Options{})
	must(f, d.AddDomain(f.Context(), "hamburger.edu"))
	secret := fmt.Sprintf("%x", random(16))
	must(f, d.AddAccount(f.Context(), "bob@hamburger.edu", secret))
	f.Fuzz(func(t *testing.T, name, password string) {
		if _, err := d.Login(t.Context(), overTLS("192.0.2.1"), name, password); err != ErrCredentials {
			t.Fatalf("Login(%q, %q): %v", name, password, err)
		}
		a := loginAddress(name, "hamburger.edu")
		account, err := d.Login(t.Context(), overTLS("192.0.2.1"), name, secret)
		if is := key(a) == "bob@hamburger.edu"; is != (err == nil) || is != (account.ID != 0) {
			t.Fatalf("Login(%q) as %q: %v", name, key(a), err)
		}
		if !a.IsZero() && loginAddress(key(a), "hamburger.edu") != a {
			t.Fatalf("%q is %q, and that is %q", name, key(a), key(loginAddress(key(a), "hamburger.edu")))
		}
	})
}

func BenchmarkResolve(b *testing.B) {
	d := demo(b, Options{})
	known, foreign := addr(b, "bob+list@hamburger.edu"), addr(b, "bob@example.com")
	b.Run("account", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := d.Resolve(b.Context(), known); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("foreign", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := d.Resolve(b.Context(), foreign); err != ErrNoDomain {
				b.Fatal(err)
			}
		}
	})
	b.Run("unknown", func(b *testing.B) {
		unknown := addr(b, "nobody@hamburger.edu")
		for b.Loop() {
			if _, err := d.Resolve(b.Context(), unknown); err != ErrNoUser {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkLogin(b *testing.B) {
	d := demo(b, Options{FailedLoginsPerMinute: 10})
	d.passwords.cost = defaultCost()
	must(b, d.SetPassword(b.Context(), "bob@hamburger.edu", "hungry"))
	b.Run("remembered", func(b *testing.B) {
		for b.Loop() {
			if _, err := d.Login(b.Context(), overTLS("192.0.2.1"), "bob", "hungry"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("hashed", func(b *testing.B) {
		for b.Loop() {
			clear(d.verified.logins)
			if _, err := d.Login(b.Context(), overTLS("192.0.2.1"), "bob", "hungry"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
