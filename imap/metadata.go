package imap

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"postrider/imap/syntax"
	"postrider/mailstore"
)

// Entries that are not stored, but computed.
const (
	// entryUse is the special use of a mailbox (RFC 6154 section 4).
	entryUse = "/private/specialuse"
	// entryAdmin tells how to reach the administrator (RFC 5464 section 3.2.1.1).
	entryAdmin = "/shared/admin"
)

// root is the name of an entry as GETMETADATA has it, where a level above others
// can be asked for with a DEPTH too.
func root(name string) (string, error) {
	clean, err := mailstore.CleanEntry(name)
	if err == nil {
		return clean, nil
	}
	// What is below the name could be an entry.
	if _, below := mailstore.CleanEntry(name + "/x/x/x"); len(name) <= mailstore.MaxAnnotationName-6 && below == nil {
		return strings.ToLower(name), nil
	}
	return "", badEntry(err)
}

// badEntry refuses the name of an entry (RFC 5464 section 3.2: with BAD).
func badEntry(err error) error {
	return bad("That is no name of an entry: " + strings.TrimPrefix(err.Error(), mailstore.ErrAnnotation.Error()+": "))
}

func roots(names []string) ([]string, error) {
	list := make([]string, 0, len(names))
	for _, name := range names {
		entry, err := root(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(list, entry) {
			list = append(list, entry)
		}
	}
	return list, nil
}

// place is what annotations are of: a mailbox, or with box nil the server.
type place struct {
	name   string
	box    *mailstore.Mailbox
	rights mailstore.Rights
}

// placeOf finds the mailbox of that name; "" is the server.
func (s *session) placeOf(v *mailstore.View, name string) (place, error) {
	if name == "" {
		return place{}, nil
	}
	m, err := s.lookup(v, name, mailstore.RightLookup)
	if err == nil && !m.rights.Any(rightsToNote) {
		err = noPermission()
	}
	return place{m.Name, &m.Mailbox, m.rights}, err
}

// rightsToNote: to read annotations and set one's own, a user has one of these,
// and l (RFC 5464 section 3.3); for shared ones w, which that leaves to us.
const rightsToNote = mailstore.RightRead | mailstore.RightSeen | mailstore.RightWrite | mailstore.RightInsert | mailstore.RightPost

func (p *place) id() mailstore.MailboxID {
	if p.box == nil {
		return 0
	}
	return p.box.ID
}

// ownerOf is the account that a place belongs to.
func (s *session) ownerOf(p *place) mailstore.AccountID {
	if p.box == nil {
		return s.account.ID
	}
	return p.box.Account
}

// notes lists all that the user sees of annotations, computed ones included, by
// entry.
func (s *session) notes(v *mailstore.View, p *place) ([]mailstore.Annotation, error) {
	list, err := v.Annotations(s.ownerOf(p), p.id(), s.account.ID)
	if err != nil {
		return nil, err
	}
	more := mailstore.Annotation{Entry: entryAdmin}
	if p.box == nil {
		_, domain, _ := strings.Cut(s.account.Address, "@")
		more.Value = []byte("mailto:postmaster@" + domain)
	} else if use := useOf(p.box); use != "" {
		more = mailstore.Annotation{Entry: entryUse, Value: []byte(use)}
	} else {
		return list, nil
	}
	at, _ := slices.BinarySearchFunc(list, more.Entry, func(n mailstore.Annotation, entry string) int { return strings.Compare(n.Entry, entry) })
	return slices.Insert(list, at, more), nil
}

// wanted tells whether an entry is one of those asked for, or within depth below
// one.
func wanted(entry string, roots []string, depth int) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		rest, ok := strings.CutPrefix(entry, root)
		return ok && (rest == "" || depth > 0 && rest[0] == '/' && strings.Count(rest, "/") <= depth)
	})
}

