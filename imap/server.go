package imap

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"hash/maphash"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/prometheus/client_golang/prometheus"

	"postrider/internal/clock"
	"postrider/internal/directory"
	"postrider/internal/journey"
	"postrider/internal/wire"
	"postrider/mailstore"
	"postrider/mailstore/search"
)

// Limits on what a client can make the server do or wait for. Those of one
// command are in package syntax.
const (
	strangerPatience = 3 * time.Minute  // for one command before login
	crowdedPatience  = time.Minute      // for the whole login, when connections run short
	idlePatience     = 31 * time.Minute // between two commands after login, and in IDLE
	commandPatience  = 5 * time.Minute  // for one line once it has begun, however it drips
	bodyPatience     = 3 * time.Minute  // without an octet of a literal
	sendTimeout      = 5 * time.Minute  // for one buffer of responses
	searchTimeout    = 60 * time.Second // for one SEARCH
	maxFailedLogins  = 10               // of one connection
	maxErrors        = 50               // BAD answers of one connection after login
	maxStrangerBad   = 10               // before
	maxFlagList      = 200              // keywords in a FLAGS response
	batch            = 1000             // messages read from the store at a time
	maxGap           = 64               // messages read in vain rather than asking twice
)

// Directory says who may log in; *directory.Directory is one.
type Directory interface {
	PlaintextAllowed(p directory.Peer) bool
	Mechanisms(p directory.Peer) []string
	Login(ctx context.Context, p directory.Peer, name, password string) (mailstore.Account, error)
	SASL(ctx context.Context, p directory.Peer, mech string) (sasl.Server, func() mailstore.Account, error)
	// Named finds the account that logs in by a name; directory.ErrNoUser for none.
	Named(ctx context.Context, name string) (mailstore.Account, error)
	// Serves tells whether a host is named like a domain of ours, or below one.
	Serves(ctx context.Context, host string) (bool, error)
}

// Searcher knows of messages what is in them; *search.Index is one.
type Searcher interface {
	Lookup(ctx context.Context, a mailstore.AccountID, m mailstore.MailboxID, uids []mailstore.UID, keys []search.Key) []search.Hits
}

// Options has what a Server needs. Store and Directory must be set.
type Options struct {
	Hostname  string
	TLS       *tls.Config // nil = no STARTTLS
	Store     *mailstore.Store
	Directory Directory
	Search    Searcher // nil = every search reads the messages
	// Administrators are the addresses of the accounts that set quotas by SetQuota (RFC
	// 9208): limits that are Unlimited, or above 0. nil = nobody sets any.
	Administrators []string
	SetQuota       func(ctx context.Context, address string, q mailstore.Quota) error
	// LiteralMinus takes no large literals that were not asked for: LITERAL- is
	// announced in place of LITERAL+ (RFC 7888 section 5).
	LiteralMinus bool
	// MessageLimit is how many messages one command processes (RFC 9738); 0 = all.
	MessageLimit int
	MaxSize      int64       // octets of a message in APPEND; 0 = as many as IMAP can say
	Crowded      func() bool // whether to be less patient with strangers; nil = never
	Clock        clock.Clock
	Log          *slog.Logger
	Journey      *journey.Recorder // gets what clients fetch first, and sessions; nil = nobody
	Metrics      Metrics
}

// Metrics are counters that may be nil.
type Metrics struct {
	Logins   prometheus.Counter
	Appended prometheus.Counter // messages
	Fetched  prometheus.Counter // FETCH responses
}

func count(c prometheus.Counter, n int) {
	if c != nil {
		c.Add(float64(n))
	}
}

// Server is safe for concurrent use.
type Server struct {
	o       Options
	maxSize atomic.Int64
	small   sync.Pool    // of *[]byte, smallBuffer long
	large   sync.Pool    // of *[]byte, largeBuffer long
	sent    kept[int64]  // when messages were sent: seconds since 1970
	members kept[member] // of threads
	seed    maphash.Seed // of ids and subjects of members
	resets  resets
	idle    idlers
	// plausible is the key by which URLs of mailboxes are tried that do not exist.
	plausible [urlKeyLength]byte
}

// New returns a Server.
func New(o Options) *Server {
	if o.Crowded == nil {
		o.Crowded = func() bool { return false }
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, seed: maphash.MakeSeed()}
	s.sent.most, s.sent.size = maxKeptDates, func(int64) int { return 8 }
	s.members.most, s.members.size = maxKeptThreads, member.octets
	s.SetMaxSize(o.MaxSize)
	rand.Read(s.plausible[:]) // it never fails
	s.small.New = func() any { b := make([]byte, 0, smallBuffer); return &b }
	s.large.New = func() any { b := make([]byte, 0, largeBuffer); return &b }
	return s
}

// SetMaxSize replaces Options.MaxSize, for SIGHUP.
func (s *Server) SetMaxSize(octets int64) {
	if octets <= 0 || octets > math.MaxUint32 {
		octets = math.MaxUint32
	}
	s.maxSize.Store(octets)
}

// Protocol is what a listener of the given name serves; with implicitTLS it
// begins with a TLS handshake (RFC 8314).
func (s *Server) Protocol(name string, implicitTLS bool) wire.Protocol {
	p := wire.Protocol{
		Name:    name,
		Refusal: func(reason string) string { return "* BYE [UNAVAILABLE] " + reason + "\r\n" },
		Serve:   s.serve,
	}
	if implicitTLS {
		p.TLS = s.o.TLS
	}
	return p
}
