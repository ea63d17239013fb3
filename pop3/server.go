package pop3

import (
	"context"
	"crypto/tls"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/prometheus/client_golang/prometheus"

	"postrider/internal/clock"
	"postrider/internal/directory"
	"postrider/internal/journey"
	"postrider/internal/wire"
	"postrider/mailstore"
)

// Limits on what a client can make the server hold, do or wait for.
const (
	maxLine     = 255              // octets of a command with CRLF (RFC 2449 section 4)
	maxAuthLine = 12288            // the same for AUTH and its responses, as in SMTP (RFC 4954 section 4): tokens are long
	maxErrors   = 20               // refused commands and logins; the last one ends the session
	idleTimeout = 10 * time.Minute // for one line, however it drips (RFC 1939 section 3)
	sendTimeout = 10 * time.Minute // for one buffer of replies
	maxLogins   = 1 << 17          // accounts whose last login is remembered for LOGIN-DELAY
	bufferSize  = 32 << 10         // octets of replies, and of a message, in memory while they pass

	// Where more than half of the connections are in use:
	crowdedLogin = time.Minute     // from the connection to the login
	crowdedSend  = 5 * time.Minute // for one buffer: about 100 octets a second
)

// Directory says who may log in; *directory.Directory is one.
type Directory interface {
	PlaintextAllowed(p directory.Peer) bool
	Mechanisms(p directory.Peer) []string
	Login(ctx context.Context, p directory.Peer, name, password string) (mailstore.Account, error)
	SASL(ctx context.Context, p directory.Peer, mech string) (sasl.Server, func() mailstore.Account, error)
}

// Options has what a Server needs. Store and Directory must be set.
type Options struct {
	Hostname  string
	TLS       *tls.Config // nil = no STLS
	Store     *mailstore.Store
	Directory Directory
	Crowded   func() bool // whether to be less patient with strangers; nil = never
	Policy    Policy
	Clock     clock.Clock
	Log       *slog.Logger
	Journey   *journey.Recorder // gets what clients fetch, and sessions; nil = nobody
	Metrics   Metrics
}

// Policy is what an operator may choose. The zero value asks for nothing.
type Policy struct {
	// LoginDelay is how long an account waits from one login to the next (RFC 2449
	// section 6.5), in whole seconds; 0 = not.
	LoginDelay time.Duration
	// Expires says that messages which a client has retrieved do not stay for
	// ever, but ExpireDays from when they came; 0 = until the end of the session
	// (RFC 2449 section 6.7).
	Expires    bool
	ExpireDays int
	// SendUTF8 sends messages with UTF-8 in their header to clients that have not
	// said UTF8, instead of refusing them (RFC 6856 section 2.1).
	SendUTF8 bool
}

// Metrics are counters that may be nil.
type Metrics struct {
	Logins    prometheus.Counter // sessions that opened a maildrop
	Retrieved prometheus.Counter // messages sent whole
	Deleted   prometheus.Counter // messages that QUIT deleted
}

func count(c prometheus.Counter, n int) {
	if c != nil {
		c.Add(float64(n))
	}
}

// Server is safe for concurrent use.
type Server struct {
	hostname  string
	tls       *tls.Config
	drops     maildrops
	directory Directory
	crowded   func() bool
	clock     clock.Clock
	log       *slog.Logger
	journey   *journey.Recorder
	metrics   Metrics
	policy    Policy
	buffers   sync.Pool // of *[]byte, bufferSize long

	mu     sync.Mutex
	held   map[mailstore.AccountID]struct{}  // maildrops in the TRANSACTION state
	logins map[mailstore.AccountID]time.Time // the last ones, while LoginDelay lasts
}

// New returns a Server.
func New(o Options) *Server {
	s := &Server{
		hostname:  o.Hostname,
		tls:       o.TLS,
		directory: o.Directory,
		crowded:   o.Crowded,
		clock:     o.Clock,
		log:       o.Log,
		journey:   o.Journey,
		metrics:   o.Metrics,
		policy:    o.Policy,
		held:      map[mailstore.AccountID]struct{}{},
		logins:    map[mailstore.AccountID]time.Time{},
	}
	s.buffers.New = func() any { b := make([]byte, bufferSize); return &b }
	if s.crowded == nil {
		s.crowded = func() bool { return false }
	}
	if s.clock == nil {
		s.clock = clock.System()
	}
	s.drops = storedDrops{store: o.Store, policy: o.Policy, clock: s.clock}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s
}

// Protocol is what a listener of the given name serves; with implicitTLS it
// begins with a TLS handshake (RFC 8314).
func (s *Server) Protocol(name string, implicitTLS bool) wire.Protocol {
	p := wire.Protocol{
		Name:    name,
		Refusal: func(reason string) string { return "-ERR [SYS/TEMP] " + reason + "\r\n" },
		Serve:   s.serve,
	}
	if implicitTLS {
		p.TLS = s.tls
	}
	return p
}

// lock takes the maildrop of an account for one session. It reports false when
// another session has it.
func (s *Server) lock(id mailstore.AccountID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.held[id]; taken {
		return false
	}
	s.held[id] = struct{}{}
	return true
}

// soon tells how long an account has to wait for its next login; 0 = not at all.
func (s *Server) soon(id mailstore.AccountID) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, ok := s.logins[id]
	if !ok {
		return 0
	}
	age := s.clock.Now().Sub(last)
	if age < 0 || age >= s.policy.LoginDelay { // also after the clock was set back
		delete(s.logins, id)
		return 0
	}
	return s.policy.LoginDelay - age
}

// loggedIn notes a login for soon. A table that is full of logins within the delay
// loses any one.
func (s *Server) loggedIn(id mailstore.AccountID) {
	if s.policy.LoginDelay <= 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	if len(s.logins) >= maxLogins {
		maps.DeleteFunc(s.logins, func(_ mailstore.AccountID, at time.Time) bool {
			return now.Sub(at) >= s.policy.LoginDelay || now.Before(at)
		})
	}
	if len(s.logins) >= maxLogins {
		for any := range s.logins {
			delete(s.logins, any)
			break
		}
	}
	s.logins[id] = now
}

func (s *Server) unlock(id mailstore.AccountID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, id)
}
