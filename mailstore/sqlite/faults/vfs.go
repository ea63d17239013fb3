//go:build faults

package faults

/*
#cgo linux LDFLAGS: -Wl,--unresolved-symbols=ignore-in-object-files
#include "vfs.h"
*/
import "C"

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	_ "github.com/mattn/go-sqlite3" // the SQLite that the VFS belongs to
)

// Flags of xOpen.
const (
	openCreate = 0x4
	openWAL    = 0x80000
)

// short marks a write that stops in its middle; see vfs.c.
const short = 0x10000

// registry is what the VFS, which SQLite has one of, knows in this process.
type registry struct {
	once sync.Once
	err  error

	mu    sync.Mutex
	disks map[string]*Disk // by directory
	files map[int64]*openFile
	last  int64
}

// openFile is a file that SQLite has open.
type openFile struct {
	d       *Disk
	path    string
	node    *inode
	dirSync bool // its next sync syncs the directory too, as the unix VFS does
}

// global is the one registry; C calls have no other way to it.
var global = registry{disks: make(map[string]*Disk), files: make(map[int64]*openFile)}

// install registers the VFS as SQLite's default.
func (r *registry) install() error {
	r.once.Do(func() {
		if C.faults_install() != 0 {
			r.err = errors.New("faults: SQLite refused the VFS")
		}
	})
	return r.err
}

// disk is the one that watches a path; nil for none.
func (r *registry) disk(path string) *Disk {
	r.mu.Lock()
	defer r.mu.Unlock()
	for dir, d := range r.disks {
		if strings.HasPrefix(path, dir+string(filepath.Separator)) {
			return d
		}
	}
	return nil
}

func (r *registry) file(id int64) *openFile {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.files[id]
}

//export faultsOpen
func faultsOpen(name *C.char, flags C.int) C.longlong {
	path := C.GoString(name)
	d := global.disk(path)
	if d == nil {
		return 0
	}
	f := &openFile{d: d, path: path}
	var err syscall.Errno
	if f.node, err = d.open(path, flags&openCreate != 0); err != 0 {
		return -C.longlong(err)
	}
	f.dirSync = flags&openCreate != 0 && flags&openWAL != 0
	global.mu.Lock()
	defer global.mu.Unlock()
	global.last++
	global.files[global.last] = f
	return C.longlong(global.last)
}

//export faultsClose
func faultsClose(id C.longlong) {
	global.mu.Lock()
	defer global.mu.Unlock()
	delete(global.files, int64(id))
}

//export faultsCall
func faultsCall(id C.longlong, op C.int, p unsafe.Pointer, n C.int, at C.longlong) C.int {
	f := global.file(int64(id))
	if f == nil {
		return 0
	}
	var data []byte
	if p != nil {
		data = unsafe.Slice((*byte)(p), int(n))
	}
	fault := f.d.change(Call{Op: Op(op), Path: f.path, Offset: int64(at), Size: int(n)}, f.node, data)
	if fault.Err == 0 && Op(op) == Sync && f.dirSync {
		f.dirSync = false
		f.d.syncedDir(filepath.Dir(f.path))
	}
	if fault.Short {
		return C.int(fault.Err) | short
	}
	return C.int(fault.Err)
}

//export faultsDelete
func faultsDelete(name *C.char, sync C.int) C.int {
	path := C.GoString(name)
	d := global.disk(path)
	if d == nil {
		return 0
	}
	if _, err := os.Stat(path); err != nil {
		return 0 // the unix VFS says what that is
	}
	err := d.remove(path)
	if err == 0 && sync != 0 {
		d.syncedDir(filepath.Dir(path))
	}
	return C.int(err)
}
