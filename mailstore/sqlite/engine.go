package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"postrider/mailstore"
)

const (
	maxReaders  = 16       // connections for snapshots; more wait
	readerCache = 4 << 10  // KiB
	writerCache = 64 << 10 // KiB; also what a transaction changes before it writes to the log
	// smallCache is the writer's, in KiB, while the database has less than smallFile
	// octets. When a B-tree was balanced, SQLite has lent the number of the page at
	// that place, and drops it at the commit: for that it looks at every page in the
	// cache, 0.4 ms for 64 MiB, unless the file has that page.
	smallCache = 16 << 10
	smallFile  = 1 << 30
)

var (
	// ErrInUse: another process has the data directory open.
	ErrInUse = errors.New("the data directory is in use")
	// ErrNewer: a newer program has written the data directory.
	ErrNewer = errors.New("the data directory is of a newer version")
	// ErrOlder: an older program has written the data directory.
	ErrOlder = errors.New("the data directory is of an older version")
	// ErrOpenToOthers: the data directory or a file in it has a mode that lets
	// others in.
	ErrOpenToOthers = errors.New("open to others")
)

// Options has what an Engine needs; the zero value works.
type Options struct {
	Log *slog.Logger
	// Program is the version of this program, which is noted where it makes or
	// upgrades a database.
	Program string
	// Upgrade makes Open bring a database of an older version to the present one,
	// as Upgrade does. Without it one is refused with ErrOlder.
	Upgrade bool
	// Reserve is how many octets are kept for deleting when the disk is full;
	// 0 = 64 MiB.
	Reserve int64
}

// Engine is an open data directory.
type Engine struct {
	dir     string
	path    string // of the database
	program string
	log     *slog.Logger
	lock    *lock
	files   *files
	reserve *reserve

	writer *conn
	turn   sync.Mutex // held by a write transaction, or by a checkpoint that must finish
	check  *checkpointer

	failed atomic.Pointer[error] // the sync of a checkpoint that failed; nothing is written after it

	slots chan struct{} // one for each reader in use
	mu    sync.Mutex
	idle  []*conn
}

// Open opens the data directory dir, which is made if it is not there.
func Open(ctx context.Context, dir string, o Options) (*Engine, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := makePrivateDir(dir); err != nil {
		return nil, err
	}
	if err := finished(dir); err != nil {
		return nil, err
	}
	l, err := acquire(dir)
	if err != nil {
		return nil, err
	}
	if err := makeReady(ctx, dir, o); err != nil {
		return nil, errors.Join(err, l.release())
	}
	e := &Engine{
		dir:     dir,
		path:    filepath.Join(dir, "postrider.db"),
		program: o.Program,
		log:     o.Log,
		lock:    l,
		slots:   make(chan struct{}, maxReaders),
	}
	if err := e.open(cmp.Or(o.Reserve, reserveSize)); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// cacheFor is the size of the writer's cache, in KiB.
func cacheFor(path string) int {
	if fi, err := os.Stat(path); err == nil && fi.Size() < smallFile {
		return smallCache
	}
	return writerCache
}

// open opens what is in the directory.
func (e *Engine) open(reserve int64) error {
	var err error
	if e.reserve, err = openReserve(e.dir, reserve, e.log); err != nil {
		return err
	}
	if e.files, err = openFiles(e.dir); err != nil {
		return err
	}
	if err := makePrivateFile(e.path); err != nil {
		return err
	}
	if e.writer, err = connect(e.path, role{cache: cacheFor(e.path), write: true, joined: true}); err != nil {
		return fmt.Errorf("open %s: %w", e.path, err)
	}
	if err := e.setUp(); err != nil {
		return fmt.Errorf("open %s: %w", e.path, err)
	}
	if e.check, err = startCheckpoints(e); err != nil {
		return fmt.Errorf("open %s: %w", e.path, err)
	}
	return nil
}

// setUp asks for the log and for syncs, makes sure that it got them, and makes
// the schema where there is none.
func (e *Engine) setUp() error {
	if err := e.writer.keepLog(); err != nil {
		return err
	}
	err := e.writer.settle()
	if errors.Is(err, mailstore.ErrFull) {
		// Reading and deleting go on, and with them there will be space.
		e.log.Warn("no space to move the write-ahead log into the database", "error", err)
		err = nil
	}
	if err != nil {
		return err
	}
	if err := makeSchema(e.writer, e.dir, e.program); err != nil {
		return err
	}
	sync, err := e.writer.pragma("synchronous")
	if err != nil {
		return err
	}
	if sync != "2" {
		return fmt.Errorf("sqlite: synchronous is %s, not 2 (FULL)", sync)
	}
	return nil
}

// keepLog makes SQLite keep a write-ahead log.
func (c *conn) keepLog() error {
	mode, err := c.pragma("journal_mode = WAL")
	if err == nil && mode != "wal" {
		err = fmt.Errorf("sqlite: journal_mode is %s, not wal", mode)
	}
	return err
}

// settle moves what a process that did not end well has left in the log into
// the database, before anything is written behind it. Some of it may be in the
// system's memory only: a sync that failed is not repeated for the same pages,
// and the log would end there at the next loss of power, with all that follows.
func (c *conn) settle() error {
	var busy bool
	err := c.one("PRAGMA wal_checkpoint(TRUNCATE)", nil, func(r row) { busy = r.int(0) != 0 })
	if err == nil && busy {
		return errors.New("sqlite: another process reads the database")
	}
	return err
}

// Close ends everything. Snapshots must have been closed.
func (e *Engine) Close() error {
	var errs []error
	if e.check != nil {
		errs = append(errs, e.check.close())
	}
	errs = append(errs, e.closeIdle())
	if e.writer != nil { // the last: SQLite moves the log into the database
		errs = append(errs, e.writer.close())
	}
	errs = append(errs, e.reserve.close(), e.lock.release())
	return errors.Join(errs...)
}

// closeIdle closes the connections of snapshots that were closed.
func (e *Engine) closeIdle() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, c := range e.idle {
		errs = append(errs, c.close())
	}
	e.idle = nil
	return errors.Join(errs...)
}

