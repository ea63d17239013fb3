// Package sqlite is the embedded storage engine: a data directory with one
// SQLite database for everything that mail depends on, and files for bodies
// that are too large for it. It keeps rows and files; what they mean is the
// business of package mailstore.
//
// # The data directory
//
//	lock            held (flock) by the process that uses the directory; has its id
//	reserve         occupies space that is given back for deleting when the disk is full
//	postrider.db    the database; beside it -wal and -shm while it is open
//	postrider.db.v1 the database as it was before an upgrade from version 1 (2, ...); not used
//	upgrade/        an upgrade's copy of the database; locked (flock) by it
//	bodies/tmp/     bodies that are being written
//	bodies/xx/      complete large bodies; xx is how their names begin
//
// The directory is made with mode 0700, files with 0600; what others may read
// or write is refused at open.
//
// # Concurrency
//
// One connection writes; a pool of connections reads snapshots of the
// write-ahead log; one connection moves the log into the database (checkpoints)
// while the others work. The writer waits for it only where the log has
// outgrown its bound, and then only for what the last moments added. No
// statement has a cancellable context, which would cost a goroutine each.
//
// # Durability
//
// journal_mode is WAL and synchronous FULL, both read back at open: COMMIT
// returns after the log was synced. The writer's connection writes the log in large
// pieces and syncs it by fdatasync (package walio): twenty small writes in front of
// each sync cost as much of the processor as all of SQLite's own work on a message. A
// body file is written under bodies/tmp, synced, renamed, and its directory synced (and that directory's parent where
// this process has not done so before), all before a row names it.
//
// What a crash can leave:
//
//	state                                         recovery
//	database not yet made, or made half           schema steps are transactions; the next open goes on
//	log with frames after the last commit         SQLite ignores them
//	log not yet moved into the database           moved at open, before anything is written: what a sync
//	                                              that failed has left in memory only gets to the disk so
//	directory upgrade                             removed at open, and by the next upgrade
//	postrider.db.v1 beside a database that is     a second name of the same file; the next
//	still of version 1                            upgrade takes it
//	file in bodies/tmp                            removed at open
//	file in bodies/xx without a row               removed by mailstore's sweep after open
//	row without a file                            cannot be: the file is durable first, and removed
//	                                              after the commit that drops its row
//	lock file with the id of a dead process       the lock went with it; the next open takes it
//
// A build with the tag "faults" makes each of these calls fail in turn, SQLite's
// own included, and stops at each (see package faults and TestFaultsR11). A
// write that fails is undone and the store goes on; after a sync that failed, a
// checkpoint's included, nothing is written until the next start.
//
// # A full disk
//
// The file reserve occupies up to 64 MiB (Options.Reserve), a sixteenth of a small
// file system.
// When there is little space beside it, what adds mail is refused (ErrFull) and
// it is given back step by step for flags, moves, deletions and checkpoints; when
// there is space for it, it is made whole and mail is taken again. Mail that goes
// into the database is also taken while that has pages that deleting left unused.
//
// # Upgrades
//
// Upgrade copies the database into the directory upgrade, migrates the copy in one
// transaction, and reads all that clients see of it before and after: by a snapshot
// from before the transaction, and one from behind it. When there is no difference
// the old file gets its second name, postrider.db.v1, and the copy its place, by one
// rename. Until then the old one is not touched, but for its log, which is moved into
// it. A log beside postrider.db at the rename would be taken for the new file's: so
// it is gone durably before. A dry run ends before the names change, and reads the
// bodies where they are.
//
// # Schema, version 4
//
// PRAGMA application_id is 0x50524452, user_version the version of the schema.
// A newer version is refused, and so is an older one, unless Options.Upgrade is
// set. So is a database that lacks a table, a column or an index of its version: the
// error names them. Times are nanoseconds since 1970, 0 = never; within blocks, seconds.
//
//	counter(name, value)             ids: the first that was never reserved; uidvalidity: the last
//	                                 that was given; queue length: rows of queue_recipient
//	setting(key, value)              opaque
//	domain(id, name, created,        id gives the order
//	       quota_storage,            of its accounts that set none: 0 = the default's,
//	       quota_messages)           -1 = no limit
//	alias(address, targets)          targets one to a line
//	account(id, address, credentials, created,
//	       quota_storage,            0 = the domain's, -1 = no limit
//	       quota_messages, shared)   shared: nobody logs in to it
//	usage(account, storage,          sums of size and messages over the account's mailboxes;
//	      messages)                  no row where they are 0
//	mailbox(id, account, name, special_use, uidvalidity, uidnext, modseq,
//	        messages, unseen, size,  counters of the mailbox's messages
//	        horizon, expunges)       see mailstore.MailboxRow
//	subscription(account, name)
//	annotation(account, mailbox,     whose mailbox it is, and 0 for the account itself;
//	           entry, user, value)   user is 0 where the entry is shared
//	acl(mailbox, identifier, rights) who else may do what: see mailstore.ACLRow
//	  acl_identifier                 index by identifier
//	urlkey(account, mailbox, key)    signs an account's URLs of messages of a mailbox
//	  urlkey_mailbox                 index by mailbox
//	block(id, last, count, unseen,   a run of a mailbox's messages, packed: see
//	      size, stamp, head)         mailstore.BlockRow; id is mailbox << 32 | first UID
//	block_data(id, data)             its other half, which a change of flags leaves alone
//	content(body, record)            what lists tell of a message: see message.Stored
//	thread(account, key, thread)     which conversation a message id leads to, with a base
//	                                 subject; key is a part of their hash
//	held(id, account, name,          what was expunged and can be brought back, the oldest
//	     expunged, mailbox, ...)     first; the rest as in block and block_data
//	  held_account                   index by account
//	expunge(mailbox, modseq, first, last)
//	body(id, size, hash, sums,       file or data is NULL; coding is NULL where the octets
//	     file, data, coding)         are kept as they are, and else says how: see
//	                                 mailstore.BodyRow and mailstore.Coder
//	  body_file                      index by file, of those that have one
//	body_share(body, extra)          references beyond the first, where there are any
//	queue_item(id, ...)              pending counts its recipients
//	queue_recipient(id, ...)         id is item << 20 | index
//	  queue_due                      index of those not held by next
//
// Why messages are packed: a row for each cost 3 µs to read and 5 to write. A
// mailbox of 100,000 messages is about 100 blocks: SELECT reads their heads, STORE
// of a flag on all of them writes these, and EXPUNGE of all deletes them. A
// delivery writes only the last block, which stays small until sixteen like it are
// joined.
//
// Why bodies of more than 64 KiB (mailstore.InlineSize) are files: a file costs
// 0.6 ms of processor time and more, two syncs included, and a row what its
// octets cost twice, in the log and moved to the database by a checkpoint.
// Attachments of one size delivered by 16 at once, checkpoints and close included,
// on a quiet machine, the better of two runs (BenchmarkBodies/base64.../plain with
// that constant changed):
//
//	               kept up to:  16 KiB     32 KiB     64 KiB    128 KiB    256 KiB
//	32 KiB   delivered/s         2,140      4,540      4,310      4,280      4,180
//	         processor, ms        0.68       0.27       0.28       0.27       0.28
//	64 KiB   delivered/s         1,270      1,380      2,610      2,440      2,620
//	         processor, ms        1.19       1.08       0.46       0.49       0.45
//	128 KiB  delivered/s         1,210      1,230      1,120      1,260      1,350
//	         processor, ms        1.21       1.20       1.35       0.93       0.90
//	         read, ms             0.06       0.05       0.05       0.13       0.11
//
// Up to 64 KiB a row is far cheaper. At 128 KiB it is a matter of taste: a row takes
// 0.4 ms less of the processor, but writes twice as much, is read at half the speed,
// and fell behind (740 to 1,090 a second) while others used the disk; and every body
// in the making would hold twice the memory. 1 MiB is a file with all of these.
//
// Invariants: blocks of a mailbox do not overlap, and their rows tell the truth of
// what is packed in them; a mailbox's counters are those of its messages; uidnext
// is above every uid, modseq not below any; records of expunges are below both, and
// above the horizon; names are clean (mailstore.CleanName); no UIDVALIDITY is above
// the last that was given; an account's usage is the sum over its
// mailboxes; body references (1 + extra) equal the packed messages, held ones
// included, and the rows of queue_item that name it; no content without its body; no
// annotation without its account and mailbox; no rights to a mailbox without it, nor
// keys of URLs; the length of the queue is the number of recipients.
package sqlite
