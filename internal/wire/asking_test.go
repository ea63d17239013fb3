package wire

import (
	"crypto/tls"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"postrider/internal/wire/wiretest"
)

// TestAskingConfig: clients are asked for a certificate while that is of use, and
// one who was there before is asked as well, though he has a ticket.
func TestAskingConfig(t *testing.T) {
	dir := t.TempDir()
	files := func(name string) (cert, key string) {
		cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
		writePair(t, cert, key, name, time.Hour)
		return cert, key
	}
	cert, key := files("hamburger.edu")
	certs, err := LoadCertificates(cert, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(files("bob"))
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		var ask atomic.Bool
		server := certs.AskingConfig(ask.Load)
		client := &tls.Config{InsecureSkipVerify: true, MaxVersion: version, ServerName: "hamburger.edu",
			ClientSessionCache: tls.NewLRUClientSessionCache(8), Certificates: []tls.Certificate{pair}}
		for i, step := range []struct{ ask, resumed, shown bool }{
			{false, false, false}, {false, true, false}, // resumed as it was
			{true, false, true}, {true, true, true}, // asked, and resumed as it is
			{false, false, false},
		} {
			ask.Store(step.ask)
			state := shake(t, server, client)
			if shown := len(state.PeerCertificates) == 1; state.DidResume != step.resumed || shown != step.shown {
				t.Errorf("version %x, step %d: resumed %v, shown %v", version, i, state.DidResume, shown)
			}
		}
		ask.Store(true)
		client.Certificates = nil
		client.ClientSessionCache = nil
		if state := shake(t, server, client); len(state.PeerCertificates) != 0 {
			t.Error("a certificate from nowhere")
		}
	}
}

// shake does a handshake, and an octet each way for the ticket to arrive; it
// returns the server's view.
func shake(t *testing.T, server, client *tls.Config) tls.ConnectionState {
	t.Helper()
	near, far := wiretest.Pipe()
	defer near.Close()
	defer far.Close()
	s, c := tls.Server(far, server), tls.Client(near, client)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("x"))
		}
		done <- err
	}()
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return s.ConnectionState()
}
