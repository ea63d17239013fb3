package imap

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"postrider/mailstore"
)

// watching is a world in which a client that has no mailbox open is told of
// events.
func watching(t *testing.T, events string) (*world, *client) {
	w := newWorld(t, nil)
	c := w.connect()
	c.ok("LOGIN bob hungry")
	c.ok("NOTIFY SET (" + events + ")")
	return w, c
}

// TestNotifyWithinCommand: what happens while a command comes is told behind its
// answer, also where the command is no good.
func TestNotifyWithinCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := watching(t, "personal (MessageNew MessageExpunge)")
		for i, end := range []string{"OP\r\n", "NSENSE\r\n"} {
			fmt.Fprint(c.conn, "x NO")
			synctest.Wait()
			w.deliver("bob", "INBOX", []byte("Subject: x\r\n\r\n"), mailstore.Flags{}, 1)
			synctest.Wait()
			fmt.Fprint(c.conn, end)
			told := fmt.Sprintf("* STATUS INBOX (MESSAGES %d UIDNEXT %d", i+1, i+2)
			answered, heard := false, false
			for n := 0; !answered || !heard; n++ {
				line := c.line()
				if n > 5 {
					t.Fatalf("answered %v, heard %v", answered, heard)
				}
				answered = answered || strings.HasPrefix(line, "x ")
				heard = heard || strings.HasPrefix(line, told)
			}
		}
		c.ok("UNAUTHENTICATE")
		w.deliver("bob", "INBOX", []byte("Subject: x\r\n\r\n"), mailstore.Flags{}, 1)
		synctest.Wait()
		c.ok("NOOP")
		if len(c.all) != 0 {
			t.Errorf("a stranger was told %q", c.all)
		}
	})
}

// TestNotifySurvivesIdle: NOTIFY goes on behind IDLE.
func TestNotifySurvivesIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		c := w.client("INBOX")
		c.ok("NOTIFY SET (selected (MessageNew MessageExpunge))")
		fmt.Fprint(c.conn, "i IDLE\r\n")
		c.line()
		fmt.Fprint(c.conn, "DONE\r\n")
		c.line()
		synctest.Wait()
		w.deliver("bob", "INBOX", []byte("Subject: x\r\n\r\n"), mailstore.Flags{}, 1)
		if line := c.line(); line != "* 1 EXISTS" {
			t.Errorf("%q", line)
		}
	})
}

// TestNotifyOverflow: more mailboxes than are watched are refused, and end the
// watching when they come later.
func TestNotifyOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := watching(t, "inboxes (MessageNew MessageExpunge)")
		err := w.store.Update(context.Background(), func(tx *mailstore.Tx) error {
			for i := range maxNotified {
				if _, err := tx.CreateMailbox(w.account("bob"), fmt.Sprintf("m%d", i), ""); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if line := c.line(); !strings.HasPrefix(line, "* OK [NOTIFICATIONOVERFLOW]") {
			t.Errorf("%q", line)
		}
		fmt.Fprint(c.conn, "x NOTIFY SET (personal (MailboxName))\r\n")
		if line := c.line(); !strings.HasPrefix(line, "x NO [NOTIFICATIONOVERFLOW]") {
			t.Errorf("%q", line)
		}
	})
}
