package smtpd

import (
	"context"
	"crypto/tls"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-sasl"

	"postrider/internal/clock"
	"postrider/internal/directory"
	"postrider/internal/journey"
	"postrider/internal/wire"
	"postrider/mailstore"
	"postrider/mta"
)

// Limits that no configuration changes. Those of one message or one account
// are in Limits.
const (
	// Command lines with their CRLF (RFC 5321 section 4.5.3.1.4), and what the
	// parameters of each command add to that.
	maxCommand = 512
	maxMail    = maxCommand +
		26 + // SIZE (RFC 1870 section 3)
		17 + // BODY (RFC 6152 section 2)
		10 + // SMTPUTF8 (RFC 6531 section 3.1)
		500 + // AUTH (RFC 4954 section 3)
		116 // RET and ENVID (RFC 3461 sections 4.3 and 4.4)
	maxRcpt = maxCommand +
		29 + // NOTIFY (RFC 3461 section 4.1)
		507 // ORCPT (RFC 3461 section 4.2)
	maxAuthLine = 12288 // RFC 4954 section 4
	maxBURL     = 4096  // with the verb and the marker; RFC 4468 says nothing

	maxReplyLine   = 512       // with CRLF (RFC 5321 section 4.5.3.1.5)
	maxParams      = 16        // of one command
	maxEnvID       = 100       // RFC 3461 section 4.4
	maxHello       = 255       // octets of a host's name
	maxFirstLine   = 1000      // octets of content that are held to see whether it begins with a header
	maxHeader      = 256 << 10 // octets of a message's header
	maxHops        = 100       // Received fields (RFC 5321 section 6.3)
	maxMessageURLs = 100       // of BURL, in one message
	maxAuthors     = 100       // addresses in From and Sender of a submission
	maxErrors      = 30        // refused commands since the last message
	maxUnknown     = 20        // unknown recipients of one session
	maxTargets     = 10_000    // accounts and addresses that the recipients of one message lead to
	maxIdle        = 500       // commands that bring no message nearer, since the last message
	maxAuthErrors  = 5         // failed logins of one session

	// How long a client may take; a crowded server gives it less.
	commandTimeout = 5 * time.Minute // for one command line, however it drips
	bodyTimeout    = 3 * time.Minute // without an octet of content
	crowdedTimeout = time.Minute     // for one command before login, when crowded
	crowdedRate    = 100             // octets of content a second, when crowded

	bodyBuffer = 32 << 10 // lent to a connection for the content
	replyKeep  = 1 << 10  // reply buffer of an idle connection
	replyFlush = 4 << 10  // replies that may wait to be sent together
)

// Mode is the service that a Server gives.
type Mode int

const (
	MX         Mode = iota // port 25: mail from other servers
	Submission             // ports 587 and 465: mail from users, who log in
	LMTP                   // RFC 2033
)

// BareNewline says what happens to a CR or LF in content that is not in CRLF.
const (
	RejectBareNewline    = "reject" // default
	NormaliseBareNewline = "normalise"
)

// Router decides about recipients. *route.Router is one.
type Router interface {
	// Recipient decides about one RCPT. A refusal is a *mta.Reply; any other
	// error is shown as 451 4.3.0.
	Recipient(ctx context.Context, c mta.Client, to mta.Address) ([]mta.Target, error)
	// Room refuses a recipient none of whose targets has room for a message of
	// size octets; 0 = not known. Errors as above.
	Room(ctx context.Context, to mta.Address, targets []mta.Target, size int64) error
}

// Queue takes messages. *queue.Queue is one.
type Queue interface {
	// Accept takes the message for all recipients in one durable commit. Its
	// errors are as those of Router.Recipient. The caller releases body.
	Accept(ctx context.Context, env *mta.Envelope, body *mailstore.Body) error
	NewBody() *mailstore.BodyWriter
}

// Directory knows who may log in. *directory.Directory is one.
type Directory interface {
	Mechanisms(p directory.Peer) []string
	SASL(ctx context.Context, p directory.Peer, mech string) (sasl.Server, func() mailstore.Account, error)
	Owns(ctx context.Context, account int64, a mta.Address) (bool, error)
}

// Limits can change while the server runs; 0 = off.
type Limits struct {
	MaxSize           int64 // octets of a message as RFC 1870 section 5 counts them
	MaxRecipients     int   // of one message
	MessagesPerMinute int   // of one account, or one address (an IPv6 /64) without login
}

// Counter is what this package needs of a prometheus.Counter.
type Counter interface{ Inc() }

// Metrics are counters that may be nil.
type Metrics struct {
	Sessions         Counter
	Accepted         Counter // messages
	RefusedMessages  Counter // after the content
	RefusedRecipient Counter
	Logins           Counter
	FailedLogins     Counter
	TimedOut         Counter // sessions that ended for a timeout
}

func count(c Counter) {
	if c != nil {
		c.Inc()
	}
}

// Options has what a Server needs. Router, Queue and Hostname must be set, and
// Directory where clients can log in.
type Options struct {
	Hostname string // in the greeting and in Received
	Mode     Mode
	TLS      *tls.Config // nil: no STARTTLS
	// Ours is for Submission on a socket that only this server's owner can
	// open: no login is needed, and any sender may be given.
	Ours bool
	// RequireAuth makes port 25 answer MAIL with 530 without login.
	RequireAuth bool
	BareHelo    bool   // accept HELO and EHLO without a name
	EnvelopeTo  bool   // tell all recipients in a field of the message, for tests
	BareNewline string // RejectBareNewline or NormaliseBareNewline; "" = reject

	MaxSize           int64 // see Limits, also for the next two
	MaxRecipients     int
	MessagesPerMinute int

	Router    Router
	Queue     Queue
	Directory Directory
	URLs      URLs // of Submission; nil = no BURL
	Clock     clock.Clock
	Random    func() uint64     // for envelope IDs; default math/rand/v2
	Log       *slog.Logger      // for connections that have none of their own
	Journey   *journey.Recorder // gets what happens to messages, and in sessions; nil = nobody
	Metrics   Metrics
	// Crowded tells whether connections run short (wire.Gate); nil = never.
	Crowded func() bool
}

// Server gives one service on any number of listeners.
type Server struct {
	o       Options
	limits  atomic.Pointer[Limits]
	rate    rate
	buffers sync.Pool // of *[]byte, bodyBuffer octets
}

// New returns a Server.
func New(o Options) *Server {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Random == nil {
		o.Random = rand.Uint64
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Crowded == nil {
		o.Crowded = func() bool { return false }
	}
	s := &Server{o: o}
	s.buffers.New = func() any {
		b := make([]byte, bodyBuffer)
		return &b
	}
	s.SetLimits(Limits{MaxSize: o.MaxSize, MaxRecipients: o.MaxRecipients, MessagesPerMinute: o.MessagesPerMinute})
	return s
}

// SetLimits replaces the limits, for SIGHUP. A message that is being received
// keeps those that it began with.
func (s *Server) SetLimits(l Limits) { s.limits.Store(&l) }

// Protocol is what a listener of this server serves. With implicitTLS its
// connections are TLS from the first byte (RFC 8314 section 3.3).
func (s *Server) Protocol(name string, implicitTLS bool) wire.Protocol {
	p := wire.Protocol{
		Name: name,
		Refusal: func(reason string) string {
			r := &mta.Reply{Code: 421, Status: "4.3.2", Text: s.o.Hostname + " " + reason}
			return string(appendReply(nil, r))
		},
		Serve: s.serve,
	}
	if implicitTLS {
		p.TLS = s.o.TLS
	}
	return p
}
