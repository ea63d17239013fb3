package message

import (
	"net/mail"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/text/encoding/charmap"
)

// Envelope is the ENVELOPE of a message with this header. Subject and names
// keep their encoded words: go-imap's encoder passes ASCII on as it is, and
// encodes what is not.
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

// messageIDs returns what go-imap puts between "<" and ">": the field from its
// first "<" to its last ">", so that a list of several goes out as it stands.
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

// maxDate is the longest Date field that is looked at.
const maxDate = 128

// ParseDate reads a Date field (RFC 5322 section 3.3) with the obsolete forms
// and some that are only common.
func ParseDate(v string) (time.Time, error) {
	v = strings.TrimSpace(v)
	v = v[:min(len(v), maxDate)]
	t, err := mail.ParseDate(v)
	if err == nil {
		return sane(t), nil
	}
	if i := strings.IndexByte(v, '('); i > 0 {
		v = strings.TrimSpace(v[:i])
	}
	v = strings.Join(strings.Fields(v), " ")
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout, v); err == nil {
			return sane(t), nil
		}
	}
	return time.Time{}, err
}

// sane keeps dates that have four digits of year.
func sane(t time.Time) time.Time {
	if y := t.Year(); y < 1 || y > 9999 {
		return time.Time{}
	}
	return t
}

var dateLayouts = []string{
	"Mon, 2 Jan 2006 15:04:05",
	"Mon, 2 Jan 2006 15:04 -0700",
	"Mon, 2 Jan 2006 15.04.05 -0700",
	"Mon 2 Jan 2006 15:04:05 -0700",
	"Mon Jan 2 15:04:05 2006",
	"Mon Jan 2 15:04:05 MST 2006",
	"Mon Jan 2 15:04:05 2006 -0700",
	"Mon, Jan 2 2006 15:04:05 -0700",
	"2 Jan 2006 15:04:05",
	"2 January 2006 15:04:05 -0700",
	"Mon, 2 January 2006 15:04:05 -0700",
	"2006-01-02 15:04:05 -0700",
	"2006-01-02 15:04:05",
	time.RFC3339,
}
