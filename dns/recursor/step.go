package recursor

import (
	"time"

	miekg "github.com/miekg/dns"
)

// StepKind is what happened in a step.
type StepKind uint8

// The kinds of steps.
const (
	StepAsked     StepKind = iota // a query goes to a server
	StepAnswered                  // its answer is the one, or the proof that there is none
	StepReferral                  // it names the servers of a zone below
	StepFailed                    // it gave no answer that is of use: Err
	StepCached                    // known already; TTL is what remains
	StepProved                    // made from what is known of the neighbours (RFC 8198)
	StepValidated                 // the signatures were looked at
	StepStale                     // an answer that is over is given (RFC 8767)
)

func (k StepKind) String() string {
	names := [...]string{"asked", "answered", "referral", "failed", "cached", "proved", "validated", "stale"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// Step is one step on the way to an answer. What it points to is not to be
// changed.
type Step struct {
	Time     time.Time
	Kind     StepKind
	Question miekg.Question // as it was asked, which may be less than the whole name
	Depth    int            // 1 for the question itself, more for what was needed on the way

	Zone   string // the bailiwick: the zone whose servers are asked, or said it
	Cut    string // of a referral or a cached delegation: the zone below
	Server string // name of the server; "" when it is not known
	Addr   string // address and port of the server

	Network string     // "udp" or "tcp"
	Reply   *miekg.Msg // what came back; of a cached step, what is known
	Wire    []byte     // the octets that came back
	Took    time.Duration

	TTL      time.Duration // of a cached step: how long it holds
	Security Security
	Chain    []string // of a validated step: the zones from the anchor on
	Err      error
}

// step tells those who watch.
func (t *task) step(s Step) {
	s.Time = t.r.o.Clock.Now()
	if s.Depth == 0 {
		s.Depth = max(1, len(t.stack)+t.nested)
	}
	if t.r.o.Observe != nil {
		t.r.o.Observe(s)
	}
	if t.f != nil {
		t.f.note(s)
	}
}

func (t *task) stepCut(c *cut) {
	t.step(Step{Kind: StepCached, Question: key{c.zone, miekg.TypeNS}.question(), Zone: c.parent, Cut: c.zone, TTL: c.expires().Sub(t.r.o.Clock.Now())})
}
