package sqlite

import (
	"database/sql/driver"
	"math"
	"strings"
	"time"

	"postrider/mailstore"
)

// reader reads rows by one connection within a transaction.
type reader struct{ c *conn }

// vals makes a list of arguments.
func vals(v ...driver.Value) []driver.Value { return v }

func (r reader) Counter(name string) (int64, error) {
	var v int64
	err := r.c.query("SELECT value FROM counter WHERE name = ?", vals(name), func(row row) bool {
		v = row.int(0)
		return false
	})
	return v, err
}

func (r reader) Setting(key string) ([]byte, error) {
	var v []byte
	err := r.c.one("SELECT value FROM setting WHERE key = ?", vals(key), func(row row) { v = row.blob(0) })
	return v, err
}

const selectDomain = "SELECT name, created, quota_storage, quota_messages FROM domain"

func domainOf(r row) mailstore.Domain {
	return mailstore.Domain{Name: r.str(0), Created: r.time(1), Quota: mailstore.Quota{Storage: r.int(2), Messages: r.int(3)}}
}

func (r reader) Domain(name string) (mailstore.Domain, error) {
	var d mailstore.Domain
	err := r.c.one(selectDomain+" WHERE name = ?", vals(name), func(row row) { d = domainOf(row) })
	return d, err
}

func (r reader) Domains(fn func(mailstore.Domain) bool) error {
	return r.c.query(selectDomain+" ORDER BY id", nil, func(row row) bool { return fn(domainOf(row)) })
}

func aliasOf(r row) mailstore.Alias {
	a := mailstore.Alias{Address: r.str(0)}
	if t := r.str(1); t != "" {
		a.Targets = strings.Split(t, "\n")
	}
	return a
}

func (r reader) Alias(address string) (mailstore.Alias, error) {
	var a mailstore.Alias
	err := r.c.one("SELECT address, targets FROM alias WHERE address = ?", vals(address), func(row row) { a = aliasOf(row) })
	return a, err
}

func (r reader) Aliases(fn func(mailstore.Alias) bool) error {
	return r.c.query("SELECT address, targets FROM alias ORDER BY address", nil, func(row row) bool { return fn(aliasOf(row)) })
}

const selectAccount = "SELECT id, address, credentials, created, quota_storage, quota_messages, shared FROM account"

func accountOf(r row) mailstore.Account {
	return mailstore.Account{
		ID: mailstore.AccountID(r.int(0)), Address: r.str(1), Credentials: r.blob(2), Created: r.time(3),
		Quota: mailstore.Quota{Storage: r.int(4), Messages: r.int(5)}, Shared: r.int(6) != 0,
	}
}

func (r reader) Account(id mailstore.AccountID) (mailstore.Account, error) {
	var a mailstore.Account
	err := r.c.one(selectAccount+" WHERE id = ?", vals(int64(id)), func(row row) { a = accountOf(row) })
	return a, err
}

func (r reader) AccountByAddress(address string) (mailstore.Account, error) {
	var a mailstore.Account
	err := r.c.one(selectAccount+" WHERE address = ?", vals(address), func(row row) { a = accountOf(row) })
	return a, err
}

func (r reader) Accounts(fn func(mailstore.Account) bool) error {
	return r.c.query(selectAccount+" ORDER BY id", nil, func(row row) bool { return fn(accountOf(row)) })
}

func (r reader) Annotations(a mailstore.AccountID, m mailstore.MailboxID, fn func(mailstore.AnnotationRow) bool) error {
	return r.c.query("SELECT entry, user, value FROM annotation WHERE account = ? AND mailbox = ? ORDER BY entry, user",
		vals(int64(a), int64(m)), func(row row) bool {
			return fn(mailstore.AnnotationRow{
				Account: a, Mailbox: m, User: mailstore.AccountID(row.int(1)),
				Annotation: mailstore.Annotation{Entry: row.str(0), Value: notNil(row.blob(2))},
			})
		})
}

func (r reader) AnnotationUsage(a mailstore.AccountID) (rows int, octets int64, err error) {
	err = r.c.one("SELECT count(*), ifnull(sum(length(entry) + length(value)), 0) FROM annotation WHERE account = ?", vals(int64(a)), func(row row) {
		rows, octets = int(row.int(0)), row.int(1)
	})
	return rows, octets, err
}

func aclOf(r row) mailstore.ACLRow {
	return mailstore.ACLRow{Mailbox: mailstore.MailboxID(r.int(0)), Identifier: r.str(1), Rights: r.str(2)}
}

func (r reader) ACL(m mailstore.MailboxID, fn func(mailstore.ACLRow) bool) error {
	return r.c.query("SELECT mailbox, identifier, rights FROM acl WHERE mailbox = ? ORDER BY identifier", vals(int64(m)),
		func(row row) bool { return fn(aclOf(row)) })
}

