package imap

import (
	"context"

	"postrider/mailstore"
)

// shared makes an account that nobody logs in to, with an INBOX.
func (w *world) shared(name string) {
	w.t.Helper()
	err := w.store.Update(context.Background(), func(tx *mailstore.Tx) error {
		a := mailstore.Account{Address: name + "@hamburger.edu", Shared: true}
		id, err := tx.CreateAccount(a)
		if err != nil {
			return err
		}
		a.ID = id
		w.directory.accounts[name] = a
		_, err = tx.CreateMailbox(id, mailstore.Inbox, "")
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// allow sets an entry of an access control list.
func (w *world) allow(account, mailbox, identifier, letters string) {
	w.t.Helper()
	rights, err := mailstore.ParseRights(letters)
	if err != nil {
		w.t.Fatal(err)
	}
	err = w.store.Update(context.Background(), func(tx *mailstore.Tx) error {
		m, err := tx.MailboxByName(w.account(account), mailbox)
		if err != nil {
			return err
		}
		clean, err := tx.CleanIdentifier(identifier)
		if err != nil {
			return err
		}
		return tx.SetACL(m.ID, clean, mailstore.ReplaceRights, rights)
	})
	if err != nil {
		w.t.Fatal(err)
	}
}
