// Package lab is the Internet in one process: name server, two mail servers
// and their users on loopback, for watching a letter travel.
//
// It owns the set-up (addresses, zone, accounts) and the words on the screen.
// It does nothing that a server would not do by itself: each is built by
// package node like any other, the letter goes by MX record, STARTTLS and SMTP
// from one to the other. Nothing leaves this host.
//
// A Lab may be used concurrently. With a data directory given, mail survives a
// crash as in any postrider; a temporary one is removed at the end.
package lab
