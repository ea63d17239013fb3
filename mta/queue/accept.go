package queue

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"postrider/internal/journey"
	"postrider/mailstore"
	"postrider/mta"
)

// letter is one message on its way into the store: a copy for each of some
// accounts, a queue item, or both.
type letter struct {
	body    *mailstore.Body
	prefix  string
	inboxes []mailstore.AccountID
	item    mailstore.QueueItem
	rows    []mailstore.QueueRecipient
	to      []mta.Address // of rows
	kept    []byte        // content to keep in memory; nil for none
	void    bool          // there is nothing to deliver after all
	about   *reportOf     // of a report; nil for any other message
	landed  []landing     // where its copies came to, after put
}

// goneError tells that an account does not exist any more.
type goneError struct{ account mailstore.AccountID }

func (e *goneError) Error() string { return "an account of the message was removed" }

// maxReroutes is how often a message is routed anew because an account was
// removed between its RCPT and its commit.
const maxReroutes = 3

// Accept takes a message for all its recipients in one durable commit. An error
// is a *mta.Reply to show to the peer; nothing was taken then. The body is still
// the caller's to release.
func (q *Queue) Accept(ctx context.Context, env *mta.Envelope, body *mailstore.Body) error {
	a := &acceptance{q: q, env: env, body: body, to: env.To, full: make(overQuota)}
	for tries := 0; tries < maxReroutes; {
		err := a.commit(ctx)
		var gone *goneError
		var full overQuota
		switch {
		case errors.As(err, &full): // no account comes twice
			maps.Copy(a.full, full)
			continue
		case !errors.As(err, &gone):
			return q.acceptError(env, err)
		}
		if err := a.reroute(ctx, int64(gone.account)); err != nil {
			return q.acceptError(env, err)
		}
		tries++
	}
	return q.acceptError(env, errors.New("routing finds accounts that do not exist"))
}

// acceptError chooses what the peer sees.
func (q *Queue) acceptError(env *mta.Envelope, err error) error {
	var reply *mta.Reply
	switch {
	case err == nil:
		return nil
	case errors.As(err, &reply):
		return reply
	case errors.Is(err, mailstore.ErrFull):
		reply = mta.Errorf(452, "4.3.1", "No space left to keep the message, try again later")
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, mailstore.ErrClosed):
		reply = mta.Errorf(451, "4.3.2", "The system is going down, try again later")
	default:
		reply = mta.Errorf(451, "4.3.0", "The message could not be stored, try again later")
	}
	q.o.Log.Error("message not accepted", "id", env.ID, "err", err)
	return reply
}

// acceptance is one message that is being accepted.
type acceptance struct {
	q    *Queue
	env  *mta.Envelope
	body *mailstore.Body
	to   []mta.Recipient
	// lost are recipients that had a mailbox at RCPT and have none now.
	lost []reported
	// full are accounts that have no room.
	full overQuota
}

// reroute asks again where the recipients go that led to an account which is
// gone. One that does not exist any more is returned to the sender.
func (a *acceptance) reroute(ctx context.Context, account int64) error {
	to := make([]mta.Recipient, 0, len(a.to))
	for _, r := range a.to {
		if !slices.ContainsFunc(r.Targets, func(t mta.Target) bool { return t.Account == account }) {
			to = append(to, r)
			continue
		}
		targets, err := a.q.o.Router.Recipient(ctx, a.env.Client, r.Address)
		var reply *mta.Reply
		switch {
		case err == nil:
			r.Targets = targets
			to = append(to, r)
		case errors.As(err, &reply) && !reply.Temporary():
			a.lost = append(a.lost, reported{
				action: failed, recipient: r.Address, orcpt: orcptOf(&r.Options),
				notify: notifyOf(&r.Options), reply: reply, last: a.q.o.Clock.Now(),
			})
		default:
			return err
		}
	}
	a.to = to
	return nil
}

