package imap

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"

	"postrider/internal/directory"
	"postrider/internal/wire"
	"postrider/internal/wire/wiretest"
	"postrider/mailstore"
	"postrider/mailstore/search"
	"postrider/mailstore/storetest"
)

// fakeDirectory knows alice and bob, whose password is hungry.
type fakeDirectory struct {
	plaintext bool
	accounts  map[string]mailstore.Account
	busy      error // what Login returns, if set
}

func (d *fakeDirectory) PlaintextAllowed(p directory.Peer) bool { return d.plaintext || p.TLS != nil }

func (d *fakeDirectory) Mechanisms(p directory.Peer) []string {
	if !d.PlaintextAllowed(p) {
		return nil
	}
	return []string{"PLAIN", "FINAL"}
}

func (d *fakeDirectory) Login(_ context.Context, p directory.Peer, name, password string) (mailstore.Account, error) {
	a, known := d.accounts[name]
	switch {
	case d.busy != nil:
		return a, d.busy
	case !d.PlaintextAllowed(p):
		return a, directory.ErrPlaintext
	case !known || password != "hungry":
		return a, directory.ErrCredentials
	}
	return a, nil
}

func (d *fakeDirectory) SASL(ctx context.Context, p directory.Peer, mech string) (sasl.Server, func() mailstore.Account, error) {
	var who mailstore.Account
	account := func() mailstore.Account { return who }
	switch mech {
	case "PLAIN":
		return sasl.NewPlainServer(func(_, name, password string) (err error) {
			who, err = d.Login(ctx, p, name, password)
			return err
		}), account, nil
	case "FINAL": // the server has the last word, as in SCRAM
		who = d.accounts["bob"]
		return finalServer{}, account, nil
	}
	return nil, nil, directory.ErrMechanism
}

func (d *fakeDirectory) Named(_ context.Context, name string) (mailstore.Account, error) {
	a, known := d.accounts[strings.TrimSuffix(name, "@hamburger.edu")]
	if !known {
		return a, directory.ErrNoUser
	}
	return a, nil
}

func (d *fakeDirectory) Serves(_ context.Context, host string) (bool, error) {
	return host == "hamburger.edu" || strings.HasSuffix(host, ".hamburger.edu"), nil
}

type finalServer struct{}

func (finalServer) Next(response []byte) ([]byte, bool, error) {
	if response == nil {
		return []byte{}, false, nil
	}
	if string(response) != "please" {
		return nil, false, directory.ErrMalformed
	}
	return []byte("v=done"), true, nil
}

// world is a server over a real store on the model engine, in which alice and
// bob have the mailboxes of a new account.
type world struct {
	t         testing.TB
	engine    *storetest.Engine
	store     *mailstore.Store
	directory *fakeDirectory
	index     *search.Index // nil in most tests; deliveries wait for it
	server    *Server
	wire      *wire.Server
	listener  *wiretest.Listener
}

var specials = [][2]string{
	{"INBOX", ""}, {"Drafts", "\\Drafts"}, {"Sent", "\\Sent"}, {"Archive", "\\Archive"}, {"Junk", "\\Junk"}, {"Trash", "\\Trash"},
}

