package storetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"postrider/mailstore"
)

// noted is what an account sees of annotations, as entry=value.
func (s *suite) noted(a mailstore.AccountID, m mailstore.MailboxID) (list []string) {
	s.Helper()
	s.view(func(v *mailstore.View) error {
		all, err := v.Annotations(a, m, a)
		for _, n := range all {
			list = append(list, n.Entry+"="+string(n.Value))
		}
		return err
	})
	return list
}

// note sets an annotation; value "-" removes it.
func (s *suite) note(a mailstore.AccountID, m mailstore.MailboxID, entry, value string) error {
	c := mailstore.Annotation{Entry: entry, Value: []byte(value)}
	if value == "-" {
		c.Value = nil
	}
	return s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
		return tx.Annotate(a, m, a, nil, []mailstore.Annotation{c})
	})
}

func annotation(entry, value string) mailstore.Annotation {
	return mailstore.Annotation{Entry: entry, Value: []byte(value)}
}

func (s *suite) annotations() {
	a, inbox := s.account("bob@example.org")
	b, other := s.account("eve@example.org")
	work := s.create(a, "Work").ID
	for _, n := range []struct {
		m            mailstore.MailboxID
		entry, value string
	}{
		{inbox, "/private/comment", "mine"}, {inbox, "/Shared/Comment", "a\x00b\r\n\xff"}, {work, "/private/comment", ""},
		{0, "/private/vendor/x/y", "server"}, {inbox, "/private/comment", "mine, anew"}, {work, "/shared/comment", "x"}, {work, "/shared/comment", "-"},
		{work, "/shared/none", "-"},
	} {
		s.ok(s.note(a, n.m, n.entry, n.value))
	}
	check := func() {
		s.equal(s.noted(a, inbox), []string{"/private/comment=mine, anew", "/shared/comment=a\x00b\r\n\xff"})
		s.equal(s.noted(a, work), []string{"/private/comment="})
		s.equal(s.noted(a, 0), []string{"/private/vendor/x/y=server"})
		s.equal(s.noted(b, other), []string(nil))
		s.equal(s.noted(b, 0), []string(nil))
	}
	check()
	s.reopened()
	check()
	s.view(func(v *mailstore.View) error { // what another user would see
		list, err := v.Annotations(a, inbox, b)
		s.equal(len(list), 1)
		s.equal(list[0].Entry, "/shared/comment")
		return err
	})
	s.is(s.note(a, other, "/private/comment", "x"), mailstore.ErrNotFound)
	s.is(s.note(a, 999, "/private/comment", "x"), mailstore.ErrNotFound)
	s.is(s.note(999, 0, "/private/comment", "x"), mailstore.ErrNotFound)
	for _, entry := range []string{"", "/", "/private", "/private/", "/private//x", "/other/x", "private/x", "/shared/a*", "/shared/%", "/shared/\x19",
		"/shared/ü", "/shared/\x7f", "/shared/vendor/x", "/shared/x/", "/shared/" + strings.Repeat("x", mailstore.MaxAnnotationName)} {
		s.is(s.note(a, inbox, entry, "x"), mailstore.ErrAnnotation)
	}
	check()

	// They follow the mailbox, and are not left to another of its name.
	s.update(func(tx *mailstore.Tx) error { return tx.RenameMailbox(work, "Play") })
	s.equal(s.noted(a, work), []string{"/private/comment="})
	s.update(func(tx *mailstore.Tx) error { return tx.RenameMailbox(inbox, "Old") })
	var old mailstore.Mailbox
	s.view(func(v *mailstore.View) (err error) {
		old, err = v.MailboxByName(a, "Old")
		return err
	})
	s.equal(s.noted(a, old.ID), s.noted(a, inbox))
	s.equal(len(s.noted(a, inbox)), 2)
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteMailbox(work) })
	s.equal(s.noted(a, s.create(a, "Play").ID), []string(nil))
	s.update(func(tx *mailstore.Tx) error { return tx.DeleteAccount(a) })
	s.view(func(v *mailstore.View) error {
		for _, m := range []mailstore.MailboxID{0, inbox, work, old.ID} {
			list, err := v.Annotations(a, m, a)
			s.ok(err)
			s.equal(len(list), 0)
		}
		return nil
	})
}

