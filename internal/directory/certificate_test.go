package directory

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postrider/mailstore"
)

// person has a key, and certificates for it.
type person struct {
	t   testing.TB
	key *ecdsa.PrivateKey
}

func newPerson(t testing.TB) person {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return person{t, key}
}

// certificate is one for the key with these dates.
func (p person) certificate(name string, from, until time.Time) *x509.Certificate {
	p.t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(from.Unix()), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, p.key.Public(), p.key)
	must(p.t, err)
	c, err := x509.ParseCertificate(der)
	must(p.t, err)
	return c
}

// current is one that is valid now.
func (p person) current() *x509.Certificate {
	return p.certificate("somebody", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
}

func asPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// showing is a peer that has shown a certificate.
func showing(from string, c *x509.Certificate) Peer {
	p := Peer{Addr: netip.MustParseAddr(from), TLS: &tls.ConnectionState{}, Protocol: "test"}
	if c != nil {
		p.TLS.PeerCertificates = []*x509.Certificate{c}
	}
	return p
}

// external logs in by EXTERNAL with an initial response.
func external(t testing.TB, d *Directory, p Peer, authzid string) (string, error) {
	t.Helper()
	server, account, err := d.SASL(t.Context(), p, "EXTERNAL")
	if err != nil {
		return "", err
	}
	challenge, done, err := server.Next([]byte(authzid))
	if len(challenge) > 0 || done != (err == nil) {
		t.Fatalf("%q, %v, %v", challenge, done, err)
	}
	return account().Address, err
}

func TestExternal(t *testing.T) {
	d := demo(t, Options{})
	bob, stranger := newPerson(t), newPerson(t)
	now := time.Now()
	shown := bob.current()
	if _, err := external(t, d, showing("192.0.2.1", shown), ""); err != ErrCredentials || d.AsksCertificates() {
		t.Errorf("before it is added: %v", err)
	}
	added, err := d.AddCertificate(t.Context(), "Bob@hamburger.edu", asPEM(shown))
	must(t, err)
	if added.Account != "bob@hamburger.edu" || added.Subject != "CN=somebody" || len(added.Fingerprint) != 64 || !d.AsksCertificates() {
		t.Errorf("%+v", added)
	}
	for _, tt := range []struct {
		name, authzid, want string
		shown               *x509.Certificate
	}{
		{"as himself", "", "bob@hamburger.edu", shown},
		{"as himself by name", "bob@hamburger.edu", "bob@hamburger.edu", shown},
		{"as himself by short name", "BOB", "bob@hamburger.edu", shown},
		{"as another", "alice@hamburger.edu", "", shown},
		{"as nobody", "nobody", "", shown},
		{"as what is no name", "\xff\x00", "", shown},
		{"renewed with the same key", "", "bob@hamburger.edu", bob.certificate("x", now.Add(-time.Minute), now.Add(time.Minute))},
		{"ended", "", "", bob.certificate("x", now.Add(-time.Hour), now.Add(-time.Minute))},
		{"not begun", "", "", bob.certificate("x", now.Add(time.Minute), now.Add(time.Hour))},
		{"another key", "", "", stranger.current()},
		{"another key as bob", "bob@hamburger.edu", "", stranger.current()},
	} {
		who, err := external(t, d, showing("192.0.2.1", tt.shown), tt.authzid)
		if who != tt.want || (tt.want == "") != (err == ErrCredentials) {
			t.Errorf("%s: %q, %v", tt.name, who, err)
		}
	}
	for _, p := range []Peer{showing("192.0.2.1", nil), {Addr: netip.MustParseAddr("192.0.2.1")}} {
		if _, err := external(t, d, p, ""); err != ErrMechanism {
			t.Errorf("without a certificate: %v", err)
		}
	}
	if !slices.Contains(d.Mechanisms(showing("192.0.2.1", shown)), "EXTERNAL") ||
		slices.Contains(d.Mechanisms(showing("192.0.2.1", stranger.current())), "EXTERNAL") ||
		slices.Contains(d.Mechanisms(showing("192.0.2.1", nil)), "EXTERNAL") {
		t.Error("EXTERNAL is offered to the wrong ones")
	}
}

func TestCertificates(t *testing.T) {
	d := demo(t, Options{})
	bob := newPerson(t)
	added, err := d.AddCertificate(t.Context(), "bob@hamburger.edu", append([]byte("-----BEGIN X-----\n-----END X-----\n"), asPEM(bob.current())...))
	must(t, err)
	for _, tt := range []struct {
		address string
		text    []byte
		want    error
	}{
		{"bob@hamburger.edu", asPEM(bob.current()), ErrExists},
		{"alice@hamburger.edu", asPEM(bob.current()), ErrExists},
		{"carol@hamburger.edu", asPEM(newPerson(t).current()), ErrNoUser},
		{"bob", asPEM(newPerson(t).current()), ErrInvalid},
		{"bob@hamburger.edu", nil, ErrInvalid},
		{"bob@hamburger.edu", []byte("hello"), ErrInvalid},
		{"bob@hamburger.edu", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), ErrInvalid},
		{"bob@hamburger.edu", asPEM(newPerson(t).certificate("x", time.Unix(0, 0), time.Unix(1, 0))), ErrInvalid},
	} {
		if _, err := d.AddCertificate(t.Context(), tt.address, tt.text); !errors.Is(err, tt.want) {
			t.Errorf("%s, %.30q: %v", tt.address, tt.text, err)
		}
	}
	for range maxCertificates - 1 {
		_, err := d.AddCertificate(t.Context(), "bob@hamburger.edu", asPEM(newPerson(t).current()))
		must(t, err)
	}
	if _, err := d.AddCertificate(t.Context(), "bob@hamburger.edu", asPEM(newPerson(t).current())); !errors.Is(err, ErrInvalid) {
		t.Errorf("one more than %d: %v", maxCertificates, err)
	}
	alice := newPerson(t)
	of, err := d.AddCertificate(t.Context(), "alice@hamburger.edu", asPEM(alice.certificate(strings.Repeat("ü\n", maxSubject), time.Now(), time.Now().Add(time.Hour))))
	must(t, err)
	if len(of.Subject) > maxSubject || strings.ContainsAny(of.Subject, "\n") {
		t.Errorf("the subject is %q", of.Subject)
	}
	all, err := d.Certificates(t.Context(), "")
	must(t, err)
	his, err := d.Certificates(t.Context(), "bob@hamburger.edu")
	must(t, err)
	if len(all) != maxCertificates+1 || len(his) != maxCertificates || his[0] != added {
		t.Errorf("%d certificates in all, %d of bob, the first %+v", len(all), len(his), his[0])
	}
	for _, print := range []string{"", added.Fingerprint[:7], strings.Repeat("0", 64), of.Fingerprint} {
		if err := d.RemoveCertificate(t.Context(), "bob@hamburger.edu", print); !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrNoCertificate) {
			t.Errorf("remove %q: %v", print, err)
		}
	}
	must(t, d.RemoveCertificate(t.Context(), "bob@hamburger.edu", strings.ToUpper(added.Fingerprint[:2]+":"+added.Fingerprint[2:12])))
	if _, err := external(t, d, showing("192.0.2.1", bob.current()), ""); err != ErrCredentials {
		t.Errorf("after it was removed: %v", err)
	}
	_, err = d.AddCertificate(t.Context(), "alice@hamburger.edu", asPEM(bob.current())) // the key is free again
	must(t, err)
}

