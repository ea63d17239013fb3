package server

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/recursor"
	"postrider/internal/journey"
)

// listener is a recorder to which somebody listens.
type listener struct {
	t *testing.T
	*journey.Recorder
	f *journey.Follower
}

func listen(t *testing.T) *listener {
	r := journey.New(journey.Options{})
	l := &listener{t, r, r.Follow(journey.Filter{Sessions: true})}
	t.Cleanup(l.f.Close)
	return l
}

// said are the events since the last call, for people.
func (l *listener) said() []string {
	l.t.Helper()
	ctx, cancel := context.WithCancel(l.t.Context())
	cancel()
	events, err := l.f.Next(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		l.t.Fatal(err)
	}
	var out []string
	for _, e := range events {
		out = append(out, string(e.Kind)+": "+e.Text)
	}
	return out
}

func (l *listener) expect(what string, want ...string) {
	l.t.Helper()
	if got := l.said(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		l.t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// verdicts is a recursor whose answers are validated, or were known.
type verdicts struct{ fixed }

func (v verdicts) Resolve(ctx context.Context, q miekg.Question, a recursor.Ask) recursor.Answer {
	r := v.fixed.Resolve(ctx, q, a)
	r.Security = recursor.Insecure
	r.FromCache = strings.HasPrefix(q.Name, "known.")
	return r
}

// TestJourney: each question and what it is answered are told to whoever
// listens: by authority, by recursion, from the cache, refused and why.
func TestJourney(t *testing.T) {
	l := listen(t)
	world := verdicts{fixed{
		"new.example.org. A":   "new.example.org. 300 IN A 192.0.2.1",
		"known.example.org. A": "known.example.org. 20 IN A 192.0.2.2",
	}}
	w := newTown(t, Options{Journey: l.Recorder, Recursor: world}, Settings{Recursion: loopback, RateLimit: RateLimit{PerSecond: 1, Exempt: loopback}},
		parse(t, "example.test.", exampleZone))
	l.expect("at the start", "zone.changed: zone example.test is served (serial 10, records: 22)")
	ask := func(from string, transport Transport, name string, typ uint16) {
		w.direct(from, transport, packed(t, question(name, typ)))
	}
	const stranger, friend = "198.51.100.7", "127.0.0.1"
	for _, c := range []struct {
		from      string
		transport Transport
		name      string
		typ       uint16
		want      []string
	}{
		{stranger, UDP, "mail.example.test.", miekg.TypeA, []string{"asks us for mail.example.test A (over udp)",
			"about mail.example.test A: NOERROR 192.0.2.25 (by authority for example.test, TTL 3600)"}},
		{stranger, UDP, "mail.example.test.", miekg.TypeA, []string{"asks us for mail.example.test A (over udp)",
			"about mail.example.test A: nothing (by authority for example.test, withheld for its rate)"}},
		{stranger, UDP, "mail.example.test.", miekg.TypeA, []string{"asks us for mail.example.test A (over udp)",
			"about mail.example.test A: NOERROR (by authority for example.test, cut short for its rate)"}},
		{stranger, TCP, "none.example.test.", miekg.TypeMX, []string{"asks us for none.example.test MX (over tcp)",
			"about none.example.test MX: NXDOMAIN (by authority for example.test, TTL 300)"}},
		{stranger, TCP, "www.sub.example.test.", miekg.TypeA, []string{"asks us for www.sub.example.test A (over tcp)",
			"about www.sub.example.test A: NOERROR (TTL 3600)"}},
		{stranger, TCP, "new.example.org.", miekg.TypeA, []string{"asks us for new.example.org A (over tcp)",
			"about new.example.org A: REFUSED (extended error Prohibited: recursion is for listed networks)"}},
		{stranger, TCP, "example.test.", miekg.TypeAXFR, []string{"asks us for example.test AXFR (over tcp)",
			"about example.test AXFR: REFUSED (not of those who may have the whole zone)"}},
		{friend, UDP, "new.example.org.", miekg.TypeA, []string{"asks us for new.example.org A (over udp)",
			"about new.example.org A: NOERROR 192.0.2.1 (TTL 300, asked, insecure)"}},
		{friend, TCP, "new.example.org.", miekg.TypeA, []string{"asks us for new.example.org A (over tcp)",
			"about new.example.org A: NOERROR 192.0.2.1 (TTL 300, from the cache, insecure)"}},
		{friend, UDP, "known.example.org.", miekg.TypeA, []string{"asks us for known.example.org A (over udp)",
			"about known.example.org A: NOERROR 192.0.2.2 (TTL 20, from the cache, insecure)"}},
	} {
		ask(c.from, c.transport, c.name, c.typ)
		l.expect(c.name, "nameserver.query: "+c.from+" "+c.want[0], "nameserver.reply: we tell "+c.from+" "+c.want[1])
	}
	w.direct(stranger, TCP, []byte("no message"))
	l.expect("no message")
	m := question("www.example.test.", miekg.TypeA)
	m.Question = append(m.Question, m.Question[0])
	w.direct(stranger, TCP, packed(t, m))
	l.expect("two questions", "nameserver.query: 198.51.100.7 asks us for (over tcp)", "nameserver.reply: we tell 198.51.100.7 about: FORMERR")
}

// TestJourneySockets: so is what comes over sockets; with nobody listening, the
// way of an answer that is ready allocates nothing.
func TestJourneySockets(t *testing.T) {
	l := listen(t)
	w := newTown(t, Options{Journey: l.Recorder}, Settings{}, parse(t, "example.test.", exampleZone)).listen()
	l.said()
	for _, network := range []string{"udp", "tcp"} {
		overNet(t, network, map[string]string{"udp": w.udp, "tcp": w.tcp}[network], question("mail.example.test.", miekg.TypeA))
		l.expect(network, "nameserver.query: 127.0.0.1 asks us for mail.example.test A (over "+network+")",
			"nameserver.reply: we tell 127.0.0.1 about mail.example.test A: NOERROR 192.0.2.25 (by authority for example.test, TTL 3600)")
	}
	l.f.Close()
	msg, c := packed(t, question("mail.example.test.", miekg.TypeA)), client{addr: netip.MustParseAddr("127.0.0.1")}
	k := worker{now: time.Now()}
	out := make([]byte, 0, 512)
	if n := testing.AllocsPerRun(100, func() {
		k.listened = w.s.listened()
		w.s.take(out, &k, &c, msg)
	}); n > 0 || k.listened {
		t.Errorf("with nobody listening it allocates %v times", n)
	}
}

// TestJourneyZones: a zone's way to its secondary is told by both: who asks whom,
// the transfers, notifications and updates with what they change.
func TestJourneyZones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := key(t, "k", "hmac-sha256", secret)
		one, two := listen(t), listen(t)
		m := &memory{t: t}
		primary := m.host("192.0.2.1", Options{Journey: one.Recorder}, Settings{Keys: []*Key{k}, Zones: []ZoneConfig{{Name: "example.test.",
			AllowTransfer: anybody, AllowUpdate: ACL{Keys: []string{"k"}}, Notify: []Remote{{Addr: "192.0.2.2:53"}}}}})
		if err := primary.Publish(version(t, "1", "")); err != nil {
			t.Fatal(err)
		}
		m.host("192.0.2.2", Options{Journey: two.Recorder}, Settings{Keys: []*Key{k}, Zones: []ZoneConfig{{Name: "example.test.",
			AllowUpdate: ACL{Keys: []string{"k"}}, Primaries: []Remote{{Addr: "192.0.2.1:53"}}}}})
		time.Sleep(time.Second)
		synctest.Wait()
		soa := "ns1.example.test. hostmaster.example.test. 1 600 60 3600 30"
		// Connections of TCP have no address of their own here.
		has := func(l *listener, want ...string) {
			t.Helper()
			all := strings.Join(l.said(), "\n")
			for _, w := range want {
				if !strings.Contains(all, w) {
					t.Errorf("no %q in\n%s", w, all)
				}
			}
		}
		has(one, "zone.changed: zone example.test is served (serial 1, records: 4)",
			"nameserver.query: 192.0.2.2 asks us for example.test SOA (over udp)",
			"nameserver.reply: we tell 192.0.2.2 about example.test SOA: NOERROR "+soa+" (by authority for example.test, TTL 60)",
			"nameserver.query: 127.0.0.1 asks us for example.test AXFR (over tcp)",
			"nameserver.reply: we tell 127.0.0.1 about example.test AXFR: NOERROR (serial 1, records: 5, messages: 1)")
		has(two, "zone.query: we ask 192.0.2.1:53 for example.test SOA (over udp)",
			"zone.reply: 192.0.2.1:53 says about example.test SOA: NOERROR "+soa,
			"zone.query: we ask 192.0.2.1:53 for example.test AXFR (over tcp)",
			"zone.reply: 192.0.2.1:53 says about example.test AXFR: NOERROR (serial 1, records: 5, 0s)",
			"zone.changed: zone example.test is served (serial 1, records: 4)")

		u := new(miekg.Msg)
		u.SetUpdate("example.test.")
		u.NameUsed([]miekg.RR{record(t, "www.example.test. 0 IN A 0.0.0.0")})
		u.Insert([]miekg.RR{record(t, "new.example.test. 60 IN A 192.0.2.90")})
		u.RemoveRRset([]miekg.RR{record(t, "www.example.test. 0 IN A 192.0.2.80")})
		u.Remove([]miekg.RR{record(t, "www.example.test. 0 IN AAAA 2001:db8::1")})
		if r, err := primary.askOnce(t.Context(), "tcp", "192.0.2.2:53", u, k); err != nil || r.Rcode != miekg.RcodeSuccess {
			t.Fatal(r, err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		update := "asks us for UPDATE example.test (over tcp): if there is www.example.test ANY; " +
			"add new.example.test A 192.0.2.90; delete all www.example.test A; delete www.example.test AAAA 2001:db8::1"
		has(one, "nameserver.query: 127.0.0.1 "+update,
			"nameserver.reply: we tell 127.0.0.1 about UPDATE example.test: NOERROR",
			"zone.query: we ask 192.0.2.2:53 for NOTIFY example.test (over udp)",
			"zone.reply: 192.0.2.2:53 says about NOTIFY example.test: NOERROR",
			"nameserver.query: 127.0.0.1 asks us for example.test IXFR (over tcp)",
			"nameserver.reply: we tell 127.0.0.1 about example.test IXFR: NOERROR (serial 2, records: 6, changes: 1, messages: 1)")
		has(two, "nameserver.query: 127.0.0.1 "+update,
			"zone.query: we ask 192.0.2.1:53 for UPDATE example.test (over tcp)",
			"zone.reply: 192.0.2.1:53 says about UPDATE example.test: NOERROR",
			"nameserver.reply: we tell 127.0.0.1 about UPDATE example.test: NOERROR (as the primary says)",
			"nameserver.query: 192.0.2.1 asks us for NOTIFY example.test (over udp)",
			"nameserver.reply: we tell 192.0.2.1 about NOTIFY example.test: NOERROR",
			"zone.reply: 192.0.2.1:53 says about example.test IXFR: NOERROR (serial 2,",
			"zone.changed: zone example.test is served (serial 2, records: 4, in place of 1)")
		if r, err := primary.askOnce(t.Context(), "tcp", "192.0.2.2:53", u, nil); err != nil || r.Rcode != miekg.RcodeRefused {
			t.Fatal(r, err)
		}
		has(two, "UPDATE example.test: REFUSED (not of those who may change the zone)")
		m.stop("192.0.2.1", nil)
		time.Sleep(11 * time.Minute) // the time of refresh
		has(two, "zone.reply: 192.0.2.1:53 says about example.test SOA: nothing of use: no answer in time")
	})
}

func record(t *testing.T, text string) miekg.RR {
	t.Helper()
	rr, err := miekg.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}
