package imap

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"postrider/mailstore"
)

// Namespaces of mailboxes that are not one's own (RFC 2342): below them stand the
// addresses of their owners, and below these their mailboxes.
const (
	otherUsers = "Other Users/"
	shared     = "Shared/"
)

// rightsVisible: with one of these, MYRIGHTS tells what the rights are.
const rightsVisible = mailstore.RightLookup | mailstore.RightRead | mailstore.RightInsert | mailstore.RightCreate |
	mailstore.RightDelete | mailstore.RightAdminister

// rightsToWrite make a mailbox one that SELECT opens for writing (RFC 4314 section
// 5.2).
const rightsToWrite = mailstore.RightInsert | mailstore.RightExpunge | mailstore.RightSeen | mailstore.RightWrite | mailstore.RightTrash

// errRevoked ends a session that may not read the mailbox which it has selected
// any more (RFC 4314 section 5.1.1).
var errRevoked = errors.New("the right to read the selected mailbox was taken away")

// errNoAccount ends a session whose account was removed: what is open to anyone is so to
// accounts.
var errNoAccount = errors.New("the account was removed")

// others is what a session knows of the mailboxes of others to which it has
// rights. What it is not in there the session can learn nothing of: names are
// looked for here and not in the store.
type others struct {
	loaded  bool
	version uint64 // Store.RightsVersion before they were read
	user    mailstore.AccountID
	names   map[string]mailstore.MailboxID
	boxes   map[mailstore.MailboxID]foreign
	roots   map[string]mailstore.AccountID // by the level that has the owner's address
}

// foreign is a mailbox of another account.
type foreign struct {
	name   string // as this user knows it
	root   string // the level of it that has the owner's address
	rights mailstore.Rights
}

// userBox is a mailbox as a user sees it: its Name is the one that he knows it by,
// and one of another account has no special use.
type userBox struct {
	mailstore.Mailbox
	rights mailstore.Rights
}

// reserved tells whether a name is in a namespace of others.
func reserved(name string) bool {
	return strings.HasPrefix(name+"/", otherUsers) || strings.HasPrefix(name+"/", shared)
}

// learnRights finds out what mailboxes of others there are for this user, where
// that has changed. It runs before each command, and costs nothing where it has not.
// errRevoked: the selected mailbox is not one of them any more; errNoAccount.
func (s *session) learnRights(ctx context.Context) error {
	version := s.srv.o.Store.RightsVersion()
	if s.others.loaded && s.others.version == version {
		return nil
	}
	now := others{loaded: true, version: version, user: s.account.ID}
	err := s.srv.o.Store.View(ctx, now.fill)
	if errors.Is(err, mailstore.ErrNotFound) {
		return errNoAccount
	}
	if err != nil {
		// One's own mailboxes do not depend on it; the next command tries again.
		s.others = others{user: s.account.ID}
		if s.box == nil || s.box.account == s.account.ID {
			return nil
		}
		return s.fault(ctx, "rights", err)
	}
	s.others = now
	return s.reconsider(ctx)
}

// unlessRefused is for what nobody asked for: where the rights cannot be read now,
// nothing is told, and no refusal.
func (s *session) unlessRefused(err error) error {
	if s.chosen(err) != nil {
		return nil
	}
	return err
}

// fill names the mailboxes.
func (o *others) fill(v *mailstore.View) error {
	grants, err := v.Granted(o.user)
	if err != nil || len(grants) == 0 {
		return err
	}
	o.names = make(map[string]mailstore.MailboxID, len(grants))
	o.boxes = make(map[mailstore.MailboxID]foreign, len(grants))
	o.roots = make(map[string]mailstore.AccountID)
	roots := make(map[mailstore.AccountID]string)
	for i := range grants {
		g := &grants[i]
		root := roots[g.Account]
		if root == "" {
			owner, err := v.Account(g.Account)
			if err != nil {
				return err
			}
			root = otherUsers + owner.Address
			if owner.Shared {
				root = shared + owner.Address
			}
			roots[g.Account] = root
			o.roots[root] = g.Account
		}
		name := root + "/" + g.Name
		o.names[name] = g.ID
		o.boxes[g.ID] = foreign{name, root, g.Rights}
	}
	return nil
}

