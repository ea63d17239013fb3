package backup

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	version = "postrider backup 1"
	// rangeSize is the size of the pieces that are compared.
	rangeSize = 64 << 10
	// maxLine is the longest line of a point.
	maxLine  = 8 << 10
	idLayout = "20060102T150405.000"
)

// ErrDamaged: a backup is not what was written.
var ErrDamaged = errors.New("the backup is damaged")

// piece is one range of a file.
type piece struct {
	pack   string
	offset int64
	size   int64
	sum    [sha256.Size]byte
}

// file is a file that is kept in packs.
type file struct {
	name   string
	size   int64
	pieces []piece
}

// body is a large body.
type body struct {
	name string
	size int64
	sum  [sha256.Size]byte
}

// head is what a point says but its bodies.
type head struct {
	id      string
	program string
	taken   time.Time
	files   []file
}

// pointWriter writes the text of a point.
type pointWriter struct {
	f     *os.File
	w     *bufio.Writer
	sum   hash.Hash
	lines int
}

func newPointWriter(f *os.File) *pointWriter {
	p := &pointWriter{f: f, sum: sha256.New()}
	p.w = bufio.NewWriter(io.MultiWriter(f, p.sum))
	return p
}

// line writes a line; an error shows at close.
func (p *pointWriter) line(format string, args ...any) {
	fmt.Fprintf(p.w, format+"\n", args...)
	p.lines++
}

func (p *pointWriter) head(h *head) {
	p.line("%s", version)
	p.line("program %s", h.program)
	p.line("time %s", h.taken.Format(time.RFC3339Nano))
	for _, f := range h.files {
		p.line("file %s %d", f.name, f.size)
		for _, r := range f.pieces {
			p.line("range %s %d %d %x", r.pack, r.offset, r.size, r.sum)
		}
	}
}

func (p *pointWriter) body(b body) { p.line("body %s %d %x", b.name, b.size, b.sum) }

// close ends the text and syncs it.
func (p *pointWriter) close() error {
	if err := p.w.Flush(); err != nil {
		return errors.Join(err, p.f.Close())
	}
	_, err := fmt.Fprintf(p.f, "end %d %x\n", p.lines, p.sum.Sum(nil))
	return errors.Join(err, p.f.Sync(), p.f.Close())
}

// pointReader reads the text of a point: its head at once, its bodies by next.
type pointReader struct {
	head
	path string
	f    *os.File
	r    *bufio.Reader
	line string // the one that comes next
	done bool
}

// check reads a whole text against its sum.
func check(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum, lines := sha256.New(), 0
	r := bufio.NewReaderSize(f, maxLine)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("%w: %s is cut short", ErrDamaged, path)
		}
		if !strings.HasPrefix(string(line), "end ") {
			sum.Write(line)
			lines++
			continue
		}
		if string(line) != fmt.Sprintf("end %d %x\n", lines, sum.Sum(nil)) {
			return fmt.Errorf("%w: %s has other lines than were written", ErrDamaged, path)
		}
		return nil
	}
}

// openPoint reads the head of a point whose text is whole.
func openPoint(dir, id string) (*pointReader, error) {
	path := filepath.Join(dir, "points", id)
	if err := check(path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	p := &pointReader{path: path, f: f, r: bufio.NewReaderSize(f, maxLine)}
	p.id = id
	if err := p.readHead(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return p, nil
}

func (p *pointReader) Close() error { return p.f.Close() }

func (p *pointReader) advance() error {
	line, err := p.r.ReadString('\n')
	p.line = strings.TrimSuffix(line, "\n")
	return err
}

func (p *pointReader) bad() error { return fmt.Errorf("%w: %s: %q", ErrDamaged, p.path, p.line) }

func (p *pointReader) readHead() error {
	if err := p.advance(); err != nil {
		return err
	}
	if p.line != version {
		if strings.HasPrefix(p.line, "postrider backup ") {
			return fmt.Errorf("%s is of a newer version (%s): use a newer postrider", p.path, p.line)
		}
		return p.bad()
	}
	for {
		if err := p.advance(); err != nil {
			return err
		}
		kind, rest, _ := strings.Cut(p.line, " ")
		var err error
		switch kind {
		case "program":
			p.program = rest
		case "time":
			p.taken, err = time.Parse(time.RFC3339Nano, rest)
		case "file":
			err = p.readFile(rest)
		case "range":
			err = p.readRange(rest)
		default:
			return nil // the bodies begin, or the text ends
		}
		if err != nil {
			return errors.Join(p.bad(), err)
		}
	}
}

// readFile reads a file's line; the name may have blanks.
func (p *pointReader) readFile(rest string) error {
	i := strings.LastIndexByte(rest, ' ')
	if i < 0 || !filepath.IsLocal(rest[:i]) {
		return errors.New("a bad name")
	}
	f := file{name: rest[:i]}
	_, err := fmt.Sscanf(rest[i+1:], "%d", &f.size)
	p.files = append(p.files, f)
	return err
}

func (p *pointReader) readRange(rest string) error {
	var r piece
	var sum string
	if _, err := fmt.Sscanf(rest, "%s %d %d %s", &r.pack, &r.offset, &r.size, &sum); err != nil {
		return err
	}
	if len(p.files) == 0 || r.size < 1 || r.size > rangeSize || r.offset < 0 || !isID(r.pack) {
		return errors.New("a bad range")
	}
	f := &p.files[len(p.files)-1]
	f.pieces = append(f.pieces, r)
	return unhex(f.pieces[len(f.pieces)-1].sum[:], sum)
}

// next reads a body; io.EOF behind the last.
func (p *pointReader) next() (body, error) {
	kind, rest, _ := strings.Cut(p.line, " ")
	if p.done || kind == "end" {
		p.done = true
		return body{}, io.EOF
	}
	var b body
	var sum string
	if kind != "body" {
		return b, p.bad()
	}
	if _, err := fmt.Sscanf(rest, "%s %d %s", &b.name, &b.size, &sum); err != nil || !isName(b.name) {
		return b, p.bad()
	}
	if err := unhex(b.sum[:], sum); err != nil {
		return b, p.bad()
	}
	return b, p.advance()
}

func unhex(to []byte, text string) error {
	if hex.DecodedLen(len(text)) != len(to) {
		return errors.New("a bad hash")
	}
	_, err := hex.Decode(to, []byte(text))
	return err
}

func isID(s string) bool {
	_, err := time.Parse(idLayout, s)
	return err == nil
}

// isName tells whether a body file can be called so.
func isName(s string) bool {
	if len(s) != 32 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// points lists the points of a backup directory, oldest first.
func points(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "points"))
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries { // by name, which is by time
		if isID(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}
