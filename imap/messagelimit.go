package imap

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"postrider/mailstore"
	"postrider/mailstore/message"
)

// limitCode is the response code of a command that would process more messages
// than one may (RFC 9738 section 5). lowest is the lowest UID that it processed; 0
// where that says nothing.
func limitCode(limit int, lowest mailstore.UID) string {
	code := "MESSAGELIMIT " + strconv.Itoa(limit)
	if lowest != 0 {
		code += " " + strconv.FormatUint(uint64(lowest), 10)
	}
	return code
}

// exceeds tells whether a command may not process all of spans.
func (s *session) exceeds(spans []span) bool {
	limit := s.srv.o.MessageLimit
	return limit > 0 && total(spans) > limit
}

// topmost is as much of spans, from the highest UID down, as one command may
// process. lowest is the lowest UID of that where it is not all, and 0 where it is.
func (s *session) topmost(b *selection, spans []span) (top []span, lowest mailstore.UID) {
	if !s.exceeds(spans) {
		return spans, 0
	}
	_, top = split(spans, total(spans)-s.srv.o.MessageLimit)
	return top, b.uids[top[0].lo]
}

// partly notes that a command processed its messages down to a UID; 0: all of them.
func (s *session) partly(c *call, lowest mailstore.UID) {
	if lowest != 0 {
		c.limit = limitCode(s.srv.o.MessageLimit, lowest)
	}
}

// refuseMany refuses a command that does nothing rather than a part of its work.
func (s *session) refuseMany(lowest mailstore.UID) error {
	limit := s.srv.o.MessageLimit
	return refuse(limitCode(limit, lowest), fmt.Sprintf("One command takes %d messages: name fewer", limit))
}

// tellLimit puts the code of c.limit into the tagged OK. Where that has another
// code, or the command failed, it goes in front (RFC 9738 section 3.1).
func (s *session) tellLimit(c *call, failed bool) {
	const text = "More messages are named than one command takes: the last of them were processed"
	switch {
	case c.limit == "":
		return
	case failed || c.code != "" || c.told && s.enabled.qresync:
		s.out.line("* NO [", c.limit, "] ", text)
	default:
		c.code, c.text = c.limit, text
	}
	s.log.Debug("message limit", "account", s.account.Address, "command", c.Name)
}

// downward is how many messages of a FETCH are read at a time that begins with the
// last of them.
const downward = 128

// fetchOne answers for one message from its row and record where these are enough.
func (s *session) fetchOne(ctx context.Context, p *fetchPlan, m *numbered, record *message.Stored, flags bool) error {
	d := mailstore.Described{Message: m.Message}
	if record != nil {
		d.Record = *record
	}
	if p.opens() || len(p.record) > 0 && record == nil || !p.recalls(&d) {
		content, err := s.srv.o.Store.OpenMessage(ctx, m.Message)
		return s.respond(ctx, p, m, mailstore.Opened{Content: content, Err: err}, record, flags)
	}
	s.out.end(s.appendMessage(s.out.beginLarge(), p, m.index, &d))
	count(s.srv.o.Metrics.Fetched, 1)
	return s.out.err
}

// fetchDown is fetch from the highest UID to the lowest (RFC 9738 section 3.1).
func (s *session) fetchDown(ctx context.Context, p *fetchPlan, spans []span) (missing int, err error) {
	var damaged error // one such message does not hide the others
	for n := downward; len(spans) > 0; {
		var rest []span
		now := spans
		if all := total(spans); all > n {
			rest, now = split(spans, all-n)
		}
		list, records, next, err := s.rows(ctx, p, now)
		if err != nil {
			return missing, err
		}
		if next >= 0 { // the last ones, which come first, do not fit
			n = max(n/2, 1)
			continue
		}
		missing += total(now) - len(list)
		told := s.setSeen(ctx, p, list)
		for i := range slices.Backward(list) {
			err := s.fetchOne(ctx, p, &list[i], records[i], told[list[i].UID])
			if isDamage(err) {
				damaged = err
			} else if err != nil {
				return missing, err
			}
		}
		spans = rest
	}
	return missing, damaged
}

// tooManyToAppend refuses the next message of an APPEND (RFC 9738 section 3.1).
func (s *session) tooManyToAppend(had int) error {
	most := maxMulti
	limit := s.srv.o.MessageLimit
	if limit > 0 {
		most = min(most, limit)
	}
	switch {
	case had < most:
		return nil
	case limit > 0:
		return refuse(limitCode(most, 0), fmt.Sprintf("One APPEND takes %d messages", most))
	}
	return refuse("LIMIT", fmt.Sprintf("One APPEND takes %d messages", most))
}
