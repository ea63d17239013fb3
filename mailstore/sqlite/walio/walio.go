// Package walio is a VFS of SQLite that writes the write-ahead log in large pieces.
//
// SQLite writes each page of a commit with two system calls, one of them for the 24
// octets in front of it: some twenty for a message of 4 KiB, and then syncs. They cost
// more than all else of a commit that is not the sync itself. This VFS keeps what is
// written behind each other in memory and writes it at once before the sync, which is
// fdatasync, not fsync; for the rest, and for all other files, it is SQLite's default
// VFS.
//
// It is for connections with synchronous=FULL alone: what was committed is written,
// because it is synced, before another connection can look for it. What was not
// committed may stay in memory; the connection itself reads it as if it were written.
// A write that fails, at a sync at the latest, is kept and tried again by the next
// one, so that no commit can succeed without it.
package walio

/*
#cgo linux LDFLAGS: -Wl,--unresolved-symbols=ignore-in-object-files
#include "walio.h"
*/
import "C"

import (
	"errors"
	"sync"

	_ "github.com/mattn/go-sqlite3" // the SQLite that the VFS belongs to
)

// Name is that of the VFS, for a connection's parameter "vfs".
const Name = "walio"

// install guards the one registration that a process has.
var install sync.Mutex

// Install makes the VFS known to SQLite, over what is the default VFS then. It may
// be called any number of times.
func Install() error {
	install.Lock()
	defer install.Unlock()
	if C.walio_install() != 0 {
		return errors.New("walio: SQLite refused the VFS")
	}
	return nil
}
