package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// restoring is the directory that a restore which is not finished has.
const restoring = "restoring"

// Point describes a restore point.
type Point struct {
	ID       string    `json:"id"`
	Taken    time.Time `json:"taken"`
	Program  string    `json:"program"`
	Database int64     `json:"database"` // octets, the log included
	Bodies   int64     `json:"bodies"`
	Octets   int64     `json:"octets"` // of bodies
	Damaged  string    `json:"damaged,omitempty"`
}

// List lists the points of a backup, oldest first.
func List(dir string) ([]Point, error) {
	ids, err := points(dir)
	if err != nil {
		return nil, err
	}
	list := []Point{}
	for _, id := range ids {
		p, err := describe(dir, id)
		if err != nil {
			p = Point{ID: id, Damaged: err.Error()}
		}
		list = append(list, p)
	}
	return list, nil
}

func describe(dir, id string) (Point, error) {
	r, err := openPoint(dir, id)
	if err != nil {
		return Point{}, err
	}
	defer r.Close()
	p := Point{ID: id, Taken: r.taken, Program: r.program}
	for _, f := range r.files {
		if f.name == database || f.name == wal {
			p.Database += f.size
		}
	}
	for {
		b, err := r.next()
		if err == io.EOF {
			return p, nil
		}
		if err != nil {
			return p, err
		}
		p.Bodies++
		p.Octets += b.size
	}
}

// restorer is one run.
type restorer struct {
	dir, to, tmp string
	p            *pointReader
	progress     *Progress
	packs        map[string]*os.File
	made         []string // directories
	uid, gid     int      // who gets the files; -1 = nobody else
}

// Restore makes a data directory of a point: of the latest with id "". The
// directory must be absent or empty, but for what an earlier Restore that was cut
// short has left. As root its files go to the owner of the directory.
func Restore(ctx context.Context, dir, id, to string, progress *Progress) (string, error) {
	ids, err := points(dir)
	if err != nil {
		return "", err
	}
	switch {
	case id == "" && len(ids) == 0:
		return "", fmt.Errorf("%s has no restore point", dir)
	case id == "":
		id = ids[len(ids)-1]
	case !slices.Contains(ids, id):
		return "", fmt.Errorf("%s has no restore point %s: see --list", dir, id)
	}
	p, err := openPoint(dir, id)
	if err != nil {
		return "", err
	}
	defer p.Close()
	r := &restorer{dir: dir, to: to, tmp: filepath.Join(to, restoring), p: p, progress: progress, packs: map[string]*os.File{}}
	defer func() {
		for _, f := range r.packs {
			f.Close()
		}
	}()
	if err := makeDir(to); err != nil {
		return "", err
	}
	here, err := os.Open(to)
	if err != nil {
		return "", err
	}
	if here, err = locked(here, fmt.Errorf("another restore is at work in %s", to)); err != nil {
		return "", err
	}
	defer here.Close()
	if err := r.begin(); err != nil {
		return "", err
	}
	if err := r.copyAll(ctx); err != nil {
		return "", err
	}
	return id, r.finish()
}

// begin makes empty what is left of another Restore.
func (r *restorer) begin() error {
	entries, err := os.ReadDir(r.to)
	if err != nil {
		return err
	}
	_, err = os.Stat(r.tmp)
	unfinished := err == nil
	for _, e := range entries {
		if !unfinished || e.Name() == database {
			return fmt.Errorf("%s is not empty: a backup is restored to a new or an empty directory", r.to)
		}
	}
	for _, e := range entries { // restoring is the last to go
		if e.Name() != restoring {
			if err := os.RemoveAll(filepath.Join(r.to, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.RemoveAll(r.tmp); err != nil {
		return err
	}
	info, err := os.Stat(r.to)
	if err != nil {
		return err
	}
	r.uid, r.gid = -1, -1
	if uid, gid := owner(info); os.Geteuid() == 0 && uid != 0 {
		r.uid, r.gid = uid, gid
	}
	if err := os.Chmod(r.to, 0o700); err != nil {
		return err
	}
	return r.mkdir(r.tmp)
}

// mkdir makes a directory, with those above it in tmp.
func (r *restorer) mkdir(dir string) error {
	if slices.Contains(r.made, dir) {
		return nil
	}
	if dir != r.tmp {
		if err := r.mkdir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	r.made = append(r.made, dir)
	return errors.Join(os.Mkdir(dir, 0o700), os.Lchown(dir, r.uid, r.gid))
}

// write makes a file of what fill writes, durably.
func (r *restorer) write(name string, fill func(io.Writer) error) error {
	path := filepath.Join(r.tmp, name)
	if err := r.mkdir(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := create(path)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Chown(r.uid, r.gid), f.Sync(), f.Close())
}

func (r *restorer) copyAll(ctx context.Context) error {
	total := int64(0)
	for _, f := range r.p.files {
		total += f.size
	}
	r.progress.Total.Store(total)
	for i := range r.p.files {
		f := &r.p.files[i]
		if err := r.write(f.name, func(w io.Writer) error { return r.copyFile(ctx, f, w) }); err != nil {
			return err
		}
	}
	for {
		b, err := r.p.next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		name := filepath.Join("bodies", b.name[:2], b.name)
		if err := r.write(name, func(w io.Writer) error { return r.copyBody(&b, name, w) }); err != nil {
			return err
		}
	}
	for _, dir := range r.made {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// copyFile puts a file together.
func (r *restorer) copyFile(ctx context.Context, f *file, w io.Writer) error {
	buf := make([]byte, rangeSize)
	for _, p := range f.pieces {
		if err := ctx.Err(); err != nil {
			return err
		}
		in := r.packs[p.pack]
		if in == nil {
			var err error
			if in, err = os.Open(filepath.Join(r.dir, "packs", p.pack)); err != nil {
				return err
			}
			r.packs[p.pack] = in
		}
		n, err := in.ReadAt(buf[:p.size], p.offset)
		if int64(n) < p.size || sha256.Sum256(buf[:n]) != p.sum {
			return errors.Join(fmt.Errorf("%w: pack %s at %d has other octets than were written", ErrDamaged, p.pack, p.offset), unlessEOF(err))
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		r.progress.Done.Add(p.size)
	}
	return nil
}

func unlessEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (r *restorer) copyBody(b *body, name string, w io.Writer) error {
	in, err := os.Open(filepath.Join(r.dir, name))
	if err != nil {
		return err
	}
	defer in.Close()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, h), in); err != nil {
		return err
	}
	if [sha256.Size]byte(h.Sum(nil)) != b.sum {
		return fmt.Errorf("%w: %s has other octets than were written", ErrDamaged, in.Name())
	}
	return nil
}

// finish moves everything into place, the database last but for the directory
// that says that this is not finished.
func (r *restorer) finish() error {
	entries, err := os.ReadDir(r.tmp)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != database {
			if err := os.Rename(filepath.Join(r.tmp, e.Name()), filepath.Join(r.to, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := syncDir(r.to); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(r.tmp, database), filepath.Join(r.to, database)); err != nil {
		return err
	}
	if err := errors.Join(syncDir(r.to), syncDir(r.tmp)); err != nil {
		return err
	}
	if err := os.Remove(r.tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(r.to)
}
