package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"postrider/mailstore"
)

// Run tests that an engine keeps the promises of mailstore. open opens the
// engine that keeps its things in dir, an empty directory at first, and is
// called again for the same dir after the engine was closed.
func Run(t *testing.T, open func(t *testing.T, dir string) mailstore.Engine) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{T: t, dir: t.TempDir(), engine: open}
			s.open()
			c.run(s)
			s.close()
			s.verify()
		})
	}
	t.Run("random operations", func(t *testing.T) { runRandom(t, open) })
}

type testCase struct {
	name string
	run  func(s *suite)
}

func cases() []testCase {
	return []testCase{
		{"accounts", (*suite).accounts},
		{"domains, aliases and settings", (*suite).directory},
		{"account deletion", (*suite).deleteAccount},
		{"mailboxes", (*suite).mailboxes},
		{"mailbox names", (*suite).names},
		{"rename a tree", (*suite).renameTree},
		{"rename INBOX", (*suite).renameInbox},
		{"delete and create again", (*suite).recreate},
		{"subscriptions", (*suite).subscriptions},
		{"special use", (*suite).specialUse},
		{"annotations", (*suite).annotations},
		{"limits of annotations", (*suite).annotationLimits},
		{"watchers of annotations", (*suite).annotationWatchers},
		{"rights", (*suite).rights},
		{"rights and names", (*suite).rightsAndNames},
		{"rights and accounts", (*suite).rightsAndAccounts},
		{"limits of rights", (*suite).rightsLimits},
		{"copies to other accounts", (*suite).foreignCopies},
		{"many mailboxes of others", (*suite).manyGranted},
		{"flags by rights", (*suite).flagsByRights},
		{"conversations of other accounts", (*suite).foreignThreads},
		{"keys of URLs", (*suite).urlKeys},
		{"append and read", (*suite).appendRead},
		{"message fields", (*suite).messageFields},
		{"ranges", (*suite).ranges},
		{"flags", (*suite).flags},
		{"conditional store", (*suite).conditionalStore},
		{"expunge", (*suite).expunge},
		{"copy", (*suite).copyMessages},
		{"move", (*suite).moveMessages},
		{"changes", (*suite).changes},
		{"horizon", (*suite).horizon},
		{"shared bodies", (*suite).sharedBodies},
		{"unused bodies", (*suite).unusedBodies},
		{"expunged while open", (*suite).expungedWhileOpen},
		{"open many", (*suite).openMany},
		{"orphans", (*suite).orphans},
		{"compressed bodies", (*suite).compressed},
		{"size of compressed bodies", (*suite).compressedSize},
		{"stored bodies", (*suite).storedBodies},
		{"usage", (*suite).usage},
		{"quota", (*suite).quota},
		{"quota of copies and moves", (*suite).quotaOfCopies},
		{"quota by default", (*suite).quotaByDefault},
		{"quota undone", (*suite).quotaUndone},
		{"room", (*suite).room},
		{"expunged and brought back", (*suite).undelete},
		{"expunged and let go", (*suite).reclaim},
		{"expunged and let go: shares", (*suite).reclaimShares},
		{"nothing held", (*suite).holdNothing},
		{"records", (*suite).records},
		{"threads", (*suite).threads},
		{"select", (*suite).selected},
		{"queue", (*suite).queue},
		{"due", (*suite).due},
		{"rollback", (*suite).rollback},
		{"rollback within a batch", (*suite).rollbackInBatch},
		{"visible after commit", (*suite).visibility},
		{"own writes", (*suite).ownWrites},
		{"snapshots", (*suite).snapshots},
		{"panics", (*suite).panics},
		{"cancelled", (*suite).cancelled},
		{"many at once", (*suite).manyAtOnce},
		{"watchers", (*suite).watchers},
		{"reopen", (*suite).reopen},
		{"closed", (*suite).closed},
	}
}

// suite is one test of one store.
type suite struct {
	*testing.T
	dir     string
	engine  func(t *testing.T, dir string) mailstore.Engine
	store   *mailstore.Store
	options mailstore.Options
}

func (s *suite) open() {
	s.Helper()
	store, err := mailstore.Open(context.Background(), s.engine(s.T, s.dir), s.options)
	s.ok(err)
	s.store = store
}

func (s *suite) close() {
	s.Helper()
	if err := s.store.Close(); err != nil && !errors.Is(err, mailstore.ErrClosed) {
		s.Fatal(err)
	}
}

func (s *suite) reopened() {
	s.Helper()
	s.close()
	s.open()
}

