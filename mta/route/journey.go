package route

import (
	"context"
	"errors"

	"postrider/internal/journey"
	"postrider/mta"
)

// recordHops tells the journey where mail for a domain goes, for the message that it
// is asked for.
func (r *Router) recordHops(ctx context.Context, domain string, hops []mta.Hop, err error) {
	if !r.o.Journey.Wants(journey.RouteHosts) {
		return
	}
	scope := journey.ScopeOf(ctx)
	attrs := make([]journey.Attr, 0, 6)
	attrs = append(attrs, journey.Attr{Key: "domain", Value: domain})
	for _, h := range hops {
		attrs = append(attrs, journey.Attr{Key: "host", Value: hopText(h)})
	}
	var reply *mta.Reply
	switch {
	case errors.As(err, &reply):
		attrs = append(attrs, journey.Attr{Key: "verdict", Value: reply.Error()})
	case err != nil:
		attrs = append(attrs, journey.Attr{Key: "verdict", Value: err.Error()})
	}
	r.o.Journey.Record(journey.Event{Kind: journey.RouteHosts, Message: scope.Message, Session: scope.Session, Attrs: attrs})
}

// hopText is a host with its addresses.
func hopText(h mta.Hop) string {
	var room [96]byte // for most
	b, sep := append(room[:0], h.Host...), " ("
	for _, a := range h.Addrs {
		b = a.AppendTo(append(b, sep...))
		sep = ", "
	}
	if len(h.Addrs) > 0 {
		b = append(b, ')')
	}
	return string(b)
}
