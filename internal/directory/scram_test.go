package directory

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"

	"postrider/internal/wire/wiretest"
	"postrider/mailstore"
)

// tlsPair does a handshake of at most the version and returns what either side
// knows of the connection. change may change the server's configuration.
func tlsPair(t testing.TB, version uint16, change func(server, client *tls.Config)) (server, client tls.ConnectionState) {
	t.Helper()
	serverConfig, clientConfig := wiretest.TLS(t, "hamburger.edu")
	clientConfig.MaxVersion = version
	if change != nil {
		change(serverConfig, clientConfig)
	}
	near, far := wiretest.Pipe()
	defer near.Close()
	defer far.Close()
	s, c := tls.Server(far, serverConfig), tls.Client(near, clientConfig)
	done := make(chan error)
	go func() { done <- s.Handshake() }()
	must(t, c.Handshake())
	must(t, <-done)
	return s.ConnectionState(), c.ConnectionState()
}

// bindless makes connections whose bindings package tls refuses to tell.
func bindless(server, _ *tls.Config) { server.Renegotiation = tls.RenegotiateOnceAsClient }

func peerOf(state tls.ConnectionState) Peer {
	return Peer{Addr: netip.MustParseAddr("192.0.2.1"), TLS: &state, Protocol: "test"}
}

// clientBinding is what a client has for a type; empty where TLS has none.
func clientBinding(t testing.TB, state tls.ConnectionState, kind scram.ChannelBindingType) scram.ChannelBinding {
	t.Helper()
	if kind == scram.ChannelBindingTLSUnique {
		return scram.NewTLSUniqueBinding(state.TLSUnique)
	}
	b, err := scram.NewTLSExporterBinding(&state)
	must(t, err)
	return b
}

// TestChannelBinding: RFC 5802 section 6, RFC 9266 section 3.
func TestChannelBinding(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		server, client := tlsPair(t, version, nil)
		other, _ := tlsPair(t, version, nil)
		for _, h := range scramHashes {
			for _, kind := range []scram.ChannelBindingType{scram.ChannelBindingTLSUnique, scram.ChannelBindingTLSExporter} {
				if version == tls.VersionTLS13 && kind == scram.ChannelBindingTLSUnique {
					continue
				}
				d := demo(t, Options{})
				login := func(p Peer, password string) (string, error) {
					a, err := converse(t, d, p, newSCRAMWith(t, h.name+plus, clientBinding(t, client, kind), "bob", password, ""), true)
					return a.Address, err
				}
				if who, err := login(peerOf(server), "hungry"); who != "bob@hamburger.edu" || err != nil {
					t.Errorf("%s over %x with %s: %q, %v", h.name, version, kind, who, err)
				}
				if who, err := login(peerOf(server), "angry"); who != "" || err != ErrCredentials {
					t.Errorf("%s over %x with %s, wrong password: %q, %v", h.name, version, kind, who, err)
				}
				if who, err := login(peerOf(other), "hungry"); who != "" || err != ErrCredentials {
					t.Errorf("%s over %x with %s of another connection: %q, %v", h.name, version, kind, who, err)
				}
			}
		}
	}
}

// TestBindingOffered: the -PLUS mechanisms are there exactly where TLS has a
// binding that one can rely on.
func TestBindingOffered(t *testing.T) {
	d := demo(t, Options{})
	modern, _ := tlsPair(t, tls.VersionTLS13, nil)
	older, _ := tlsPair(t, tls.VersionTLS12, nil)
	weak, _ := tlsPair(t, tls.VersionTLS12, bindless)
	for _, tt := range []struct {
		name  string
		state *tls.ConnectionState
		want  []scram.ChannelBindingType
	}{
		{"no TLS", nil, nil},
		{"TLS 1.3", &modern, []scram.ChannelBindingType{scram.ChannelBindingTLSExporter}},
		{"TLS 1.2", &older, []scram.ChannelBindingType{scram.ChannelBindingTLSUnique, scram.ChannelBindingTLSExporter}},
		{"TLS 1.2, not to be relied on", &weak, nil},
	} {
		var got []scram.ChannelBindingType
		for _, b := range bindings(tt.state) {
			got = append(got, b.Type)
		}
		p := Peer{Addr: netip.MustParseAddr("192.0.2.1"), TLS: tt.state}
		offered := slices.Contains(d.Mechanisms(p), "SCRAM-SHA-256-PLUS") && slices.Contains(d.Mechanisms(p), "SCRAM-SHA-1-PLUS")
		_, _, err := d.SASL(t.Context(), p, "scram-sha-1-plus")
		if !slices.Equal(got, tt.want) || offered != (len(tt.want) > 0) || (err == ErrMechanism) == offered {
			t.Errorf("%s: %v, offered %v, %v", tt.name, got, offered, err)
		}
	}
}

