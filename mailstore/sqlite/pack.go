package sqlite

import (
	"strings"
	"time"

	"postrider/mailstore"
)

const selectMessages1 = "SELECT id, modseq, created, flags, keywords, internal, saved, body, size, unended, prefix " +
	"FROM message WHERE id > ? ORDER BY id LIMIT ?"

// packMessages makes blocks of the rows that messages had in version 1.
func packMessages(c *conn) error {
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