// TestCertificatesLast: they outlive a restart and a new password, and go with
// the account.
func TestCertificatesLast(t *testing.T) {
	d := demo(t, Options{})
	bob := newPerson(t)
	_, err := d.AddCertificate(t.Context(), "bob@hamburger.edu", asPEM(bob.current()))
	must(t, err)
	must(t, d.SetPassword(t.Context(), "bob@hamburger.edu", "starved"))
	again, err := newDirectory(d.store, Options{}, cheap())
	must(t, err)
	if who, err := external(t, again, showing("192.0.2.1", bob.current()), ""); who != "bob@hamburger.edu" || err != nil {
		t.Errorf("after a restart: %q, %v", who, err)
	}
	must(t, d.RemoveAccount(t.Context(), "bob@hamburger.edu"))
	must(t, d.AddAccount(t.Context(), "bob@hamburger.edu", "another"))
	if _, err := external(t, d, showing("192.0.2.1", bob.current()), ""); err != ErrCredentials || d.AsksCertificates() {
		t.Errorf("a new account of the old name: %v", err)
	}
	must(t, d.store.View(t.Context(), func(v *mailstore.View) error {
		_, err := v.Setting(certificatesCount)
		if !errors.Is(err, mailstore.ErrNotFound) {
			t.Errorf("the count: %v", err)
		}
		return nil
	}))
}

// TestExternalIsSlowed: certificates of nobody count against their network, and
// guesses at bob's password do not keep his certificate out.
func TestExternalIsSlowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := demo(t, Options{FailedLoginsPerMinute: 4})
		bob := newPerson(t)
		shown := bob.certificate("x", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
		_, err := d.AddCertificate(t.Context(), "bob@hamburger.edu", asPEM(shown))
		must(t, err)
		for range 4 {
			d.Login(t.Context(), overTLS("192.0.2.1"), "bob", "wrong")
		}
		if _, err := d.Login(t.Context(), overTLS("198.51.100.1"), "bob", "hungry"); err != ErrTooManyLogins {
			t.Errorf("bob's password after guesses: %v", err)
		}
		if who, err := external(t, d, showing("198.51.100.1", shown), ""); who != "bob@hamburger.edu" || err != nil {
			t.Errorf("bob's certificate after guesses: %q, %v", who, err)
		}
		for i := range 5 {
			stranger := newPerson(t).certificate("x", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
			want := ErrCredentials
			if i == 4 {
				want = ErrTooManyLogins
			}
			if _, err := external(t, d, showing("203.0.113.1", stranger), ""); err != want {
				t.Errorf("attempt %d of a stranger: %v", i, err)
			}
		}
	})
}
