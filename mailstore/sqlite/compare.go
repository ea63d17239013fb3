package sqlite

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"postrider/mailstore"
)

// maxDifferences is how many differences are told.
const maxDifferences = 100

// Difference is something that clients would see otherwise after an upgrade.
type Difference struct {
	What string `json:"what"` // such as "message bob@example.org INBOX UID 3"
	Old  string `json:"old"`  // what differs, with names; "" where it was not there
	New  string `json:"new"`  // "" where it is not there
}

func (d *Difference) String() string {
	switch {
	case d.Old == "":
		return d.What + ": only in the new database"
	case d.New == "":
		return d.What + ": only in the old database"
	}
	return fmt.Sprintf("%s: %s instead of %s", d.What, d.New, d.Old)
}

// Counts is how much a database has.
type Counts struct {
	Domains    int64 `json:"domains"`
	Aliases    int64 `json:"aliases"`
	Accounts   int64 `json:"accounts"`
	Mailboxes  int64 `json:"mailboxes"`
	Messages   int64 `json:"messages"`
	Bodies     int64 `json:"bodies"`
	Queued     int64 `json:"queued"`     // messages
	Recipients int64 `json:"recipients"` // of queued messages
}

// view is what clients see of a database of some version, each list in its order.
type view interface {
	Domains(fn func(mailstore.Domain) bool) error
	Aliases(fn func(mailstore.Alias) bool) error
	Accounts(fn func(mailstore.Account) bool) error
	Mailboxes(a mailstore.AccountID, fn func(mailstore.MailboxRow) bool) error
	Subscriptions(a mailstore.AccountID, fn func(name string) bool) error
	Expunges(m mailstore.MailboxID, since mailstore.ModSeq, fn func(mailstore.ExpungeRow) bool) error
	Annotations(a mailstore.AccountID, m mailstore.MailboxID, fn func(mailstore.AnnotationRow) bool) error
	ACL(m mailstore.MailboxID, fn func(mailstore.ACLRow) bool) error
	Bodies(after mailstore.BodyID, fn func(mailstore.BodyRow) bool) error
	QueueItems(after mailstore.QueueID, fn func(mailstore.QueueRow) bool) error
	Recipients(item mailstore.QueueID, fn func(mailstore.QueueRecipient) bool) error
	messages(m mailstore.MailboxID, fn func(mailstore.MessageRow) bool) error
	urlKeys(a mailstore.AccountID, fn func(urlKey) bool) error
}

// viewOf reads a database of a version.
func viewOf(version int, r reader) view {
	if v := migrations[version-1].view; v != nil {
		return v(r)
	}
	return r
}

