package queue

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postrider/mta"
)

// state lists "address state" of a message's recipients.
func (f *fixture) state(id string) string {
	f.Helper()
	i, err := f.q.Show(f.Context(), id)
	if err != nil {
		return err.Error()
	}
	var s []string
	for _, r := range i.Recipients {
		s = append(s, r.Address+" "+r.State)
	}
	return strings.Join(s, ", ")
}

func (f *fixture) op(fn func(context.Context, ...string) ([]Change, error), ids ...string) string {
	f.Helper()
	changes, err := fn(f.Context(), ids...)
	if err != nil {
		return err.Error()
	}
	b, err := json.Marshal(changes)
	f.must(err)
	return string(b)
}

func (f *fixture) want(got, want string) {
	f.Helper()
	if got != want {
		f.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestHoldAndRelease(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		id := f.send("alice@crepes.fr", "x@far.example")
		f.want(f.op(f.q.Hold, id), `[{"id":"msg001","recipients":1}]`)
		f.want(f.op(f.q.Hold, id), `[{"id":"msg001","recipients":0}]`)
		f.run()
		f.pass(time.Hour)
		f.want(f.state(id), "x@far.example held")
		f.want(f.op(f.q.Retry, id), `[{"id":"msg001","recipients":0,"held":1}]`)
		f.restart()
		f.run()
		f.pass(time.Hour)
		f.want(f.state(id), "x@far.example held")
		if len(f.deliver.attempts()) != 0 {
			t.Error("a held message was tried")
		}
		f.want(f.op(f.q.Release, id), `[{"id":"msg001","recipients":1}]`)
		synctest.Wait()
		f.want(f.state(id), ErrNotFound.Error())
		f.exactlyOnce()
	})
}

// TestOperationsOnAnAttempt: what is under way goes on; hold takes effect when
// it does not deliver, remove refuses.
func TestOperationsOnAnAttempt(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.deliver.deliver = func(_ context.Context, d *mta.Delivery) error {
			<-time.After(10 * time.Second)
			return d.Record([]mta.Outcome{says(450, "4.2.1", "busy")(d, d.To[0].Address)})
		}
		f.run()
		id := f.send("alice@crepes.fr", "x@far.example")
		synctest.Wait()
		f.want(f.state(id), "x@far.example active")
		f.want(f.op(f.q.Remove, id), `[{"id":"msg001","recipients":0,"busy":1}]`)
		f.want(f.op(f.q.Retry, id), `[{"id":"msg001","recipients":0,"busy":1}]`)
		f.want(f.op(f.q.Hold, id), `[{"id":"msg001","recipients":1}]`)
		f.pass(time.Hour)
		f.want(f.state(id), "x@far.example held")
		if n := len(f.deliver.attempts()); n != 1 {
			t.Errorf("%d attempts", n)
		}
		f.want(f.op(f.q.Release, id), `[{"id":"msg001","recipients":1}]`)
		synctest.Wait()
		f.want(f.state(id), "x@far.example active")
		f.want(f.op(f.q.Hold, id), `[{"id":"msg001","recipients":1}]`)
		f.want(f.op(f.q.Release, id), `[{"id":"msg001","recipients":1}]`)
		f.pass(10 * time.Second)
		f.want(f.state(id), "x@far.example waiting")
		f.deliver.recover()
		f.pass(6 * time.Minute)
		f.want(f.state(id), ErrNotFound.Error())
	})
}

func TestRetryAndRemove(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.deliver.answer = silence
		f.run()
		a := f.send("alice@crepes.fr", "x@far.example", "y@near.example")
		b := f.send("alice@crepes.fr", "x@far.example")
		f.pass(2 * time.Hour)
		f.want(f.state(a), "x@far.example waiting, y@near.example waiting")
		f.want(f.op(f.q.Remove, b, "nonsense"), `[{"id":"msg002","recipients":1},{"id":"nonsense","recipients":0,"error":"no such message in the queue"}]`)
		f.want(f.state(b), ErrNotFound.Error())
		f.want(f.op(f.q.Remove), ErrNoMessage.Error())
		f.deliver.recover()
		before := len(f.deliver.attempts())
		f.want(f.op(f.q.Retry), `[{"id":"msg001","recipients":2}]`)
		synctest.Wait()
		if n := len(f.deliver.attempts()) - before; n != 2 {
			t.Errorf("%d attempts", n)
		}
		if n := f.length(); n != 0 {
			t.Errorf("%d left", n)
		}
		if n := len(f.inbox("alice")); n != 0 {
			t.Errorf("%d reports about a message that was removed", n)
		}
	})
}

// TestRetryAll: retry of all also reaches what is only in the store.
func TestRetryAll(t *testing.T) {
	bubble(t, Options{Active: 20}, func(f *fixture) {
		f.deliver.answer = says(450, "4.2.1", "busy")
		f.run()
		for range 250 {
			f.send("alice@crepes.fr", "x@far.example")
		}
		f.pass(2 * time.Hour)
		// A wave that falls due at this very moment goes through so small a memory
		// in a moment.
		f.pass(5 * time.Second)
		for _, i := range f.items() {
			if r := i.Recipients[0]; r.State != "waiting" {
				t.Fatalf("%s is %s", i.ID, r.State)
			}
		}
		f.deliver.recover()
		changes, err := f.q.Retry(f.Context())
		f.must(err)
		if len(changes) != 250 {
			t.Errorf("%d changes", len(changes))
		}
		f.pass(30 * time.Second)
		if n := f.length(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// TestDueBeforeWaiting: recipients in memory that wait for their time do not keep
// out others of the domain that are due.
func TestDueBeforeWaiting(t *testing.T) {
	bubble(t, Options{Active: 20}, func(f *fixture) {
		f.deliver.answer = says(450, "4.2.1", "busy")
		f.run()
		wave := func() {
			for range 30 {
				f.send("alice@crepes.fr", "x@far.example")
			}
		}
		wave()
		f.pass(40 * time.Second) // those due after a minute are in memory again
		wave()
		f.pass(5 * time.Second)
		if n := len(f.deliver.attempts()); n != 60 {
			t.Errorf("%d attempts for 60 messages", n)
		}
	})
}

func TestShow(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.router.aliases[addr("team@crepes.fr")] = []mta.Target{{Remote: addr("x@far.example")}}
		f.deliver.answer = says(450, "4.2.1", "busy")
		f.run()
		env := f.envelope("alice@crepes.fr", "team@crepes.fr")
		env.Client.Login = "alice@crepes.fr"
		f.must(f.accept(env, letterText))
		f.pass(time.Second)
		i, err := f.q.Show(f.Context(), "msg001")
		f.must(err)
		b, err := json.Marshal(i)
		f.must(err)
		f.want(string(b), `{"id":"msg001","from":"alice@crepes.fr","size":165,"login":"alice@crepes.fr",`+
			`"accepted":"2000-01-01T00:00:00Z","expires":"2000-01-06T00:00:00Z","recipients":[{"address":"x@far.example",`+
			`"original":"team@crepes.fr","state":"waiting","attempts":1,"last":"2000-01-01T00:00:00Z","next":"2000-01-01T00:01:00Z",`+
			`"reply":"450 4.2.1 busy","host":"mx.far.example"}]}`)
		// By its number in the store, too.
		if j, err := f.q.Show(f.Context(), "1"); err != nil || j.ID != "msg001" {
			t.Errorf("Show: %+v, %v", j, err)
		}
		if _, err := f.q.Show(f.Context(), "2"); !errors.Is(err, ErrNotFound) {
			t.Errorf("Show: %v", err)
		}
	})
}