func (r reader) Granted(identifier string, fn func(mailstore.ACLRow) bool) error {
	return r.c.query("SELECT mailbox, identifier, rights FROM acl WHERE identifier = ? ORDER BY mailbox", vals(identifier),
		func(row row) bool { return fn(aclOf(row)) })
}

func (r reader) URLKey(a mailstore.AccountID, m mailstore.MailboxID) ([]byte, error) {
	var key []byte
	err := r.c.one("SELECT key FROM urlkey WHERE account = ? AND mailbox = ?", vals(int64(a), int64(m)), func(row row) { key = row.blob(0) })
	return key, err
}

func (r reader) Usage(a mailstore.AccountID) (mailstore.Usage, error) {
	var u mailstore.Usage
	err := r.c.query("SELECT storage, messages FROM usage WHERE account = ?", vals(int64(a)), func(row row) bool {
		u = mailstore.Usage{Storage: row.int(0), Messages: row.int(1)}
		return false
	})
	return u, err
}

const selectMailbox = "SELECT id, account, name, special_use, uidvalidity, uidnext, modseq, messages, unseen, size, " +
	"horizon, expunges FROM mailbox"

func mailboxOf(r row) mailstore.MailboxRow {
	return mailstore.MailboxRow{
		Mailbox: mailstore.Mailbox{
			ID: mailstore.MailboxID(r.int(0)), Account: mailstore.AccountID(r.int(1)),
			Name: r.str(2), SpecialUse: r.str(3),
			UIDValidity: uint32(r.int(4)), UIDNext: mailstore.UID(r.int(5)), ModSeq: mailstore.ModSeq(r.int(6)),
			Messages: uint32(r.int(7)), Unseen: uint32(r.int(8)), Size: r.int(9),
		},
		Horizon: mailstore.ModSeq(r.int(10)), Expunges: int(r.int(11)),
	}
}

func (r reader) Mailbox(id mailstore.MailboxID) (mailstore.MailboxRow, error) {
	var m mailstore.MailboxRow
	err := r.c.one(selectMailbox+" WHERE id = ?", vals(int64(id)), func(row row) { m = mailboxOf(row) })
	return m, err
}

func (r reader) MailboxByName(a mailstore.AccountID, name string) (mailstore.MailboxRow, error) {
	var m mailstore.MailboxRow
	err := r.c.one(selectMailbox+" WHERE account = ? AND name = ?", vals(int64(a), name), func(row row) { m = mailboxOf(row) })
	return m, err
}

func (r reader) Mailboxes(a mailstore.AccountID, fn func(mailstore.MailboxRow) bool) error {
	return r.c.query(selectMailbox+" WHERE account = ? ORDER BY id", vals(int64(a)), func(row row) bool { return fn(mailboxOf(row)) })
}

func (r reader) CountMailboxes(a mailstore.AccountID) (int, error) {
	n := 0
	err := r.c.one("SELECT count(*) FROM mailbox WHERE account = ?", vals(int64(a)), func(row row) { n = int(row.int(0)) })
	return n, err
}

func (r reader) Subscribed(a mailstore.AccountID, name string) (bool, error) {
	found := false
	err := r.c.query("SELECT 1 FROM subscription WHERE account = ? AND name = ?", vals(int64(a), name), func(row) bool {
		found = true
		return false
	})
	return found, err
}

func (r reader) Subscriptions(a mailstore.AccountID, fn func(string) bool) error {
	return r.c.query("SELECT name FROM subscription WHERE account = ? ORDER BY name", vals(int64(a)),
		func(row row) bool { return fn(row.str(0)) })
}

// blockID is the row id of a block.
func blockID(m mailstore.MailboxID, first mailstore.UID) int64 { return int64(m)<<32 | int64(first) }

const (
	selectBlocks    = "SELECT id, last, count, unseen, size, stamp, head FROM block WHERE id BETWEEN ? AND ? ORDER BY id"
	selectBlockData = "SELECT data FROM block_data WHERE id = ?"
)

func (r reader) Blocks(m mailstore.MailboxID, fn func(*mailstore.BlockRow) bool) error {
	return r.c.query(selectBlocks, vals(blockID(m, 0), blockID(m, math.MaxUint32)), func(row row) bool {
		return fn(&mailstore.BlockRow{
			Mailbox: m, First: mailstore.UID(row.int(0)), Last: mailstore.UID(row.int(1)),
			Count: int(row.int(2)), Unseen: int(row.int(3)), Size: row.int(4), Stamp: mailstore.ModSeq(row.int(5)),
			Head: row.blob(6),
		})
	})
}

func (r reader) BlockData(m mailstore.MailboxID, first mailstore.UID) ([]byte, error) {
	var data []byte
	err := r.c.one(selectBlockData, vals(blockID(m, first)), func(row row) { data = row.blob(0) })
	return data, err
}

