package imap

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-imap/v2"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// uses are the special uses that a mailbox can be created for (RFC 6154
// section 2); \All and \Flagged would be views of other mailboxes.
var uses = []imap.MailboxAttr{
	imap.MailboxAttrArchive, imap.MailboxAttrDrafts, imap.MailboxAttrJunk, imap.MailboxAttrSent, imap.MailboxAttrTrash,
}

// useOf is the special use of a mailbox as an attribute; "" for none.
func useOf(m *mailstore.Mailbox) string {
	for _, u := range uses {
		if strings.EqualFold(m.SpecialUse, string(u)) {
			return string(u)
		}
	}
	return ""
}

// mailboxID is the MAILBOXID (RFC 8474 section 4.1): it stays when the mailbox is
// renamed, and no other one ever has it.
func mailboxID(m mailstore.MailboxID) string { return "F" + strconv.FormatInt(int64(m), 10) }

// cmdCreate is CREATE, with the levels above that are missing (RFC 9051 section
// 6.3.4).
func (s *session) cmdCreate(ctx context.Context, c *call) error {
	given := strings.TrimSuffix(s.name(c), "/")
	var wanted []string
	if c.p.More() {
		wanted = c.p.Use()
	}
	if err := c.p.End(); err != nil {
		return err
	}
	name, err := s.newName(ctx, given)
	if err != nil {
		return err
	}
	use, err := specialUse(wanted)
	if err != nil {
		return err
	}
	var made mailstore.Mailbox
	err = s.changeTree(ctx, "create", func(tx *mailstore.Tx) error {
		at, err := s.newSite(&tx.View, name)
		if err != nil {
			return err
		}
		if use != "" && at.account != s.account.ID {
			return refuse("USEATTR", "Special uses are of your own mailboxes")
		}
		if err := unused(tx, at.account, use, 0); err != nil {
			return err
		}
		if err := createParents(tx, at.account, at.name); err != nil {
			return err
		}
		made, err = tx.CreateMailbox(at.account, at.name, use)
		return err
	})
	if err == nil {
		s.tellNormal(given, "", name)
		c.code = "MAILBOXID (" + mailboxID(made.ID) + ")"
	}
	return err
}

// tellNormal tells the name that a mailbox has, where the client gave it in another
// form (RFC 9051 section 6.3.9.7).
func (s *session) tellNormal(given, attributes, name string) {
	if given == name || !s.enabled.rev2 {
		return
	}
	b := append(s.out.begin(), "* LIST ("...)
	b = append(b, attributes...)
	b = append(b, `) "/" `...)
	b = syntax.AppendMailbox(b, name, true)
	s.out.end(append(appendOldName(b, given, true), '\r', '\n'))
}

func appendOldName(b []byte, name string, wide bool) []byte {
	b = append(b, ` ("OLDNAME" (`...)
	b = syntax.AppendMailbox(b, name, wide)
	return append(b, "))"...)
}

// changeTree runs a transaction that may need more mailboxes than there may be
// (RFC 9208 section 4.1).
func (s *session) changeTree(ctx context.Context, doing string, fn func(tx *mailstore.Tx) error) error {
	return s.change(ctx, doing, func(tx *mailstore.Tx) error {
		err := fn(tx)
		if errors.Is(err, mailstore.ErrLimit) {
			return refuse("OVERQUOTA", "That needs more mailboxes or annotations than you may have: delete some first")
		}
		return err
	})
}

// unused checks that no mailbox but one has a special use; "" is none.
func unused(tx *mailstore.Tx, a mailstore.AccountID, use string, but mailstore.MailboxID) error {
	if use == "" {
		return nil
	}
	boxes, err := tx.Mailboxes(a)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(boxes, func(m mailstore.Mailbox) bool { return m.ID != but && strings.EqualFold(m.SpecialUse, use) }) {
		return refuse("USEATTR", "There is a mailbox for that use already")
	}
	return nil
}

// newName checks the name of a mailbox that is to be.
func (s *session) newName(ctx context.Context, name string) (string, error) {
	name, err := mailstore.CleanName(strings.TrimSuffix(name, "/"))
	if err != nil {
		return "", s.fault(ctx, "name", err)
	}
	if strings.ContainsAny(name, "*%") {
		return "", refuse("CANNOT", `A mailbox name cannot have "*" or "%"`)
	}
	return name, nil
}

func specialUse(wanted []string) (string, error) {
	if len(wanted) == 0 {
		return "", nil
	}
	for _, u := range uses {
		if len(wanted) == 1 && strings.EqualFold(wanted[0], string(u)) {
			return string(u), nil
		}
	}
	return "", refuse("USEATTR", "A mailbox can have one of these uses: \\Archive, \\Drafts, \\Junk, \\Sent, \\Trash")
}

// createParents creates the levels above name that are missing.
func createParents(tx *mailstore.Tx, a mailstore.AccountID, name string) error {
	for i := range name {
		if name[i] != '/' {
			continue
		}
		if _, err := tx.CreateMailbox(a, name[:i], ""); err != nil && !errors.Is(err, mailstore.ErrExists) {
			return err
		}
	}
	return nil
}