// commit is one try to accept.
func (a *acceptance) commit(ctx context.Context) error {
	q := a.q
	now := q.now()
	l, done, err := a.letter(now)
	if err != nil {
		return err
	}
	letters := []*letter{l}
	if len(l.inboxes) == 0 && len(l.rows) == 0 {
		letters = nil
	}
	rep, err := q.report(ctx, &reportOf{item: &l.item, from: a.env.From, recipients: append(done, a.lost...), open: a.open, full: a.full}, now)
	if err != nil {
		return err
	}
	if rep != nil {
		defer rep.body.Release()
		letters = append(letters, rep)
	}
	if err := q.store(ctx, letters, nil); err != nil {
		return err
	}
	m := &q.o.Metrics
	count(m.Messages, 1)
	count(m.Local, len(l.inboxes))
	count(m.Queued, len(l.rows))
	q.o.Log.LogAttrs(ctx, slog.LevelDebug, "accepted", slog.String("id", a.env.ID), slog.String("from", l.item.From),
		slog.Int64("size", a.body.Size()), slog.Int("mailboxes", len(l.inboxes)), slog.Int("queued", len(l.rows)))
	a.noteFull(ctx)
	return nil
}

// returnPath is the field that tells who sent a message (RFC 5321 section 4.4).
func returnPath(from string) string { return "Return-Path: <" + from + ">\r\n" }

func (a *acceptance) open() (mailstore.Content, error) {
	return bodyContent{a.body}, nil
}

// bodyContent is a body that its owner releases later.
type bodyContent struct{ *mailstore.Body }

func (bodyContent) Close() error { return nil }

// letter sorts the targets, and says whom the sender asked to hear about.
func (a *acceptance) letter(now time.Time) (*letter, []reported, error) {
	env := a.env
	accepted := env.Accepted
	if accepted.IsZero() {
		accepted = a.q.o.Clock.Now()
	}
	from := env.From.String()
	l := &letter{
		body:   a.body,
		prefix: returnPath(from),
		item: mailstore.QueueItem{
			Envelope: env.ID,
			From:     from,
			BodyType: string(env.Options.Body),
			UTF8:     env.Options.UTF8,
			Return:   string(env.Options.Return),
			EnvID:    env.Options.EnvelopeID,
			Login:    env.Client.Login,
			Size:     a.body.Size(),
			Accepted: accepted.Round(0).Truncate(time.Millisecond),
			Expires:  now.Add(a.q.o.Expire),
		},
	}
	s := a.q.sorter(l, now, a.full)
	for i := range a.to {
		if len(a.to[i].Targets) == 0 {
			return nil, nil, errors.New("a recipient has no targets")
		}
		s.add(&a.to[i])
	}
	if len(l.rows) > 0 {
		a.q.keep(l)
	}
	return l, s.done, nil
}

// keep copies a small body, so that its delivery need not read it again.
func (q *Queue) keep(l *letter) {
	size := l.body.Size()
	q.mu.Lock()
	room := size <= maxKeptBody && q.kept+int(size) <= maxKeptTotal
	q.mu.Unlock()
	if !room {
		return
	}
	p := make([]byte, size)
	if n, err := l.body.ReadAt(p, 0); n == len(p) || err == nil {
		l.kept = p
	}
}

// sorter distributes the targets of a message: each account once, each remote
// address once for the same wishes about reports.
type sorter struct {
	l        *letter
	now      time.Time // in queue time
	again    time.Time // when to try once more, in queue time
	wall     time.Time
	full     overQuota
	accounts map[int64]bool
	remotes  map[remoteKey]bool
	done     []reported // delivered, expanded
}

func (q *Queue) sorter(l *letter, now time.Time, full overQuota) *sorter {
	again := now.Add(q.planHere.wait(1)).Truncate(time.Millisecond)
	return &sorter{l: l, now: now, again: again, wall: q.o.Clock.Now(), full: full}
}

type remoteKey struct {
	to            mta.Address
	notify, orcpt string
}