// appendNotes appends a METADATA response with values; none where there is
// nothing to tell. longest is the size of the largest value beyond a MAXSIZE, 0
// for none.
func (s *session) appendNotes(b []byte, v *mailstore.View, p *place, g *syntax.GetMetadata) (_ []byte, longest int, err error) {
	list, err := s.notes(v, p)
	if err != nil {
		return b, 0, err
	}
	if g.Depth == 0 { // what is asked for and not there is NIL
		all := list
		list = make([]mailstore.Annotation, len(g.Entries))
		for i, entry := range g.Entries {
			list[i].Entry = entry
			if at := slices.IndexFunc(all, func(n mailstore.Annotation) bool { return n.Entry == entry }); at >= 0 {
				list[i] = all[at]
			}
		}
	}
	told := false
	for _, n := range list {
		switch {
		case !wanted(n.Entry, g.Entries, g.Depth):
			continue
		case g.HasMaxSize && len(n.Value) > int(g.MaxSize):
			longest = max(longest, len(n.Value))
			continue
		}
		if !told {
			b = s.appendPlace(b, p)
			b = append(b, '(')
			told = true
		} else {
			b = append(b, ' ')
		}
		b = syntax.AppendAString(b, n.Entry)
		b = append(b, ' ')
		b = syntax.AppendValue(b, n.Value)
	}
	if told {
		b = append(b, ")\r\n"...)
	}
	return b, longest, nil
}

// appendPlace begins a METADATA response.
func (s *session) appendPlace(b []byte, p *place) []byte {
	b = append(b, "* METADATA "...)
	if p.box == nil {
		return append(b, `"" `...)
	}
	return append(syntax.AppendMailbox(b, p.name, s.enabled.wide()), ' ')
}

// cmdGetMetadata is GETMETADATA (RFC 5464 section 4.2).
func (s *session) cmdGetMetadata(ctx context.Context, c *call) error {
	g := c.p.GetMetadata()
	name := s.decode(c, g.Mailbox)
	err := c.p.End()
	if err != nil {
		return err
	}
	if g.Entries, err = roots(g.Entries); err != nil {
		return err
	}
	return s.view(ctx, "getmetadata", func(v *mailstore.View) error {
		p, err := s.placeOf(v, name)
		if err != nil {
			return err
		}
		b, longest, err := s.appendNotes(s.out.begin(), v, &p, &g)
		if err != nil {
			return err
		}
		s.out.keep(b)
		if longest > 0 {
			c.code = "METADATA LONGENTRIES " + strconv.Itoa(longest)
		}
		return nil
	})
}

// cmdSetMetadata is SETMETADATA (RFC 5464 section 4.3): all of it happens, or
// nothing.
func (s *session) cmdSetMetadata(ctx context.Context, c *call) error {
	name := s.name(c)
	c.p.SP()
	values := c.p.EntryValues()
	if err := c.p.End(); err != nil {
		return err
	}
	changes := make([]mailstore.Annotation, len(values))
	for i, e := range values {
		entry, err := mailstore.CleanEntry(e.Entry)
		if err != nil {
			return badEntry(err)
		}
		changes[i] = mailstore.Annotation{Entry: entry, Value: e.Value}
	}
	for _, n := range changes {
		switch {
		case len(n.Value) > mailstore.MaxAnnotationSize:
			return refuse(codeMaxSize(), "That value is too large")
		case name == "" && !n.Private():
			return refuse("NOPERM", "Shared entries of the server are the administrator's")
		}
	}
	return s.change(ctx, "setmetadata", func(tx *mailstore.Tx) error {
		p, err := s.placeOf(&tx.View, name)
		if err != nil {
			return err
		}
		if err := s.mayNote(&p, changes); err != nil {
			return err
		}
		stored := changes[:0:0]
		for _, n := range changes {
			if n.Entry != entryUse || p.box == nil {
				stored = append(stored, n)
			} else if err := s.setUse(tx, p.box, string(n.Value)); err != nil {
				return err
			}
		}
		err = tx.Annotate(s.ownerOf(&p), p.id(), s.account.ID, s.noted, stored)
		if errors.Is(err, mailstore.ErrLimit) {
			return refuse("METADATA TOOMANY", "There are too many annotations: remove some first")
		}
		return err
	})
}

