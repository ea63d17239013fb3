package message

import (
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/text/encoding/charmap"
)

// Envelope is the ENVELOPE of a message with this header. Subject and names
// keep their encoded words, as ENVELOPE has them.
func (h Header) Envelope() *imap.Envelope { return h.envelope(MaxAddresses) }

func (h Header) envelope(addresses int) *imap.Envelope {
	var env imap.Envelope
	list := func(v string) []imap.Address {
		l := parseAddresses(v, addresses)
		addresses = max(addresses-len(l), 0)
		return l
	}
	seen := make(map[string]bool)
	for f := range h.Fields() {
		name := strings.ToLower(f.Name)
		if seen[name] || !envelopeFields[name] {
			continue
		}
		seen[name] = true
		v := f.Value()
		switch name {
		case "date":
			env.Date, _ = ParseDate(v)
		case "subject":
			env.Subject = legible(v)
		case "from":
			env.From = list(v)
		case "sender":
			env.Sender = list(v)
		case "reply-to":
			env.ReplyTo = list(v)
		case "to":
			env.To = list(v)
		case "cc":
			env.Cc = list(v)
		case "bcc":
			env.Bcc = list(v)
		case "in-reply-to":
			if id := messageIDs(v); id != "" {
				env.InReplyTo = []string{id}
			}
		case "message-id":
			env.MessageID = messageIDs(v)
		}
	}
	return &env
}

var envelopeFields = map[string]bool{
	"date": true, "subject": true, "from": true, "sender": true, "reply-to": true,
	"to": true, "cc": true, "bcc": true, "in-reply-to": true, "message-id": true,
}

// messageIDs returns the field from behind its first "<" to its last ">": one id as
// go-imap's type has it, and a list of several so that it goes out as it stands.
func messageIDs(v string) string {
	v = legible(v)
	i, j := strings.IndexByte(v, '<'), strings.LastIndexByte(v, '>')
	if i < 0 || j < i {
		return strings.Trim(v, "<> \t")
	}
	return v[i+1 : j]
}

// legible makes UTF-8 of 8-bit text that is none, by the usual guess.
func legible(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	out, err := charmap.Windows1252.NewDecoder().String(s)
	if err != nil {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return out
}
