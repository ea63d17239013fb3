// Package mailstore keeps accounts, mailboxes, messages and the queue. It owns
// the database and its only transaction type: whoever accepts, delivers, moves
// or deletes mail does it in one Update, which is durable when it returns nil.
// Of what is inside a message it keeps a record for lists (package message).
//
// # What is decided here
//
// The semantics are here, once, above an Engine that keeps rows and files: UIDs
// come from a counter of the mailbox and are never used again; UIDVALIDITY
// comes from a counter of the whole store that grows with time, so that no two
// mailboxes ever share one; every change raises its mailbox's mod-sequence, and
// expunges leave a record, bounded by MaxExpunges; bodies are shared by
// reference counts; counters of messages, unseen ones and octets are kept, not
// computed.
//
// So is the usage of each account: the sum over its mailboxes, changed in the
// transaction that changes them. What would bring it above the account's quota
// (its own, else its domain's, else Options.Quota) is refused with ErrQuota
// before anything of it is written; what only moves within the account never is.
// Room tells sessions the same beforehand, without reading the database for
// accounts that changed lately.
//
// Rights of others to a mailbox are kept here, inherited, and added up (View.Rights);
// who acts for somebody asks for them, in the transaction that acts: Tx itself refuses
// nobody. Keys that sign URLs of messages are kept, and what they sign is not known here.
//
// Messages are packed, about a thousand to a row (BlockRow). A mailbox's blocks make
// its index, a value that never changes: a commit makes a new one, readers of the
// old state keep theirs. What is expunged is held for Options.Keep, with its
// bodies and outside the quota, and let go of behind what else the store does.
//
// # Concurrency
//
// A Store is safe for concurrent use. Update joins what waits into one commit
// (group commit): functions run one after another on the store's writer
// goroutine, each undone alone when it fails, and each caller is answered after
// the commit that holds its changes was synced to disk. Views read snapshots,
// beside the writer and each other. Watchers hear of a change after its commit.
// When more Updates wait than the queue holds, callers wait to be let in.
//
// # Failures
//
//	what happens                        what callers see, and what follows
//	fn returns an error or panics       its changes are undone, others of the commit stand
//	the engine panics behind fn's end   a temporary error for all of that commit; the store goes on
//	the engine keeps what space is left ErrFull for what adds; deleting and the rest go on
//	no space for a row or a commit      ErrFull for all of that commit; the store goes on
//	any other error before the commit   that error, temporary, for all of that commit
//	a write of the commit fails         ErrNotWritten, temporary, for all of that commit
//	its sync fails, or a checkpoint's       ErrFailed, Failed is closed; nothing is written any
//	                                    more, reading goes on, the process should end
//	a crash before the commit           nothing of it is there
//	a crash after it, before the answer all of it is there
//	a crash between body file and row   the file is an orphan, which the sweep that begins
//	                                    at Open removes
//	a crash between the commit that     the same
//	drops a body and its file's removal
//	damaged bytes of a body             ErrDamaged instead of the chunk that they are in
//	a damaged page of the database      ErrDamaged, for all of a commit that meets it; others go on
//	a damaged block                     the same; what arrives is added behind it
//	a damaged record of expunges        clients are told everything anew
package mailstore
