package imap

import (
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"postrider/imap/syntax"
	"postrider/mailstore/message"
)

// What follows writes ENVELOPE and BODYSTRUCTURE of messages whose record does
// not hold them, since they are unusually long or stand behind an unusual prefix.
// It says what a record would (package message).

// rfc5322Date is the form of a Date field (RFC 5322 section 3.3).
const rfc5322Date = "Mon, 02 Jan 2006 15:04:05 -0700"

// appendEnvelope appends an ENVELOPE (RFC 9051 section 7.5.2); date is the Date
// field as written, "" where that is not at hand.
func appendEnvelope(b []byte, e *imap.Envelope, date string) []byte {
	if date == "" && !e.Date.IsZero() {
		date = e.Date.Format(rfc5322Date)
	}
	sender, replyTo := e.Sender, e.ReplyTo
	if len(sender) == 0 {
		sender = e.From
	}
	if len(replyTo) == 0 {
		replyTo = e.From
	}
	b = append(b, '(')
	b = syntax.AppendNString(b, date)
	b = append(b, ' ')
	b = message.AppendWords(b, e.Subject)
	for _, list := range [][]imap.Address{e.From, sender, replyTo, e.To, e.Cc, e.Bcc} {
		b = append(b, ' ')
		b = message.AppendAddresses(b, list)
	}
	b = append(b, ' ')
	b = appendIDs(b, strings.Join(e.InReplyTo, "> <"))
	b = append(b, ' ')
	b = appendIDs(b, e.MessageID)
	return append(b, ')')
}

func appendIDs(b []byte, ids string) []byte {
	if ids == "" {
		return append(b, "NIL"...)
	}
	return syntax.AppendString(b, "<"+ids+">")
}

// appendStructure appends a BODYSTRUCTURE, or a BODY, which has no extension
// data.
func appendStructure(b []byte, s imap.BodyStructure, extended bool) []byte {
	b = append(b, '(')
	switch s := s.(type) {
	case *imap.BodyStructureMultiPart:
		for _, child := range s.Children {
			b = appendStructure(b, child, extended)
		}
		b = append(b, ' ')
		b = syntax.AppendString(b, s.Subtype)
		if e := s.Extended; extended && e != nil {
			b = append(b, ' ')
			b = appendParams(b, e.Params)
			b = appendExtension(b, e.Disposition, e.Language, e.Location)
		}
	case *imap.BodyStructureSinglePart:
		b = appendSingle(b, s, extended)
	}
	return append(b, ')')
}

func appendSingle(b []byte, s *imap.BodyStructureSinglePart, extended bool) []byte {
	b = syntax.AppendString(b, s.Type)
	b = append(b, ' ')
	b = syntax.AppendString(b, s.Subtype)
	b = append(b, ' ')
	b = appendParams(b, s.Params)
	b = append(b, ' ')
	b = syntax.AppendNString(b, s.ID)
	b = append(b, ' ')
	b = syntax.AppendNString(b, s.Description)
	b = append(b, ' ')
	b = syntax.AppendString(b, s.Encoding)
	b = append(b, ' ')
	b = syntax.AppendNumber(b, min(int64(s.Size), math.MaxUint32))
	switch {
	case s.MessageRFC822 != nil:
		b = append(b, ' ')
		b = appendEnvelope(b, s.MessageRFC822.Envelope, "")
		b = append(b, ' ')
		b = appendStructure(b, s.MessageRFC822.BodyStructure, extended)
		b = append(b, ' ')
		b = syntax.AppendNumber(b, s.MessageRFC822.NumLines)
	case s.Text != nil:
		b = append(b, ' ')
		b = syntax.AppendNumber(b, s.Text.NumLines)
	}
	if e := s.Extended; extended && e != nil {
		b = append(b, " NIL"...) // MD5
		b = appendExtension(b, e.Disposition, e.Language, e.Location)
	}
	return b
}

func appendExtension(b []byte, d *imap.BodyStructureDisposition, language []string, location string) []byte {
	b = append(b, ' ')
	if d == nil {
		b = append(b, "NIL"...)
	} else {
		b = append(b, '(')
		b = syntax.AppendString(b, d.Value)
		b = append(b, ' ')
		b = appendParams(b, d.Params)
		b = append(b, ')')
	}
	b = append(b, ' ')
	if len(language) == 0 {
		b = append(b, "NIL"...)
	} else {
		b = append(b, '(')
		for i, tag := range language {
			if i > 0 {
				b = append(b, ' ')
			}
			b = syntax.AppendString(b, tag)
		}
		b = append(b, ')')
	}
	b = append(b, ' ')
	return syntax.AppendNString(b, location)
}

func appendParams(b []byte, params map[string]string) []byte {
	if len(params) == 0 {
		return append(b, "NIL"...)
	}
	b = append(b, '(')
	for i, name := range slices.Sorted(maps.Keys(params)) {
		if i > 0 {
			b = append(b, ' ')
		}
		b = syntax.AppendString(b, name)
		b = append(b, ' ')
		b = syntax.AppendString(b, params[name])
	}
	return append(b, ')')
}
