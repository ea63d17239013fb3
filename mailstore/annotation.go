package mailstore

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Limits of annotations.
const (
	MaxAnnotationName = 256      // octets of an entry's name
	MaxAnnotationSize = 64 << 10 // octets of a value
	MaxAnnotations    = 100      // of one mailbox, or of the account itself
	// Private ones of users who are not the mailbox's owner, so that they leave
	// him room: of one mailbox, and octets of a value.
	MaxOthersAnnotations    = 50
	MaxOthersAnnotationSize = 4 << 10
	// Of an account and all its mailboxes.
	MaxAccountAnnotations = 10000
	MaxAnnotationStorage  = 16 << 20 // octets of names and values
)

// ErrAnnotation: the name of an entry that cannot be.
var ErrAnnotation = errors.New("bad name of an entry")

// Annotation is a value under the name of an entry (RFC 5464 section 3.2), of a
// mailbox or of an account itself. Entries below /private are one user's, those
// below /shared are there for all who can see the mailbox.
type Annotation struct {
	Entry string // as CleanEntry returns it
	Value []byte // nil, in a change, removes the entry
}

// AnnotationRow is an annotation with its place.
type AnnotationRow struct {
	Account AccountID // whose mailbox it is
	Mailbox MailboxID // 0: the account itself
	User    AccountID // whose the entry is; 0 for a shared one
	Annotation
}

// Private tells whether the entry is below /private.
func (a *Annotation) Private() bool { return strings.HasPrefix(a.Entry, "/private/") }

// CleanEntry checks the name of an entry and returns it in lower case: names are
// compared without regard to case. It begins with /private or /shared, and has
// two levels, below vendor four, and neither "*" nor "%". Otherwise the error is
// ErrAnnotation.
func CleanEntry(name string) (string, error) {
	if len(name) > MaxAnnotationName {
		return "", fmt.Errorf("%w: longer than %d octets", ErrAnnotation, MaxAnnotationName)
	}
	for i := 0; i < len(name); i++ {
		if c := name[i]; c < ' ' || c > '~' || c == '*' || c == '%' {
			return "", fmt.Errorf("%w: it has a character that is not allowed", ErrAnnotation)
		}
	}
	name = strings.ToLower(name)
	levels := strings.Split(name, "/")[1:]
	switch {
	case name == "" || name[0] != '/' || levels[0] != "private" && levels[0] != "shared":
		return "", fmt.Errorf("%w: it begins with neither /private nor /shared", ErrAnnotation)
	case slices.Contains(levels, ""):
		return "", fmt.Errorf("%w: it has an empty level", ErrAnnotation)
	case len(levels) < 2:
		return "", fmt.Errorf("%w: it has one level", ErrAnnotation)
	case levels[1] == "vendor" && len(levels) < 4:
		return "", fmt.Errorf("%w: below vendor there are two levels at least", ErrAnnotation)
	}
	return name, nil
}

// Annotations lists what user sees of the annotations of a mailbox of account a,
// or with m = 0 of the account itself, by entry.
func (v *View) Annotations(a AccountID, m MailboxID, user AccountID) ([]Annotation, error) {
	var list []Annotation
	err := v.r.Annotations(a, m, func(row AnnotationRow) bool {
		if row.User == 0 || row.User == user {
			list = append(list, row.Annotation)
		}
		return true
	})
	return list, err
}

// Annotate makes changes to annotations of a mailbox of account a, or with m = 0
// of the account itself, as user sees them, in order. by, where it is not nil, is
// not told of them. Errors: ErrNotFound for the mailbox, ErrAnnotation for the
// name of an entry, ErrLimit for too many or too large ones.
func (tx *Tx) Annotate(a AccountID, m MailboxID, user AccountID, by *AnnotationWatcher, changes []Annotation) error {
	if _, err := tx.r.Account(a); err != nil {
		return err
	}
	if m != 0 {
		box, err := tx.box(m)
		if err != nil {
			return err
		}
		if box.Account != a {
			return ErrNotFound
		}
	}
	if len(changes) == 0 {
		return nil
	}
	budget, err := tx.annotationBudget(a, m)
	if err != nil {
		return err
	}
	for _, c := range changes {
		entry, err := CleanEntry(c.Entry)
		if err != nil {
			return err
		}
		row := AnnotationRow{Account: a, Mailbox: m, Annotation: Annotation{Entry: entry, Value: bytes.Clone(c.Value)}}
		if row.Private() {
			row.User = user
		}
		if _, there := budget.sizes[annotationKey{entry, row.User}]; !there && row.Value == nil {
			continue
		}
		if err := tx.annotate(budget, &row); err != nil {
			return err
		}
		if row.User == 0 || row.User == a { // what is another user's own the account does not see
			tx.annotated = append(tx.annotated, annotated{a, AnnotationChange{m, entry}, by})
		}
	}
	return nil
}

// annotationBudget is what there is of annotations, while some are changed.
type annotationBudget struct {
	sizes  map[annotationKey]int // octets of those of the mailbox, names included
	rows   int                   // of the account
	octets int64                 // of the account
}

type annotationKey struct {
	entry string
	user  AccountID
}

func (tx *Tx) annotationBudget(a AccountID, m MailboxID) (*annotationBudget, error) {
	b := &annotationBudget{sizes: make(map[annotationKey]int)}
	err := tx.r.Annotations(a, m, func(row AnnotationRow) bool {
		b.sizes[annotationKey{row.Entry, row.User}] = len(row.Entry) + len(row.Value)
		return true
	})
	if err != nil {
		return nil, err
	}
	b.rows, b.octets, err = tx.r.AnnotationUsage(a)
	return b, err
}

