package page

import (
	"slices"
	"testing"
	"time"

	"postrider/internal/journey"
)

// spoken is a question, an answer, or what a cache knew.
type spoken struct {
	kind                   journey.Kind
	node, peer, name, kept string // kept is the message id
	want                   []string
}

const (
	mailA    = "mx.crepes.fr"
	mailB    = "mx.umass.edu"
	resolver = "resolver.crepes.fr"
	other    = "resolver.umass.edu"
	root     = "a.root-servers.net"
)

// TestBehalf: what a resolver asks is for the letters whose questions it has
// under way, also through another resolver, and for none after the answer.
func TestBehalf(t *testing.T) {
	now := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	st := newStepper(newFake().HostOf, func(string) bool { return true })
	for i, c := range []spoken{
		{journey.DNSQuery, resolver, root, "com.", "", nil}, // nobody's: the resolver's own
		{journey.DNSReply, resolver, root, "com.", "", nil},
		{journey.DNSQuery, mailA, resolver, "hamburger.edu", "1", []string{"1"}},
		{journey.DNSQuery, resolver, root, "edu.", "", []string{"1"}},
		{journey.DNSReply, resolver, root, "edu.", "", []string{"1"}},
		{journey.DNSQuery, mailB, resolver, "museum.org", "2", []string{"2"}},
		{journey.DNSQuery, resolver, root, "org.", "", []string{"2"}},
		{journey.DNSQuery, resolver, root, "hamburger.edu.", "", []string{"1"}},
		{journey.DNSReply, resolver, root, "org.", "", []string{"2"}},
		{journey.DNSQuery, resolver, root, ".", "", []string{"1", "2"}}, // either's
		{journey.DNSReply, resolver, root, ".", "", []string{"1", "2"}},
		{journey.DNSQuery, resolver, other, "hamburger.edu.", "", []string{"1"}}, // passed on
		{journey.DNSQuery, other, root, "edu.", "", []string{"1"}},
		{journey.DNSReply, other, root, "edu.", "", []string{"1"}},
		{journey.DNSReply, resolver, other, "hamburger.edu.", "", []string{"1"}},
		{journey.DNSQuery, other, root, "edu.", "", nil},
		{journey.DNSReply, mailA, resolver, "hamburger.edu", "1", []string{"1"}},
		{journey.DNSQuery, resolver, root, "hamburger.edu.", "", []string{"2"}}, // the only one left
		{journey.DNSReply, mailB, resolver, "museum.org", "2", []string{"2"}},
		{journey.DNSAnswer, resolver, "", "museum.org.", "", nil},
		{journey.DNSQuery, resolver, root, "museum.org.", "", nil},
	} {
		attrs := []journey.Attr{{Key: "name", Value: c.name}, {Key: "type", Value: "MX"}, {Key: "cache", Value: "hit"}}
		s := st.step(journey.Event{Time: now, Kind: c.kind, Node: c.node, Peer: c.peer, Message: c.kept, Attrs: attrs})
		if s == nil || !slices.Equal(s.For, c.want) {
			t.Errorf("%d: %s at %s of %s: %+v is not for %q", i, c.kind, c.node, c.name, s, c.want)
		}
	}
}

// TestBehalfBounds: questions that are never answered are forgotten.
func TestBehalfBounds(t *testing.T) {
	now := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	b := behalf{open: map[string][]task{}}
	ask := func() {
		b.dns(&Step{From: mailA, To: resolver, Message: "1", Time: now}, "query", mailA, "x.test", "MX")
	}
	for range 2 * maxTasks {
		ask()
	}
	if n := len(b.open[resolver]); n != maxTasks {
		t.Errorf("%d questions are under way", n)
	}
	now = now.Add(taskLife + 1)
	if f := b.under(resolver, "test", now); len(f) != 0 || len(b.open[resolver]) != 0 {
		t.Errorf("for %q, and %d are under way", f, len(b.open[resolver]))
	}
}
