package imap

import (
	"context"
	"maps"
	"slices"
	"strings"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// listOptions says what LIST selects and returns.
type listOptions struct {
	subscribed, recursive, special bool // selection
	tellSubscribed                 bool
	status                         []statusItem
	rights                         bool     // MYRIGHTS (RFC 8440)
	metadata                       []string // entries
	old                            bool     // LSUB
}

// cmdList is LIST (RFC 9051 section 6.3.9, RFC 5258, RFC 5819, RFC 6154,
// RFC 8440, RFC 9590).
func (s *session) cmdList(ctx context.Context, c *call) error {
	l := c.p.ListArgs()
	if err := c.p.End(); err != nil {
		return err
	}
	var o listOptions
	for _, option := range l.Select {
		switch option {
		case "SUBSCRIBED":
			o.subscribed = true
		case "RECURSIVEMATCH":
			o.recursive = true
		case "SPECIAL-USE":
			o.special = true
		case "REMOTE": // there are none
		default:
			return bad("There is no selection option " + option)
		}
	}
	if o.recursive && !o.subscribed {
		return bad("RECURSIVEMATCH needs another selection option") // RFC 5258 section 3.1
	}
	o.tellSubscribed = o.subscribed
	for _, option := range l.Return {
		switch option {
		case "SUBSCRIBED":
			o.tellSubscribed = true
		case "CHILDREN", "SPECIAL-USE": // are told always
		case "MYRIGHTS":
			o.rights = true
		case "STATUS":
			var err error
			if o.status, err = s.statusItems(l.Status); err != nil {
				return err
			}
		case "METADATA":
			var err error
			if o.metadata, err = roots(l.Metadata); err != nil {
				return err
			}
		default:
			return bad("There is no return option " + option)
		}
	}
	if !l.Extended && l.Patterns[0] == "" { // asks for the delimiter
		s.out.line(`* LIST (\Noselect) "/" ""`)
		return nil
	}
	return s.list(ctx, c, &l, &o)
}

// cmdLSub is LSUB (RFC 3501 section 6.3.9). A name above a subscribed one that
// "%" keeps from being listed is listed in its place, as \Noselect.
func (s *session) cmdLSub(ctx context.Context, c *call) error {
	l := c.p.LSub()
	if err := c.p.End(); err != nil {
		return err
	}
	return s.list(ctx, c, &l, &listOptions{subscribed: true, recursive: true, old: true})
}

func (s *session) list(ctx context.Context, c *call, l *syntax.List, o *listOptions) error {
	var patterns []pattern
	for _, text := range l.Patterns {
		if p, ok := newPattern(s.decode(c, l.Reference), s.decode(c, text)); ok {
			patterns = append(patterns, p)
		}
	}
	if err := c.p.Err(); err != nil {
		return err
	}
	return s.view(ctx, "list", func(v *mailstore.View) error {
		names, err := s.names(v)
		if err != nil {
			return err
		}
		b := s.out.beginLarge()
		if b, err = s.choose(b, v, names, patterns, o); err == nil {
			s.out.keep(b)
		}
		return err
	})
}

// listed is a name that LIST may show.
type listed struct {
	name       string
	box        *mailstore.Mailbox // nil where there is no such mailbox
	subscribed bool
	children   bool // mailboxes are below
}

// names has all mailboxes, the levels above them, and all subscriptions: INBOX
// first, then by name.
func (s *session) names(v *mailstore.View) ([]*listed, error) {
	boxes, err := s.visible(v, mailstore.RightLookup)
	if err != nil {
		return nil, err
	}
	subscriptions, err := v.Subscriptions(s.account.ID)
	if err != nil {
		return nil, err
	}
	table := levels(boxes)
	for _, name := range subscriptions {
		if table[name] == nil {
			table[name] = &listed{name: name}
		}
		table[name].subscribed = true
	}
	return slices.SortedFunc(maps.Values(table), func(a, b *listed) int { return inOrder(a.name, b.name) }), nil
}

// levels has mailboxes and the levels above them, by name.
func levels(boxes []mailstore.Mailbox) map[string]*listed {
	table := make(map[string]*listed, len(boxes))
	entry := func(name string) *listed {
		if table[name] == nil {
			table[name] = &listed{name: name}
		}
		return table[name]
	}
	for i := range boxes {
		l := entry(boxes[i].Name)
		l.box, l.subscribed = &boxes[i], boxes[i].Subscribed
		for name := parent(boxes[i].Name); name != "" && !entry(name).children; name = parent(name) {
			entry(name).children = true
		}
	}
	return table
}

// inOrder compares names of mailboxes: INBOX comes first.
func inOrder(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == mailstore.Inbox:
		return -1
	case b == mailstore.Inbox:
		return 1
	}
	return strings.Compare(a, b)
}

