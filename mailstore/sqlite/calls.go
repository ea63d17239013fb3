//go:build !faults

package sqlite

import (
	"io/fs"
	"os"
)

// The calls that change files, by names of their own: a build with the tag
// "faults" numbers them and makes them fail.

func openFile(path string, flag int, mode fs.FileMode) (*os.File, error) {
	return os.OpenFile(path, flag, mode)
}
func writeFile(f *os.File, p []byte) (int, error) { return f.Write(p) }
func syncFile(f *os.File) error                   { return f.Sync() }
func syncDirectory(f *os.File) error              { return f.Sync() }
func renameFile(from, to string) error            { return os.Rename(from, to) }
func linkFile(from, to string) error              { return os.Link(from, to) }
func removeFile(path string) error                { return os.Remove(path) }
func mkdir(path string, mode fs.FileMode) error   { return os.Mkdir(path, mode) }