// messages reads the messages of a mailbox from its blocks.
func (r reader) messages(m mailstore.MailboxID, fn func(mailstore.MessageRow) bool) error {
	var failed error
	err := r.Blocks(m, func(b *mailstore.BlockRow) bool {
		if b.Data, failed = r.BlockData(m, b.First); failed != nil {
			return false
		}
		rows, err := mailstore.Unpack(b)
		failed = err
		for i := range rows {
			if !fn(rows[i]) {
				return false
			}
		}
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// rowList is the rows of one kind; err is set when it ended early.
type rowList[T any] struct {
	each func(fn func(T) bool) error
	err  error
}

func (l *rowList[T]) seq() iter.Seq[T] {
	return func(yield func(T) bool) { l.err = l.each(yield) }
}

// kind says how rows of one kind are compared.
type kind[T any] struct {
	what  func(*T) string
	order func(a, b *T) int
	// fields are names and values; differing ones are told.
	fields func(*T) []string
	same   func(a, b *T) bool // nil: the fields are
}

// walk reads two lists side by side, notes what differs, and calls both with
// each pair.
func walk[T any](x *upgrade, k kind[T], old, now func(fn func(T) bool) error, both func(*T) error) error {
	lo, ln := &rowList[T]{each: old}, &rowList[T]{each: now}
	nextOld, stopOld := iter.Pull(lo.seq())
	defer stopOld()
	nextNow, stopNow := iter.Pull(ln.seq())
	defer stopNow()
	a, okA := nextOld()
	b, okB := nextNow()
	for okA || okB {
		order := 0
		switch {
		case !okB:
			order = -1
		case !okA:
			order = 1
		default:
			order = k.order(&a, &b)
		}
		switch {
		case order < 0:
			x.differ(Difference{What: k.what(&a), Old: pairs(k.fields(&a), nil)})
			a, okA = nextOld()
			continue
		case order > 0:
			x.differ(Difference{What: k.what(&b), New: pairs(k.fields(&b), nil)})
			b, okB = nextNow()
			continue
		}
		if k.same == nil || !k.same(&a, &b) {
			if fa, fb := k.fields(&a), k.fields(&b); !slices.Equal(fa, fb) {
				x.differ(Difference{k.what(&a), pairs(fa, fb), pairs(fb, fa)})
			}
		}
		if both != nil {
			if err := both(&a); err != nil {
				return err
			}
		}
		a, okA = nextOld()
		b, okB = nextNow()
	}
	if lo.err != nil {
		return fmt.Errorf("the old database: %w", lo.err)
	}
	return ln.err
}

// pairs writes the fields that are not those of another row.
func pairs(fields, other []string) string {
	var list []string
	for i := 0; i+1 < len(fields); i += 2 {
		if i+1 >= len(other) || fields[i+1] != other[i+1] {
			list = append(list, fields[i]+" "+fields[i+1])
		}
	}
	return strings.Join(list, ", ")
}

// differ notes a difference.
func (x *upgrade) differ(d Difference) {
	if x.u.Differ++; x.u.Differ <= maxDifferences {
		x.u.Differences = append(x.u.Differences, d)
	}
}

// compare reads all that clients see of both.
func (x *upgrade) compare(ctx context.Context, old, now view) error {
	n := &x.u.Counts
	err := walk(x, domainKind(), numbered(old), numbered(now), func(*placed) error { n.Domains++; return nil })
	if err != nil {
		return err
	}
	if err := walk(x, aliasKind(), old.Aliases, now.Aliases, func(*mailstore.Alias) error { n.Aliases++; return nil }); err != nil {
		return err
	}
	err = walk(x, accountKind(), old.Accounts, now.Accounts, func(a *mailstore.Account) error {
		n.Accounts++
		return x.compareAccount(ctx, old, now, a)
	})
	if err != nil {
		return err
	}
	err = walk(x, bodyKind(), after(old.Bodies), after(now.Bodies), func(*mailstore.BodyRow) error { n.Bodies++; return ctx.Err() })
	if err != nil {
		return err
	}
	return walk(x, itemKind(), after(old.QueueItems), after(now.QueueItems), func(q *mailstore.QueueRow) error {
		n.Queued++
		return walk(x, recipientKind(), of(old.Recipients, q.ID), of(now.Recipients, q.ID), func(*mailstore.QueueRecipient) error {
			n.Recipients++
			return ctx.Err()
		})
	})
}

// compareAccount compares the mailboxes of an account.
func (x *upgrade) compareAccount(ctx context.Context, old, now view, a *mailstore.Account) error {
	if err := walk(x, subscriptionKind(a.Address), of(old.Subscriptions, a.ID), of(now.Subscriptions, a.ID), nil); err != nil {
		return err
	}
	if err := walk(x, urlKeyKind(a.Address), of(old.urlKeys, a.ID), of(now.urlKeys, a.ID), nil); err != nil {
		return err
	}
	if err := x.compareNotes(old, now, a.ID, 0, a.Address); err != nil {
		return err
	}
	mailboxes := mailboxKind(a.Address)
	return walk(x, mailboxes, of(old.Mailboxes, a.ID), of(now.Mailboxes, a.ID), func(m *mailstore.MailboxRow) error {
		x.u.Counts.Mailboxes++
		place := a.Address + " " + m.Name
		expunges := func(v view) func(func(mailstore.ExpungeRow) bool) error {
			return func(fn func(mailstore.ExpungeRow) bool) error { return v.Expunges(m.ID, 0, fn) }
		}
		if err := walk(x, expungeKind(place), expunges(old), expunges(now), nil); err != nil {
			return err
		}
		if err := x.compareNotes(old, now, a.ID, m.ID, place); err != nil {
			return err
		}
		if err := walk(x, aclKind(place), of(old.ACL, m.ID), of(now.ACL, m.ID), nil); err != nil {
			return err
		}
		return walk(x, messageKind(place), of(old.messages, m.ID), of(now.messages, m.ID), func(*mailstore.MessageRow) error {
			x.u.Counts.Messages++
			x.Progress.add(1)
			return ctx.Err()
		})
	})
}

// compareNotes compares annotations of a mailbox, or with m = 0 of an account.
func (x *upgrade) compareNotes(old, now view, a mailstore.AccountID, m mailstore.MailboxID, place string) error {
	notes := func(v view) func(func(mailstore.AnnotationRow) bool) error {
		return func(fn func(mailstore.AnnotationRow) bool) error { return v.Annotations(a, m, fn) }
	}
	return walk(x, annotationKind(place), notes(old), notes(now), nil)
}

// of binds the first argument of a list.
func of[K, T any](list func(K, func(T) bool) error, k K) func(func(T) bool) error {
	return func(fn func(T) bool) error { return list(k, fn) }
}

// after is a list from its start.
func after[K ~int64, T any](list func(K, func(T) bool) error) func(func(T) bool) error {
	return of(list, 0)
}
