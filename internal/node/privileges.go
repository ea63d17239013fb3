package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// DropPrivileges makes the data directory, hands it to the user, and becomes
// that user, for good. Without a name, that is the user whose data directory it
// is. It does nothing unless the process is root; it tells whether the process
// still is root afterwards.
func DropPrivileges(name, dataDir string) (root bool, err error) {
	if os.Geteuid() != 0 {
		return false, nil
	}
	if name == "" {
		return becomeOwner(dataDir)
	}
	u, err := user.Lookup(name)
	if err != nil {
		return true, fmt.Errorf("server.user: %w (make it with: useradd --system %s)", err, name)
	}
	uid, uerr := strconv.Atoi(u.Uid)
	gid, gerr := strconv.Atoi(u.Gid)
	if err := errors.Join(uerr, gerr); err != nil {
		return true, fmt.Errorf("server.user: %w", err)
	}
	if err := giveDataDir(dataDir, uid, gid); err != nil {
		return true, fmt.Errorf("give the data directory to %s: %w", name, err)
	}
	if err := become(uid, gid); err != nil {
		return true, fmt.Errorf("become %s: %w", name, err)
	}
	d, err := os.Open(dataDir)
	if err != nil {
		return uid == 0, fmt.Errorf("server.user: %s cannot open the data directory: %w (each folder above it must let %s pass: chmod o+x)", name, err, name)
	}
	return uid == 0, d.Close()
}

// becomeOwner becomes the user whose data directory it is, who could not use
// what root would make in it.
func becomeOwner(dataDir string) (root bool, err error) {
	fi, err := os.Stat(dataDir)
	if err != nil {
		return true, nil // there is none yet, or opening it will say what is wrong
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return true, nil
	}
	if err := become(int(st.Uid), int(st.Gid)); err != nil {
		return true, fmt.Errorf("become the owner of the data directory: %w", err)
	}
	return false, nil
}

// become changes all threads of the process, the groups first, while it may.
func become(uid, gid int) error {
	if err := syscall.Setgroups([]int{gid}); err != nil {
		return err
	}
	if err := syscall.Setgid(gid); err != nil {
		return err
	}
	return syscall.Setuid(uid)
}

// giveDataDir makes the data directory and gives the user what root made in it,
// by init say. The walk stays within the directory whatever its owner, who may
// not be trusted to be root, moves about meanwhile, and leaves files alone that
// have a name elsewhere, too.
func giveDataDir(dir string, uid, gid int) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		var fi fs.FileInfo
		if err == nil {
			fi, err = root.Lstat(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a server that runs on the directory removed it
		} else if err != nil {
			return err
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok || st.Uid != 0 || !fi.IsDir() && st.Nlink > 1 {
			return nil // not root's alone: the store's own checks judge it
		}
		return root.Lchown(path, uid, gid)
	})
}
