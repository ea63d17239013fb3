package dns

import (
	"context"
	"errors"
	"fmt"

	miekg "github.com/miekg/dns"

	"postrider/dns/recursor"
	"postrider/internal/clock"
	"postrider/internal/journey"
)

// iterative asks a resolver of this process, which walks from the root down.
type iterative struct {
	resolver *recursor.Resolver
	clock    clock.Clock
	journey  *journey.Recorder
}

// ask has the error of stub.ask.
func (i *iterative) ask(ctx context.Context, q question, how Asking) (*message, error) {
	began := i.clock.Now()
	a := i.resolver.Resolve(ctx, miekg.Question{Name: q.name, Qtype: uint16(q.typ), Qclass: miekg.ClassINET}, recursor.Ask{
		CheckingDisabled: how.Unchecked, NoRecursion: how.NoRecursion, Observe: i.observer(ctx, q),
	})
	if ctx.Err() != nil {
		return nil, ended(ctx)
	}
	if a.Err != nil && a.Rcode != miekg.RcodeNameError {
		return nil, unanswered(a)
	}
	m := &message{Msg: new(miekg.Msg), network: "iterative", security: a.Security, cached: a.FromCache}
	m.Response, m.RecursionDesired, m.RecursionAvailable = true, true, true
	m.Rcode, m.AuthenticatedData = a.Rcode, a.Authenticated
	m.Question = []miekg.Question{{Name: q.name, Qtype: uint16(q.typ), Qclass: miekg.ClassINET}}
	m.Answer, m.Ns, m.Extra = a.Answer, a.Ns, a.Extra
	if !how.DNSSEC {
		m.Answer, m.Ns = plainData(q, a.Answer), plainData(q, a.Ns)
	}
	m.size = m.Len()
	m.took = i.clock.Now().Sub(began)
	if a.Rcode == miekg.RcodeNameError || len(m.Answer) == 0 {
		m.Authoritative = true // no referral: it is the last word
	}
	return m, nil
}

// plainData leaves out what only a validator reads.
func plainData(q question, rrs []miekg.RR) []miekg.RR {
	var list []miekg.RR
	for _, rr := range rrs {
		switch t := rr.Header().Rrtype; t {
		case miekg.TypeRRSIG, miekg.TypeNSEC, miekg.TypeNSEC3:
			if t != uint16(q.typ) && q.typ != Type(miekg.TypeANY) {
				continue
			}
		}
		list = append(list, rr)
	}
	return list
}

// unanswered says why there is no answer; that is always temporary.
func unanswered(a recursor.Answer) error {
	for _, e := range a.ExtendedErrors {
		if e.Text == "" || errors.Is(a.Err, context.DeadlineExceeded) {
			continue
		}
		return temporary("%w (extended error %d: %s)", a.Err, e.Code, extendedText(e.Code))
	}
	return temporary("%w", a.Err)
}

func extendedText(code uint16) string {
	if s, ok := miekg.ExtendedErrorCodeToString[code]; ok {
		return s
	}
	return fmt.Sprint(code)
}

// observer records the steps for the message that the lookup is for. That the
// answer itself was known is told with the answer, by recordAnswer.
func (i *iterative) observer(ctx context.Context, q question) func(recursor.Step) {
	if !i.journey.Wants(journey.DNSQuery) {
		return nil
	}
	scope := journey.ScopeOf(ctx)
	return func(s recursor.Step) {
		if e, ok := s.Event(); ok && !(e.Kind == journey.DNSAnswer && s.Cut == "" && miekg.CanonicalName(s.Question.Name) == q.name) {
			e.Message, e.Session = scope.Message, scope.Session
			i.journey.Record(e)
		}
	}
}
