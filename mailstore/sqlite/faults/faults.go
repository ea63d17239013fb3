//go:build faults

package faults

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

// Op is a kind of call that changes what is on disk.
type Op int

const (
	Create   Op = iota // of a file
	Write              // to a file
	Truncate           // of a file
	Sync               // of a file
	Remove             // of a file
	Shm                // growth of SQLite's shared memory
	Rename             // of a file
	MakeDir
	SyncDir
	Link // another name of a file
)

func (o Op) String() string {
	return [...]string{"create", "write", "truncate", "sync", "remove", "grow shared memory for", "rename", "make directory", "sync directory", "link"}[o]
}

// Call is one call.
type Call struct {
	N      int // from 1, within the disk
	Op     Op
	Path   string
	Offset int64 // of a write; the size after a truncation
	Size   int   // of a write
}

func (c Call) String() string {
	return fmt.Sprintf("call %d: %v %s (%d octets at %d)", c.N, c.Op, filepath.Base(c.Path), c.Size, c.Offset)
}

// Fault is how a call fails; the zero value is none.
type Fault struct {
	Err   syscall.Errno
	Short bool // a write writes half before it fails
}

// dead is what every call gives after a crash.
const dead = syscall.EIO

// Disk is a watched directory.
type Disk struct {
	dir string

	mu      sync.Mutex
	n       int
	plan    func(Call) Fault
	crashed bool
	names   map[string]*inode // as the process sees them; directories too
	durable map[string]*inode // as of the last syncs of their directories
	pending []entry           // changes of names since then
}

// inode is a file, or a directory, which has no bytes.
type inode struct {
	dir     bool
	size    int64    // as the process sees it
	durable []byte   // as of the last sync
	pending []change // since then
}

// change is a write or a truncation.
type change struct {
	truncate bool
	at       int64
	data     []byte
}

// entry is a name that came (node) or went (nil).
type entry struct {
	path string
	node *inode
}

// Watch begins to number the calls under dir, which need not exist. What is
// there is taken to be durable. Databases under dir must be opened after this.
func Watch(dir string) (*Disk, error) {
	if err := global.install(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	d := &Disk{dir: dir, names: make(map[string]*inode), durable: make(map[string]*inode)}
	if err := d.load(); err != nil {
		return nil, err
	}
	global.mu.Lock()
	defer global.mu.Unlock()
	if global.disks[dir] != nil {
		return nil, fmt.Errorf("%s is watched already", dir)
	}
	global.disks[dir] = d
	return d, nil
}

// load takes what is in the directory.
func (d *Disk) load() error {
	err := filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == d.dir {
			return err
		}
		node := &inode{dir: e.IsDir()}
		if !node.dir {
			if node.durable, err = os.ReadFile(path); err != nil {
				return err
			}
			node.size = int64(len(node.durable))
		}
		d.names[path], d.durable[path] = node, node
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Close ends the watch.
func (d *Disk) Close() {
	global.mu.Lock()
	defer global.mu.Unlock()
	delete(global.disks, d.dir)
}

// Plan has fn asked about every call from now on; nil lets all pass.
func (d *Disk) Plan(fn func(Call) Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.plan = fn
}

// Calls is the number of calls so far.
func (d *Disk) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n
}

// Crash makes all calls fail from now on: the process is dead, it just does not
// know. It is for a plan to call.
func (d *Disk) Crash() { d.crashed = true }

// Kill is Crash at any other time.
func (d *Disk) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashed = true
}

// Revive ends it where only the process died, and not the machine: what was
// written is there, synced or not.
func (d *Disk) Revive() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashed = false
}

// Crashed tells whether it was called.
func (d *Disk) Crashed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.crashed
}

// countLocked numbers a call and asks the plan.
func (d *Disk) countLocked(c Call) Fault {
	if d.crashed {
		return Fault{Err: dead}
	}
	d.n++
	c.N = d.n
	if d.plan == nil {
		return Fault{}
	}
	f := d.plan(c)
	if d.crashed {
		return Fault{Err: dead}
	}
	return f
}

// open finds a file, or makes its entry.
func (d *Disk) open(path string, create bool) (*inode, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if node := d.names[path]; node != nil {
		return node, 0
	}
	if !create {
		return &inode{}, 0 // the system says that it is not there
	}
	if f := d.countLocked(Call{Op: Create, Path: path}); f.Err != 0 {
		return nil, f.Err
	}
	node := &inode{}
	d.enterLocked(path, node)
	return node, 0
}

