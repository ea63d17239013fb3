package mailstore

import (
	"context"
	"time"
)

// Engine is what a storage engine offers: an index of typed rows with one
// write transaction at a time and any number of snapshots, and files for large
// bodies. It knows nothing of what the rows mean: counters, UIDs, packed blocks
// of messages, reference counts and the change record are kept by this package,
// above it. Package storetest has the suite that says how it must behave.
//
// Errors: a row that is not there is ErrNotFound; a write for which there is no
// space wraps ErrFull. After any other error of a Writer, ErrFull included, the
// transaction is only good for Rollback.
type Engine interface {
	// Begin starts the write transaction. The store has one at a time and uses
	// it from one goroutine at a time.
	Begin() (Writer, error)

	// Snapshot returns a reader of what is committed, unmoved by later commits
	// from its first read on. It waits while too many are open. It is used from one goroutine.
	Snapshot(ctx context.Context) (Snapshot, error)

	// CreateFile begins a file for a large body. It may be called concurrently,
	// as the other methods on files may.
	CreateFile() (BodyFile, error)
	// OpenFile opens a committed file; ErrNotFound when there is none.
	OpenFile(name string) (Content, error)
	// RemoveFile removes a committed file. Those who have it open go on
	// reading. One that is not there is no error.
	RemoveFile(name string) error
	// Files calls fn with the name of each committed file, until fn returns
	// false. Files that come or go meanwhile may be told or not.
	Files(fn func(name string) bool) error

	Close() error
}

// Spacer is a Writer that keeps space for deleting, and says so: Space wraps
// ErrFull while nothing should be added that can be refused.
type Spacer interface{ Space() error }

// BodyFile is a large body on its way to a file.
type BodyFile interface {
	// Name is what the file will be called; no other ever was or will be.
	Name() string
	Write(p []byte) (int, error)
	// Commit makes the file durable under its name, and hands over its content
	// for reading. After an error there is only Abort.
	Commit() (Content, error)
	// Abort removes what was written; it does nothing after Commit succeeded.
	Abort()
}

// MailboxRow is a mailbox with what only this package needs. Subscribed is not
// part of the row: names are subscribed, not mailboxes.
type MailboxRow struct {
	Mailbox
	// Horizon is the mod-sequence up to which the record of expunges was cut.
	Horizon ModSeq
	// Expunges counts the mailbox's rows in the record of expunges.
	Expunges int
}

// MessageRow is a message with the mod-sequence of its arrival. Within a
// mailbox Created never falls with growing UID.
type MessageRow struct {
	Message
	Created ModSeq
}

// ExpungeRow records that the messages First to Last, all of which were there,
// were expunged at ModSeq.
type ExpungeRow struct {
	ModSeq      ModSeq
	First, Last UID
}

// sound tells whether a record of expunges can be one of the mailbox.
func (m *MailboxRow) sound(e ExpungeRow) bool {
	return 0 < e.First && e.First <= e.Last && e.Last < m.UIDNext && m.Horizon < e.ModSeq && e.ModSeq <= m.ModSeq
}

// BodyRow is one stored body. Either Data or File has its bytes, which a Coder
// reads: Size, Hash and Sums are of the body itself.
type BodyRow struct {
	ID   BodyID
	Refs int
	Size int64
	Hash [32]byte // SHA-256 of the whole
	Sums []byte   // CRC-32C, big endian, of each chunk of ChunkSize
	// Coding says how the bytes are kept, as they are where it is empty; see
	// coding.go.
	Coding []byte
	File   string
	Data   []byte
}

// QueueRow is a queue item with the number of its recipients.
type QueueRow struct {
	QueueItem
	Left int
}

