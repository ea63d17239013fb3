package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"postrider/mailstore"
)

// allow sets an entry of an access control list, in letters.
func (s *suite) allow(m mailstore.MailboxID, identifier string, how mailstore.RightsChange, letters string) error {
	rights, err := mailstore.ParseRights(letters)
	s.ok(err)
	return s.store.Update(s.Context(), func(tx *mailstore.Tx) error { return tx.SetACL(m, identifier, how, rights) })
}

// allowed is the access control list of a mailbox.
func (s *suite) allowed(m mailstore.MailboxID) (list []string) {
	s.Helper()
	s.view(func(v *mailstore.View) error {
		entries, err := v.ACL(m)
		for _, e := range entries {
			list = append(list, e.Identifier+" "+e.Rights.String())
		}
		return err
	})
	return list
}

// may is what an account may do, in letters.
func (s *suite) may(a mailstore.AccountID, m mailstore.MailboxID) (rights string) {
	s.Helper()
	s.view(func(v *mailstore.View) error {
		r, err := v.Rights(a, m)
		rights = r.String()
		return err
	})
	return rights
}

// grants are the mailboxes of others that an account may do something to.
func (s *suite) grants(a mailstore.AccountID) (list []string) {
	s.Helper()
	s.view(func(v *mailstore.View) error {
		all, err := v.Granted(a)
		for _, g := range all {
			list = append(list, fmt.Sprint(g.Account, " ", g.Name, " ", g.Rights))
		}
		return err
	})
	return list
}

func (s *suite) rights() {
	bob, inbox := s.account("bob@example.org")
	eve, other := s.account("eve@example.org")
	dan, _ := s.account("dan@example.net")
	version := s.store.RightsVersion()
	woken := 0
	w := s.store.WatchRights(func() { woken++ })
	s.equal(s.may(bob, inbox), "lrswipkxtea")
	s.equal(s.may(eve, inbox), "")
	s.equal(s.may(eve, 999), "")
	s.equal(s.may(999, inbox), "")
	s.ok(s.allow(inbox, "eve@example.org", mailstore.ReplaceRights, "lrs"))
	s.ok(s.allow(inbox, mailstore.Anyone, mailstore.ReplaceRights, "lrd"))
	s.ok(s.allow(inbox, "@example.net", mailstore.AddRights, "i"))
	s.ok(s.allow(inbox, "-dan@example.net", mailstore.AddRights, "ri"))
	check := func() {
		s.equal(s.allowed(inbox), []string{"-dan@example.net ri", "@example.net i", "anyone lrte", "eve@example.org lrs"})
		s.equal(s.may(eve, inbox), "lrste")
		s.equal(s.may(dan, inbox), "lte")
		s.equal(s.may(bob, inbox), "lrswipkxtea")
		s.equal(s.may(dan, other), "")
		s.equal(s.grants(eve), []string{fmt.Sprint(bob, " INBOX lrste")})
		s.equal(s.grants(dan), []string{fmt.Sprint(bob, " INBOX lte")})
		s.equal(s.grants(bob), []string(nil))
		s.equal(s.grants(999), []string(nil))
	}
	check()
	if now := s.store.RightsVersion(); now != version+4 {
		s.Errorf("version of rights %d, then %d", version, now)
	}
	s.equal(woken, 4)
	w.Close()
	w.Close()
	s.reopened()
	check()
	version = s.store.RightsVersion()
	s.is(s.allow(inbox, "bob@example.org", mailstore.ReplaceRights, "l"), mailstore.ErrOwner)
	s.is(s.allow(inbox, "-bob@example.org", mailstore.AddRights, "l"), mailstore.ErrOwner)
	s.is(s.allow(999, mailstore.Anyone, mailstore.ReplaceRights, "l"), mailstore.ErrNotFound)
	s.ok(s.allow(inbox, "eve@example.org", mailstore.AddRights, "r")) // has it
	s.is(s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
		s.ok(tx.SetACL(inbox, mailstore.Anyone, mailstore.ReplaceRights, 0))
		return errNo
	}), errNo)
	check()
	s.equal(s.store.RightsVersion(), version)
	// What is taken away from everyone is taken away from all but the owner.
	s.ok(s.allow(inbox, "-anyone", mailstore.ReplaceRights, "lrswipcda"))
	s.equal(s.may(eve, inbox)+s.may(dan, inbox), "")
	s.equal(s.grants(eve), []string(nil))
	s.equal(s.may(bob, inbox), "lrswipkxtea")
	for _, id := range []string{"-anyone", "eve@example.org", "anyone", "@example.net", "-dan@example.net", "nobody@example.org"} {
		s.ok(s.allow(inbox, id, mailstore.ReplaceRights, ""))
	}
	s.equal(s.allowed(inbox), []string(nil))
	s.update(func(tx *mailstore.Tx) error { return tx.CreateDomain("example.org") })
	s.identifiers()
}

