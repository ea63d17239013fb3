// Package zone holds one version of a DNS zone and knows what it says: which
// records answer a question, what an update changes, and what the difference
// between two versions is.
//
// A Zone never changes. Update, Apply and the signer make a new one, which
// shares with the old all that is equal in both, so that readers need no lock:
// whoever holds a Zone may use it for as long as it likes, beside others. The
// package opens no socket and asks for no time; only Load, WriteFile and Journal
// touch files.
//
// # Names and records
//
// Names that go in and out are canonical (miekg.CanonicalName: lower case, with
// the final dot). Records are those of miekg/dns; what New and Read take is
// copied, what comes out is shared with the zone and must not be changed.
//
// # The tree
//
// A zone is a tree of labels from its origin down. A node without records is an
// empty non-terminal. The children of a node are in the canonical order of RFC
// 4034 section 6.1, so that a walk from the origin visits names in the order of
// the NSEC chain. NSEC3 records, whose names are hashes and exist for nobody who
// asks (RFC 5155 section 7.2.8), stand in a list of their own. A change copies the
// nodes from the origin to the name that it touches, and no others.
package zone
