package page

import (
	"fmt"
	"testing"

	"postrider/internal/journey"
)

// TestLetters: what is one letter is joined: at the next server, by a relay, twice
// where a reply was lost, with its report, and to the first time that it was fetched.
func TestLetters(t *testing.T) {
	st := newStepper(newFake().HostOf, func(string) bool { return false })
	for i, c := range []struct {
		kind        journey.Kind
		node, id    string
		attrs       []journey.Attr
		same, forID string
	}{
		{journey.MessageAccepted, mailA, "A", []journey.Attr{{Key: "message-id", Value: "<1@crepes.fr>"}}, "[]", "[]"},
		{journey.MessageAccepted, mailB, "B", []journey.Attr{{Key: "message-id", Value: "<1@crepes.fr>"}}, "[B A]", "[]"}, // and its reply is lost
		{journey.MessageAccepted, mailB, "C", []journey.Attr{{Key: "message-id", Value: "<1@crepes.fr>"}}, "[C A]", "[]"},
		{journey.MessageAccepted, mailB, "D", []journey.Attr{{Key: "message-id", Value: ""}}, "[]", "[]"}, // one without
		{journey.QueueDelivered, mailA, "A", []journey.Attr{{Key: "reply", Value: "250 2.0.0 Message accepted for delivery, id D"}}, "[A D]", "[]"},
		{journey.QueueDelivered, mailA, "A", []journey.Attr{{Key: "reply", Value: "250 2.0.0 Ok: queued"}}, "[]", "[]"},
		{journey.QueueDeferred, mailA, "A", []journey.Attr{{Key: "reply", Value: "451 4.3.0 not now, id X"}}, "[]", "[]"},
		{journey.QueueBounce, mailB, "D", []journey.Attr{{Key: "bounce", Value: "E"}}, "[D E]", "[]"},
		{journey.MessageAccepted, mailB, "E", []journey.Attr{{Key: "about", Value: "D"}}, "[E D]", "[]"},
		{journey.MailboxDelivered, mailB, "C", []journey.Attr{{Key: "content", Value: "7"}}, "[]", "[]"},
		{journey.MailboxDelivered, mailA, "E", []journey.Attr{{Key: "content", Value: "7"}}, "[]", "[]"},
		{journey.MailboxFetched, mailB, "", []journey.Attr{{Key: "content", Value: "7"}}, "[]", "[C]"},
		{journey.MailboxFetched, mailB, "", []journey.Attr{{Key: "content", Value: "8"}}, "[]", "[]"},
	} {
		s := st.step(journey.Event{Kind: c.kind, Node: c.node, Message: c.id, Attrs: c.attrs})
		if got := fmt.Sprint(s.Same, s.For); got != c.same+" "+c.forID {
			t.Errorf("%d: %s of %s: %s, want %s %s", i, c.kind, c.id, got, c.same, c.forID)
		}
	}
	line := journey.Event{Kind: journey.DeliverCommand, Node: mailA, Peer: mailB, Message: "A", Text: "RCPT TO:<nobody@umass.edu> NOTIFY=FAILURE"}
	st.step(line)
	check := journey.Event{Kind: journey.CheckFailed, Node: mailB, Peer: mailA, Message: "F", Attrs: []journey.Attr{{Key: "input", Value: "<nobody@umass.edu>"}}}
	if s := st.step(check); fmt.Sprint(s.For) != "[A]" {
		t.Errorf("what the next server refuses is for %v", s.For)
	}
	check.Peer = "192.0.2.1"
	if s := st.step(check); s.For != nil {
		t.Errorf("what it refuses of a stranger is for %v", s.For)
	}
	s := st.step(journey.Event{Kind: journey.SMTPReply, Node: mailA, Text: "250 2.0.0 Message accepted for delivery, id A",
		Attrs: []journey.Attr{{Key: "verb", Value: "DATA"}, {Key: "code", Value: "250"}}})
	if fmt.Sprint(s.For) != "[A]" {
		t.Errorf("the reply is for %v", s.For)
	}
	for i := range 2 * maxLetters {
		remember(st.letters.named, fmt.Sprint(i), "A")
	}
	if n := len(st.letters.named); n > maxLetters {
		t.Errorf("%d are remembered", n)
	}
}
