package imap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"postrider/mailstore"
)

// TestACLDuringCommand: a right that is taken away while a command waits for a literal
// is one that the command does not have.
func TestACLDuringCommand(t *testing.T) {
	for _, begin := range []string{
		"REPLACE 1 INBOX {6}",
		`REPLACE 1 "Other Users/bob@hamburger.edu/INBOX" {6}`,
		"APPEND INBOX CATENATE (TEXT {6}",
	} {
		w := newWorld(t, nil)
		c := w.visit("alice@hamburger.edu", "lrswite")
		fmt.Fprintf(c.conn, "x %s\r\n", begin)
		if line := c.line(); !strings.HasPrefix(line, "+ ") {
			t.Fatalf("%s: %s", begin, line)
		}
		w.allow("bob", "INBOX", "alice@hamburger.edu", "li")
		w.do("deliver plain")
		end := ""
		if strings.Contains(begin, "CATENATE") {
			end = ` URL ";uid=1")`
		}
		fmt.Fprintf(c.conn, "a: b\r\n%s\r\n", end)
		if line := c.line(); !strings.HasPrefix(line, "x NO [NOPERM]") && !strings.HasPrefix(line, "x NO [BADURL") {
			t.Errorf("%s: %s", begin, line)
		}
		if line := c.line(); line != "" && !strings.HasPrefix(line, "* BYE") {
			t.Errorf("%s: then %s", begin, line)
		}
		if n := w.messages("bob"); n != 2 {
			t.Errorf("%s: bob has %d messages", begin, n)
		}
		if n := w.messages("alice"); n != 0 {
			t.Errorf("%s: alice has %d messages", begin, n)
		}
	}
}

// visit gives rights to bob's INBOX, which has a message, and selects it as alice.
func (w *world) visit(identifier, rights string) *client {
	w.t.Helper()
	w.do("deliver plain")
	w.allow("bob", "INBOX", identifier, rights)
	c := w.connect()
	c.ok("LOGIN alice hungry")
	c.ok(`SELECT "Other Users/bob@hamburger.edu/INBOX"`)
	return c
}

// messages counts those of an INBOX.
func (w *world) messages(account string) (n int) {
	w.t.Helper()
	err := w.store.View(context.Background(), func(v *mailstore.View) error {
		m, err := v.MailboxByName(w.account(account), mailstore.Inbox)
		n = int(m.Messages)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// TestACLDeletedAccount: who has no account any more has the rights of nobody, not
// those of anyone, in what is open already.
func TestACLDeletedAccount(t *testing.T) {
	for _, command := range []string{"FETCH 1 BODY[]", `APPEND "Other Users/bob@hamburger.edu/INBOX" {3+}` + "\r\nabc", "IDLE"} {
		w := newWorld(t, nil)
		c := w.visit("anyone", "lri")
		if command == "IDLE" {
			io.WriteString(c.conn, "x IDLE\r\n")
			c.line()
		}
		err := w.store.Update(context.Background(), func(tx *mailstore.Tx) error { return tx.DeleteAccount(w.account("alice")) })
		if err != nil {
			t.Fatal(err)
		}
		w.do("deliver plain")
		if command != "IDLE" {
			fmt.Fprintf(c.conn, "x %s\r\n", command)
		}
		if line := c.line(); !strings.HasPrefix(line, "* BYE [NOPERM]") {
			t.Errorf("%s: %q", command, line)
		}
		if n := w.messages("bob"); n != 2 {
			t.Errorf("%s: bob has %d messages", command, n)
		}
	}
}

// TestACLDuringTransaction: what changes a mailbox looks at the rights in the
// transaction that does it, and not only when the command began.
func TestACLDuringTransaction(t *testing.T) {
	w := newWorld(t, nil)
	w.do("deliver plain")
	w.allow("bob", "INBOX", "alice@hamburger.edu", "lrswite")
	var box mailstore.Mailbox
	ctx := context.Background()
	err := w.store.View(ctx, func(v *mailstore.View) (err error) {
		box, err = v.MailboxByName(w.account("bob"), mailstore.Inbox)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &session{account: &mailstore.Account{ID: w.account("alice")},
		box: &selection{id: box.ID, account: box.Account, rights: mailstore.AllRights}}
	still := func(need mailstore.Rights) (mailstore.Rights, error) {
		var rights mailstore.Rights
		err := w.store.View(ctx, func(v *mailstore.View) (err error) {
			rights, err = s.still(v, need)
			return err
		})
		return rights, err
	}
	const seen = mailstore.RightRead | mailstore.RightSeen
	if r, err := still(seen); err != nil || r.Has(mailstore.RightAdminister) {
		t.Errorf("%q, %v", r, err)
	}
	w.allow("bob", "INBOX", "alice@hamburger.edu", "lr")
	var no *refusal
	if _, err := still(seen); !errors.As(err, &no) || no.code != "NOPERM" {
		t.Errorf("%v", err)
	}
	s.account.ID = box.Account // one's own
	if r, err := still(seen); err != nil || r != mailstore.AllRights {
		t.Errorf("%q, %v", r, err)
	}
}

// TestACLDuringSearch: ESEARCH passes by a mailbox whose right to read went while it
// searched others, and LIST tells by the rights of its snapshot what STATUS may.
func TestACLDuringSearch(t *testing.T) {
	w := newWorld(t, nil)
	w.allow("bob", "INBOX", "alice@hamburger.edu", "lr")
	ctx := context.Background()
	s := &session{srv: w.server, account: &mailstore.Account{ID: w.account("alice")}, log: w.server.o.Log}
	if err := s.learnRights(ctx); err != nil {
		t.Fatal(err)
	}
	look := func() (searched, told bool) {
		err := w.store.View(ctx, func(v *mailstore.View) error {
			m, err := v.MailboxByName(w.account("bob"), mailstore.Inbox)
			if err != nil {
				return err
			}
			if _, err := s.visible(v, mailstore.RightLookup); err != nil {
				return err
			}
			told = s.rightsTo(&m).Has(mailstore.RightRead)
			b, err := s.glance(ctx, &m)
			searched = b != nil
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return searched, told
	}
	if searched, told := look(); !searched || !told {
		t.Errorf("with the right: searched %v, told %v", searched, told)
	}
	w.allow("bob", "INBOX", "alice@hamburger.edu", "l")
	if searched, told := look(); searched || told {
		t.Errorf("without the right: searched %v, told %v", searched, told)
	}
}
