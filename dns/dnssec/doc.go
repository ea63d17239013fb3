// Package dnssec decides whether DNS data can be believed (RFC 4033 to 4035,
// 5155, 6840).
//
// It owns the trust anchors, the chain of DS and DNSKEY records from an anchor
// to a zone, the check of signatures and of proofs that something does not
// exist; and the keys that zones of ours are signed with. It asks the network
// nothing by itself: records come through a Fetcher, the present from a clock.
//
// # What a Validator says
//
// Secure: signed all the way from a trust anchor. Insecure: proven to be
// unsigned, or signed in a way that nobody here can check. Bogus: should be
// signed and is not, or wrongly. Indeterminate: no anchor covers the name, or
// records of the chain could not be had (RFC 4035 section 4.3). Verdict.Refuse
// says which of them a resolver must not hand to its clients.
//
// # Bounds
//
// The answer is a stranger's, and so is every key and signature on the way to
// it. Per call of Validate the number of records fetched, of signatures
// checked, of checks that fail and of NSEC3 hashes is limited (budget.go); what
// needs more is bogus. Keys that share a tag are tried up to a limit (KeyTrap,
// CVE-2023-50387). The cache of zones has a bound of entries and of time.
//
// # Concurrency, crashes
//
// All methods of a Validator and of a Ring may be called concurrently; no lock of
// a Validator is held while something is fetched or verified. The package starts
// no goroutine. On disk are the state of RFC 5011 (anchors that came and went), the
// keys of a Ring and where each is in its life. Each file is written anew, synced
// and renamed, before anybody acts on it; a crash leaves the old or the new one.
package dnssec