// TestNoBinding: where it is turned off there is no -PLUS, and no client is
// suspected for seeing none.
func TestNoBinding(t *testing.T) {
	d := demo(t, Options{NoChannelBinding: true})
	server, client := tlsPair(t, tls.VersionTLS13, nil)
	p := peerOf(server)
	if _, _, err := d.SASL(t.Context(), p, "SCRAM-SHA-256-PLUS"); err != ErrMechanism || strings.Contains(strings.Join(d.Mechanisms(p), " "), plus) {
		t.Errorf("%v, %v", d.Mechanisms(p), err)
	}
	b := clientBinding(t, client, scram.ChannelBindingTLSExporter)
	if _, err := converse(t, d, p, newSCRAMWith(t, "SCRAM-SHA-256", b, "bob", "hungry", ""), true); err != nil {
		t.Errorf("a client that says y: %v", err)
	}
}

// TestFlags: which gs2-cbind-flag goes with which mechanism.
func TestFlags(t *testing.T) {
	modern, _ := tlsPair(t, tls.VersionTLS13, nil)
	older, _ := tlsPair(t, tls.VersionTLS12, nil)
	weak, _ := tlsPair(t, tls.VersionTLS12, bindless)
	log := new(strings.Builder)
	d := demo(t, Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	for _, tt := range []struct {
		state *tls.ConnectionState
		mech  string
		flag  string
		good  bool
	}{
		{nil, "SCRAM-SHA-256", "n", true},
		{nil, "SCRAM-SHA-256", "y", true},
		{nil, "SCRAM-SHA-256", "p=tls-unique", false},
		{&weak, "SCRAM-SHA-1", "y", true},
		{&modern, "SCRAM-SHA-256", "n", true},
		{&modern, "SCRAM-SHA-256", "y", false},
		{&modern, "SCRAM-SHA-1", "y", false},
		{&older, "SCRAM-SHA-1", "y", false},
		{&modern, "SCRAM-SHA-256", "p=tls-exporter", false},
		{&modern, "SCRAM-SHA-256-PLUS", "p=tls-exporter", true},
		{&modern, "SCRAM-SHA-256-PLUS", "n", false},
		{&modern, "SCRAM-SHA-256-PLUS", "y", false},
		{&modern, "SCRAM-SHA-256-PLUS", "p=tls-unique", false},
		{&modern, "SCRAM-SHA-256-PLUS", "p=tls-server-end-point", false},
		{&modern, "SCRAM-SHA-256-PLUS", "p=", false},
		{&modern, "SCRAM-SHA-256-PLUS", "p=TLS-EXPORTER", false},
		{&older, "SCRAM-SHA-256-PLUS", "p=tls-unique", true},
	} {
		log.Reset()
		p := Peer{Addr: netip.MustParseAddr("192.0.2.1"), TLS: tt.state}
		server, _, err := d.SASL(t.Context(), p, tt.mech)
		must(t, err)
		_, done, err := server.Next([]byte(tt.flag + ",,n=bob,r=abc"))
		if done || (err == nil) != tt.good || (err != nil && err != ErrMalformed) {
			t.Errorf("%s with %s: %v", tt.mech, tt.flag, err)
		}
		if warned, due := strings.Contains(log.String(), "WARN"), tt.flag == "y" && !tt.good && !strings.HasSuffix(tt.mech, plus); warned != due {
			t.Errorf("%s with %s: the log has %q", tt.mech, tt.flag, log)
		}
	}
}

// TestBoundToTheHeader: a client that said one thing in its first message and
// another in its last is refused, though its proof is of the last (RFC 5802
// section 6).
func TestBoundToTheHeader(t *testing.T) {
	d := demo(t, Options{})
	for _, cbind := range []string{"eSws", "biwsAA==", "bixhPWJvYiw="} { // "y,,", "n,,\x00", "n,a=bob,"
		server, account, err := d.SASL(t.Context(), overTLS("192.0.2.1"), "SCRAM-SHA-1")
		must(t, err)
		client := newSCRAMWith(t, "SCRAM-SHA-1", scram.ChannelBinding{}, "bob", "hungry", "")
		_, first, err := client.Start()
		must(t, err)
		challenge, _, err := server.Next(first)
		must(t, err)
		final, err := client.Next(challenge)
		must(t, err)
		changed := strings.Replace(string(final), "c=biws,", "c="+cbind+",", 1)
		if _, _, err := server.Next([]byte(changed)); err != ErrCredentials || account().ID != 0 {
			t.Errorf("%s: %v", changed, err)
		}
	}
}

// old makes bob's credentials those of a postrider that knew no SHA-1.
func old(t testing.TB, d *Directory) {
	t.Helper()
	must(t, d.update(t.Context(), func(tx *mailstore.Tx) error {
		a, err := tx.AccountByAddress("bob@hamburger.edu")
		if err != nil {
			return err
		}
		var all map[string]json.RawMessage
		if err := json.Unmarshal(a.Credentials, &all); err != nil {
			return err
		}
		delete(all, "scram_sha_1")
		if a.Credentials, err = json.Marshal(all); err != nil {
			return err
		}
		return tx.UpdateAccount(a)
	}))
}

// TestKeysAreLearnt: an account of an older version looks like nobody to
// SCRAM-SHA-1 until somebody shows its password, and has the same salt then.
func TestKeysAreLearnt(t *testing.T) {
	d := demo(t, Options{})
	old(t, d)
	bySHA1 := func(password string) error {
		t.Helper()
		_, err := converse(t, d, overTLS("192.0.2.1"), newSCRAMWith(t, "SCRAM-SHA-1", scram.ChannelBinding{}, "bob", password, ""), true)
		return err
	}
	before := serverFirst(t, d, "SCRAM-SHA-1", "bob")
	if err := bySHA1("hungry"); err != ErrCredentials {
		t.Fatalf("without keys: %v", err)
	}
	if _, err := converse(t, d, overTLS("192.0.2.1"), newSCRAM(t, "bob", "hungry", ""), true); err != nil {
		t.Fatalf("SCRAM-SHA-256 of an older account: %v", err)
	}
	if _, err := d.Login(t.Context(), overTLS("192.0.2.1"), "bob", "angry"); err != ErrCredentials {
		t.Fatal(err)
	}
	if err := bySHA1("hungry"); err != ErrCredentials {
		t.Fatalf("after a wrong password: %v", err)
	}
	hashes := countHashes(d)
	for range 2 {
		if _, err := d.Login(t.Context(), overTLS("192.0.2.1"), "bob", "hungry"); err != nil {
			t.Fatal(err)
		}
	}
	if n := hashes.Load(); n != 1 {
		t.Errorf("%d hashes: the verified login is not remembered", n)
	}
	if after := serverFirst(t, d, "SCRAM-SHA-1", "bob"); after != before {
		t.Errorf("the salt was %s, is %s", before, after)
	}
	if err := bySHA1("hungry"); err != nil {
		t.Errorf("with keys: %v", err)
	}
	if err := bySHA1("angry"); err != ErrCredentials {
		t.Errorf("with keys, wrong password: %v", err)
	}
	must(t, d.SetPassword(t.Context(), "bob@hamburger.edu", "starved"))
	if err := bySHA1("hungry"); err != ErrCredentials {
		t.Errorf("after a new password, with the old one: %v", err)
	}
	if err := bySHA1("starved"); err != nil {
		t.Errorf("after a new password: %v", err)
	}
}

// TestLearningIsNoRace: a password that is changed while a login with the old
// one is learning stays.
func TestLearningIsNoRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := demo(t, Options{})
		old(t, d)
		derive := d.passwords.derive
		d.passwords.derive = func(password, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte {
			h := derive(password, salt, time, memory, threads, keyLen)
			d.passwords.derive = derive
			credentials, err := d.passwords.make("starved")
			must(t, err)
			must(t, d.update(t.Context(), func(tx *mailstore.Tx) error {
				a, err := tx.AccountByAddress("bob@hamburger.edu")
				a.Credentials = credentials
				return errors.Join(err, tx.UpdateAccount(a))
			}))
			return h
		}
		if _, err := d.Login(t.Context(), overTLS("192.0.2.1"), "bob", "hungry"); err != nil {
			t.Fatal(err) // it was right when the login began
		}
		for _, c := range []sasl.Client{sasl.NewPlainClient("", "bob", "starved"), newSCRAMWith(t, "SCRAM-SHA-1", scram.ChannelBinding{}, "bob", "starved", "")} {
			if _, err := converse(t, d, overTLS("192.0.2.1"), c, true); err != nil {
				t.Errorf("%T with the new password: %v", c, err)
			}
		}
		if _, err := d.Login(t.Context(), overTLS("192.0.2.1"), "bob", "hungry"); err != ErrCredentials {
			t.Errorf("the old password: %v", err)
		}
	})
}
