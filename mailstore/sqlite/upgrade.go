package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"postrider/mailstore"
)

const (
	// scratchDir, in the data directory, is where an upgrade has its copy.
	scratchDir = "upgrade"
	copyChunk  = 1 << 20
	// spareSpace is what an upgrade leaves free.
	spareSpace = 16 << 20
)

// ErrDiffers: the database that an upgrade made would show clients something
// else than the old one.
var ErrDiffers = errors.New("clients would see a difference")

// SpaceError tells what an upgrade needs. It wraps mailstore.ErrFull.
type SpaceError struct {
	Dir        string
	Need, Free int64 // octets
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("an upgrade needs %d MiB of free space in %s, for a copy of the database, and %d MiB are free: make room and try again; nothing was changed",
		e.Need>>20+1, e.Dir, e.Free>>20)
}

func (e *SpaceError) Unwrap() error { return mailstore.ErrFull }

// UpgradeOptions says how Upgrade works; the zero value upgrades.
type UpgradeOptions struct {
	// Program is the version of this program, which is noted in the database.
	Program string
	// DryRun changes nothing in the data directory: its copy is upgraded,
	// verified, compared and removed.
	DryRun bool
	// Held is for a dry run beside a server that keeps its files as they are: it
	// is an error when it did not do so until now. Where it is nil, Upgrade locks
	// the directory.
	Held     func() error
	Progress *UpgradeProgress
}

// UpgradeProgress tells how far an upgrade is.
type UpgradeProgress struct {
	stage       atomic.Pointer[string]
	done, total atomic.Int64
	verify      mailstore.VerifyProgress
	log         *slog.Logger
}

// State is what is being done, and how much of it is: octets or messages.
func (p *UpgradeProgress) State() (stage string, done, total int64) {
	if s := p.stage.Load(); s != nil {
		stage = *s
	}
	if stage == stageVerify {
		return stage, p.verify.Done.Load(), p.verify.Total.Load()
	}
	return stage, p.done.Load(), p.total.Load()
}

const (
	stageCopy    = "copy"
	stageMigrate = "migrate"
	stageCompare = "compare"
	stageVerify  = "verify"
)

func (p *UpgradeProgress) begin(stage string, total int64) {
	p.done.Store(0)
	p.total.Store(total)
	p.stage.Store(&stage)
	if p.log != nil {
		p.log.Info("upgrade of the database", "stage", stage, "total", total)
	}
}

// add counts, and tells the log of each tenth of what takes long.
func (p *UpgradeProgress) add(n int64) {
	const long = 1000 // messages, or megabytes
	done, total := p.done.Add(n), p.total.Load()
	if p.log == nil || total == 0 || n*10 > total || total < long {
		return
	}
	if tenth := done * 10 / total; tenth > (done-n)*10/total {
		p.log.Info("upgrade of the database", "stage", *p.stage.Load(), "done", fmt.Sprint(tenth*10, " %"))
	}
}

// Upgraded is what Upgrade did.
type Upgraded struct {
	From, To    int    // versions; equal where there was nothing to do
	Kept        string // the file with the old database; "" for none
	Size        int64  // octets of the old database
	Need        int64  // octets of free space that it takes, about
	Counts      Counts // of the old database
	Differences []Difference
	Differ      int // Differences are the first of so many
	// Of a dry run:
	Findings         []mailstore.Finding
	Verified, Octets int64 // bodies, that were read
}

// Upgrade brings the database of a data directory to the present version. All is
// done to a copy, which takes the old one's place at once and at the end; the old
// one stays beside it, as it was. When it fails, or the process or the machine
// ends, the directory has the old database or the new one, and the next Upgrade
// or Open removes what is left of the copy. Errors: ErrInUse, ErrNewer, a
// *SpaceError before anything is written, ErrDiffers; all leave the old one.
func Upgrade(ctx context.Context, dir string, o UpgradeOptions) (u Upgraded, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return u, err
	}
	n, err := headerVersion(filepath.Join(dir, "postrider.db"))
	if err != nil {
		return u, fmt.Errorf("there is no database: %w", err)
	}
	if n == Version {
		return Upgraded{From: n, To: n}, nil
	}
	if o.Held == nil {
		l, err := acquire(dir)
		if err != nil {
			return u, err
		}
		defer func() { err = errors.Join(err, l.release()) }()
		if err := finished(dir); err != nil {
			return u, err
		}
	}
	return newUpgrade(dir, o).run(ctx)
}

