package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"time"

	"postrider/internal/journey"
	"postrider/mailstore"
	"postrider/mta"
)

// attempt tries to deliver one batch.
func (q *Queue) attempt(ctx context.Context, j *job) {
	b := j.batches[0]
	begun := q.now()
	ctx = journey.With(ctx, journey.Scope{Message: b.msg.item.Envelope})
	q.recordAttempt(b)
	t := &transaction{q: q, ctx: ctx, batch: b, settled: make([]bool, len(b.entries))}
	if here(j.dest.domain) {
		q.deliverHere(t)
		return
	}
	err := t.try(j.dest.domain)
	switch {
	case t.complete():
	case ctx.Err() != nil || t.broken:
		t.giveBack(ctx.Err() != nil)
	default:
		// The deliverer owes an outcome. Nothing is known, so nothing is final.
		q.o.Log.Error("attempt without an outcome", "id", b.msg.item.Envelope, "domain", j.dest.domain, "err", err)
		// An error is logged and the results kept by settle.
		_ = t.record(t.all(mta.Errorf(451, "4.3.0", "The attempt ended without a result")))
	}
	q.judge(j.dest, t, begun)
}

// try finds the hops and lets the deliverer speak to them. A panic there must
// not end the server, and again at each start: it is an attempt without outcome.
func (t *transaction) try(domain string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	hops, err := t.q.o.Router.Hops(t.ctx, domain)
	switch {
	case err == nil:
		return t.q.o.Deliverer.Deliver(t.ctx, t.delivery(hops))
	case t.ctx.Err() == nil:
		return t.record(t.all(routeReply(err)))
	}
	return err
}

// routeReply is what an error of Router.Hops means.
func routeReply(err error) *mta.Reply {
	var reply *mta.Reply
	if errors.As(err, &reply) {
		return reply
	}
	return mta.Errorf(451, "4.4.3", "The route to the domain could not be found out")
}

// transaction is a batch in an attempt.
type transaction struct {
	q       *Queue
	ctx     context.Context
	batch   *batch
	settled []bool
	broken  bool // an outcome could not be written
	// spoke: a peer answered; took: it took the message for somebody; busy: it
	// said that it has too much to do. silence is our word where none answered,
	// lost where a connection broke.
	spoke, took, busy bool
	silence, lost     *mta.Reply
}

func (t *transaction) delivery(hops []mta.Hop) *mta.Delivery {
	msg := t.batch.msg
	d := &mta.Delivery{
		ID:      msg.item.Envelope,
		From:    msg.from,
		Options: msg.options,
		To:      make([]mta.DeliveryRecipient, len(t.batch.entries)),
		Hops:    hops,
		Open:    func() (mta.Content, error) { return t.q.open(t.ctx, msg) },
		Partial: t.record,
		Record:  t.record,
	}
	for i, e := range t.batch.entries {
		d.To[i] = mta.DeliveryRecipient{Address: e.to, Options: rcptOptions(&e.row)}
	}
	return d
}

// open opens the content of a message.
func (q *Queue) open(ctx context.Context, msg *parcel) (mailstore.Content, error) {
	if msg.body != nil {
		return memContent{bytes.NewReader(msg.body), int64(len(msg.body))}, nil
	}
	return q.o.Store.OpenBody(ctx, msg.item.Body)
}

// all is the same outcome for every recipient.
func (t *transaction) all(reply *mta.Reply) []mta.Outcome {
	out := make([]mta.Outcome, len(t.batch.entries))
	for i := range out {
		out[i].Reply = reply
	}
	return out
}

// record settles the recipients whose outcome is known and not yet settled.
func (t *transaction) record(out []mta.Outcome) error {
	var results []result
	for i, e := range t.batch.entries {
		if i >= len(out) || out[i].Reply == nil || t.settled[i] {
			continue
		}
		t.settled[i] = true
		results = append(results, result{entry: e, outcome: out[i]})
		t.note(&out[i])
	}
	if len(results) == 0 {
		return nil
	}
	err := t.q.settle(t.ctx, results)
	if err != nil {
		t.broken = true
	}
	return err
}

func (t *transaction) note(o *mta.Outcome) {
	switch {
	case o.Reply.Success():
		t.spoke, t.took = true, true
	case o.Host != "":
		t.spoke = true
		t.busy = t.busy || busy(o.Reply)
	case silent(o.Reply):
		t.silence = o.Reply
	case o.Reply.Temporary() && o.Reply.Status == "4.4.2":
		t.lost = o.Reply
	}
}

