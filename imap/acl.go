package imap

import (
	"context"
	"errors"
	"strings"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// aclBox finds the mailbox of the list and whom the identifier means.
func (s *session) aclBox(v *mailstore.View, name, identifier string) (m userBox, clean string, err error) {
	if identifier == "" {
		return m, "", bad("An identifier cannot be empty") // RFC 4314 section 3
	}
	if m, err = s.lookup(v, name, mailstore.RightAdminister); err != nil {
		return m, "", err
	}
	clean, err = v.CleanIdentifier(identifier)
	if errors.Is(err, mailstore.ErrIdentifier) {
		err = refuse("CANNOT", `There is no account or domain of that name here, and it is not "anyone"`)
	}
	return m, clean, err
}

// cmdSetACL is SETACL (RFC 4314 section 3.1).
func (s *session) cmdSetACL(ctx context.Context, c *call) error {
	name := s.name(c)
	c.p.SP()
	identifier := c.p.AString("an identifier")
	c.p.SP()
	letters := c.p.AString("rights")
	if err := c.p.End(); err != nil {
		return err
	}
	how := mailstore.ReplaceRights
	switch {
	case strings.HasPrefix(letters, "+"):
		how = mailstore.AddRights
	case strings.HasPrefix(letters, "-"):
		how = mailstore.RemoveRights
	}
	if how != mailstore.ReplaceRights {
		letters = letters[1:]
	}
	rights, err := mailstore.ParseRights(letters)
	if err != nil {
		return bad("The rights are " + mailstore.AllRights.Wire())
	}
	return s.setACL(ctx, name, identifier, how, rights)
}

func (s *session) setACL(ctx context.Context, name, identifier string, how mailstore.RightsChange, rights mailstore.Rights) error {
	return s.change(ctx, "setacl", func(tx *mailstore.Tx) error {
		m, clean, err := s.aclBox(&tx.View, name, identifier)
		if err != nil {
			return err
		}
		err = tx.SetACL(m.ID, clean, how, rights)
		if errors.Is(err, mailstore.ErrOwner) {
			return refuse("NOPERM", "The owner of a mailbox has all rights to it")
		}
		return err
	})
}

// cmdDeleteACL is DELETEACL (RFC 4314 section 3.2).
func (s *session) cmdDeleteACL(ctx context.Context, c *call) error {
	name := s.name(c)
	c.p.SP()
	identifier := c.p.AString("an identifier")
	if err := c.p.End(); err != nil {
		return err
	}
	return s.setACL(ctx, name, identifier, mailstore.RemoveRights, mailstore.AllRights)
}

// cmdGetACL is GETACL (RFC 4314 section 3.3). The owner is listed, unless nobody
// logs in as him.
func (s *session) cmdGetACL(ctx context.Context, c *call) error {
	name := s.name(c)
	if err := c.p.End(); err != nil {
		return err
	}
	return s.view(ctx, "getacl", func(v *mailstore.View) error {
		m, err := s.lookup(v, name, mailstore.RightAdminister)
		if err != nil {
			return err
		}
		owner, err := v.Account(m.Account)
		if err != nil {
			return err
		}
		entries, err := v.ACL(m.ID)
		if err != nil {
			return err
		}
		b := append(s.out.begin(), "* ACL "...)
		b = syntax.AppendMailbox(b, m.Name, s.enabled.wide())
		if !owner.Shared {
			entries = append([]mailstore.ACLEntry{{Identifier: owner.Address, Rights: mailstore.AllRights}}, entries...)
		}
		for _, e := range entries {
			b = append(b, ' ')
			b = syntax.AppendAString(b, e.Identifier)
			b = append(b, ' ')
			b = syntax.AppendAString(b, e.Rights.Wire())
		}
		s.out.keep(append(b, '\r', '\n'))
		return nil
	})
}

// cmdListRights is LISTRIGHTS (RFC 4314 section 3.4): no right is tied to another,
// and the owner has all.
func (s *session) cmdListRights(ctx context.Context, c *call) error {
	name := s.name(c)
	c.p.SP()
	identifier := c.p.AString("an identifier")
	if err := c.p.End(); err != nil {
		return err
	}
	return s.view(ctx, "listrights", func(v *mailstore.View) error {
		m, clean, err := s.aclBox(v, name, identifier)
		if err != nil {
			return err
		}
		owner, err := v.Account(m.Account)
		if err != nil {
			return err
		}
		b := append(s.out.begin(), "* LISTRIGHTS "...)
		b = syntax.AppendMailbox(b, m.Name, s.enabled.wide())
		b = append(b, ' ')
		b = syntax.AppendAString(b, identifier)
		all := mailstore.AllRights.Wire()
		if clean == owner.Address {
			b = append(append(b, ' '), all...)
		} else {
			b = append(b, ` ""`...)
			for i := range len(all) {
				b = append(b, ' ', all[i])
			}
		}
		s.out.keep(append(b, '\r', '\n'))
		return nil
	})
}

// cmdMyRights is MYRIGHTS (RFC 4314 section 3.5).
func (s *session) cmdMyRights(ctx context.Context, c *call) error {
	name := s.name(c)
	if err := c.p.End(); err != nil {
		return err
	}
	return s.view(ctx, "myrights", func(v *mailstore.View) error {
		m, err := s.lookup(v, name, 0)
		if err == nil {
			s.out.keep(s.appendRights(s.out.begin(), m.Name, m.rights))
		}
		return err
	})
}

// appendRights appends a MYRIGHTS response.
func (s *session) appendRights(b []byte, name string, r mailstore.Rights) []byte {
	b = append(b, "* MYRIGHTS "...)
	b = syntax.AppendMailbox(b, name, s.enabled.wide())
	b = append(b, ' ')
	b = syntax.AppendAString(b, r.Wire())
	return append(b, '\r', '\n')
}
