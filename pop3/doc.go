// Package pop3 is the POP3 server: RFC 1939 with CAPA (RFC 2449), STLS
// (RFC 2595), AUTH (RFC 5034), UTF8 and LANG (RFC 6856), response codes (RFC 2449,
// RFC 3206), and LOGIN-DELAY and EXPIRE where they are configured.
//
// It owns the protocol and the lock that keeps a maildrop to one session at a
// time; messages belong to package mailstore and passwords to package
// directory. It never sets flags, never changes a message, and never deletes
// one but at QUIT.
//
// A session has three states. AUTHORIZATION: it has no maildrop. TRANSACTION:
// it has one, a list of UIDs and sizes as they were at login, with marks for
// deletion. UPDATE: QUIT takes the maildrop from the session and expunges the
// marked messages in one commit. A session that ends in any other way drops its
// maildrop and nothing is deleted.
//
// A Server may serve any number of listeners and connections at once. Each
// connection has one goroutine.
//
// Where messages expire, the setting pop3/retrieved/ACCOUNT has which messages a
// session sent by RETR and left behind at QUIT; it is written in the commit of
// UPDATE, which also expunges those among them that are old enough.
//
// After a crash nothing is left of a session: the lock is in memory, and the
// marks are too. +OK to a QUIT means that the deletion survives loss of power.
package pop3
