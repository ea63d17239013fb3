package journey

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

func TestNilRecorder(t *testing.T) {
	var r *Recorder
	r.Record(Event{Kind: MessageAccepted})
	if r.Wants(MessageAccepted) || r.Recent(Filter{}) != nil {
		t.Error("a nil recorder has something")
	}
	f := r.Follow(Filter{})
	f.Close()
	if _, err := f.Next(context.Background()); err != ErrClosed {
		t.Error(err)
	}
}

// TestSessionsWhileSomeoneListens: also a listener of the parent is one.
func TestSessionsWhileSomeoneListens(t *testing.T) {
	parent := New(Options{Memory: 10})
	r := New(Options{Node: "mx.example", Memory: 10, Parent: parent})
	say := func(text string) { r.Record(Event{Kind: SMTPCommand, Text: text}) }
	say("nobody")
	for i, listen := range []*Recorder{r, parent} {
		other := listen.Follow(Filter{})
		say("nobody who wants it")
		f := listen.Follow(Filter{Sessions: true})
		say(fmt.Sprint(i))
		list, err := f.Next(t.Context())
		if err != nil || len(list) != 1 || list[0].Text != fmt.Sprint(i) || list[0].Node != "mx.example" {
			t.Error(list, err)
		}
		f.Close()
		f.Close()
		say("nobody any more")
		other.Close()
	}
	if got := r.Recent(Filter{Sessions: true}); len(got) != 2 || got[0].Text != "0" || got[1].Text != "1" {
		t.Error(got)
	}
	if got := parent.Recent(Filter{Sessions: true}); len(got) != 1 || got[0].Text != "1" {
		t.Error(got)
	}
}

func TestRecentIsARing(t *testing.T) {
	r := New(Options{Memory: 3})
	r.seq = 0
	for i := range 5 {
		r.Record(Event{Kind: QueueAttempt, Text: fmt.Sprint(i)})
		got := r.Recent(Filter{})
		if len(got) != min(i+1, 3) || got[len(got)-1].Text != fmt.Sprint(i) || got[0].Seq != uint64(max(1, i-1)) {
			t.Fatal(i, got)
		}
	}
}

