package directory

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync/atomic"

	"postrider/internal/clock"
	"postrider/mailstore"
)

// PlaintextPolicy says when a password may cross a connection without TLS.
type PlaintextPolicy string

const (
	PlaintextNever    PlaintextPolicy = "never"
	PlaintextLoopback PlaintextPolicy = "loopback" // default: only from a loopback address
	PlaintextAlways   PlaintextPolicy = "always"
)

var (
	ErrNoDomain      = errors.New("not a domain of ours")         // Resolve, Add...
	ErrNoMailbox     = errors.New("no such mailbox")              // ACLs, SetACL
	ErrNoUser        = errors.New("no such user")                 // Resolve, RemoveAccount, SetPassword
	ErrNoAlias       = errors.New("no such alias")                // RemoveAlias
	ErrExists        = errors.New("exists already")               // Add...
	ErrInUse         = errors.New("still in use")                 // RemoveDomain
	ErrInvalid       = errors.New("not allowed")                  // Add..., SetPassword: a name or password that cannot be
	ErrCredentials   = errors.New("wrong name or password")       // Login, SASL: the same for an unknown user
	ErrPlaintext     = errors.New("passwords need TLS here")      // Login, SASL
	ErrTooManyLogins = errors.New("too many failed logins, wait") // Login, SASL: temporary
	ErrBusy          = errors.New("too many logins at once")      // Login, SASL: temporary
	// ErrMechanism: no such SASL mechanism, or not on this connection.
	ErrMechanism = errors.New("unknown authentication mechanism")
	// ErrMalformed: the client's side of a SASL exchange is not what the
	// mechanism wants. It is an ErrCredentials, too.
	ErrMalformed = fmt.Errorf("malformed authentication exchange: %w", ErrCredentials)
)

// Options has what a Directory needs; zero values work.
type Options struct {
	Plaintext             PlaintextPolicy
	FailedLoginsPerMinute int    // of one address or account; 0 = off
	Tokens                Tokens // nil: no logins by bearer tokens
	NoChannelBinding      bool   // offer no -PLUS mechanism, as if TLS had no bindings
	// PublicPasswords tells that anybody may know the passwords, as in the lab:
	// they are hashed at the least cost.
	PublicPasswords bool
	Clock           clock.Clock
	Log             *slog.Logger
}

// Directory is safe for concurrent use.
type Directory struct {
	store        *mailstore.Store
	plaintext    PlaintextPolicy
	clock        clock.Clock
	log          *slog.Logger
	book         book
	passwords    *verifier
	tokens       Tokens // nil: off
	noBinding    bool
	verified     *verifiedLogins
	throttle     *throttle
	scramKey     []byte        // makes the salts of users who do not exist
	scramTurn    chan struct{} // one SCRAM proof is judged at a time
	dummy        []byte        // credentials that nobody has
	certificates atomic.Int64  // how many accounts' certificates there are
	nonce        func() string // of SCRAM, for a test; nil = random
}

// scramKeySetting is where the store keeps scramKey.
const scramKeySetting = "directory/scram-key"

// New returns the directory kept in store.
func New(store *mailstore.Store, o Options) (*Directory, error) {
	if o.PublicPasswords {
		return newDirectory(store, o, leastCost())
	}
	return newDirectory(store, o, defaultCost())
}

func newDirectory(store *mailstore.Store, o Options, c cost) (*Directory, error) {
	switch o.Plaintext {
	case "":
		o.Plaintext = PlaintextLoopback
	case PlaintextNever, PlaintextLoopback, PlaintextAlways:
	default:
		return nil, fmt.Errorf("plaintext %q: must be never, loopback or always", o.Plaintext)
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &Directory{
		store:     store,
		plaintext: o.Plaintext,
		clock:     o.Clock,
		log:       o.Log,
		// Half of the processors stay free for mail.
		passwords: newVerifier(c, max(1, runtime.GOMAXPROCS(0)/2)),
		verified:  newVerifiedLogins(o.Clock),
		noBinding: o.NoChannelBinding,
		tokens:    o.Tokens,
		throttle:  newThrottle(o.Clock, o.FailedLoginsPerMinute),
		scramTurn: make(chan struct{}, 1),
	}
	var err error
	if d.scramKey, err = d.setting(context.Background(), scramKeySetting); err != nil {
		return nil, err
	}
	if d.dummy, err = d.passwords.nobody(); err != nil {
		return nil, err
	}
	if err := d.countCertificates(context.Background()); err != nil {
		return nil, err
	}
	return d, nil
}

// setting reads a random key that the store keeps, or makes it.
func (d *Directory) setting(ctx context.Context, name string) (key []byte, err error) {
	err = d.store.View(ctx, func(v *mailstore.View) error {
		key, err = v.Setting(name)
		return err
	})
	if err == nil && len(key) > 0 {
		return key, nil
	}
	if err != nil && !errors.Is(err, mailstore.ErrNotFound) {
		return nil, fmt.Errorf("read setting %s: %w", name, err)
	}
	key = make([]byte, 32)
	rand.Read(key) // never fails
	err = d.store.Update(ctx, func(tx *mailstore.Tx) error { return tx.PutSetting(name, key) })
	if err != nil {
		return nil, fmt.Errorf("keep setting %s: %w", name, err)
	}
	return key, nil
}

// SetFailedLoginsPerMinute replaces the limit, for SIGHUP.
func (d *Directory) SetFailedLoginsPerMinute(n int) { d.throttle.setLimit(n) }

// Peer is the connection over which somebody logs in.
type Peer struct {
	Addr     netip.Addr
	TLS      *tls.ConnectionState // nil without TLS
	Protocol string               // "smtp", "pop3", "imap": for the log
	Session  string               // its id in the log
}

// PlaintextAllowed tells whether a password may cross this connection.
func (d *Directory) PlaintextAllowed(p Peer) bool {
	switch {
	case p.TLS != nil, d.plaintext == PlaintextAlways:
		return true
	case d.plaintext == PlaintextNever:
		return false
	default: // no address: a UNIX socket
		return !p.Addr.IsValid() || p.Addr.Unmap().IsLoopback()
	}
}

// update changes the store, and forgets what was remembered of it.
func (d *Directory) update(ctx context.Context, fn func(tx *mailstore.Tx) error) error {
	err := d.store.Update(ctx, fn)
	// Also after an error: a commit of which nobody knows may stand.
	d.book.forget()
	return err
}