// identifiers: only whom there is can be in a list.
func (s *suite) identifiers() {
	s.view(func(v *mailstore.View) error {
		for in, want := range map[string]string{
			"Bob@Example.ORG": "bob@example.org", "-EVE@example.org": "-eve@example.org", "ANYONE": "anyone", "-anyone": "-anyone",
			"@example.ORG": "@example.org", "-@example.org": "-@example.org",
			"nobody@example.org": "", "@example.com": "", "": "", "-": "", "--anyone": "", "bob": "bob@example.org", "-Bob": "-bob@example.org", "eve@EXAMPLE.org": "eve@example.org", "nobody": "", "@": "", "anyone ": "",
			strings.Repeat("x", mailstore.MaxIdentifier+1): "",
		} {
			got, err := v.CleanIdentifier(in)
			if (err == nil) != (want != "") || err == nil && got != want || err != nil && !errors.Is(err, mailstore.ErrIdentifier) {
				s.Errorf("identifier %q: %q, %v", in, got, err)
			}
		}
		return nil
	})
	// A domain that comes again finds no rights of the one that went.
	dan, inbox := s.account("dan@example.org")
	ann, _ := s.account("ann@example.org")
	s.ok(s.allow(inbox, "@example.org", mailstore.ReplaceRights, "l"))
	s.equal(s.may(ann, inbox), "l")
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteDomain("example.org") })
	s.equal(s.may(ann, inbox), "")
	s.equal(s.may(dan, inbox), "lrswipkxtea")
}

// rightsAndNames: rights go with the mailbox, and come from the one above it.
func (s *suite) rightsAndNames() {
	bob, inbox := s.account("bob@example.org")
	eve, _ := s.account("eve@example.org")
	work := s.create(bob, "Work").ID
	s.ok(s.allow(work, "eve@example.org", mailstore.ReplaceRights, "lr"))
	s.ok(s.allow(inbox, "eve@example.org", mailstore.ReplaceRights, "lrs"))
	deep := s.create(bob, "Work/a/b").ID
	s.equal(s.may(eve, deep), "lr")
	s.equal(s.may(eve, s.create(bob, "Play").ID), "")
	s.ok(s.allow(deep, "eve@example.org", mailstore.AddRights, "i"))
	s.equal(s.may(eve, work), "lr")
	s.update(func(tx *mailstore.Tx) error { return tx.RenameMailbox(work, "Play/Work") })
	s.equal(s.may(eve, work), "lr")
	s.equal(s.may(eve, deep), "lri")
	s.equal(s.grants(eve), []string{fmt.Sprint(bob, " INBOX lrs"), fmt.Sprint(bob, " Play/Work lr"), fmt.Sprint(bob, " Play/Work/a/b lri")})
	version := s.store.RightsVersion()
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteMailbox(work) })
	if s.store.RightsVersion() == version {
		s.Error("the version of rights stayed")
	}
	s.equal(s.may(eve, work), "")
	s.equal(s.may(eve, s.create(bob, "Play/Work").ID), "")
	s.equal(s.allowed(work), []string(nil))
	// INBOX keeps its rights, and its messages go where the new name is.
	s.update(func(tx *mailstore.Tx) error { return tx.RenameMailbox(inbox, "Old") })
	s.equal(s.may(eve, inbox), "lrs")
	s.equal(s.grants(eve), []string{fmt.Sprint(bob, " INBOX lrs"), fmt.Sprint(bob, " Play/Work/a/b lri")})
}

// rightsAndAccounts: whoever gets the address of an account that is gone does
// not get its rights, and an address that changes takes them along.
func (s *suite) rightsAndAccounts() {
	bob, inbox := s.account("bob@example.org")
	eve, mine := s.account("eve@example.org")
	s.ok(s.allow(inbox, "eve@example.org", mailstore.ReplaceRights, "lr"))
	s.ok(s.allow(inbox, "-eve@example.org", mailstore.ReplaceRights, "s"))
	s.ok(s.allow(mine, "bob@example.org", mailstore.ReplaceRights, "lr"))
	s.update(func(tx *mailstore.Tx) error {
		return tx.UpdateAccount(mailstore.Account{ID: eve, Address: "eva@example.org", Shared: true})
	})
	s.equal(s.allowed(inbox), []string{"-eva@example.org s", "eva@example.org lr"})
	s.equal(s.may(eve, inbox), "lr")
	s.reopened()
	s.view(func(v *mailstore.View) error {
		a, err := v.Account(eve)
		s.equal(a.Shared, true)
		return err
	})
	s.equal(s.grants(bob), []string{fmt.Sprint(eve, " INBOX lr")})
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteAccount(eve) })
	s.equal(s.allowed(inbox), []string(nil))
	s.equal(s.allowed(mine), []string(nil))
	s.equal(s.grants(bob), []string(nil))
	again, _ := s.account("eva@example.org")
	s.equal(s.may(again, inbox), "")
}

