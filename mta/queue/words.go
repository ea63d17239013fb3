package queue

import (
	"fmt"
	"strings"
	"time"
)

// This file has what reports say to people.

type sayFunc func(format string, args ...any)

// explain writes the text of a report.
func (w *writer) explain(say sayFunc, r *reportOf, o *original) {
	say("This is the mail system of %s.", w.hostname)
	say("")
	for _, s := range []struct {
		action    action
		one, more string
	}{
		{failed, "Your message could not be delivered to this recipient.\r\nIt will not be tried again.",
			"Your message could not be delivered to these recipients.\r\nIt will not be tried again."},
		{delayed, "Your message could not be delivered yet to this recipient.\r\nYou need not do anything: it will be tried again.",
			"Your message could not be delivered yet to these recipients.\r\nYou need not do anything: it will be tried again."},
		{relayed, "Your message was passed on to the mail server of this recipient. That\r\nserver does not report what becomes of it.",
			"Your message was passed on to the mail servers of these recipients. Those\r\nservers do not report what becomes of it."},
		{expanded, "Your message was delivered to this address, which stands for several\r\nothers, and is on its way to them.",
			"Your message was delivered to these addresses, each of which stands for\r\nseveral others, and is on its way to them."},
		{delivered, "Your message was delivered into the mailbox of this recipient.",
			"Your message was delivered into the mailboxes of these recipients."},
	} {
		w.section(say, r, s.action, s.one, s.more)
	}
	w.about(say, r, o)
	g := gravest(r)
	if g == failed {
		say("")
		say("If you did not send this message, somebody put your address into it, and")
		say("you may delete this report.")
	}
	if g == failed || g == delayed {
		say("")
		say("If you do not know what to do, send this report with its attachments to")
		say("%s, where a person reads it.", w.postmaster)
	}
}

// section is about the recipients with one action.
func (w *writer) section(say sayFunc, r *reportOf, a action, one, more string) {
	var rs []*reported
	for i := range r.recipients {
		if r.recipients[i].action == a {
			rs = append(rs, &r.recipients[i])
		}
	}
	if len(rs) == 0 {
		return
	}
	if len(rs) == 1 {
		more = one
	}
	say("%s", more)
	say("")
	for _, t := range rs {
		say("    %s", oneLine(t.recipient.String(), maxField))
		say("")
		t.why(say, r)
	}
}

// why says what happened to one recipient and what can be done about it.
func (t *reported) why(say sayFunc, r *reportOf) {
	switch t.action {
	case failed, delayed:
	default:
		return
	}
	peer := oneLine(t.host, maxField)
	if t.addr.IsValid() {
		peer += " [" + t.addr.Addr().String() + "]"
	}
	intro := "The reason is:"
	switch {
	case t.expired && t.host != "":
		intro = fmt.Sprintf("It was tried %d times in %s. In the end the mail server %s answered:", t.attempts, period(t.last.Sub(r.item.Accepted)), peer)
	case t.expired:
		intro = fmt.Sprintf("It was tried %d times in %s. In the end the reason was:", t.attempts, period(t.last.Sub(r.item.Accepted)))
	case t.action == delayed && t.host != "":
		intro = fmt.Sprintf("The mail server %s does not take it for now. It answered:", peer)
	case t.action == delayed:
		intro = "The reason so far is:"
	case t.host != "":
		intro = fmt.Sprintf("The mail server %s refused it. It answered:", peer)
	}
	wrap(say, "    ", intro)
	say("")
	wrap(say, "        ", oneLine(t.reply.Error(), maxReplyText))
	say("")
	if t.action == delayed {
		wrap(say, "    ", "It will be tried until "+date(r.local(t.until))+". You will hear of it when it fails for good.")
	} else {
		wrap(say, "    ", "What you can do: "+advice(t))
	}
	say("")
}

// advice tells the sender what to do, by the status (RFC 3463 section 3).
func advice(t *reported) string {
	domain := t.recipient.Domain
	if domain == "" {
		domain = "the address"
	}
	switch code := statusCode(t); {
	case t.forwarded && (strings.HasPrefix(code, "5.1.") || strings.HasPrefix(code, "4.4.") || code == "5.4.4"):
		return "The address is right, but mail for it goes on to another server, and there it failed. Tell the recipient by other means: only they can correct that."
	case t.expired && t.host == "" && strings.HasPrefix(code, "4.4."):
		return "The mail server of " + domain + " could not be reached for a long time. Check the part of the address after the @ for a typing error. If it is right, send the message again later, or reach the recipient by other means."
	case t.expired && code == "4.2.2", code == "5.2.2":
		return "The recipient's mailbox is full. Send the message again when there is room in it, or tell the recipient by other means."
	case t.expired:
		return "The other server put the message off again and again. Its answer above may say why. Send the message again later, or reach the recipient by other means."
	case code == "5.1.2" || code == "5.1.10" || code == "5.4.4":
		return "Check the part of the address after the @ for a typing error: " + domain + " takes no mail."
	case code == "5.1.7" || code == "5.1.8":
		return "The other server does not accept your own address as the sender. Check how your mail program is set up."
	case strings.HasPrefix(code, "5.1."):
		return "Check the address for typing errors, and ask the recipient by other means whether it is still in use."
	case code == "5.2.3" || code == "5.3.4":
		return "The message is too large for the other server. Send less at a time, or put large files elsewhere and send a link."
	case strings.HasPrefix(code, "5.2."):
		return "The recipient's mailbox takes no mail now. Tell the recipient by other means."
	case code == "5.4.6":
		return "The message went in a circle. Only those who run the mail servers can correct that: let them know."
	case code == "5.6.7":
		return "The other server cannot handle addresses with letters beyond the Latin alphabet. Ask the recipient for an address without them, or use one yourself."
	case strings.HasPrefix(code, "5.6."):
		return "The other server cannot handle this kind of content. Send it in another form, such as plain text."
	case strings.HasPrefix(code, "5.7."):
		return "The other server does not allow this message. Its answer above says why, and only those who run it can change that. Reach the recipient by other means."
	}
	return "The answer above says why. Correct what it names and send the message again, or reach the recipient by other means."
}

// about says which message it is.
func (w *writer) about(say sayFunc, r *reportOf, o *original) {
	say("About the message:")
	say("")
	if o.subject != "" {
		wrap(say, "    ", "Subject: "+o.subject)
	}
	if o.date != "" {
		say("    Date: %s", o.date)
	}
	say("    Received: %s", date(r.local(r.item.Accepted)))
	say("    Known as: %s", r.item.Envelope)
}

// period says a time roughly, as people do.
func period(d time.Duration) string {
	n, unit := int(d.Round(time.Second)/time.Second), "second"
	switch {
	case d >= 36*time.Hour:
		n, unit = int((d+12*time.Hour)/(24*time.Hour)), "day"
	case d >= 90*time.Minute:
		n, unit = int((d+30*time.Minute)/time.Hour), "hour"
	case d >= 90*time.Second:
		n, unit = int((d+30*time.Second)/time.Minute), "minute"
	}
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

// wrap says text in lines that are not too long, each indented.
func wrap(say sayFunc, indent, text string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(indent)+len(line)+1+len(word) > lineLength-4 {
			say("%s%s", indent, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		say("%s%s", indent, line)
	}
}
