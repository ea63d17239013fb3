package sqlite

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"strings"

	"postrider/mailstore"
)

// writer is the write transaction. It holds the engine's turn until it ends.
type writer struct {
	reader
	e     *Engine
	pages int // estimate of what the transaction adds to the log
}

// exec runs a statement that changes about one page.
func (w *writer) exec(text string, args ...driver.Value) error {
	w.pages++
	_, err := w.c.exec(text, args...)
	return err
}

// remove is exec for the deletion of any number of rows.
func (w *writer) remove(text string, args ...driver.Value) error {
	n, err := w.c.exec(text, args...)
	w.pages += int(n)
	return err
}

func (w *writer) PutCounter(name string, v int64) error {
	return w.exec("INSERT INTO counter VALUES(?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", name, v)
}

func (w *writer) PutSetting(key string, v []byte) error {
	if v == nil {
		return w.exec("DELETE FROM setting WHERE key = ?", key)
	}
	return w.exec("INSERT INTO setting VALUES(?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", key, v)
}

func (w *writer) PutDomain(d mailstore.Domain) error {
	return w.exec("INSERT INTO domain(name, created, quota_storage, quota_messages) VALUES(?, ?, ?, ?) "+
		"ON CONFLICT(name) DO UPDATE SET quota_storage = excluded.quota_storage, quota_messages = excluded.quota_messages",
		d.Name, nanos(d.Created), d.Quota.Storage, d.Quota.Messages)
}

func (w *writer) DeleteDomain(name string) error {
	return w.exec("DELETE FROM domain WHERE name = ?", name)
}

func (w *writer) PutAlias(a mailstore.Alias) error {
	return w.exec("INSERT INTO alias VALUES(?, ?) ON CONFLICT DO UPDATE SET targets = excluded.targets",
		a.Address, strings.Join(a.Targets, "\n"))
}

func (w *writer) DeleteAlias(address string) error {
	return w.exec("DELETE FROM alias WHERE address = ?", address)
}

func (w *writer) PutAccount(a mailstore.Account) error {
	return w.exec("INSERT INTO account VALUES(?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET "+
		"address = excluded.address, credentials = excluded.credentials, "+
		"quota_storage = excluded.quota_storage, quota_messages = excluded.quota_messages, shared = excluded.shared",
		int64(a.ID), a.Address, a.Credentials, nanos(a.Created), a.Quota.Storage, a.Quota.Messages, flag(a.Shared))
}

func (w *writer) DeleteAccount(id mailstore.AccountID) error {
	return w.exec("DELETE FROM account WHERE id = ?", int64(id))
}

func (w *writer) PutUsage(a mailstore.AccountID, u mailstore.Usage) error {
	if u == (mailstore.Usage{}) {
		return w.exec("DELETE FROM usage WHERE account = ?", int64(a))
	}
	return w.exec("INSERT INTO usage VALUES(?, ?, ?) ON CONFLICT DO UPDATE SET storage = excluded.storage, messages = excluded.messages",
		int64(a), u.Storage, u.Messages)
}

// PutMailbox mostly changes counters, which touches no index.
func (w *writer) PutMailbox(m mailstore.MailboxRow) error {
	w.pages++
	n, err := w.c.exec("UPDATE mailbox SET uidnext = ?, modseq = ?, messages = ?, unseen = ?, size = ?, horizon = ?, expunges = ? "+
		"WHERE id = ? AND name = ? AND special_use = ?",
		int64(m.UIDNext), int64(m.ModSeq), int64(m.Messages), int64(m.Unseen), m.Size, int64(m.Horizon), int64(m.Expunges),
		int64(m.ID), m.Name, m.SpecialUse)
	if err != nil || n > 0 {
		return err
	}
	return w.exec("INSERT INTO mailbox VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET "+
		"name = excluded.name, special_use = excluded.special_use, uidnext = excluded.uidnext, modseq = excluded.modseq, "+
		"messages = excluded.messages, unseen = excluded.unseen, size = excluded.size, "+
		"horizon = excluded.horizon, expunges = excluded.expunges",
		int64(m.ID), int64(m.Account), m.Name, m.SpecialUse, int64(m.UIDValidity), int64(m.UIDNext), int64(m.ModSeq),
		int64(m.Messages), int64(m.Unseen), m.Size, int64(m.Horizon), int64(m.Expunges))
}

func (w *writer) DeleteMailbox(id mailstore.MailboxID) error {
	return w.exec("DELETE FROM mailbox WHERE id = ?", int64(id))
}

func (w *writer) PutSubscription(a mailstore.AccountID, name string) error {
	return w.exec("INSERT INTO subscription VALUES(?, ?) ON CONFLICT DO NOTHING", int64(a), name)
}

func (w *writer) DeleteSubscription(a mailstore.AccountID, name string) error {
	return w.exec("DELETE FROM subscription WHERE account = ? AND name = ?", int64(a), name)
}