// rightsLimits: one more than the limit is refused, and changes nothing.
func (s *suite) rightsLimits() {
	bob, inbox := s.account("bob@example.org")
	s.update(func(tx *mailstore.Tx) error {
		for i := range mailstore.MaxACL {
			if err := tx.SetACL(inbox, fmt.Sprint("a", i, "@example.org"), mailstore.ReplaceRights, mailstore.RightRead); err != nil {
				return err
			}
		}
		return nil
	})
	s.is(s.allow(inbox, mailstore.Anyone, mailstore.ReplaceRights, "r"), mailstore.ErrLimit)
	s.ok(s.allow(inbox, "a7@example.org", mailstore.AddRights, "l"))
	s.equal(len(s.allowed(inbox)), mailstore.MaxACL)
	s.equal(len(s.allowed(s.create(bob, "INBOX/below").ID)), mailstore.MaxACL)
}

// flagsByRights: flags that somebody may not change stay as they are.
func (s *suite) flagsByRights() {
	bob, inbox := s.account("bob@example.org")
	_, other := s.account("eve@example.org")
	work := s.create(bob, "Work").ID
	uids := s.append(inbox, "Subject: x\r\n\r\nx\r\n")
	flags := func(m mailstore.MailboxID) string {
		list := s.messages(m)
		return flagText(list[len(list)-1].Flags)
	}
	all := mailstore.Flags{System: mailstore.Seen | mailstore.Deleted | mailstore.Flagged | mailstore.Answered | mailstore.Draft, Keywords: []string{"k"}}
	set := func(letters string, how mailstore.FlagChange, f mailstore.Flags) string {
		rights, err := mailstore.ParseRights(letters)
		s.ok(err)
		s.update(func(tx *mailstore.Tx) error {
			_, _, err := tx.SetFlagsAs(rights, inbox, uids, how, f, 0)
			return err
		})
		return flags(inbox)
	}
	none := flags(inbox)
	s.equal(set("lrip", mailstore.ReplaceFlags, all), none)
	seen := set("s", mailstore.ReplaceFlags, all)
	s.equal(seen, flagText(mailstore.Flags{System: mailstore.Seen}))
	s.equal(set("t", mailstore.ReplaceFlags, mailstore.Flags{}), seen)
	s.equal(set("t", mailstore.AddFlags, all), flagText(mailstore.Flags{System: mailstore.Seen | mailstore.Deleted}))
	s.equal(set("w", mailstore.AddFlags, all), flagText(all))
	s.equal(set("wt", mailstore.RemoveFlags, all), seen)
	s.equal(set("wst", mailstore.ReplaceFlags, all), flagText(all))
	for _, c := range []struct {
		rights mailstore.Rights
		want   mailstore.Flags
	}{
		{0, mailstore.Flags{}},
		{mailstore.RightInsert | mailstore.RightSeen, mailstore.Flags{System: mailstore.Seen}},
		{mailstore.RightWrite, mailstore.Flags{System: mailstore.Flagged | mailstore.Answered | mailstore.Draft, Keywords: []string{"k"}}},
		{mailstore.AllRights, all},
	} {
		for _, to := range []mailstore.MailboxID{other, work} {
			s.update(func(tx *mailstore.Tx) error {
				_, _, err := tx.CopyAs(c.rights, inbox, uids, to)
				return err
			})
			s.equal(flags(to), flagText(c.want))
		}
	}
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.MoveAs(mailstore.RightTrash, inbox, uids, work)
		return err
	})
	s.equal(flags(work), flagText(mailstore.Flags{System: mailstore.Deleted}))
}

