// Package durable writes files so that a crash leaves the old or the new one.
package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace puts what write writes in the place of a file: it is written beside it,
// synced and renamed, and the folder is synced. When it returns nil the new file
// survives loss of power; before, and after an error, the old one is whole. The
// error of write is returned as it is.
func Replace(name string, mode fs.FileMode, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name()) // it may be gone already; nothing more can be done
		}
	}()
	if err = write(f); err == nil {
		err = errors.Join(f.Chmod(mode), f.Sync())
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err = os.Rename(f.Name(), name); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(name))
}

// Write is Replace with a text.
func Write(name string, mode fs.FileMode, text []byte) error {
	return Replace(name, mode, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// SyncDir makes the names in a folder durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
