// Package transfer moves mail between the store and files or other servers: it
// owns the forms mbox and Maildir, and the reading of another IMAP server.
//
// # Two sides
//
// The command (Import, Export) reads and writes files and speaks to the other
// server; the store's side (Server) runs where the store is open. Between them
// is a socket and the messages themselves cross it, in frames (frame.go). So
// files are opened with the rights of whoever gave the command: a server that
// runs as another user neither needs to read his files nor can be made to.
//
// # What a second run brings in
//
// Nothing that is there. A message has a Mark within its folder of the source:
// for IMAP its UID (UIDVALIDITY is part of the folder's identity); for Maildir
// its file's name before the colon, and the file's size; for mbox the SHA-256
// of its octets, without the fields that belong to the mbox, and how many equal
// ones stand before it. The marks of what came in are settings of the store,
//
//	import/ACCOUNT/HASH/NUMBER   up to marksPerRow marks of 16 octets
//
// where HASH is of the source's identity, the folder, and --mailbox; NUMBER
// counts up from 000000. The marks of a batch are written in the Update that
// appends its messages. The setting import/ACCOUNT lists the HASHes, so that all
// can go with the account (ForgetAccount).
//
//	a crash                          what the next run finds
//	before the commit of a batch     neither its messages nor its marks: they come in then
//	after it                         both: they are skipped
//	within an export                 a draft, .NAME.partial-…, beside where NAME would be
//
// # Line ends
//
// In the store lines end in CRLF. Files have LF: a message is clean when every
// line of it, the last one too, ends in CRLF and no CR or LF stands alone, and
// a clean message is written with LF and read back with CRLF. Any other is
// written as it is, octet for octet, and marked as exact. On reading, a lone LF
// of an unmarked message becomes CRLF and nothing else changes, so that files
// that have CRLF already are fine.
//
// # mbox
//
// A message is a From_ line (the sender from its Return-Path, or MAILER-DAEMON,
// and INTERNALDATE in UTC), the header, the fields below, the body, an empty
// line. The dialects differ in how a line that begins with "From " is told from
// a From_ line:
//
//	mboxo     it gets a ">". A message with a line ">From " can not be told and is refused
//	mboxrd    it gets a ">", and so does one that begins with any number of ">" and "From "
//	mboxcl    as mboxo, and Content-Length says where the body ends
//	mboxcl2   Content-Length alone
//
// The fields stand at the end of the header, in this order; none but Status is
// written without need:
//
//	Status: RO | O             R: seen
//	X-Status: AFTD             answered, flagged, draft, deleted
//	X-Keywords: NAME ...
//	X-Mbox: DIALECT [; exact] [; unended]   when it is not mboxrd, or is marked
//	Content-Length: OCTETS     of the body as it stands in the file
//
// unended: the message does not end in a newline, and the one in the file is
// not its own. Reading takes these fields away (and X-UID, X-IMAP, X-IMAPbase)
// where they are the last of the header, up to the nearest Status from the end;
// fields of these names anywhere else belong to the message. Without any,
// Thunderbird's X-Mozilla-Status, X-Mozilla-Status2 and X-Mozilla-Keys are read,
// and taken away, at the start. A From_ line has a date and follows an empty
// line. Thunderbird's deleted messages and UW-IMAP's internal data are left out.
//
// Told no dialect, a reader believes X-Mbox in the first message. Where there is
// none and its Content-Length is right, the file is mboxcl if no line of any body
// begins with "From ", else mboxcl2. All other files are read as mboxrd.
//
// # Maildir
//
// Maildir++: INBOX is the Maildir itself and A/B its folder ".A.B", each level
// in modified UTF-7 and a full stop within one as "&AC4-". The keyword
// $Forwarded is the flag P; others have letters a to z, whose names are in
// dovecot-keywords; those for which no letter is left are in postrider-keywords.
// The file's time is INTERNALDATE, and its name puts it in order. A message that
// is marked as exact has a field ",exact" in its file's name.
package transfer
