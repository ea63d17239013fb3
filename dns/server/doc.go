// Package server is the name server: it answers questions over UDP, TCP and TLS,
// about its own zones to everybody, and about all names to clients of listed
// networks.
//
// It owns the sockets' side of the service (which messages are queries, how
// large an answer may be, how often it may be given), the set of zones with
// their roles, and the traffic between name servers: transfers, notifications
// and updates. What a zone says is package zone's; how names are looked up
// elsewhere is the Recursor's.
//
// # The way of a query
//
// A goroutine reads datagrams a batch at a time, others help it when batches are
// full, and one per
// connection reads what comes over TCP and TLS. Each message is read as far as
// its question and its OPT record. An answer that was given before is kept as
// octets: it is copied, and the copy gets the identifier, the spelling of the
// name, the remaining TTLs and the order of addresses of this reply. Else our
// zones are asked, which takes no time. What takes time (recursion, transfers,
// updates, all that is signed) is done on a goroutine of its own, of which there
// are only so many, in all and for one network.
//
// There is never an answer to an answer, never more than one reply to a message
// but for transfers, and never a larger one than the client takes.
//
// # Zones
//
// A zone is a chain of versions, of which one is served. A primary zone comes
// from a master file, or from Publish, and changes by Configure, Publish and
// UPDATE. A secondary zone comes from its primaries: it asks them after the times
// of the SOA record and when they notify, and when none has confirmed it for the
// time of expiry, questions about it are answered by SERVFAIL. A change is on disk
// before it is visible, and visible before anyone is told; type files says what
// is on disk and what a crash leaves.
//
// # Concurrency
//
// All methods of a Server may be called concurrently. Its goroutines end with
// Close, which waits for them.
package server