// Snapshot waits for a connection and starts a snapshot at its first read.
func (e *Engine) Snapshot(ctx context.Context) (mailstore.Snapshot, error) {
	select {
	case e.slots <- struct{}{}:
	default:
		select {
		case e.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c, err := e.reader()
	if err == nil {
		if err = c.run("BEGIN"); err == nil {
			return &snapshot{reader: reader{c}, e: e}, nil
		}
		err = errors.Join(err, c.close())
	}
	<-e.slots
	return nil, err
}

// reader takes an idle connection, or opens one.
func (e *Engine) reader() (*conn, error) {
	e.mu.Lock()
	if n := len(e.idle); n > 0 {
		c := e.idle[n-1]
		e.idle = e.idle[:n-1]
		e.mu.Unlock()
		return c, nil
	}
	e.mu.Unlock()
	return connect(e.path, role{cache: readerCache})
}

// snapshot is a read transaction.
type snapshot struct {
	reader
	e *Engine
}

// Close ends the snapshot.
func (s *snapshot) Close() {
	c := s.c
	if c == nil {
		return
	}
	s.c = nil
	if err := c.run("ROLLBACK"); err != nil {
		s.e.log.Warn("end a snapshot", "error", err)
		if err := c.close(); err != nil {
			s.e.log.Warn("close a connection", "error", err)
		}
	} else {
		s.e.mu.Lock()
		s.e.idle = append(s.e.idle, c)
		s.e.mu.Unlock()
	}
	<-s.e.slots
}

// fail makes the next Begin say that a sync failed.
func (e *Engine) fail(err error) {
	err = fmt.Errorf("%w: %w", mailstore.ErrFailed, err)
	e.failed.CompareAndSwap(nil, &err)
}

// Begin starts the write transaction.
func (e *Engine) Begin() (mailstore.Writer, error) {
	e.turn.Lock()
	if err := e.failed.Load(); err != nil {
		e.turn.Unlock()
		return nil, *err
	}
	e.reserve.check()
	if err := e.writer.run("BEGIN IMMEDIATE"); err != nil {
		e.turn.Unlock()
		return nil, err
	}
	return &writer{reader: reader{e.writer}, e: e}, nil
}
