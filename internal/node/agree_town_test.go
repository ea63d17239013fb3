package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/emersion/go-sasl"

	"postrider/imap"
	"postrider/internal/directory"
	"postrider/internal/wire"
	"postrider/internal/wire/wiretest"
	"postrider/mailstore"
	"postrider/mailstore/storetest"
	"postrider/mta"
	"postrider/mta/queue"
	"postrider/mta/smtpd"
	"postrider/pop3"
)

// town is one store, on the model engine, behind every front-end that changes
// mailboxes. It knows bob alone, whose password is hungry, and lets nothing out.
type town struct {
	store *mailstore.Store
	bob   mailstore.AccountID
	wire  *wire.Server
	doors map[string]*wiretest.Listener // by protocol

	wrong func(format string, args ...any)
}

func newTown(t testing.TB, wrong func(format string, args ...any)) *town {
	t.Helper()
	store, err := mailstore.Open(context.Background(), storetest.NewEngine(), mailstore.Options{
		Blocks: mailstore.BlockSizes{Full: 16, Open: 4}, Keep: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &town{store: store, wire: wire.NewServer(wire.ServerOptions{}), doors: make(map[string]*wiretest.Listener), wrong: wrong}
	err = store.Update(context.Background(), func(tx *mailstore.Tx) error {
		var err1, err2, err3 error
		w.bob, err1 = tx.CreateAccount(mailstore.Account{Address: "bob@hamburger.edu"})
		_, err2 = tx.CreateMailbox(w.bob, "INBOX", "")
		_, err3 = tx.CreateMailbox(w.bob, "c", "")
		return errors.Join(err1, err2, err3)
	})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(faults{w})
	q, err := queue.New(queue.Options{Store: store, Router: w, Deliverer: w, Hostname: "hamburger.edu", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	w.open("imap", imap.New(imap.Options{Hostname: "hamburger.edu", Store: store, Directory: w, Log: log}).Protocol("imap", false))
	w.open("pop3", pop3.New(pop3.Options{Hostname: "hamburger.edu", Store: store, Directory: w, Log: log}).Protocol("pop3", false))
	w.open("smtp", smtpd.New(smtpd.Options{Hostname: "hamburger.edu", Mode: smtpd.MX, Router: w, Queue: q, Directory: w, Log: log}).Protocol("smtp", false))
	return w
}

// append adds a message.
func (w *town) append(name, text string) {
	body := w.store.NewBody()
	_, err1 := body.Write([]byte(text))
	b, err2 := body.Commit()
	if err := errors.Join(err1, err2); err != nil {
		w.wrong("append: %v", err)
		return
	}
	defer b.Release()
	err := w.store.Update(context.Background(), func(tx *mailstore.Tx) error {
		m, err := tx.MailboxByName(w.bob, name)
		if err == nil {
			_, err = tx.Append(m.ID, mailstore.NewMessage{Body: b})
		}
		return err
	})
	if err != nil {
		w.wrong("append: %v", err)
	}
}

func (w *town) open(name string, p wire.Protocol) {
	w.doors[name] = wiretest.Listen()
	w.wire.Serve(w.doors[name], p)
}

func (w *town) dial(door string) net.Conn {
	conn, err := w.doors[door].Dial(context.Background())
	if err != nil {
		w.wrong("%v", err)
	}
	return conn
}

func (w *town) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := errors.Join(w.wire.Shutdown(ctx), w.store.Close()); err != nil {
		w.wrong("at the end: %v", err)
	}
	if n := w.wire.Panics(); n > 0 {
		w.wrong("%d panics", n)
	}
}

// faults is a log in which nothing may be an error.
type faults struct{ w *town }

func (h faults) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }
func (h faults) WithAttrs([]slog.Attr) slog.Handler           { return h }
func (h faults) WithGroup(string) slog.Handler                { return h }
func (h faults) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += " " + a.String()
		return true
	})
	h.w.wrong("logged: %s", text)
	return nil
}

// The directory.

func (w *town) PlaintextAllowed(directory.Peer) bool { return true }
func (w *town) Mechanisms(directory.Peer) []string   { return nil }
func (w *town) account() mailstore.Account {
	return mailstore.Account{ID: w.bob, Address: "bob@hamburger.edu"}
}
func (w *town) Owns(context.Context, int64, mta.Address) (bool, error) { return false, nil }

func (w *town) Serves(context.Context, string) (bool, error) { return false, nil }

func (w *town) Named(_ context.Context, name string) (mailstore.Account, error) {
	if name != "bob" {
		return mailstore.Account{}, directory.ErrNoUser
	}
	return w.account(), nil
}

func (w *town) Login(_ context.Context, _ directory.Peer, name, password string) (mailstore.Account, error) {
	if name != "bob" || password != "hungry" {
		return mailstore.Account{}, directory.ErrCredentials
	}
	return w.account(), nil
}

func (w *town) SASL(context.Context, directory.Peer, string) (sasl.Server, func() mailstore.Account, error) {
	return nil, nil, directory.ErrMechanism
}

// The router: all mail is for bob.

func (w *town) Recipient(_ context.Context, _ mta.Client, to mta.Address) ([]mta.Target, error) {
	if to.Local != "bob" {
		return nil, mta.Errorf(550, "5.1.1", "There is no %s here", to.Local)
	}
	return []mta.Target{{Account: int64(w.bob)}}, nil
}

func (w *town) Room(context.Context, mta.Address, []mta.Target, int64) error { return nil }
func (w *town) Hops(context.Context, string) ([]mta.Hop, error) {
	return []mta.Hop{{Host: "nowhere.example", Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")}}}, nil
}
func (w *town) Deliver(context.Context, *mta.Delivery) error {
	return fmt.Errorf("nothing leaves the town")
}

// look reads the store.
func (w *town) look() ledger {
	l := make(ledger)
	err := w.store.View(context.Background(), func(v *mailstore.View) error {
		boxes, err := v.Mailboxes(w.bob)
		if err != nil {
			return err
		}
		for _, m := range boxes {
			box := &ledgerBox{id: fmt.Sprintf("F%d", m.ID), validity: m.UIDValidity, next: int(m.UIDNext), modseq: uint64(m.ModSeq)}
			l[m.Name] = box
			unseen := uint32(0)
			err := v.Messages(m.ID, 1, 0, func(m mailstore.Message) bool {
				box.letters = append(box.letters, letter{int(m.UID), flagWords(m.Flags), m.Size, uint64(m.ModSeq)})
				if m.Flags.System&mailstore.Seen == 0 {
					unseen++
				}
				return true
			})
			if int(m.Messages) != len(box.letters) || m.Unseen != unseen {
				w.wrong("%s counts %d messages, %d unseen, and has %d, %d", m.Name, m.Messages, m.Unseen, len(box.letters), unseen)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.wrong("look: %v", err)
	}
	return l
}

// flagWords writes flags as a client sorts them.
func flagWords(f mailstore.Flags) string {
	list := append([]string(nil), f.Keywords...)
	for i, name := range []string{`\Seen`, `\Answered`, `\Flagged`, `\Deleted`, `\Draft`} {
		if f.System&(1<<i) != 0 {
			list = append(list, name)
		}
	}
	return words(list)
}