// reconsider applies changed rights to the selected mailbox.
func (s *session) reconsider(ctx context.Context) error {
	b := s.box
	if b == nil || b.account == s.account.ID {
		return nil
	}
	f, there := s.others.boxes[b.id]
	if !there && s.gone(ctx, b.id) {
		return nil // deleted: its messages are, too
	}
	if !f.rights.Has(mailstore.RightRead) {
		return errRevoked
	}
	if f.name != "" {
		b.name = f.name
	}
	if f.rights == b.rights {
		return nil
	}
	b.rights = f.rights
	s.tellFlagList() // RFC 4314 section 5.1.1
	s.out.end(append(b.appendPermanent(s.out.begin()), '\r', '\n'))
	return nil
}

// normal is a name as names are kept, without a check.
func normal(name string) string { return norm.NFC.String(name) }

// lookup finds the mailbox of a name, and what the user may do to it; his own
// comes first. Without all the rights that are needed it is mailstore.ErrNotFound,
// as it is where there is no such mailbox, unless he may see that there is one.
// With none needed, one that MYRIGHTS speaks of will do.
func (s *session) lookup(v *mailstore.View, name string, need mailstore.Rights) (userBox, error) {
	m, err := v.MailboxByName(s.account.ID, name)
	if err == nil {
		return userBox{m, mailstore.AllRights}, nil
	}
	return s.others.lookup(v, name, need, err)
}

// lookup is for names that are not of one's own mailboxes, which err says.
func (o *others) lookup(v *mailstore.View, name string, need mailstore.Rights, err error) (userBox, error) {
	if !reserved(normal(name)) || !errors.Is(err, mailstore.ErrNotFound) && !errors.Is(err, mailstore.ErrName) {
		return userBox{}, err
	}
	id, there := o.id(normal(name))
	if !there {
		return userBox{}, mailstore.ErrNotFound
	}
	b, err := o.box(v, id)
	switch {
	case err != nil:
		return userBox{}, err
	case need == 0 && b.rights.Any(rightsVisible), need != 0 && b.rights.Has(need):
		return b, nil
	case b.rights.Has(mailstore.RightLookup):
		return userBox{}, noPermission()
	}
	return userBox{}, mailstore.ErrNotFound
}

// noPermission refuses what the rights do not allow to do to a mailbox that the
// user may see.
func noPermission() error {
	return refuse("NOPERM", "You do not have the right to do that to this mailbox")
}

// id finds a mailbox by name; INBOX is without regard to case.
func (o *others) id(name string) (mailstore.MailboxID, bool) {
	if id, there := o.names[name]; there {
		return id, true
	}
	for root := range o.roots {
		rest, below := strings.CutPrefix(name, root+"/")
		if !below {
			continue
		}
		if clean, err := mailstore.CleanName(rest); err == nil {
			id, there := o.names[root+"/"+clean]
			return id, there
		}
	}
	return 0, false
}

// below tells whether the user may see a mailbox below a name.
func (o *others) below(name string) bool {
	for _, f := range o.boxes {
		if strings.HasPrefix(f.name, name+"/") && f.rights.Has(mailstore.RightLookup) {
			return true
		}
	}
	return false
}

// box reads a mailbox of another account, and the rights to it as they are in v.
func (o *others) box(v *mailstore.View, id mailstore.MailboxID) (userBox, error) {
	m, err := v.Mailbox(id)
	if err != nil {
		return userBox{}, err
	}
	rights, err := v.Rights(o.user, id)
	m.Name, m.SpecialUse, m.Subscribed = o.boxes[id].name, "", false
	return userBox{m, rights}, err
}

// visible lists the user's own mailboxes, and those of others to which he has all
// of these rights.
func (s *session) visible(v *mailstore.View, need mailstore.Rights) ([]mailstore.Mailbox, error) {
	list, err := v.Mailboxes(s.account.ID)
	if err != nil || len(s.others.boxes) == 0 {
		return list, err
	}
	subscribed := make(map[string]bool)
	names, err := v.Subscriptions(s.account.ID)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		subscribed[name] = true
	}
	own := make(map[string]bool)
	for i := range list {
		own[list[i].Name] = true
	}
	for _, id := range slices.Sorted(maps.Keys(s.others.boxes)) {
		if !s.others.boxes[id].rights.Has(need) {
			continue
		}
		m, err := s.others.box(v, id)
		if errors.Is(err, mailstore.ErrNotFound) || err == nil && (!m.rights.Has(need) || own[m.Name]) {
			continue
		}
		if err != nil {
			return nil, err
		}
		f := s.others.boxes[id]
		f.rights = m.rights // for rightsTo, as they are in v
		s.others.boxes[id] = f
		m.Subscribed = subscribed[m.Name]
		list = append(list, m.Mailbox)
	}
	return list, nil
}

