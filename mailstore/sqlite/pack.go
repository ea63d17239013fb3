package sqlite

import (
	"math"
	"strings"
	"time"

	"postrider/mailstore"
)

const selectMessages1 = "SELECT id, modseq, created, flags, keywords, internal, saved, body, size, unended, prefix " +
	"FROM message WHERE id > ? ORDER BY id LIMIT ?"

// packMessages makes blocks of the rows that messages had in version 1.
func packMessages(c *conn, done func(messages int64) error) error {
	w := &writer{reader: reader{c}}
	after := int64(0)
	for {
		rows := make([]mailstore.MessageRow, 0, mailstore.MaxBlock)
		full := false
		err := c.query(selectMessages1, vals(after, int64(mailstore.MaxBlock)), func(r row) bool {
			m := message1(r)
			if len(rows) > 0 && rows[0].Mailbox != m.Mailbox {
				full = true // the rest is of another mailbox
				return false
			}
			rows = append(rows, m)
			after = r.int(0)
			return true
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		if err := done(int64(len(rows))); err != nil {
			return err
		}
		stamp := mailstore.ModSeq(0)
		for i := range rows {
			stamp = max(stamp, rows[i].ModSeq)
		}
		if err := w.PutBlock(mailstore.Pack(rows[0].Mailbox, rows, stamp)); err != nil {
			return err
		}
		if !full && len(rows) < mailstore.MaxBlock {
			return nil
		}
	}
}

// message1 reads a message's row of version 1.
func message1(r row) mailstore.MessageRow {
	id := r.int(0)
	body := mailstore.BodyID(r.int(7))
	m := mailstore.MessageRow{
		Message: mailstore.Message{
			Mailbox: mailstore.MailboxID(id >> 32), UID: mailstore.UID(id), ModSeq: mailstore.ModSeq(r.int(1)),
			Flags:    mailstore.Flags{System: mailstore.SystemFlags(r.int(3))},
			Internal: time.Unix(r.int(5), 0).UTC(), Saved: time.Unix(r.int(6), 0).UTC(),
			Body: body, Thread: mailstore.ThreadID(body),
			Size: r.int(8), Unended: r.int(9) != 0, Prefix: r.str(10),
		},
		Created: mailstore.ModSeq(r.int(2)),
	}
	if k := r.str(4); k != "" {
		m.Flags.Keywords = strings.Split(k, " ")
	}
	return m
}

// packedGrowth is what packing the messages adds: blocks take 20 to 40 octets a
// message, once in the log and once in the database.
func packedGrowth(c *conn) (n int64, err error) {
	err = c.one("SELECT count(*) FROM message", nil, func(r row) { n = r.int(0) })
	return n * 128, err
}

// reader1 reads version 1, which had no quotas, and a row for each message.
type reader1 struct{ reader2 }

func (r reader1) Domains(fn func(mailstore.Domain) bool) error {
	return r.c.query("SELECT name, created, 0, 0 FROM domain ORDER BY id", nil, func(row row) bool { return fn(domainOf(row)) })
}

func (r reader1) Accounts(fn func(mailstore.Account) bool) error {
	return r.c.query("SELECT id, address, credentials, created, 0, 0, 0 FROM account ORDER BY id", nil,
		func(row row) bool { return fn(accountOf(row)) })
}

func (r reader1) messages(m mailstore.MailboxID, fn func(mailstore.MessageRow) bool) error {
	return r.c.query("SELECT id, modseq, created, flags, keywords, internal, saved, body, size, unended, prefix "+
		"FROM message WHERE id BETWEEN ? AND ? ORDER BY id", vals(blockID(m, 0), blockID(m, math.MaxUint32)),
		func(row row) bool { return fn(message1(row)) })
}
