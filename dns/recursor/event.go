package recursor

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/exchange"
	"postrider/internal/journey"
)

// Event is the step as the journey records it; false for a step that is none
// of its own there.
func (s Step) Event() (journey.Event, bool) {
	name, typ := s.Question.Name, miekg.Type(s.Question.Qtype).String()
	e := journey.Event{Time: s.Time, Peer: s.Addr, Wire: s.Wire}
	e.Attrs = []journey.Attr{{Key: "name", Value: name}, {Key: "type", Value: typ}, {Key: "zone", Value: s.Zone}}
	add := func(key, value string) {
		if value != "" {
			e.Attrs = append(e.Attrs, journey.Attr{Key: key, Value: value})
		}
	}
	add("server", undotted(s.Server))
	add("transport", s.Network)
	switch s.Kind {
	case StepAsked:
		e.Kind, e.RFC = journey.DNSQuery, "RFC 1034 section 5.3.3"
		e.Text = fmt.Sprintf("asks %s (zone %s) for %s %s", s.Server, s.Zone, typ, name)
	case StepAnswered, StepReferral, StepFailed:
		e.Kind, e.RFC = journey.DNSReply, "RFC 1034 section 4.3.2"
		e.Text = fmt.Sprintf("%s says of %s %s: %s", s.Server, typ, name, s.what())
		add("referral", s.Cut)
		add("took", s.Took.Round(time.Microsecond).String())
	case StepCached, StepProved, StepStale:
		e.Kind, e.RFC = journey.DNSAnswer, "RFC 1034 section 4.3.2"
		if s.Kind == StepStale {
			e.RFC = "RFC 8767 section 5"
		} else if s.Kind == StepProved {
			e.RFC = "RFC 8198 section 5"
		}
		e.Text = fmt.Sprintf("knows %s %s (%s, %v left): %s", typ, name, s.Kind, s.TTL.Round(time.Second), s.what())
		add("cache", s.Kind.String())
		add("referral", s.Cut)
		add("ttl", strconv.Itoa(int(s.TTL/time.Second)))
	default:
		return e, false
	}
	if s.Reply != nil {
		add("rcode", exchange.RcodeText(s.Reply.Rcode))
		for _, a := range answers(s.Reply) {
			add("answer", a)
		}
	}
	if s.Err != nil {
		add("error", s.Err.Error())
	}
	return e, true
}

// what says in a few words what a step brought.
func (s Step) what() string {
	switch {
	case s.Err != nil:
		return s.Err.Error()
	case s.Cut != "":
		return "ask the servers of " + s.Cut
	case s.Reply == nil:
		return "nothing"
	case s.Reply.Rcode != miekg.RcodeSuccess:
		return exchange.RcodeText(s.Reply.Rcode)
	}
	if list := answers(s.Reply); len(list) > 0 {
		return strings.Join(list, ", ")
	}
	return "no such record"
}

// answers are the data of the answer section without signatures, the first few.
func answers(m *miekg.Msg) []string {
	const few = 8
	var list []string
	for _, rr := range m.Answer {
		if rr.Header().Rrtype != miekg.TypeRRSIG && len(list) < few {
			list = append(list, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
	}
	return list
}
