// Package syntax reads IMAP commands and writes what responses are made of
// (RFC 9051 section 9, RFC 3501 section 9, and the extensions named beside each
// type). It knows no mailbox, no state and no network: what a command means and
// whether it is allowed is decided by package imap.
//
// # Framing
//
// A Reader cuts the stream into commands before anybody looks at what is in
// them. A command is a line, or a line that announces a literal, the octets of the
// literal, and so on. An announcement stands at the end of a line and outside
// quotes; so the octets of a literal are never read as a command, whether the
// command has sense or not. A literal that is refused is consumed when its client
// sends it unasked, and otherwise was never sent; where neither can be had the error
// is ErrFraming, and the connection has to be closed.
//
// # Grammar
//
// A Parser reads the arguments of one command that is whole, or whole up to the
// literal of a message. Its first error sticks. Depth, numbers of items and of
// search keys are bounded (see the constants); everything else is bounded by the
// length of the command.
//
// A Reader and a Parser belong to one goroutine.
package syntax
