package smtpd

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"postrider/internal/journey"
	"postrider/mta"
)

// mail is MAIL (RFC 5321 section 4.1.1.2).
func (s *session) mail(ctx context.Context, arg string) *mta.Reply {
	if r := s.mayMail(); r != nil {
		return r
	}
	const syntax = "say MAIL FROM:<you@your.domain>"
	from, rest, r := parsePath(arg, "FROM:", syntax, "5.1.7")
	if r != nil {
		return r
	}
	params, r := parseParams(rest)
	if r != nil {
		return r
	}
	if len(params) > 0 && !s.hello.extended {
		return newReply(555, "5.5.4", "Parameters need EHLO in the place of HELO")
	}
	options, r := mailOptions(params)
	if r != nil {
		return r
	}
	if !from.IsZero() && from.Domain == "" {
		return newReply(501, "5.1.7", "The sender needs a domain: "+syntax)
	}
	limits := s.srv.limits.Load()
	now := s.srv.o.Clock.Now()
	if r := s.maySend(ctx, from, options, limits, now); r != nil {
		s.recordSender(from, limits, r)
		return r
	}
	s.txn = &transaction{env: &mta.Envelope{
		ID:      mta.NewID(now, s.srv.o.Random()),
		From:    from,
		Options: options,
		Client:  s.client(),
	}}
	s.recordSender(from, limits, nil)
	return newReply(250, "2.1.0", shown(from, options.UTF8)+"... Sender ok")
}

// maySend judges the sender and what MAIL says of the message.
func (s *session) maySend(ctx context.Context, from mta.Address, options smtp.MailOptions, limits *Limits, now time.Time) *mta.Reply {
	switch {
	case !from.ASCII() && !options.UTF8:
		return newReply(553, "5.6.7", "A sender with non-ASCII characters needs SMTPUTF8")
	case limits.MaxSize > 0 && options.Size > limits.MaxSize:
		return tooLarge(limits.MaxSize)
	}
	if r := s.ownsSender(ctx, from); r != nil {
		return r
	}
	if !s.srv.rate.allow(s.rateKey(), limits.MessagesPerMinute, now) {
		s.log.Info("refused: too many messages", "remote", s.conn.Peer(), "from", from.String())
		return newReply(451, "4.7.1", "Too many messages within a minute, please wait")
	}
	return nil
}

// mayMail tells what has to come before MAIL.
func (s *session) mayMail() *mta.Reply {
	switch {
	case s.srv.o.Mode == Submission && s.login == nil && !s.srv.o.Ours:
		return newReply(530, "5.7.0", "Authentication required: say AUTH first")
	case s.srv.o.Mode == MX && s.srv.o.RequireAuth && s.login == nil:
		return closing(530, "5.7.1", "Client was not authenticated")
	case s.hello == nil && s.srv.o.Mode == LMTP:
		return newReply(503, "5.5.1", "Say LHLO first")
	case s.hello == nil:
		return newReply(503, "5.5.1", "Say HELO or EHLO first")
	case s.txn != nil && s.txn.msg != nil:
		return newReply(503, "5.5.1", "Finish the message first: BDAT with LAST, or RSET")
	case s.txn != nil:
		return newReply(503, "5.5.1", "The sender is given already: send RCPT, DATA or RSET")
	}
	return nil
}

// parsePath reads the argument of MAIL or RCPT: keyword is "FROM:" or "TO:".
func parsePath(arg, keyword, syntax, status string) (a mta.Address, rest string, r *mta.Reply) {
	if len(arg) < len(keyword) || !strings.EqualFold(arg[:len(keyword)], keyword) {
		return mta.Address{}, "", newReply(501, "5.5.4", "Syntax error: "+syntax)
	}
	a, rest, err := mta.ParsePath(arg[len(keyword):])
	if err != nil {
		return mta.Address{}, "", newReply(501, status, "Bad address: "+err.Error())
	}
	return a, rest, nil
}

func tooLarge(limit int64) *mta.Reply {
	return mta.Errorf(552, "5.3.4", "The message is larger than %d octets", limit)
}

