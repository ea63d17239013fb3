package imap

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-sasl"
	"github.com/prometheus/client_golang/prometheus"

	"postrider/internal/clock"
	"postrider/internal/directory"
	"postrider/internal/wire"
	"postrider/mailstore"
)

// Limits on what a client can make the server do or wait for. The length of a
// command and of literals within it is bounded by imapserver.
const (
	strangerPatience = 3 * time.Minute  // for one command before login
	crowdedPatience  = time.Minute      // for the whole login, when connections run short
	commandPatience  = 5 * time.Minute  // for one command once it has begun
	sendTimeout      = 5 * time.Minute  // for one buffer of responses
	farewellTimeout  = 5 * time.Second  // for what is left to say when the connection is closed
	searchTimeout    = 60 * time.Second // for one SEARCH
	maxFailedLogins  = 10               // of one connection
	maxPatterns      = 32               // of one LIST
	maxSearchKeys    = 500              // of one SEARCH
	maxFlagList      = 200              // keywords in a FLAGS response
	batch            = 1000             // messages read from the store at a time
	maxGap           = 64               // messages read in vain rather than asking twice
	bufferSize       = 16 << 10         // octets of responses that are collected
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
	TLS       *tls.Config // nil = no STARTTLS
	Store     *mailstore.Store
	Directory Directory
	Search    Searcher    // nil = every search reads the messages
	MaxSize   int64       // octets of a message in APPEND; 0 = as many as IMAP can say
	Crowded   func() bool // whether to be less patient with strangers; nil = never
	Clock     clock.Clock
	Log       *slog.Logger
	Metrics   Metrics
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
	maxSize atomic.Uint32
	caps    imap.CapSet
	buffers sync.Pool // of *[]byte, bufferSize long
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
	s := &Server{o: o, caps: make(imap.CapSet)}
	s.SetMaxSize(o.MaxSize)
	for _, c := range []imap.Cap{
		imap.CapIMAP4rev1, imap.CapIMAP4rev2, imap.CapNamespace, imap.CapUIDPlus, imap.CapESearch,
		imap.CapSearchRes, imap.CapListExtended, imap.CapListStatus, imap.CapMove, imap.CapStatusSize,
		imap.CapBinary, imap.CapChildren, imap.CapSpecialUse, imap.CapCreateSpecialUse, imap.CapUnauthenticate,
	} {
		s.caps[c] = struct{}{}
	}
	s.buffers.New = func() any { b := make([]byte, 0, bufferSize); return &b }
	return s
}

// SetMaxSize replaces Options.MaxSize, for SIGHUP.
func (s *Server) SetMaxSize(octets int64) {
	if octets <= 0 || octets > math.MaxUint32 {
		octets = math.MaxUint32
	}
	s.maxSize.Store(uint32(octets))
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

// serve is the handler of one connection: an imapserver.Server of its own runs
// it, since what may be offered depends on the peer.
func (s *Server) serve(ctx context.Context, wc *wire.Conn, draining <-chan struct{}) {
	if wc.Log == nil {
		wc.Log = s.o.Log
	}
	c := newConn(s, wc, draining)
	ss := &session{srv: s, ctx: ctx, conn: c, log: wc.Log}
	options := imapserver.Options{
		Caps:         s.caps,
		Logger:       engineLog{wc.Log},
		InsecureAuth: wc.TLS != nil || s.o.Directory.PlaintextAllowed(ss.peer()),
		NewSession: func(e *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			ss.engine = e
			c.bye = e.Bye
			return ss, nil, nil
		},
	}
	if wc.TLS == nil {
		options.TLSConfig = s.o.TLS
	}
	// It returns when the connection was taken and the listener says that there
	// are no more.
	if err := imapserver.New(&options).Serve(&once{conn: c}); err != nil {
		wc.Log.Error("IMAP engine", "err", err)
		return
	}
	stop := context.AfterFunc(ctx, c.abort)
	defer stop()
	c.parts.Wait()
}

// once is a listener with one connection.
type once struct{ conn net.Conn }

func (l *once) Accept() (net.Conn, error) {
	c := l.conn
	if c == nil {
		return nil, net.ErrClosed
	}
	l.conn = nil
	return c, nil
}

func (l *once) Close() error   { return nil }
func (l *once) Addr() net.Addr { return &net.TCPAddr{} }

// engineLog takes what imapserver has to say. A panic that it recovered is our
// bug; the rest is how connections end.
type engineLog struct{ log *slog.Logger }

func (l engineLog) Printf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if strings.HasPrefix(format, "panic") {
		l.log.Error("IMAP session panicked", "detail", text)
		return
	}
	l.log.Debug("IMAP engine", "detail", text)
}
