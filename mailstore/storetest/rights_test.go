package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"postrider/mailstore"
)

// TestVerifyRights: verify tells of entries of access control lists that the store
// would not have made.
func TestVerifyRights(t *testing.T) {
	e := NewEngine()
	w, err := e.Begin()
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(w.PutCounter("account", 2), w.PutCounter("mailbox", 8), w.PutAccount(mailstore.Account{ID: 1, Address: "bob@example.org"}),
		w.PutMailbox(mailstore.MailboxRow{Mailbox: mailstore.Mailbox{ID: 7, Account: 1, Name: "INBOX", UIDValidity: 1, UIDNext: 1, ModSeq: 1}}))
	for _, row := range []mailstore.ACLRow{
		{Mailbox: 7, Identifier: "-@example.org", Rights: "lr"},
		{Mailbox: 7, Identifier: "Eve@example.org", Rights: "lr"},
		{Mailbox: 7, Identifier: "anyone", Rights: "rl"},
		{Mailbox: 7, Identifier: "bob@example.org", Rights: "l"},
		{Mailbox: 7, Identifier: "eve@example.org", Rights: ""},
		{Mailbox: 7, Identifier: "everybody", Rights: "l"},
		{Mailbox: 7, Identifier: "zoe@example.org", Rights: "lz"},
	} {
		err = errors.Join(err, w.PutACL(row))
	}
	if err := errors.Join(err, w.Commit()); err != nil {
		t.Fatal(err)
	}
	snap, err := e.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	var got []string
	err = mailstore.VerifyEngine(context.Background(), e, snap, nil, func(f mailstore.Finding) {
		got = append(got, f.String())
		if f.Kind != "rights" || !f.Lost {
			t.Errorf("%+v", f)
		}
	})
	want := []string{
		`rights: bob@example.org INBOX: "Eve@example.org" has a name that cannot be`,
		`rights: bob@example.org INBOX: "anyone" has rights "rl" that cannot be`,
		`rights: bob@example.org INBOX: "bob@example.org" has rights, and is the owner`,
		`rights: bob@example.org INBOX: "eve@example.org" has rights "" that cannot be`,
		`rights: bob@example.org INBOX: "everybody" has a name that cannot be`,
		`rights: bob@example.org INBOX: "zoe@example.org" has rights "lz" that cannot be`,
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}
