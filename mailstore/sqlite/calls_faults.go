//go:build faults

package sqlite

import (
	"io/fs"
	"os"

	"postrider/mailstore/sqlite/faults"
)

// See calls.go.

func openFile(path string, flag int, mode fs.FileMode) (*os.File, error) {
	return faults.OpenFile(path, flag, mode)
}
func writeFile(f *os.File, p []byte) (int, error) { return faults.WriteFile(f, p) }
func syncFile(f *os.File) error                   { return faults.SyncFile(f) }
func syncDirectory(f *os.File) error              { return faults.SyncDirectory(f) }
func renameFile(from, to string) error            { return faults.RenameFile(from, to) }
func linkFile(from, to string) error              { return faults.LinkFile(from, to) }
func removeFile(path string) error                { return faults.RemoveFile(path) }
func mkdir(path string, mode fs.FileMode) error   { return faults.Mkdir(path, mode) }
