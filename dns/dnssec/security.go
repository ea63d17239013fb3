package dnssec

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// Security is what is known about the truth of DNS data (RFC 4035 section 4.3).
// The zero value is Indeterminate.
type Security uint8

const (
	Indeterminate Security = iota // no trust anchor, or the chain could not be had
	Insecure                      // proven to be unsigned
	Secure                        // signed by a chain from a trust anchor
	Bogus                         // should be signed and is not, or wrongly
)

func (s Security) String() string {
	switch s {
	case Indeterminate:
		return "indeterminate"
	case Insecure:
		return "insecure"
	case Secure:
		return "secure"
	case Bogus:
		return "bogus"
	}
	return fmt.Sprintf("Security(%d)", uint8(s))
}

// Fetcher gets the records of the chain. Fetch returns the raw answer to a
// question of type DS or DNSKEY, asked with the DO bit, its signatures in it and
// nothing validated. A question for DS goes to the servers of the parent zone
// (RFC 4035 section 3.1.4.1). The message is not changed by the validator and
// must not be changed later by anybody.
type Fetcher interface {
	Fetch(ctx context.Context, name string, typ uint16) (*dns.Msg, error)
}

// Refetcher is a Fetcher that can ask again. Refetch is called once when the
// answer that Fetch gave proved bogus; it asks another server if it can, and
// never answers from a cache (RFC 4035 section 5.5).
type Refetcher interface {
	Fetcher
	Refetch(ctx context.Context, name string, typ uint16) (*dns.Msg, error)
}

// Verdict is the outcome of Validate.
type Verdict struct {
	Security Security

	// ExtendedError is the code of RFC 8914 that says best why the data is not
	// secure; 0 if there is none to give.
	ExtendedError uint16

	// Text tells a person why: which record, which key, which time. It names
	// only public data.
	Text string

	// Unreachable: the verdict is Indeterminate because records of the chain
	// could not be fetched, not for want of an anchor.
	Unreachable bool

	// Target is the name at which the aliases of the answer end: the name of the
	// question if there are none. Open says that the answer ends in an alias and
	// neither answers nor denies its target, which must be asked for by itself.
	Target string
	Open   bool

	// Proofs are the validated NSEC and NSEC3 records of the message, which may
	// be used for other names too (RFC 8198); Zone is the zone that they are
	// from. Only in secure answers.
	Zone   string
	Proofs []dns.RR

	// Wildcards are the owners of wildcards (such as "*.example.") from which
	// records of the answer were made, in the order of the answer.
	Wildcards []string

	// Lifetime bounds the TTL of the records of a secure message: the least of
	// original TTLs and of the time until a signature expires, rounded down to
	// seconds (RFC 4035 section 5.3.3). Zero in other verdicts.
	Lifetime time.Duration

	// Chain has a line for each zone from the anchor to the one that the
	// verdict is about, as far as it was followed.
	Chain []string
}

// Refuse says that the data must not be given to a client that did not ask for
// unchecked data: the answer to it is SERVFAIL (RFC 4035 section 5.5).
func (v Verdict) Refuse() bool { return v.Security == Bogus || v.Unreachable }

// failure is why data is not secure. It is an error so that checks can return
// it; only its fields count.
type failure struct {
	security    Security
	code        uint16 // RFC 8914
	text        string
	unreachable bool
}

func (f *failure) Error() string { return f.text }

func bogus(code uint16, format string, args ...any) *failure {
	return &failure{security: Bogus, code: code, text: fmt.Sprintf(format, args...)}
}

func insecure(code uint16, format string, args ...any) *failure {
	return &failure{security: Insecure, code: code, text: fmt.Sprintf(format, args...)}
}

// unreachable is a failure to fetch records of the chain.
func unreachable(name string, typ uint16, err error) *failure {
	return &failure{security: Indeterminate, code: dns.ExtendedErrorCodeNoReachableAuthority, unreachable: true,
		text: fmt.Sprintf("the %s records of %s could not be had: %v", dns.Type(typ), name, err)}
}

// asFailure makes a failure of any error; one that nobody classified is bogus.
func asFailure(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return bogus(dns.ExtendedErrorCodeDNSBogus, "%v", err)
}
