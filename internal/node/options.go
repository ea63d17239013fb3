package node

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"postrider/dns/recursor"
	"postrider/internal/clock"
	"postrider/internal/directory"
	"postrider/internal/journey"
	"postrider/internal/oauth"
	"postrider/mailstore"
	"postrider/mta"
	"postrider/pop3"
)

// Options says how one whole server is built. DefaultOptions has the values
// of an empty configuration file.
type Options struct {
	Hostname string // greeting, EHLO, Received
	DataDir  string
	User     string // to become after binding, when started as root
	Listen   Listen

	TLSCert, TLSKey string // PEM files; "" for the local CA in DataDir/tls
	// TLSNext is a PEM file with the certificate, or the public key, that comes
	// next: DNS announces it before it is used. "" = not known.
	TLSNext   string
	Plaintext directory.PlaintextPolicy
	// ClientCertificates says when clients that may log in are asked for a
	// certificate: never, registered (while an account has one), always.
	ClientCertificates string
	OAuth              oauth.Options // logins by bearer tokens
	ChannelBinding     bool          // offer SCRAM with -PLUS

	RelayNetworks []netip.Prefix
	RelayDomains  []string
	RequireAuth   bool
	BareHelo      bool
	// Catch is the account that gets the mail for every address of every domain,
	// by route.Catch, with all recipients in a field X-Envelope-To; whoever logs
	// in may send as anybody. The zero address is for servers.
	Catch       mta.Address
	BareNewline string // reject, normalise

	POP3         pop3.Policy
	LiteralMinus bool // of IMAP: LITERAL- in place of LITERAL+
	MessageLimit int  // of IMAP: messages that one command processes; 0 = all
	// Administrators are the addresses of accounts that set quotas over IMAP.
	Administrators []string

	Resolver string // "system", "iterative" or "ADDR:PORT"
	// Of an iterative resolver: files of the root's servers and of its trust
	// anchors ("" = built in, of the public root; anchors "off" = nothing is
	// validated), the private networks in which name servers may be asked, and
	// the octets of its cache; 0 = as the recursor has it.
	RootHints          string
	TrustAnchors       string
	NameServerNetworks []netip.Prefix
	DNSCache           int64
	NameServerPort     uint16 // where an iterative resolver asks; 0 = 53
	HostsFile          string // "" = off
	DNS                DNS    // the service

	RemotePort      int
	Smarthost       Smarthost
	PrivateNetworks []netip.Prefix
	Retry           []time.Duration
	Expire          time.Duration

	Undelete time.Duration // how long expunged messages are kept; 0 = not
	Compress bool          // keep new bodies compressed

	Limits Limits

	// What happens to messages is remembered for JourneyRetention, within so many
	// octets of files; 0 = not at all. Journey gets every event too, if it is set,
	// and must outlive the node.
	JourneyRetention time.Duration
	JourneySize      int64
	Journey          *journey.Recorder

	SearchIndex bool // keep an index for SEARCH

	// Disposable tells that mail and passwords are no secret and soon gone, as in
	// the lab: passwords are hashed at the least cost, and little space is kept
	// for deleting when the disk is full.
	Disposable bool

	// Upgrade lets New bring a data directory of an older version to the present
	// one; a copy of the old database is kept.
	Upgrade bool

	PortOffset int // added to every listening port
	// Dial opens connections to name servers and to peers; nil = package net.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// PeerTLS has the roots that peers are verified by; nil = the system's.
	PeerTLS *tls.Config
	Clock   clock.Clock
	Log     *slog.Logger
	Out     io.Writer // for the table of listeners; nil = discard
}

// Listen has the addresses of each service: host:port, and for LMTP also the
// path of a UNIX socket.
type Listen struct {
	SMTP, Submission, Submissions, LMTP, POP3, POP3S, IMAP, IMAPS, DNS, DNSTLS, Metrics []string
}

// ByName maps the services' names in the configuration to their addresses.
func (l *Listen) ByName() map[string]*[]string {
	return map[string]*[]string{
		"smtp": &l.SMTP, "submission": &l.Submission, "submissions": &l.Submissions, "lmtp": &l.LMTP,
		"pop3": &l.POP3, "pop3s": &l.POP3S, "imap": &l.IMAP, "imaps": &l.IMAPS, "dns": &l.DNS, "dns_tls": &l.DNSTLS, "metrics": &l.Metrics,
	}
}

// Empty tells whether no service has an address.
func (l *Listen) Empty() bool {
	for _, addrs := range l.ByName() {
		if len(*addrs) > 0 {
			return false
		}
	}
	return true
}

// Limits bound what peers and users may do; 0 = off. They are replaced at
// once by a reload.
type Limits struct {
	MessageSize           int64 // octets
	Recipients            int   // of one message
	Connections           int
	ConnectionsPerAddress int
	MessagesPerMinute     int // of one address or account
	FailedLoginsPerMinute int // of one address or account
	// Of one account, where neither it nor its domain has a quota.
	AccountStorage  int64 // octets
	AccountMessages int
}

func (l *Limits) quota() mailstore.Quota {
	return mailstore.Quota{Storage: l.AccountStorage, Messages: int64(l.AccountMessages)}
}

// Smarthost takes all remote mail when Host is set.
type Smarthost struct {
	Host           string // HOST:PORT
	User, Password string
	TLS            mta.TLSPolicy
}

// DefaultOptions returns the values that hold where a configuration is silent.
func DefaultOptions() Options {
	return Options{
		DataDir:            "data",
		Plaintext:          directory.PlaintextLoopback,
		ClientCertificates: "registered",
		ChannelBinding:     true,
		OAuth:              oauth.Options{Claim: "email", Leeway: time.Minute},
		BareNewline:        "reject",
		Resolver:           "system",
		DNSCache:           recursor.DefaultCacheBytes,
		HostsFile:          "/etc/hosts",
		DNS:                defaultDNS(),
		RemotePort:         25,
		Smarthost:          Smarthost{TLS: mta.TLSRequired},
		PrivateNetworks:    []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		Retry: []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute,
			time.Hour, 2 * time.Hour, 4 * time.Hour},
		Expire:           5 * 24 * time.Hour,
		Undelete:         14 * 24 * time.Hour,
		SearchIndex:      true,
		JourneyRetention: 30 * 24 * time.Hour,
		JourneySize:      1 << 30,
		Limits: Limits{
			MessageSize:           50 << 20,
			Recipients:            1000,
			Connections:           10000,
			ConnectionsPerAddress: 100,
			MessagesPerMinute:     600,
			FailedLoginsPerMinute: 10,
		},
	}
}
