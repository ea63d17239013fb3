package imap

import (
	"context"
	"slices"
	"strings"

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
	names := make([][]string, len(filters))
	for i := range filters {
		for _, raw := range filters[i].Mailboxes {
			names[i] = append(names[i], s.decode(c, raw))
		}
	}
	if err := c.p.Err(); err != nil {
		return err
	}
	boxes, err := s.filtered(ctx, filters, names)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	if own {
		name := s.box.name
		err := s.view(ctx, "search", func(v *mailstore.View) error {
			if now, err := v.Mailbox(s.box.id); err == nil {
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

// glance looks at a mailbox that is not selected; nil when it is gone.
func (s *session) glance(ctx context.Context, m *mailstore.Mailbox) (*selection, error) {
	var b *selection
	err := s.view(ctx, "search", func(v *mailstore.View) error {
		now, err := v.Mailbox(m.ID)
		if err != nil {
			return nil // deleted meanwhile
		}
		uids, err := v.UIDs(m.ID)
		if err == nil {
			b = &selection{id: m.ID, name: now.Name, validity: now.UIDValidity, modseq: now.ModSeq, uids: slices.Clip(uids)}
		}
		return err
	})
	return b, err
}

// filtered lists the mailboxes that filters name, each once, in the order of
// LIST; the names of each filter are decoded. SELECTED is left out.
func (s *session) filtered(ctx context.Context, filters []syntax.Filter, names [][]string) ([]mailstore.Mailbox, error) {
	var list []mailstore.Mailbox
	err := s.view(ctx, "search", func(v *mailstore.View) error {
		boxes, err := v.Mailboxes(s.account.ID)
		for i := range boxes {
			matching := false
			for k := range filters {
				matching = matching || matchesFilter(&filters[k], names[k], &boxes[i])
			}
			if matching {
				list = append(list, boxes[i])
			}
		}
		return err
	})
	slices.SortFunc(list, func(a, b mailstore.Mailbox) int {
		switch {
		case a.Name == mailstore.Inbox:
			return -1
		case b.Name == mailstore.Inbox:
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list, err
}

// matchesFilter tells whether a mailbox is one that a filter names.
func matchesFilter(f *syntax.Filter, names []string, m *mailstore.Mailbox) bool {
	switch f.Name {
	case "PERSONAL":
		return true
	case "INBOXES":
		return m.Name == mailstore.Inbox
	case "SUBSCRIBED":
		return m.Subscribed
	}
	for _, name := range names {
		name, err := mailstore.CleanName(name)
		if err != nil {
			continue
		}
		below, isBelow := strings.CutPrefix(m.Name, name+"/")
		switch {
		case m.Name == name,
			f.Name == "SUBTREE" && isBelow,
			f.Name == "SUBTREE-ONE" && isBelow && !strings.Contains(below, "/"):
			return true
		}
	}
	return false
}