// annotationLimits: one more than each limit is refused, and changes nothing.
func (s *suite) annotationLimits() {
	a, inbox := s.account("bob@example.org")
	s.ok(s.note(a, inbox, "/private/big", strings.Repeat("x", mailstore.MaxAnnotationSize)))
	s.is(s.note(a, inbox, "/private/big", strings.Repeat("x", mailstore.MaxAnnotationSize+1)), mailstore.ErrLimit)
	err := s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
		for i := range mailstore.MaxAnnotations + 1 {
			n := mailstore.Annotation{Entry: fmt.Sprint("/private/n", i), Value: []byte("x")}
			if err := tx.Annotate(a, inbox, a, nil, []mailstore.Annotation{n}); err != nil {
				return err
			}
		}
		return nil
	})
	s.is(err, mailstore.ErrLimit)
	s.equal(len(s.noted(a, inbox)), 1)

	// Other users leave the owner room.
	c, _ := s.account("dan@example.org")
	s.update(func(tx *mailstore.Tx) error {
		var list []mailstore.Annotation
		for i := range mailstore.MaxOthersAnnotations {
			list = append(list, annotation(fmt.Sprint("/private/n", i), strings.Repeat("x", mailstore.MaxOthersAnnotationSize)))
		}
		return tx.Annotate(a, inbox, c, nil, list)
	})
	for entry, size := range map[string]int{"/private/more": 1, "/private/n1": mailstore.MaxOthersAnnotationSize + 1} {
		s.is(s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
			return tx.Annotate(a, inbox, c, nil, []mailstore.Annotation{annotation(entry, strings.Repeat("x", size))})
		}), mailstore.ErrLimit)
	}
	s.ok(s.note(a, inbox, "/private/own", "x"))
	s.ok(s.note(a, inbox, "/private/own", "-"))
	s.update(func(tx *mailstore.Tx) error {
		for i := range mailstore.MaxOthersAnnotations {
			if err := tx.Annotate(a, inbox, c, nil, []mailstore.Annotation{{Entry: fmt.Sprint("/private/n", i)}}); err != nil {
				return err
			}
		}
		return nil
	})

	// Octets of the account, and its rows: fill adds so many, a mailbox after the
	// other.
	fill := func(a mailstore.AccountID, box string, n, size int) error {
		return s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
			for i := 0; i < n; i += mailstore.MaxAnnotations {
				m, err := tx.CreateMailbox(a, fmt.Sprint(box, i), "")
				if err != nil {
					return err
				}
				var list []mailstore.Annotation
				for j := range min(mailstore.MaxAnnotations, n-i) {
					list = append(list, annotation(fmt.Sprint("/shared/n", j), strings.Repeat("x", size)))
				}
				if err := tx.Annotate(a, m.ID, a, nil, list); err != nil {
					return err
				}
			}
			return nil
		})
	}
	n := mailstore.MaxAnnotationStorage/mailstore.MaxAnnotationSize - 2
	s.ok(fill(a, "a", n, mailstore.MaxAnnotationSize))
	s.is(fill(a, "b", 1, mailstore.MaxAnnotationSize), mailstore.ErrLimit)
	s.ok(s.note(a, inbox, "/private/big", "-"))
	s.ok(fill(a, "b", 1, mailstore.MaxAnnotationSize))
	b, _ := s.account("eve@example.org")
	s.ok(fill(b, "a", mailstore.MaxAccountAnnotations, 1))
	s.is(fill(b, "b", 1, 1), mailstore.ErrLimit)
	s.ok(s.note(b, 0, "/private/none", "-"))
}

