package page

import (
	"slices"
	"strings"
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

// TestBothEnds: a question of which both ends tell is one step, with what the
// server says of its answer; one of which the server alone tells is shown as it has
// it; what did not come to the server is said.
func TestBothEnds(t *testing.T) {
	now := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	st := newStepper(newFake().HostOf, func(id string) bool { return id != Outside })
	const ns, second, stranger = "ns1.crepes.fr", "ns1.umass.edu", "192.0.2.1"
	for i, c := range []struct {
		kind       journey.Kind
		node, peer string
		attrs      string // key=value
		want       string // from > to: label; "" = no step
		says       string // of the server
	}{
		{journey.DNSQuery, resolver, ns, "name=crepes.fr. type=MX", resolver + " > " + ns + ": MX crepes.fr ?", ""},
		{journey.NameserverQuery, ns, resolver, "name=crepes.fr type=MX", "", ""},
		{journey.NameserverReply, ns, resolver, "name=crepes.fr type=MX rcode=NOERROR zone=crepes.fr ttl=300", "", ""},
		{journey.DNSReply, resolver, ns, "name=crepes.fr. type=MX rcode=NOERROR", ns + " > " + resolver + ": NOERROR", "from the zone crepes.fr TTL 300"},
		{journey.NameserverQuery, resolver, stranger, "name=crepes.fr type=MX", Outside + " > " + resolver + ": MX crepes.fr ?", ""},
		{journey.NameserverReply, resolver, stranger, "name=crepes.fr type=MX rcode=NOERROR cache=hit ttl=299 security=secure",
			resolver + " > " + Outside + ": NOERROR", "from the cache TTL 299 DNSSEC secure"},
		{journey.NameserverQuery, ns, stranger, "name=x.test type=A", Outside + " > " + ns + ": A x.test ?", ""},
		{journey.NameserverReply, ns, stranger, "name=x.test type=A limit=withheld", ns + " > " + ns + ": no answer: withheld", "limit withheld"},
		// Lost, or answered by somebody on the way.
		{journey.DNSQuery, mailA, resolver, "name=a.test type=A", mailA + " > " + resolver + ": A a.test ?", ""},
		{journey.DNSReply, mailA, resolver, "name=a.test type=A rcode=NOERROR", resolver + " > " + mailA + ": NOERROR", "nothing the question did not come there"},
		// By a replica; and the asker has given up when the server answers.
		{journey.DNSQuery, mailA, resolver, "name=b.test type=A", mailA + " > " + resolver + ": A b.test ?", ""},
		{journey.NameserverQuery, other, mailA, "name=b.test type=A", "", ""},
		{journey.DNSReply, mailA, resolver, "name=b.test type=A rcode=late", resolver + " > " + mailA + ": late", "itself " + other + ", a replica"},
		{journey.NameserverReply, other, mailA, "name=b.test type=A rcode=NOERROR", "", ""},
		{journey.NameserverQuery, other, mailA, "name=b.test type=A", mailA + " > " + other + ": A b.test ?", ""},
		// Of zones: not the first copy, nor the looks; but what comes of a change.
		{journey.ZoneQuery, second, ns, "name=crepes.fr type=SOA", "", ""},
		{journey.NameserverQuery, ns, second, "name=crepes.fr type=SOA", "", ""},
		{journey.NameserverReply, ns, second, "name=crepes.fr type=SOA rcode=NOERROR", "", ""},
		{journey.ZoneReply, second, ns, "name=crepes.fr type=SOA rcode=NOERROR", "", ""},
		{journey.ZoneQuery, second, ns, "name=crepes.fr type=AXFR", "", ""},
		{journey.ZoneReply, second, ns, "name=crepes.fr type=AXFR rcode=NOERROR serial=1 records=3", "", ""},
		{journey.ZoneChanged, second, "", "zone=crepes.fr serial=1", "", ""},
		{journey.ZoneChanged, ns, "", "zone=crepes.fr serial=2 before=1 why=signatures", "", ""},
		{journey.ZoneQuery, ns, second, "name=crepes.fr type=SOA opcode=NOTIFY", "", ""},
		{journey.NameserverQuery, ns, stranger, "name=crepes.fr type=AXFR", Outside + " > " + ns + ": AXFR crepes.fr ?", ""},
		{journey.NameserverQuery, ns, stranger, "name=crepes.fr type=SOA opcode=UPDATE change=add", Outside + " > " + ns + ": UPDATE crepes.fr: add", ""},
		{journey.ZoneChanged, ns, "", "zone=crepes.fr serial=3 before=2", ns + " > " + ns + ": zone crepes.fr, serial 3", ""},
		{journey.ZoneQuery, ns, second, "name=crepes.fr type=SOA opcode=NOTIFY", ns + " > " + second + ": NOTIFY crepes.fr", ""},
		{journey.NameserverQuery, second, ns, "name=crepes.fr type=SOA opcode=NOTIFY", "", ""},
		{journey.ZoneQuery, second, ns, "name=crepes.fr type=IXFR", second + " > " + ns + ": IXFR crepes.fr ?", ""},
		{journey.NameserverQuery, ns, second, "name=crepes.fr type=IXFR", "", ""},
		{journey.ZoneReply, second, ns, "name=crepes.fr type=IXFR rcode=NOERROR serial=3 records=6", ns + " > " + second + ": zone crepes.fr, serial 3, 6 records", ""},
		{journey.NameserverReply, ns, second, "name=crepes.fr type=IXFR rcode=NOERROR serial=3", "", ""}, // told when it is over
		{journey.ZoneReply, second, ns, "name=crepes.fr type=SOA rcode=nothing", "", ""},
	} {
		e := journey.Event{Time: now, Kind: c.kind, Node: c.node, Peer: c.peer}
		for _, a := range strings.Fields(c.attrs) {
			key, value, _ := strings.Cut(a, "=")
			e.Attrs = append(e.Attrs, journey.Attr{Key: key, Value: value})
		}
		got, says := "", []string{}
		if s := st.step(e); s != nil {
			got = s.From + " > " + s.To + ": " + s.Label
			for _, f := range s.Fields {
				if what, ok := strings.CutPrefix(f[0], "at the server: "); ok {
					says = append(says, what, f[1])
				}
			}
		}
		if got != c.want || strings.Join(says, " ") != c.says {
			t.Errorf("%d: %s at %s of %s is %q, the server says %q; want %q, %q", i, c.kind, c.node, c.attrs, got, says, c.want, c.says)
		}
	}
}

// TestBehalfBounds: questions that are never answered are forgotten.
func TestBehalfBounds(t *testing.T) {
	now := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	q := questions{open: map[string][]*task{}}
	ask := func() {
		q.query(&Step{From: mailA, To: resolver, Message: "1", Time: now}, "x.test", "MX", true)
	}
	for range 2 * maxTasks {
		ask()
	}
	if n := len(q.open[resolver]); n != maxTasks {
		t.Errorf("%d questions are under way", n)
	}
	now = now.Add(taskLife + 1)
	if f := q.under(resolver, "test", now); len(f) != 0 || len(q.open[resolver]) != 0 {
		t.Errorf("for %q, and %d are under way", f, len(q.open[resolver]))
	}
}
