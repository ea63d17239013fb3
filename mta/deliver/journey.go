package deliver

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"postrider/internal/journey"
)

// maxAsked bounds the commands whose replies are awaited; a group of pipelined
// commands is smaller.
const maxAsked = maxRcpts + 4

// serves says for which message the connection is used from now on; "" for none.
func (s *session) serves(ctx context.Context) { s.message = journey.ScopeOf(ctx).Message }

// record tells the journey what happened on the connection.
func (s *session) record(kind journey.Kind, attrs ...journey.Attr) {
	s.c.o.Journey.Record(journey.Event{Kind: kind, Message: s.message, Peer: s.peer, Attrs: attrs})
}

// saying records a command that is about to be sent, without its end. A line of a
// login that has no verb is masked as any word that is none.
func (s *session) saying(line []byte) {
	if !s.c.o.Journey.Wants(journey.DeliverCommand) {
		return
	}
	verb, _, _ := bytes.Cut(line, []byte(" "))
	text := journey.MaskCommand(string(line))
	s.ask(text[:min(len(verb), len(text))])
	s.c.o.Journey.Record(journey.Event{Kind: journey.DeliverCommand, Message: s.message, Peer: s.peer, Text: text,
		Attrs: []journey.Attr{{Key: "verb", Value: text[:min(len(verb), len(text))]}}})
}

// ask notes that a reply is awaited.
func (s *session) ask(verb string) {
	if len(s.asked) < maxAsked {
		s.asked = append(s.asked, verb)
	}
}

// heard records a line of a reply.
func (s *session) heard(line []byte, last bool) {
	if !s.c.o.Journey.Wants(journey.DeliverReply) {
		return
	}
	verb := ""
	if len(s.asked) > 0 {
		verb = s.asked[0]
		if last {
			s.asked = slices.Delete(s.asked, 0, 1)
		}
	}
	text := journey.MaskReply(string(line))
	if s.key.password != "" { // a peer may repeat it
		text = strings.ReplaceAll(text, s.key.password, journey.MaskedLine)
	}
	s.c.o.Journey.Record(journey.Event{Kind: journey.DeliverReply, Message: s.message, Peer: s.peer, Text: journey.Plain(text),
		Attrs: []journey.Attr{{Key: "verb", Value: verb}, {Key: "code", Value: text[:min(3, len(text))]}}})
}

// recordConnect tells of a try to connect that took until now.
func (c *Client) recordConnect(ctx context.Context, k key, began time.Time, local string, err error) {
	if !c.o.Journey.Wants(journey.DeliverConnect) {
		return
	}
	attrs := []journey.Attr{{Key: "host", Value: k.host}, {Key: "address", Value: k.addr.String()},
		{Key: "took", Value: c.o.Clock.Now().Sub(began).Round(10 * time.Microsecond).String()}}
	if err != nil {
		attrs = append(attrs, journey.Attr{Key: "error", Value: plainError(err)})
	} else {
		attrs = append(attrs, journey.Attr{Key: "local", Value: local})
	}
	c.o.Journey.Record(journey.Event{Kind: journey.DeliverConnect, Message: journey.ScopeOf(ctx).Message, Peer: k.String(), Attrs: attrs})
}

// recordContent tells that the message was sent, and that the dot is to be answered.
func (s *session) recordContent(octets int64) {
	s.ask(".")
	s.record(journey.DeliverContent, journey.Attr{Key: "octets", Value: strconv.FormatInt(octets, 10)})
}
