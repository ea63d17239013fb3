package dns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postrider/internal/journey"
)

// TestJourney: each question, what the server said, and what the asker was told:
// with its TTL, from the cache or not, for the message that it is for.
func TestJourney(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(t, exampleZone)
		hosts := filepath.Join(t.TempDir(), "hosts")
		if err := os.WriteFile(hosts, []byte("192.0.2.9 titan.example.com\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		events := journey.New(journey.Options{Memory: 100})
		r := newResolver(t, Options{Servers: []string{"192.0.2.53"}, HostsFile: hosts, Dial: server.Dial, Journey: events})
		ctx := journey.With(t.Context(), journey.Scope{Message: "m1", Session: "s1"})
		for range 2 {
			if _, err := r.MX(ctx, "example.com"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Second)
		}
		if _, err := r.MX(ctx, "none.example.com"); err == nil {
			t.Fatal("none.example.com is there")
		}
		if _, err := r.Addresses(ctx, "titan.example.com"); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range events.Recent(journey.Filter{Message: "m1", Session: "s1"}) {
			got = append(got, string(e.Kind)+": "+e.Text)
			if (e.Kind == journey.DNSQuery || e.Kind == journey.DNSReply) && len(e.Wire) < 12 {
				t.Errorf("%s without its octets", e.Text)
			}
		}
		want := []string{
			"dns.query: ask 192.0.2.53:53 for example.com MX (over udp)",
			"dns.reply: 192.0.2.53:53 says NOERROR about example.com MX (0s)",
			"dns.answer: example.com MX is 10 mx.example.com., 20 mx2.example.com. (TTL 300, asked)",
			"dns.answer: example.com MX is 10 mx.example.com., 20 mx2.example.com. (TTL 200, from the cache)",
			"dns.query: ask 192.0.2.53:53 for none.example.com MX (over udp)",
			"dns.reply: 192.0.2.53:53 says NXDOMAIN about none.example.com MX (0s)",
			"dns.answer: none.example.com MX is NXDOMAIN (TTL 60, asked)",
			"dns.answer: titan.example.com A is 192.0.2.9 (from the hosts file)",
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}