// annotationWatchers: others hear of changes after the commit, who made them not.
func (s *suite) annotationWatchers() {
	a, inbox := s.account("bob@example.org")
	b, _ := s.account("eve@example.org")
	woken := make(chan string, 10000)
	watch := func(name string, a mailstore.AccountID) *mailstore.AnnotationWatcher {
		w := s.store.WatchAnnotations(a)
		w.Notify(func() { woken <- name })
		return w
	}
	one, two, else_ := watch("one", a), watch("two", a), watch("else", b)
	defer one.Close()
	defer else_.Close()
	s.update(func(tx *mailstore.Tx) error {
		return tx.Annotate(a, inbox, a, one, []mailstore.Annotation{annotation("/Private/x", "1"), {Entry: "/private/x"}, annotation("/private/a", "2")})
	})
	s.is(s.store.Update(s.Context(), func(tx *mailstore.Tx) error {
		s.ok(tx.Annotate(a, 0, a, one, []mailstore.Annotation{annotation("/private/x", "1")}))
		return errNo
	}), errNo)
	for len(woken) > 0 {
		s.equal(<-woken, "two")
	}
	take := func(w *mailstore.AnnotationWatcher) string {
		changes, complete := w.Take()
		return fmt.Sprint(changes, complete)
	}
	s.equal(take(one), "[] true")
	s.equal(take(else_), "[] true")
	s.equal(take(two), fmt.Sprintf("[{%d /private/a} {%d /private/x}] true", inbox, inbox))
	s.equal(take(two), "[] true")
	s.update(func(tx *mailstore.Tx) error {
		for i := range mailstore.MaxAnnotationChanges/mailstore.MaxAnnotations + 1 {
			box, err := tx.CreateMailbox(a, fmt.Sprint(i), "")
			if err != nil {
				return err
			}
			var list []mailstore.Annotation
			for j := range mailstore.MaxAnnotations {
				list = append(list, annotation(fmt.Sprint("/private/", j), ""))
			}
			if err := tx.Annotate(a, box.ID, a, one, list); err != nil {
				return err
			}
		}
		return nil
	})
	if changes, complete := two.Take(); len(changes) != mailstore.MaxAnnotationChanges || complete {
		s.Errorf("%d changes, complete %v", len(changes), complete)
	}
	two.Close()
	two.Close()
	one.Notify(nil)
	s.ok(s.note(a, 0, "/private/y", "3"))
	one.Notify(func() { woken <- "one" })
	for len(woken) > 0 {
		<-woken
	}
	s.ok(s.note(a, 0, "/private/x", "3"))
	s.equal(<-woken, "one")
	s.equal(len(woken), 0)
}

// specialUse changes what a mailbox is for.
func (s *suite) specialUse() {
	a, _ := s.account("bob@example.org")
	box := s.create(a, "x")
	s.update(func(tx *mailstore.Tx) error { return tx.SetSpecialUse(box.ID, `\Sent`) })
	s.reopened()
	s.equal(s.mailbox(box.ID).SpecialUse, `\Sent`)
	s.update(func(tx *mailstore.Tx) error { return tx.SetSpecialUse(box.ID, "") })
	s.equal(s.mailbox(box.ID).SpecialUse, "")
	s.is(s.store.Update(s.Context(), func(tx *mailstore.Tx) error { return tx.SetSpecialUse(999, `\Sent`) }), mailstore.ErrNotFound)
}

// annotate changes an annotation of a mailbox, or of the account, in both.
func (r *random) annotate(tx *mailstore.Tx, want *reference) error {
	notes, m := want.notes, mailstore.MailboxID(0)
	if name := rapid.SampledFrom(append(slices.Sorted(maps.Keys(want.boxes)), "")).Draw(r.t, "annotated"); name != "" {
		notes, m = want.boxes[name].notes, want.boxes[name].id
	}
	n := mailstore.Annotation{Entry: rapid.SampledFrom([]string{"/private/a", "/private/b", "/shared/a"}).Draw(r.t, "entry")}
	if size := rapid.SampledFrom([]int{-1, 0, 1, 5000}).Draw(r.t, "value"); size >= 0 {
		n.Value = []byte(strings.Repeat("v", size))
		notes[n.Entry] = string(n.Value)
	} else {
		delete(notes, n.Entry)
	}
	return tx.Annotate(r.account, m, r.account, nil, []mailstore.Annotation{n})
}

// checkNotes compares annotations.
func (r *random) checkNotes(m mailstore.MailboxID, notes map[string]string) {
	var want []string
	for _, entry := range slices.Sorted(maps.Keys(notes)) {
		want = append(want, entry+"="+notes[entry])
	}
	if got := r.noted(r.account, m); !slices.Equal(got, want) {
		r.t.Fatalf("annotations of mailbox %d: %q, want %q", m, got, want)
	}
}