// mayNote refuses shared entries of another's mailbox where the right to write is
// missing, private ones that are too large there, and its special use, which is its
// owner's.
func (s *session) mayNote(p *place, changes []mailstore.Annotation) error {
	if p.box == nil || p.box.Account == s.account.ID {
		return nil
	}
	for i := range changes {
		if changes[i].Private() && len(changes[i].Value) > mailstore.MaxOthersAnnotationSize {
			return refuse("METADATA MAXSIZE "+strconv.Itoa(mailstore.MaxOthersAnnotationSize), "That value is too large for a mailbox of another")
		}
		if changes[i].Entry == entryUse || !changes[i].Private() && !p.rights.Has(mailstore.RightWrite) {
			return noPermission()
		}
	}
	return nil
}

// codeMaxSize is the response code for a value that is too large.
func codeMaxSize() string { return "METADATA MAXSIZE " + strconv.Itoa(mailstore.MaxAnnotationSize) }

// setUse gives a mailbox a special use as CREATE would, or with "" none (RFC 6154
// section 4).
func (s *session) setUse(tx *mailstore.Tx, box *mailstore.Mailbox, value string) error {
	use, err := specialUse(strings.Fields(value))
	if err != nil {
		return err
	}
	if box.Name == mailstore.Inbox && use != "" {
		return refuse("USEATTR", "INBOX has no special use")
	}
	if err := unused(tx, box.Account, use, box.ID); err != nil {
		return err
	}
	return tx.SetSpecialUse(box.ID, use)
}

// watchNotes begins to tell of annotations that others change (RFC 5464 section
// 4.1).
func (s *session) watchNotes() {
	if s.noted == nil {
		s.noted = s.srv.o.Store.WatchAnnotations(s.account.ID)
	}
}

// forgetNotes ends that.
func (s *session) forgetNotes() {
	if s.noted != nil {
		s.noted.Close()
		s.noted = nil
	}
}

// tellNotes writes METADATA responses without values (RFC 5464 section 4.4.2) for
// what others changed since the last time.
func (s *session) tellNotes(ctx context.Context) error {
	if s.noted == nil {
		return nil
	}
	changes, complete := s.noted.Take()
	if len(changes) == 0 {
		return nil
	}
	// What it could not tell now it does not tell later: no client may rely on it.
	_ = s.srv.o.Store.View(ctx, func(v *mailstore.View) error {
		boxes, err := v.Mailboxes(s.account.ID)
		if err != nil {
			return err
		}
		places := []place{{}}
		for i := range boxes {
			places = append(places, place{boxes[i].Name, &boxes[i], mailstore.AllRights})
		}
		for i := range places {
			if !s.wantsNotes(&places[i]) {
				continue
			}
			entries, err := s.changedNotes(v, &places[i], changes, complete)
			if err != nil {
				return err
			}
			s.tellEntries(&places[i], entries)
		}
		return nil
	})
	return s.out.err
}

// changedNotes lists the entries of a place to tell of; where changes are not
// complete all that there are, too.
func (s *session) changedNotes(v *mailstore.View, p *place, changes []mailstore.AnnotationChange, complete bool) (entries []string, err error) {
	for _, c := range changes {
		if c.Mailbox == p.id() {
			entries = append(entries, c.Entry)
		}
	}
	if complete {
		return entries, nil
	}
	list, err := v.Annotations(s.account.ID, p.id(), s.account.ID)
	for _, n := range list {
		if !slices.Contains(entries, n.Entry) {
			entries = append(entries, n.Entry)
		}
	}
	return entries, err
}

// tellEntries writes one METADATA response without values.
func (s *session) tellEntries(p *place, entries []string) {
	if len(entries) == 0 {
		return
	}
	b := s.appendPlace(s.out.begin(), p)
	for _, entry := range entries {
		b = append(syntax.AppendAString(b, entry), ' ')
	}
	s.out.end(append(b[:len(b)-1], '\r', '\n'))
}