// rcpt is RCPT (RFC 5321 section 4.1.1.3).
func (s *session) rcpt(ctx context.Context, arg string) *mta.Reply {
	switch {
	case s.txn == nil:
		return newReply(503, "5.5.1", "Send MAIL first")
	case s.txn.msg != nil:
		return newReply(503, "5.5.1", "Finish the message first: BDAT with LAST, or RSET")
	}
	to, params, r := s.parseRecipient(arg)
	if r != nil {
		s.txn.refused++
		return r
	}
	options, r := rcptOptions(params, s.txn.env.Options.UTF8)
	if r != nil {
		s.txn.refused++
		return r
	}
	ok := newReply(250, "2.1.5", shown(to, s.txn.env.Options.UTF8)+" ... Recipient ok")
	limit := s.srv.limits.Load().MaxRecipients
	switch {
	case s.srv.o.Mode != LMTP && s.txn.has(to):
		return ok // one copy is enough; LMTP owes a reply for each
	case limit > 0 && len(s.txn.env.To) >= limit:
		return mta.Errorf(452, "4.5.3", "A message has at most %d recipients", limit)
	}
	ctx = journey.With(ctx, s.scope())
	targets, err := s.srv.o.Router.Recipient(ctx, s.txn.env.Client, to)
	if err != nil {
		return s.refuseRecipient(to, err)
	}
	if err := s.srv.o.Router.Room(ctx, to, targets, s.txn.env.Options.Size); err != nil {
		return s.refuseRecipient(to, err)
	}
	if s.txn.targets += len(targets); s.txn.targets > maxTargets && len(s.txn.env.To) > 0 {
		s.txn.targets -= len(targets)
		return newReply(452, "4.5.3", "The recipients stand for too many others: send to this one in another message")
	}
	s.recordRecipient(to, targets, nil)
	s.txn.env.To = append(s.txn.env.To, mta.Recipient{Address: to, Options: options, Targets: targets})
	return ok
}

func (s *session) parseRecipient(arg string) (mta.Address, []param, *mta.Reply) {
	const syntax = "say RCPT TO:<somebody@a.domain>"
	to, rest, r := parsePath(arg, "TO:", syntax, "5.1.3")
	if r != nil {
		return to, nil, r
	}
	params, r := parseParams(rest)
	switch {
	case r != nil:
	case to.IsZero():
		r = newReply(501, "5.1.3", "The null path <> is for senders only: "+syntax)
	case len(params) > 0 && !s.hello.extended:
		r = newReply(555, "5.5.4", "Parameters need EHLO in the place of HELO")
	case !to.ASCII() && !s.txn.env.Options.UTF8:
		r = newReply(553, "5.6.7", "A recipient with non-ASCII characters needs SMTPUTF8 in MAIL")
	}
	return to, params, r
}

// refuseRecipient makes the reply to a refused RCPT; whoever tries addresses
// until one exists is shown the door.
func (s *session) refuseRecipient(to mta.Address, err error) *mta.Reply {
	s.txn.refused++
	r := s.failure("cannot route a recipient", err)
	s.recordRecipient(to, nil, r)
	count(s.srv.o.Metrics.RefusedRecipient)
	s.log.Info("recipient refused", "id", s.txn.env.ID, "from", s.txn.env.From.String(),
		"to", to.String(), "remote", s.conn.Peer(), "reply", r.Error())
	if r.Code == 550 && r.Status == "5.1.1" {
		if s.unknown++; s.unknown >= maxUnknown {
			return closing(421, "4.7.0", s.srv.o.Hostname+" Too many unknown recipients, closing connection")
		}
	}
	return r
}

// has tells whether to is a recipient already.
func (t *transaction) has(to mta.Address) bool {
	const few = 16 // recipients are compared one by one
	if len(t.env.To) <= few {
		return slices.ContainsFunc(t.env.To, func(r mta.Recipient) bool { return r.Address == to })
	}
	if t.seen == nil {
		t.seen = make(map[mta.Address]bool)
	}
	for ; t.indexed < len(t.env.To); t.indexed++ {
		t.seen[t.env.To[t.indexed].Address] = true
	}
	return t.seen[to]
}