// foreignThreads: a message that goes to another account belongs to a
// conversation there.
func (s *suite) foreignThreads() {
	_, inbox := s.account("bob@example.org")
	_, other := s.account("eve@example.org")
	first := "Message-ID: <1@x>\r\nSubject: a\r\n\r\n1\r\n"
	s.append(other, first)
	uids := s.append(inbox, first, "Message-ID: <2@x>\r\nIn-Reply-To: <1@x>\r\nSubject: Re: a\r\n\r\n2\r\n")
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.Move(inbox, uids[1:], other)
		return err
	})
	mine, hers := s.messages(inbox), s.messages(other)
	s.equal(hers[1].Thread, hers[0].Thread)
	if mine[0].Thread == hers[0].Thread {
		s.Error("two accounts share a conversation")
	}
}

// foreignCopies: what goes to another account counts there, and its body is
// shared.
func (s *suite) foreignCopies() {
	bob, inbox := s.account("bob@example.org")
	eve, other := s.account("eve@example.org")
	text := "Subject: x\r\n\r\n" + strings.Repeat("large\r\n", 20000)
	uids := s.append(inbox, text, "Subject: y\r\n\r\nsmall\r\n")
	used := func(a mailstore.AccountID) (n int64) {
		s.view(func(v *mailstore.View) error {
			u, _, err := v.Usage(a)
			n = u.Messages
			return err
		})
		return n
	}
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.Copy(inbox, uids, other)
		return err
	})
	s.equal(used(bob), int64(2))
	s.equal(used(eve), int64(2))
	mine, hers := s.messages(inbox), s.messages(other)
	s.equal(hers[0].Body, mine[0].Body)
	s.update(func(tx *mailstore.Tx) error {
		_, _, err := tx.Move(inbox, uids[:1], other)
		return err
	})
	s.equal(used(bob), int64(1))
	s.equal(used(eve), int64(3))
	s.update(func(tx *mailstore.Tx) error {
		return tx.UpdateAccount(mailstore.Account{ID: eve, Address: "eve@example.org", Quota: mailstore.Quota{Messages: 3}})
	})
	for _, move := range []bool{false, true} {
		err := s.store.Update(s.Context(), func(tx *mailstore.Tx) (err error) {
			if move {
				_, _, err = tx.Move(inbox, uids[1:], other)
			} else {
				_, _, err = tx.Copy(inbox, uids[1:], other)
			}
			return err
		})
		s.is(err, mailstore.ErrQuota)
	}
	s.equal(used(bob), int64(1))
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteAccount(bob) })
	s.equal(s.texts(other), []string{text, "Subject: y\r\n\r\nsmall\r\n", text})
}

// urlKeys: a key is one account's and one mailbox's, and goes with either.
func (s *suite) urlKeys() {
	bob, inbox := s.account("bob@example.org")
	eve, other := s.account("eve@example.org")
	work := s.create(bob, "Work").ID
	key := func(a mailstore.AccountID, m mailstore.MailboxID) (text string) {
		s.view(func(v *mailstore.View) error {
			k, err := v.URLKey(a, m)
			text = string(k)
			if errors.Is(err, mailstore.ErrNotFound) {
				text, err = "none", nil
			}
			return err
		})
		return text
	}
	set := func(a mailstore.AccountID, m mailstore.MailboxID, k string) error {
		return s.store.Update(s.Context(), func(tx *mailstore.Tx) error { return tx.SetURLKey(a, m, []byte(k)) })
	}
	one, two := strings.Repeat("1", mailstore.MinURLKey), strings.Repeat("2", mailstore.MaxURLKey)
	s.equal(key(bob, inbox), "none")
	s.ok(set(bob, inbox, one))
	s.ok(set(bob, work, one))
	s.ok(set(eve, inbox, one))
	s.ok(set(eve, other, one))
	s.ok(set(bob, inbox, two))
	s.is(set(bob, inbox, one[1:]), mailstore.ErrLimit)
	s.is(set(bob, inbox, two+"2"), mailstore.ErrLimit)
	s.is(set(bob, 999, one), mailstore.ErrNotFound)
	s.is(set(999, inbox, one), mailstore.ErrNotFound)
	s.reopened()
	s.equal([]string{key(bob, inbox), key(bob, work), key(eve, inbox), key(eve, other), key(eve, work)}, []string{two, one, one, one, "none"})
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteURLKey(bob, inbox) })
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteURLKey(bob, inbox) })
	s.is(s.store.Update(s.Context(), func(tx *mailstore.Tx) error { return tx.DeleteURLKey(0, inbox) }), mailstore.ErrNotFound)
	s.is(s.store.Update(s.Context(), func(tx *mailstore.Tx) error { return tx.DeleteURLKey(bob, 0) }), mailstore.ErrNotFound)
	s.is(s.store.Update(s.Context(), func(tx *mailstore.Tx) error { return tx.DeleteURLKeys(0) }), mailstore.ErrNotFound)
	s.equal([]string{key(bob, inbox), key(bob, work), key(eve, inbox)}, []string{"none", one, one})
	s.update(func(tx *mailstore.Tx) error { return tx.RenameMailbox(work, "Play") })
	s.equal(key(bob, work), one)
	s.ok(set(eve, work, one))
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteMailbox(work) })
	s.equal(key(bob, work)+key(eve, work), "nonenone")
	s.ok(set(bob, inbox, one))
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteURLKeys(eve) })
	s.equal([]string{key(bob, inbox), key(eve, inbox), key(eve, other)}, []string{one, "none", "none"})
	s.ok(set(eve, inbox, one))
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteAccount(bob) })
	s.equal(key(bob, inbox)+key(eve, inbox), "nonenone")
}

