package dns

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnstest"
	"postrider/dns/recursor"
	"postrider/internal/journey"
)

// A resolver that walks by itself: what it finds is what servers would have
// said, and each step is in the journey of the message that it is for.
func TestIterative(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(t, exampleZone)
		hints, err := recursor.ReadHints(strings.NewReader(". NS a.\na. A 198.41.0.4\n"), "hints")
		if err != nil {
			t.Fatal(err)
		}
		rec, err := recursor.New(recursor.Options{Hints: hints, Dial: server.Dial, Chained: true})
		if err != nil {
			t.Fatal(err)
		}
		defer rec.Close()
		events := journey.New(journey.Options{Node: "a.example", Memory: 100})
		defer events.Close()
		r := newResolver(t, Options{Iterative: rec, Journey: events})
		ctx := journey.With(t.Context(), journey.Scope{Message: "m1"})
		mx, err := r.MX(ctx, "example.com")
		if err != nil || len(mx) != 2 {
			t.Errorf("got %v, %v", mx, err)
		}
		if _, err := r.MX(ctx, "mx.example.com"); !errors.Is(err, ErrNoData) {
			t.Errorf("got %v", err)
		}
		if _, err := r.MX(ctx, "none.example.com"); !errors.Is(err, ErrNotExist) {
			t.Errorf("got %v", err)
		}
		a, err := r.Query(ctx, "example.com", TypeMX)
		if err != nil || a.Security != "indeterminate" || len(a.Answer) != 2 {
			t.Errorf("got %+v, %v", a, err)
		}
		synctest.Wait()
		seen := map[journey.Kind]int{}
		for _, e := range events.Recent(journey.Filter{}) {
			if e.Message != "m1" {
				t.Errorf("an event of nobody: %+v", e)
			}
			seen[e.Kind]++
		}
		if seen[journey.DNSQuery] != 3 || seen[journey.DNSReply] != 3 || seen[journey.DNSAnswer] != 3 {
			t.Errorf("events: %v", seen)
		}
		server.Break(dnstest.Fault{Rcode: miekg.RcodeServerFailure})
		if _, err := r.MX(ctx, "other.example.com"); !errors.Is(err, ErrTemporary) {
			t.Errorf("got %v", err)
		}
		if _, err := NewResolver(Options{Iterative: rec, Servers: []string{"192.0.2.1"}}); err == nil {
			t.Error("servers beside an iterative resolver are taken")
		}
	})
}
