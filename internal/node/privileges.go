package node

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// DropPrivileges makes the data directory and becomes user. It does nothing
// unless the process is root and user is set; it tells whether the process
// still is root afterwards.
func DropPrivileges(name, dataDir string) (root bool, err error) {
	if os.Geteuid() != 0 {
		return false, nil
	}
	if name == "" {
		return true, nil
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
		return true, err
	}
	if err := errors.Join(syscall.Setgroups([]int{gid}), syscall.Setgid(gid), syscall.Setuid(uid)); err != nil {
		return true, fmt.Errorf("become %s: %w", name, err)
	}
	return uid == 0, nil
}

// giveDataDir hands a data directory that root made, by init say, to the user.
func giveDataDir(dir string, uid, gid int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := os.Lstat(path)
		if err != nil {
			return err
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
			return nil // not root's: the store's own checks judge it
		}
		return os.Lchown(path, uid, gid)
	})
}