// rightsTo are those to a mailbox that visible listed.
func (s *session) rightsTo(m *mailstore.Mailbox) mailstore.Rights {
	if m.Account == s.account.ID {
		return mailstore.AllRights
	}
	return s.others.boxes[m.ID].rights
}

// site is where a mailbox of a new name would be.
type site struct {
	account mailstore.AccountID
	name    string // within the account
}

// newSite finds the place of a new mailbox. In the tree of another account the
// nearest mailbox above it has to allow it (RFC 4314 section 4).
func (s *session) newSite(v *mailstore.View, name string) (site, error) {
	if !reserved(name) {
		return site{s.account.ID, name}, nil
	}
	no := refuse("NOPERM", "You may not create mailboxes there")
	at := site{}
	for root, account := range s.others.roots {
		if rest, below := strings.CutPrefix(name, root+"/"); below {
			at = site{account, rest}
		}
	}
	if at.account == 0 {
		return at, no
	}
	clean, err := mailstore.CleanName(at.name)
	if err != nil {
		return at, err
	}
	at.name = clean
	for above := parent(clean); above != ""; above = parent(above) {
		m, err := v.MailboxByName(at.account, above)
		if errors.Is(err, mailstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return at, err
		}
		rights, err := v.Rights(s.account.ID, m.ID)
		if err == nil && !rights.Has(mailstore.RightCreate) {
			err = no
		}
		if err != nil {
			return at, err
		}
		return at, s.vacant(v, at, no)
	}
	return at, no
}

// vacant refuses with no what has the name already, where the user may not see it.
func (s *session) vacant(v *mailstore.View, at site, no error) error {
	m, err := v.MailboxByName(at.account, at.name)
	if errors.Is(err, mailstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	rights, err := v.Rights(s.account.ID, m.ID)
	if err == nil && !rights.Has(mailstore.RightLookup) {
		err = no
	}
	return err
}

// still gives the user's rights to the selected mailbox as they are in v: for what a
// transaction does, those with which the command began may be too old. Without all that
// are needed it refuses. One that was deleted has the rights that it had.
func (s *session) still(v *mailstore.View, need mailstore.Rights) (mailstore.Rights, error) {
	b := s.box
	if b.account == s.account.ID {
		return mailstore.AllRights, nil
	}
	if _, err := v.Mailbox(b.id); errors.Is(err, mailstore.ErrNotFound) {
		return b.rights, nil
	}
	rights, err := v.Rights(s.account.ID, b.id)
	if err == nil && !rights.Has(need) {
		err = noPermission()
	}
	return rights, err
}

// gone tells whether a mailbox is not there any more.
func (s *session) gone(ctx context.Context, id mailstore.MailboxID) bool {
	err := s.srv.o.Store.View(ctx, func(v *mailstore.View) error {
		_, err := v.Mailbox(id)
		return err
	})
	return errors.Is(err, mailstore.ErrNotFound)
}

// may tells whether the rights allow something in the selected mailbox, which is
// open for writing.
func (b *selection) may(r mailstore.Rights) bool { return !b.readOnly() && b.rights.Has(r) }

// appendPermanent appends the flags that the user can change, as an untagged OK
// without its end.
func (b *selection) appendPermanent(out []byte) []byte {
	out = append(out, "* OK [PERMANENTFLAGS "...)
	flags, more := mailstore.Flags{}, ""
	if !b.readOnly() {
		flags = b.rights.Changes(b.flagList())
		if b.rights.Has(mailstore.RightWrite) {
			more = `\*`
		}
	}
	out = appendFlags(out, flags, more)
	return append(out, "] Permanent flags"...)
}