// parent is the level above a name; "" for none.
func parent(name string) string { return name[:max(strings.LastIndexByte(name, '/'), 0)] }

// choose appends the answer to LIST.
func (s *session) choose(b []byte, v *mailstore.View, names []*listed, patterns []pattern, o *listOptions) ([]byte, error) {
	matching := func(l *listed) bool {
		return slices.ContainsFunc(patterns, func(p pattern) bool { return p.match(l.name) })
	}
	// Names with subscribed ones below them that the patterns do not show.
	var below map[string]bool
	if o.recursive {
		below, names = hidden(names, matching)
	}
	for _, l := range names {
		switch {
		case o.subscribed && !l.subscribed && !below[l.name]:
			continue
		case !o.subscribed && l.box == nil && !l.children:
			continue // only a subscription
		case o.special && (l.box == nil || useOf(l.box) == ""):
			continue
		case !matching(l):
			continue
		}
		b = s.appendListed(b, l, o, below[l.name])
		if l.box == nil || o.subscribed && !l.subscribed {
			continue // RFC 5819 section 2, RFC 9590 section 3: it is told for what is below
		}
		rights := s.rightsTo(l.box)
		if o.rights {
			b = s.appendRights(b, l.name, rights)
		}
		if o.status != nil && rights.Has(mailstore.RightRead) {
			var err error
			if b, err = s.appendStatus(b, v, l.box, o.status); err != nil {
				return b, err
			}
		}
		if o.metadata != nil && rights.Any(rightsToNote) {
			var err error
			if b, _, err = s.appendNotes(b, v, &place{l.name, l.box, rights}, &syntax.GetMetadata{Entries: o.metadata}); err != nil {
				return b, err
			}
		}
	}
	return b, nil
}

// hidden finds the names that have subscribed ones below them which do not
// match; names that exist only so are added.
func hidden(names []*listed, matching func(*listed) bool) (below map[string]bool, all []*listed) {
	below = make(map[string]bool)
	for _, l := range names {
		if l.subscribed && !matching(l) {
			for name := parent(l.name); name != ""; name = parent(name) {
				below[name] = true
			}
		}
	}
	known := make(map[string]bool, len(names))
	for _, l := range names {
		known[l.name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(below)) {
		if !known[name] {
			names = append(names, &listed{name: name})
		}
	}
	return below, names
}

// appendListed appends one LIST response.
func (s *session) appendListed(b []byte, l *listed, o *listOptions, below bool) []byte {
	if o.old {
		b = append(b, "* LSUB ("...)
	} else {
		b = append(b, "* LIST ("...)
	}
	switch {
	case l.box == nil && o.old, o.old && !l.subscribed:
		b = append(b, `\Noselect `...)
	case l.box == nil:
		// Both, for clients that know only the older one (RFC 5258 section 3).
		b = append(b, `\NonExistent \Noselect `...)
	}
	if l.subscribed && o.tellSubscribed {
		b = append(b, `\Subscribed `...)
	}
	if l.children {
		b = append(b, `\HasChildren `...)
	} else {
		b = append(b, `\HasNoChildren `...)
	}
	if l.box != nil {
		if use := useOf(l.box); use != "" {
			b = append(b, use...)
			b = append(b, ' ')
		}
	}
	b[len(b)-1] = ')'
	b = append(b, ` "/" `...)
	b = syntax.AppendMailbox(b, l.name, s.enabled.wide())
	if below && !o.old {
		b = append(b, ` ("CHILDINFO" ("SUBSCRIBED"))`...)
	}
	return append(b, '\r', '\n')
}
