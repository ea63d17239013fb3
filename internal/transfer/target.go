package transfer

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"postrider/mailstore"
)

// maxFileName is the most octets of a file's name on Linux.
const maxFileName = 255

// parent is the folder of a path.
func parent(path string) string { return filepath.Dir(filepath.Clean(path)) }

// draft is the name under which an export is written before it is complete. A
// crash leaves it; its name says what it is.
func draft(dest string) string {
	return filepath.Join(parent(dest), "."+filepath.Base(filepath.Clean(dest))+".partial-"+strings.ToLower(rand.Text()[:8]))
}

// syncDir makes names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// publish gives what was written its name, unless that is taken.
func publish(from, to string) error {
	if fi, err := os.Lstat(from); err != nil {
		return err
	} else if fi.IsDir() {
		if _, err := os.Lstat(to); err == nil {
			return fmt.Errorf("%s appeared meanwhile; nothing is overwritten", to)
		}
		if err := os.Rename(from, to); err != nil {
			return err
		}
		return syncDir(parent(to))
	}
	if err := os.Link(from, to); err != nil { // unlike a rename it never overwrites
		return err
	}
	if err := os.Remove(from); err != nil {
		return err
	}
	return syncDir(parent(to))
}

// mboxTarget writes an mbox file, or a folder of them.
type mboxTarget struct {
	dest, draft string
	dialect     Dialect
	single      bool // one file
	file        *os.File
	w           *bufio.Writer
	dirs        map[string]bool // made below draft
	done        bool
}

func newMboxTarget(dest string, d Dialect, single bool) (*mboxTarget, error) {
	t := &mboxTarget{dest: dest, draft: draft(dest), dialect: d, single: single, dirs: make(map[string]bool)}
	if single {
		return t, nil
	}
	t.dirs[t.draft] = true
	return t, os.Mkdir(t.draft, 0o700)
}

