package server

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"postrider/dns/zone"
)

const (
	// maxJournal bounds the changes of a zone that are kept for IXFR, in
	// octets of the file.
	maxJournal = 16 << 20
	// minRewrite: a zone's own file is written anew when the journal after it
	// has as many records as the zone, and at least so many.
	minRewrite = 1000
)

// files is what a zone keeps on disk, in the folder of the server:
//
//	NAME.zone     the zone, as a master file
//	NAME.journal  the changes since, and before as far as there is room
//	NAME.checked  of a secondary: when a primary last confirmed the version
//
// A change is in the journal before it is visible. After a crash the zone is
// what the file says, with the changes of the journal that follow its serial;
// a file that was being written is not there yet, and a torn end of the journal
// was never acknowledged. A primary zone that only its master file changes has a
// journal in memory alone.
type files struct {
	zone, checked string // paths; "" = nothing is kept
	secondary     bool

	mu      sync.Mutex
	journal *zone.Journal
	behind  int // records of the journal that the file lacks
}

func openFiles(dir string, c *ZoneConfig) (*files, error) {
	f := &files{secondary: c.secondary()}
	path := ""
	if dir != "" && c.dynamic() {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		base := filepath.Join(dir, fileName(c.Name))
		f.zone, path = base+".zone", base+".journal"
		if f.secondary {
			f.checked = base + ".checked"
		}
	}
	var err error
	f.journal, err = zone.OpenJournal(path, maxJournal)
	return f, err
}

// fileName is a zone's name as that of a file.
func fileName(name string) string {
	switch name {
	case ".":
		return "root"
	case "root.":
		return "%root"
	}
	return strings.ReplaceAll(url.PathEscape(shown(name)), "%5C", "%")
}

// load reads the version on disk: nil where there is none.
func (f *files) load(name string) (*zone.Zone, time.Time, error) {
	var checked time.Time
	if f.zone == "" {
		return nil, checked, nil
	}
	z, err := zone.Load(f.zone, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, checked, nil
	} else if err != nil {
		return nil, checked, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	saved := z.Serial()
	if z, err = f.journal.Replay(z); errors.Is(err, zone.ErrMismatch) {
		// A whole version came after the journal, and a crash before its Reset.
		if z, err = zone.Load(f.zone, name); err == nil {
			err = f.journal.Reset()
		}
	}
	if err != nil {
		return nil, checked, err
	}
	for _, d := range f.journal.Since(saved) {
		f.behind += d.Len()
	}
	if f.checked == "" {
		return z, checked, nil
	}
	text, err := os.ReadFile(f.checked)
	if err == nil {
		err = checked.UnmarshalText([]byte(strings.TrimSpace(string(text))))
	}
	if err != nil { // unknown: then it is as old as the file
		info, err := os.Stat(f.zone)
		if err != nil {
			return nil, checked, err
		}
		checked = info.ModTime()
	}
	return z, checked, nil
}

// replace keeps a version that came whole.
func (f *files) replace(next *zone.Zone) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	// A crash in between leaves a journal that does not know the file's serial,
	// which load takes for one of another version.
	if err := f.writeLocked(next); err != nil {
		return err
	}
	return f.journal.Reset()
}

func (f *files) writeLocked(next *zone.Zone) error {
	if f.zone == "" {
		return nil
	}
	f.behind = 0
	return next.WriteFile(f.zone)
}

// append keeps a version that differs from the one before by diffs.
func (f *files) append(next *zone.Zone, diffs ...zone.Diff) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.journal.Append(diffs...); err != nil {
		return err
	}
	for _, d := range diffs {
		f.behind += d.Len()
	}
	if f.zone == "" || f.behind <= max(next.Len(), minRewrite) && !f.journal.Full() {
		return nil
	}
	if err := f.writeLocked(next); err != nil {
		return err
	}
	return f.journal.Trim(next.Serial())
}

// since returns the changes between two versions; nil where they are not known.
func (f *files) since(from, to uint32) []zone.Diff {
	f.mu.Lock()
	defer f.mu.Unlock()
	diffs := f.journal.Since(from)
	for i, d := range diffs {
		if d.To.Serial == to {
			return diffs[:i+1]
		}
	}
	return nil
}

// saveChecked notes when a version was confirmed. It is not synced: what is
// lost is found again by asking once more.
func (f *files) saveChecked(at time.Time) error {
	if f.checked == "" {
		return nil
	}
	text, err := at.UTC().MarshalText()
	if err != nil {
		return err
	}
	fresh := f.checked + ".new"
	return errors.Join(os.WriteFile(fresh, append(text, '\n'), 0o600), os.Rename(fresh, f.checked))
}

func (f *files) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.journal.Close() // every change is synced
}
