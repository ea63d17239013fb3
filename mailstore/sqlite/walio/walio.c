#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "walio.h"

#define SQLITE_OK 0
#define SQLITE_NOMEM 7
#define SQLITE_IOERR_FSYNC (10 | (4 << 8))
#define SQLITE_OPEN_WAL 0x80000

// ROOM is what is kept in memory at most, in octets: three commits of a message of
// 4 KiB. SQLite's unix VFS takes no write of 128 KiB or more: it looks at the lower
// 17 bits of the number alone.
#define ROOM (120 << 10)

// A layer lies over one VFS. There are more where another one became the default
// later, as it does in tests; connections keep the one that they began with.
typedef struct {
	sqlite3_vfs shim;  // a copy of what is underneath, but for xOpen
	sqlite3_vfs *real; // what is underneath
	int extra_at;      // where in a file's structure ours begins
} layer;

static layer *present;

// A log is opened by the VFS underneath in place; only its methods are exchanged.
typedef struct {
	const sqlite3_io_methods *methods; // of the VFS underneath
	sqlite3_io_methods ours;
	char *kept; // ROOM octets, of which len are to be written at offset at
	sqlite3_int64 at;
	int len;
	int synced; // once, with the directory, by the VFS underneath
	int fd;     // of the log, for fdatasync; -1 for none
} extra;

static extra *of(sqlite3_file *f) { return (extra *)((char *)f->pMethods - offsetof(extra, ours)); }

// flush writes what is kept. After an error it is kept still.
static int flush(sqlite3_file *f) {
	extra *x = of(f);
	if (x->len == 0) return SQLITE_OK;
	int rc = x->methods->xWrite(f, x->kept, x->len, x->at);
	if (rc == SQLITE_OK) x->len = 0;
	return rc;
}

static int log_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at) {
	extra *x = of(f);
	if (x->len > 0 && (at < x->at || at > x->at + x->len || at + n > x->at + ROOM)) {
		int rc = flush(f);
		if (rc != SQLITE_OK) return rc;
	}
	if (n > ROOM) return x->methods->xWrite(f, p, n, at);
	if (x->len == 0) x->at = at;
	int from = (int)(at - x->at);
	memcpy(x->kept + from, p, n);
	if (from + n > x->len) x->len = from + n;
	return SQLITE_OK;
}

static int log_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at) {
	int rc = flush(f);
	return rc == SQLITE_OK ? of(f)->methods->xRead(f, p, n, at) : rc;
}

static int log_truncate(sqlite3_file *f, sqlite3_int64 size) {
	int rc = flush(f);
	return rc == SQLITE_OK ? of(f)->methods->xTruncate(f, size) : rc;
}

// log_sync leaves the first sync, which is also the directory's, to the VFS
// underneath. That knows of fsync alone, which has the file system write its journal
// each time the time of the last change is another one.
static int log_sync(sqlite3_file *f, int flags) {
	extra *x = of(f);
	int rc = flush(f);
	if (rc != SQLITE_OK) return rc;
	if (x->synced && x->fd >= 0) return fdatasync(x->fd) == 0 ? SQLITE_OK : SQLITE_IOERR_FSYNC;
	rc = x->methods->xSync(f, flags);
	x->synced = rc == SQLITE_OK;
	return rc;
}

static int log_size(sqlite3_file *f, sqlite3_int64 *size) {
	int rc = flush(f);
	return rc == SQLITE_OK ? of(f)->methods->xFileSize(f, size) : rc;
}

static int log_control(sqlite3_file *f, int op, void *arg) {
	int rc = flush(f);
	return rc == SQLITE_OK ? of(f)->methods->xFileControl(f, op, arg) : rc;
}

// log_close loses what was not committed, and no more.
static int log_close(sqlite3_file *f) {
	extra *x = of(f);
	free(x->kept);
	x->kept = 0;
	// SQLite's locks, which a close would drop, are on other files.
	if (x->fd >= 0) close(x->fd);
	return x->methods->xClose(f);
}

static int log_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out) {
	layer *l = (layer *)v;
	extra *x = (extra *)((char *)f + l->extra_at);
	int rc = l->real->xOpen(l->real, name, f, flags, out);
	if (rc != SQLITE_OK || !(flags & SQLITE_OPEN_WAL)) return rc;
	x->kept = malloc(ROOM);
	if (x->kept == 0) {
		f->pMethods->xClose(f);
		f->pMethods = 0;
		return SQLITE_NOMEM;
	}
	x->len = 0;
	x->synced = 0;
	x->fd = strcmp(l->real->zName, "unix") == 0 ? open(name, O_RDWR | O_CLOEXEC) : -1;
	x->methods = f->pMethods;
	x->ours = *f->pMethods;
	x->ours.xClose = log_close;
	x->ours.xRead = log_read;
	x->ours.xWrite = log_write;
	x->ours.xTruncate = log_truncate;
	x->ours.xSync = log_sync;
	x->ours.xFileSize = log_size;
	x->ours.xFileControl = log_control;
	f->pMethods = &x->ours;
	return SQLITE_OK;
}

int walio_install(void) {
	sqlite3_vfs *base = sqlite3_vfs_find(0);
	if (base == 0) return 1;
	if (present != 0 && present->real == base) return 0;
	layer *l = malloc(sizeof(layer));
	if (l == 0) return 1;
	l->real = base;
	l->extra_at = (base->szOsFile + 15) & ~15;
	l->shim = *base;
	l->shim.zName = "walio";
	l->shim.szOsFile = l->extra_at + (int)sizeof(extra);
	l->shim.xOpen = log_open;
	if (present != 0) sqlite3_vfs_unregister(&present->shim);
	present = l;
	return sqlite3_vfs_register(&l->shim, 0);
}