// others counts the private entries of users who are not the owner.
func (b *annotationBudget) others(owner AccountID) (n int) {
	for key := range b.sizes {
		if key.user != 0 && key.user != owner {
			n++
		}
	}
	return n
}

// annotate makes one change.
func (tx *Tx) annotate(b *annotationBudget, row *AnnotationRow) error {
	key := annotationKey{row.Entry, row.User}
	old, there := b.sizes[key]
	if row.Value == nil {
		delete(b.sizes, key)
		b.rows--
		b.octets -= int64(old)
		return tx.do(func(w Writer) error { return w.DeleteAnnotation(row) })
	}
	size := len(row.Entry) + len(row.Value)
	foreign := row.User != 0 && row.User != row.Account
	switch {
	case foreign && (len(row.Value) > MaxOthersAnnotationSize || !there && b.others(row.Account) >= MaxOthersAnnotations):
		return fmt.Errorf("%w: an annotation of another user of %d octets", ErrLimit, len(row.Value))
	case len(row.Value) > MaxAnnotationSize:
		return fmt.Errorf("%w: a value of %d octets", ErrLimit, len(row.Value))
	case !there && (len(b.sizes) >= MaxAnnotations || b.rows >= MaxAccountAnnotations):
		return fmt.Errorf("%w: %d annotations, %d of the account", ErrLimit, len(b.sizes), b.rows)
	case size > old && b.octets+int64(size-old) > MaxAnnotationStorage:
		return fmt.Errorf("%w: %d octets of annotations", ErrLimit, b.octets)
	}
	if !there {
		b.rows++
	}
	b.sizes[key] = size
	b.octets += int64(size - old)
	return tx.do(func(w Writer) error { return w.PutAnnotation(row) })
}

// copyAnnotations gives one mailbox of an account the annotations of another.
func (tx *Tx) copyAnnotations(a AccountID, from, to MailboxID) error {
	rows, err := collect(func(fn func(AnnotationRow) bool) error { return tx.r.Annotations(a, from, fn) })
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return nil
	}
	budget, err := tx.annotationBudget(a, to)
	if err != nil {
		return err
	}
	for _, row := range rows {
		row.Mailbox = to
		if err := tx.annotate(budget, &row); err != nil {
			return err
		}
	}
	return nil
}

// SetSpecialUse changes what a mailbox is for (RFC 6154); "" is nothing.
func (tx *Tx) SetSpecialUse(m MailboxID, use string) error {
	row, err := tx.mailbox(m)
	if err != nil || row.SpecialUse == use {
		return err
	}
	row.SpecialUse = use
	tx.touchList(row.Account)
	tx.touch(m, row.Account)
	return tx.putBox(row)
}

// AnnotationChange names an entry that was set or removed.
type AnnotationChange struct {
	Mailbox MailboxID // 0: of the account itself
	Entry   string
}

// annotated is a change and who made it.
type annotated struct {
	account AccountID
	AnnotationChange
	by *AnnotationWatcher
}

// MaxAnnotationChanges is how many changes a watcher remembers until it is asked.
const MaxAnnotationChanges = 1000

// AnnotationWatcher is one subscription to changes of annotations that others
// make.
type AnnotationWatcher struct {
	ws      *watchers
	account AccountID

	fn      func() // guarded by ws.mu, as the following are
	changes map[AnnotationChange]bool
	lost    bool // more than MaxAnnotationChanges
}

// WatchAnnotations remembers, from now on, what others change of annotations of
// an account or its mailboxes.
func (s *Store) WatchAnnotations(a AccountID) *AnnotationWatcher {
	w := &AnnotationWatcher{ws: &s.watch, account: a}
	w.ws.mu.Lock()
	defer w.ws.mu.Unlock()
	register(w.ws.annotations, a, w)
	return w
}

// annotated tells watchers of what a commit changed.
func (ws *watchers) annotated(changes []annotated) {
	if len(changes) == 0 {
		return
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, c := range changes {
		for w := range ws.annotations[c.account] {
			if w == c.by {
				continue
			}
			if w.changes == nil {
				w.changes = make(map[AnnotationChange]bool)
			}
			if len(w.changes) == MaxAnnotationChanges && !w.changes[c.AnnotationChange] {
				w.lost = true
			} else {
				w.changes[c.AnnotationChange] = true
			}
			if w.fn != nil {
				w.fn()
			}
		}
	}
}

// Notify has fn called after commits that made changes to take, as WatchFunc
// does; nil ends it, and then it is not called after Notify has returned.
func (w *AnnotationWatcher) Notify(fn func()) {
	w.ws.mu.Lock()
	defer w.ws.mu.Unlock()
	w.fn = fn
}

// Take gives the changes since it was last called, by mailbox and entry. complete
// is false where there were too many to remember: any may have changed then.
func (w *AnnotationWatcher) Take() (changes []AnnotationChange, complete bool) {
	w.ws.mu.Lock()
	defer w.ws.mu.Unlock()
	complete = !w.lost
	for c := range w.changes {
		changes = append(changes, c)
	}
	w.changes, w.lost = nil, false
	slices.SortFunc(changes, func(a, b AnnotationChange) int {
		if a.Mailbox != b.Mailbox {
			return int(a.Mailbox - b.Mailbox)
		}
		return strings.Compare(a.Entry, b.Entry)
	})
	return changes, complete
}

// Close ends the subscription. It may be called again.
func (w *AnnotationWatcher) Close() {
	w.ws.mu.Lock()
	defer w.ws.mu.Unlock()
	unregister(w.ws.annotations, w.account, w)
}
