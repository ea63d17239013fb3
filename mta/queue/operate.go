package queue

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"postrider/mailstore"
)

// ErrNotFound: no message of that name is in the queue.
var ErrNotFound = errors.New("no such message in the queue")

// ErrNoMessage: an operation that needs the names of messages got none.
var ErrNoMessage = errors.New("name at least one message")

// Item is a message in the queue, for people.
type Item struct {
	ID         string      `json:"id"` // as in logs and in Received
	From       string      `json:"from"`
	Size       int64       `json:"size"`
	Login      string      `json:"login,omitempty"`
	Accepted   time.Time   `json:"accepted"`
	Expires    time.Time   `json:"expires"`
	Recipients []Recipient `json:"recipients"`
}

// Recipient is a recipient of an Item.
type Recipient struct {
	Address  string     `json:"address"`
	Original string     `json:"original,omitempty"` // as the sender named it, where that is different
	State    string     `json:"state"`              // "waiting", "held", "ready" or "active" (under way)
	Attempts int        `json:"attempts"`
	Last     *time.Time `json:"last,omitempty"`
	Next     *time.Time `json:"next,omitempty"` // when waiting
	Reply    string     `json:"reply,omitempty"`
	Host     string     `json:"host,omitempty"`
}

// Change is what an operation did to one message.
type Change struct {
	ID         string `json:"id"`
	Recipients int    `json:"recipients"`     // changed
	Busy       int    `json:"busy,omitempty"` // not changed: under way just now
	Held       int    `json:"held,omitempty"` // not changed: on hold
	Error      string `json:"error,omitempty"`
}

// List calls fn for each message in the queue behind the one of number after,
// oldest first, until it returns false. It holds a snapshot of the store
// meanwhile.
func (q *Queue) List(ctx context.Context, after mailstore.QueueID, fn func(mailstore.QueueID, Item) bool) error {
	return q.o.Store.View(ctx, func(v *mailstore.View) error {
		return v.Queue(after, func(item mailstore.QueueItem, rows []mailstore.QueueRecipient) bool {
			return fn(item.ID, q.shown(item, rows))
		})
	})
}

// Show finds one message by the name that List gives it, or by its number in
// the store. ErrNotFound when there is none.
func (q *Queue) Show(ctx context.Context, id string) (Item, error) {
	var out Item
	err := q.o.Store.View(ctx, func(v *mailstore.View) error {
		n, err := q.find(v, id)
		if err != nil {
			return err
		}
		item, rows, err := v.QueueItem(n)
		if errors.Is(err, mailstore.ErrNotFound) {
			return ErrNotFound
		}
		out = q.shown(item, rows)
		return err
	})
	return out, err
}

func (q *Queue) shown(item mailstore.QueueItem, rows []mailstore.QueueRecipient) Item {
	out := Item{
		ID: item.Envelope, From: item.From, Size: item.Size, Login: item.Login,
		Accepted: item.Accepted, Expires: q.time.shown(item.Expires),
		Recipients: make([]Recipient, len(rows)),
	}
	now := q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range rows {
		r := &rows[i]
		s := Recipient{Address: r.Address, Attempts: r.Attempts, Reply: r.Reply, Host: r.Host}
		if r.Original != r.Address {
			s.Original = r.Original
		}
		if last := r.Last; !last.IsZero() {
			s.Last = &last
		}
		e := q.entries[keyOf(r)]
		switch {
		case e != nil && e.state == flying:
			s.State = "active"
		case r.Held:
			s.State = "held"
		case !now.Before(r.Next):
			s.State = "ready"
		default:
			next := q.time.shown(r.Next)
			s.State, s.Next = "waiting", &next
		}
		out.Recipients[i] = s
	}
	return out
}

// find finds the number of a message.
func (q *Queue) find(v *mailstore.View, id string) (mailstore.QueueID, error) {
	q.mu.Lock()
	for n, p := range q.parcels {
		if p.item.Envelope == id {
			q.mu.Unlock()
			return n, nil
		}
	}
	q.mu.Unlock()
	var found mailstore.QueueID
	err := v.Queue(0, func(item mailstore.QueueItem, _ []mailstore.QueueRecipient) bool {
		if item.Envelope == id {
			found = item.ID
		}
		return found == 0
	})
	if err != nil || found != 0 {
		return found, err
	}
	if n, err := strconv.ParseInt(id, 10, 64); err == nil {
		return mailstore.QueueID(n), nil
	}
	return 0, ErrNotFound
}

