// Package imap is the IMAP server (RFC 9051, RFC 3501) over the mailstore. What a
// command looks like is in package syntax, what a message consists of in package
// message, and what a flag, UID or mod-sequence means is decided in the
// mailstore. The package stores nothing itself.
//
// # A session
//
// One goroutine reads the commands of a connection, runs them in order and writes
// the answers; what is pending leaves when there is nothing more to read. Nobody
// else writes to the connection. In IDLE a commit ends the read that waits, and
// the goroutine tells the client what happened from within it. Buffers are
// borrowed while there is something in them: an idle session keeps 4 KiB for what
// it reads.
//
// # What the client sees
//
// A session with a selected mailbox keeps the UIDs that its client knows, in
// order, and the mod-sequence up to which the client was told of changes. The
// list is the store's own, shared by all sessions that see the same state. What
// happened since is asked of the store at the end of each command. So the numbers
// that a client uses always mean what it thinks they mean, however many sessions
// have the mailbox open; expunges that may not be told yet wait.
//
// # What an answer promises
//
// A tagged OK for APPEND, REPLACE, STORE, COPY, MOVE, EXPUNGE, CREATE, DELETE,
// RENAME, SUBSCRIBE and UNSUBSCRIBE comes after the commit that holds the change:
// it survives loss of power. Each is one commit: all of it happened, or nothing.
// A connection that is lost within an APPEND leaves nothing behind. Octets of a
// message are checked before they are sent: a damaged one is a NO, or ends the
// connection within its literal.
//
// # Where things are
//
// commands.go has a row for each command, fetchitems.go for each FETCH item that
// needs no body, status.go for each STATUS item, query.go compiles search keys,
// capability.go says what is offered in which state.
//
// A Server may be used concurrently; a session belongs to its connection.
package imap
