package sqlite

import (
	"context"
	"errors"
	"fmt"

	"postrider/mailstore"
)

// maxProblems is how many problems of the database file are told.
const maxProblems = 100

// dangling are rows that nothing leads to.
var dangling = [...]struct {
	what, from string // FROM and WHERE of a query
	lost       bool   // messages, or what is known of them
}{
	{"mailboxes without an account", "mailbox WHERE account NOT IN (SELECT id FROM account)", true},
	{"blocks of messages without a mailbox", "block WHERE id >> 32 NOT IN (SELECT id FROM mailbox)", true},
	{"blocks of messages of which a half is missing", "block WHERE id NOT IN (SELECT id FROM block_data)", true},
	{"halves of blocks whose other half is missing", "block_data WHERE id NOT IN (SELECT id FROM block)", true},
	{"recipients without a queued message", "queue_recipient WHERE id >> 20 NOT IN (SELECT id FROM queue_item)", true},
	{"records of messages without a body", "content WHERE body NOT IN (SELECT id FROM body)", false},
	{"counts of references without a body", "body_share WHERE body NOT IN (SELECT id FROM body)", false},
	{"records of expunges without a mailbox", "expunge WHERE mailbox NOT IN (SELECT id FROM mailbox)", false},
	{"usages without an account", "usage WHERE account NOT IN (SELECT id FROM account)", false},
	{"annotations without an account", "annotation WHERE account NOT IN (SELECT id FROM account)", false},
	{"annotations without a mailbox", "annotation WHERE mailbox <> 0 AND NOT EXISTS (SELECT 1 FROM mailbox m WHERE m.id = annotation.mailbox AND m.account = annotation.account)", false},
	{"rights to a mailbox that is not there", "acl WHERE mailbox NOT IN (SELECT id FROM mailbox)", false},
	{"keys of URLs without an account or a mailbox", "urlkey WHERE account NOT IN (SELECT id FROM account) OR mailbox NOT IN (SELECT id FROM mailbox)", false},
	{"subscriptions without an account", "subscription WHERE account NOT IN (SELECT id FROM account)", false},
	{"conversations without an account", "thread WHERE account NOT IN (SELECT id FROM account)", false},
}

// Check lets SQLite check the pages of the database, and looks for rows that
// nothing leads to.
func (e *Engine) Check(ctx context.Context, fn func(mailstore.Problem)) (err error) {
	c, err := connect(e.path, role{cache: readerCache})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := checkPages(c, fn); err != nil {
		return err
	}
	for _, d := range dangling {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := int64(0)
		if err := c.one("SELECT count(*) FROM "+d.from, nil, func(r row) { n = r.int(0) }); err != nil {
			return fmt.Errorf("look for %s: %w", d.what, err)
		}
		if n == 0 {
			continue
		}
		p := mailstore.Problem{Text: fmt.Sprintf("%d %s", n, d.what)}
		if !d.lost {
			p.Mend = func(w mailstore.Writer) error { return w.(*writer).exec("DELETE FROM " + d.from) }
		}
		fn(p)
	}
	return nil
}

// checkPages is SQLite's own check, without that of the order of indexes.
func checkPages(c *conn, fn func(mailstore.Problem)) error {
	return c.query(fmt.Sprintf("PRAGMA quick_check(%d)", maxProblems), nil, func(r row) bool {
		if text := r.str(0); text != "ok" {
			fn(mailstore.Problem{Text: "the database file: " + text})
		}
		return true
	})
}