// TestFilterLearns: the facts of a message select its other events too, from
// then on.
func TestFilterLearns(t *testing.T) {
	r := New(Options{})
	f := r.Follow(Filter{From: "Alice@crepes.fr", To: "bob@hamburger.edu"})
	defer f.Close()
	for _, e := range []Event{
		{Message: "1", Attrs: []Attr{{"from", "alice@crepes.fr"}}},
		{Message: "1", Attrs: []Attr{{"to", "carol@hamburger.edu"}}},
		{Message: "1", Text: "yes", Attrs: []Attr{{"to", "BOB@hamburger.edu"}}},
		{Message: "2", Attrs: []Attr{{"to", "bob@hamburger.edu"}}},
		{Message: "2", Attrs: []Attr{{"from", "eve@crepes.fr"}}},
		{Message: "1", Text: "yes"},
		{Text: "yes", Attrs: []Attr{{"from", "alice@crepes.fr"}, {"to", "bob@hamburger.edu"}}},
		{},
	} {
		e.Kind = CheckPassed
		r.Record(e)
	}
	list, err := f.Next(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	for _, e := range list {
		if e.Text != "yes" {
			t.Error(e)
		}
	}
}

// TestRecordCuts: nothing in an event is longer than its bound, and what is kept
// does not change with what was given.
func TestRecordCuts(t *testing.T) {
	r := New(Options{Memory: 1})
	long := strings.Repeat("é", maxWire)
	wire := []byte(long)
	e := Event{Kind: DNSReply, Message: long, Session: long, Node: long, Peer: long, RFC: long, Text: long, Wire: wire}
	for range maxAttrs + 1 {
		e.Attrs = append(e.Attrs, Attr{long, long})
	}
	r.Record(e)
	wire[0], e.Attrs[0].Key = 'x', "x"
	got := r.Recent(Filter{})[0]
	for _, s := range []string{got.Message, got.Session, got.Node, got.Peer, got.RFC, got.Attrs[0].Key} {
		if len(s) != maxName-1 || !utf8.ValidString(s) {
			t.Errorf("%d octets", len(s))
		}
	}
	if len(got.Text) != maxText || len(got.Attrs) != maxAttrs || len(got.Attrs[0].Value) != maxText || len(got.Wire) != maxWire || got.Wire[0] == 'x' {
		t.Error(len(got.Text), len(got.Attrs), len(got.Wire))
	}
}

// TestStalledFollower: one who does not read loses events, is told how many, and
// nobody waits for him.
func TestStalledFollower(t *testing.T) {
	r := New(Options{})
	f := r.Follow(Filter{})
	defer f.Close()
	const extra = 5
	for i := range maxPending + extra {
		r.Record(Event{Kind: QueueAttempt, Text: fmt.Sprint(i)})
	}
	list, err := f.Next(t.Context())
	if err != nil || len(list) != maxPending+1 {
		t.Fatal(len(list), err)
	}
	if last := list[maxPending]; last.Kind != Lost || last.Get("count") != fmt.Sprint(extra) {
		t.Error(last)
	}
	wire := make([]byte, maxWire)
	for range maxPending {
		r.Record(Event{Kind: DNSReply, Wire: wire})
	}
	if list, err = f.Next(t.Context()); err != nil || len(list) > maxPendingSize/maxWire || list[len(list)-1].Kind != Lost {
		t.Error(len(list), err)
	}
}

// TestFollowAgain: who leaves All early finds the rest where he goes on.
func TestFollowAgain(t *testing.T) {
	r := New(Options{})
	f := r.Follow(Filter{})
	defer f.Close()
	for i := range 4 {
		r.Record(Event{Kind: QueueAttempt, Text: fmt.Sprint(i)})
	}
	var got []string
	for i := range 4 {
		for e := range f.All(t.Context()) {
			got = append(got, e.Text)
			break
		}
		r.Record(Event{Kind: QueueAttempt, Text: fmt.Sprint(i + 4)})
	}
	list, err := f.Next(t.Context())
	for _, e := range list {
		got = append(got, e.Text)
	}
	if want := "0 1 2 3 4 5 6 7"; strings.Join(got, " ") != want || err != nil {
		t.Errorf("%v, want %s, %v", got, want, err)
	}
}

func TestFollowWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{Node: "a"})
		f := r.Follow(Filter{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		var got []string
		wg.Go(func() {
			for e := range f.All(ctx) {
				got = append(got, e.Text+" "+e.Time.Format("15:04:05"))
			}
		})
		for range 2 {
			time.Sleep(time.Second)
			r.Record(Event{Kind: QueueAttempt, Text: "try"})
			synctest.Wait()
		}
		f.Close()
		wg.Wait()
		if len(got) != 2 || got[1] != "try 00:00:02" {
			t.Error(got)
		}
		if ctx.Err() != nil {
			t.Error("Close did not end it")
		}
		f = r.Follow(Filter{})
		defer f.Close()
		if _, err := f.Next(ctx); err != context.DeadlineExceeded {
			t.Error(err)
		}
	})
}

// TestRecordWhileFollowed lets -race look.
func TestRecordWhileFollowed(t *testing.T) {
	r := New(Options{Memory: 10})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				r.Record(Event{Kind: SMTPReply, Attrs: []Attr{{"code", "250"}}})
			}
		})
		wg.Go(func() {
			f := r.Follow(Filter{Sessions: true})
			defer f.Close()
			r.Record(Event{Kind: QueueAttempt})
			if _, err := f.Next(t.Context()); err != nil {
				t.Error(err)
			}
			r.Recent(Filter{})
		})
	}
	wg.Wait()
	if r.Wants(SMTPReply) {
		t.Error("sessions are still wanted")
	}
}
