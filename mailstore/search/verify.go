package search

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"postrider/mailstore"
	"postrider/mailstore/sqlite"
)

// maxDocs is the most documents that an account has, those that are gone included.
const maxDocs = 1 << 32

// maxDamage is how much damage of one account is told.
const maxDamage = 20

// Damage is something that is wrong in the index. Making that of the account anew
// mends it, or of all with Account 0.
type Damage struct {
	Account mailstore.AccountID
	Text    string
}

// Verify reads the whole index: every blob against its checksum and what it has to
// be, and what is said of mailboxes and messages against the store. Lookups and
// the indexer go on meanwhile, but nothing is reindexed as a whole. An error
// means that it could not be read.
func (x *Index) Verify(ctx context.Context, found func(Damage)) error {
	return eachAccount(ctx, x.store, found, func(fn func(*sqlite.Derived) error) error {
		x.open.RLock()
		defer x.open.RUnlock()
		if !x.ready {
			return nil // it is being made
		}
		db, err := x.reader()
		if err != nil {
			return err
		}
		defer x.giveBack(db)
		return within(db, func() error { return fn(db) })
	})
}

// Verify is Index.Verify of a file that no Index has open. One that is not there,
// or of another version, is made anew in any case.
func Verify(ctx context.Context, store *mailstore.Store, path string, found func(Damage)) (err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	db, err := sqlite.OpenDerived(path, false, readerCache)
	if err == nil {
		defer func() { err = errors.Join(err, db.Close()) }()
		var application, have int64
		if application, err = number(db, "PRAGMA application_id"); err == nil {
			have, err = number(db, "PRAGMA user_version")
		}
		if err == nil && (application != applicationID || have != version) {
			return nil
		}
	}
	if err != nil {
		return told(found, 0, err)
	}
	return eachAccount(ctx, store, found, func(fn func(*sqlite.Derived) error) error {
		return within(db, func() error { return fn(db) })
	})
}

// told tells of damage; other errors are returned.
func told(found func(Damage), a mailstore.AccountID, err error) error {
	if err != nil && useless(err) {
		found(Damage{a, err.Error()})
		return nil
	}
	return err
}

// eachAccount checks the file and then each account in a snapshot of its own,
// which with gives.
func eachAccount(ctx context.Context, store *mailstore.Store, found func(Damage), with func(func(*sqlite.Derived) error) error) error {
	var accounts []mailstore.AccountID
	err := with(func(db *sqlite.Derived) error {
		if err := db.Query("PRAGMA quick_check(10)", nil, func(r sqlite.Row) bool {
			if text := r.Text(0); text != "ok" {
				found(Damage{0, "the file: " + text})
			}
			return true
		}); err != nil {
			return err
		}
		return db.Query("SELECT id FROM account UNION SELECT account FROM mailbox", nil, func(r sqlite.Row) bool {
			accounts = append(accounts, mailstore.AccountID(r.Int(0)))
			return true
		})
	})
	if err != nil {
		return told(found, 0, err)
	}
	for _, a := range accounts {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := with(func(db *sqlite.Derived) error {
			c := &check{ctx: ctx, store: store, db: db, a: a, found: found}
			return c.account()
		})
		if err := told(found, a, err); err != nil {
			return fmt.Errorf("check the search index: %w", err)
		}
	}
	return nil
}

// check is the check of one account.
type check struct {
	ctx   context.Context
	store *mailstore.Store
	db    *sqlite.Derived
	a     mailstore.AccountID
	found func(Damage)
	told  int

	segments []segment
	docs     []document // in order of doc
}

// document is a row of the table doc.
type document struct {
	doc int64
	key docKey
}

func (c *check) damage(format string, args ...any) {
	if c.told++; c.told <= maxDamage {
		c.found(Damage{c.a, fmt.Sprintf(format, args...)})
	}
}

// note tells of an error that is damage of something; others are returned.
func (c *check) note(err error, what string, args ...any) error {
	if err != nil && useless(err) {
		c.damage("%s: %v", fmt.Sprintf(what, args...), err)
		return nil
	}
	return err
}

func (c *check) account() error {
	next, err := number(c.db, "SELECT next FROM account WHERE id = ?", int64(c.a))
	if err != nil {
		return err
	}
	if c.segments, err = segments(c.db, c.a); err != nil {
		return c.note(err, "the list of segments")
	}
	if n := len(c.segments); next < 0 || next > maxDocs || n > 0 && c.segments[n-1].hi > next {
		c.damage("the next document is %d, which is in use, or cannot be", next)
		return nil
	}
	for _, s := range c.segments {
		if err := c.segment(s); err != nil {
			return err
		}
	}
	if err := c.documents(next); err != nil {
		return err
	}
	var ids []mailstore.MailboxID
	err = c.db.Query("SELECT id FROM mailbox WHERE account = ?", args(int64(c.a)), func(r sqlite.Row) bool {
		ids = append(ids, mailstore.MailboxID(r.Int(0)))
		return true
	})
	for _, m := range ids {
		if err == nil {
			err = c.mailbox(m)
		}
	}
	return err
}

// segment reads all terms and lists of a segment.
func (c *check) segment(s segment) error {
	size := int64(0)
	for k := range columnKinds {
		id := columnID(s.id, k)
		n, err := number(c.db, "SELECT coalesce(sum(length(lists) + length(terms)), 0) FROM part WHERE id = ?", id)
		if err != nil {
			return err
		}
		size += n
		n, err = number(c.db, "SELECT coalesce(sum(length(data)), 0) FROM chunk WHERE id BETWEEN ? AND ?", id<<chunkBits, (id+1)<<chunkBits-1)
		if err != nil {
			return err
		}
		size += n
		if err := c.note(c.column(id, s.docs()), "column %d of segment %d", k, s.id); err != nil {
			return err
		}
	}
	if size != s.size {
		c.damage("segment %d has %d octets and should have %d", s.id, size, s.size)
	}
	return nil
}