func (t *mboxTarget) Begin(name string) error {
	path := t.draft
	if !t.single {
		levels := strings.Split(name, "/")
		for i := range levels {
			levels[i] = escapeLevel(levels[i])
			if len(levels[i])+len(mboxSuffix) > maxFileName {
				return fmt.Errorf("the name is too long for a file: it %w", errDialect)
			}
			if i > 0 {
				path = filepath.Join(path, levels[i-1])
				if err := t.mkdir(path); err != nil {
					return err
				}
			}
		}
		path = filepath.Join(path, levels[len(levels)-1]+mboxSuffix)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	t.file, t.w = file, bufio.NewWriterSize(file, 256<<10)
	return nil
}

func (t *mboxTarget) mkdir(path string) error {
	if t.dirs[path] {
		return nil
	}
	t.dirs[path] = true
	return os.Mkdir(path, 0o700)
}

func (t *mboxTarget) Add(h messageHead, c content) error {
	return writeMbox(t.w, t.dialect, c, h.flags(), time.Unix(h.Internal, 0))
}

func (t *mboxTarget) End() error {
	if err := t.w.Flush(); err != nil {
		return err
	}
	if err := t.file.Sync(); err != nil {
		return err
	}
	err := t.file.Close()
	t.file = nil
	return err
}

func (t *mboxTarget) Commit() error {
	for dir := range t.dirs {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	if err := publish(t.draft, t.dest); err != nil {
		return err
	}
	t.done = true
	return nil
}

func (t *mboxTarget) Abort() {
	if t.done {
		return
	}
	if t.file != nil {
		t.file.Close()
	}
	os.RemoveAll(t.draft)
}

// maildirTarget writes a Maildir++.
type maildirTarget struct {
	dest, draft string
	single      bool // one mailbox, which is the Maildir itself
	now         int64
	serial      int

	dir     string // of the mailbox in hand
	letters map[string]int
	more    []string // lines of moreKeywordsFile
	unsaved []*os.File
	done    bool
}

func newMaildirTarget(dest string, now time.Time, single bool) (*maildirTarget, error) {
	t := &maildirTarget{dest: dest, draft: draft(dest), now: now.Unix(), single: single}
	if err := os.Mkdir(t.draft, 0o700); err != nil {
		return nil, err
	}
	// Without cur it would not be a Maildir, whatever else is in it.
	return t, makeMaildir(t.draft)
}

func makeMaildir(dir string) error {
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// syncMaildir makes the names in a Maildir durable.
func syncMaildir(dir string) error {
	for _, sub := range []string{"cur", "new", "tmp", "."} {
		if err := syncDir(filepath.Join(dir, sub)); err != nil {
			return err
		}
	}
	return nil
}

func (t *maildirTarget) Begin(name string) error {
	t.dir, t.letters, t.more = t.draft, make(map[string]int), nil
	if name == mailstore.Inbox || t.single {
		return nil
	}
	levels := strings.Split(name, "/")
	for i := range levels {
		levels[i] = encodeLevel(levels[i])
	}
	folder := "." + strings.Join(levels, ".")
	if len(folder) > maxFileName {
		return fmt.Errorf("the name is too long for a folder: it %w", errDialect)
	}
	t.dir = filepath.Join(t.draft, folder)
	if err := os.Mkdir(t.dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(t.dir, "maildirfolder"), nil, 0o600); err != nil {
		return err
	}
	return makeMaildir(t.dir)
}

func (t *maildirTarget) Add(h messageHead, c content) error {
	x, err := examine(c)
	if err != nil {
		return err
	}
	ends := toLF
	if !x.clean {
		ends = keepEnds
	}
	t.serial++
	tmp := filepath.Join(t.dir, "tmp", fmt.Sprint(t.serial))
	file, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	t.unsaved = append(t.unsaved, file)
	size, err := io.Copy(file, newConverter(io.NewSectionReader(c, 0, c.Size()), c.Size(), ends, noQuotes))
	if err != nil {
		return err
	}
	n := maildirName{base: maildirBase(t.now, t.serial, size, x.wide, !x.clean), system: mailstore.SystemFlags(h.System)}
	t.keywords(&n, h.Keywords)
	when := time.Unix(h.Internal, 0)
	if err := os.Chtimes(tmp, when, when); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(t.dir, "cur", n.String())); err != nil {
		return err
	}
	if len(t.unsaved) < syncAtOnce {
		return nil
	}
	return t.sync()
}

// keywords gives each keyword its letter, or a place among those that have none.
func (t *maildirTarget) keywords(n *maildirName, keywords []string) {
	var rest []string
	for _, k := range keywords {
		if k == forwarded {
			n.passed = true
			continue
		}
		letter, ok := t.letters[k]
		if !ok && len(t.letters) < maxLetters {
			letter, ok = len(t.letters), true
			t.letters[k] = letter
		}
		if ok {
			n.letters = append(n.letters, letter)
		} else {
			rest = append(rest, k)
		}
	}
	slices.Sort(n.letters)
	if len(rest) > 0 {
		t.more = append(t.more, n.base+" "+strings.Join(rest, " "))
	}
}

// syncAtOnce is how many files are made durable side by side: the file system
// serves them by one write of its journal.
const syncAtOnce = 64

// sync makes the files durable and closes them.
func (t *maildirTarget) sync() error {
	files := t.unsaved
	t.unsaved = nil
	errs := make([]error, len(files))
	var wg sync.WaitGroup
	for i, f := range files {
		wg.Go(func() { errs[i] = errors.Join(f.Sync(), f.Close()) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (t *maildirTarget) End() error {
	var lines []string
	for _, k := range slices.SortedFunc(maps.Keys(t.letters), func(a, b string) int { return t.letters[a] - t.letters[b] }) {
		lines = append(lines, fmt.Sprintf("%d %s", t.letters[k], k))
	}
	for name, text := range map[string][]string{keywordsFile: lines, moreKeywordsFile: t.more} {
		if len(text) == 0 {
			continue
		}
		file, err := os.OpenFile(filepath.Join(t.dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		t.unsaved = append(t.unsaved, file)
		if _, err := io.WriteString(file, strings.Join(text, "\n")+"\n"); err != nil {
			return err
		}
	}
	if err := t.sync(); err != nil {
		return err
	}
	return syncMaildir(t.dir)
}

func (t *maildirTarget) Commit() error {
	if err := syncMaildir(t.draft); err != nil {
		return err
	}
	if err := publish(t.draft, t.dest); err != nil {
		return err
	}
	t.done = true
	return nil
}

func (t *maildirTarget) Abort() {
	if t.done {
		return
	}
	for _, f := range t.unsaved {
		f.Close()
	}
	os.RemoveAll(t.draft)
}
