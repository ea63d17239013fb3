// Package recursor finds answers in the Domain Name System by itself: from the
// root servers down, delegation by delegation, with a cache.
//
// It owns the walk through the tree (which server is asked what, and what of
// its answer is believed), what is known of each server (round trips, EDNS,
// cookies), and the cache. It never listens, and knows nothing of the clients
// that a name server has: package server and the root package do.
//
// # What is believed
//
// A server is asked about names in one zone, the one that it was delegated. Of
// what it says, three things are kept: the records of the very question that it
// was asked (or the alias of that name); the proof that there are none; and a
// delegation of a zone below its own, on the way to the name. All else is
// ignored: further links of a chain of aliases are asked for again (RFC 2181
// section 5.4.1), records of names outside the zone are not looked at, and the
// additional section is read for the addresses of a delegation's servers alone.
// Such glue, and the parent's NS records, stay with the delegation: they say
// whom to ask next and are never part of an answer. Since only answers to
// questions enter the cache, the ranks of RFC 2181 are kept by construction.
//
// # Bounds
//
// Each answer costs at most so many queries, lookups of name servers' addresses
// and nested lookups as limits.go says, whatever servers do; a delegation makes
// at most a few lookups (NXNSAttack). Questions under way at once are bounded,
// identical ones are merged, and the cache holds a set number of octets.
//
// # Concurrency
//
// All methods of a Resolver may be called concurrently. A question goes on when
// the one who asked went away, as long as its budget lasts; Close ends all and
// returns after the last goroutine. Nothing is kept on disk.
package recursor
