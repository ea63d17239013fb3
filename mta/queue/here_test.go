package queue

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"postrider/mailstore"
	"postrider/mta"
)

// quota sets the limits of an account.
func (f *fixture) quota(name string, limit mailstore.Quota) {
	f.Helper()
	f.must(f.store.Update(f.Context(), func(tx *mailstore.Tx) error {
		a, err := tx.AccountByAddress(name + "@crepes.fr")
		a.Quota = limit
		return errors.Join(err, tx.UpdateAccount(a))
	}))
}

// clear expunges all of an inbox.
func (f *fixture) clear(name string) {
	f.Helper()
	f.must(f.store.Update(f.Context(), func(tx *mailstore.Tx) error {
		var uids []mailstore.UID
		err1 := tx.Messages(f.boxes[name], 0, 0, func(m mailstore.Message) bool {
			uids = append(uids, m.UID)
			return true
		})
		_, err2 := tx.Expunge(f.boxes[name], uids)
		return errors.Join(err1, err2)
	}))
}

// TestFullAccount: an account that filled up since RCPT waits alone; the others
// get their mail in the same commit. When there is room the message comes once.
func TestFullAccount(t *testing.T) {
	for _, restart := range []bool{false, true} {
		bubble(t, Options{DelayNotice: -1}, func(f *fixture) {
			f.addAccount("carol")
			f.quota("bob", mailstore.Quota{Messages: 1})
			f.send("eve@hamburger.edu", "bob@crepes.fr")
			f.run()
			id := f.send("eve@hamburger.edu", "alice@crepes.fr", "bob@crepes.fr", "carol@crepes.fr", "dave@example.org")
			f.pass(time.Second)
			if a, b, c := len(f.inbox("alice")), len(f.inbox("bob")), len(f.inbox("carol")); a != 1 || b != 1 || c != 1 {
				t.Fatalf("mailboxes have %d, %d and %d messages", a, b, c)
			}
			if n := len(f.deliver.attempts()); n != 1 {
				t.Fatalf("%d attempts at other servers", n)
			}
			items := f.items()
			if len(items) != 1 || items[0].ID != id || len(items[0].Recipients) != 1 {
				t.Fatalf("queue: %+v", items)
			}
			r := items[0].Recipients[0]
			if r.Address != "bob@crepes.fr" || r.State != "waiting" || r.Attempts != 1 || r.Last == nil ||
				r.Reply != "452 4.2.2 The mailbox of bob@crepes.fr has no room for the message" {
				t.Errorf("recipient: %+v", r)
			}
			if restart {
				f.restart()
				f.run()
			}
			f.pass(3 * time.Hour)
			if n := f.items()[0].Recipients[0].Attempts; n < 12 || n > 15 {
				t.Errorf("%d attempts within three hours", n)
			}
			f.clear("bob")
			f.pass(maxFullWait)
			in := f.inbox("bob")
			if len(in) != 1 || in[0] != "Return-Path: <eve@hamburger.edu>\r\n"+letterText || f.length() != 0 {
				t.Fatalf("%d in the queue, inbox %q", f.length(), in)
			}
			if f.router.asked != 1 || len(f.deliver.attempts()) != 1 {
				t.Error("the account was looked for at another server")
			}
		})
	}
}

// TestFullAccountExpires: at the end the sender hears why, once.
func TestFullAccountExpires(t *testing.T) {
	bubble(t, Options{DelayNotice: 4 * time.Hour, Expire: 2 * 24 * time.Hour}, func(f *fixture) {
		f.quota("bob", mailstore.Quota{Storage: 100})
		f.run()
		f.send("alice@crepes.fr", "bob@crepes.fr")
		f.pass(5 * time.Hour)
		in := f.inbox("alice")
		if len(in) != 1 || !strings.Contains(in[0], "Action: delayed") || !strings.Contains(in[0], "4.2.2") {
			t.Fatalf("notice of the delay: %q", in)
		}
		f.pass(3 * 24 * time.Hour)
		if in = f.inbox("alice"); len(in) != 2 || f.length() != 0 || len(f.inbox("bob")) != 0 {
			t.Fatalf("%d reports, %d in the queue", len(in), f.length())
		}
		for _, want := range []string{
			"Action: failed Status: 5.2.2", "Final-Recipient: rfc822; bob@crepes.fr",
			"Diagnostic-Code: x-postrider; 552 5.2.2 The mailbox of bob@crepes.fr has no room",
			"The recipient's mailbox is full. Send the message again when",
			"times in 2 days. In the end the reason was:",
		} {
			if !strings.Contains(strings.Join(strings.Fields(in[1]), " "), want) {
				t.Errorf("the report does not say %q:\n%s", want, in[1])
			}
		}
		if f.router.asked != 0 {
			t.Error("the account was looked for at another server")
		}
	})
}

