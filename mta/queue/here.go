package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"postrider/mailstore"
	"postrider/mta"
)

// This file is about accounts that have no room for a message: it waits in the
// queue for each of them alone, as a recipient whose address and whose Domain
// are the account's address. So each full account is a destination of its own.

// here tells whether a Domain, or a destination, is an account of this server.
// The name of a domain has no "@".
func here(domain string) bool { return strings.Contains(domain, "@") }

// overQuota tells that accounts have no room for a message, by their addresses.
type overQuota map[mailstore.AccountID]mta.Address

func (e overQuota) Error() string { return fmt.Sprintf("%d accounts of the message are full", len(e)) }

// fullReply is why a message waits for an account.
func fullReply(account mta.Address) *mta.Reply {
	return mta.Errorf(452, "4.2.2", "The mailbox of %s has no room for the message", account)
}

// maxFullWait bounds the time between tries for a full account, which cost
// little: who has made room should not wait for hours.
const maxFullWait = 15 * time.Minute

// waits are the retry list for full accounts.
func waits(retry []time.Duration) []time.Duration {
	list := slices.Clone(retry)
	for i := range list {
		list[i] = min(list[i], maxFullWait)
	}
	return list
}

// planOf is the schedule of a recipient.
func (q *Queue) planOf(domain string) *schedule {
	if here(domain) {
		return &q.planHere
	}
	return &q.plan
}

// given is the last word of a recipient that was given up: it is final now.
func given(reply *mta.Reply) *mta.Reply {
	if reply.Code == 452 && reply.Status == "4.2.2" {
		return &mta.Reply{Code: 552, Status: "5.2.2", Text: reply.Text}
	}
	return reply
}

// wait has the message wait for an account.
func (s *sorter) wait(account, original mta.Address, notify, orcpt string) {
	s.l.to = append(s.l.to, account)
	s.l.rows = append(s.l.rows, mailstore.QueueRecipient{
		Address:  account.String(),
		Domain:   account.String(),
		Notify:   notify,
		ORCPT:    orcpt,
		Original: original.String(),
		Attempts: 1,
		Last:     s.wall.Round(0).Truncate(time.Millisecond),
		Next:     s.again,
		Reply:    oneLine(fullReply(account).Error(), maxReplyText),
	})
}

// noteFull tells the log for whom a message that was accepted has to wait.
func (a *acceptance) noteFull(ctx context.Context) {
	for _, id := range slices.Sorted(maps.Keys(a.full)) {
		a.q.o.Log.LogAttrs(ctx, slog.LevelInfo, "account is full: the message waits", slog.String("id", a.env.ID),
			slog.String("account", a.full[id].String()), slog.Int64("size", a.body.Size()))
		a.q.recordWait(a.env.ID, a.full[id], a.q.now().Add(a.q.planHere.wait(1)))
	}
}

// deliverHere delivers a batch into the account that it waits for. What could not
// be written waits again.
func (q *Queue) deliverHere(t *transaction) {
	defer func() {
		if p := recover(); p != nil {
			q.o.Log.Error("panic in a delivery", "id", t.batch.msg.item.Envelope, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
		if !t.complete() {
			t.giveBack(t.ctx.Err() != nil)
		}
	}()
	for i, e := range t.batch.entries {
		t.settled[i] = q.settle(t.ctx, []result{{entry: e, here: true}}) == nil
	}
}

// bring makes the letter that takes a message to the account that it waits for,
// and says what that comes to once it is written. Without a letter the reply
// tells why not. The letter's body is the caller's to release.
func (q *Queue) bring(ctx context.Context, e *entry, full overQuota, now time.Time) (*letter, *mta.Reply) {
	targets, err := q.o.Router.Recipient(ctx, mta.Client{Ours: true}, e.to)
	var reply *mta.Reply
	switch {
	case errors.As(err, &reply):
		return nil, reply
	case err != nil || len(targets) == 0:
		return nil, mta.Errorf(451, "4.3.0", "It could not be found out whose mailbox it is")
	}
	item := e.msg.item
	item.ID = 0
	l := &letter{prefix: returnPath(item.From), item: item}
	if len(targets) == 1 && q.isFull(ctx, full, targets[0], item.Size+int64(len(l.prefix))) {
		return nil, fullReply(e.to)
	}
	if l.body, err = q.o.Store.StoredBody(ctx, item.Body); err != nil {
		q.o.Log.Error("message cannot be read", "id", item.Envelope, "err", err)
		return nil, mta.Errorf(451, "4.3.0", "The message could not be read")
	}
	s := q.sorter(l, now, full)
	s.add(&mta.Recipient{Address: storedAddress(e.row.Original), Options: rcptOptions(&e.row), Targets: targets})
	return l, mta.Errorf(250, "2.0.0", "Delivered")
}

// isFull tells whether a target is an account without room for size octets.
func (q *Queue) isFull(ctx context.Context, full overQuota, t mta.Target, size int64) bool {
	id := mailstore.AccountID(t.Account)
	if _, ok := full[id]; ok || id == 0 {
		return ok
	}
	// Asked first, since it costs little: the Update judges again.
	return errors.Is(q.o.Store.Room(ctx, id, size), mailstore.ErrQuota)
}
