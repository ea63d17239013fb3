#ifndef WALIO_H
#define WALIO_H

#include "sqlite.h"

// walio_install registers the VFS over SQLite's default one.
int walio_install(void);

#endif