// makeReady makes a locked directory ready to be opened: what an upgrade has left
// goes, and where o says so an older database is upgraded.
func makeReady(ctx context.Context, dir string, o Options) error {
	if _, err := os.Stat(filepath.Join(dir, scratchDir)); err == nil {
		// A dry run beside the server before this one may still have it.
		if s, err := claim(dir); err != nil {
			o.Log.Warn("remove what an upgrade has left", "error", err)
		} else if err := s.remove(); err != nil {
			o.Log.Warn("remove what an upgrade has left", "error", err)
		}
	}
	n, err := headerVersion(filepath.Join(dir, "postrider.db"))
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && n >= Version:
		return nil
	case err != nil:
		return err
	case !o.Upgrade && n > 0:
		return older(dir, n)
	case !o.Upgrade:
		return nil // a new one, or one whose log alone tells its version
	}
	p := &UpgradeProgress{}
	if n > 0 {
		p.log = o.Log
	}
	u, err := newUpgrade(dir, UpgradeOptions{Program: o.Program, Progress: p}).run(ctx)
	if err != nil {
		return fmt.Errorf("upgrade the database in %s: %w", dir, err)
	}
	if u.Kept != "" {
		o.Log.Warn("upgraded the database; the old one is kept: remove it when all is well",
			"from", u.From, "to", u.To, "kept", u.Kept, "octets", u.Size)
	}
	return nil
}

// upgrade is one run.
type upgrade struct {
	UpgradeOptions
	dir  string
	path string // of the old database
	copy string
	u    Upgraded
	free func(dir string) (int64, error)
}

func newUpgrade(dir string, o UpgradeOptions) *upgrade {
	if o.Progress == nil {
		o.Progress = &UpgradeProgress{}
	}
	return &upgrade{UpgradeOptions: o, dir: dir, path: filepath.Join(dir, "postrider.db"),
		copy: filepath.Join(dir, scratchDir, "postrider.db"), free: freeSpace}
}

// freeSpace is how many octets are free for us.
func freeSpace(dir string) (int64, error) {
	var fs syscall.Statfs_t
	err := syscall.Statfs(dir, &fs)
	return int64(fs.Bavail) * fs.Bsize, err
}

