package imap

import (
	"context"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// quotaRoot is the name of the one quota root that an account has (RFC 9208).
const quotaRoot = ""

// cmdGetQuota is GETQUOTA (RFC 9208 section 4.1.1).
func (s *session) cmdGetQuota(ctx context.Context, c *call) error {
	root := c.p.AString("the name of a quota root")
	if err := c.p.End(); err != nil {
		return err
	}
	if root != quotaRoot {
		return refuse("NONEXISTENT", "There is no such quota root")
	}
	return s.view(ctx, "quota", s.tellQuota)
}

// cmdGetQuotaRoot is GETQUOTAROOT (RFC 9208 section 4.1.2).
func (s *session) cmdGetQuotaRoot(ctx context.Context, c *call) error {
	name := s.name(c)
	if err := c.p.End(); err != nil {
		return err
	}
	return s.view(ctx, "quota", func(v *mailstore.View) error {
		m, err := v.MailboxByName(s.account.ID, name)
		if err != nil {
			return err
		}
		b := append(s.out.begin(), "* QUOTAROOT "...)
		b = syntax.AppendMailbox(b, m.Name, s.enabled.wide())
		b = append(b, ' ')
		b = syntax.AppendString(b, quotaRoot)
		s.out.keep(append(b, '\r', '\n'))
		return s.tellQuota(v)
	})
}

// tellQuota writes the QUOTA response: resources without a limit are not in it.
// Storage is in units of 1024 octets; the number of mailboxes is bounded for all.
func (s *session) tellQuota(v *mailstore.View) error {
	used, limit, err := v.Usage(s.account.ID)
	if err != nil {
		return err
	}
	boxes, err := v.CountMailboxes(s.account.ID)
	if err != nil {
		return err
	}
	b := append(s.out.begin(), "* QUOTA "...)
	b = syntax.AppendString(b, quotaRoot)
	b = append(b, " ("...)
	n := len(b)
	resource := func(name string, used, limit int64) {
		if limit <= 0 {
			return
		}
		if len(b) > n {
			b = append(b, ' ')
		}
		b = append(b, name...)
		b = append(b, ' ')
		b = syntax.AppendNumber(b, used)
		b = append(b, ' ')
		b = syntax.AppendNumber(b, limit)
	}
	const unit = 1024
	resource("STORAGE", (used.Storage+unit-1)/unit, limit.Storage/unit)
	resource("MESSAGE", used.Messages, limit.Messages)
	resource("MAILBOX", int64(boxes), mailstore.MaxMailboxes)
	s.out.keep(append(b, ")\r\n"...))
	return nil
}

// cmdSetQuota refuses SETQUOTA: limits are the administrator's, who is no user of
// IMAP (RFC 9208 section 4.1.3; QUOTASET is not offered).
func (s *session) cmdSetQuota(context.Context, *call) error {
	return refuse("NOPERM", "Limits are set by the administrator")
}
