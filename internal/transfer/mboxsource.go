package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"postrider/mailstore"
)

// mboxSuffix is that of the files in a folder of mbox files.
const mboxSuffix = ".mbox"

// maxMboxDepth is how deep below the source folders of mbox files are looked for.
const maxMboxDepth = mailstore.MaxNameDepth

// mboxes is one mbox file, or a folder of them: A.mbox is the mailbox A, and
// A/B.mbox is A/B.
type mboxes struct {
	root    *os.Root
	single  string // the one file's name in root; "" = all
	name    string
	id      string
	dialect Dialect
}

// OpenMbox opens an mbox file, or a folder of files named *.mbox, for an import.
func OpenMbox(name string, d Dialect) (Source, error) {
	id, err := identity(name)
	if err != nil {
		return nil, err
	}
	fi, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	m := &mboxes{name: name, id: "mbox:" + id, dialect: d}
	dir := id
	if !fi.IsDir() {
		dir, m.single = filepath.Split(id)
	}
	m.root, err = os.OpenRoot(dir)
	return m, err
}

// identity is a path in the form that does not depend on how it was typed.
func identity(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

func (m *mboxes) Identity() string { return m.id }
func (m *mboxes) Unit() string     { return "octets" }
func (m *mboxes) Close() error     { return m.root.Close() }

func (m *mboxes) Folders(context.Context) ([]Folder, error) {
	if m.single != "" {
		fi, err := m.root.Stat(m.single)
		if err != nil {
			return nil, err
		}
		return []Folder{{Name: m.name, Mailbox: mailstore.Inbox, Work: fi.Size(), path: m.single}}, nil
	}
	var list []Folder
	err := fs.WalkDir(m.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		stem, ok := strings.CutSuffix(name, mboxSuffix)
		if d.IsDir() || !ok {
			if strings.Count(name, "/") >= maxMboxDepth {
				return fs.SkipDir
			}
			return nil
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		levels := strings.Split(stem, "/")
		for i := range levels {
			levels[i] = unescapeLevel(levels[i])
		}
		list = append(list, Folder{Name: name, Mailbox: mailboxName(levels), Subscribed: true, Work: fi.Size(), path: name})
		return nil
	})
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%s has no file named *%s", m.name, mboxSuffix)
	}
	slices.SortFunc(list, func(a, b Folder) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

func (m *mboxes) Read(ctx context.Context, f Folder, v Visitor) error {
	file, err := m.root.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("%s is not a plain file", path.Join(m.name, f.path))
	}
	r := newMboxReader(file, fi.Size(), m.dialect)
	copies := make(map[Mark]uint32)
	for number := 1; ; number++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		msg, err := r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		msg.number = number
		if !msg.hidden {
			if err := takeMbox(file, f, msg, copies, v); err != nil {
				return err
			}
		}
		v.Done(msg.next - msg.start)
	}
}

// maxHeld is the size up to which a message is kept in memory between the
// reading that finds whether it is known and its import.
const maxHeld = 1 << 20

// takeMbox hands one message over. It is known by its content, without what
// belongs to the mbox, and by how many equal ones stand before it.
func takeMbox(file io.ReaderAt, f Folder, m *mboxMessage, copies map[Mark]uint32, v Visitor) error {
	h := sha256.New()
	var held bytes.Buffer
	var size int64
	var err error
	small := m.next-m.start <= maxHeld
	if small {
		held.Grow(int(m.next-m.start) + bytes.MinRead)
		if size, err = held.ReadFrom(m.open(file)); err == nil {
			h.Write(held.Bytes())
		}
	} else {
		size, err = io.Copy(h, m.open(file))
	}
	if err != nil {
		return err
	}
	sum := Mark(h.Sum(nil)[:len(Mark{})])
	mark := markOf("mbox", string(sum[:]), fmt.Sprint(copies[sum]))
	copies[sum]++
	if v.Known(mark) {
		v.Already(1)
		return nil
	}
	return v.Take(&Message{
		Where: fmt.Sprintf("%s: %s", f.Name, m), Mark: mark, Flags: m.flags, Dropped: m.dropped,
		Internal: m.internal, Size: size,
		Open: func() (io.ReadCloser, error) {
			if small {
				return io.NopCloser(&held), nil
			}
			return io.NopCloser(m.open(file)), nil
		},
	})
}

// escapeLevel makes a file's name of one level of a mailbox name; unescapeLevel
// is its opposite.
func escapeLevel(s string) string {
	s = strings.ReplaceAll(s, "%", "%25")
	if strings.HasPrefix(s, ".") {
		s = "%2E" + s[1:]
	}
	// A folder B.mbox for what is below it would look like the file of B.
	if strings.HasSuffix(s, mboxSuffix) {
		s = strings.TrimSuffix(s, mboxSuffix) + "%2Embox"
	}
	return s
}

func unescapeLevel(s string) string {
	return strings.NewReplacer("%25", "%", "%2E", ".").Replace(s)
}
