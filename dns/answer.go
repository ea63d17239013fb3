package dns

import (
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/exchange"
)

const (
	// maxAliases bounds a chain of CNAME records, over all answers.
	maxAliases = 12
	// maxTTL and maxNegativeTTL bound what a server can make us remember
	// (RFC 2308 section 5).
	maxTTL         = 24 * time.Hour
	maxNegativeTTL = 3 * time.Hour
	// failureTTL keeps a burst of identical lookups from asking a failing
	// server each time (RFC 2308 section 7 allows up to five minutes).
	failureTTL = 2 * time.Second
)

// outcome is what an answer says.
type outcome int

const (
	failed   outcome = iota // nothing is known: step.err says why
	found                   // step.records
	alias                   // ask for step.name instead
	noData                  // step.name has no such record
	notExist                // step.name does not exist
)

// step is what one answer says to one question, aliases followed as far as it
// goes. Steps are never changed once they are made.
type step struct {
	outcome outcome
	name    string // at the end of the aliases; normalised
	aliases int    // how many were followed
	records []miekg.RR
	ttl     time.Duration // how long this holds; 0 = for this question only
	server  string
	err     error // wraps ErrTemporary

	said     []string // records, for the journey
	security string   // "" = nobody validated
	cached   bool     // of a copy: it comes from the cache, for
	left     time.Duration
}

// interpret reads an answer. Only the records of the question's own name, and
// of those it is an alias of, are looked at.
func interpret(q question, m *message) step {
	s := step{name: q.name, ttl: maxTTL, server: m.server}
	if m.Rcode != miekg.RcodeSuccess && m.Rcode != miekg.RcodeNameError {
		return failedStep(m.server, temporary("%s", exchange.RcodeText(m.Rcode)))
	}
	if referral(m.Msg) {
		return failedStep(m.server, temporary("the server does not resolve names for us"))
	}
	for {
		var target string
		for _, rr := range m.Answer {
			h := rr.Header()
			if h.Class != miekg.ClassINET || miekg.CanonicalName(h.Name) != s.name {
				continue
			}
			if h.Rdlength == 0 && h.Rrtype != miekg.TypeNULL {
				// The library makes zero values of it: an MX that looks like
				// a null MX, an address without octets.
				return failedStep(m.server, errEmpty)
			}
			if h.Rrtype == uint16(q.typ) {
				s.records = append(s.records, rr)
				s.ttl = min(s.ttl, seconds(h.Ttl))
			} else if c, ok := rr.(*miekg.CNAME); ok && target == "" {
				target = miekg.CanonicalName(c.Target)
				s.ttl = min(s.ttl, seconds(h.Ttl))
			}
		}
		if len(s.records) > 0 {
			s.outcome = found
			return s
		}
		if target == "" {
			break
		}
		if s.aliases++; s.aliases > maxAliases {
			return failedStep(m.server, errAliases)
		}
		s.name = target
	}
	soa := authority(s.name, m.Msg)
	switch {
	case m.Rcode == miekg.RcodeNameError: // about the last name: RFC 6604 section 2.1
		s.outcome = notExist
	case s.aliases > 0 && soa == nil:
		s.outcome = alias
		return s
	default:
		s.outcome = noData
	}
	if soa == nil { // RFC 2308 section 5: not to be kept
		s.ttl = 0
	} else {
		s.ttl = min(s.ttl, seconds(min(soa.Hdr.Ttl, soa.Minttl)), maxNegativeTTL)
	}
	return s
}

var (
	errAliases = temporary("too many aliases, or a loop of them")
	errEmpty   = temporary("a record in the answer is empty")
)

func failedStep(server string, err error) step {
	return step{outcome: failed, server: server, err: err, ttl: failureTTL}
}

// authority is the SOA record that makes a negative answer one that can be
// kept: that of the zone of name or of one above it.
func authority(name string, m *miekg.Msg) *miekg.SOA {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*miekg.SOA); ok && soa.Hdr.Class == miekg.ClassINET && miekg.IsSubDomain(soa.Hdr.Name, name) {
			return soa
		}
	}
	return nil
}

// seconds is a TTL; one with the highest bit set counts as 0 (RFC 2181
// section 8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}
