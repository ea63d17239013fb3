package recursor

import "time"

// What one question may cost, and what servers can make us remember.
const (
	// maxQueries is how many datagrams or TCP queries one question may send,
	// everything nested in it included.
	maxQueries = 120
	// maxFetches is how many lookups of name servers' addresses one question
	// may cause, and maxFetchesPerCut how many one delegation (NXNSAttack).
	maxFetches       = 24
	maxFetchesPerCut = 5
	// maxDepth bounds lookups nested in lookups.
	maxDepth = 6
	// maxReferrals bounds the delegations followed in one lookup.
	maxReferrals = 32
	// maxAliases bounds a chain of CNAME and DNAME records.
	maxAliases = 12
	// maxServers bounds the name servers of one delegation that are kept, and
	// maxGlue the addresses of each.
	maxServers = 16
	maxGlue    = 8
	// maxTries is how often servers of one zone are asked one question.
	maxTries = 12
	// maxTriesEach is how often one of them is.
	maxTriesEach = 3
	// patience bounds the work on one question.
	patience = 15 * time.Second
	// maxExchanges is how many sockets are open at once.
	maxExchanges = 512
	// maxFlights is how many questions are worked on at once; others wait.
	maxFlights = 1024
	// maxSteps bounds what one question keeps for those who join it late.
	maxSteps = 512
	// maxKnownServers bounds what is kept of servers.
	maxKnownServers = 8192
	// maxRecords bounds the records of one set.
	maxRecords = 2048
	// maxProofs bounds the records of a proof, signatures included.
	maxProofs = 32
)

// How long things are kept.
const (
	maxTTL         = 24 * time.Hour
	maxNegativeTTL = 3 * time.Hour // RFC 2308 section 5
	// failureTTL keeps a burst of questions from asking failing servers each
	// time (RFC 2308 section 7 allows five minutes).
	failureTTL = 5 * time.Second
	// bogusTTL is how long an answer that does not validate is kept (RFC 4035
	// section 4.7).
	bogusTTL = 60 * time.Second
	// primeRetry is when the hints are looked up again after a failure.
	primeRetry = 30 * time.Second
	// RFC 8767 section 5: how long after their end records may be used, the
	// TTL that they are given then, how long a client waits before it gets
	// them, and how long after a failure they are given at once.
	maxStale     = 24 * time.Hour
	staleTTL     = 30 * time.Second
	staleTimer   = 1800 * time.Millisecond
	staleRecheck = 30 * time.Second
)

// A popular answer of at least prefetchLeast is renewed when 1/prefetchPart of
// its time remains.
const (
	prefetchPart  = 10
	prefetchLeast = 10 * time.Second
)

// QNAME minimisation (RFC 9156 section 2.3).
const (
	maxMinimise = 10
	oneLabel    = 4
)

// DefaultCacheBytes is the size of the cache where the options name none.
const DefaultCacheBytes = 32 << 20