// enterLocked gives a name to a file, or takes it away.
func (d *Disk) enterLocked(path string, node *inode) {
	if node == nil {
		delete(d.names, path)
	} else {
		d.names[path] = node
	}
	d.pending = append(d.pending, entry{path, node})
}

// change counts a call on an open file and notes what it does.
func (d *Disk) change(c Call, node *inode, data []byte) Fault {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.countLocked(c)
	if c.Op == Write && f.Err != 0 && f.Short {
		data = data[:len(data)/2]
	} else if f.Err != 0 {
		if c.Op == Sync && !d.crashed {
			node.pending = nil // see package comment
		}
		return f
	}
	switch c.Op {
	case Write:
		node.pending = append(node.pending, change{at: c.Offset, data: slices.Clone(data)})
		node.size = max(node.size, c.Offset+int64(len(data)))
	case Truncate:
		node.pending = append(node.pending, change{truncate: true, at: c.Offset})
		node.size = c.Offset
	case Sync:
		for _, p := range node.pending {
			node.durable = p.apply(node.durable)
		}
		node.pending = nil
	}
	return f
}

// apply does a change to the bytes of a file.
func (c change) apply(file []byte) []byte {
	end := c.at
	if !c.truncate {
		end += int64(len(c.data))
	}
	if n := end - int64(len(file)); n > 0 {
		file = append(file, make([]byte, n)...)
	}
	if c.truncate {
		return file[:end]
	}
	copy(file[c.at:], c.data)
	return file
}

// syncedDir makes the entries of a directory durable.
func (d *Disk) syncedDir(dir string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncedDirLocked(dir)
}

func (d *Disk) syncedDirLocked(dir string) {
	d.pending = slices.DeleteFunc(d.pending, func(e entry) bool {
		if filepath.Dir(e.path) != dir {
			return false
		}
		e.apply(d.durable)
		return true
	})
}

func (e entry) apply(names map[string]*inode) {
	if e.node == nil {
		delete(names, e.path)
	} else {
		names[e.path] = e.node
	}
}

// remove counts a deletion and does it to the shadow.
func (d *Disk) remove(path string) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.countLocked(Call{Op: Remove, Path: path}); f.Err != 0 {
		return f.Err
	}
	d.enterLocked(path, nil)
	return 0
}

// sector is what a disk writes whole.
const sector = 512

// Image writes into dir, which must not exist, what the disk may hold after a
// loss of power now: all that was synced and, of the rest, what keep says when
// it is asked for each name and each sector.
func (d *Disk) Image(dir string, keep func() bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := make(map[string]*inode, len(d.durable))
	for path, node := range d.durable {
		names[path] = node
	}
	for _, e := range d.pending {
		if keep() {
			e.apply(names)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	paths := make([]string, 0, len(names))
	for path := range names {
		paths = append(paths, path)
	}
	slices.Sort(paths) // parents first
	for _, path := range paths {
		if err := d.imageLocked(dir, path, names, keep); err != nil {
			return err
		}
	}
	return nil
}

// imageLocked writes one file or directory. What is in a directory that is lost
// is lost.
func (d *Disk) imageLocked(dir, path string, names map[string]*inode, keep func() bool) error {
	if parent := filepath.Dir(path); parent != d.dir && names[parent] == nil {
		delete(names, path)
		return nil
	}
	rel, err := filepath.Rel(d.dir, path)
	if err != nil {
		return err
	}
	to, node := filepath.Join(dir, rel), names[path]
	if node.dir {
		return os.Mkdir(to, 0o700)
	}
	data := slices.Clone(node.durable)
	for _, c := range node.pending {
		for _, part := range c.sectors() {
			if keep() {
				data = part.apply(data)
			}
		}
	}
	return os.WriteFile(to, data, 0o600)
}

// sectors cuts a write at the bounds of sectors.
func (c change) sectors() []change {
	if c.truncate {
		return []change{c}
	}
	var parts []change
	for at, data := c.at, c.data; len(data) > 0; {
		n := min(len(data), sector-int(at%sector))
		parts = append(parts, change{at: at, data: data[:n]})
		at, data = at+int64(n), data[n:]
	}
	return parts
}
