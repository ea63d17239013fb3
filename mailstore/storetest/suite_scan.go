package storetest

import (
	"reflect"

	"postrider/mailstore"
)

// everyColumn is all that a scan can read.
const everyColumn = mailstore.ColumnFlags | mailstore.ColumnModSeq | mailstore.ColumnInternal | mailstore.ColumnSaved |
	mailstore.ColumnBody | mailstore.ColumnSize | mailstore.ColumnThread | mailstore.ColumnPrefix

// scanned compares scans of a mailbox with the list of its messages: of all
// columns and of each, of all messages and without those at the ends, and of
// every other message.
func (s *suite) scanned(v *mailstore.View, m mailstore.MailboxID, list []mailstore.Message) {
	s.Helper()
	s.scan(v, m, everyColumn, 1, 0, list)
	for column := mailstore.Columns(1); column != 0; column <<= 1 {
		if column&everyColumn != 0 {
			s.scan(v, m, column, 1, 0, list)
		}
	}
	if n := len(list); n > 2 {
		s.scan(v, m, everyColumn, list[1].UID, list[n-2].UID, list[1:n-1])
	}
	at := 0
	s.ok(v.Scan(m, 1, 0, everyColumn, func(c *mailstore.Scanned) bool {
		var odd []int
		for i := 1; i < c.Len(); i += 2 {
			odd = append(odd, i)
		}
		n := c.Len()
		c.Keep(odd)
		for i := range odd {
			s.sameColumns(c, i, everyColumn, list[at+odd[i]])
		}
		at += n
		return true
	}))
}

func (s *suite) scan(v *mailstore.View, m mailstore.MailboxID, want mailstore.Columns, from, to mailstore.UID, list []mailstore.Message) {
	s.Helper()
	at := 0
	s.ok(v.Scan(m, from, to, want, func(c *mailstore.Scanned) bool {
		for i := range c.Len() {
			if at == len(list) {
				s.Fatalf("a scan has UID %d behind the last of %d messages", c.UIDs[i], len(list))
			}
			s.sameColumns(c, i, want, list[at])
			at++
		}
		return true
	}))
	if at != len(list) {
		s.Fatalf("a scan has %d of %d messages", at, len(list))
	}
}

// sameColumns compares what a scan says of a message.
func (s *suite) sameColumns(c *mailstore.Scanned, i int, want mailstore.Columns, m mailstore.Message) {
	s.Helper()
	got, all := mailstore.Message{}, mailstore.Message{}
	c.Message(i, want, &got)
	var alone mailstore.Scanned
	alone.Put(&m)
	alone.Message(0, want, &all)
	if !reflect.DeepEqual(got, all) || want == everyColumn && (got.Flags.System != m.Flags.System || got.Size != m.Size || got.Body != m.Body) {
		s.Fatalf("a scan of columns %b says %+v, want %+v", want, got, m)
	}
}
