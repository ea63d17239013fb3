package imap

import (
	"context"
	"slices"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// statusItem is a data item of STATUS (RFC 9051 section 6.3.11).
type statusItem struct {
	name string
	// append appends the value.
	append func(b []byte, s *session, m *mailstore.Mailbox, d *deletedStatus) []byte
	// deleted: it needs the messages with \Deleted.
	deleted bool
	// modseq: asking for it enables CONDSTORE (RFC 7162 section 3.1).
	modseq bool
}

// deletedStatus is what is counted only when somebody asks.
type deletedStatus struct {
	messages int
	octets   int64
}

// statusTable has all items.
var statusTable = []statusItem{
	{name: "MESSAGES", append: func(b []byte, _ *session, m *mailstore.Mailbox, _ *deletedStatus) []byte {
		return syntax.AppendNumber(b, m.Messages)
	}},
	{name: "UIDNEXT", append: func(b []byte, _ *session, m *mailstore.Mailbox, _ *deletedStatus) []byte {
		return syntax.AppendNumber(b, m.UIDNext)
	}},
	{name: "UIDVALIDITY", append: func(b []byte, _ *session, m *mailstore.Mailbox, _ *deletedStatus) []byte {
		return syntax.AppendNumber(b, m.UIDValidity)
	}},
	{name: "UNSEEN", append: func(b []byte, _ *session, m *mailstore.Mailbox, _ *deletedStatus) []byte {
		return syntax.AppendNumber(b, m.Unseen)
	}},
	{name: "RECENT", append: func(b []byte, _ *session, _ *mailstore.Mailbox, _ *deletedStatus) []byte {
		return append(b, '0')
	}},
	{name: "SIZE", append: func(b []byte, _ *session, m *mailstore.Mailbox, _ *deletedStatus) []byte {
		return syntax.AppendNumber(b, m.Size)
	}},
	{name: "DELETED", deleted: true, append: func(b []byte, _ *session, _ *mailstore.Mailbox, d *deletedStatus) []byte {
		return syntax.AppendNumber(b, d.messages)
	}},
	{name: "DELETED-STORAGE", deleted: true, append: func(b []byte, _ *session, _ *mailstore.Mailbox, d *deletedStatus) []byte {
		return syntax.AppendNumber(b, d.octets)
	}},
	{name: "HIGHESTMODSEQ", modseq: true, append: func(b []byte, _ *session, m *mailstore.Mailbox, _ *deletedStatus) []byte {
		return syntax.AppendNumber(b, m.ModSeq)
	}},
	{name: "APPENDLIMIT", append: func(b []byte, s *session, _ *mailstore.Mailbox, _ *deletedStatus) []byte {
		return syntax.AppendNumber(b, s.srv.maxSize.Load())
	}},
	{name: "MAILBOXID", append: func(b []byte, _ *session, m *mailstore.Mailbox, _ *deletedStatus) []byte {
		return append(append(append(b, '('), mailboxID(m.ID)...), ')')
	}},
}

// statusItems finds items by name.
func (s *session) statusItems(names []string) ([]statusItem, error) {
	items := make([]statusItem, 0, len(names))
	for _, name := range names {
		item, ok := statusNamed(name)
		if !ok {
			return nil, bad("There is no STATUS item " + name)
		}
		if item.modseq {
			s.wantModSeq()
		}
		items = append(items, item)
	}
	return items, nil
}

func statusNamed(name string) (item statusItem, ok bool) {
	i := slices.IndexFunc(statusTable, func(item statusItem) bool { return item.name == name })
	if i < 0 {
		return item, false
	}
	return statusTable[i], true
}

// cmdStatus is STATUS.
func (s *session) cmdStatus(ctx context.Context, c *call) error {
	name := s.name(c)
	c.p.SP()
	names := c.p.StatusItems()
	if err := c.p.End(); err != nil {
		return err
	}
	items, err := s.statusItems(names)
	if err != nil {
		return err
	}
	return s.view(ctx, "status", func(v *mailstore.View) error {
		m, err := s.lookup(v, name, mailstore.RightRead)
		if err != nil {
			return err
		}
		b, err := s.appendStatus(s.out.begin(), v, &m.Mailbox, items)
		if err == nil {
			s.out.keep(b)
		}
		return err
	})
}

// appendStatus appends a STATUS response.
func (s *session) appendStatus(b []byte, v *mailstore.View, m *mailstore.Mailbox, items []statusItem) ([]byte, error) {
	var d deletedStatus
	for _, item := range items {
		if !item.deleted {
			continue
		}
		err := v.Scan(m.ID, 1, 0, mailstore.ColumnFlags|mailstore.ColumnSize, func(c *mailstore.Scanned) bool {
			for i, f := range c.System {
				if f&mailstore.Deleted != 0 {
					d.messages++
					d.octets += c.Sizes[i]
				}
			}
			return true
		})
		if err != nil {
			return b, err
		}
		break
	}
	b = append(b, "* STATUS "...)
	b = syntax.AppendMailbox(b, m.Name, s.enabled.wide())
	b = append(b, " ("...)
	for i, item := range items {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, item.name...)
		b = append(b, ' ')
		b = item.append(b, s, m, &d)
	}
	return append(b, ")\r\n"...), nil
}
