//go:build faults

#ifndef FAULTS_VFS_H
#define FAULTS_VFS_H

#include "../walio/sqlite.h"

// Operations, as in faults.go.
enum { OP_CREATE, OP_WRITE, OP_TRUNCATE, OP_SYNC, OP_REMOVE, OP_SHM };

// faults_install puts the VFS between SQLite and its default one.
int faults_install(void);

#endif
