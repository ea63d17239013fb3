package lab

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/internal/journey"
)

// broken sets a fault that is over with the test.
func broken(t *testing.T, l *Lab, f Fault) {
	t.Helper()
	if _, err := l.SetFault(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// dan is whose server has no backup.
const dan = "dan@sfu.ca"

// letter sends one from Alice to Dan, by its subject.
func letter(t *testing.T, l *Lab, subject string) {
	t.Helper()
	if _, err := l.Send(t.Context(), Letter{From: "alice@crepes.fr", To: []string{dan}, Subject: subject, Text: "Hello"}); err != nil {
		t.Fatal(err)
	}
}

// waits tells what the queue of Alice's server says of what waits there, when it
// contains a text; "" is an empty queue.
func waits(t *testing.T, l *Lab, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	f := l.journey.Follow(journey.Filter{})
	defer f.Close()
	for {
		q, err := l.Queues(ctx, "mx.crepes.fr")
		if err != nil {
			t.Fatal(err)
		}
		said := ""
		for _, table := range q {
			for _, i := range table.Items {
				for _, r := range i.Recipients {
					said += fmt.Sprintln(r.State, r.Attempts, r.Host, r.Reply)
				}
			}
		}
		if text == "" && said == "" || text != "" && strings.Contains(said, text) {
			return said
		}
		if err := l.moment(ctx, f); err != nil {
			t.Fatalf("no %q in the queue: %s", text, said)
		}
	}
}

func (l *Lab) subjects(t *testing.T, address string) []string {
	t.Helper()
	boxes, err := l.Mailboxes(t.Context(), l.account(t, address).Host)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, b := range boxes {
		if b.Account == address && b.Name == "INBOX" {
			for _, s := range b.Letters {
				out = append(out, s.Subject)
			}
		}
	}
	return out
}

// Each fault of a mail server does what it says, and the letter arrives when it is
// over, or past it.
func TestMailFaults(t *testing.T) {
	l, _ := start(t, Options{Instant: true})
	ctx := t.Context()
	over := func(subject string) {
		t.Helper()
		if err := l.ClearFaults(ctx, "mail.sfu.ca", ""); err != nil {
			t.Fatal(err)
		}
		if err := l.Jump(ctx, time.Hour); err != nil {
			t.Fatal(err)
		}
		have := l.subjects(t, dan)
		if len(have) == 0 || have[len(have)-1] != subject {
			t.Errorf("after %s Dan has %q", subject, have)
		}
	}
	broken(t, l, Fault{Kind: FaultGreylist, Host: "mail.sfu.ca", Wait: Duration(10 * time.Minute)})
	letter(t, l, "greylist")
	waits(t, l, "450")
	if err := l.Jump(ctx, 30*time.Minute); err != nil {
		t.Fatal(err)
	}
	if have := l.subjects(t, dan); len(have) != 1 {
		t.Errorf("past the greylist: %q", have)
	}
	over("greylist")

	broken(t, l, Fault{Kind: FaultBusy, Host: "mail.sfu.ca", Rate: 0})
	letter(t, l, "busy")
	waits(t, l, "421")
	over("busy")

	broken(t, l, Fault{Kind: FaultLostReply, Host: "mail.sfu.ca", Times: 1})
	letter(t, l, "lost reply")
	// The server has it, and the sender does not know: it comes twice (RFC 1047).
	waits(t, l, "waiting")
	if err := l.Jump(ctx, time.Hour); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, s := range l.subjects(t, dan) {
		if s == "lost reply" {
			n++
		}
	}
	if n != 2 || len(l.Faults()) != 1 {
		t.Errorf("lost reply: %d copies, faults %v", n, l.Faults())
	}

	broken(t, l, Fault{Kind: FaultStripTLS, Host: "mail.sfu.ca"})
	letter(t, l, "stripped")
	var last Stored
	for _, s := range arrives(t, l, dan, 5) {
		last = s
	}
	text, err := l.Message(ctx, dan, "INBOX", last.UID)
	if err != nil || last.Subject != "stripped" || !strings.Contains(string(text), "with ESMTP id") && !strings.Contains(string(text), "with ESMTP\r\n") {
		t.Errorf("%v, %+v:\n%s", err, last, text)
	}
}

// A certificate that has expired stops those who verify: a smarthost's customer
// waits.
func TestExpired(t *testing.T) {
	l, _ := start(t, Options{Instant: true})
	ctx := t.Context()
	if _, err := l.Configure(ctx, "mx.relay.test", "relay_networks", []string{"127.33.0.0/16"}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Configure(ctx, "mx.crepes.fr", "smarthost", []string{"mx.relay.test"}); err != nil {
		t.Fatal(err)
	}
	letter(t, l, "by the smarthost")
	arrives(t, l, dan, 1)
	broken(t, l, Fault{Kind: FaultExpired, Host: "mx.relay.test"})
	if err := l.Jump(ctx, time.Minute); err != nil { // connections that were kept are closed
		t.Fatal(err)
	}
	f := follow(t, l)
	letter(t, l, "waits")
	f.happens(t, "the expired certificate", kind(journey.DeliverTLS, "mx.crepes.fr", "error", "expired"))
	if said := waits(t, l, "certificate"); !strings.Contains(said, "expired") {
		t.Errorf("the queue says %q", said)
	}
	if err := l.ClearFaults(ctx, "", FaultExpired); err != nil {
		t.Fatal(err)
	}
	if err := l.Jump(ctx, time.Hour); err != nil {
		t.Fatal(err)
	}
	arrives(t, l, dan, 2)
}

// A letter over a slow way takes the time of its round trips, on the lab's clock,
// and they are counted.
func TestSlow(t *testing.T) {
	l, _ := start(t, Options{Instant: true})
	letter(t, l, "fast") // names are in caches now
	arrives(t, l, dan, 1)
	waits(t, l, "")
	if err := l.Jump(t.Context(), 2*time.Minute); err != nil { // the connection is not kept for so long
		t.Fatal(err)
	}
	broken(t, l, Fault{Kind: FaultSlow, Host: "mail.sfu.ca", Latency: Duration(100 * time.Millisecond)})
	l.ResetTraffic()
	began := l.clock.Now()
	letter(t, l, "slow")
	arrives(t, l, dan, 2)
	waits(t, l, "") // the last reply has come back
	took, trips := l.clock.Now().Sub(began), 0
	for _, h := range l.Traffic() {
		if h.From == "mx.crepes.fr" && h.To == "mail.sfu.ca" {
			trips = h.RoundTrips
		}
	}
	if trips < 5 || trips > 12 || took < time.Duration(trips)*200*time.Millisecond {
		t.Errorf("%d round trips of 200 ms took %v", trips, took)
	}
}

// Hostile replies are temporary or final failures, never a delivery, and the
// sender's server goes on.
func TestHostile(t *testing.T) {
	l, _ := start(t, Options{Instant: true})
	ctx := t.Context()
	for _, trick := range []string{"endless", "garbage", "longline", "drop", "code", "later"} {
		if _, err := l.Send(ctx, Letter{From: "alice@crepes.fr", To: []string{trick + "@mallory.test"}, Subject: trick}); err != nil {
			t.Fatal(err)
		}
	}
	letter(t, l, "meanwhile")
	arrives(t, l, dan, 1)
	waits(t, l, "perhaps tomorrow")
	q, err := l.Queues(ctx, "mx.crepes.fr")
	if err != nil || len(q) != 1 {
		t.Fatalf("%+v, %v", q, err)
	}
	n := 0
	for _, i := range q[0].Items {
		if strings.HasSuffix(i.Recipients[0].Address, "@mallory.test") {
			n++
		}
	}
	if n != 6 {
		t.Errorf("%d of 6 letters to mallory.test wait", n)
	}
}

// The old server gets letters by HELO, in seven bits.
func TestOldServer(t *testing.T) {
	l, _ := start(t, Options{Instant: true})
	if _, err := l.Send(t.Context(), Letter{From: "alice@crepes.fr", To: []string{"curator@museum.org"}, Subject: "Grüße", Text: "Crêpes à volonté"}); err != nil {
		t.Fatal(err)
	}
	s := arrives(t, l, "curator@museum.org", 1)
	if s[0].Subject != "Grüße" {
		t.Errorf("%+v", s)
	}
	talk(t, l.real(t, "mail.museum.org", "smtp"), "220", "EHLO x\t500", "HELO x\t250", "MAIL FROM:<a@b.test>\t250",
		"RCPT TO:<curator@museum.org>\t250", "RCPT TO:<nobody@museum.org>\t550", "DATA\t354", "EHLO in the text\t", ".\t250", "QUIT\t221")
	text, err := l.Message(t.Context(), "curator@museum.org", "INBOX", 2)
	if err != nil || !strings.Contains(string(text), "EHLO in the text") {
		t.Errorf("%v: %q", err, text)
	}
}

// Faults that make no sense are refused.
func TestFaultProblems(t *testing.T) {
	l, _ := start(t, Options{})
	for _, f := range []Fault{
		{Kind: "rain", Host: "mx.crepes.fr"}, {Kind: FaultDown}, {Kind: FaultDown, Host: "nobody"},
		{Kind: FaultSlow, Host: "crepes", Latency: Duration(time.Hour)}, {Kind: FaultLossy, Host: "crepes", Percent: 101},
		{Kind: FaultSpoof, Host: "ns1.crepes.fr", Record: "nonsense"}, {Kind: FaultServFail, Host: "mx.crepes.fr"},
		{Kind: FaultDown, Host: "crepes", Peer: "nobody"}, {Kind: FaultLostReply, Host: "mx.crepes.fr", Times: -1},
	} {
		if _, err := l.SetFault(t.Context(), f); err == nil {
			t.Errorf("%+v is taken", f)
		}
	}
	for range maxFaults {
		_, _ = l.SetFault(t.Context(), Fault{Kind: FaultDown, Host: "crepes"})
	}
	if n := len(l.Faults()); n != maxFaults {
		t.Errorf("%d faults", n)
	}
}

// story is the journey from now on, event by event.
type story struct {
	next func() (journey.Event, bool)
}

func follow(t *testing.T, l *Lab) *story {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	f := l.journey.Follow(journey.Filter{Sessions: true})
	next, stop := iter.Pull(f.All(ctx))
	t.Cleanup(func() { stop(); f.Close(); cancel() })
	return &story{next}
}

// happens waits for an event after those of before.
func (s *story) happens(t *testing.T, what string, match func(journey.Event) bool) journey.Event {
	t.Helper()
	var seen []string
	for {
		e, ok := s.next()
		switch {
		case !ok:
			t.Fatalf("the journey does not show %s:\n%s", what, strings.Join(seen, ""))
		case match(e):
			return e
		}
		seen = append(seen, fmt.Sprintln(e.Node, e.Kind, e.Peer, e.Text, e.Attrs))
	}
}

// kind matches events of a kind at a host whose attribute contains a text.
func kind(k journey.Kind, node, attr, text string) func(journey.Event) bool {
	return func(e journey.Event) bool {
		return e.Kind == k && e.Node == node && strings.Contains(strings.ToLower(e.Get(attr)), strings.ToLower(text))
	}
}

// What is wrong with names is seen in the journey of the letter that waits for
// them: what the name server said to the resolver, and what that one said to the
// mail server, by the message's id.
func TestNameFaultsInJourney(t *testing.T) {
	const resolver, alices = "dns.crepes.fr", "mx.crepes.fr"
	for _, c := range []struct {
		fault       Fault
		said, where string // at the resolver, and in which attribute
	}{
		{Fault{Kind: FaultServFail}, "SERVFAIL", "rcode"},
		{Fault{Kind: FaultLossy, Percent: 100}, "", "error"},
	} {
		t.Run(string(c.fault.Kind), func(t *testing.T) {
			l, _ := start(t, Options{Instant: true})
			f := follow(t, l)
			c.fault.Host = "ns.sfu.ca"
			broken(t, l, c.fault)
			letter(t, l, "waits")
			f.happens(t, "what the name server said", func(e journey.Event) bool {
				return e.Get(c.where) != "" && strings.HasPrefix(e.Get("server"), "ns.sfu.ca") && kind(journey.DNSReply, resolver, c.where, c.said)(e)
			})
			failed := f.happens(t, "that the resolver found nothing", kind(journey.DNSReply, alices, "rcode", "SERVFAIL"))
			deferred := f.happens(t, "that the letter waits", kind(journey.QueueDeferred, alices, "", ""))
			if failed.Message == "" || failed.Message != deferred.Message {
				t.Errorf("the answer is for %q, and %q waits", failed.Message, deferred.Message)
			}
			if err := l.ClearFaults(t.Context(), "ns.sfu.ca", ""); err != nil {
				t.Fatal(err)
			}
			if err := l.Jump(t.Context(), time.Hour); err != nil {
				t.Fatal(err)
			}
			arrives(t, l, dan, 1)
			f.happens(t, "that it was delivered", func(e journey.Event) bool {
				return e.Message == deferred.Message && kind(journey.QueueDelivered, alices, "", "")(e)
			})
		})
	}
}

// A spoofed answer of a zone that is not signed is seen in the journey, with the
// letter's way to the thief; scenario 38 has the signed one.
func TestSpoofInJourney(t *testing.T) {
	l, _ := start(t, Options{Instant: true})
	f := follow(t, l)
	broken(t, l, Fault{Kind: FaultSpoof, Host: "ns.sfu.ca", Record: "sfu.ca. 300 MX 1 thief.mallory.test."})
	letter(t, l, "stolen")
	f.happens(t, "the answer to the resolver", kind(journey.DNSReply, "dns.crepes.fr", "answer", "thief.mallory.test"))
	told := f.happens(t, "the answer to the mail server", kind(journey.DNSReply, "mx.crepes.fr", "answer", "thief.mallory.test"))
	line := f.happens(t, "that the thief is told of Dan", func(e journey.Event) bool {
		return e.Kind == journey.DeliverCommand && strings.Contains(e.Text, dan) && strings.HasPrefix(e.Peer, "thief.mallory.test")
	})
	if told.Message == "" || told.Message != line.Message {
		t.Errorf("the answer is for %q, and %q is stolen", told.Message, line.Message)
	}
}

// A slow way and a STARTTLS that somebody takes out are seen in the lines of the
// delivery.
func TestWayFaultsInJourney(t *testing.T) {
	l, _ := start(t, Options{Instant: true})
	f := follow(t, l)
	const alices, latency = "mx.crepes.fr", 100 * time.Millisecond
	broken(t, l, Fault{Kind: FaultSlow, Host: "mail.sfu.ca", Latency: Duration(latency)})
	letter(t, l, "slow")
	asked := f.happens(t, "a line", kind(journey.DeliverCommand, alices, "", ""))
	told := f.happens(t, "its reply", kind(journey.DeliverReply, alices, "", ""))
	if took := told.Time.Sub(asked.Time); took < 2*latency {
		t.Errorf("%q was answered after %v", asked.Text, took)
	}
	f.happens(t, "the use of TLS", kind(journey.DeliverTLS, alices, "tls", "TLS"))
	f.happens(t, "the delivery", kind(journey.QueueDelivered, alices, "", ""))
	if err := l.ClearFaults(t.Context(), "", ""); err != nil {
		t.Fatal(err)
	}
	if err := l.Jump(t.Context(), time.Hour); err != nil { // connections that were kept are closed
		t.Fatal(err)
	}
	broken(t, l, Fault{Kind: FaultStripTLS, Host: "mail.sfu.ca"})
	letter(t, l, "stripped")
	lines := 0
	f.happens(t, "the delivery", func(e journey.Event) bool {
		if e.Kind == journey.DeliverTLS || e.Kind == journey.DeliverReply && strings.Contains(e.Text+string(e.Wire), "STARTTLS") {
			t.Errorf("TLS is offered or begun: %s %s", e.Kind, e.Text)
		}
		if e.Kind == journey.DeliverReply {
			lines++
		}
		return kind(journey.QueueDelivered, alices, "", "")(e)
	})
	if lines < 5 {
		t.Errorf("%d lines are recorded", lines)
	}
}

// Programs outside the lab meet a slow way, too, by TCP and UDP, and the answers of
// somebody on it.
func TestOutside(t *testing.T) {
	l, _ := start(t, Options{Instant: true})
	const latency = 200 * time.Millisecond
	ask := func(network string) (*miekg.Msg, time.Duration) {
		t.Helper()
		began := l.clock.Now()
		c := &miekg.Client{Net: network, Timeout: 30 * time.Second}
		m, _, err := c.Exchange(new(miekg.Msg).SetQuestion("sfu.ca.", miekg.TypeMX), l.real(t, "ns.sfu.ca", "dns"))
		if err != nil {
			t.Fatal(network, err)
		}
		return m, l.clock.Now().Sub(began)
	}
	for _, f := range []Fault{{Kind: FaultSlow, Host: "ns.sfu.ca", Latency: Duration(latency)}, {Kind: FaultSlow, Host: "mail.sfu.ca", Latency: Duration(latency)}} {
		broken(t, l, f)
	}
	for _, network := range []string{"udp", "tcp"} {
		if m, took := ask(network); took < 2*latency || len(m.Answer) != 1 {
			t.Errorf("by %s it took %v: %v", network, took, m.Answer)
		}
	}
	began := l.clock.Now()
	talk(t, l.real(t, "mail.sfu.ca", "smtp"), "220", "HELO x\t250", "QUIT\t221")
	if took := l.clock.Now().Sub(began); took < 6*latency {
		t.Errorf("three answers took %v", took)
	}
	broken(t, l, Fault{Kind: FaultGreylist, Host: "mail.sfu.ca"}) // its replies, too
	began = l.clock.Now()
	talk(t, l.real(t, "mail.sfu.ca", "smtp"), "220", "HELO x\t250", "MAIL FROM:<a@b.test>\t250", "RCPT TO:<dan@sfu.ca>\t450", "QUIT\t221")
	if took := l.clock.Now().Sub(began); took < 10*latency {
		t.Errorf("five answers took %v", took)
	}
	broken(t, l, Fault{Kind: FaultSpoof, Host: "ns.sfu.ca", Record: "sfu.ca. 300 MX 1 thief.mallory.test.", Times: 2})
	for _, network := range []string{"udp", "tcp"} {
		if m, _ := ask(network); len(m.Answer) != 1 || !strings.Contains(m.Answer[0].String(), "thief") {
			t.Errorf("by %s: %v", network, m.Answer)
		}
	}
	if m, _ := ask("tcp"); len(m.Answer) != 1 || strings.Contains(m.Answer[0].String(), "thief") {
		t.Errorf("after two times: %v", m.Answer)
	}
}