// cmdDelete is DELETE. What is below the mailbox stays; its name is then listed
// as \NonExistent and cannot be deleted (RFC 9051 section 6.3.5).
func (s *session) cmdDelete(ctx context.Context, c *call) error {
	name := s.name(c)
	if err := c.p.End(); err != nil {
		return err
	}
	err := s.change(ctx, "delete", func(tx *mailstore.Tx) error {
		m, err := s.lookup(&tx.View, name, mailstore.RightDelete)
		if errors.Is(err, mailstore.ErrNotFound) {
			if s.others.below(normal(name)) {
				return refuse("HASCHILDREN", "There are mailboxes below that name")
			}
			below, e := inferiors(tx, s.account.ID, name)
			if e == nil && len(below) > 0 {
				return refuse("HASCHILDREN", "There are mailboxes below that name")
			}
		}
		if err != nil {
			return err
		}
		return tx.DeleteMailbox(m.ID)
	})
	if clean, e := mailstore.CleanName(name); err == nil && e == nil {
		s.tellNormal(name, `\NonExistent`, clean)
	}
	return err
}

// inferiors lists the mailboxes below a name, each before those below it.
func inferiors(tx *mailstore.Tx, a mailstore.AccountID, name string) ([]mailstore.Mailbox, error) {
	name, err := mailstore.CleanName(name)
	if err != nil {
		return nil, err
	}
	boxes, err := tx.Mailboxes(a)
	boxes = slices.DeleteFunc(boxes, func(m mailstore.Mailbox) bool { return !strings.HasPrefix(m.Name, name+"/") })
	slices.SortFunc(boxes, func(a, b mailstore.Mailbox) int { return strings.Compare(a.Name, b.Name) })
	return boxes, err
}

// cmdRename is RENAME, of a name with mailboxes below it too (RFC 9051 section
// 6.3.6).
func (s *session) cmdRename(ctx context.Context, c *call) error {
	name := s.name(c)
	c.p.SP()
	given := strings.TrimSuffix(s.name(c), "/")
	if err := c.p.End(); err != nil {
		return err
	}
	newName, err := s.newName(ctx, given)
	if err != nil {
		return err
	}
	err = s.changeTree(ctx, "rename", func(tx *mailstore.Tx) error {
		at, err := s.newSite(&tx.View, newName)
		if err != nil {
			return err
		}
		m, err := s.lookup(&tx.View, name, mailstore.RightDelete)
		if errors.Is(err, mailstore.ErrNotFound) && at.account == s.account.ID {
			return s.renameBelow(tx, name, newName)
		}
		if err != nil {
			return err
		}
		if at.account != m.Account {
			return refuse("CANNOT", "A mailbox stays with its account: copy its messages")
		}
		if err := s.moveable(tx, &m); err != nil {
			return err
		}
		if err := createParents(tx, at.account, at.name); err != nil {
			return err
		}
		return tx.RenameMailbox(m.ID, at.name)
	})
	if clean, e := mailstore.CleanName(name); err == nil && e == nil && (given != newName || name != clean) {
		s.tellNormal(name, "", newName)
	}
	return err
}

// moveable refuses to rename another's INBOX, which would take its messages away.
func (s *session) moveable(tx *mailstore.Tx, m *userBox) error {
	if m.Account == s.account.ID {
		return nil
	}
	row, err := tx.Mailbox(m.ID)
	if err == nil && row.Name == mailstore.Inbox {
		err = refuse("CANNOT", "Only its owner can rename INBOX")
	}
	return err
}

// renameBelow renames what is below a name that is no mailbox itself.
func (s *session) renameBelow(tx *mailstore.Tx, name, newName string) error {
	name, err := mailstore.CleanName(name)
	if err != nil {
		return mailstore.ErrNotFound
	}
	boxes, err := inferiors(tx, s.account.ID, name)
	if err != nil {
		return err
	}
	if len(boxes) == 0 {
		return mailstore.ErrNotFound
	}
	if strings.HasPrefix(newName, name+"/") {
		return refuse("CANNOT", "A mailbox cannot be moved below itself")
	}
	above := ""
	for _, m := range boxes {
		if above != "" && strings.HasPrefix(m.Name, above) {
			continue // it moved with the one above
		}
		above = m.Name + "/"
		to := newName + strings.TrimPrefix(m.Name, name)
		if err := createParents(tx, s.account.ID, to); err != nil {
			return err
		}
		if err := tx.RenameMailbox(m.ID, to); err != nil {
			return err
		}
	}
	return nil
}

// cmdSubscribe is SUBSCRIBE; the mailbox need not exist.
func (s *session) cmdSubscribe(ctx context.Context, c *call) error { return s.subscribe(ctx, c, true) }

func (s *session) cmdUnsubscribe(ctx context.Context, c *call) error {
	return s.subscribe(ctx, c, false)
}

func (s *session) subscribe(ctx context.Context, c *call, on bool) error {
	name := s.name(c)
	if err := c.p.End(); err != nil {
		return err
	}
	return s.change(ctx, "subscribe", func(tx *mailstore.Tx) error {
		return tx.Subscribe(s.account.ID, strings.TrimSuffix(name, "/"), on)
	})
}

// cmdNamespace tells where one's own mailboxes are, those of others, and those
// that are nobody's own (RFC 2342).
func (s *session) cmdNamespace(_ context.Context, c *call) error {
	if err := c.p.End(); err != nil {
		return err
	}
	s.out.line(`* NAMESPACE (("" "/")) (("`, otherUsers, `" "/")) (("`, shared, `" "/"))`)
	return nil
}
