package directory

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
)

// byToken logs in by OAUTHBEARER.
func byToken(t *testing.T, d *Directory, from, token string) error {
	t.Helper()
	p := Peer{Addr: netip.MustParseAddr(from), TLS: new(tls.ConnectionState), Protocol: "test"}
	server, account, err := d.SASL(t.Context(), p, "OAUTHBEARER")
	must(t, err)
	challenge, done, err := server.Next([]byte("n,,\x01auth=Bearer " + token + "\x01\x01"))
	if err == nil && !done {
		if len(challenge) == 0 {
			t.Error("an empty challenge")
		}
		_, done, err = server.Next([]byte("\x01"))
	}
	if done != (err == nil) || done != (account().ID != 0) {
		t.Errorf("done %v, %v, account %v", done, err, account())
	}
	return err
}

// TestTokensAreSlowed: tokens that are none count against their network; those
// that have expired do not, as a client learns only so that it needs a new one.
func TestTokensAreSlowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, Options{FailedLoginsPerMinute: 4, Tokens: fakeTokens{}})
		must(t, d.AddDomain(t.Context(), "hamburger.edu"))
		must(t, d.AddAccount(t.Context(), "user@hamburger.edu", "pencil"))
		for range 20 {
			if err := byToken(t, d, "192.0.2.1", "expired"); err != ErrCredentials {
				t.Fatalf("expired: %v", err)
			}
		}
		for i := range 5 {
			want := ErrCredentials
			if i == 4 {
				want = ErrTooManyLogins
			}
			if err := byToken(t, d, "192.0.2.1", strings.Repeat("x", i+1)); err != want {
				t.Errorf("guess %d: %v", i, err)
			}
		}
		if err := byToken(t, d, "198.51.100.1", "short-name"); err != nil {
			t.Errorf("from elsewhere: %v", err)
		}
	})
}

// TestNoTokens: without an issuer there is no such mechanism.
func TestNoTokens(t *testing.T) {
	d := demo(t, Options{})
	for _, mech := range []string{"OAUTHBEARER", "XOAUTH2"} {
		if _, _, err := d.SASL(t.Context(), overTLS("192.0.2.1"), mech); err != ErrMechanism {
			t.Errorf("%s: %v", mech, err)
		}
	}
}

// TestManyPairs: limits on a client's message.
func TestManyPairs(t *testing.T) {
	message := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(strings.Repeat("k", i+1) + "=v\x01")
		}
		return b.String() + "\x01"
	}
	if pairs, err := parsePairs(message(maxPairs)); err != nil || len(pairs) != maxPairs {
		t.Errorf("%d pairs: %v", len(pairs), err)
	}
	if _, err := parsePairs(message(maxPairs + 1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("one more: %v", err)
	}
}

// FuzzBearer: what we read we can print, and what we print means the same.
func FuzzBearer(f *testing.F) {
	f.Add("n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer abc\x01\x01")
	f.Add("y,a=a=2Cb=3D,\x01auth=\x01\x01")
	f.Add("n,a=\x01")
	f.Fuzz(func(t *testing.T, s string) {
		b, err := parseBearer(s)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		printed := "n,"
		if b.authzid != "" {
			printed += "a=" + strings.NewReplacer(",", "=2C", "=", "=3D").Replace(b.authzid)
		}
		printed += ",\x01host=" + b.host + "\x01auth="
		if b.token != "" {
			printed += "Bearer " + b.token
		}
		if again, err := parseBearer(printed + "\x01\x01"); err != nil || again != b {
			t.Errorf("%q is %+v, printed %q, read as %+v, %v", s, b, printed, again, err)
		}
	})
}
