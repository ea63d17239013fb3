package deliver

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/xdg-go/scram"

	"postrider/mta"
)

// backend is go-smtp's server as a peer: it keeps what it gets.
type backend struct {
	mu   sync.Mutex
	got  map[string]string // by recipient
	auth bool

	mechanisms []string
}

func (b *backend) NewSession(*smtp.Conn) (smtp.Session, error) { return &backendSession{b: b}, nil }

type backendSession struct {
	b    *backend
	user string
	to   []string
}

func (s *backendSession) AuthMechanisms() []string { return s.b.mechanisms }

func (s *backendSession) Auth(mech string) (sasl.Server, error) {
	if mech == "SCRAM-SHA-256" {
		return s.scram()
	}
	return sasl.NewPlainServer(func(_, user, password string) error {
		if password != "secret" {
			return smtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}), nil
}

// scramServer is xdg-go's conversation as a sasl.Server.
type scramServer struct {
	conv *scram.ServerConversation
	s    *backendSession
}

func (s *backendSession) scram() (sasl.Server, error) {
	client, err := scram.SHA256.NewClient("alice", "secret", "")
	if err != nil {
		return nil, err
	}
	credentials, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "salty", Iters: 4096})
	if err != nil {
		return nil, err
	}
	server, err := scram.SHA256.NewServer(func(user string) (scram.StoredCredentials, error) {
		if user != "alice" {
			return scram.StoredCredentials{}, errors.New("unknown")
		}
		return credentials, nil
	})
	if err != nil {
		return nil, err
	}
	return &scramServer{server.NewConversation(), s}, nil
}

func (c *scramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if c.conv.Done() && c.conv.Valid() {
		c.s.user = c.conv.Username()
		return nil, true, nil
	}
	answer, err := c.conv.Step(string(response))
	if err != nil {
		return nil, false, smtp.ErrAuthFailed
	}
	return []byte(answer), false, nil
}

func (s *backendSession) Mail(string, *smtp.MailOptions) error {
	if s.b.auth && s.user == "" {
		return smtp.ErrAuthRequired
	}
	return nil
}

func (s *backendSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	}
	s.to = append(s.to, to)
	return nil
}

func (s *backendSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	for _, to := range s.to {
		if _, twice := s.b.got[to]; twice {
			return errors.New("a duplicate")
		}
		s.b.got[to] = string(text)
	}
	return nil
}

func (s *backendSession) Reset()        { s.to = nil }
func (s *backendSession) Logout() error { return nil }

// serveLibrary runs go-smtp's server on loopback.
func serveLibrary(t testing.TB, b *backend, config *tls.Config) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := smtp.NewServer(b)
	s.Domain, s.TLSConfig, s.AllowInsecureAuth, s.EnableDSN, s.EnableSMTPUTF8 = "mx.hamburger.test", config, true, true, true
	s.MaxMessageBytes = 4 << 20
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

