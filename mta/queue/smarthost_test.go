package queue

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"postrider/mta"
)

// TestSmarthost: with all mail going to one host, a message for several
// domains is one transaction, and the bound on attempts is that of one domain.
func TestSmarthost(t *testing.T) {
	bubble(t, Options{Smarthost: "relay.example:587", PerDomain: 3}, func(f *fixture) {
		var now, most atomic.Int32
		f.deliver.deliver = func(_ context.Context, d *mta.Delivery) error {
			most.Store(max(most.Load(), now.Add(1)))
			<-time.After(time.Second)
			now.Add(-1)
			outcomes := make([]mta.Outcome, len(d.To))
			for i, to := range d.To {
				outcomes[i] = took(to.Address)
			}
			return d.Record(outcomes)
		}
		f.send("alice@crepes.fr", "a@one.example", "b@two.example", "c@three.example")
		for i := range 20 {
			f.send("alice@crepes.fr", fmt.Sprintf("u@d%d.example", i))
		}
		f.run()
		f.pass(time.Minute)
		if n := f.length(); n != 0 {
			t.Errorf("%d left", n)
		}
		if n := len(f.deliver.attempts()); n != 21 {
			t.Errorf("%d transactions for 21 messages", n)
		}
		if most.Load() != 3 {
			t.Errorf("%d attempts at a time, want 3", most.Load())
		}
	})
}