// TestFullAccountReportsSuccess: NOTIFY=SUCCESS is answered when it is true.
func TestFullAccountReportsSuccess(t *testing.T) {
	bubble(t, Options{DelayNotice: -1}, func(f *fixture) {
		f.quota("bob", mailstore.Quota{Messages: 1})
		f.send("eve@hamburger.edu", "bob@crepes.fr")
		env := f.envelope("alice@crepes.fr", "bob@crepes.fr")
		env.To[0].Options.Notify = []smtp.DSNNotify{smtp.DSNNotifySuccess}
		f.must(f.accept(env, letterText))
		f.run()
		f.pass(30 * time.Second)
		if in := f.inbox("alice"); len(in) != 0 {
			t.Fatalf("told too early: %q", in)
		}
		f.clear("bob")
		f.pass(time.Hour)
		if in := f.inbox("alice"); len(in) != 1 || !strings.Contains(in[0], "Action: delivered\r\nStatus: 2.0.0\r\n") ||
			!strings.Contains(in[0], "delivered into the mailbox") || len(f.inbox("bob")) != 1 {
			t.Errorf("report: %q", in)
		}
	})
}

// TestReportToFullAccount: a report waits like any other message, and nobody is
// told when it is given up.
func TestReportToFullAccount(t *testing.T) {
	bubble(t, Options{DelayNotice: -1, Expire: 24 * time.Hour}, func(f *fixture) {
		f.deliver.answer = says(550, "5.1.1", "no such user")
		f.quota("alice", mailstore.Quota{Messages: 1})
		f.send("", "alice@crepes.fr")
		f.run()
		f.send("alice@crepes.fr", "nobody@hamburger.edu") // fails
		f.pass(time.Minute / 2)
		items := f.items()
		if len(items) != 1 || items[0].From != "" || items[0].Recipients[0].Address != "alice@crepes.fr" {
			t.Fatalf("queue: %+v", items)
		}
		f.clear("alice")
		f.pass(10 * time.Minute)
		if in := f.inbox("alice"); len(in) != 1 || !strings.Contains(in[0], "no such user") {
			t.Fatalf("inbox: %q", in)
		}
		f.send("alice@crepes.fr", "nobody@hamburger.edu")
		f.pass(3 * 24 * time.Hour)
		if n := f.length(); n != 0 || len(f.inbox("alice")) != 1 {
			t.Errorf("%d in the queue", n)
		}
	})
}

// TestFullAccountGoes: what waits for an account follows its address.
func TestFullAccountGoes(t *testing.T) {
	wait := func(f *fixture, after func(id mailstore.AccountID)) {
		f.quota("bob", mailstore.Quota{Messages: 1})
		f.send("alice@crepes.fr", "bob@crepes.fr")
		f.send("alice@crepes.fr", "bob@crepes.fr")
		bob := mta.Address{Local: "bob", Domain: "crepes.fr"}
		id := mailstore.AccountID(f.router.accounts[bob])
		f.must(f.store.Update(f.Context(), func(tx *mailstore.Tx) error { return tx.DeleteAccount(id) }))
		delete(f.router.accounts, bob)
		after(id)
		f.run()
		f.pass(time.Hour)
		if f.length() != 0 {
			t.Errorf("queue: %+v", f.items())
		}
	}
	t.Run("to nobody", func(t *testing.T) {
		bubble(t, Options{}, func(f *fixture) {
			wait(f, func(mailstore.AccountID) {})
			if in := f.inbox("alice"); len(in) != 1 || !strings.Contains(in[0], "Status: 5.1.1") ||
				strings.Contains(in[0], "another server") {
				t.Errorf("inbox: %q", in)
			}
		})
	})
	t.Run("to an alias", func(t *testing.T) {
		bubble(t, Options{}, func(f *fixture) {
			wait(f, func(mailstore.AccountID) {
				f.router.aliases[addr("bob@crepes.fr")] = []mta.Target{{Account: f.router.accounts[addr("alice@crepes.fr")]},
					{Remote: addr("bob@hamburger.edu")}}
			})
			if in := f.inbox("alice"); len(in) != 1 || len(f.deliver.attempts()) != 1 {
				t.Errorf("inbox: %q", in)
			}
		})
	})
	t.Run("while it is routed to the account", func(t *testing.T) {
		bubble(t, Options{}, func(f *fixture) {
			var gone mailstore.AccountID
			wait(f, func(id mailstore.AccountID) {
				gone = id
				f.router.accounts[addr("bob@crepes.fr")] = int64(gone) // routing is behind
				time.AfterFunc(20*time.Minute, func() {
					f.router.mu.Lock()
					defer f.router.mu.Unlock()
					delete(f.router.accounts, addr("bob@crepes.fr"))
				})
			})
			if in := f.inbox("alice"); len(in) != 1 || !strings.Contains(in[0], "Status: 5.1.1") {
				t.Errorf("inbox: %q", in)
			}
		})
	})
}