func (w *writer) PutAnnotation(a *mailstore.AnnotationRow) error {
	w.pages += len(a.Value) / 4096
	return w.exec("INSERT INTO annotation VALUES(?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
		int64(a.Account), int64(a.Mailbox), a.Entry, int64(a.User), notNil(a.Value))
}

func (w *writer) DeleteAnnotation(a *mailstore.AnnotationRow) error {
	return w.exec("DELETE FROM annotation WHERE account = ? AND mailbox = ? AND entry = ? AND user = ?",
		int64(a.Account), int64(a.Mailbox), a.Entry, int64(a.User))
}

func (w *writer) DeleteAnnotations(a mailstore.AccountID, m mailstore.MailboxID) error {
	return w.remove("DELETE FROM annotation WHERE account = ? AND mailbox = ?", int64(a), int64(m))
}

func (w *writer) PutACL(row mailstore.ACLRow) error {
	return w.exec("INSERT INTO acl VALUES(?, ?, ?) ON CONFLICT DO UPDATE SET rights = excluded.rights",
		int64(row.Mailbox), row.Identifier, row.Rights)
}

func (w *writer) DeleteACL(m mailstore.MailboxID, identifier string) error {
	return w.exec("DELETE FROM acl WHERE mailbox = ? AND identifier = ?", int64(m), identifier)
}

func (w *writer) DeleteACLs(m mailstore.MailboxID) error {
	return w.remove("DELETE FROM acl WHERE mailbox = ?", int64(m))
}

func (w *writer) PutURLKey(a mailstore.AccountID, m mailstore.MailboxID, key []byte) error {
	return w.exec("INSERT INTO urlkey VALUES(?, ?, ?) ON CONFLICT DO UPDATE SET key = excluded.key", int64(a), int64(m), key)
}

func (w *writer) DeleteURLKeys(a mailstore.AccountID, m mailstore.MailboxID) error {
	where, args := "account = ? AND mailbox = ?", vals(int64(a), int64(m))
	switch {
	case a == 0:
		where, args = "mailbox = ?", args[1:]
	case m == 0:
		where, args = "account = ?", args[:1]
	}
	return w.remove("DELETE FROM urlkey WHERE "+where, args...)
}

func (w *writer) PutBlock(b *mailstore.BlockRow) error {
	id := blockID(b.Mailbox, b.First)
	w.pages += (len(b.Head) + len(b.Data)) / 4096
	err := w.exec("INSERT OR REPLACE INTO block VALUES(?, ?, ?, ?, ?, ?, ?)",
		id, int64(b.Last), int64(b.Count), int64(b.Unseen), b.Size, int64(b.Stamp), b.Head)
	if err != nil || b.Data == nil {
		return err
	}
	return w.exec("INSERT OR REPLACE INTO block_data VALUES(?, ?)", id, b.Data)
}

func (w *writer) DeleteBlock(m mailstore.MailboxID, first mailstore.UID) error {
	id := blockID(m, first)
	if err := w.exec("DELETE FROM block WHERE id = ?", id); err != nil {
		return err
	}
	return w.exec("DELETE FROM block_data WHERE id = ?", id)
}

func (w *writer) DeleteBlocks(m mailstore.MailboxID) error {
	for _, table := range []string{"block", "block_data"} {
		n, err := w.c.exec("DELETE FROM "+table+" WHERE id BETWEEN ? AND ?", blockID(m, 0), blockID(m, math.MaxUint32))
		if err != nil {
			return err
		}
		w.pages += 1 + int(n)
	}
	return nil
}

func (w *writer) PutExpunge(m mailstore.MailboxID, e mailstore.ExpungeRow) error {
	return w.exec("INSERT INTO expunge VALUES(?, ?, ?, ?)", int64(m), int64(e.ModSeq), int64(e.First), int64(e.Last))
}

func (w *writer) DeleteExpunges(m mailstore.MailboxID, upTo mailstore.ModSeq) error {
	return w.exec("DELETE FROM expunge WHERE mailbox = ? AND modseq <= ?", int64(m), int64(min(upTo, math.MaxInt64)))
}

func (w *writer) InsertBody(b *mailstore.BodyRow) error {
	data := b.Data
	if data == nil && b.File == "" {
		data = []byte{}
	}
	w.pages += len(data) / 4096
	err := w.exec("INSERT INTO body VALUES(?, ?, ?, ?, ?, ?, ?)",
		int64(b.ID), b.Size, b.Hash[:], notNil(b.Sums), text(b.File), data, b.Coding)
	if err != nil || b.Refs == 1 {
		return err
	}
	return w.share(b.ID, b.Refs-1)
}

func (w *writer) PutContent(id mailstore.BodyID, record []byte) error {
	w.pages += len(record) / 4096
	return w.exec("INSERT OR REPLACE INTO content VALUES(?, ?)", int64(id), record)
}

func (w *writer) PutThread(a mailstore.AccountID, key int64, t mailstore.ThreadID) error {
	return w.exec("INSERT OR REPLACE INTO thread VALUES(?, ?, ?)", int64(a), key, int64(t))
}