// column reads the lists of all terms of a column.
func (c *check) column(id int64, docs int) error {
	terms, err := readColumn(c.db, id)
	if err != nil || terms == nil {
		return err
	}
	lists, set := newListReader(c.db, id), newBitset(docs)
	for i := range terms.len() {
		if i%1024 == 0 && c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		list, err := lists.read(terms.list(i))
		if err == nil {
			err = addList(list, docs, set)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// documents reads which body each document is.
func (c *check) documents(next int64) error {
	err := c.db.Query("SELECT body, prefix, doc FROM doc WHERE account = ?", args(int64(c.a)), func(r sqlite.Row) bool {
		if d := r.Int(2); d < 0 || d >= next {
			c.damage("body %d is document %d, which was never made", r.Int(0), d)
		} else {
			c.docs = append(c.docs, document{d, docKey{mailstore.BodyID(r.Int(0)), r.Int(1)}})
		}
		return true
	})
	if err != nil {
		return err
	}
	rows := int64(len(c.docs))
	slices.SortFunc(c.docs, func(a, b document) int { return cmp.Compare(a.doc, b.doc) })
	for i := 1; i < len(c.docs); i++ {
		if a, b := &c.docs[i-1], &c.docs[i]; a.doc == b.doc {
			c.damage("bodies %d and %d are the same document %d", a.key.body, b.key.body, a.doc)
		}
	}
	live, err := number(c.db, "SELECT live FROM account WHERE id = ?", int64(c.a))
	if err == nil && live != rows {
		c.damage("there are %d documents, and %d are counted", rows, live)
	}
	return err
}

// mailbox compares what is said of a mailbox with the store. One that is gone the
// indexer drops.
func (c *check) mailbox(m mailstore.MailboxID) error {
	b, err := readBox(c.db, m)
	if err != nil || b == nil {
		return err
	}
	var ids []int64
	err = c.db.Query("SELECT id FROM place WHERE mailbox = ? ORDER BY first", args(int64(m)), func(r sqlite.Row) bool {
		ids = append(ids, r.Int(0))
		return true
	})
	if err != nil {
		return err
	}
	var now mailstore.Mailbox
	err = view(c.ctx, c.store, func(v *mailstore.View) (err error) {
		now, err = v.Mailbox(m)
		return err
	})
	switch {
	case errors.Is(err, mailstore.ErrNotFound), errors.Is(err, mailstore.ErrDamaged): // which the check of the store tells
		return nil
	case err != nil:
		return err
	case b.foreign(now):
		c.damage("mailbox %s: UIDs below %d of UIDVALIDITY %d are indexed, and the mailbox has those below %d of %d",
			now.Name, b.watermark, b.validity, now.UIDNext, now.UIDValidity)
		return nil
	}
	last := mailstore.UID(0)
	for _, id := range ids {
		p, err := readPlaces(c.db, id)
		if err != nil {
			if err := c.note(err, "places %d of mailbox %s", id, now.Name); err != nil {
				return err
			}
			continue
		}
		if err := c.places(&now, id, p, last, b.watermark); err != nil {
			return err
		}
		if n := len(p.uids); n > 0 {
			last = p.uids[n-1]
		}
	}
	return nil
}

// places compares the documents of messages with their bodies.
func (c *check) places(m *mailstore.Mailbox, id int64, p *places, last, watermark mailstore.UID) error {
	n := len(p.uids)
	first, err := number(c.db, "SELECT first FROM place WHERE id = ?", id)
	if err != nil {
		return err
	}
	count, err := number(c.db, "SELECT count FROM place WHERE id = ?", id)
	if err != nil {
		return err
	}
	if n == 0 || first != int64(p.uids[0]) || count != int64(n) || p.uids[0] <= last || p.uids[n-1] >= watermark {
		c.damage("places %d of mailbox %s are not those of its row", id, m.Name)
		return nil
	}
	i := 0
	one := func(one mailstore.Message) bool {
		for i < n && p.uids[i] < one.UID {
			i++
		}
		if i < n && p.uids[i] == one.UID {
			if d := p.docs[i]; !c.is(int64(d), keyOf(&one)) || !c.covered(int64(d)) {
				c.damage("UID %d of mailbox %s is said to be document %d, which is another message's or nobody's", one.UID, m.Name, d)
			}
		}
		return i < n && c.ctx.Err() == nil
	}
	err = view(c.ctx, c.store, func(v *mailstore.View) error {
		return v.Readable(m.ID, p.uids[0], one, func(*mailstore.DamagedRange) {})
	})
	if errors.Is(err, mailstore.ErrDamaged) {
		return nil
	}
	return err
}

// is tells whether a document is that of a key.
func (c *check) is(doc int64, key docKey) bool {
	i, found := slices.BinarySearchFunc(c.docs, doc, func(d document, doc int64) int { return cmp.Compare(d.doc, doc) })
	return found && c.docs[i].key == key
}

// covered tells whether a segment has a document.
func (c *check) covered(doc int64) bool {
	lo, hi := 0, len(c.segments)
	for lo < hi {
		if mid := (lo + hi) / 2; c.segments[mid].hi <= doc {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo < len(c.segments) && c.segments[lo].lo <= doc
}