func (s *sorter) add(r *mta.Recipient) {
	notify, orcpt := notifyOf(&r.Options), orcptOf(&r.Options)
	success := hasNotify(notify, smtp.DSNNotifySuccess)
	if len(r.Targets) > 1 {
		// RFC 3461 section 5.2.7.3 (c): an alias with several addresses is
		// expanded here, and nobody behind it reports success.
		if success {
			s.done = append(s.done, reported{action: expanded, recipient: r.Address, orcpt: orcpt,
				notify: notify, reply: mta.Errorf(250, "2.1.5", "Expanded"), last: s.wall})
		}
		notify = withoutSuccess(notify)
	}
	for _, t := range r.Targets {
		if t.Account == 0 {
			s.remote(t.Remote, r.Address, notify, orcpt)
			continue
		}
		waits := s.local(t.Account, r.Address, notify, orcpt)
		if success && len(r.Targets) == 1 && !waits {
			s.done = append(s.done, reported{action: delivered, recipient: r.Address, orcpt: orcpt,
				notify: notify, reply: mta.Errorf(250, "2.0.0", "Delivered"), last: s.wall})
		}
	}
}

// local adds an account, once, and tells whether the message has to wait for it.
func (s *sorter) local(account int64, original mta.Address, notify, orcpt string) (waits bool) {
	id := mailstore.AccountID(account)
	to, waits := s.full[id]
	if s.accounts[account] {
		return waits
	}
	if s.accounts == nil {
		s.accounts = make(map[int64]bool)
	}
	s.accounts[account] = true
	if waits {
		s.wait(to, original, notify, orcpt)
	} else {
		s.l.inboxes = append(s.l.inboxes, id)
	}
	return waits
}

func (s *sorter) remote(to, original mta.Address, notify, orcpt string) {
	k := remoteKey{to, notify, orcpt}
	if s.remotes[k] {
		return
	}
	if s.remotes == nil {
		s.remotes = make(map[remoteKey]bool)
	}
	s.remotes[k] = true
	s.l.to = append(s.l.to, to)
	s.l.rows = append(s.l.rows, mailstore.QueueRecipient{
		Address:  to.String(),
		Domain:   to.Domain,
		Notify:   notify,
		ORCPT:    orcpt,
		Original: original.String(),
		Next:     s.now,
	})
}

func notifyOf(o *smtp.RcptOptions) string {
	if len(o.Notify) == 0 {
		return ""
	}
	words := make([]string, len(o.Notify))
	for i, n := range o.Notify {
		words[i] = string(n)
	}
	return strings.Join(words, ",")
}

func orcptOf(o *smtp.RcptOptions) string {
	if o.OriginalRecipient == "" {
		return ""
	}
	return strings.ToLower(string(o.OriginalRecipientType)) + ";" + o.OriginalRecipient
}

func hasNotify(notify string, word smtp.DSNNotify) bool {
	return slices.Contains(strings.Split(notify, ","), string(word))
}

// withoutSuccess takes SUCCESS out. Who asked for nothing else wants nothing
// else.
func withoutSuccess(notify string) string {
	words := slices.DeleteFunc(strings.Split(notify, ","), func(w string) bool {
		return w == string(smtp.DSNNotifySuccess)
	})
	if len(words) == 0 {
		return string(smtp.DSNNotifyNever)
	}
	return strings.Join(words, ",")
}

// rcptOptions are the options that a row stands for.
func rcptOptions(r *mailstore.QueueRecipient) smtp.RcptOptions {
	var o smtp.RcptOptions
	if r.Notify != "" {
		for w := range strings.SplitSeq(r.Notify, ",") {
			o.Notify = append(o.Notify, smtp.DSNNotify(w))
		}
	}
	if kind, addr, ok := strings.Cut(r.ORCPT, ";"); ok {
		o.OriginalRecipientType = smtp.DSNAddressType(strings.ToUpper(kind))
		o.OriginalRecipient = addr
	}
	return o
}

// storedAddress reads an address that String wrote. One that an older version
// took and this one would not is kept as it is: it was accepted.
func storedAddress(s string) mta.Address {
	if s == "" {
		return mta.Address{}
	}
	if a, err := mta.ParseAddress(s); err == nil {
		return a
	}
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return mta.Address{Local: s[:i], Domain: s[i+1:]}
	}
	return mta.Address{Local: s}
}

