// Package dns answers postrider's questions to the Domain Name System.
//
// It owns the stub resolver: it asks recursive name servers (those of
// resolv.conf, or given ones) over UDP and TCP, decides which datagrams are
// answers, follows aliases, reads the hosts file and keeps a cache. The wire
// format and the types of records are those of miekg/dns; sockets, retries and
// the judgement of answers are ours. It never decides where mail goes.
//
// # What is believed
//
// Each UDP query goes out on a connected socket of its own, with a port and an
// identifier that are both random. A datagram counts as the answer only when
// the identifier, the QR bit and the question (name, type, class) are those of
// the query (RFC 5452 section 9.1); anything else is dropped and waiting goes
// on. When too many wrong datagrams arrive, somebody is guessing, and the
// question is asked again over TCP (section 9.3). Of an answer, only the records
// that the question's name leads to, alias by alias, are used or kept; records
// that nobody asked for are ignored. Nothing is validated by DNSSEC, unless
// questions go to the iterative resolver of this process (package recursor),
// which asks nobody's word: an answer that it finds bogus is no answer.
//
// # Errors
//
// A failed lookup is an *Error, and wraps one of ErrNotExist, ErrNoData and
// ErrTemporary. Only the first two are statements about the name; a server that
// fails, refuses, or does not answer leads to the third, as does everything
// that could not be classified.
//
// # Concurrency, crashes
//
// All methods of a Resolver may be called concurrently. Identical questions
// that are under way at once are asked once. A Resolver starts no goroutine
// that outlives the call it serves, and has nothing to close. Nothing is kept
// on disk.
package dns