// busy tells whether a peer wants fewer connections.
func busy(r *mta.Reply) bool {
	return r.Code == 421 || r.Temporary() && (r.Status == "4.3.2" || r.Status == "4.4.5")
}

// silent tells whether a reply of our own says that no host of the domain could
// be reached.
func silent(r *mta.Reply) bool {
	switch r.Status {
	case "4.4.1", "4.4.3", "4.4.4":
		return r.Temporary()
	}
	return false
}

func (t *transaction) complete() bool {
	for _, s := range t.settled {
		if !s {
			return false
		}
	}
	return true
}

// giveBack ends an attempt for recipients of which nothing is known. When Run
// ends they leave memory: they are in the store as they were.
func (t *transaction) giveBack(ending bool) {
	now := t.q.now()
	t.q.mu.Lock()
	defer t.q.mu.Unlock()
	for i, e := range t.batch.entries {
		switch {
		case t.settled[i]:
		case ending:
			t.q.leave(e)
			t.q.reread()
		default:
			e.row.Next = now.Add(t.q.planOf(e.row.Domain).wait(1))
			t.q.place(e, now)
		}
	}
	t.q.nudgeLocked()
}

// judge draws from an attempt what it tells of the destination.
func (q *Queue) judge(d *destination, t *transaction, begun time.Time) {
	now := q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.adapt(d, t.busy && !t.took, t.took)
	switch {
	case t.spoke:
		if d.failures > 0 {
			q.o.Log.Info("domain answers again", "domain", d.domain)
			q.recovered = append(q.recovered, d.domain)
			q.nudge()
		}
		d.failures, d.until, d.reply, d.lost = 0, time.Time{}, nil, 0
	case t.lost != nil && t.silence == nil:
		// It may be the fault of the message; several in a row are not.
		if d.lost++; d.lost >= maxLost {
			q.suspendLocked(d, t.lost, begun, now)
		}
	case t.silence != nil:
		q.suspendLocked(d, t.silence, begun, now)
	}
}

// maxLost is how many attempts in a row may lose their connection before the
// domain counts as one that does not answer.
const maxLost = 3

// suspendLocked leaves a destination alone for a while, after an attempt that
// began at the given time. One that began before an earlier failure tells
// nothing new.
func (q *Queue) suspendLocked(d *destination, why *mta.Reply, begun, now time.Time) {
	if !begun.After(d.failed) {
		return
	}
	d.failures++
	d.failed, d.reply = now, why
	d.until = now.Add(min(q.plan.wait(d.failures), maxSuspend))
	q.o.Log.Info("domain does not answer", "domain", d.domain, "failures", d.failures,
		"until", q.time.shown(d.until), "reply", why.Error())
}

// putOff counts the recipients of a suspended destination as tried.
func (q *Queue) putOff(ctx context.Context, j *job) {
	var results []result
	for _, b := range j.batches {
		for _, e := range b.entries {
			results = append(results, result{entry: e, outcome: mta.Outcome{Reply: j.reply}, suspended: true, failed: j.failed})
		}
	}
	if j.probe {
		results[0].probe = j.until
	}
	// An error is logged and the results kept by settle.
	_ = q.settle(ctx, results)
}

// result is an outcome that is to be written.
type result struct {
	entry   *entry
	outcome mta.Outcome
	// here: the outcome is that of a delivery into an account, which is made when
	// the result is written.
	here bool
	// suspended: nothing was tried, the domain did not answer at the time failed.
	suspended bool
	failed    time.Time
	// probe is when to try it in any case; the zero time leaves that to its
	// schedule.
	probe time.Time
}

// fate is what a result comes to.
type fate int8

const (
	kept fate = iota // the row is rewritten
	ended
)

// verdict is a result with what is to be written for it.
type verdict struct {
	result
	fate   fate
	row    mailstore.QueueRecipient // when kept
	report *reported                // what the sender hears; nil for nothing
	letter *letter                  // that delivers; nil where a peer took it, or nobody
	final  bool                     // failed for good
}

