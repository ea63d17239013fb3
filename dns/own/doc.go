// Package own knows the records by which the world finds a mail domain: it
// makes those of a server's own domain from what the server really offers, and
// compares them with what name servers answer.
//
// It holds no state and reads no configuration: a Domain describes the server,
// an Asker and a dialer reach the network. It changes nothing anywhere. All of
// its work on others' answers is bounded in number and by the caller's context.
package own