// Reader reads rows. Lists call fn until it returns false. Rows that are handed
// out belong to the receiver; within a list they are valid until fn returns.
type Reader interface {
	// Counter is 0 when it was never put.
	Counter(name string) (int64, error)
	Setting(key string) ([]byte, error)

	Domain(name string) (Domain, error)
	Domains(fn func(Domain) bool) error // in order of creation
	Alias(address string) (Alias, error)
	Aliases(fn func(Alias) bool) error // by address
	Account(id AccountID) (Account, error)
	AccountByAddress(address string) (Account, error)
	Accounts(fn func(Account) bool) error // by ID

	// Usage is zero when it was never put.
	Usage(a AccountID) (Usage, error)

	Mailbox(id MailboxID) (MailboxRow, error)
	MailboxByName(a AccountID, name string) (MailboxRow, error)
	Mailboxes(a AccountID, fn func(MailboxRow) bool) error // by ID
	CountMailboxes(a AccountID) (int, error)
	Subscribed(a AccountID, name string) (bool, error)
	Subscriptions(a AccountID, fn func(name string) bool) error // by name

	// Annotations lists those of a mailbox of an account, or with m = 0 of the
	// account itself, by Entry, then User.
	Annotations(a AccountID, m MailboxID, fn func(AnnotationRow) bool) error
	// AnnotationUsage counts those of an account and its mailboxes, and the octets
	// of their names and values.
	AnnotationUsage(a AccountID) (rows int, octets int64, err error)

	// ACL lists the access control list of a mailbox by Identifier.
	ACL(m MailboxID, fn func(ACLRow) bool) error
	// Granted lists the rows of an identifier by Mailbox.
	Granted(identifier string, fn func(ACLRow) bool) error
	URLKey(a AccountID, m MailboxID) ([]byte, error)

	// Blocks lists a mailbox's blocks by First, without their Data. They belong
	// to the receiver.
	Blocks(m MailboxID, fn func(*BlockRow) bool) error
	// BlockData reads the Data of one.
	BlockData(m MailboxID, first UID) ([]byte, error)
	// Expunges lists those with ModSeq > since, in order of ModSeq, then First.
	Expunges(m MailboxID, since ModSeq, fn func(ExpungeRow) bool) error

	// Body reads a body's row, its Data and Coding only where data is true.
	Body(id BodyID, data bool) (BodyRow, error)
	// Bodies lists the rows without their Data and Coding.
	Bodies(after BodyID, fn func(BodyRow) bool) error // by ID
	// BodyTexts lists the rows with from <= ID <= to with their Data and Coding, but
	// without Refs and Hash, by ID.
	BodyTexts(from, to BodyID, fn func(BodyRow) bool) error
	// Content reads the record that is kept beside a body.
	Content(id BodyID) ([]byte, error)
	// Contents lists the records of bodies with from <= ID <= to, by ID.
	Contents(from, to BodyID, fn func(id BodyID, record []byte) bool) error
	// BodyOfFile finds the body that is kept in a file.
	BodyOfFile(name string) (BodyID, error)

	Thread(a AccountID, key int64) (ThreadID, error)
	HeldRow(id HeldID) (*HeldRow, error)
	// Held lists the rows of an account, or of all with account 0, by ID.
	Held(a AccountID, fn func(*HeldRow) bool) error
	HeldSizes(fn func(a AccountID, size int64) bool) error // sums of Size, by account

	QueueItem(id QueueID) (QueueRow, error)
	QueueItems(after QueueID, fn func(QueueRow) bool) error                         // by ID
	Recipients(item QueueID, fn func(QueueRecipient) bool) error                    // by Index
	Recipient(item QueueID, index int) (QueueRecipient, error)                      // one of them
	Due(until time.Time, limit int, skip *QueueRecipient) ([]QueueRecipient, error) // see View.Due
}

// Snapshot is a Reader of one moment.
type Snapshot interface {
	Reader
	Close()
}

// Writer is the write transaction: a Reader that sees its own writes. Put
// inserts or replaces. Delete of what is not there is no error, but where said.
type Writer interface {
	Reader

	PutCounter(name string, v int64) error
	PutSetting(key string, v []byte) error // nil deletes
	PutDomain(d Domain) error              // one that is replaced keeps its place in the order
	DeleteDomain(name string) error
	PutAlias(a Alias) error
	DeleteAlias(address string) error
	PutAccount(a Account) error
	DeleteAccount(id AccountID) error
	PutUsage(a AccountID, u Usage) error // the zero one deletes

	PutMailbox(m MailboxRow) error
	DeleteMailbox(id MailboxID) error
	PutSubscription(a AccountID, name string) error
	DeleteSubscription(a AccountID, name string) error

	// PutAnnotation writes one; its Value is not nil.
	PutAnnotation(a *AnnotationRow) error
	// DeleteAnnotation deletes the one of that place and entry.
	DeleteAnnotation(a *AnnotationRow) error
	// DeleteAnnotations deletes all of a mailbox of an account, or with m = 0 of
	// the account itself.
	DeleteAnnotations(a AccountID, m MailboxID) error

	PutACL(row ACLRow) error
	DeleteACL(m MailboxID, identifier string) error
	DeleteACLs(m MailboxID) error // all of a mailbox
	PutURLKey(a AccountID, m MailboxID, key []byte) error
	// DeleteURLKeys deletes the one of an account and mailbox; with one of them 0,
	// all of the other.
	DeleteURLKeys(a AccountID, m MailboxID) error

	// PutBlock writes the block that begins at First. Where Data is nil, that of
	// the block which is there stays.
	PutBlock(b *BlockRow) error
	// DeleteBlock deletes the block that begins at first.
	DeleteBlock(m MailboxID, first UID) error
	// DeleteBlocks deletes all blocks of a mailbox.
	DeleteBlocks(m MailboxID) error
	PutExpunge(m MailboxID, e ExpungeRow) error
	// DeleteExpunges deletes those with ModSeq <= upTo.
	DeleteExpunges(m MailboxID, upTo ModSeq) error

	InsertBody(b *BodyRow) error
	// PutContent keeps a record beside a body, with which it goes.
	PutContent(id BodyID, record []byte) error
	// AddRefs adds n > 0 references to a body that is there.
	AddRefs(id BodyID, n int) error
	// DropRefs takes n > 0 references from a body, and deletes it when none are
	// left. It returns how many are, and the file of a body that it deleted.
	DropRefs(id BodyID, n int) (left int, file string, err error)

	PutThread(a AccountID, key int64, t ThreadID) error
	DeleteThreads(a AccountID) error
	PutHeld(h *HeldRow) error
	DeleteHeld(id HeldID) error

	PutQueueItem(q QueueRow) error
	DeleteQueueItem(id QueueID) error
	PutRecipient(r QueueRecipient) error
	// DeleteRecipient is ErrNotFound when there is none.
	DeleteRecipient(item QueueID, index int) error

	// Savepoint marks a point within the transaction; there is one at a time.
	Savepoint() error
	// Release forgets the savepoint.
	Release() error
	// RollbackTo undoes what came after the savepoint, and forgets it.
	RollbackTo() error

	// Commit makes the transaction durable and then visible. After an error it
	// is neither, for all that the caller may tell anybody; Rollback still has
	// to be called. After one that wraps ErrFull or ErrNotWritten the store goes
	// on, after any other it is read-only.
	Commit() error
	Rollback() error
}
