//go:build faults

#include <errno.h>
#include <string.h>
#include "vfs.h"
#include "_cgo_export.h"

#define SQLITE_OK 0
#define SQLITE_IOERR 10
#define SQLITE_FULL 13
#define SQLITE_CANTOPEN 14
#define IOERR(n) (SQLITE_IOERR | ((n) << 8))
#define IOERR_WRITE IOERR(3)
#define IOERR_FSYNC IOERR(4)
#define IOERR_TRUNCATE IOERR(6)
#define IOERR_DELETE IOERR(10)
#define IOERR_SHMSIZE IOERR(19)

// What faultsCall answers: 0 to go on, an errno to fail with, and SHORT beside
// it when a write stops in its middle.
#define SHORT 0x10000

static sqlite3_vfs *real;     // SQLite's unix VFS
static sqlite3_vfs shim;      // a copy of it, but for three methods
static int extra_at;          // where in a file's structure ours begins
static __thread int injected; // the last call's errno, when it was ours

// A file is opened by the unix VFS in place; only its methods are exchanged for
// a copy in which those that change the disk ask first.
typedef struct {
	const sqlite3_io_methods *methods; // the unix VFS's
	sqlite3_io_methods ours;
	long long id; // of faultsOpen; 0 for a file that nobody watches
} extra;

static extra *of(sqlite3_file *f) { return (extra *)((char *)f + extra_at); }

static int inject(int e, int code) {
	injected = e & ~SHORT;
	errno = injected;
	return code;
}

static int fault_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at) {
	extra *x = of(f);
	int e = faultsCall(x->id, OP_WRITE, (void *)p, n, at);
	injected = 0;
	if (e == 0) return x->methods->xWrite(f, p, n, at);
	if (e & SHORT) x->methods->xWrite(f, p, n / 2, at);
	// The unix VFS tells ENOSPC, and a short write, as SQLITE_FULL.
	return inject(e, (e & ~SHORT) == ENOSPC ? SQLITE_FULL : IOERR_WRITE);
}

static int fault_truncate(sqlite3_file *f, sqlite3_int64 size) {
	extra *x = of(f);
	int e = faultsCall(x->id, OP_TRUNCATE, 0, 0, size);
	injected = 0;
	return e ? inject(e, IOERR_TRUNCATE) : x->methods->xTruncate(f, size);
}

static int fault_sync(sqlite3_file *f, int flags) {
	int e = faultsCall(of(f)->id, OP_SYNC, 0, 0, 0);
	(void)flags;
	injected = 0;
	return e ? inject(e, IOERR_FSYNC) : SQLITE_OK;
}

static int fault_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **p) {
	extra *x = of(f);
	injected = 0;
	if (extend) {
		// Only a call that grows the file can fail for the disk's sake.
		int rc = x->methods->xShmMap(f, page, size, 0, p);
		if (rc != SQLITE_OK || *p != 0) return rc;
		int e = faultsCall(x->id, OP_SHM, 0, 0, (sqlite3_int64)page * size);
		if (e) return inject(e, IOERR_SHMSIZE);
	}
	return x->methods->xShmMap(f, page, size, extend, p);
}

static int fault_close(sqlite3_file *f) {
	extra *x = of(f);
	faultsClose(x->id);
	return x->methods->xClose(f);
}

static int fault_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out) {
	extra *x = of(f);
	long long id = 0;
	(void)v;
	injected = 0;
	if (name != 0) {
		id = faultsOpen((char *)name, flags);
		if (id < 0) {
			f->pMethods = 0;
			return inject((int)-id, SQLITE_CANTOPEN);
		}
	}
	int rc = real->xOpen(real, name, f, flags, out);
	if (rc != SQLITE_OK || id == 0) {
		faultsClose(id);
		return rc;
	}
	x->id = id;
	x->methods = f->pMethods;
	x->ours = *f->pMethods;
	x->ours.xClose = fault_close;
	x->ours.xWrite = fault_write;
	x->ours.xTruncate = fault_truncate;
	x->ours.xSync = fault_sync;
	if (x->ours.xShmMap != 0) x->ours.xShmMap = fault_shm_map;
	f->pMethods = &x->ours;
	return SQLITE_OK;
}

static int fault_delete(sqlite3_vfs *v, const char *name, int sync) {
	int e = faultsDelete((char *)name, sync);
	(void)v;
	injected = 0;
	return e ? inject(e, IOERR_DELETE) : real->xDelete(real, name, 0);
}

static int fault_last_error(sqlite3_vfs *v, int n, char *buf) {
	(void)v;
	return injected ? injected : real->xGetLastError(real, n, buf);
}

int faults_install(void) {
	real = sqlite3_vfs_find(0);
	if (real == 0) return 1;
	extra_at = (real->szOsFile + 15) & ~15;
	shim = *real;
	shim.zName = "faults";
	shim.szOsFile = extra_at + (int)sizeof(extra);
	shim.xOpen = fault_open;
	shim.xDelete = fault_delete;
	shim.xGetLastError = fault_last_error;
	return sqlite3_vfs_register(&shim, 1);
}