// store commits letters, and what else write does, in one Update; then the new
// recipients are in memory where there is room. A overQuota has all accounts
// that are full; nothing was changed then.
func (q *Queue) store(ctx context.Context, letters []*letter, write func(tx *mailstore.Tx) error) error {
	for _, l := range letters {
		if len(l.inboxes) == 0 {
			continue
		}
		// Here and not within the Update, where others would wait for it.
		if err := l.body.Describe(); err != nil {
			return err
		}
	}
	var barred []mailstore.QueueID
	err := q.o.Store.Update(ctx, func(tx *mailstore.Tx) error {
		if write != nil {
			if err := write(tx); err != nil {
				return err
			}
		}
		full := make(overQuota)
		for _, l := range letters {
			if err := l.put(q, tx, full); err != nil {
				return err
			}
			if len(l.rows) > 0 && !l.void {
				q.bar(l.item.ID)
				barred = append(barred, l.item.ID)
			}
		}
		if len(full) > 0 {
			return full
		}
		return nil
	})
	if err == nil {
		q.recordLetters(letters)
	}
	if len(barred) == 0 {
		return err
	}
	now := q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range barred {
		q.unbarLocked(id)
	}
	if err != nil {
		return err
	}
	for _, l := range letters {
		q.admitLocked(l, now)
	}
	q.dispatchLocked(now)
	q.nudgeLocked()
	return nil
}

// bar keeps the loader off an item. It is called within Updates: the lock is
// never held for long.
func (q *Queue) bar(id mailstore.QueueID) {
	q.mu.Lock()
	q.barred[id]++
	q.mu.Unlock()
}

func (q *Queue) unbarLocked(id mailstore.QueueID) {
	if q.barred[id]--; q.barred[id] == 0 {
		delete(q.barred, id)
	}
}

// admitLocked brings the recipients of a letter that was stored into memory.
func (q *Queue) admitLocked(l *letter, now time.Time) {
	if len(l.rows) == 0 || l.void {
		return
	}
	msg := newParcel(l.item)
	msg.body = l.kept
	for i := range l.rows {
		r := &l.rows[i]
		if d := q.dest(r.Domain); q.admits(d, r.Next, now) {
			q.enter(msg, *r, l.to[i], now)
		} else {
			q.left(justBefore(r), now)
			q.tidy(d)
		}
	}
}

// put writes the letter, and notes whose accounts are full.
func (l *letter) put(q *Queue, tx *mailstore.Tx, full overQuota) error {
	l.landed = l.landed[:0]
	if l.void {
		return nil
	}
	for _, account := range l.inboxes {
		box, err := inbox(tx, account)
		if err != nil {
			return err
		}
		uid, err := tx.Append(box, mailstore.NewMessage{Body: l.body, Prefix: l.prefix})
		if errors.Is(err, mailstore.ErrQuota) {
			var a mailstore.Account
			if a, err = tx.Account(account); err == nil {
				full[account] = storedAddress(a.Address)
			}
		}
		if err != nil {
			return err
		}
		if q.o.Journey.Wants(journey.MailboxDelivered) {
			l.landed = append(l.landed, landing{q.name(tx, account), mailstore.Inbox, uid, l.body.ID()})
		}
	}
	if len(l.rows) == 0 {
		return nil
	}
	item, rows, err := tx.Enqueue(l.body, l.item, l.rows)
	if err != nil {
		return err
	}
	l.item, l.rows = item, rows
	return nil
}

// inbox finds an account's INBOX. It cannot be deleted over IMAP; should it be
// missing it is made.
func inbox(tx *mailstore.Tx, account mailstore.AccountID) (mailstore.MailboxID, error) {
	id, err := tx.Inbox(account)
	if err == nil || !errors.Is(err, mailstore.ErrNotFound) {
		return id, err
	}
	if _, err := tx.Account(account); errors.Is(err, mailstore.ErrNotFound) {
		return 0, &goneError{account}
	} else if err != nil {
		return 0, err
	}
	box, err := tx.CreateMailbox(account, mailstore.Inbox, "")
	return box.ID, err
}

// memContent is content that is in memory.
type memContent struct {
	io.ReaderAt
	size int64
}

func (c memContent) Size() int64 { return c.size }
func (memContent) Close() error  { return nil }
