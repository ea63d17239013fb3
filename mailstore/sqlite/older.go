package sqlite

import "postrider/mailstore"

// reader3 reads version 3, which had no rights of others and no keys of URLs.
type reader3 struct{ reader }

func (r reader3) Accounts(fn func(mailstore.Account) bool) error {
	return r.c.query("SELECT id, address, credentials, created, quota_storage, quota_messages, 0 FROM account ORDER BY id", nil,
		func(row row) bool { return fn(accountOf(row)) })
}

func (r reader3) ACL(mailstore.MailboxID, func(mailstore.ACLRow) bool) error { return nil }

func (r reader3) urlKeys(mailstore.AccountID, func(urlKey) bool) error { return nil }

// reader2 reads version 2, which had no annotations.
type reader2 struct{ reader3 }

func (r reader2) Annotations(mailstore.AccountID, mailstore.MailboxID, func(mailstore.AnnotationRow) bool) error {
	return nil
}

// urlKey is a key of an account's URLs.
type urlKey struct {
	Mailbox mailstore.MailboxID
	Key     []byte
}

// urlKeys lists those of an account by mailbox.
func (r reader) urlKeys(a mailstore.AccountID, fn func(urlKey) bool) error {
	return r.c.query("SELECT mailbox, key FROM urlkey WHERE account = ? ORDER BY mailbox", vals(int64(a)), func(row row) bool {
		return fn(urlKey{mailstore.MailboxID(row.int(0)), row.blob(1)})
	})
}