// inherited is what a new mailbox gets from the one above it.
func (r *reference) inherited(name string) map[string]mailstore.Rights {
	for i := strings.LastIndexByte(name, '/'); i >= 0; i = strings.LastIndexByte(name, '/') {
		name = name[:i]
		if box := r.boxes[name]; box != nil {
			return maps.Clone(box.rights)
		}
	}
	return make(map[string]mailstore.Rights)
}

// setRights changes an entry of a list, in both.
func (r *random) setRights(tx *mailstore.Tx, box *refBox) error {
	id := rapid.SampledFrom([]string{"anyone", "-anyone", "@example.org", "eve@example.org", "-eve@example.org"}).Draw(r.t, "identifier")
	how := rapid.SampledFrom([]mailstore.RightsChange{mailstore.ReplaceRights, mailstore.AddRights, mailstore.RemoveRights}).Draw(r.t, "how")
	rights := mailstore.Rights(rapid.IntRange(0, int(mailstore.AllRights)).Draw(r.t, "rights"))
	switch how {
	case mailstore.AddRights:
		box.rights[id] |= rights
	case mailstore.RemoveRights:
		box.rights[id] &^= rights
	default:
		box.rights[id] = rights
	}
	if box.rights[id] == 0 {
		delete(box.rights, id)
	}
	return tx.SetACL(box.id, id, how, rights)
}

// setKey sets the key of URLs, or removes it, in both.
func (r *random) setKey(tx *mailstore.Tx, box *refBox) error {
	n := rapid.SampledFrom([]int{0, mailstore.MinURLKey, 30}).Draw(r.t, "key")
	if box.key = strings.Repeat("k", n); n == 0 {
		return tx.DeleteURLKey(r.account, box.id)
	}
	return tx.SetURLKey(r.account, box.id, []byte(box.key))
}

// checkRights compares access control lists and keys of URLs.
func (r *random) checkRights(m mailstore.MailboxID, box *refBox) {
	var want []string
	for _, id := range slices.Sorted(maps.Keys(box.rights)) {
		want = append(want, id+" "+box.rights[id].String())
	}
	if got := r.allowed(m); !slices.Equal(got, want) {
		r.t.Fatalf("rights to mailbox %d: %q, want %q", m, got, want)
	}
	r.view(func(v *mailstore.View) error {
		key, err := v.URLKey(r.account, m)
		if string(key) != box.key || (err == nil) != (box.key != "") {
			r.t.Fatalf("key of mailbox %d: %q, %v, want %q", m, key, err, box.key)
		}
		return nil
	})
}

// manyGranted: an account finds so many mailboxes of others by what is open to
// anyone, and those that name it besides.
func (s *suite) manyGranted() {
	bob, _ := s.account("bob@example.org")
	eve, _ := s.account("eve@example.org")
	var last mailstore.MailboxID
	s.update(func(tx *mailstore.Tx) error {
		for i := range mailstore.MaxGranted + 1 {
			box, err := tx.CreateMailbox(bob, fmt.Sprint("m", i), "")
			if err != nil {
				return err
			}
			last = box.ID
			if err := tx.SetACL(last, mailstore.Anyone, mailstore.ReplaceRights, mailstore.RightLookup); err != nil {
				return err
			}
		}
		box, err := tx.CreateMailbox(bob, "one too many", "")
		if err != nil {
			return err
		}
		err = tx.SetACL(box.ID, mailstore.Anyone, mailstore.ReplaceRights, mailstore.RightLookup)
		return errors.Join(err, tx.SetACL(last, "eve@example.org", mailstore.ReplaceRights, mailstore.RightRead))
	})
	list := s.grants(eve)
	s.equal(len(list), mailstore.MaxGranted+1)
	s.equal(list[len(list)-1], fmt.Sprint(bob, " m", mailstore.MaxGranted, " lr"))
}
