package imap

import (
	"errors"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"postrider/mailstore"
)

// codeUseAttr is of RFC 6154 section 3.
const codeUseAttr imap.ResponseCode = "USEATTR"

// uses are the special uses that a mailbox can be created for (RFC 6154
// section 2); \All and \Flagged would be views of other mailboxes.
var uses = []imap.MailboxAttr{
	imap.MailboxAttrArchive, imap.MailboxAttrDrafts, imap.MailboxAttrJunk, imap.MailboxAttrSent, imap.MailboxAttrTrash,
}

// useAttrs is the special use of a mailbox as an attribute.
func useAttrs(m mailstore.Mailbox) []imap.MailboxAttr {
	for _, u := range uses {
		if strings.EqualFold(m.SpecialUse, string(u)) {
			return []imap.MailboxAttr{u}
		}
	}
	return nil
}

// change runs a transaction.
func (s *session) change(doing string, fn func(tx *mailstore.Tx) error) error {
	return s.fault(doing, s.srv.o.Store.Update(s.ctx, fn))
}

// Create is CREATE, with the levels above that are missing (RFC 9051 section
// 6.3.4).
func (s *session) Create(name string, options *imap.CreateOptions) error {
	defer s.begin()()
	name, err := mailstore.CleanName(strings.TrimSuffix(name, "/"))
	if err != nil {
		return s.fault("create", err)
	}
	if strings.ContainsAny(name, "*%") {
		return refuse(imap.ResponseCodeCannot, `A mailbox name cannot have "*" or "%"`)
	}
	use, err := specialUse(options.SpecialUse)
	if err != nil {
		return err
	}
	return s.change("create", func(tx *mailstore.Tx) error {
		if use != "" {
			boxes, err := tx.Mailboxes(s.account.ID)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(boxes, func(m mailstore.Mailbox) bool { return strings.EqualFold(m.SpecialUse, use) }) {
				return refuse(codeUseAttr, "There is a mailbox for that use already")
			}
		}
		if err := createParents(tx, s.account.ID, name); err != nil {
			return err
		}
		_, err := tx.CreateMailbox(s.account.ID, name, use)
		return err
	})
}

