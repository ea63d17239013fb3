package smtpd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/emersion/go-sasl"

	"postrider/internal/directory"
	"postrider/mailstore"
	"postrider/mailstore/storetest"
	"postrider/mta"
)

// world is what stands around a server in tests: hamburger.edu with the users
// alice (who is ally too) and bob.
type world struct {
	store *mailstore.Store
	taken chan taken
	free  sync.Mutex // held while Accept must wait

	mu      sync.Mutex
	refusal error // of the next Accept
}

// taken is one message that the queue took.
type taken struct {
	env     mta.Envelope
	content string
}

func newWorld(tb testing.TB) *world {
	store, err := mailstore.Open(context.Background(), storetest.NewEngine(), mailstore.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := store.Close(); err != nil {
			tb.Error(err)
		}
	})
	return &world{store: store, taken: make(chan taken, 10000)}
}

func (w *world) NewBody() *mailstore.BodyWriter { return w.store.NewBody() }

func (w *world) Accept(_ context.Context, env *mta.Envelope, body *mailstore.Body) error {
	w.free.Lock()
	defer w.free.Unlock()
	w.mu.Lock()
	err := w.refusal
	w.refusal = nil
	w.mu.Unlock()
	if err != nil {
		return err
	}
	b, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	if err != nil {
		return err
	}
	w.taken <- taken{*env, string(b)}
	return nil
}

func (w *world) Recipient(_ context.Context, c mta.Client, to mta.Address) ([]mta.Target, error) {
	switch strings.ToLower(to.Base().Local) {
	case "broken":
		return nil, errors.New("the disk is on fire at /var/lib/postrider")
	case "later":
		return nil, mta.Errorf(450, "4.2.1", "The mailbox is asleep")
	}
	if to.Domain != "hamburger.edu" && to.Domain != "" {
		if c.Account == 0 {
			return nil, mta.Errorf(550, "5.7.1", "relaying denied")
		}
		return []mta.Target{{Remote: to}}, nil
	}
	switch strings.ToLower(to.Base().Local) {
	case "crowd": // an alias
		return make([]mta.Target, maxTargets/2), nil
	case "alice", "postmaster", "用户":
		return []mta.Target{{Account: 1}}, nil
	case "bob":
		return []mta.Target{{Account: 2}}, nil
	case "carl":
		return []mta.Target{{Account: 3}}, nil
	}
	return nil, mta.Errorf(550, "5.1.1", "There is no %s here", to.Local)
}

// carlsRoom is what carl's mailbox has room for, in octets.
const carlsRoom = 300

func (w *world) Room(_ context.Context, to mta.Address, targets []mta.Target, size int64) error {
	switch {
	case to.Local == "bob+broken":
		return errors.New("the disk is on fire at /var/lib/postrider")
	case targets[0].Account == 3 && size > carlsRoom:
		return mta.Errorf(452, "4.2.2", "The mailbox of %s has room for %d octets", to, carlsRoom)
	}
	return nil
}

func (w *world) Mechanisms(p directory.Peer) []string {
	if p.TLS == nil {
		return []string{"SCRAM-TEST"}
	}
	return []string{"SCRAM-TEST", "PLAIN", "LOGIN"}
}

func (w *world) SASL(_ context.Context, p directory.Peer, mech string) (sasl.Server, func() mailstore.Account, error) {
	account := func() mailstore.Account {
		return mailstore.Account{ID: 1, Address: "alice@hamburger.edu"}
	}
	switch mech {
	case "PLAIN":
		if p.TLS == nil {
			return nil, nil, directory.ErrPlaintext
		}
		return sasl.NewPlainServer(func(_, user, password string) error { return w.check(user, password) }), account, nil
	case "LOGIN":
		return &loginServer{check: w.check}, account, nil
	case "SCRAM-TEST":
		return &scramServer{}, account, nil
	}
	return nil, nil, directory.ErrMechanism
}