func (x *upgrade) run(ctx context.Context) (_ Upgraded, err error) {
	if err := private(x.path, "chmod 600"); err != nil {
		return x.u, err
	}
	grows := int64(0)
	if !x.DryRun {
		var done bool
		if grows, done, err = x.settle(); err != nil || done {
			return x.u, err
		}
	}
	size := x.size()
	if err := x.space(size + grows); err != nil {
		return x.u, err
	}
	s, err := claim(x.dir)
	if err != nil {
		return x.u, err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	x.Progress.begin(stageCopy, size>>20)
	if err := x.copyAll(ctx); err != nil {
		return x.u, fmt.Errorf("copy the database: %w", err)
	}
	if err := x.try(ctx); err != nil || x.DryRun || x.u.From == x.u.To {
		return x.u, err
	}
	if x.u.Differ > 0 {
		return x.u, fmt.Errorf("%w: the upgraded database has %d differences, the first: %s; the old one stays in use, and postrider upgrade --dry-run shows more",
			ErrDiffers, x.u.Differ, x.u.Differences[0].String())
	}
	return x.u, x.replace()
}

// settle moves the log of the old database into it. done: there is nothing to
// upgrade.
func (x *upgrade) settle() (grows int64, done bool, err error) {
	c, err := connect(x.path, role{cache: readerCache, write: true})
	if err != nil {
		return 0, false, fmt.Errorf("open %s: %w", x.path, err)
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := errors.Join(c.keepLog(), c.settle()); err != nil {
		return 0, false, fmt.Errorf("open %s: %w", x.path, err)
	}
	if err := x.versions(c); err != nil {
		return 0, false, err
	}
	if x.u.From == 0 || x.u.From == Version {
		x.u.From = Version
		return 0, true, nil
	}
	grows, err = growth(c, x.u.From)
	return grows, false, err
}

// versions notes the version of the database.
func (x *upgrade) versions(c *conn) (err error) {
	x.u.From, err = schemaVersion(c, x.dir, x.Program)
	x.u.To = Version
	if err == nil && x.u.From > 0 {
		err = hasShape(c, x.dir, x.u.From)
	}
	return err
}

// growth is what all steps add.
func growth(c *conn, from int) (sum int64, err error) {
	for _, s := range migrations[from:] {
		if s.grows == nil {
			continue
		}
		n, err := s.grows(c)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// size is that of the database and its log.
func (x *upgrade) size() (n int64) {
	for _, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(x.path + suffix); err == nil {
			n += info.Size()
		}
	}
	x.u.Size = n
	return n
}

// space is a *SpaceError where less is free than is needed.
func (x *upgrade) space(need int64) error {
	need += spareSpace
	x.u.Need = max(x.u.Need, need)
	free, err := x.free(x.dir)
	if err != nil {
		return fmt.Errorf("space of %s: %w", x.dir, err)
	}
	if free < need {
		return &SpaceError{x.dir, need, free}
	}
	return nil
}

// copyAll copies the database and, for a dry run, its log.
func (x *upgrade) copyAll(ctx context.Context) error {
	if err := x.copyFile(ctx, x.path, x.copy); err != nil || !x.DryRun {
		return err
	}
	if err := x.copyLog(ctx); err != nil {
		return err
	}
	if x.Held != nil {
		return x.Held()
	}
	return nil
}

// copyLog copies the write-ahead log, anew where it began anew meanwhile, which it
// can once while the files are held: its header has other salts then.
func (x *upgrade) copyLog(ctx context.Context) error {
	const header = 32
	from, to := x.path+"-wal", x.copy+"-wal"
	for {
		f, err := os.Open(from)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		before, after := make([]byte, header), make([]byte, header)
		_, err = f.ReadAt(before, 0)
		if cerr := x.copyFile(ctx, from, to); cerr != nil {
			return errors.Join(cerr, f.Close())
		}
		_, _ = f.ReadAt(after, 0)
		if cerr := f.Close(); cerr != nil {
			return cerr
		}
		if err == io.EOF || bytes.Equal(before, after) {
			return nil
		}
		if err := removeFile(to); err != nil {
			return err
		}
	}
}

// copyFile copies a file to a new one, durably.
func (x *upgrade) copyFile(ctx context.Context, from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := openFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return space(err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	buf := make([]byte, copyChunk)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := in.Read(buf)
		if err == io.EOF {
			return synced(syncFile(out))
		}
		if err != nil {
			return err
		}
		if _, err := writeFile(out, buf[:n]); err != nil {
			return space(err)
		}
		x.Progress.add(1)
	}
}

// try upgrades the copy and compares what clients see of it before and after.
func (x *upgrade) try(ctx context.Context) (err error) {
	w, err := connect(x.copy, role{cache: writerCache, write: true})
	if err != nil {
		return fmt.Errorf("open the copy: %w", err)
	}
	defer func() {
		if w != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if err := errors.Join(w.keepLog(), w.settle()); err != nil {
		return fmt.Errorf("open the copy: %w", err)
	}
	if err := x.versions(w); err != nil {
		return err
	}
	if x.u.From == 0 || x.u.From == Version {
		x.u.From = Version
		return nil
	}
	grows, err := growth(w, x.u.From)
	if err == nil && x.DryRun {
		x.u.Need += grows
		err = x.space(grows)
	}
	if err != nil {
		return err
	}
	if err := x.migrate(ctx, w); err != nil {
		return err
	}
	err = errors.Join(w.settle(), w.close())
	w = nil
	if err != nil {
		return err
	}
	return noLog(x.copy)
}

// migrate takes the steps on the copy and compares. What was there before is
// read from a snapshot.
func (x *upgrade) migrate(ctx context.Context, w *conn) (err error) {
	old, err := x.snapshot()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.close()) }()
	total := int64(0)
	if err := w.one("SELECT ifnull(sum(messages), 0) FROM mailbox", nil, func(r row) { total = r.int(0) }); err != nil {
		return err
	}
	x.Progress.begin(stageMigrate, total)
	err = advance(w, x.dir, x.u.From, x.Program, func(n int64) error {
		x.Progress.add(n)
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	now, err := x.snapshot()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, now.close()) }()
	x.Progress.begin(stageCompare, total)
	if err := x.compare(ctx, viewOf(x.u.From, reader{old}), viewOf(Version, reader{now})); err != nil {
		return fmt.Errorf("compare the upgraded database with the old one: %w", err)
	}
	if x.DryRun {
		return x.verify(ctx)
	}
	return nil
}

// snapshot opens a connection that goes on seeing the copy as it is.
func (x *upgrade) snapshot() (*conn, error) {
	c, err := connect(x.copy, role{cache: readerCache})
	if err != nil {
		return nil, err
	}
	if err = c.run("BEGIN"); err == nil {
		_, err = c.pragma("user_version")
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// verify checks the upgraded copy, with the bodies where they are.
func (x *upgrade) verify(ctx context.Context) (err error) {
	x.Progress.begin(stageVerify, 0)
	bodies := filepath.Join(x.dir, "bodies")
	e := &Engine{dir: x.dir, path: x.copy, log: slog.New(slog.DiscardHandler), slots: make(chan struct{}, maxReaders),
		files: &files{dir: bodies, tmp: filepath.Join(bodies, "tmp")}}
	defer func() { err = errors.Join(err, e.closeIdle()) }()
	snap, err := e.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer snap.Close()
	err = mailstore.VerifyEngine(ctx, e, snap, &x.Progress.verify, func(f mailstore.Finding) {
		if f.Kind != "file" { // which a crash may leave, and a server in the making of one
			x.u.Findings = append(x.u.Findings, f)
		}
	})
	x.u.Verified, x.u.Octets = x.Progress.verify.Bodies.Load(), x.Progress.verify.Done.Load()
	if err == nil && x.Held != nil {
		err = x.Held()
	}
	return err
}