func (w *writer) DeleteThreads(a mailstore.AccountID) error {
	n, err := w.c.exec("DELETE FROM thread WHERE account = ?", int64(a))
	w.pages += 1 + int(n)/64
	return err
}

func (w *writer) PutHeld(h *mailstore.HeldRow) error {
	w.pages += (len(h.Head) + len(h.Data)) / 4096
	return w.exec("INSERT OR REPLACE INTO held VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		int64(h.ID), int64(h.Account), h.Name, h.Expunged.Unix(), int64(h.Mailbox), int64(h.First), int64(h.Last),
		int64(h.Count), int64(h.Unseen), h.Size, int64(h.Stamp), h.Head, h.Data)
}

func (w *writer) DeleteHeld(id mailstore.HeldID) error {
	return w.exec("DELETE FROM held WHERE id = ?", int64(id))
}

// notNil is a blob that is not NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// share counts references beyond the first.
func (w *writer) share(id mailstore.BodyID, delta int) error {
	return w.exec("INSERT INTO body_share VALUES(?, ?) ON CONFLICT DO UPDATE SET extra = extra + excluded.extra",
		int64(id), int64(delta))
}

func (w *writer) AddRefs(id mailstore.BodyID, n int) error { return w.share(id, n) }

func (w *writer) DropRefs(id mailstore.BodyID, n int) (left int, file string, err error) {
	extra := 0
	err = w.c.query("SELECT extra FROM body_share WHERE body = ?", vals(int64(id)), func(r row) bool {
		extra = int(r.int(0))
		return false
	})
	if err != nil {
		return 0, "", err
	}
	switch left = 1 + extra - n; {
	case left <= 0:
		return 0, file, w.deleteBody(id, extra, &file)
	case left == 1:
		return left, "", w.exec("DELETE FROM body_share WHERE body = ?", int64(id))
	}
	return left, "", w.share(id, -n)
}

// deleteBody deletes a body and tells the file that it had.
func (w *writer) deleteBody(id mailstore.BodyID, extra int, file *string) error {
	w.pages++
	err := w.c.one("DELETE FROM body WHERE id = ? RETURNING file", vals(int64(id)), func(r row) { *file = r.str(0) })
	if err != nil {
		return err
	}
	if err := w.exec("DELETE FROM content WHERE body = ?", int64(id)); err != nil || extra == 0 {
		return err
	}
	return w.exec("DELETE FROM body_share WHERE body = ?", int64(id))
}

// flag is a bool as a column keeps it.
func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func (w *writer) PutQueueItem(q mailstore.QueueRow) error {
	return w.exec("INSERT OR REPLACE INTO queue_item VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		int64(q.ID), int64(q.Left), q.Envelope, q.From, q.BodyType, flag(q.UTF8), q.Return, q.EnvID, q.Login,
		int64(q.Body), q.Size, nanos(q.Accepted), nanos(q.Expires))
}

func (w *writer) DeleteQueueItem(id mailstore.QueueID) error {
	return w.exec("DELETE FROM queue_item WHERE id = ?", int64(id))
}

func (w *writer) PutRecipient(r mailstore.QueueRecipient) error {
	return w.exec("INSERT OR REPLACE INTO queue_recipient VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		recipientID(r.Item, r.Index), r.Address, r.Domain, r.Notify, r.ORCPT, r.Original, flag(r.Held),
		int64(r.Attempts), nanos(r.Last), nanos(r.Next), r.Reply, r.Host, flag(r.Delayed))
}

func (w *writer) DeleteRecipient(item mailstore.QueueID, index int) error {
	if index < 0 || index >= mailstore.MaxQueueRecipients {
		return mailstore.ErrNotFound
	}
	w.pages++
	n, err := w.c.exec("DELETE FROM queue_recipient WHERE id = ?", recipientID(item, index))
	if err == nil && n == 0 {
		return mailstore.ErrNotFound
	}
	return err
}

func (w *writer) Savepoint() error { return w.c.run("SAVEPOINT one") }
func (w *writer) Release() error   { return w.c.run("RELEASE one") }

func (w *writer) RollbackTo() error {
	if err := w.c.run("ROLLBACK TO one"); err != nil {
		return err
	}
	return w.c.run("RELEASE one")
}

// Commit makes the transaction durable. After an error Rollback ends it.
func (w *writer) Commit() error {
	if err := w.c.run("COMMIT"); err != nil {
		if notWritten(err) {
			return fmt.Errorf("%w: %w", mailstore.ErrNotWritten, err)
		}
		return err
	}
	w.end()
	return nil
}

// Rollback undoes the transaction, where SQLite has not done so itself after an
// error.
func (w *writer) Rollback() error {
	if w.c == nil {
		return errors.New("sqlite: the transaction has ended")
	}
	var err error
	if !w.c.c.AutoCommit() {
		err = w.c.run("ROLLBACK")
	}
	w.pages = 0
	w.end()
	return err
}

// end gives the turn back.
func (w *writer) end() {
	w.e.check.grown(w.pages)
	w.c = nil
	w.e.turn.Unlock()
}