// verify checks the engine's rows after the store was closed.
func (s *suite) verify() {
	s.Helper()
	e := s.engine(s.T, s.dir)
	snap, err := e.Snapshot(context.Background())
	s.ok(err)
	s.ok(Verify(e, snap))
	snap.Close()
	s.ok(e.Close())
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// is checks for an error.
func (s *suite) is(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("error %v, want %v", err, want)
	}
}

// equal compares by what %+v prints, which is the same for nil and empty lists.
func (s *suite) equal(got, want any) {
	s.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		s.Fatalf("got  %s\nwant %s", g, w)
	}
}

func (s *suite) update(fn func(tx *mailstore.Tx) error) {
	s.Helper()
	s.ok(s.store.Update(context.Background(), fn))
}

func (s *suite) view(fn func(v *mailstore.View) error) {
	s.Helper()
	s.ok(s.store.View(context.Background(), fn))
}

// account makes an account with an INBOX.
func (s *suite) account(address string) (a mailstore.AccountID, inbox mailstore.MailboxID) {
	s.Helper()
	s.update(func(tx *mailstore.Tx) error {
		var err error
		if a, err = tx.CreateAccount(mailstore.Account{Address: address}); err != nil {
			return err
		}
		box, err := tx.CreateMailbox(a, "INBOX", "")
		inbox = box.ID
		return err
	})
	return a, inbox
}

func (s *suite) create(a mailstore.AccountID, name string) mailstore.Mailbox {
	s.Helper()
	var box mailstore.Mailbox
	s.update(func(tx *mailstore.Tx) (err error) {
		box, err = tx.CreateMailbox(a, name, "")
		return err
	})
	return box
}

func (s *suite) mailbox(id mailstore.MailboxID) mailstore.Mailbox {
	s.Helper()
	var box mailstore.Mailbox
	s.view(func(v *mailstore.View) (err error) {
		box, err = v.Mailbox(id)
		return err
	})
	return box
}

// body makes a body; it is released when the test ends.
func (s *suite) body(text string) *mailstore.Body {
	s.Helper()
	w := s.store.NewBody()
	_, err := io.WriteString(w, text)
	s.ok(err)
	b, err := w.Commit()
	s.ok(err)
	return b
}

// append adds messages to a mailbox in one Update.
func (s *suite) append(m mailstore.MailboxID, texts ...string) []mailstore.UID {
	s.Helper()
	var uids []mailstore.UID
	var bodies []*mailstore.Body
	for _, text := range texts {
		bodies = append(bodies, s.body(text))
	}
	s.update(func(tx *mailstore.Tx) error {
		for _, b := range bodies {
			uid, err := tx.Append(m, mailstore.NewMessage{Body: b})
			if err != nil {
				return err
			}
			uids = append(uids, uid)
		}
		return nil
	})
	for _, b := range bodies {
		b.Release()
	}
	return uids
}

// messages lists a mailbox. A scan has to say the same.
func (s *suite) messages(m mailstore.MailboxID) []mailstore.Message {
	s.Helper()
	var list []mailstore.Message
	s.view(func(v *mailstore.View) error {
		err := v.Messages(m, 1, 0, func(msg mailstore.Message) bool {
			list = append(list, msg)
			return true
		})
		s.scanned(v, m, list)
		return err
	})
	return list
}

func (s *suite) uids(m mailstore.MailboxID) []mailstore.UID {
	s.Helper()
	var uids []mailstore.UID
	for _, msg := range s.messages(m) {
		uids = append(uids, msg.UID)
	}
	return uids
}

// read reads a message whole.
func (s *suite) read(msg mailstore.Message) string {
	s.Helper()
	c, err := s.store.OpenMessage(context.Background(), msg)
	s.ok(err)
	text, err := readAll(c)
	s.ok(err)
	if int64(len(text)) != msg.Size {
		s.Fatalf("message of %d octets has size %d", len(text), msg.Size)
	}
	return text
}

func readAll(c mailstore.Content) (string, error) {
	data, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
	return string(data), errors.Join(err, c.Close())
}

// texts reads all messages of a mailbox.
func (s *suite) texts(m mailstore.MailboxID) []string {
	s.Helper()
	var texts []string
	for _, msg := range s.messages(m) {
		texts = append(texts, s.read(msg))
	}
	return texts
}

func (s *suite) changesSince(m mailstore.MailboxID, since mailstore.ModSeq) mailstore.Changes {
	s.Helper()
	var c mailstore.Changes
	s.view(func(v *mailstore.View) (err error) {
		c, err = v.Changes(m, since)
		return err
	})
	return c
}

func uidsOf(list []mailstore.Message) []mailstore.UID {
	var uids []mailstore.UID
	for _, m := range list {
		uids = append(uids, m.UID)
	}
	return uids
}
