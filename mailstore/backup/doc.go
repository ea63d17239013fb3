// Package backup owns backups of a data directory of package sqlite: what they
// look like, how one is made of a directory that is in use, and how a data
// directory is made of one. It never looks into the database, and never changes
// the data directory that it copies.
//
// # What makes a copy consistent
//
// The caller holds the store (mailstore.Store.Hold) or has the directory to
// itself. Meanwhile nothing is written to the database file: commits go to its
// write-ahead log. The file is copied, and then the log as far as it is written;
// SQLite takes from that every commit that is whole. Body files never change, and
// none is removed during the hold: those that the log's end may name are there. So
// a copy is the store at the moment at which its log was copied. The writer never
// waits for it.
//
// # The backup directory
//
//	lock              held (flock) by the process that changes the directory
//	points/ID         a restore point: a text as below; ID is its time, UTC
//	packs/ID          what a point had that no point before it has: ranges of the
//	                  database file, its log, and small files
//	bodies/xx/NAME    bodies, of all points
//	tmp/              what is being written
//
// Directories have mode 0700, files 0600. A point is a text of lines:
//
//	postrider backup 1               the version of the format
//	program VERSION
//	time RFC3339
//	file NAME SIZE                   postrider.db, its -wal, and others by their path;
//	range PACK OFFSET SIZE SHA256    followed by its pieces in order, 64 KiB or less
//	body NAME SIZE SHA256            in order of NAME
//	end LINES SHA256                 of all before it
//
// A piece that an earlier point has (by place and hash) is not written again: of
// a database of which little changed little is copied, though all of it is read.
// When more than half of the packs is of no use to the points that are kept, the
// next point is written whole, as --full does at once.
//
// What a crash leaves: files in tmp, and packs and bodies that no point names.
// The next run removes them. A point comes into being by the rename of its text,
// after all that it names is synced; older ones, and what they alone name, go
// after that. So each point that is listed can be restored at any time.
//
// A point whose text is damaged spoils no other: the next one is made upon the latest
// that can be read. It is not counted among those that are kept. What it names is not
// known, so while it is there no pack or body goes; it goes itself when it is older
// than all that are kept, or by hand.
//
// # Restoring
//
// Everything goes into the directory restoring of the new data directory, is
// checked against its hash, synced, and then renamed into place, postrider.db
// last. A directory with restoring in it is not finished; the next run begins
// anew, and package sqlite refuses to open it. The directory is locked (flock)
// meanwhile: of two runs one is refused.
package backup
