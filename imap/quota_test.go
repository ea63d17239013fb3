package imap

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"postrider/mailstore"
)

// TestMailboxQuota: the last mailbox that an account may have, and one more, by each
// command that creates mailboxes (RFC 9208 section 5.3).
func TestMailboxQuota(t *testing.T) {
	w := newWorld(t, nil)
	tx, err := w.engine.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for i := len(specials); i < mailstore.MaxMailboxes-1; i++ {
		err := tx.PutMailbox(mailstore.MailboxRow{Mailbox: mailstore.Mailbox{
			ID: mailstore.MailboxID(1e6 + i), Account: w.account("bob"), Name: fmt.Sprint("x/", i), UIDValidity: uint32(i + 1), UIDNext: 1, ModSeq: 1,
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	c := w.client("INBOX")
	usage := func(want string) {
		t.Helper()
		c.ok("GETQUOTA \"\"")
		if len(c.all) != 1 || c.all[0] != "* QUOTA \"\" (MAILBOX "+want+" 10000)" {
			t.Errorf("%q, want %s", c.all, want)
		}
	}
	full := func(command string) {
		t.Helper()
		if got := c.do(command); !strings.HasPrefix(got, "NO [OVERQUOTA] ") {
			t.Errorf("%s: %s", command, got)
		}
	}
	usage("9999")
	full("CREATE a/b")
	c.ok("CREATE last")
	usage("10000")
	full("CREATE more")
	full("RENAME INBOX more")
	full("RENAME last more/last")
	full("RENAME x more/x")
	usage("10000")
	c.ok("RENAME last more")
	c.ok("DELETE more")
	c.ok("CREATE more")
	if err := w.store.View(context.Background(), func(v *mailstore.View) error {
		n, err := v.CountMailboxes(w.account("bob"))
		if n != mailstore.MaxMailboxes {
			t.Errorf("%d mailboxes", n)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
