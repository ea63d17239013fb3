package queue

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"postrider/mailstore"
	"postrider/mta"
)

// action is what became of a recipient, in the words of RFC 3464 section 2.3.3.
type action string

const (
	failed    action = "failed"
	delayed   action = "delayed"
	delivered action = "delivered"
	relayed   action = "relayed"
	expanded  action = "expanded"
)

// reported is what a report says of one recipient.
type reported struct {
	action    action
	recipient mta.Address // as it was when we accepted it
	orcpt     string      // as in a row
	notify    string      // as in a row
	reply     *mta.Reply
	host      string // who said it; "" for ourselves
	addr      netip.AddrPort
	remote    bool // a relay was tried
	forwarded bool // at another address, for which an alias stands
	last      time.Time
	until     time.Time // delayed: when we shall give up
	expired   bool      // failed: nothing was final but our patience
	attempts  int
}

// wants tells whether the sender wants to hear a of a recipient with these
// wishes (RFC 3461 section 5.2).
func wants(notify string, a action) bool {
	switch a {
	case failed:
		return notify == "" || hasNotify(notify, smtp.DSNNotifyFailure)
	case delayed:
		return notify == "" || hasNotify(notify, smtp.DSNNotifyDelayed)
	default:
		return hasNotify(notify, smtp.DSNNotifySuccess)
	}
}

// reportOf is what a report is made from.
type reportOf struct {
	id         string // of the report
	item       *mailstore.QueueItem
	from       mta.Address // whom it goes to
	recipients []reported
	open       func() (mailstore.Content, error)
	full       overQuota // accounts that have no room for it
	// wide: the way to the sender takes UTF-8 (RFC 6533 section 4.5).
	wide bool
	date time.Time
}

// local is t in the time zone of the report.
func (r *reportOf) local(t time.Time) time.Time { return t.In(r.date.Location()) }

// report composes the report to the sender of those recipients that the sender
// wants to hear of, as a letter to commit; nil when there is nothing to tell or
// nobody to tell it to. The letter's body is the caller's to release. An error
// was logged, and may pass.
func (q *Queue) report(ctx context.Context, r *reportOf, now time.Time) (*letter, error) {
	var tell []reported
	for i := range r.recipients {
		if wants(r.recipients[i].notify, r.recipients[i].action) {
			tell = append(tell, r.recipients[i])
		}
	}
	if len(tell) == 0 || r.from.IsZero() {
		return nil, nil
	}
	targets, err := q.o.Router.Recipient(ctx, mta.Client{Ours: true}, r.from)
	var reply *mta.Reply
	switch {
	case errors.As(err, &reply) && !reply.Temporary():
		q.o.Log.Warn("report dropped: its receiver does not exist", "id", r.item.Envelope, "to", r.item.From, "reply", reply.Error())
		return nil, nil
	case err != nil:
		q.o.Log.Error("report cannot be routed now", "id", r.item.Envelope, "to", r.item.From, "err", err)
		return nil, err
	}
	r.recipients = tell
	r.date = q.o.Clock.Now()
	r.id = mta.NewID(r.date, q.o.Random())
	l, err := q.compose(r, targets, now)
	if err != nil {
		q.o.Log.Error("report cannot be written now", "id", r.item.Envelope, "err", err)
		return nil, err
	}
	count(q.o.Metrics.Reports, 1)
	q.o.Log.Info("report", "id", r.id, "about", r.item.Envelope, "to", r.item.From, "action", string(tell[0].action), "recipients", len(tell))
	return l, nil
}

// compose writes the report and addresses it (RFC 3461 section 6.1: the null
// reverse-path, and no RET).
func (q *Queue) compose(r *reportOf, targets []mta.Target, now time.Time) (*letter, error) {
	l := &letter{
		prefix: returnPath(""),
		item: mailstore.QueueItem{
			Envelope: r.id,
			Accepted: r.date.Round(0).Truncate(time.Millisecond),
			Expires:  now.Add(q.o.Expire),
		},
	}
	s := q.sorter(l, now, r.full)
	for _, t := range targets {
		s.add(&mta.Recipient{Address: r.from, Targets: []mta.Target{t}})
	}
	r.wide = len(l.rows) == 0 || !r.from.ASCII()
	content, err := r.open()
	if err != nil {
		// A report without the original's header is better than none.
		q.o.Log.Error("message cannot be read for its report", "id", r.item.Envelope, "err", err)
		content = memContent{strings.NewReader(""), 0}
	}
	defer content.Close()
	w := q.o.Store.NewBody()
	defer w.Abort()
	form, err := q.write.report(w, r, content)
	if err != nil {
		return nil, err
	}
	l.item.BodyType = string(form.body)
	l.item.UTF8 = form.utf8
	l.item.Size = w.Size()
	if l.body, err = w.Commit(); err != nil {
		return nil, err
	}
	if len(l.rows) > 0 {
		q.keep(l)
	}
	l.about = r
	return l, nil
}
