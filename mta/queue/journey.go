package queue

import (
	"fmt"
	"strconv"
	"time"

	"postrider/internal/journey"
	"postrider/mailstore"
	"postrider/mta"
)

// landing is a copy of a letter that was put into a mailbox.
type landing struct {
	account string // its address
	mailbox string
	uid     mailstore.UID
	body    mailstore.BodyID
}

// maxNames bounds the addresses of accounts that are remembered for the journey.
const maxNames = 10_000

// name is the address of an account. It is called within Updates.
func (q *Queue) name(tx *mailstore.Tx, id mailstore.AccountID) string {
	q.mu.Lock()
	name, ok := q.names[id]
	q.mu.Unlock()
	if ok {
		return name
	}
	a, err := tx.Account(id)
	if err != nil {
		return "account " + strconv.FormatInt(int64(id), 10)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.names == nil || len(q.names) >= maxNames {
		q.names = map[mailstore.AccountID]string{}
	}
	q.names[id] = a.Address // an account keeps it for life
	return a.Address
}

// recordLetters tells the journey what was committed: mailboxes that were reached,
// and reports.
func (q *Queue) recordLetters(letters []*letter) {
	for _, l := range letters {
		if l.void {
			continue
		}
		if l.about != nil {
			q.recordReport(l)
		}
		for _, at := range l.landed {
			q.o.Journey.Record(journey.Event{Kind: journey.MailboxDelivered, Message: l.item.Envelope, Attrs: []journey.Attr{
				{Key: "account", Value: at.account}, {Key: "mailbox", Value: at.mailbox},
				{Key: "uid", Value: strconv.FormatUint(uint64(at.uid), 10)}, {Key: "content", Value: journey.Content(int64(at.body))}}})
		}
	}
}

// recordReport tells of a report, in the journey of the message that it is about
// and in its own.
func (q *Queue) recordReport(l *letter) {
	r := l.about
	for i := range r.recipients {
		q.o.Journey.Record(journey.Event{Kind: journey.QueueBounce, Message: r.item.Envelope, Attrs: []journey.Attr{
			{Key: "to", Value: r.recipients[i].recipient.String()}, {Key: "action", Value: string(r.recipients[i].action)},
			{Key: "sender", Value: r.from.String()}, {Key: "bounce", Value: r.id}}})
	}
	q.o.Journey.Record(journey.Event{Kind: journey.MessageAccepted, Message: r.id, Time: l.item.Accepted, Text: "a report about message " + r.item.Envelope,
		Attrs: []journey.Attr{{Key: "from", Value: ""}, {Key: "to", Value: r.from.String()}, {Key: "about", Value: r.item.Envelope},
			{Key: "size", Value: strconv.FormatInt(l.item.Size, 10)}}})
}

// recordAttempt tells that a batch is tried.
func (q *Queue) recordAttempt(b *batch) {
	if !q.o.Journey.Wants(journey.QueueAttempt) {
		return
	}
	attrs := make([]journey.Attr, 0, 4)
	attrs = append(attrs, journey.Attr{Key: "attempt", Value: strconv.Itoa(b.entries[0].row.Attempts + 1)})
	for _, e := range b.entries[:min(len(b.entries), 16)] {
		attrs = append(attrs, journey.Attr{Key: "to", Value: e.row.Address})
	}
	q.o.Journey.Record(journey.Event{Kind: journey.QueueAttempt, Message: b.msg.item.Envelope, Attrs: attrs})
}

// recordVerdict tells what became of a recipient, and when and why it is tried
// again. The reply is v's on one line.
func (q *Queue) recordVerdict(v *verdict, reply string) {
	if !q.o.Journey.Wants(journey.QueueDelivered) {
		return
	}
	e := journey.Event{Kind: journey.QueueDelivered, Message: v.entry.msg.item.Envelope, Peer: v.outcome.Host, Attrs: []journey.Attr{
		{Key: "to", Value: v.row.Address}, {Key: "reply", Value: reply},
		{Key: "attempt", Value: strconv.Itoa(v.row.Attempts)}, {Key: "tls", Value: v.outcome.TLS}}}
	switch {
	case v.fate == kept:
		e.Kind = journey.QueueDeferred
		e.Attrs = append(e.Attrs, journey.Attr{Key: "next", Value: q.time.shown(v.row.Next).UTC().Format(time.RFC3339)},
			journey.Attr{Key: "why", Value: q.why(v)})
	case v.outcome.Reply.Success() && v.here:
		return // mailbox.delivered tells it
	case v.outcome.Reply.Success():
	default:
		e.Kind = journey.QueueFailed
		if v.report != nil && v.report.expired {
			e.Attrs = append(e.Attrs, journey.Attr{Key: "why", Value: "nothing was final, but the time is over (delivery.expire)"})
		}
	}
	q.o.Journey.Record(e)
}

// why says what the time of the next try comes from.
func (q *Queue) why(v *verdict) string {
	switch item, row := &v.entry.msg.item, &v.row; {
	case row.Held:
		return "it is on hold until somebody releases it"
	case v.suspended:
		return "not tried: no server of the domain answered just before; they are tried again then"
	case row.Next.Equal(item.Expires):
		return "its time is over then: that is the last try"
	case here(row.Domain):
		return fmt.Sprintf("room is looked for again %s after attempt %d", q.planHere.wait(row.Attempts), row.Attempts)
	case row.Next.Sub(q.now()) < q.plan.wait(row.Attempts)-time.Minute:
		return "its sender is to be told of the delay then, after another try"
	default:
		return fmt.Sprintf("the wait after attempt %d is %s (delivery.retry)", row.Attempts, q.plan.wait(row.Attempts))
	}
}

// recordWait tells that a message that is accepted waits for an account without
// room.
func (q *Queue) recordWait(id string, to mta.Address, next time.Time) {
	q.o.Journey.Record(journey.Event{Kind: journey.QueueDeferred, Message: id, Attrs: []journey.Attr{
		{Key: "to", Value: to.String()}, {Key: "reply", Value: fullReply(to).Error()}, {Key: "attempt", Value: "1"},
		{Key: "next", Value: q.time.shown(next).UTC().Format(time.RFC3339)},
		{Key: "why", Value: fmt.Sprintf("room is looked for again %s after attempt 1", q.planHere.wait(1))}}})
}

// recordChanges tells what a command did.
func (q *Queue) recordChanges(action string, list []Change) {
	for _, c := range list {
		if c.Recipients > 0 && c.Error == "" {
			q.o.Journey.Record(journey.Event{Kind: journey.QueueChanged, Message: c.ID,
				Text:  fmt.Sprintf("%s, by a command: %d recipients", action, c.Recipients),
				Attrs: []journey.Attr{{Key: "action", Value: action}}})
		}
	}
}
