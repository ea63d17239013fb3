// Package smtpd owns the conversation with whoever hands us mail: the server
// side of SMTP on port 25, of submission (RFC 6409) and of LMTP (RFC 2033).
//
// It judges commands, their order and the framing of the content, and it
// writes the trace header. It never decides where mail goes (a Router does) and
// never keeps any: 250 after the content is sent when Queue.Accept has returned
// without an error, that is, when the message is durable.
//
// # Concurrency
//
// A Server is safe for concurrent use; each connection has one goroutine, that
// of its wire.Protocol.Serve, and one session value that nobody else touches.
//
// # Framing
//
// Only CRLF "." CRLF ends DATA. Before that, a CR or an LF that does not stand in
// a CRLF makes the message refused after its end (550 5.5.2), or is turned into
// CRLF where BareNewline is "normalise". A NUL octet could be dropped by the next
// server and so bring a hidden end of data to light: it is refused too (550
// 5.6.0), or dropped when normalising. The same rules hold in BDAT, across the
// borders of chunks. A BDAT whose size cannot be read, a chunk or a body that
// ends early, a timeout: each of these ends the connection, and nothing is
// accepted. Input that came before it may come (before the greeting, between
// DATA and 354, after STARTTLS) ends the connection too, since what follows could
// be content taken for commands.
//
// What a URL of BURL names is content like a chunk of BDAT, and is watched over with it;
// it comes from the URLs of the options, never from a connection of this package's.
//
// # Memory
//
// An idle connection has the wire.Reader's small buffer and up to replyKeep
// octets for replies. A larger read buffer is borrowed for the content alone, and
// content goes on to the body writer piece by piece. On submission the header
// (at most maxHeader octets) is held until it is complete.
//
// # Crash behaviour
//
// Nothing survives here. A body that was not accepted belongs to nobody and is
// removed by the store.
package smtpd
