package imap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"

	"postrider/imap/syntax"
	"postrider/internal/directory"
	"postrider/mailstore"
)

// Names of quota roots (RFC 9208 section 3.2): that of one's own account, and in front of
// the address those of others, which are for administrators.
const (
	quotaRoot   = ""
	quotaOthers = otherUsers
)

// quotaUnit is the unit of STORAGE (RFC 9208 section 5.1).
const quotaUnit = 1024

// administers tells whether the user may set quotas.
func (s *session) administers() bool {
	return s.srv.o.SetQuota != nil && slices.ContainsFunc(s.srv.o.Administrators, func(a string) bool { return strings.EqualFold(a, s.account.Address) })
}

// rootOwner is the account of a quota root: one's own, one with a mailbox that the user
// may read, or for administrators any. Others are not told which accounts there are.
func (s *session) rootOwner(ctx context.Context, root string) (mailstore.Account, error) {
	address, others := strings.CutPrefix(root, quotaOthers)
	if !others {
		address, others = strings.CutPrefix(root, shared)
	}
	for _, f := range s.others.boxes {
		if f.root == root && f.rights.Has(mailstore.RightRead) {
			return mailstore.Account{ID: s.others.roots[root], Address: address}, nil
		}
	}
	switch {
	case root == quotaRoot, others && strings.EqualFold(address, s.account.Address):
		return *s.account, nil
	case others && s.administers() && strings.Contains(address, "@"):
		a, err := s.srv.o.Directory.Named(ctx, address)
		if !errors.Is(err, directory.ErrNoUser) {
			return a, s.fault(ctx, "quota", err)
		}
	}
	return mailstore.Account{}, noRoot()
}

func noRoot() error { return refuse("NONEXISTENT", "There is no such quota root") }

// cmdGetQuota is GETQUOTA (RFC 9208 section 4.1.1).
func (s *session) cmdGetQuota(ctx context.Context, c *call) error {
	root := c.p.AString("the name of a quota root")
	if err := c.p.End(); err != nil {
		return err
	}
	owner, err := s.rootOwner(ctx, root)
	if err != nil {
		return err
	}
	return s.view(ctx, "quota", func(v *mailstore.View) error { return s.tellQuota(v, root, owner.ID) })
}

// cmdGetQuotaRoot is GETQUOTAROOT (RFC 9208 section 4.1.2).
func (s *session) cmdGetQuotaRoot(ctx context.Context, c *call) error {
	name := s.name(c)
	if err := c.p.End(); err != nil {
		return err
	}
	return s.view(ctx, "quota", func(v *mailstore.View) error {
		m, err := s.lookup(v, name, mailstore.RightRead)
		if err != nil {
			return err
		}
		root := quotaRoot
		if m.Account != s.account.ID {
			root = s.others.boxes[m.ID].root
		}
		resources, err := s.resources(v, m.Account)
		if err != nil {
			return err
		}
		b := append(s.out.begin(), "* QUOTAROOT "...)
		b = syntax.AppendMailbox(b, m.Name, s.enabled.wide())
		if len(resources) > 0 {
			b = append(b, ' ')
			b = syntax.AppendString(b, root)
		}
		s.out.keep(append(b, '\r', '\n'))
		if len(resources) > 0 {
			s.tellResources(root, resources)
		}
		return nil
	})
}

// tellQuota writes the QUOTA response.
func (s *session) tellQuota(v *mailstore.View, root string, owner mailstore.AccountID) error {
	resources, err := s.resources(v, owner)
	if err == nil && len(resources) == 0 {
		err = noRoot() // it takes one at least (RFC 9208 section 7)
	}
	if err == nil {
		s.tellResources(root, resources)
	}
	return err
}

func (s *session) tellResources(root string, resources []byte) {
	b := append(s.out.begin(), "* QUOTA "...)
	b = syntax.AppendString(b, root)
	b = append(b, " ("...)
	b = append(b, resources...)
	s.out.keep(append(b, ")\r\n"...)) // within a snapshot nobody waits for the client
}

// resources are those that have a limit, with what is used of it. The number of mailboxes
// is bounded for all.
func (s *session) resources(v *mailstore.View, owner mailstore.AccountID) ([]byte, error) {
	used, limit, err := v.Usage(owner)
	if err != nil {
		return nil, err
	}
	boxes, err := v.CountMailboxes(owner)
	if err != nil {
		return nil, err
	}
	var b []byte
	resource := func(name string, unit, used, limit int64) {
		if limit <= 0 {
			return
		}
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = append(b, name...)
		b = append(b, ' ')
		b = syntax.AppendNumber(b, (used+unit-1)/unit)
		b = append(b, ' ')
		b = syntax.AppendNumber(b, limit/unit)
	}
	resource("STORAGE", quotaUnit, used.Storage, limit.Storage)
	resource("MESSAGE", 1, used.Messages, limit.Messages)
	if owner == s.account.ID || s.administers() { // to others it would tell of mailboxes that they may not see
		resource("MAILBOX", 1, int64(boxes), mailstore.MaxMailboxes)
	}
	return b, nil
}

// cmdSetQuota is SETQUOTA (RFC 9208 section 4.1.3), which is for administrators. A
// resource that is not named has no limit any more.
func (s *session) cmdSetQuota(ctx context.Context, c *call) error {
	if !s.administers() {
		return refuse("NOPERM", "Limits are set by the administrator")
	}
	root := c.p.AString("the name of a quota root")
	c.p.SP()
	limits := c.p.ResourceLimits()
	if err := c.p.End(); err != nil {
		return err
	}
	owner, err := s.rootOwner(ctx, root)
	if err != nil {
		return err
	}
	q, err := quotaOf(limits)
	if err != nil {
		return err
	}
	if err := s.srv.o.SetQuota(ctx, owner.Address, q); err != nil {
		return s.fault(ctx, "setquota", err)
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "quota set", slog.String("by", s.account.Address), slog.String("account", owner.Address),
		slog.Int64("storage", q.Storage), slog.Int64("messages", q.Messages))
	return s.view(ctx, "quota", func(v *mailstore.View) error { return s.tellQuota(v, root, owner.ID) })
}

// quotaOf is the quota that SETQUOTA asks for.
func quotaOf(limits []syntax.ResourceLimit) (mailstore.Quota, error) {
	q := mailstore.Quota{Storage: mailstore.Unlimited, Messages: mailstore.Unlimited}
	for i, l := range limits {
		if slices.ContainsFunc(limits[:i], func(other syntax.ResourceLimit) bool { return other.Name == l.Name }) {
			return q, bad(l.Name + " is named twice")
		}
		switch {
		case l.Name == "MAILBOX" && l.Limit != mailstore.MaxMailboxes:
			return q, refuse("CANNOT", fmt.Sprintf("The limit of mailboxes is %d for everybody", mailstore.MaxMailboxes))
		case l.Name == "MAILBOX":
		case l.Name != "STORAGE" && l.Name != "MESSAGE":
			return q, refuse("CANNOT", "STORAGE and MESSAGE are what can be limited here")
		case l.Limit == 0:
			return q, refuse("CANNOT", "A limit is 1 at least; a resource that is not named has none")
		case l.Name == "MESSAGE":
			q.Messages = l.Limit
		case l.Limit > math.MaxInt64/quotaUnit:
			return q, refuse("CANNOT", "That is more than can be counted")
		default:
			q.Storage = l.Limit * quotaUnit
		}
	}
	return q, nil
}
