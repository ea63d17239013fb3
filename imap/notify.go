package imap

import (
	"context"
	"slices"
	"strings"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// notification is what a client asked to be told of while no command is under
// way (RFC 5465).
type notification struct {
	selected *selectedEvents // nil: nothing of the selected mailbox
	named    bool            // it was named, with events or without
	groups   []eventGroup
	known    map[mailstore.MailboxID]mailstore.Mailbox // as the client knows them
	watch    *mailstore.Watcher
	idle     bool // IDLE is under way, in which nothing is delayed
	// others are mailboxes of others that are watched, and rights is there where
	// groups could name more of them.
	others map[mailstore.MailboxID]*mailstore.Watcher
	rights *mailstore.Watcher
}

// selectedEvents is SELECTED or SELECTED-DELAYED.
type selectedEvents struct {
	delayed bool // expunges wait for a command
	flags   bool
	items   []syntax.FetchItem // of new messages
}

// eventGroup is one of the others.
type eventGroup struct {
	filter        filter
	messages      bool // MessageNew and MessageExpunge
	flags         bool
	mailboxes     bool
	subscriptions bool
	notes         bool // METADATA of the mailboxes
	serverNotes   bool // METADATA of the server, whatever the filter
}

// events are those that are told (RFC 5465 section 5).
const events = "MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange"

// cmdNotify is NOTIFY.
func (s *session) cmdNotify(ctx context.Context, c *call) error {
	groups, status := c.p.Notify()
	if err := c.p.End(); err != nil {
		return err
	}
	if groups == nil {
		// RFC 5465 section 3.1: nothing is told, of the selected mailbox neither.
		s.endNotify()
		s.notify = &notification{}
		return nil
	}
	n := &notification{}
	for i := range groups {
		if err := s.addEvents(c, n, &groups[i]); err != nil {
			return err
		}
	}
	if err := c.p.Err(); err != nil {
		return err
	}
	if s.box != nil && (s.notify == nil || s.notify.selected != nil) {
		// RFC 5465 section 3.1: what has happened until now is told as it was.
		if err := s.update(ctx, true); err != nil {
			return err
		}
	}
	if err := s.countable(ctx); err != nil {
		return err
	}
	// Watching begins before the first look, so that nothing falls between.
	s.endNotify()
	s.notify = n
	s.in.onWake = func() error {
		if err := s.tellNotified(ctx, false); err != nil {
			return err
		}
		return s.out.flush()
	}
	n.watch = s.srv.o.Store.WatchFunc(s.account.ID, 0, s.in.wake)
	if slices.ContainsFunc(n.groups, func(g eventGroup) bool { return g.filter.reaches() }) {
		n.rights = s.srv.o.Store.WatchRights(s.in.wake)
	}
	if slices.ContainsFunc(n.groups, func(g eventGroup) bool { return g.notes || g.serverNotes }) {
		s.watchNotes()
	}
	if s.noted != nil {
		s.noted.Notify(s.in.wake)
	}
	return s.view(ctx, "notify", func(v *mailstore.View) error {
		boxes, err := s.notified(v)
		if err == nil {
			err = s.tellNoAccess(v)
		}
		n.known = make(map[mailstore.MailboxID]mailstore.Mailbox, len(boxes))
		for i := range boxes {
			n.known[boxes[i].ID] = boxes[i]
			if status {
				s.tellFirst(&boxes[i])
			}
		}
		s.watchOthers(boxes)
		return err
	})
}

// maxNotified is how many mailboxes of an account are watched for one client.
const maxNotified = 5000

// countable refuses to watch too many mailboxes.
func (s *session) countable(ctx context.Context) error {
	return s.view(ctx, "notify", func(v *mailstore.View) error {
		boxes, err := s.visible(v, rightsToNotify)
		if err == nil && len(boxes) > maxNotified {
			err = refuse("NOTIFICATIONOVERFLOW", "There are too many mailboxes to watch")
		}
		return err
	})
}

// rightsToNotify: without them nothing is told of a mailbox (RFC 5465 section 5).
const rightsToNotify = mailstore.RightLookup | mailstore.RightRead

// notified lists the user's own mailboxes, and those of others that a group names.
func (s *session) notified(v *mailstore.View) ([]mailstore.Mailbox, error) {
	boxes, err := s.visible(v, rightsToNotify)
	return slices.DeleteFunc(boxes, func(m mailstore.Mailbox) bool {
		return m.Account != s.account.ID && !s.notify.names(&m)
	}), err
}

// names tells whether a group names the mailbox.
func (n *notification) names(m *mailstore.Mailbox) bool {
	return slices.ContainsFunc(n.groups, func(g eventGroup) bool { return g.filter.match(m) })
}

// tellNoAccess names the mailboxes that were asked for and may be seen, but not be
// read (RFC 5465 section 4).
func (s *session) tellNoAccess(v *mailstore.View) error {
	if len(s.others.boxes) == 0 {
		return nil
	}
	boxes, err := s.visible(v, mailstore.RightLookup)
	for i := range boxes {
		m := &boxes[i]
		if s.rightsTo(m).Has(mailstore.RightRead) || !s.notify.names(m) {
			continue
		}
		b := append(s.out.begin(), `* LIST (\NoAccess) "/" `...)
		s.out.keep(append(syntax.AppendMailbox(b, m.Name, s.enabled.wide()), '\r', '\n'))
	}
	return err
}

// watchOthers watches those of boxes that are others', and the selected mailbox
// where it is.
func (s *session) watchOthers(boxes []mailstore.Mailbox) {
	n := s.notify
	for id, w := range n.others {
		if !slices.ContainsFunc(boxes, func(m mailstore.Mailbox) bool { return m.ID == id }) {
			w.Close()
			delete(n.others, id)
		}
	}
	for i := range boxes {
		if boxes[i].Account != s.account.ID {
			n.follow(s, boxes[i].ID)
		}
	}
	s.followSelected()
}

// follow watches a mailbox of others.
func (n *notification) follow(s *session, id mailstore.MailboxID) {
	if n.others == nil {
		n.others = make(map[mailstore.MailboxID]*mailstore.Watcher)
	}
	if n.others[id] == nil {
		n.others[id] = s.srv.o.Store.WatchFunc(s.account.ID, id, s.in.wake)
	}
}

// followSelected watches the selected mailbox, where it is another's: the one that
// was selected before is watched until something wakes the session.
func (s *session) followSelected() {
	if n := s.notify; n != nil && n.watch != nil && s.box != nil && s.box.account != s.account.ID {
		n.follow(s, s.box.id)
	}
}

// endNotify ends what NOTIFY began.
func (s *session) endNotify() {
	if s.notify != nil && s.notify.watch != nil {
		s.notify.watch.Close()
		if s.notify.rights != nil {
			s.notify.rights.Close()
		}
		for _, w := range s.notify.others {
			w.Close()
		}
		s.in.onWake = nil
		if s.noted != nil {
			s.noted.Notify(nil)
		}
		if !s.enabled.metadata {
			s.forgetNotes()
		}
	}
	s.notify = nil
}

// wantsNotes tells whether the client wants to hear of changed annotations.
func (s *session) wantsNotes(p *place) bool {
	if s.enabled.metadata || s.notify == nil {
		return true
	}
	return slices.ContainsFunc(s.notify.groups, func(g eventGroup) bool {
		if p.box == nil {
			return g.serverNotes
		}
		return g.notes && g.filter.match(p.box)
	})
}

// addEvents adds a group.
func (s *session) addEvents(c *call, n *notification, g *syntax.EventGroup) error {
	has := func(event string) bool { return slices.Contains(g.Events, event) }
	for _, event := range g.Events {
		if !slices.Contains(strings.Fields(strings.ToUpper(events)), event) {
			return refuse("BADEVENT ("+events+")", "There is no such event here")
		}
	}
	if has("MESSAGENEW") != has("MESSAGEEXPUNGE") || has("FLAGCHANGE") && !has("MESSAGENEW") {
		return bad("MessageNew and MessageExpunge go together, and FlagChange with them") // section 5
	}
	if g.Name == "SELECTED" || g.Name == "SELECTED-DELAYED" {
		switch {
		case n.named:
			return bad("The selected mailbox is named twice")
		case has("MAILBOXNAME"), has("SUBSCRIPTIONCHANGE"), has("MAILBOXMETADATACHANGE"), has("SERVERMETADATACHANGE"):
			return bad("Only events of messages are of the selected mailbox") // section 6.1
		}
		n.named = true
		if len(g.Events) > 0 {
			n.selected = &selectedEvents{delayed: g.Name == "SELECTED-DELAYED", flags: has("FLAGCHANGE"), items: g.Items}
		}
		return nil
	}
	if len(g.Items) > 0 {
		return bad("FETCH items are of the selected mailbox") // section 8
	}
	group := eventGroup{
		filter: s.filter(c, &g.Filter), messages: has("MESSAGENEW"), flags: has("FLAGCHANGE"),
		mailboxes: has("MAILBOXNAME"), subscriptions: has("SUBSCRIPTIONCHANGE"),
		notes: has("MAILBOXMETADATACHANGE"), serverNotes: has("SERVERMETADATACHANGE"),
	}
	n.groups = append(n.groups, group)
	return nil
}

// wanted are the events that are told of a mailbox which is not selected.
func (n *notification) wanted(m *mailstore.Mailbox) (w eventGroup) {
	for i := range n.groups {
		g := &n.groups[i]
		if g.filter.match(m) {
			w.messages = w.messages || g.messages
			w.flags = w.flags || g.flags
			w.mailboxes = w.mailboxes || g.mailboxes
			w.subscriptions = w.subscriptions || g.subscriptions
		}
	}
	return w
}

// tellFirst is for NOTIFY SET STATUS.
func (s *session) tellFirst(m *mailstore.Mailbox) {
	w := s.notify.wanted(m)
	if w.messages && !s.isSelected(m) {
		s.tellStatus(m, "MESSAGES", "UIDNEXT", "UIDVALIDITY", "HIGHESTMODSEQ")
	}
}

func (s *session) isSelected(m *mailstore.Mailbox) bool { return s.box != nil && s.box.id == m.ID }

// tellStatus writes a STATUS response. HIGHESTMODSEQ is left out where the client
// does not know of it.
func (s *session) tellStatus(m *mailstore.Mailbox, names ...string) {
	var items []statusItem
	for _, name := range names {
		if item, ok := statusNamed(name); ok && (!item.modseq || s.enabled.condstore) {
			items = append(items, item)
		}
	}
	b, err := s.appendStatus(s.out.begin(), nil, m, items)
	if err == nil {
		s.out.keep(b)
	}
}

// tellNew tells of the newest messages what the client asked for.
func (s *session) tellNew(ctx context.Context, came int) error {
	items := s.notify.selected.items
	if len(items) == 0 {
		return nil
	}
	n := len(s.box.uids)
	err := s.tellItems(ctx, []span{{max(n-came, 0), n}}, items)
	if s.chosen(err) != nil {
		return nil // they could not be read
	}
	return err
}

// tellNotified tells what happened since; all: also what waits for a command.
func (s *session) tellNotified(ctx context.Context, all bool) error {
	n := s.notify
	if err := s.learnRights(ctx); err != nil {
		return s.unlessRefused(err)
	}
	if s.box != nil && n.selected != nil {
		if err := s.update(ctx, all || n.idle || !n.selected.delayed); err != nil {
			return err
		}
	}
	if n.watch == nil {
		return nil
	}
	if err := s.tellNotes(ctx); err != nil {
		return err
	}
	overflow := false
	// What cannot be read now is told another time.
	_ = s.srv.o.Store.View(ctx, func(v *mailstore.View) error {
		boxes, err := s.notified(v)
		if overflow = len(boxes) > maxNotified; err == nil && !overflow {
			var seen []mailstore.Mailbox
			if seen, err = s.visible(v, mailstore.RightLookup); err == nil {
				s.tellMailboxes(boxes, seen)
			}
			s.watchOthers(boxes)
		}
		return err
	})
	if overflow { // RFC 5465 section 5.8
		s.endNotify()
		s.notify = &notification{}
		s.out.line("* OK [NOTIFICATIONOVERFLOW] There are too many mailboxes to watch")
	}
	return s.out.err
}

// tellMailboxes compares mailboxes with those that the client knows; seen has those
// that LIST shows, too.
func (s *session) tellMailboxes(boxes, seen []mailstore.Mailbox) {
	n := s.notify
	now := make(map[mailstore.MailboxID]mailstore.Mailbox, len(boxes))
	for i := range boxes {
		now[boxes[i].ID] = boxes[i]
	}
	names := levels(seen)
	for i := range boxes {
		m := &boxes[i]
		old, known := n.known[m.ID]
		w := n.wanted(m)
		if known && old.Name != m.Name {
			was := n.wanted(&old)
			w.mailboxes = w.mailboxes || was.mailboxes
		}
		s.tellListed(names, now, m, &old, known, &w)
		if !s.isSelected(m) {
			s.tellCounters(m, &old, known, &w)
		}
	}
	for id, old := range n.known {
		if _, there := now[id]; !there && n.wanted(&old).mailboxes && (names[old.Name] == nil || names[old.Name].box == nil) {
			s.tellName(names, old.Name, "")
			s.tellParent(names, old.Name)
		}
	}
	n.known = now
}

// tellListed tells that a mailbox is new, has another name, or another
// subscription (RFC 5465 sections 5.4 and 5.5).
func (s *session) tellListed(names map[string]*listed, now map[mailstore.MailboxID]mailstore.Mailbox, m, old *mailstore.Mailbox, known bool, w *eventGroup) {
	switch {
	case !known && w.mailboxes:
		s.tellName(names, m.Name, "")
		s.tellParent(names, m.Name)
	case known && old.Name != m.Name && w.mailboxes:
		if !s.movedWithParent(now, m, old) {
			s.tellName(names, m.Name, old.Name)
		}
	case known && old.Subscribed != m.Subscribed && w.subscriptions:
		s.tellName(names, m.Name, "")
	}
}

// movedWithParent tells whether the renaming of a mailbox is that of one above
// it, which is told alone.
func (s *session) movedWithParent(now map[mailstore.MailboxID]mailstore.Mailbox, m, old *mailstore.Mailbox) bool {
	above, below := parent(m.Name), parent(old.Name)
	if above == below || above == "" || below == "" || m.Name[len(above):] != old.Name[len(below):] {
		return false
	}
	for _, k := range s.notify.known {
		if k.Name == below {
			return now[k.ID].Name == above
		}
	}
	return false
}

// tellParent tells the level above a name, whose attributes may have changed.
func (s *session) tellParent(names map[string]*listed, name string) {
	if above := parent(name); above != "" {
		s.tellName(names, above, "")
	}
}

// tellName writes a LIST response.
func (s *session) tellName(names map[string]*listed, name, oldName string) {
	l := names[name]
	if l == nil {
		l = &listed{name: name}
	}
	b := s.appendListed(s.out.begin(), l, &listOptions{tellSubscribed: true}, false)
	if oldName != "" {
		b = append(appendOldName(b[:len(b)-2], oldName, s.enabled.wide()), '\r', '\n')
	}
	s.out.keep(b)
}

// tellCounters tells of messages in a mailbox that is not selected (RFC 5465
// sections 5.1 to 5.3).
func (s *session) tellCounters(m, old *mailstore.Mailbox, known bool, w *eventGroup) {
	switch {
	case !known && m.Messages > 0 && w.messages:
		s.tellStatus(m, "MESSAGES", "UIDNEXT", "UIDVALIDITY", "HIGHESTMODSEQ")
	case !known:
	case w.messages && (m.UIDNext != old.UIDNext || m.Messages != old.Messages):
		if w.flags && m.Unseen != old.Unseen {
			s.tellStatus(m, "MESSAGES", "UIDNEXT", "UNSEEN", "HIGHESTMODSEQ")
			return
		}
		s.tellStatus(m, "MESSAGES", "UIDNEXT", "HIGHESTMODSEQ")
	case w.flags && m.ModSeq != old.ModSeq && (s.enabled.condstore || m.Unseen != old.Unseen):
		s.tellStatus(m, "UIDVALIDITY", "UNSEEN", "HIGHESTMODSEQ")
	}
}
