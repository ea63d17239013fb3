package mta

import (
	"io"
	"net/netip"
	"time"

	"github.com/emersion/go-smtp"
)

// Client is who hands us a message: the far end of an SMTP, submission or LMTP
// connection, or one of our own commands.
type Client struct {
	Addr    netip.Addr // the zero Addr for a UNIX socket or ourselves
	Hello   string     // argument of EHLO or HELO
	Account int64      // the account that logged in; 0 for a stranger
	Login   string     // its address; "" for a stranger
	// Ours is set for mail of this process's own and for the submission socket
	// of its commands: it may go anywhere.
	Ours bool
}

// Target is where one copy of a message goes. Exactly one of the two is set.
type Target struct {
	Account int64   // a local account
	Remote  Address // an address at another server
}

// Recipient is one recipient as RCPT named it, with the targets that routing
// found for it: one account, one remote address, or those of an alias.
type Recipient struct {
	Address Address
	Options smtp.RcptOptions // NOTIFY and ORCPT of RFC 3461
	Targets []Target
}

// Envelope is all that SMTP says of a message beside its content
// (RFC 5321 section 2.3.1).
type Envelope struct {
	ID       string  // names the message in logs and in Received; unique
	From     Address // reverse-path; the zero Address is the null path <>
	Options  smtp.MailOptions
	To       []Recipient
	Client   Client
	Accepted time.Time // when the content was complete
}

// Hop is one host to try on the way to a domain.
type Hop struct {
	Host  string           // the host's name, for TLS and for logs
	Addrs []netip.AddrPort // to try in order; never empty
	// Login and Password are set for a smarthost that wants them; they are
	// sent only under TLS or to a loopback address.
	Login, Password string
	// TLS is what the connection must have.
	TLS TLSPolicy
}

// TLSPolicy says how a connection to a hop is protected.
type TLSPolicy int

const (
	TLSOpportunistic TLSPolicy = iota // STARTTLS when offered, else plaintext
	TLSRequired                       // STARTTLS with a certificate of Host
	TLSImplicit                       // TLS from the first byte, with a certificate of Host
	TLSNever
)

// Content is a message's bytes, with CRLF line ends.
type Content interface {
	io.ReaderAt
	Size() int64
	io.Closer
}

// Delivery is one transaction with a peer: one message, one or more
// recipients that have the same next hops.
type Delivery struct {
	ID      string // the envelope's ID
	From    Address
	Options smtp.MailOptions
	To      []DeliveryRecipient
	Hops    []Hop
	// Open gives the content; it may be called more than once, and the caller
	// closes what it got.
	Open func() (Content, error)
	// Partial, where it is set, makes durable what a peer took while the fate of
	// other recipients is open, so that the attempt can go on for those: with
	// the next hundred recipients, or with the next host. It may be called any
	// number of times before Record, with all that is known so far; an outcome
	// whose Reply is nil is not known yet. Without it an attempt ends with the
	// first transaction that delivered, and the rest is left for the next.
	Partial func([]Outcome) error
	// Record makes outcomes durable. The client calls it as soon as the final
	// reply for each of To is known and before it sends another command, and
	// exactly once for each Delivery; the slice is indexed like To.
	Record func([]Outcome) error
}

// DeliveryRecipient is a recipient of a Delivery.
type DeliveryRecipient struct {
	Address Address
	Options smtp.RcptOptions
}

// Outcome is what became of one recipient in one attempt.
type Outcome struct {
	// Reply is the peer's last word, or ours where no peer had one (a
	// temporary Reply for a network error). Never nil.
	Reply *Reply
	Host  string         // who said it; "" when it was we
	Addr  netip.AddrPort // of Host
	TLS   string         // "TLS1.3" and the like; "" without
	// DSN tells that the peer took over the duty of RFC 3461 to report.
	DSN bool
}
