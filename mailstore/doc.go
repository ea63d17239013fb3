// Package mailstore keeps accounts, mailboxes, messages and the queue. It owns
// the database and its only transaction type: whoever accepts, delivers, moves
// or deletes mail does it in one Update, which is durable when it returns nil.
//
// A Store is safe for concurrent use. Update joins what waits into one commit
// (group commit): functions run one after another on the store's writer
// goroutine, each in its own savepoint, and each caller is answered after the
// commit that holds its changes was synced to disk. Watchers hear of a change
// after its commit.
package mailstore