func specialUse(attrs []imap.MailboxAttr) (string, error) {
	switch {
	case len(attrs) == 0:
		return "", nil
	case len(attrs) == 1 && slices.Contains(uses, attrs[0]):
		return string(attrs[0]), nil
	}
	return "", refuse(codeUseAttr, "A mailbox can have one of these uses: \\Archive, \\Drafts, \\Junk, \\Sent, \\Trash")
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

// Delete is DELETE. What is below the mailbox stays; its name is then listed as
// \NonExistent and cannot be deleted (RFC 9051 section 6.3.5).
func (s *session) Delete(name string) error {
	defer s.begin()()
	return s.change("delete", func(tx *mailstore.Tx) error {
		m, err := tx.MailboxByName(s.account.ID, name)
		if errors.Is(err, mailstore.ErrNotFound) {
			below, e := inferiors(tx, s.account.ID, name)
			if e == nil && len(below) > 0 {
				return refuse(imap.ResponseCodeHasChildren, "There are mailboxes below that name")
			}
		}
		if err != nil {
			return err
		}
		return tx.DeleteMailbox(m.ID)
	})
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

// Rename is RENAME, of a name with mailboxes below it too (RFC 9051 section
// 6.3.6).
func (s *session) Rename(name, newName string, _ *imap.RenameOptions) error {
	defer s.begin()()
	newName, err := mailstore.CleanName(strings.TrimSuffix(newName, "/"))
	if err != nil {
		return s.fault("rename", err)
	}
	if strings.ContainsAny(newName, "*%") {
		return refuse(imap.ResponseCodeCannot, `A mailbox name cannot have "*" or "%"`)
	}
	return s.change("rename", func(tx *mailstore.Tx) error {
		m, err := tx.MailboxByName(s.account.ID, name)
		if errors.Is(err, mailstore.ErrNotFound) {
			return s.renameBelow(tx, name, newName)
		}
		if err != nil {
			return err
		}
		if err := createParents(tx, s.account.ID, newName); err != nil {
			return err
		}
		return tx.RenameMailbox(m.ID, newName)
	})
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
		return refuse(imap.ResponseCodeCannot, "A mailbox cannot be moved below itself")
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

// Subscribe is SUBSCRIBE; the mailbox need not exist.
func (s *session) Subscribe(name string) error { return s.subscribe(name, true) }

// Unsubscribe is UNSUBSCRIBE.
func (s *session) Unsubscribe(name string) error { return s.subscribe(name, false) }

func (s *session) subscribe(name string, on bool) error {
	defer s.begin()()
	return s.change("subscribe", func(tx *mailstore.Tx) error {
		return tx.Subscribe(s.account.ID, strings.TrimSuffix(name, "/"), on)
	})
}

// Status is STATUS.
func (s *session) Status(name string, options *imap.StatusOptions) (*imap.StatusData, error) {
	defer s.begin()()
	var data *imap.StatusData
	err := s.srv.o.Store.View(s.ctx, func(v *mailstore.View) error {
		m, err := v.MailboxByName(s.account.ID, name)
		if err != nil {
			return err
		}
		data, err = s.status(v, m, options)
		return err
	})
	return data, s.fault("status", err)
}

// status has a value for all that the engine may ask for.
func (s *session) status(v *mailstore.View, m mailstore.Mailbox, options *imap.StatusOptions) (*imap.StatusData, error) {
	limit := s.AppendLimit()
	data := &imap.StatusData{
		Mailbox:        m.Name,
		NumMessages:    &m.Messages,
		NumRecent:      new(uint32),
		UIDNext:        imap.UID(m.UIDNext),
		UIDValidity:    m.UIDValidity,
		NumUnseen:      &m.Unseen,
		NumDeleted:     new(uint32),
		Size:           &m.Size,
		AppendLimit:    &limit,
		DeletedStorage: new(int64),
		HighestModSeq:  uint64(m.ModSeq),
	}
	if !options.NumDeleted && !options.DeletedStorage {
		return data, nil
	}
	err := v.Messages(m.ID, 1, 0, func(m mailstore.Message) bool {
		if m.Flags.System&mailstore.Deleted != 0 {
			*data.NumDeleted++
			*data.DeletedStorage += m.Size
		}
		return true
	})
	return data, err
}

// listed is a name that LIST may show.
type listed struct {
	name       string
	box        *mailstore.Mailbox // nil where there is no such mailbox
	subscribed bool
	children   bool // mailboxes are below
}

// List is LIST and LSUB (RFC 9051 section 6.3.9, RFC 6154, RFC 5819).
func (s *session) List(w *imapserver.ListWriter, reference string, patterns []string, options *imap.ListOptions) error {
	defer s.begin()()
	if len(patterns) == 0 { // LIST "" "" asks for the delimiter
		return w.WriteList(&imap.ListData{Attrs: []imap.MailboxAttr{imap.MailboxAttrNoSelect}, Delim: '/'})
	}
	if len(patterns) > maxPatterns {
		return refuse(imap.ResponseCodeLimit, "Too many patterns")
	}
	var compiled []pattern
	for _, p := range patterns {
		if c, ok := newPattern(reference, p); ok {
			compiled = append(compiled, c)
		}
	}
	var answer []*imap.ListData
	err := s.srv.o.Store.View(s.ctx, func(v *mailstore.View) error {
		names, err := s.names(v)
		if err != nil {
			return err
		}
		answer, err = s.choose(v, names, compiled, options)
		return err
	})
	if err != nil {
		return s.fault("list", err)
	}
	for _, data := range answer {
		if err := w.WriteList(data); err != nil {
			return err
		}
	}
	return nil
}

// names has all mailboxes, the levels above them, and all subscriptions: INBOX
// first, then by name.
func (s *session) names(v *mailstore.View) ([]*listed, error) {
	boxes, err := v.Mailboxes(s.account.ID)
	if err != nil {
		return nil, err
	}
	subscriptions, err := v.Subscriptions(s.account.ID)
	if err != nil {
		return nil, err
	}
	table := make(map[string]*listed, len(boxes))
	entry := func(name string) *listed {
		if table[name] == nil {
			table[name] = &listed{name: name}
		}
		return table[name]
	}
	for i := range boxes {
		entry(boxes[i].Name).box = &boxes[i]
		for name := parent(boxes[i].Name); name != "" && !entry(name).children; name = parent(name) {
			entry(name).children = true
		}
	}
	for _, name := range subscriptions {
		entry(name).subscribed = true
	}
	list := make([]*listed, 0, len(table))
	for _, l := range table {
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b *listed) int {
		switch {
		case a.name == mailstore.Inbox:
			return -1
		case b.name == mailstore.Inbox:
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	return list, nil
}

// parent is the level above a name; "" for none.
func parent(name string) string { return name[:max(strings.LastIndexByte(name, '/'), 0)] }

// choose makes the answer to LIST.
func (s *session) choose(v *mailstore.View, names []*listed, patterns []pattern, options *imap.ListOptions) ([]*imap.ListData, error) {
	matching := func(l *listed) bool {
		return slices.ContainsFunc(patterns, func(p pattern) bool { return p.match(l.name) })
	}
	// Names with subscribed ones below them that the patterns do not show.
	var below map[string]bool
	if options.SelectRecursiveMatch {
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
		for name := range below {
			if !known[name] {
				names = append(names, &listed{name: name})
			}
		}
	}
	var answer []*imap.ListData
	for _, l := range names {
		switch {
		case options.SelectSubscribed && !l.subscribed && !below[l.name]:
			continue
		case !options.SelectSubscribed && l.box == nil && !l.children:
			continue // only a subscription
		case options.SelectSpecialUse && (l.box == nil || len(useAttrs(*l.box)) == 0):
			continue
		case !matching(l):
			continue
		}
		data := l.data(options)
		if below[l.name] {
			data.ChildInfo = &imap.ListDataChildInfo{Subscribed: true}
		}
		if options.ReturnStatus != nil && l.box != nil {
			var err error
			if data.Status, err = s.status(v, *l.box, options.ReturnStatus); err != nil {
				return nil, err
			}
		}
		answer = append(answer, data)
	}
	return answer, nil
}

// data makes the LIST response.
func (l *listed) data(options *imap.ListOptions) *imap.ListData {
	data := &imap.ListData{Delim: '/', Mailbox: l.name}
	if l.box == nil {
		// Both, for clients that know only the older one (RFC 5258 section 3).
		data.Attrs = append(data.Attrs, imap.MailboxAttrNonExistent, imap.MailboxAttrNoSelect)
	}
	if l.subscribed && (options.SelectSubscribed || options.ReturnSubscribed) {
		data.Attrs = append(data.Attrs, imap.MailboxAttrSubscribed)
	}
	if l.children {
		data.Attrs = append(data.Attrs, imap.MailboxAttrHasChildren)
	} else {
		data.Attrs = append(data.Attrs, imap.MailboxAttrHasNoChildren)
	}
	if l.box != nil {
		data.Attrs = append(data.Attrs, useAttrs(*l.box)...)
	}
	return data
}
