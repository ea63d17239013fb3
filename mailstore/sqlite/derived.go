package sqlite

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"os"

	"github.com/mattn/go-sqlite3"
)

// Derived is a connection to a database file beside the store's own, for data
// that can be made anew from it: after a power cut its last transactions may be
// missing, never a part of one. One goroutine at a time may use it. Errors are
// those of an Engine.
type Derived struct{ c *conn }

// Row is one row of a result, good until the next; a column of another type
// than it is asked for reads as nothing.
type Row struct{ r row }

func (r Row) Int(i int) int64   { return r.r.int(i) }
func (r Row) Text(i int) string { return r.r.str(i) }
func (r Row) Blob(i int) []byte { return r.r.blob(i) }

// OpenDerived opens the database file path, which is made, for its owner's eyes
// only, if it is not there. A connection that does not write must come after one
// that does. cache is in KiB.
func OpenDerived(path string, write bool, cache int) (*Derived, error) {
	if write {
		if err := makePrivateFile(path); err != nil {
			return nil, err
		}
	}
	c, err := connect(path, role{cache: cache, write: write})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	// Nothing here checkpoints but the connection that writes.
	if write {
		err = c.script("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 33554432")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), c.close())
	}
	return &Derived{c}, nil
}

// RemoveDerived removes a database file and what SQLite keeps beside it. No
// connection may be open.
func RemoveDerived(path string) error {
	var errs []error
	for _, suffix := range []string{"-wal", "-shm", "-journal", ""} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// IsDamaged tells whether an error means that a file is not a database, or not
// a sound one.
func IsDamaged(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && (e.Code == sqlite3.ErrCorrupt || e.Code == sqlite3.ErrNotADB)
}

func (d *Derived) Close() error { return d.c.close() }

// Script runs statements that are seldom needed.
func (d *Derived) Script(text string) error { return d.c.script(text) }

// Begin starts a transaction: of a connection that writes, the write transaction.
func (d *Derived) Begin() error { return d.c.run("BEGIN") }

func (d *Derived) Commit() error { return d.c.run("COMMIT") }

// Rollback undoes the transaction, where SQLite has not done so itself after an
// error.
func (d *Derived) Rollback() error { return rollback(d.c) }

// Exec runs a statement that changes rows and tells how many.
func (d *Derived) Exec(text string, args ...driver.Value) (int64, error) {
	return d.c.exec(text, args...)
}

// Query calls fn for each row until it returns false. fn may use the connection.
func (d *Derived) Query(text string, args []driver.Value, fn func(Row) bool) error {
	return d.c.query(text, args, func(r row) bool { return fn(Row{r}) })
}
