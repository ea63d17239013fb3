// Package message is the offset index of one stored message: where its header
// fields, MIME parts and embedded messages begin and end (RFC 5322, RFC 2045,
// RFC 2046). From the index it answers what IMAP asks of a message: ENVELOPE,
// BODYSTRUCTURE, BODY[section] and BINARY[section].
//
// It never copies a body, never changes one, and never refuses one: every
// sequence of bytes has some structure, and the ranges of the index always lie
// inside the message, in order, parts within their parents. What exceeds a
// limit (the constants of this package) is opaque text of the part in which it
// stands. Work is linear in the size of the message and memory is bounded.
//
// Lines end in CRLF or LF. A header section ends at an empty line, or before
// the first line that is neither a field nor a continuation; the bytes from
// there on are body. That is how a letter typed without any header is read.
//
// A Describer finds out once what lists, threads and sections need of a
// message; the store keeps that beside the body as a record (Stored), bounded by
// MaxStored whatever the message is. The format of a record is described at
// storedVersion and appendTable; a record is derived data and can be made again
// from the message at any time.
//
// The package keeps no state. An Index is safe for concurrent use as far as
// its io.ReaderAt is; a Describer is not. Nothing here survives a crash because
// nothing is stored here.
package message
