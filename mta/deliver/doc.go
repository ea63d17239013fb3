// Package deliver speaks SMTP to the next hop: it is how a message leaves.
//
// It owns connections to peers and what is said on them. It never decides when
// to try (package queue) or where (package route), and keeps nothing: what became
// of each recipient is told once to Delivery.Record, which makes it durable
// before another command goes out.
//
// # An attempt
//
// The hops of a Delivery are tried in order, and each address of a hop in order
// (RFC 5321 section 5.1), at most maxAddresses in all. What a peer's answer leads
// to:
//
//	no connection, a 4xx or 5xx greeting, 421,
//	a lost connection, a malformed reply         the next address, then the next host
//	4xx to MAIL, RCPT, DATA or the message       the next host, for those recipients
//	5xx to MAIL, RCPT, DATA or the message       final for those recipients
//	2xx after the dot                            delivered
//	lost after the dot was sent                  the attempt ends; a later one may be a
//	                                             duplicate (RFC 1047), but one at most
//
// Only a reply of class 2 to the final dot is success. Whatever else happens is
// a temporary failure unless the peer, or a rule that is named in the reply,
// refused for good. A peer that greets with 5xx wants no mail at all: when every
// address tried did so, the failure is final.
//
// Once a peer took the message for some recipients, that is made durable before
// anything else is said: by Delivery.Partial where it is set, and then the rest
// goes on; else the attempt ends with Record.
//
// # Connections
//
// A connection that ended a transaction well waits a few seconds for the next
// message to the same address, with the same TLS policy and login. One that the
// peer closed meanwhile is noticed when MAIL gets no answer, and replaced
// without counting as a failure.
//
// # Content
//
// A message goes by DATA, never by BDAT: what is sent has only CRLF and stuffed
// dots anyway, and DATA lets a peer refuse every recipient before a large message
// crosses the wire. A peer without 8BITMIME gets 8-bit text as quoted-printable
// where that breaks nothing (convert.go), else 5.6.3; one without SMTPUTF8 gets no
// message that needs it: 5.6.7.
//
// # Limits
//
// A reply is bounded in lines and octets (reply.go), and each reply and each
// block of data by the time of RFC 5321 section 4.5.3.2, however it drips.
//
// A Client may be used by any number of goroutines; Deliver uses only the
// caller's. Nothing here survives a crash, and nothing has to: what was not
// recorded is tried again.
package deliver