const selectExpunges = "SELECT modseq, first, last FROM expunge WHERE mailbox = ? AND modseq > ? ORDER BY modseq, first"

func (r reader) Expunges(m mailstore.MailboxID, since mailstore.ModSeq, fn func(mailstore.ExpungeRow) bool) error {
	return r.c.query(selectExpunges,
		vals(int64(m), int64(since)),
		func(row row) bool {
			return fn(mailstore.ExpungeRow{
				ModSeq: mailstore.ModSeq(row.int(0)), First: mailstore.UID(row.int(1)), Last: mailstore.UID(row.int(2)),
			})
		})
}

const (
	selectBody = "SELECT id, size, hash, sums, file, 1 + ifnull((SELECT extra FROM body_share WHERE body = body.id), 0)"
	bodyByID   = " FROM body WHERE id = ?"
)

func (r reader) Body(id mailstore.BodyID, data bool) (mailstore.BodyRow, error) {
	query := selectBody + bodyByID
	if data {
		query = selectBody + ", data, coding" + bodyByID
	}
	var b mailstore.BodyRow
	err := r.c.one(query, vals(int64(id)), func(row row) {
		b = bodyOf(row)
		if data {
			b.Data, b.Coding = row.blob(6), row.blob(7)
		}
	})
	return b, err
}

func bodyOf(r row) mailstore.BodyRow {
	b := mailstore.BodyRow{
		ID: mailstore.BodyID(r.int(0)), Size: r.int(1), Sums: r.blob(3), File: r.str(4), Refs: int(r.int(5)),
	}
	copy(b.Hash[:], r.blob(2))
	return b
}

func (r reader) Bodies(after mailstore.BodyID, fn func(mailstore.BodyRow) bool) error {
	return r.c.query(selectBody+" FROM body WHERE id > ? ORDER BY id", vals(int64(after)),
		func(row row) bool { return fn(bodyOf(row)) })
}

const selectTexts = "SELECT id, size, sums, file, coding, data FROM body WHERE id BETWEEN ? AND ? ORDER BY id"

func (r reader) BodyTexts(from, to mailstore.BodyID, fn func(mailstore.BodyRow) bool) error {
	return r.c.query(selectTexts, vals(int64(from), int64(to)), func(row row) bool {
		return fn(mailstore.BodyRow{
			ID: mailstore.BodyID(row.int(0)), Size: row.int(1), Sums: row.blob(2), File: row.str(3),
			Coding: row.blob(4), Data: row.blob(5),
		})
	})
}

const selectBodyOfFile = "SELECT id FROM body WHERE file = ?"

func (r reader) BodyOfFile(name string) (mailstore.BodyID, error) {
	var id mailstore.BodyID
	err := r.c.one(selectBodyOfFile, vals(name), func(row row) { id = mailstore.BodyID(row.int(0)) })
	return id, err
}

const (
	selectContent  = "SELECT record FROM content WHERE body = ?"
	selectContents = "SELECT body, record FROM content WHERE body BETWEEN ? AND ? ORDER BY body"
	selectThread   = "SELECT thread FROM thread WHERE account = ? AND key = ?"
)

func (r reader) Content(id mailstore.BodyID) ([]byte, error) {
	var record []byte
	err := r.c.one(selectContent, vals(int64(id)), func(row row) { record = row.blob(0) })
	return record, err
}

func (r reader) Contents(from, to mailstore.BodyID, fn func(mailstore.BodyID, []byte) bool) error {
	return r.c.query(selectContents, vals(int64(from), int64(to)),
		func(row row) bool { return fn(mailstore.BodyID(row.int(0)), row.blob(1)) })
}

func (r reader) Thread(a mailstore.AccountID, key int64) (mailstore.ThreadID, error) {
	var t mailstore.ThreadID
	err := r.c.one(selectThread, vals(int64(a), key), func(row row) { t = mailstore.ThreadID(row.int(0)) })
	return t, err
}

const selectHeld = "SELECT id, account, name, expunged, mailbox, first, last, count, unseen, size, stamp, head, data FROM held"

func heldOf(r row) *mailstore.HeldRow {
	return &mailstore.HeldRow{
		ID: mailstore.HeldID(r.int(0)), Account: mailstore.AccountID(r.int(1)), Name: r.str(2),
		Expunged: time.Unix(r.int(3), 0).UTC(),
		BlockRow: mailstore.BlockRow{
			Mailbox: mailstore.MailboxID(r.int(4)), First: mailstore.UID(r.int(5)), Last: mailstore.UID(r.int(6)),
			Count: int(r.int(7)), Unseen: int(r.int(8)), Size: r.int(9), Stamp: mailstore.ModSeq(r.int(10)),
			Head: r.blob(11), Data: r.blob(12),
		},
	}
}

