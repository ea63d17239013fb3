package smtpd

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"postrider/internal/journey"
)

// checkJourney holds what the journey has of a transcript against the transcript:
// every reply that the client read, an event for each message that was accepted,
// and neither a password nor text of a message.
func (p *player) checkJourney(text string) {
	events := p.events.Recent(journey.Filter{Sessions: true})
	said := map[string]int{}
	accepted := 0
	for _, e := range events {
		switch e.Kind {
		case journey.SMTPReply:
			said[hideID(e.Text)]++
		case journey.MessageAccepted:
			accepted++
		}
		if e.Text == "" || e.Peer == "" || e.Session == "" {
			p.t.Errorf("an event lacks text, peer or session: %+v", e)
		}
	}
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "%q %q %q\n", e.Text, e.Attrs, e.Wire)
	}
	all := b.String()
	for _, secret := range secrets() {
		if strings.Contains(all, secret) {
			p.t.Errorf("the journey has the secret %s", secret)
		}
	}
	for n, line := range strings.Split(text, "\n") {
		word, arg, _ := strings.Cut(line, " ")
		switch {
		case word == "S:":
			want := journey.MaskReply(arg)
			if said[want]--; said[want] < 0 {
				p.t.Errorf("line %d: the journey does not have %q", n+1, want)
			}
		case word == "accepted":
			accepted--
		case word == "|" && len(arg) > 10 && !repeated.MatchString(arg) && strings.Contains(all, strings.Trim(fmt.Sprintf("%q", arg), `"`)):
			p.t.Errorf("line %d: the journey has text of a message: %s", n+1, arg)
		}
	}
	if accepted != 0 {
		p.t.Errorf("%d messages more were accepted, by the journey", accepted)
	}
}

// repeated are lines whose words are also said in the dialogue.
var repeated = regexp.MustCompile(`^(Received|Message-ID|From|To|Date|\t)|^\s*$`)

// secrets are the passwords of the transcripts, as they may be sent.
func secrets() []string {
	list := []string{"wonderland", "Wonderland", "wrong-password"}
	for _, s := range []string{"wonderland", "\x00alice@hamburger.edu\x00wonderland", "alice@hamburger.edu\x00alice@hamburger.edu\x00wonderland"} {
		list = append(list, base64.StdEncoding.EncodeToString([]byte(s)))
	}
	return list
}

// TestJourney: what is recorded of a message while nobody listens.
func TestJourney(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := "server mode=mx\n" +
			"S: 220 hamburger.edu ESMTP postrider\nehlo crepes.fr\nC: MAIL FROM:<alice@crepes.fr>\nC: RCPT TO:<bob@hamburger.edu>\n" +
			"C: RCPT TO:<nobody@hamburger.edu>\nC: DATA\nS: 250 2.1.0 alice@crepes.fr... Sender ok\n" +
			"S: 250 2.1.5 bob@hamburger.edu ... Recipient ok\nS: 550 5.1.1 There is no nobody here\n" +
			"S: 354 Enter mail, end with \".\" on a line by itself\n" +
			"C: Subject: Crepes\nC: Message-ID-Hash: x\nC: Message-id:\nC:  <1@crepes.fr> (mine)\nC: \nC: Do you like them?\nC: .\n" +
			"S: 250 2.0.0 Message accepted for delivery, id ID\naccepted <alice@crepes.fr> -> <bob@hamburger.edu>\n"
		p := newPlayer(t)
		p.run("TestJourney", text)
		p.stop()
		var got []string
		var id string
		for _, e := range p.events.Recent(journey.Filter{}) {
			got = append(got, string(e.Kind)+": "+e.Text)
			if id = e.Message; id == "" {
				t.Errorf("no message in %+v", e)
			}
		}
		want := []string{
			"check.passed: check sender <alice@crepes.fr>: anybody may give it here",
			"check.passed: check recipient <bob@hamburger.edu>: a mailbox here",
			"check.failed: check recipient <nobody@hamburger.edu>: refused: 550 5.1.1 There is no nobody here",
			"check.passed: check content 94 octets, 0 Received fields: line ends, size and number of hops are in order",
			"message.accepted: accepted from alice@crepes.fr by ESMTP (crepes.fr [127.0.0.1]) for bob@hamburger.edu, 94 octets",
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		found, err := p.events.Find(journey.Query{MessageID: "<1@crepes.fr>", To: "bob@hamburger.edu"})
		if err != nil || len(found.Events) != len(want) {
			t.Error(found, err)
		}
	})
}
