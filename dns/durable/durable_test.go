package durable

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestReplace: the new file with its mode, or the old one and nothing beside it.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	if err := Write(name, 0o600, []byte("old")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := Replace(name, 0o644, func(w io.Writer) error {
		if _, err := w.Write([]byte("half")); err != nil {
			return err
		}
		return broken
	})
	check := func(want string, mode os.FileMode) {
		t.Helper()
		text, err := os.ReadFile(name)
		if err != nil || string(text) != want {
			t.Errorf("got %q, %v, want %q", text, err, want)
		}
		if info, err := os.Stat(name); err != nil || info.Mode() != mode {
			t.Errorf("mode %v, %v, want %v", info.Mode(), err, mode)
		}
		if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
			t.Errorf("%v, %v in the folder", list, err)
		}
	}
	if err != broken {
		t.Errorf("got %v", err)
	}
	check("old", 0o600)
	if err := Write(name, 0o644, []byte("new")); err != nil {
		t.Fatal(err)
	}
	check("new", 0o644)
	if err := Write(filepath.Join(dir, "none", "file"), 0o600, nil); err == nil {
		t.Error("a file in no folder")
	}
}