// operation changes one row of a message in an Update; busy tells that its
// recipient is under way. It returns what it did.
type operation func(tx *mailstore.Tx, r mailstore.QueueRecipient, busy *entry) (did, error)

type did int8

const (
	changed did = iota
	wasBusy
	wasHeld
	nothing
)

// Retry makes messages due now, all when no id is given, and forgets that their
// domains did not answer. Those on hold stay there. A recipient that is under
// way is being tried anyhow.
func (q *Queue) Retry(ctx context.Context, ids ...string) ([]Change, error) {
	now := q.now()
	op := func(tx *mailstore.Tx, r mailstore.QueueRecipient, busy *entry) (did, error) {
		switch {
		case busy != nil:
			return wasBusy, nil
		case r.Held:
			return wasHeld, nil
		}
		q.reopen(r.Domain)
		r.Next = now
		return changed, tx.UpdateRecipient(r)
	}
	if len(ids) == 0 {
		list, err := q.operateAll(ctx, op)
		q.recordChanges("retry", list)
		return list, err
	}
	return q.operate(ctx, ids, "retry", op)
}

// RetryFull makes due now what waits for a full account, or with "" for any: after
// its limit was raised, say. It reads the whole queue and changes nothing else.
func (q *Queue) RetryFull(ctx context.Context, account string) error {
	waits := func(r *mailstore.QueueRecipient) bool {
		return here(r.Domain) && !r.Held && (account == "" || r.Domain == account)
	}
	var items []mailstore.QueueID
	err := q.o.Store.View(ctx, func(v *mailstore.View) error {
		return v.Queue(0, func(item mailstore.QueueItem, rows []mailstore.QueueRecipient) bool {
			if slices.ContainsFunc(rows, func(r mailstore.QueueRecipient) bool { return waits(&r) }) {
				items = append(items, item.ID)
			}
			return ctx.Err() == nil
		})
	})
	if err := errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	now := q.now()
	for page := range slices.Chunk(items, pageItems) {
		_, err := q.operateOn(ctx, page, func(tx *mailstore.Tx, r mailstore.QueueRecipient, busy *entry) (did, error) {
			if !waits(&r) {
				return nothing, nil
			}
			if busy != nil { // its row may be written, or not yet
				q.mu.Lock()
				busy.again = true
				q.mu.Unlock()
			}
			q.reopen(r.Domain)
			r.Next = now
			return changed, tx.UpdateRecipient(r)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Hold keeps messages from being tried until Release. An attempt that is under
// way goes on; when it does not deliver, its recipients are held.
func (q *Queue) Hold(ctx context.Context, ids ...string) ([]Change, error) {
	return q.operate(ctx, ids, "hold", func(tx *mailstore.Tx, r mailstore.QueueRecipient, busy *entry) (did, error) {
		if busy != nil {
			q.mark(busy, true)
		}
		if r.Held {
			return nothing, nil
		}
		r.Held = true
		return changed, tx.UpdateRecipient(r)
	})
}

// Release ends Hold; the messages are due now.
func (q *Queue) Release(ctx context.Context, ids ...string) ([]Change, error) {
	now := q.now()
	return q.operate(ctx, ids, "release", func(tx *mailstore.Tx, r mailstore.QueueRecipient, busy *entry) (did, error) {
		if busy != nil {
			q.mark(busy, false)
		}
		if !r.Held {
			return nothing, nil
		}
		r.Held, r.Next = false, now
		return changed, tx.UpdateRecipient(r)
	})
}

// Remove takes messages out of the queue without a report to anybody. It does
// not touch recipients that are under way: nobody could tell whether they get
// the message. They are counted as busy.
func (q *Queue) Remove(ctx context.Context, ids ...string) ([]Change, error) {
	return q.operate(ctx, ids, "remove", func(tx *mailstore.Tx, r mailstore.QueueRecipient, busy *entry) (did, error) {
		if busy != nil {
			return wasBusy, nil
		}
		return changed, tx.RemoveRecipient(r.Item, r.Index)
	})
}

func (q *Queue) mark(e *entry, held bool) {
	q.mu.Lock()
	e.held = held
	q.mu.Unlock()
}

// reopen ends the suspension of a domain.
func (q *Queue) reopen(domain string) {
	q.mu.Lock()
	if d := q.known(domain); d != nil {
		d.until = time.Time{}
	}
	q.mu.Unlock()
}

func (q *Queue) operate(ctx context.Context, ids []string, what string, op operation) ([]Change, error) {
	if len(ids) == 0 {
		return nil, ErrNoMessage
	}
	out := make([]Change, 0, len(ids))
	for _, id := range ids {
		var n mailstore.QueueID
		err := q.o.Store.View(ctx, func(v *mailstore.View) error {
			var err error
			n, err = q.find(v, id)
			return err
		})
		var done []Change
		if err == nil {
			done, err = q.operateOn(ctx, []mailstore.QueueID{n}, op)
		}
		switch {
		case errors.Is(err, ErrNotFound) || err == nil && len(done) == 0:
			out = append(out, Change{ID: id, Error: ErrNotFound.Error()})
		case err != nil:
			return out, err
		default:
			q.o.Log.Info("queue "+what, "id", done[0].ID, "recipients", done[0].Recipients, "busy", done[0].Busy)
			q.recordChanges(what, done[:1])
			out = append(out, done[0])
		}
	}
	return out, nil
}

// operateAll does op to every message, some at a time.
func (q *Queue) operateAll(ctx context.Context, op operation) ([]Change, error) {
	var out []Change
	var after mailstore.QueueID
	for {
		var page []mailstore.QueueID
		err := q.o.Store.View(ctx, func(v *mailstore.View) error {
			return v.Queue(after, func(item mailstore.QueueItem, _ []mailstore.QueueRecipient) bool {
				page = append(page, item.ID)
				return len(page) < pageItems
			})
		})
		if err != nil || len(page) == 0 {
			return out, err
		}
		done, err := q.operateOn(ctx, page, op)
		if err != nil {
			return out, err
		}
		out = append(out, done...)
		after = page[len(page)-1]
	}
}

// pageItems is how many messages operateAll changes in one commit.
const pageItems = 100

// operateOn does op to messages in one commit and leaves out those that are not
// there. Recipients in memory that are not under way leave it; the loader is
// kept off until the commit, and then finds what is to be done.
func (q *Queue) operateOn(ctx context.Context, ns []mailstore.QueueID, op operation) ([]Change, error) {
	for _, n := range ns {
		q.bar(n)
	}
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		for _, n := range ns {
			q.unbarLocked(n)
		}
		q.reread()
		q.nudge()
	}()
	var out []Change
	err := q.o.Store.Update(ctx, func(tx *mailstore.Tx) error {
		for _, n := range ns {
			c, err := q.change(tx, n, op)
			switch {
			case errors.Is(err, mailstore.ErrNotFound):
			case err != nil:
				return err
			default:
				out = append(out, c)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// change does op to the rows of one message.
func (q *Queue) change(tx *mailstore.Tx, n mailstore.QueueID, op operation) (Change, error) {
	item, rows, err := tx.QueueItem(n)
	if err != nil {
		return Change{}, err
	}
	c := Change{ID: item.Envelope}
	for _, r := range rows {
		what, err := op(tx, r, q.ground(&r))
		if err != nil {
			return c, err
		}
		switch what {
		case changed:
			c.Recipients++
		case wasBusy:
			c.Busy++
		case wasHeld:
			c.Held++
		}
	}
	return c, nil
}

// ground takes a recipient out of memory, unless it is under way: then it
// returns its entry.
func (q *Queue) ground(r *mailstore.QueueRecipient) *entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entries[keyOf(r)]
	if e == nil {
		return nil
	}
	if e.state == flying {
		return e
	}
	q.leave(e)
	return nil
}
