package imap

import (
	"context"
	"slices"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// cmdESearch is ESEARCH (RFC 7377): SEARCH of several mailboxes, by UID.
func (s *session) cmdESearch(ctx context.Context, c *call) error {
	filters, q := c.p.ESearch()
	if err := c.p.End(); err != nil {
		return err
	}
	if err := checkCharset(q.Charset); err != nil {
		return err
	}
	own := len(filters) == 0 || slices.ContainsFunc(filters, func(f syntax.Filter) bool { return f.Name == "SELECTED" })
	r := newResult(&q, c, true)
	r.uid = true
	switch {
	case own && s.box == nil:
		return bad("No mailbox is selected")
	case r.update && (len(filters) > 1 || !own):
		return bad("UPDATE is for the selected mailbox alone")
	case r.update && s.box.context(r.tag) >= 0:
		return bad("A search with UPDATE has that tag already")
	case r.save && len(filters) > 1, r.save && !own:
		return bad("SAVE is for the selected mailbox alone")
	case slices.ContainsFunc(filters, func(f syntax.Filter) bool { return f.Name == "SELECTED-DELAYED" }):
		return bad("SELECTED-DELAYED is not for ESEARCH")
	}
	var named []filter
	for i := range filters {
		named = append(named, s.filter(c, &filters[i]))
	}
	if err := c.p.Err(); err != nil {
		return err
	}
	boxes, err := s.filtered(ctx, named)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	if own {
		name := s.box.name
		err := s.view(ctx, "search", func(v *mailstore.View) error {
			if now, err := v.Mailbox(s.box.id); err == nil && now.Account == s.account.ID {
				name = now.Name // it may have been renamed since
			}
			return nil
		})
		if err == nil {
			err = s.searchBox(limited, c, &q, r, s.box, name)
		}
		if err != nil {
			return err
		}
	}
	for i := range boxes {
		if own && boxes[i].ID == s.box.id {
			continue
		}
		if limited.Err() != nil {
			return errSearchTime()
		}
		b, err := s.glance(limited, &boxes[i])
		if err != nil {
			return err
		}
		if b == nil {
			continue
		}
		if err := s.searchBox(limited, c, &q, r, b, boxes[i].Name); err != nil {
			return err
		}
	}
	return nil
}

// searchBox searches one mailbox and tells what it has, if anything.
func (s *session) searchBox(ctx context.Context, c *call, q *syntax.Search, r *result, b *selection, name string) error {
	if r.save {
		b.saved = nil
	}
	f, err := s.find(ctx, c, b, &q.Key, r.relevancy)
	if err != nil {
		return err
	}
	if f.modseq {
		s.wantModSeq()
	}
	if s.partly(c, f.lowest); f.lowest != 0 && b != s.box {
		c.limit = limitCode(s.srv.o.MessageLimit, 0) // a UID of which mailbox?
	}
	if r.update {
		defer s.follow(r, q, f)
	}
	if len(f.found) == 0 {
		return nil
	}
	r.mailbox = name
	if err := s.tellResult(ctx, r, f); err != nil {
		return err
	}
	if r.save {
		b.save(f.found, r)
	}
	return nil
}

// glance looks at a mailbox that is not selected; nil when it is gone, or the right to
// read it: other mailboxes may have been searched for a while before it.
func (s *session) glance(ctx context.Context, m *mailstore.Mailbox) (*selection, error) {
	var b *selection
	err := s.view(ctx, "search", func(v *mailstore.View) error {
		now, err := v.Mailbox(m.ID)
		if err != nil {
			return nil // deleted meanwhile
		}
		if now.Account != s.account.ID {
			if rights, err := v.Rights(s.account.ID, m.ID); err != nil || !rights.Has(mailstore.RightRead) {
				return err
			}
		}
		uids, err := v.UIDs(m.ID)
		if err == nil {
			b = &selection{id: m.ID, account: now.Account, name: m.Name, validity: now.UIDValidity, modseq: now.ModSeq, uids: slices.Clip(uids)}
		}
		return err
	})
	return b, err
}

// filtered lists the mailboxes that filters name, each once, in the order of
// LIST. SELECTED is left out.
func (s *session) filtered(ctx context.Context, filters []filter) ([]mailstore.Mailbox, error) {
	var list []mailstore.Mailbox
	err := s.view(ctx, "search", func(v *mailstore.View) error {
		// RFC 7377 section 2.2: a name needs the right to read, what a subtree has
		// the one to see it, too.
		boxes, err := s.visible(v, mailstore.RightRead)
		for i := range boxes {
			seen := s.rightsTo(&boxes[i]).Has(mailstore.RightLookup)
			if slices.ContainsFunc(filters, func(f filter) bool { return (seen || f.exact()) && f.match(&boxes[i]) }) {
				list = append(list, boxes[i])
			}
		}
		return err
	})
	slices.SortFunc(list, func(a, b mailstore.Mailbox) int { return inOrder(a.Name, b.Name) })
	return list, err
}

// filter names mailboxes (RFC 5465 section 6).
type filter struct {
	own  mailstore.AccountID
	name string          // as in syntax.Filter
	set  map[string]bool // clean names
}

// filter makes one. Names that cannot be name nothing.
func (s *session) filter(c *call, f *syntax.Filter) filter {
	set := make(map[string]bool, len(f.Mailboxes))
	for _, raw := range f.Mailboxes {
		if name, err := mailstore.CleanName(s.decode(c, raw)); err == nil {
			set[name] = true
		}
	}
	return filter{s.account.ID, f.Name, set}
}

// exact tells whether it names mailboxes alone.
func (f *filter) exact() bool { return f.name == "MAILBOXES" }

// reaches tells whether it could name mailboxes of others.
func (f *filter) reaches() bool {
	if f.name == "SUBSCRIBED" {
		return true
	}
	for name := range f.set {
		if reserved(name) {
			return true
		}
	}
	return false
}

// match tells whether a mailbox is one that the filter names.
func (f *filter) match(m *mailstore.Mailbox) bool {
	switch f.name {
	case "PERSONAL":
		return m.Account == f.own
	case "INBOXES":
		return m.Account == f.own && m.Name == mailstore.Inbox
	case "SUBSCRIBED":
		return m.Subscribed
	case "SUBTREE-ONE":
		return f.set[m.Name] || f.set[parent(m.Name)]
	case "SUBTREE":
		for name := m.Name; name != ""; name = parent(name) {
			if f.set[name] {
				return true
			}
		}
		return false
	}
	return f.set[m.Name]
}