func TestLibraryPeer(t *testing.T) {
	ca := newAuthority(t)
	b := &backend{got: map[string]string{}, auth: true, mechanisms: []string{sasl.Plain}}
	addr := serveLibrary(t, b, ca.serverConfig(t, "mx.hamburger.test"))
	c := New(Options{Hostname: "crepes.test", TLS: &tls.Config{RootCAs: ca.pool}})
	defer c.Close()
	large := strings.Repeat(".a line with a dot in front\r\n", 100_000)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for n := range 10 {
				d := mta.Delivery{
					ID: "x", From: mta.Address{Local: "a", Domain: "crepes.test"},
					Options: smtp.MailOptions{Return: smtp.DSNReturnHeaders, EnvelopeID: "id 1"},
					Hops: []mta.Hop{{
						Host: "mx.hamburger.test", Addrs: []netip.AddrPort{addr},
						Login: "alice", Password: "secret", TLS: mta.TLSRequired,
					}},
				}
				text := fmt.Sprintf("Subject: %d %d\r\n\r\n.\r\n..\r\n", worker, n)
				if n == 5 {
					text += large
				}
				for _, local := range []string{"b", "nobody", "zoë"} {
					d.To = append(d.To, mta.DeliveryRecipient{
						Address: mta.Address{Local: fmt.Sprintf("%s-%d-%d", local, worker, n), Domain: "hamburger.test"},
						Options: smtp.RcptOptions{Notify: []smtp.DSNNotify{smtp.DSNNotifyFailure}},
					})
				}
				d.Open = func() (mta.Content, error) { return memory(text), nil }
				d.Record = func(out []mta.Outcome) error {
					if !out[0].Reply.Success() || out[1].Reply.Code != 550 || !out[2].Reply.Success() || !out[0].DSN || out[0].TLS != "TLS1.3" {
						t.Errorf("%+v %v %v %v", out[0], out[0].Reply, out[1].Reply, out[2].Reply)
					}
					return nil
				}
				if err := c.Deliver(t.Context(), &d); err != nil {
					t.Error(err)
				}
				b.mu.Lock()
				if got := b.got[d.To[2].Address.String()]; got != text {
					t.Errorf("%d octets arrived of %d", len(got), len(text))
				}
				b.mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// Each mechanism, with the right password and a wrong one.
func TestLibraryLogin(t *testing.T) {
	for _, mech := range []string{sasl.Plain, "SCRAM-SHA-256"} {
		for _, password := range []string{"secret", "wrong"} {
			b := &backend{got: map[string]string{}, auth: true, mechanisms: []string{mech}}
			addr := serveLibrary(t, b, nil)
			c := New(Options{Hostname: "crepes.test"})
			d := mta.Delivery{
				From: mta.Address{Local: "a", Domain: "crepes.test"},
				To:   []mta.DeliveryRecipient{{Address: mta.Address{Local: "b", Domain: "hamburger.test"}}},
				Hops: []mta.Hop{{Host: "localhost", Addrs: []netip.AddrPort{addr}, Login: "alice", Password: password}},
				Open: func() (mta.Content, error) { return memory("x\r\n"), nil },
			}
			d.Record = func(out []mta.Outcome) error {
				if r := out[0].Reply; r.Success() != (password == "secret") || !r.Success() && r.Status != "4.7.8" {
					t.Errorf("%s %s: %v", mech, password, r)
				}
				return nil
			}
			if err := c.Deliver(t.Context(), &d); err != nil {
				t.Error(err)
			}
			c.Close()
		}
	}
}

// sink is a peer that costs as little as it can.
func sink(b *testing.B) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go sinkServe(conn)
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

func sinkServe(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, 64<<10)
	n, data := 0, false
	say := func(s string) { _, _ = io.WriteString(conn, s) }
	say("220 sink\r\n")
	for {
		m, err := conn.Read(buf[n:])
		if err != nil {
			return
		}
		n += m
		switch {
		case data && bytes.HasSuffix(buf[:n], []byte("\r\n.\r\n")):
			data, n = false, 0
			say("250 2.0.0 taken\r\n")
		case data:
		case bytes.HasPrefix(buf[:n], []byte("EHLO")):
			n = 0
			say("250-sink\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250 8BITMIME\r\n")
		case bytes.HasSuffix(buf[:n], []byte("DATA\r\n")):
			data, n = true, 0
			say("250 2.0.0 ok\r\n250 2.0.0 ok\r\n354 go on\r\n")
		case bytes.HasPrefix(buf[:n], []byte("QUIT")):
			return
		}
	}
}

func BenchmarkDeliver(b *testing.B) {
	text := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 57)
	addr := sink(b)
	c := New(Options{Hostname: "crepes.test"})
	defer c.Close()
	b.ReportAllocs()
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		d := mta.Delivery{
			ID: "x", From: mta.Address{Local: "a", Domain: "crepes.test"},
			To:   []mta.DeliveryRecipient{{Address: mta.Address{Local: "b", Domain: "hamburger.test"}}},
			Hops: []mta.Hop{{Host: "mx", Addrs: []netip.AddrPort{addr}}},
			Open: func() (mta.Content, error) { return memory(text), nil },
			Record: func(out []mta.Outcome) error {
				if !out[0].Reply.Success() {
					return out[0].Reply
				}
				return nil
			},
		}
		for pb.Next() {
			if err := c.Deliver(b.Context(), &d); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
