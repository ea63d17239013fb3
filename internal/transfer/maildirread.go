package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"postrider/mailstore"
)

// Names of files in a Maildir.
const (
	keywordsFile = "dovecot-keywords"
	// moreKeywordsFile has the keywords for which there is no letter left: the
	// name of a message's file before the colon, and keywords, a line each.
	moreKeywordsFile = "postrider-keywords"
	// maxKeywordsFile bounds either, in octets.
	maxKeywordsFile = 64 << 20
)

// maildir is a Maildir or Maildir++ that is imported. All is read below its
// root: a link in it leads nowhere else, whoever put it there.
type maildir struct {
	root *os.Root
	name string
	id   string
}

// OpenMaildir opens a Maildir for an import.
func OpenMaildir(dir string) (Source, error) {
	id, err := identity(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &maildir{root: root, name: dir, id: "maildir:" + id}, nil
}

func (m *maildir) Identity() string { return m.id }
func (m *maildir) Unit() string     { return "messages" }
func (m *maildir) Close() error     { return m.root.Close() }

// isMaildir tells whether a directory has mail.
func (m *maildir) isMaildir(dir string) bool {
	for _, sub := range []string{"cur", "new"} {
		if fi, err := m.root.Stat(path.Join(dir, sub)); err == nil && fi.IsDir() {
			return true
		}
	}
	return false
}

func (m *maildir) names(dir string) ([]string, error) {
	d, err := m.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

func (m *maildir) Folders(context.Context) ([]Folder, error) {
	var list []Folder
	if m.isMaildir(".") {
		list = append(list, Folder{Name: m.name, Mailbox: mailstore.Inbox, path: "."})
	}
	names, err := m.names(".")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		if len(name) < 2 || name[0] != '.' || name == ".." || !m.isMaildir(name) {
			continue
		}
		levels := strings.Split(name[1:], ".")
		for i := range levels {
			levels[i] = decodeLevel(levels[i])
		}
		list = append(list, Folder{Name: name, Mailbox: mailboxName(levels), Subscribed: true, path: name})
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s is no Maildir: it has neither cur nor new", m.name)
	}
	for i := range list {
		for _, sub := range []string{"cur", "new"} {
			files, err := m.names(path.Join(list[i].path, sub))
			if err != nil {
				return nil, err
			}
			list[i].Work += int64(len(files))
		}
	}
	return list, nil
}

// mailboxName joins levels. What a level can not have becomes "_".
func mailboxName(levels []string) string {
	for i, l := range levels {
		l = strings.Map(func(r rune) rune {
			if r == '/' || r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
				return '_'
			}
			return r
		}, strings.ToValidUTF8(l, "_"))
		if l == "" {
			l = "_"
		}
		levels[i] = strings.ReplaceAll(l, "\ufffd", "_")
	}
	return strings.Join(levels, "/")
}

// maildirFile is a message's file.
type maildirFile struct{ dir, name string }

func (m *maildir) Read(ctx context.Context, f Folder, v Visitor) error {
	var files []maildirFile
	for _, sub := range []string{"cur", "new"} {
		dir := path.Join(f.path, sub)
		names, err := m.names(dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			if name[0] != '.' {
				files = append(files, maildirFile{dir, name})
			}
		}
	}
	slices.SortFunc(files, func(a, b maildirFile) int { return compareNatural(a.name, b.name) })
	letters, more, err := m.keywords(f.path)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := m.message(file, letters, more, v); err != nil {
			return err
		}
		v.Done(1)
	}
	return nil
}

// keywords reads the names of letters, and the keywords without letters by the
// messages that have them.
func (m *maildir) keywords(dir string) (map[int]string, map[string][]string, error) {
	read := func(name string) (string, error) {
		file, err := m.root.OpenFile(path.Join(dir, name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		defer file.Close()
		text, err := io.ReadAll(io.LimitReader(file, maxKeywordsFile))
		return string(text), err
	}
	letters, err := read(keywordsFile)
	if err != nil {
		return nil, nil, err
	}
	text, err := read(moreKeywordsFile)
	if err != nil {
		return nil, nil, err
	}
	more := make(map[string][]string)
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 1 {
			more[words[0]] = words[1:]
		}
	}
	return parseKeywords(letters), more, nil
}

// message hands one file over.
func (m *maildir) message(file maildirFile, letters map[int]string, more map[string][]string, v Visitor) error {
	name := path.Join(file.dir, file.name)
	fi, err := m.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // another program moved it: the next run finds it
	case err != nil:
		v.Skip(name, err.Error())
		return nil
	case fi.IsDir():
		return nil
	case !fi.Mode().IsRegular():
		v.Skip(name, "not a plain file")
		return nil
	}
	n := parseMaildirName(file.name)
	mark := markOf("maildir", n.base, fmt.Sprint(fi.Size()))
	if v.Known(mark) {
		v.Already(1)
		return nil
	}
	keywords := more[n.base]
	if n.passed {
		keywords = append([]string{forwarded}, keywords...)
	}
	dropped := 0
	for _, i := range n.letters {
		if letters[i] == "" {
			dropped++ // Dovecot has no name for it either
			continue
		}
		keywords = append(keywords, letters[i])
	}
	msg := &Message{Where: name, Mark: mark, Internal: fi.ModTime(), Size: -1}
	var bad int
	msg.Flags, bad = keepFlags(n.system, keywords)
	msg.Dropped = dropped + bad
	ends := toCRLF
	if n.exact {
		ends = keepEnds
	}
	msg.Open = func() (io.ReadCloser, error) {
		file, err := m.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{newConverter(file, fi.Size(), ends, noQuotes), file}, nil
	}
	return v.Take(msg)
}
