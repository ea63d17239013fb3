package provenance

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// origin says which part of the system writes a field.
type origin uint8

const (
	author   origin = iota // the author's program, or the server that he submits to
	server                 // the server by whose Received it stands
	delivery               // the server that put it into the mailbox
	lists                  // a mailing list
	anyone                 // it is not known
)

// about are the fields that are known, by their names in small letters.
var about = map[string]struct {
	by  origin
	why string
}{
	"return-path":  {delivery, "the sender of the envelope, where reports about this message went (RFC 5321 section 4.4)"},
	"delivered-to": {delivery, "whose mailbox it was put into, and a guard against loops"}, "x-original-to": {delivery, "the recipient before aliases (Postfix)"},
	"envelope-to": {delivery, "the recipient of the envelope (Exim)"}, "delivery-date": {delivery, "when it was put into the mailbox (Exim)"},
	"received":               {server, "the trace of one server: from whom it had the message, how, and when (RFC 5321 section 4.4)"},
	"x-received":             {server, "a trace within one organisation (Gmail)"},
	"received-spf":           {server, "whether the sender's domain lets that address send (RFC 7208 section 9.1)"},
	"authentication-results": {server, "what the server found out about SPF, DKIM and DMARC (RFC 8601); one from elsewhere proves nothing"},
	"dkim-signature":         {server, "a domain's signature over the body and the fields it names (RFC 6376)"}, "domainkey-signature": {server, "the forerunner of DKIM (RFC 4870)"},
	"arc-seal": {server, "seals what servers before found, for when a list breaks signatures (RFC 8617)"}, "arc-message-signature": {server, "a signature of a server that passed it on (RFC 8617)"},
	"arc-authentication-results": {server, "what a server that passed it on had found (RFC 8617)"},
	"x-google-dkim-signature":    {server, "a signature for Google's own use"}, "x-gm-message-state": {server, "notes of Gmail to itself"}, "x-google-smtp-source": {server, "notes of Gmail to itself"},
	"x-spam-status": {server, "the verdict of a spam filter"}, "x-spam-score": {server, "the points a spam filter gave"}, "x-spam-level": {server, "the points a spam filter gave"},
	"x-spam-flag": {server, "a spam filter took it for spam, or not"}, "x-spam-checker-version": {server, "which spam filter looked at it"}, "x-virus-scanned": {server, "which virus scanner looked at it"},
	"x-originating-ip": {server, "the address that the author submitted from"}, "x-forwarded-to": {server, "where it was forwarded to"}, "x-forwarded-for": {server, "by whom it was forwarded, and to whom"},
	"x-ms-exchange-organization-scl": {server, "Exchange's points for spam"}, "x-forefront-antispam-report": {server, "what Microsoft's filter found"},
	"auto-submitted": {author, "a program sent it, not a person: no automatic answers, please (RFC 3834)"},
	"from":           {author, "the author, as he says (RFC 5322 section 3.6.2); anybody can write anything here"}, "sender": {author, "who sent it for the author (RFC 5322 section 3.6.2)"},
	"reply-to": {author, "where answers should go"}, "to": {author, "who it is for; the envelope decides who gets it"}, "cc": {author, "who else gets it"}, "bcc": {author, "recipients whom the others should not see: it should not be here"},
	"subject": {author, "what it is about"}, "date": {author, "when it was written, by the author's clock (RFC 5322 section 3.6.1)"},
	"message-id": {author, "names this message for ever (RFC 5322 section 3.6.4)"}, "in-reply-to": {author, "which message it answers"}, "references": {author, "the messages of the conversation before it"},
	"mime-version": {author, "the message has parts or types (RFC 2045)"}, "content-type": {author, "what kind of thing the body is (RFC 2045 section 5)"}, "content-transfer-encoding": {author, "how the body is written in plain characters (RFC 2045 section 6)"},
	"content-language": {author, "the language it is in"}, "content-disposition": {author, "whether it is shown or kept as a file (RFC 2183)"},
	"user-agent": {author, "the program it was written with"}, "x-mailer": {author, "the program it was written with"}, "x-priority": {author, "how urgent the author finds it"}, "importance": {author, "how urgent the author finds it"},
	"disposition-notification-to": {author, "asks to be told when it is read (RFC 8098)"}, "organization": {author, "where the author works"},
	"resent-from": {author, "who sent it once more (RFC 5322 section 3.6.6)"}, "resent-date": {author, "when it was sent once more"}, "resent-to": {author, "to whom it was sent once more"}, "resent-message-id": {author, "names the sending once more"},
	"list-id": {lists, "names the list (RFC 2919)"}, "list-unsubscribe": {lists, "how to leave the list (RFC 2369)"}, "list-unsubscribe-post": {lists, "it can be left with one click (RFC 8058)"},
	"list-post": {lists, "how to write to the list"}, "list-help": {lists, "how the list is used"}, "list-subscribe": {lists, "how to join the list"}, "list-archive": {lists, "where older messages are"}, "list-owner": {lists, "who runs the list"},
	"precedence": {lists, "it is mass mail: no automatic answers, please"}, "x-mailman-version": {lists, "the list's program"}, "x-beenthere": {lists, "a guard against loops (Mailman)"}, "errors-to": {lists, "where errors were reported to, long ago"},
}