// decide finds what a result comes to. It reads and changes nothing.
func (q *Queue) decide(r result, now time.Time) verdict {
	e, reply := r.entry, r.outcome.Reply
	v := verdict{result: r, row: e.row}
	row := &v.row
	row.Attempts++
	if reply.Success() && (r.outcome.DSN || !wants(e.row.Notify, delivered)) {
		v.fate = ended
		return v
	}
	item := &e.msg.item
	told := &reported{
		recipient: storedAddress(e.row.Original), orcpt: e.row.ORCPT, notify: e.row.Notify, remote: true,
		forwarded: e.row.Original != e.row.Address && !r.here,
		reply:     reply, host: r.outcome.Host, addr: r.outcome.Addr, last: q.o.Clock.Now(), attempts: row.Attempts,
	}
	if reply.Success() {
		v.fate, v.report = ended, told
		told.action = relayed
		if r.here {
			told.action, told.remote = delivered, false
		}
		return v
	}
	row.Last = told.last.Round(0).Truncate(time.Millisecond)
	row.Reply, row.Host = oneLine(reply.Error(), maxReplyText), r.outcome.Host
	plan := q.planOf(row.Domain)
	over := plan.expired(now, item.Expires, row.Attempts)
	if r.suspended && over && r.failed.Before(item.Expires) {
		// Wait for an attempt that is made after the time was over.
		r.probe = now.Add(plan.wait(1)).Truncate(time.Millisecond)
	}
	if !r.probe.IsZero() {
		row.Attempts--
		row.Next = r.probe
		return v
	}
	told.expired = over && reply.Temporary()
	if over || !reply.Temporary() {
		v.fate, v.final = ended, true
		told.action = failed
		if r.here {
			told.reply = given(reply)
		}
		v.report = told
		return v
	}
	mayTell := !row.Delayed && wants(row.Notify, delayed) && item.From != ""
	if mayTell && plan.late(now, item.Accepted, row.Attempts) {
		told.action, told.until = delayed, q.time.shown(item.Expires)
		v.report = told
		row.Delayed, mayTell = true, false
	}
	row.Next = plan.next(now, item, row.Attempts, mayTell)
	return v
}

// settle makes results durable, reports included, and moves their entries on. On
// an error the results are kept for another try, since what a peer took must not
// be sent again, and the error is returned; those of deliveries here are not kept.
func (q *Queue) settle(ctx context.Context, results []result) error {
	ctx = context.WithoutCancel(ctx)
	var err error
	tell := true
	full := make(overQuota)
	for tries := 0; tries < maxReroutes; tries++ {
		var vs []verdict
		if vs, err = q.trySettle(ctx, results, tell, full); err == nil {
			q.conclude(ctx, vs)
			return nil
		}
		var gone *goneError
		var more overQuota
		if errors.As(err, &more) { // no account comes twice
			maps.Copy(full, more)
			tries--
		} else if errors.Is(err, mailstore.ErrFull) && tell {
			tell = false // there may be room for the outcome, if not for the report
		} else if !errors.As(err, &gone) {
			break
		}
	}
	q.o.Log.Error("outcome could not be written", "id", results[0].entry.msg.item.Envelope, "err", err)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range results {
		if !r.here {
			q.unrecorded = append(q.unrecorded, r)
		}
	}
	return err
}