func newWorld(t testing.TB, adapt func(*Options)) *world {
	t.Helper()
	engine := storetest.NewEngine()
	store, err := mailstore.Open(context.Background(), engine, mailstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, engine: engine, store: store, directory: &fakeDirectory{plaintext: true, accounts: make(map[string]mailstore.Account)}}
	err = store.Update(context.Background(), func(tx *mailstore.Tx) error {
		for _, name := range []string{"alice", "bob"} {
			id, err := tx.CreateAccount(mailstore.Account{Address: name + "@hamburger.edu"})
			if err != nil {
				return err
			}
			for _, s := range specials {
				if _, err := tx.CreateMailbox(id, s[0], s[1]); err != nil {
					return err
				}
				if err := tx.Subscribe(id, s[0], true); err != nil {
					return err
				}
			}
			w.directory.accounts[name] = mailstore.Account{ID: id, Address: name + "@hamburger.edu"}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Hostname:  "hamburger.edu",
		Store:     store,
		Directory: w.directory,
		MaxSize:   1 << 20,
		Log:       slog.New(noPanics{t}),
	}
	o.SetQuota = func(ctx context.Context, address string, q mailstore.Quota) error {
		return store.Update(ctx, func(tx *mailstore.Tx) error {
			a, err := tx.AccountByAddress(address)
			if err != nil {
				return err
			}
			a.Quota = q
			return tx.UpdateAccount(a)
		})
	}
	if adapt != nil {
		adapt(&o)
	}
	if o.Journey == nil {
		listen(t, &o)
	}
	w.server = New(o)
	w.wire = wire.NewServer(wire.ServerOptions{})
	w.listener = wiretest.Listen()
	w.wire.Serve(w.listener, w.server.Protocol("imap", false))
	t.Cleanup(func() {
		w.shutdown()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.wire.Shutdown(ctx); err != nil {
		w.t.Errorf("Shutdown: %v", err)
	}
	if n := w.wire.Panics(); n != 0 {
		w.t.Errorf("%d panics", n)
	}
}

// noPanics fails the test when the engine recovered a panic.
type noPanics struct{ t testing.TB }

func (h noPanics) Enabled(context.Context, slog.Level) bool { return true }
func (h noPanics) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h noPanics) WithGroup(string) slog.Handler            { return h }
func (h noPanics) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		text := r.Message
		r.Attrs(func(a slog.Attr) bool {
			text += " " + a.String()
			return true
		})
		if !strings.Contains(text, "damaged") && !strings.Contains(text, "sent whole") {
			h.t.Errorf("logged: %s", text)
		}
	}
	return nil
}

func (w *world) account(name string) mailstore.AccountID { return w.directory.accounts[name].ID }

// deliver appends a message to a mailbox, n times in one commit.
func (w *world) deliver(account, mailbox string, text []byte, flags mailstore.Flags, n int) {
	w.t.Helper()
	date := time.Date(2024, 2, 29, 12, 30, 0, 0, time.UTC)
	w.append(account, mailbox, text, mailstore.NewMessage{Flags: flags, Internal: date}, n)
}

// append is deliver of a message like one, whose body it makes.
func (w *world) append(account, mailbox string, text []byte, like mailstore.NewMessage, n int) {
	w.t.Helper()
	bw := w.store.NewBody()
	if _, err := bw.Write(text); err != nil {
		w.t.Fatal(err)
	}
	body, err := bw.Commit()
	if err != nil {
		w.t.Fatal(err)
	}
	defer body.Release()
	like.Body = body
	err = w.store.Update(context.Background(), func(tx *mailstore.Tx) error {
		m, err := tx.MailboxByName(w.account(account), mailbox)
		if err != nil {
			return err
		}
		for range n {
			if _, err := tx.Append(m.ID, like); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if w.index != nil {
		if err := w.index.Settle(context.Background()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// fixture is a message of package message's testdata.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("../mailstore/message/testdata/" + name + ".msg")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// do are the lines of transcripts that are neither the client's nor the
// server's:
//
//	deliver NAME      fixture NAME arrives in bob's INBOX
//	deliver N NAME    the same, N times
//	shutdown          the server begins to shut down
//	quota N M         bob may have N octets in M messages; 0 = no limit
//	shared NAME       there is an account that nobody logs in to
//	allow A M I R     the identifier I has the rights R to the mailbox M of account A
//	busy | free       logins meet a busy directory, or not
func (w *world) do(line string) error {
	f := strings.Fields(line)
	switch {
	case len(f) == 2 && f[0] == "deliver":
		w.deliver("bob", "INBOX", fixture(w.t, f[1]), mailstore.Flags{}, 1)
	case len(f) == 3 && f[0] == "deliver":
		var n int
		if _, err := fmt.Sscan(f[1], &n); err != nil {
			return err
		}
		w.deliver("bob", "INBOX", fixture(w.t, f[2]), mailstore.Flags{}, n)
	case len(f) == 3 && f[0] == "quota":
		a := mailstore.Account{ID: w.directory.accounts["bob"].ID, Address: "bob@hamburger.edu"}
		if _, err := fmt.Sscan(f[1]+" "+f[2], &a.Quota.Storage, &a.Quota.Messages); err != nil {
			return err
		}
		return w.store.Update(context.Background(), func(tx *mailstore.Tx) error { return tx.UpdateAccount(a) })
	case len(f) == 2 && f[0] == "shared":
		w.shared(f[1])
	case len(f) == 5 && f[0] == "allow":
		w.allow(f[1], f[2], f[3], f[4])
	case line == "shutdown":
		go w.wire.Shutdown(context.Background())
	case line == "busy":
		w.directory.busy = directory.ErrBusy
	case line == "free":
		w.directory.busy = nil
	default:
		return fmt.Errorf("what is %q?", line)
	}
	return nil
}

func TestTranscripts(t *testing.T) {
	wiretest.RunFiles(t, "testdata/*.txt", func(t *testing.T) wiretest.Dialogue {
		server, client := wiretest.TLS(t, "hamburger.edu")
		w := newWorld(t, func(o *Options) {
			o.TLS = server
			o.LiteralMinus = strings.HasSuffix(t.Name(), "/literal-minus")
			if strings.HasSuffix(t.Name(), "/setquota") {
				o.Administrators = []string{"Alice@hamburger.edu"}
			}
			if strings.Contains(t.Name(), "/messagelimit") {
				o.MessageLimit = 3
			}
		})
		if strings.Contains(t.Name(), "/tls-") {
			w.directory.plaintext = false
		}
		return wiretest.Dialogue{Dial: w.listener.Dial, TLS: client, Do: w.do}
	})
}

// dial opens a connection.
func (w *world) dial() net.Conn {
	w.t.Helper()
	c, err := w.listener.Dial(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// raw sends lines in one session and returns all that the server says.
func (w *world) raw(script string) string {
	w.t.Helper()
	c := w.dial()
	defer c.Close()
	go func() {
		io.WriteString(c, script)
		c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	var said bytes.Buffer
	if _, err := io.Copy(&said, c); err != nil {
		w.t.Error(err)
	}
	return said.String()
}
