// Package imap is the IMAP server (RFC 9051, RFC 3501) over the mailstore.
//
// The protocol engine is go-imap's imapserver for now: it reads commands and
// writes responses, one goroutine per connection. This package gives it a
// connection that collects small writes and obeys our timeouts, and a session
// that translates between its types and the mailstore's. What a message
// consists of comes from package message; what a flag, UID or mod-sequence
// means is decided in the mailstore. The package never stores anything itself.
//
// A session with a selected mailbox keeps the UIDs that its client knows, in
// order, and the mod-sequence up to which the client was told of changes. What
// happened since is asked of the store at the end of each command and, in IDLE,
// after each commit. So the numbers that a client uses always mean what it
// thinks they mean, however many sessions have the mailbox open.
//
// A Server may be used concurrently. A session belongs to its connection, but
// for IDLE, which runs beside the goroutine that reads; a mutex guards it.
// A tagged OK for APPEND, STORE, COPY, MOVE, EXPUNGE, CREATE, DELETE, RENAME,
// SUBSCRIBE and UNSUBSCRIBE comes after the commit that holds the change: it
// survives loss of power. A connection that is lost within an APPEND leaves
// nothing behind.
package imap