// trySettle is one try of settle. Unless tell is set, no report is made and what
// calls for one is put off. full are accounts that have no room.
func (q *Queue) trySettle(ctx context.Context, results []result, tell bool, full overQuota) ([]verdict, error) {
	now := q.now()
	vs := make([]verdict, len(results))
	var letters []*letter
	defer func() {
		for _, l := range letters {
			l.body.Release()
		}
	}()
	for i, r := range results {
		var l *letter
		if r.here {
			if l, r.outcome.Reply = q.bring(ctx, r.entry, full, now); l != nil {
				letters = append(letters, l)
			}
		}
		vs[i] = q.decide(r, now)
		vs[i].letter = l
	}
	letters = append(letters, q.reports(ctx, vs, now, tell, full)...)
	err := q.store(ctx, letters, func(tx *mailstore.Tx) error {
		for i := range vs {
			if err := q.writeVerdict(tx, &vs[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return vs, err
}

// writeVerdict writes one verdict. A row that is not there was removed by other
// means, with its account's message: there is nothing left to do for it.
func (q *Queue) writeVerdict(tx *mailstore.Tx, v *verdict) error {
	var err error
	if v.fate == ended {
		err = tx.RemoveRecipient(v.row.Item, v.row.Index)
	} else {
		q.mu.Lock()
		v.row.Held = v.entry.held
		if v.entry.again {
			v.row.Next = q.now()
		}
		q.mu.Unlock()
		err = tx.UpdateRecipient(v.row)
	}
	if errors.Is(err, mailstore.ErrNotFound) {
		q.o.Log.Warn("recipient is not in the queue any more", "id", v.entry.msg.item.Envelope, "to", v.row.Address)
		v.fate = ended
		if v.letter != nil {
			v.letter.void = true
		}
		return nil
	}
	return err
}

// reports makes the reports that verdicts call for, one for each message. Where
// one cannot be made for now, the failure is not final yet.
func (q *Queue) reports(ctx context.Context, vs []verdict, now time.Time, tell bool, full overQuota) []*letter {
	var letters []*letter
	for first := 0; first < len(vs); {
		msg := vs[first].entry.msg
		end := first
		var told []reported
		for ; end < len(vs) && vs[end].entry.msg == msg; end++ {
			if vs[end].report != nil {
				told = append(told, *vs[end].report)
			}
		}
		group := vs[first:end]
		first = end
		if len(told) == 0 {
			continue
		}
		var l *letter
		var err error
		if tell {
			open := func() (mailstore.Content, error) { return q.open(ctx, msg) }
			l, err = q.report(ctx, &reportOf{item: &msg.item, from: msg.from, recipients: told, open: open, full: full}, now)
		}
		if err != nil || !tell {
			for i := range group {
				q.postpone(&group[i], now)
			}
		}
		if l != nil {
			letters = append(letters, l)
		}
	}
	return letters
}

// postpone changes a verdict whose report cannot be sent now: a failure is tried
// again later, and a notice is given next time. News of success is given up.
func (q *Queue) postpone(v *verdict, now time.Time) {
	switch {
	case v.report == nil:
	case v.final:
		v.fate, v.final = kept, false
		v.row.Next = now.Add(q.planOf(v.row.Domain).wait(v.row.Attempts)).Truncate(time.Millisecond)
	case v.report.action == delayed:
		v.row.Delayed = false
	}
	v.report = nil
}

// conclude moves the entries on in memory, logs and counts.
func (q *Queue) conclude(ctx context.Context, vs []verdict) {
	now := q.now()
	q.mu.Lock()
	for i := range vs {
		v := &vs[i]
		e := v.entry
		if v.fate == ended {
			q.leave(e)
			continue
		}
		if v.row.Held || e.held || e.again || e.pulled || q.barred[e.row.Item] > 0 {
			// Somebody else is at it: what the store has counts.
			q.leave(e)
			q.reread()
			continue
		}
		at := justBefore(&v.row)
		if q.edge.before(at) || !q.ample() {
			q.leave(e)
			q.left(at, now)
			continue
		}
		e.row = v.row
		q.place(e, now)
	}
	q.nudgeLocked()
	q.mu.Unlock()
	for i := range vs {
		q.log(ctx, &vs[i])
	}
}

// log tells the log and the counters what became of a recipient.
func (q *Queue) log(ctx context.Context, v *verdict) {
	reply := oneLine(v.outcome.Reply.Error(), maxReplyText)
	q.recordVerdict(v, reply)
	m := &q.o.Metrics
	what := "deferred"
	switch {
	case v.outcome.Reply.Success():
		what = "delivered"
		if v.here {
			count(m.Local, 1)
		} else {
			count(m.Delivered, 1)
		}
	case v.final:
		what = "failed"
		count(m.Failed, 1)
		if v.entry.msg.item.From == "" {
			count(m.Dropped, 1)
		}
	default:
		count(m.Deferred, 1)
	}
	item := &v.entry.msg.item
	attrs := []slog.Attr{slog.String("id", item.Envelope), slog.String("to", v.row.Address),
		slog.Duration("age", q.o.Clock.Now().Sub(item.Accepted).Round(time.Millisecond)),
		slog.Int("attempts", v.row.Attempts), slog.String("reply", reply)}
	if v.outcome.Host != "" {
		attrs = append(attrs, slog.String("host", v.outcome.Host), slog.String("tls", v.outcome.TLS))
	}
	switch {
	case v.fate == kept:
		attrs = append(attrs, slog.Time("next", q.time.shown(v.row.Next)), slog.Bool("suspended", v.suspended))
	case v.final && item.From == "":
		// RFC 5321 section 6.1: never a report about a report.
		attrs = append(attrs, slog.Bool("dropped", true))
	}
	q.o.Log.LogAttrs(ctx, slog.LevelInfo, what, attrs...)
}
