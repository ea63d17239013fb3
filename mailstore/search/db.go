package search

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"postrider/mailstore"
	"postrider/mailstore/sqlite"
)

const (
	applicationID = 0x50525345 // of the file: "PRSE"
	version       = 1          // of the schema and of all that is encoded in it
	writerCache   = 16 << 10   // KiB
	readerCache   = 8 << 10    // KiB
	maxReaders    = 4          // lookups at a time; more wait
)

// schema is described in the package comment.
const schema = `
CREATE TABLE account(id INTEGER PRIMARY KEY, next INTEGER NOT NULL, live INTEGER NOT NULL);
CREATE TABLE mailbox(id INTEGER PRIMARY KEY, account INTEGER NOT NULL, validity INTEGER NOT NULL, watermark INTEGER NOT NULL);
CREATE INDEX mailbox_account ON mailbox(account);
CREATE TABLE place(id INTEGER PRIMARY KEY, mailbox INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX place_mailbox ON place(mailbox, first, count);
CREATE TABLE doc(account INTEGER, body INTEGER, prefix INTEGER, doc INTEGER NOT NULL, PRIMARY KEY(account, body, prefix)) WITHOUT ROWID;
CREATE TABLE segment(id INTEGER PRIMARY KEY, account INTEGER NOT NULL, lo INTEGER NOT NULL, hi INTEGER NOT NULL, size INTEGER NOT NULL);
CREATE INDEX segment_account ON segment(account, lo);
CREATE TABLE part(id INTEGER PRIMARY KEY, lists BLOB NOT NULL, terms BLOB NOT NULL);
CREATE TABLE chunk(id INTEGER PRIMARY KEY, data BLOB NOT NULL);
`

// args makes arguments of numbers.
func args(n ...int64) []driver.Value {
	list := make([]driver.Value, len(n))
	for i := range n {
		list[i] = n[i]
	}
	return list
}

// number runs a query for one number, 0 without one.
func number(db *sqlite.Derived, query string, n ...int64) (v int64, err error) {
	err = db.Query(query, args(n...), func(r sqlite.Row) bool {
		v = r.Int(0)
		return false
	})
	return v, err
}

// errVersion: the file was written by another version of this package.
var errVersion = errors.New("the search index is of another version")

// openDB opens the file, which is made if it is not there. With errVersion or
// an error that is damage the file is of no use.
func openDB(path string) (*sqlite.Derived, error) {
	db, err := sqlite.OpenDerived(path, true, writerCache)
	if err != nil {
		return nil, err
	}
	if err := checkDB(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func checkDB(db *sqlite.Derived) error {
	application, err := number(db, "PRAGMA application_id")
	if err != nil {
		return err
	}
	have, err := number(db, "PRAGMA user_version")
	if err != nil {
		return err
	}
	tables, err := number(db, "SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return err
	}
	switch {
	case application == applicationID && have == version:
		return nil
	case tables > 0:
		return fmt.Errorf("%w: %d, not %d", errVersion, have, version)
	}
	return db.Script(fmt.Sprintf("BEGIN; PRAGMA application_id = %d; PRAGMA user_version = %d; %s COMMIT", applicationID, version, schema))
}

// storeError is an error of the store, which says nothing of the index.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

// view reads the store.
func view(ctx context.Context, s *mailstore.Store, fn func(v *mailstore.View) error) error {
	if err := s.View(ctx, fn); err != nil {
		return storeError{err}
	}
	return nil
}

// useless tells whether an error means that the file has to be made anew.
func useless(err error) bool {
	if errors.As(err, new(storeError)) {
		return false
	}
	return errors.Is(err, errVersion) || errors.Is(err, errDamaged) || sqlite.IsDamaged(err)
}

// segments lists an account's segments in order.
func segments(db *sqlite.Derived, a mailstore.AccountID) ([]segment, error) {
	var list []segment
	err := db.Query("SELECT id, lo, hi, size FROM segment WHERE account = ? ORDER BY lo", args(int64(a)), func(r sqlite.Row) bool {
		list = append(list, segment{r.Int(0), r.Int(1), r.Int(2), r.Int(3)})
		return true
	})
	for i, s := range list {
		if s.lo < 0 || s.hi <= s.lo || s.hi > 1<<32 || i > 0 && s.lo < list[i-1].hi {
			return nil, errDamaged
		}
	}
	return list, err
}

// box is what the index knows of a mailbox.
type box struct {
	account   mailstore.AccountID
	validity  uint32
	watermark mailstore.UID // messages with UIDs below it are indexed
}

// readBox is nil where the mailbox is not known.
func readBox(db *sqlite.Derived, m mailstore.MailboxID) (*box, error) {
	var b *box
	err := db.Query("SELECT account, validity, watermark FROM mailbox WHERE id = ?", args(int64(m)), func(r sqlite.Row) bool {
		b = &box{mailstore.AccountID(r.Int(0)), uint32(r.Int(1)), mailstore.UID(r.Int(2))}
		return false
	})
	return b, err
}

// dropBox forgets a mailbox; its documents stay until a compaction.
func dropBox(db *sqlite.Derived, m mailstore.MailboxID) error {
	if _, err := db.Exec("DELETE FROM place WHERE mailbox = ?", int64(m)); err != nil {
		return err
	}
	_, err := db.Exec("DELETE FROM mailbox WHERE id = ?", int64(m))
	return err
}

// dropAccount forgets an account.
func dropAccount(db *sqlite.Derived, a mailstore.AccountID) error {
	list, err := segments(db, a)
	if err != nil {
		return err
	}
	for _, s := range list {
		if err := dropSegment(db, s.id); err != nil {
			return err
		}
	}
	for _, text := range []string{
		"DELETE FROM place WHERE mailbox IN (SELECT id FROM mailbox WHERE account = ?)",
		"DELETE FROM mailbox WHERE account = ?",
		"DELETE FROM doc WHERE account = ?",
		"DELETE FROM account WHERE id = ?",
	} {
		if _, err := db.Exec(text, int64(a)); err != nil {
			return err
		}
	}
	return nil
}

// within runs fn in a transaction.
func within(db *sqlite.Derived, fn func() error) error {
	if err := db.Begin(); err != nil {
		return err
	}
	err := fn()
	if err == nil {
		err = db.Commit()
	}
	if err != nil {
		return errors.Join(err, db.Rollback())
	}
	return nil
}
