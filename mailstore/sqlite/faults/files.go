//go:build faults

package faults

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// These are the calls of package os, counted where a Disk watches the path.

// OpenFile is os.OpenFile with os.O_CREATE.
func OpenFile(path string, flag int, mode fs.FileMode) (*os.File, error) {
	if d := global.disk(path); d != nil {
		if _, err := os.Lstat(path); err != nil {
			if _, e := d.open(path, true); e != 0 {
				return nil, &os.PathError{Op: "open", Path: path, Err: e}
			}
		}
	}
	return os.OpenFile(path, flag, mode)
}

// WriteFile is f.Write on a file that is written from its start to its end.
func WriteFile(f *os.File, p []byte) (int, error) {
	d := global.disk(f.Name())
	if d == nil {
		return f.Write(p)
	}
	node := d.node(f.Name())
	d.mu.Lock()
	at := node.size
	d.mu.Unlock()
	fault := d.change(Call{Op: Write, Path: f.Name(), Offset: at, Size: len(p)}, node, p)
	if fault.Err == 0 {
		return f.Write(p)
	}
	n := 0
	if fault.Short {
		n, _ = f.Write(p[:len(p)/2])
	}
	return n, &os.PathError{Op: "write", Path: f.Name(), Err: fault.Err}
}

// node is the file of a name; one that has none any more is nobody's.
func (d *Disk) node(path string) *inode {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.names[path]; n != nil {
		return n
	}
	return &inode{}
}

// SyncFile is f.Sync.
func SyncFile(f *os.File) error {
	d := global.disk(f.Name())
	if d == nil {
		return f.Sync()
	}
	return failed("sync", f.Name(), d.change(Call{Op: Sync, Path: f.Name()}, d.node(f.Name()), nil).Err)
}

// SyncDirectory is f.Sync of a directory.
func SyncDirectory(f *os.File) error {
	d := global.disk(filepath.Join(f.Name(), "x"))
	if d == nil {
		return f.Sync()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	fault := d.countLocked(Call{Op: SyncDir, Path: f.Name()})
	if fault.Err == 0 {
		d.syncedDirLocked(f.Name())
	}
	return failed("sync", f.Name(), fault.Err)
}

// RenameFile is os.Rename.
func RenameFile(from, to string) error {
	d := global.disk(from)
	if d == nil {
		return os.Rename(from, to)
	}
	d.mu.Lock()
	fault := d.countLocked(Call{Op: Rename, Path: from})
	if fault.Err == 0 {
		node := d.names[from]
		d.enterLocked(to, node)
		d.enterLocked(from, nil)
	}
	d.mu.Unlock()
	if fault.Err != 0 {
		return failed("rename", from, fault.Err)
	}
	return os.Rename(from, to)
}

// LinkFile is os.Link.
func LinkFile(from, to string) error {
	d := global.disk(from)
	if d == nil {
		return os.Link(from, to)
	}
	if _, err := os.Lstat(to); err == nil {
		return failed("link", to, syscall.EEXIST)
	}
	d.mu.Lock()
	fault := d.countLocked(Call{Op: Link, Path: to})
	if fault.Err == 0 {
		d.enterLocked(to, d.names[from])
	}
	d.mu.Unlock()
	if fault.Err != 0 {
		return failed("link", to, fault.Err)
	}
	return os.Link(from, to)
}

// RemoveFile is os.Remove of a file.
func RemoveFile(path string) error {
	if d := global.disk(path); d != nil {
		if _, err := os.Lstat(path); err == nil {
			if e := d.remove(path); e != 0 {
				return failed("remove", path, e)
			}
		}
	}
	return os.Remove(path)
}

// Mkdir is os.Mkdir.
func Mkdir(path string, mode fs.FileMode) error {
	d := global.disk(path)
	if d == nil {
		return os.Mkdir(path, mode)
	}
	if _, err := os.Lstat(path); err == nil {
		return failed("mkdir", path, syscall.EEXIST)
	}
	d.mu.Lock()
	fault := d.countLocked(Call{Op: MakeDir, Path: path})
	if fault.Err == 0 {
		d.enterLocked(path, &inode{dir: true})
	}
	d.mu.Unlock()
	if fault.Err != 0 {
		return failed("mkdir", path, fault.Err)
	}
	return os.Mkdir(path, mode)
}

func failed(op, path string, err syscall.Errno) error {
	if err == 0 {
		return nil
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}
