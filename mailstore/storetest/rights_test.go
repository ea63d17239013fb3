package storetest

import (
	"errors"
	"slices"
	"testing"

	"postrider/mailstore"
)

// TestVerifyRights: verify tells of entries of access control lists that the store
// would not have made.
func TestVerifyRights(t *testing.T) {
	got := verifyWith(t, "rights", func(w mailstore.Writer) (err error) {
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
		return err
	})
	want := []string{
		`rights: bob@example.org INBOX: "Eve@example.org" has a name that cannot be`,
		`rights: bob@example.org INBOX: "anyone" has rights "rl" that cannot be`,
		`rights: bob@example.org INBOX: "bob@example.org" has rights, and is the owner`,
		`rights: bob@example.org INBOX: "eve@example.org" has rights "" that cannot be`,
		`rights: bob@example.org INBOX: "everybody" has a name that cannot be`,
		`rights: bob@example.org INBOX: "zoe@example.org" has rights "lz" that cannot be`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