func (w *world) check(user, password string) error {
	switch {
	case user == "alice@hamburger.edu" && password == "wonderland":
		return nil
	case user == "":
		return directory.ErrMalformed
	case user == "busy":
		return directory.ErrBusy
	case user == "guesser":
		return directory.ErrTooManyLogins
	case user == "broken":
		return errors.New("the disk is on fire at /var/lib/postrider")
	}
	return directory.ErrCredentials
}

func (w *world) Owns(_ context.Context, account int64, a mta.Address) (bool, error) {
	if a.Local == "broken" {
		return false, errors.New("the disk is on fire at /var/lib/postrider")
	}
	local := a.Base().Local
	return account == 1 && a.Domain == "hamburger.edu" && (local == "alice" || local == "ally"), nil
}

// OpenURL opens what the end of a URL names.
func (w *world) OpenURL(_ context.Context, account mailstore.Account, url string) (io.ReadCloser, int64, error) {
	if account.Address != "alice@hamburger.edu" {
		return nil, 0, errors.New("who is " + account.Address)
	}
	const here = "imap://alice@hamburger.edu/Drafts/;UID="
	name, ok := strings.CutPrefix(url, here)
	if !ok {
		return nil, 0, mta.Errorf(554, "5.7.8", "URL resolution requires trust relationship")
	}
	text := map[string]string{
		"letter": "From: alice@hamburger.edu\r\nDate: Sat, 01 Jan 2000 00:00:00 +0000\r\nMessage-ID: <1@a>\r\nBcc: carl@hamburger.edu\r\n\r\n.\r\nD\xc3\xa9j\xc3\xa0 vu\r\n",
		"part":   ".\r\nas it is",
		"empty":  "",
		"eve":    "From: eve@evil.org\r\n\r\nhello\r\n",
		"nul":    "From: alice@hamburger.edu\r\n\r\na\x00b\r\n",
		"bare":   "From: alice@hamburger.edu\r\n\r\na\nb\r\n",
		"large":  "From: alice@hamburger.edu\r\n\r\n" + strings.Repeat("x", 2000) + "\r\n",
		"torn":   "From: alice@hamburger.edu\r\n",
	}
	content, ok := text[name]
	switch {
	case name == "broken":
		return nil, 0, errors.New("the disk is on fire at /var/lib/postrider")
	case name == "torn":
		return io.NopCloser(io.MultiReader(strings.NewReader(content), iotest.ErrReader(io.ErrUnexpectedEOF))), 100, nil
	case !ok:
		return nil, 0, mta.Errorf(554, "5.6.6", "IMAP URL resolution failed")
	}
	return io.NopCloser(strings.NewReader(content)), int64(len(content)), nil
}

// loginServer is the server side of LOGIN.
type loginServer struct {
	check func(user, password string) error
	step  int
	user  string
}

func (l *loginServer) Next(response []byte) ([]byte, bool, error) {
	if response == nil && l.step == 0 {
		l.step = 1
		return []byte("Username:"), false, nil
	}
	if l.step < 2 {
		l.user, l.step = string(response), 2
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.user, string(response))
}

// scramServer has the shape of SCRAM: the client speaks first, and the last
// challenge comes with the success.
type scramServer struct{ step int }

func (s *scramServer) Next(response []byte) ([]byte, bool, error) {
	s.step++
	switch {
	case s.step == 1 && response == nil:
		s.step = 0
		return []byte{}, false, nil
	case s.step == 1:
		return []byte("salt"), false, nil
	case string(response) != "proof":
		return nil, false, directory.ErrCredentials
	}
	return []byte("verifier"), true, nil
}

// testTLS is a server's configuration with a certificate of its own.
func testTLS(tb testing.TB) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"hamburger.edu"},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
}

// options is a server for hamburger.edu in w.
func (w *world) options() Options {
	return Options{
		Hostname:  "hamburger.edu",
		Router:    w,
		Queue:     w,
		Directory: w,
		URLs:      w,
		Random:    func() uint64 { return 0 },
		Log:       slog.New(slog.DiscardHandler),
	}
}
