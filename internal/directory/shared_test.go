package directory

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/emersion/go-sasl"

	"postrider/mailstore"
)

// TestShared: nobody logs in to a shared account, not even one that had a password,
// a certificate and SCRAM keys before it was shared.
func TestShared(t *testing.T) {
	d := demo(t, Options{Plaintext: PlaintextAlways})
	ctx := context.Background()
	must(t, d.AddShared(ctx, "Sales@hamburger.edu"))
	if err := d.AddShared(ctx, "bob@hamburger.edu"); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	if err := d.AddShared(ctx, "x@elsewhere.example"); !errors.Is(err, ErrNoDomain) {
		t.Error(err)
	}
	if err := d.SetPassword(ctx, "sales@hamburger.edu", "x"); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	bob := newPerson(t)
	if _, err := d.AddCertificate(ctx, "sales@hamburger.edu", asPEM(bob.current())); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	_, err := d.AddCertificate(ctx, "bob@hamburger.edu", asPEM(bob.current()))
	must(t, err)
	must(t, d.store.Update(ctx, func(tx *mailstore.Tx) error {
		a, err := tx.AccountByAddress("bob@hamburger.edu")
		if err != nil {
			return err
		}
		a.Shared = true
		return tx.UpdateAccount(a)
	}))
	if where(t, d, addr(t, "sales@hamburger.edu")) != where(t, d, addr(t, "Sales@hamburger.edu")) {
		t.Error("mail does not find it")
	}
	p := Peer{Addr: netip.MustParseAddr("127.0.0.1"), Protocol: "test"}
	for _, name := range []string{"sales@hamburger.edu", "bob@hamburger.edu"} {
		for _, password := range []string{"", "hungry"} {
			if a, err := d.Login(ctx, p, name, password); !errors.Is(err, ErrCredentials) || a.ID != 0 {
				t.Errorf("%s logs in: %v, %v", name, a.ID, err)
			}
			if a, err := converse(t, d, p, sasl.NewPlainClient("", name, password), true); err == nil || a.ID != 0 {
				t.Errorf("%s logs in by PLAIN: %v", name, a.ID)
			}
			server, account, err := d.SASL(ctx, p, "SCRAM-SHA-256")
			must(t, err)
			client := newSCRAM(t, name, password, "")
			_, first, err := client.Start()
			must(t, err)
			challenge, _, err := server.Next(first)
			must(t, err)
			last, err := client.Next(challenge)
			must(t, err)
			if _, _, err := server.Next(last); err == nil || account().ID != 0 {
				t.Errorf("%s logs in by SCRAM", name)
			}
		}
	}
	if who, err := external(t, d, showing("192.0.2.1", bob.current()), ""); who != "" || err != ErrCredentials {
		t.Errorf("%q logs in by a certificate: %v", who, err)
	}
}

// TestACLs: lists of one mailbox and of all.
func TestACLs(t *testing.T) {
	d := demo(t, Options{})
	ctx := context.Background()
	must(t, d.SetACL(ctx, "bob@hamburger.edu", "INBOX", "ALICE", mailstore.RightLookup|mailstore.RightRead))
	must(t, d.SetACL(ctx, "bob@hamburger.edu", AllMailboxes, "anyone", mailstore.RightLookup))
	all, err := d.ACLs(ctx, "bob@hamburger.edu", "")
	must(t, err)
	one, err := d.ACLs(ctx, "bob@hamburger.edu", "inbox")
	must(t, err)
	if len(all) != len(accountMailboxes) || len(one) != 1 || len(one[0].Entries) != 2 || one[0].Entries[0].Identifier != "alice@hamburger.edu" {
		t.Errorf("%+v, %+v", all, one)
	}
	must(t, d.SetACL(ctx, "bob@hamburger.edu", AllMailboxes, "anyone", 0))
	must(t, d.SetACL(ctx, "bob@hamburger.edu", "INBOX", "alice@hamburger.edu", 0))
	if all, err := d.ACLs(ctx, "bob@hamburger.edu", ""); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	for _, c := range []struct {
		address, mailbox, identifier string
		want                         error
	}{
		{"bob@hamburger.edu", "INBOX", "bob", ErrInvalid},
		{"bob@hamburger.edu", "INBOX", "nobody", ErrInvalid},
		{"bob@hamburger.edu", "Nowhere", "alice", ErrNoMailbox},
		{"bob@hamburger.edu", "", "alice", nil},
		{"nobody@hamburger.edu", "INBOX", "alice", ErrNoUser},
	} {
		if err := d.SetACL(ctx, c.address, c.mailbox, c.identifier, mailstore.RightRead); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
