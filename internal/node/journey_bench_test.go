package node

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"postrider/dns/dnstest"
	"postrider/internal/clock"
)

// BenchmarkJourney is what the journey costs: processor time of a message with it,
// beside one without, in turns of 100 messages so that whatever else this machine
// does falls on both; the medians of the turns count. more-% is the figure, the
// median over pairs of turns.
func BenchmarkJourney(b *testing.B) {
	b.Run("deliver", func(b *testing.B) {
		compare(b, func(*Options) {}, func(b *testing.B, n *Node) func(count int) {
			if err := n.Directory.AddDomain(b.Context(), "hamburger.edu"); err != nil {
				b.Fatal(err)
			}
			if err := n.Directory.AddAccount(b.Context(), "bob@hamburger.edu", "hungry"); err != nil {
				b.Fatal(err)
			}
			return func(count int) { sendSome(b, n, count, func(int) string { return "bob@hamburger.edu" }) }
		})
	})
	b.Run("relay", func(b *testing.B) {
		const domains = 50
		var zone strings.Builder
		zone.WriteString("mx.example. IN A 127.0.0.1\n")
		for i := range domains {
			fmt.Fprintf(&zone, "d%d.example. IN MX 10 mx.example.\n", i)
		}
		names := dnstest.Start(b, zone.String())
		s := newSink(b)
		s.want = -1
		compare(b, func(o *Options) {
			o.Resolver = names.Addr
			o.RelayNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			o.RemotePort = s.port
		}, func(b *testing.B, n *Node) func(count int) {
			return func(count int) {
				want := s.got.Load() + int64(count)
				sendSome(b, n, count, func(i int) string { return fmt.Sprintf("bob@d%d.example", i%domains) })
				look := time.NewTicker(200 * time.Microsecond) // a loop without it would be most of the processor's time
				defer look.Stop()
				for deadline := time.Now().Add(time.Minute); s.got.Load() < want || n.metrics.queueLength() != 0; {
					if at := <-look.C; at.After(deadline) {
						b.Fatalf("the sink has %d messages of %d", s.got.Load(), want)
					}
				}
			}
		})
	})
}

// compare runs the same work on two nodes in turns; one keeps no journey.
func compare(b *testing.B, change func(*Options), prepare func(b *testing.B, n *Node) func(count int)) {
	const turn = 100
	var work [2]func(count int)
	for i := range work {
		work[i] = prepare(b, benchNode(b, func(o *Options) {
			change(o)
			o.SearchIndex = false // which works behind, in the other's turn too
			if i == 0 {
				o.JourneyRetention = 0
			}
		}))
		work[i](turn) // what is only done once
	}
	var used [2][]float64 // µs of a message, by turn
	b.ResetTimer()
	for round := range max(b.N/turn, 1) {
		for k := range work {
			i := (k + round) % 2
			begin := clock.Processor()
			work[i](turn)
			used[i] = append(used[i], float64((clock.Processor()-begin).Microseconds())/turn)
		}
	}
	b.StopTimer()
	more := make([]float64, len(used[0]))
	for k := range more {
		more[k] = 100 * (used[1][k]/used[0][k] - 1)
	}
	slices.Sort(more)
	for i := range used {
		slices.Sort(used[i])
	}
	b.ReportMetric(used[0][len(used[0])/2], "without-µs/msg")
	b.ReportMetric(used[1][len(used[1])/2], "with-µs/msg")
	b.ReportMetric(more[len(more)/2], "more-%")
}

// sendSome sends messages over one connection.
func sendSome(b *testing.B, n *Node, count int, to func(i int) string) {
	c, err := dialRaw(n.Addr("smtp"))
	if err != nil {
		b.Fatal(err)
	}
	defer c.conn.Close()
	text := benchText()
	for i := range count {
		if err := c.deliver(to(i), text); err != nil {
			b.Fatal(err)
		}
	}
}
