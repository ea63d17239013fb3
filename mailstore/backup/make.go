package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
)

const (
	database = "postrider.db"
	wal      = "postrider.db-wal"
	// walHeader is the length of the header of SQLite's log: its salts change
	// when the log begins anew.
	walHeader = 32
)

// Progress tells how far a backup or a restore is.
type Progress struct {
	Done, Total atomic.Int64 // octets that were read
}

// Options says how a backup is made.
type Options struct {
	Data    string // the data directory
	Dir     string // the backup directory, which is made if it is not there
	Program string // version, for the record
	Now     time.Time
	Full    bool // share no range with an earlier point
	Keep    int  // points that are kept, the new one included; at least 1
	// Held is an error when the store was not held all the time until now.
	Held     func() error
	Progress *Progress
}

// Summary is what a backup did.
type Summary struct {
	ID       string
	Database int64 // size of the database and its log
	Bodies   int64
	Written  int64 // octets that no earlier point had
	Removed  int   // points
	// Unreadable says of points that are kept, and cannot be read, what is wrong. While
	// there is one, nothing but points is removed: what it alone names is not known.
	Unreadable []string
}

// maker is one run.
type maker struct {
	o       Options
	id      string
	tmp     string
	sum     Summary
	before  *pointReader // the latest point; nil for none
	pack    *os.File
	packed  int64
	renamed map[string]bool // directories in which something was renamed
}

// Make makes a restore point. The data directory must be held. When it fails the
// points that were there are as they were.
func Make(ctx context.Context, o Options) (s Summary, err error) {
	for _, dir := range []string{"", "points", "packs", "bodies", "tmp"} {
		if err := makeDir(filepath.Join(o.Dir, dir)); err != nil {
			return s, err
		}
	}
	if info, err := os.Stat(o.Dir); err != nil || info.Mode().Perm()&0o077 != 0 {
		return s, errors.Join(err, fmt.Errorf("%s is open to others: run chmod 700 %[1]s", o.Dir))
	}
	l, err := lock(o.Dir)
	if err != nil {
		return s, err
	}
	defer l.Close()
	m := &maker{o: o, id: o.Now.UTC().Format(idLayout), tmp: filepath.Join(o.Dir, "tmp"), renamed: map[string]bool{}}
	if err := m.clear(); err != nil {
		return s, err
	}
	if err := m.latest(); err != nil {
		return s, err
	}
	if m.before != nil {
		defer m.before.Close()
	}
	if err := m.run(ctx); err != nil {
		return s, errors.Join(err, m.clear())
	}
	err = m.prune()
	return m.sum, err
}

// clear empties tmp.
func (m *maker) clear() error {
	entries, err := os.ReadDir(m.tmp)
	for _, e := range entries {
		err = errors.Join(err, os.Remove(filepath.Join(m.tmp, e.Name())))
	}
	return err
}

// latest opens the latest point that can be read.
func (m *maker) latest() error {
	ids, err := points(m.o.Dir)
	if err != nil || len(ids) == 0 {
		return err
	}
	if last := ids[len(ids)-1]; last >= m.id {
		return fmt.Errorf("the backup has a point of %s, which is not before %s: is the clock right?", last, m.id)
	}
	for _, id := range slices.Backward(ids) {
		if m.before, err = openPoint(m.o.Dir, id); err == nil {
			return nil
		}
	}
	return nil // all is copied
}