// TestFullAccountOperations: an operator can hold, release, retry and remove
// what waits for an account.
func TestFullAccountOperations(t *testing.T) {
	bubble(t, Options{DelayNotice: -1, Smarthost: "smart.example:25"}, func(f *fixture) {
		f.quota("bob", mailstore.Quota{Messages: 1})
		f.send("eve@hamburger.edu", "bob@crepes.fr")
		f.run()
		first := f.send("eve@hamburger.edu", "bob@crepes.fr")
		second := f.send("eve@hamburger.edu", "bob@crepes.fr")
		if _, err := f.q.Remove(f.Context(), first); err != nil {
			t.Fatal(err)
		}
		f.must(failure(f.q.Hold(f.Context(), second)))
		f.clear("bob")
		f.pass(time.Hour)
		if n := len(f.inbox("bob")); n != 0 {
			t.Fatalf("%d messages in spite of the hold", n)
		}
		f.must(failure(f.q.Release(f.Context(), second)))
		f.pass(time.Second)
		if n := len(f.inbox("bob")); n != 1 || f.length() != 0 {
			t.Fatalf("%d messages, %d in the queue", n, f.length())
		}
		third := f.send("eve@hamburger.edu", "bob@crepes.fr")
		f.quota("bob", mailstore.Quota{})
		f.must(failure(f.q.Retry(f.Context(), third)))
		f.pass(time.Second)
		if n := len(f.inbox("bob")); n != 2 || f.length() != 0 {
			t.Errorf("%d messages, %d in the queue", n, f.length())
		}
	})
}

// TestRetryFull: what waits for an account comes at once when its limit is raised,
// and nothing else is tried for that.
func TestRetryFull(t *testing.T) {
	bubble(t, Options{DelayNotice: -1, Smarthost: "smart.example:25"}, func(f *fixture) {
		f.addAccount("carol")
		f.quota("bob", mailstore.Quota{Messages: 1})
		f.quota("carol", mailstore.Quota{Messages: 1})
		f.send("eve@hamburger.edu", "bob@crepes.fr", "carol@crepes.fr")
		f.run()
		for range pageItems + 5 {
			f.send("eve@hamburger.edu", "bob@crepes.fr")
		}
		held := f.send("eve@hamburger.edu", "bob@crepes.fr")
		f.must(failure(f.q.Hold(f.Context(), held)))
		f.send("eve@hamburger.edu", "bob@crepes.fr", "carol@crepes.fr")
		f.pass(time.Second)
		if n := f.length(); n != pageItems+8 {
			t.Fatalf("%d in the queue", n)
		}
		f.quota("bob", mailstore.Quota{})
		f.quota("carol", mailstore.Quota{})
		f.must(f.q.RetryFull(f.Context(), "bob@crepes.fr"))
		f.pass(time.Second)
		if b, c, n := len(f.inbox("bob")), len(f.inbox("carol")), f.length(); b != pageItems+7 || c != 1 || n != 2 {
			t.Errorf("bob has %d, carol %d, %d in the queue", b, c, n)
		}
		f.must(f.q.RetryFull(f.Context(), ""))
		f.pass(time.Second)
		if c, n := len(f.inbox("carol")), f.length(); c != 2 || n != 1 {
			t.Errorf("carol has %d, %d in the queue", c, n)
		}
	})
}

// TestRetryFullUnderWay: a try that found no room just before the limit was raised
// is followed by another.
func TestRetryFullUnderWay(t *testing.T) {
	bubble(t, Options{DelayNotice: -1}, func(f *fixture) {
		f.run()
		for i := range 100 {
			f.quota("bob", mailstore.Quota{Storage: 10})
			f.send("eve@hamburger.edu", "bob@crepes.fr")
			f.pass(time.Millisecond)
			f.must(failure(f.q.Retry(f.Context())))
			for range i % 50 {
				runtime.Gosched() // while it is tried
			}
			f.quota("bob", mailstore.Quota{})
			f.must(f.q.RetryFull(f.Context(), "bob@crepes.fr"))
			f.pass(time.Second)
			if n := f.length(); n != 0 {
				t.Fatalf("round %d: %d in the queue", i, n)
			}
		}
	})
}

func failure[T any](_ T, err error) error { return err }

// TestManyFullAccounts: all of them are found, and each message for several
// addresses of one account waits once.
func TestManyFullAccounts(t *testing.T) {
	bubble(t, Options{DelayNotice: -1}, func(f *fixture) {
		var to []string
		for _, name := range []string{"c", "d", "e", "f", "g", "h"} {
			f.addAccount(name)
			if name != "e" {
				f.quota(name, mailstore.Quota{Storage: 10})
			}
			to = append(to, name+"@crepes.fr")
			f.router.aliases[addr(name+"+x@crepes.fr")] = []mta.Target{{Account: f.router.accounts[addr(name+"@crepes.fr")]}}
			to = append(to, name+"+x@crepes.fr")
		}
		f.send("eve@hamburger.edu", to...)
		if f.length() != 5 || len(f.inbox("e")) != 1 {
			t.Fatalf("queue: %+v", f.items())
		}
		var waits []string
		for _, r := range f.items()[0].Recipients {
			waits = append(waits, r.Address)
		}
		if slices.Sort(waits); strings.Join(waits, " ") != "c@crepes.fr d@crepes.fr f@crepes.fr g@crepes.fr h@crepes.fr" {
			t.Errorf("waiting: %v", waits)
		}
	})
}
