package queue

import (
	"testing"
	"time"

	"postrider/mailstore"
)

// TestLeftWhileReading: a row that is left in the store while the loader reads past
// its place is led back to.
func TestLeftWhileReading(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	at := func(after time.Duration) position {
		return justBefore(&mailstore.QueueRecipient{Item: 7, Next: now.Add(after)})
	}
	for name, c := range map[string]struct {
		left position
		back func(a *active) bool
	}{
		"due":     {at(-time.Second), func(a *active) bool { return a.holes && a.hole == at(-time.Second) }},
		"not due": {at(20 * time.Second), func(a *active) bool { return a.edge == at(20*time.Second) && a.resume.Equal(now.Add(20*time.Second)) }},
		"behind what is read": {at(2 * horizon), func(a *active) bool {
			return !a.holes && a.edge.next.Equal(now.Add(horizon)) && a.resume.Equal(now.Add(horizon))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var a active
			a.init(&Options{Active: 20})
			r := a.nextReading(now)
			if r == nil || r.pass != nil {
				t.Fatalf("the first reading is %+v", r)
			}
			a.left(c.left, now)
			a.advance(r, position{next: r.until, item: lastItem}, true, now)
			a.endReading(now)
			if !c.back(&a) {
				t.Errorf("edge %v, next at %v, hole %v (%v)", a.edge, a.resume, a.hole, a.holes)
			}
		})
	}
}