// attribute says who wrote a field, when and why.
func (x *Explanation) attribute(f *Field) {
	lower := strings.ToLower(f.Name)
	known, ok := about[lower]
	if !ok {
		known.by, known.why = anyone, "it is not of any standard that is known here"
		if f.hop > 0 {
			known.by = server
		}
	}
	f.Why = known.why
	top := len(x.Path)
	switch {
	case known.by == delivery && f.hop == top && top > 0:
		x.by(f, top)
	case known.by == server && f.hop > 0:
		x.by(f, f.hop)
	case known.by == server, known.by == delivery:
		f.Who = "the author's side, or forged: it stands below all traces of servers"
	case known.by == lists && f.hop > 0:
		x.by(f, f.hop)
		f.Who = "a mailing list, at or after " + strings.TrimSuffix(f.Who, " (not to be relied on)")
	case known.by == lists:
		f.Who = "a mailing list, or the author's program"
	case known.by == anyone:
		f.Who = "the author's program, or a server that wrote no trace"
	default:
		f.Who = "the author's program"
		if lower == "message-id" || lower == "date" {
			f.Who += ", or the server that it submitted to"
		}
	}
	if lower == "date" || lower == "resent-date" || lower == "delivery-date" {
		f.When = parseDate(f.Value)
	}
}

// by says that the server of a hop wrote a field.
func (x *Explanation) by(f *Field, number int) {
	h := &x.Path[number-1]
	f.When = h.Time
	f.Who = h.By
	if f.Who == "" {
		f.Who = "the server of hop " + fmt.Sprint(number)
	}
	if h.Software != "" {
		f.Who += " (" + h.Software + ")"
	}
	if !h.Trusted {
		f.Who += " (not to be relied on)"
	}
}

// shown is a text of a stranger as it may be shown: without control characters, and
// cut.
func shown(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit] + "..."
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "?")
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < ' ', r >= 0x7f && r < 0xa0, r == 0x2028, r == 0x2029, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return '?'
		}
		return r
	}, s)
}

// Print writes an explanation for people.
func (x *Explanation) Print(w io.Writer) error {
	var b strings.Builder
	if len(x.Path) == 0 {
		b.WriteString("No Received field: the message has passed no server, or its traces were removed.\n")
	} else {
		b.WriteString("Path, the oldest first:\n")
	}
	for i := range x.Path {
		x.Path[i].print(&b, x.Slowest > 0 && x.Slowest == x.Path[i].Number && x.Path[i].Delay > 0)
	}
	if x.Total > 0 {
		fmt.Fprintf(&b, "In all: %s\n", time.Duration(x.Total))
	}
	if len(x.Notes) > 0 {
		b.WriteString("\nWhat is odd:\n")
	}
	for _, n := range x.Notes {
		fmt.Fprintf(&b, "  ! %s\n", n)
	}
	b.WriteString("\nFields, as they stand:\n")
	for _, f := range x.Fields {
		fmt.Fprintf(&b, "  %s: %s\n", f.Name, shown(f.Value, 100))
		fmt.Fprintf(&b, "      by    %s\n", f.Who)
		if !f.When.IsZero() {
			fmt.Fprintf(&b, "      when  %s\n", f.When.Format(time.RFC1123Z))
		}
		fmt.Fprintf(&b, "      why   %s\n", f.Why)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (h *Hop) print(b *strings.Builder, slowest bool) {
	from := h.From
	switch {
	case from == "" && h.Address == "":
		from = "itself"
	case h.Address != "" && h.Address != from:
		from = strings.TrimSpace(from + " [" + h.Address + "]")
	}
	fmt.Fprintf(b, "%3d  %s -> %s\n", h.Number, from, known(h.By))
	var facts []string
	for _, f := range []string{h.With, h.TLS, h.Software} {
		if f != "" {
			facts = append(facts, f)
		}
	}
	if h.For != "" {
		facts = append(facts, "for "+h.For)
	}
	if h.ID != "" {
		facts = append(facts, "id "+h.ID)
	}
	if len(facts) > 0 {
		fmt.Fprintf(b, "     %s\n", strings.Join(facts, ", "))
	}
	if !h.Time.IsZero() {
		fmt.Fprintf(b, "     %s", h.Time.Format(time.RFC1123Z))
		if h.Delay > 0 {
			fmt.Fprintf(b, ", %s after the hop before", time.Duration(h.Delay))
		}
		if slowest {
			b.WriteString(": the slowest")
		}
		b.WriteString("\n")
	}
	if !h.Trusted {
		b.WriteString("     not to be relied on: a server before yours wrote it, or the sender\n")
	}
	for _, n := range h.Notes {
		fmt.Fprintf(b, "     ! %s\n", n)
	}
}
