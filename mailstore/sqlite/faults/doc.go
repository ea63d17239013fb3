// Package faults is a disk that fails on command, for tests of the storage
// engine. It exists in builds with the tag "faults" only.
//
// Every call that changes what is on disk has a number, in one sequence for
// each watched directory: SQLite's own (writes, syncs, truncations, deletions,
// creations, growth of the shared memory), which pass through a VFS between
// SQLite and its unix one, and those of the engine's Go code on body files and
// directories, which it makes through this package. A plan tells for each call
// whether it fails and how; after a crash all calls fail.
//
// The package keeps a shadow of what was synced: the bytes of each file as of
// its last sync with the writes after it, and the directory entries as of each
// directory's last sync. Image writes down what a disk may hold after a loss of
// power: what was synced, and of the rest any choice, torn at sectors of 512
// octets. What was written before a sync that failed is never on disk, unless it
// is written again: Linux keeps the pages in memory and takes them for clean, so
// that the next sync succeeds without them. Real syncs are left out, since nothing depends on them.
//
// SQLite's shared memory (-shm) and the lock file are not part of an image: no
// state that matters is in them. The registered VFS is one for the process, as
// SQLite wants it; files outside watched directories pass through untouched.
// A VFS written in Go whole, such as psanford/sqlite3vfs, has no shared memory
// and so no write-ahead log with several connections: hence the thin one in C.
package faults