// run copies everything and makes the point.
func (m *maker) run(ctx context.Context) error {
	m.count()
	var err error
	if m.pack, err = create(filepath.Join(m.tmp, "pack")); err != nil {
		return err
	}
	defer m.pack.Close()
	h := &head{id: m.id, program: m.o.Program, taken: m.o.Now}
	whole := m.o.Full || m.wasteful()
	others, err := otherFiles(m.o.Data)
	if err != nil {
		return err
	}
	for _, name := range append([]string{database, wal}, others...) {
		f, err := m.file(ctx, name, whole)
		if err != nil {
			return err
		}
		if f != nil {
			h.files = append(h.files, *f)
		}
		if name == wal { // the snapshot is taken
			if err := m.o.Held(); err != nil {
				return err
			}
		}
	}
	if len(h.files) == 0 || h.files[0].name != database {
		return fmt.Errorf("%s has no %s", m.o.Data, database)
	}
	if err := m.pack.Sync(); err != nil {
		return err
	}
	if err := m.rename("pack", filepath.Join("packs", m.id)); err != nil {
		return err
	}
	f, err := create(filepath.Join(m.tmp, "point"))
	if err != nil {
		return err
	}
	p := newPointWriter(f)
	p.head(h)
	err = m.bodies(ctx, p)
	if err = errors.Join(err, p.close()); err != nil {
		return err
	}
	if err := m.o.Held(); err != nil {
		return err
	}
	for dir := range m.renamed {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	if err := m.rename("point", filepath.Join("points", m.id)); err != nil {
		return err
	}
	m.sum.ID = m.id
	return syncDir(filepath.Join(m.o.Dir, "points"))
}

// rename moves a file out of tmp.
func (m *maker) rename(from, to string) error {
	path := filepath.Join(m.o.Dir, to)
	m.renamed[filepath.Dir(path)] = true
	return os.Rename(filepath.Join(m.tmp, from), path)
}

// count tells the progress what there is to read.
func (m *maker) count() {
	total := int64(0)
	for _, name := range []string{database, wal} {
		if info, err := os.Stat(filepath.Join(m.o.Data, name)); err == nil {
			total += info.Size()
		}
	}
	m.o.Progress.Total.Store(total)
}

// wasteful tells whether more than half of the packs is of no use.
func (m *maker) wasteful() bool {
	if m.before == nil {
		return false
	}
	used, packs := int64(0), map[string]bool{}
	for _, f := range m.before.files {
		used += f.size
		for _, r := range f.pieces {
			packs[r.pack] = true
		}
	}
	size := int64(0)
	for id := range packs {
		if info, err := os.Stat(filepath.Join(m.o.Dir, "packs", id)); err == nil {
			size += info.Size()
		}
	}
	return size > 2*used
}

// file copies one file in pieces; nil when it is not there. SQLite's log is
// copied anew when it began anew meanwhile, which it can once during a hold.
func (m *maker) file(ctx context.Context, name string, whole bool) (*file, error) {
	in, err := os.Open(filepath.Join(m.o.Data, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	for {
		first := headOf(in)
		f, err := m.pieces(ctx, in, name, whole)
		if err != nil || name != wal || bytes.Equal(first, headOf(in)) {
			return f, err
		}
	}
}

func headOf(f *os.File) []byte {
	head := make([]byte, walHeader)
	n, _ := f.ReadAt(head, 0)
	return head[:n]
}

// pieces reads a file and writes the pieces that the latest point does not have.
func (m *maker) pieces(ctx context.Context, in *os.File, name string, whole bool) (*file, error) {
	var had []piece
	if m.before != nil && !whole {
		for _, f := range m.before.files {
			if f.name == name {
				had = f.pieces
			}
		}
	}
	f := &file{name: name}
	buf := make([]byte, rangeSize)
	for i := 0; ; i++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := in.ReadAt(buf, int64(i)*rangeSize)
		if err != nil && err != io.EOF {
			return nil, err
		}
		if n > 0 {
			r := piece{pack: m.id, offset: m.packed, size: int64(n), sum: sha256.Sum256(buf[:n])}
			if i < len(had) && had[i].sum == r.sum && had[i].size == r.size {
				r = had[i]
			} else {
				if _, err := m.pack.Write(buf[:n]); err != nil {
					return nil, err
				}
				m.packed += r.size
				m.sum.Written += r.size
			}
			f.pieces = append(f.pieces, r)
			f.size += r.size
			m.o.Progress.Done.Add(r.size)
		}
		if err == io.EOF {
			if name == database || name == wal {
				m.sum.Database += f.size
			}
			return f, nil
		}
	}
}

// bodies copies the bodies that the backup does not have, and lists all.
func (m *maker) bodies(ctx context.Context, p *pointWriter) error {
	had := cursor{p: m.before}
	for prefix := range 256 {
		names, err := bodyNames(filepath.Join(m.o.Data, "bodies"), prefix)
		if err != nil {
			return err
		}
		sub := filepath.Join(m.o.Dir, "bodies", fmt.Sprintf("%02x", prefix))
		if len(names) > 0 {
			if err := makeDir(sub); err != nil {
				return err
			}
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			b, known, err := had.find(name)
			if err != nil {
				return err
			}
			if info, err := os.Stat(filepath.Join(sub, name)); !known || err != nil || info.Size() != b.size {
				b.name = name
				b.size, b.sum, err = copyBody(filepath.Join(m.o.Data, "bodies", sub[len(sub)-2:], name), filepath.Join(m.tmp, name), filepath.Join(sub, name))
				if err != nil {
					return err
				}
				m.renamed[sub] = true
				m.sum.Written += b.size
			}
			p.body(b)
			m.sum.Bodies++
		}
	}
	return nil
}

// cursor walks through the bodies of a point in order.
type cursor struct {
	p    *pointReader
	b    body
	some bool // b is one
	end  bool
}

// find finds a body; names are asked for in order.
func (c *cursor) find(name string) (body, bool, error) {
	for c.p != nil && !c.end && (!c.some || c.b.name < name) {
		var err error
		if c.b, err = c.p.next(); err == io.EOF {
			c.end, c.some = true, false
		} else if err != nil {
			return body{}, false, err
		} else {
			c.some = true
		}
	}
	return c.b, c.some && c.b.name == name, nil
}

// prune removes points beyond those that are kept, and what no point names. Those
// that cannot be read do not count, and go when all the older ones do.
func (m *maker) prune() error {
	ids, err := points(m.o.Dir)
	if err != nil {
		return err
	}
	packs := map[string]bool{}
	var all []*cursor
	keep := max(m.o.Keep, 1)
	for _, id := range slices.Backward(ids) {
		path := filepath.Join(m.o.Dir, "points", id)
		if len(all) == keep {
			if err := os.Remove(path); err != nil {
				return err
			}
			m.sum.Removed++
			continue
		}
		p, err := openPoint(m.o.Dir, id)
		if err != nil {
			m.sum.Unreadable = append(m.sum.Unreadable,
				fmt.Sprintf("the restore point %s cannot be read (%v): until %s is removed, or %d later ones are made, no space is freed", id, err, path, keep-len(all)))
			continue
		}
		defer p.Close()
		for _, f := range p.files {
			for _, r := range f.pieces {
				packs[r.pack] = true
			}
		}
		all = append(all, &cursor{p: p})
	}
	// That they are gone is durable before what they name goes.
	if err := syncDir(filepath.Join(m.o.Dir, "points")); err != nil || len(m.sum.Unreadable) > 0 {
		return err
	}
	if err := m.prunePacks(packs); err != nil {
		return err
	}
	return m.pruneBodies(all)
}

func (m *maker) prunePacks(used map[string]bool) error {
	dir := filepath.Join(m.o.Dir, "packs")
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if !used[e.Name()] {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

func (m *maker) pruneBodies(all []*cursor) error {
	for prefix := range 256 {
		names, err := bodyNames(filepath.Join(m.o.Dir, "bodies"), prefix)
		if err != nil {
			return err
		}
		for _, name := range names {
			used := false
			for _, c := range all {
				_, found, err := c.find(name)
				if err != nil {
					return err
				}
				used = used || found
			}
			if used {
				continue
			}
			if err := os.Remove(filepath.Join(m.o.Dir, "bodies", fmt.Sprintf("%02x", prefix), name)); err != nil {
				return err
			}
		}
	}
	return nil
}
