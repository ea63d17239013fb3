package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"syscall"
	"time"

	"github.com/mattn/go-sqlite3"

	"postrider/mailstore"
	"postrider/mailstore/sqlite/walio"
)

// conn is a connection of the driver, used without database/sql: one goroutine
// at a time, and statements cached by their text.
type conn struct {
	c     *sqlite3.SQLiteConn
	args  []driver.NamedValue
	dest  []driver.Value
	fixed map[string]driver.Stmt // statements without arguments
}

// role is what a connection is for.
type role struct {
	cache  int // KiB
	write  bool
	joined bool // the log is written in large pieces; see package walio
}

// connect opens a connection to the database.
func connect(path string, r role) (*conn, error) {
	q := url.Values{
		"_txlock":          {"immediate"},
		"_mutex":           {"no"}, // one goroutine at a time
		"_busy_timeout":    {"10000"},
		"_sync":            {"FULL"},
		"_stmt_cache_size": {"100"},
		"_cache_size":      {fmt.Sprint(-r.cache)},
		"mode":             {"rw"},
	}
	if !r.write {
		q.Set("_query_only", "1")
	}
	if r.joined {
		if err := walio.Install(); err != nil {
			return nil, err
		}
		q.Set("vfs", walio.Name)
	}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}
	dc, err := (&sqlite3.SQLiteDriver{}).Open(u.String())
	if err != nil {
		return nil, wrap(err)
	}
	sc, ok := dc.(*sqlite3.SQLiteConn)
	if !ok {
		return nil, errors.Join(errors.New("sqlite: not the driver's connection"), dc.Close())
	}
	c := &conn{c: sc, fixed: make(map[string]driver.Stmt)}
	for i := range c.argRoom() {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1})
	}
	c.dest = make([]driver.Value, len(c.args))
	if err := c.script(fmt.Sprintf("PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_spill = -%d", writerCache)); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// argRoom is the most arguments or columns that a statement here has.
func (c *conn) argRoom() int { return 16 }

func (c *conn) close() error {
	var errs []error
	for _, s := range c.fixed {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.c.Close())...)
}

// script runs statements that are seldom needed.
func (c *conn) script(text string) error {
	_, err := c.c.ExecContext(context.Background(), text, nil)
	return wrap(err)
}

// pragma reads a setting of the database.
func (c *conn) pragma(name string) (string, error) {
	var v string
	err := c.query("PRAGMA "+name, nil, func(r row) bool {
		v = fmt.Sprint(r[0])
		return false
	})
	return v, err
}

// run executes a statement without arguments, such as COMMIT.
func (c *conn) run(text string) error {
	s := c.fixed[text]
	if s == nil {
		var err error
		if s, err = c.c.Prepare(text); err != nil {
			return wrap(err)
		}
		c.fixed[text] = s
	}
	_, err := s.(driver.StmtExecContext).ExecContext(context.Background(), nil)
	return wrap(err)
}

// bind makes the driver's arguments; good until the next call.
func (c *conn) bind(args []driver.Value) []driver.NamedValue {
	for i, a := range args {
		c.args[i].Value = a
	}
	return c.args[:len(args)]
}

// exec executes a statement and returns how many rows it changed.
func (c *conn) exec(text string, args ...driver.Value) (int64, error) {
	res, err := c.c.ExecContext(context.Background(), text, c.bind(args))
	if err != nil {
		return 0, wrap(err)
	}
	return res.RowsAffected()
}

// query calls fn for each row until it returns false. fn may run other queries
// on the connection, the same one included.
func (c *conn) query(text string, args []driver.Value, fn func(row) bool) (err error) {
	rows, err := c.c.QueryContext(context.Background(), text, c.bind(args))
	if err != nil {
		return wrap(err)
	}
	defer func() {
		if cerr := rows.Close(); cerr != nil && err == nil {
			err = wrap(cerr)
		}
	}()
	dest := c.dest
	c.dest = nil // fn may come back here
	if dest == nil {
		dest = make([]driver.Value, len(c.args))
	}
	defer func() { c.dest = dest }()
	r := row(dest[:len(rows.Columns())])
	for {
		if err := rows.Next(r); err == io.EOF {
			return nil
		} else if err != nil {
			return wrap(err)
		}
		if !fn(r) {
			return nil
		}
	}
}

// one runs a query that has at most one row; ErrNotFound without one.
func (c *conn) one(text string, args []driver.Value, fn func(row)) error {
	found := false
	err := c.query(text, args, func(r row) bool {
		found = true
		fn(r)
		return false
	})
	if err == nil && !found {
		return mailstore.ErrNotFound
	}
	return err
}

// row is one result row. A column of another type than it should be, as in a
// damaged database, reads as nothing.
type row []driver.Value

func (r row) int(i int) int64 {
	v, _ := r[i].(int64)
	return v
}

func (r row) str(i int) string {
	v, _ := r[i].(string)
	return v
}

func (r row) blob(i int) []byte {
	v, _ := r[i].([]byte)
	return v
}

// time reads nanoseconds.
func (r row) time(i int) time.Time {
	v := r.int(i)
	if v == 0 {
		return time.Time{}
	}
	return time.Unix(0, v).UTC()
}

// nanos writes nanoseconds.
func nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// text is a string, or NULL for an empty one.
func text(s string) driver.Value {
	if s == "" {
		return nil
	}
	return s
}

// wrap gives the driver's errors the meaning that mailstore asks for.
func wrap(err error) error {
	if err == nil {
		return nil
	}
	var e sqlite3.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("sqlite: %w", err)
	}
	full := e.Code == sqlite3.ErrFull ||
		e.ExtendedCode == sqlite3.ErrIoErrWrite && noSpace(e.SystemErrno)
	if full {
		return fmt.Errorf("%w: sqlite: %w", mailstore.ErrFull, err)
	}
	if e.Code == sqlite3.ErrCorrupt || e.Code == sqlite3.ErrNotADB {
		return fmt.Errorf("%w: sqlite: %w", mailstore.ErrDamaged, err)
	}
	if e.SystemErrno != 0 {
		return fmt.Errorf("sqlite: %w (%w)", err, e.SystemErrno)
	}
	return fmt.Errorf("sqlite: %w", err)
}

// failedSync tells whether an error is that of a sync.
func failedSync(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && (e.ExtendedCode == sqlite3.ErrIoErrFsync || e.ExtendedCode == sqlite3.ErrIoErrDirFsync)
}

// notWritten tells whether a commit failed with this error before its sync, and
// for a reason that leaves SQLite able to undo it.
func notWritten(err error) bool {
	var e sqlite3.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.ExtendedCode {
	case sqlite3.ErrIoErrWrite, sqlite3.ErrIoErrRead, sqlite3.ErrIoErrShortRead,
		sqlite3.ErrIoErrSHMOpen, sqlite3.ErrIoErrSHMSize, sqlite3.ErrIoErrSHMMap:
		return true
	}
	return false
}

// noSpace tells whether a system call failed for want of space.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