func (r reader) HeldRow(id mailstore.HeldID) (*mailstore.HeldRow, error) {
	var h *mailstore.HeldRow
	err := r.c.one(selectHeld+" WHERE id = ?", vals(int64(id)), func(row row) { h = heldOf(row) })
	return h, err
}

func (r reader) Held(a mailstore.AccountID, fn func(*mailstore.HeldRow) bool) error {
	query, args := selectHeld+" ORDER BY id", vals()
	if a != 0 {
		query, args = selectHeld+" WHERE account = ? ORDER BY id", vals(int64(a))
	}
	return r.c.query(query, args, func(row row) bool { return fn(heldOf(row)) })
}

func (r reader) HeldSizes(fn func(mailstore.AccountID, int64) bool) error {
	return r.c.query("SELECT account, sum(size) FROM held GROUP BY account", nil,
		func(row row) bool { return fn(mailstore.AccountID(row.int(0)), row.int(1)) })
}

const selectItem = "SELECT id, pending, envelope, sender, body_type, utf8, ret, envid, login, body, size, accepted, expires FROM queue_item"

func itemOf(r row) mailstore.QueueRow {
	return mailstore.QueueRow{
		QueueItem: mailstore.QueueItem{
			ID: mailstore.QueueID(r.int(0)), Envelope: r.str(2), From: r.str(3), BodyType: r.str(4), UTF8: r.int(5) != 0,
			Return: r.str(6), EnvID: r.str(7), Login: r.str(8), Body: mailstore.BodyID(r.int(9)), Size: r.int(10),
			Accepted: r.time(11), Expires: r.time(12),
		},
		Left: int(r.int(1)),
	}
}

func (r reader) QueueItem(id mailstore.QueueID) (mailstore.QueueRow, error) {
	var q mailstore.QueueRow
	err := r.c.one(selectItem+" WHERE id = ?", vals(int64(id)), func(row row) { q = itemOf(row) })
	return q, err
}

func (r reader) QueueItems(after mailstore.QueueID, fn func(mailstore.QueueRow) bool) error {
	return r.c.query(selectItem+" WHERE id > ? ORDER BY id", vals(int64(after)), func(row row) bool { return fn(itemOf(row)) })
}

// indexBits is how many bits of a recipient's row id are its Index.
const indexBits = 20

// recipientID is the row id of a recipient.
func recipientID(item mailstore.QueueID, index int) int64 {
	return int64(item)<<indexBits | int64(index)
}

const selectRecipient = "SELECT id, address, domain, notify, orcpt, original, held, attempts, last, next, reply, host, delayed " +
	"FROM queue_recipient"

func recipientOf(r row) mailstore.QueueRecipient {
	id := r.int(0)
	return mailstore.QueueRecipient{
		Item: mailstore.QueueID(id >> indexBits), Index: int(id & (1<<indexBits - 1)),
		Address: r.str(1), Domain: r.str(2), Notify: r.str(3), ORCPT: r.str(4), Original: r.str(5),
		Held: r.int(6) != 0, Attempts: int(r.int(7)), Last: r.time(8), Next: r.time(9),
		Reply: r.str(10), Host: r.str(11), Delayed: r.int(12) != 0,
	}
}

func (r reader) Recipients(item mailstore.QueueID, fn func(mailstore.QueueRecipient) bool) error {
	return r.c.query(selectRecipient+" WHERE id BETWEEN ? AND ? ORDER BY id",
		vals(recipientID(item, 0), recipientID(item, mailstore.MaxQueueRecipients-1)),
		func(row row) bool { return fn(recipientOf(row)) })
}

func (r reader) Recipient(item mailstore.QueueID, index int) (mailstore.QueueRecipient, error) {
	var q mailstore.QueueRecipient
	if index < 0 || index >= mailstore.MaxQueueRecipients {
		return q, mailstore.ErrNotFound
	}
	err := r.c.one(selectRecipient+" WHERE id = ?", vals(recipientID(item, index)), func(row row) { q = recipientOf(row) })
	return q, err
}

const selectDue = selectRecipient + " WHERE held = 0 AND (next, id) > (?, ?) AND next <= ? ORDER BY next, id LIMIT ?"

func (r reader) Due(until time.Time, limit int, skip *mailstore.QueueRecipient) ([]mailstore.QueueRecipient, error) {
	next, id := int64(math.MinInt64), int64(0)
	if skip != nil {
		next, id = nanos(skip.Next), recipientID(skip.Item, skip.Index)
	}
	var due []mailstore.QueueRecipient
	err := r.c.query(selectDue,
		vals(next, id, nanos(until), int64(limit)),
		func(row row) bool {
			due = append(due, recipientOf(row))
			return true
		})
	return due, err
}
