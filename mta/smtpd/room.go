package smtpd

import (
	"context"
	"errors"

	"postrider/mta"
)

// room asks once more whether the recipients have room for the message, now that
// its size is known: SIZE is not always given, and not always true. In SMTP a
// message is refused when nobody has room; where only some have none, it waits
// for those in the queue. In LMTP each recipient has a reply of its own: those
// without room are taken out of the envelope.
func (s *session) room(ctx context.Context, size int64) *mta.Reply {
	t := s.txn
	var first *mta.Reply
	for i := range t.env.To {
		r := &t.env.To[i]
		var full *mta.Reply
		// Any other error says nothing of the recipient, and Accept will meet it.
		if !errors.As(s.srv.o.Router.Room(ctx, r.Address, r.Targets, size), &full) {
			if s.srv.o.Mode != LMTP {
				return nil
			}
			continue
		}
		if first == nil {
			first = full
		}
		if t.full == nil {
			t.full = make([]*mta.Reply, len(t.env.To))
		}
		t.full[i] = full
	}
	if s.srv.o.Mode != LMTP || first == nil {
		return first
	}
	var left []mta.Recipient
	for i, r := range t.env.To {
		if t.full[i] == nil {
			left = append(left, r)
			continue
		}
		s.recordRecipient(r.Address, nil, t.full[i])
		count(s.srv.o.Metrics.RefusedRecipient)
		s.log.Info("recipient refused", "id", t.env.ID, "from", t.env.From.String(),
			"to", r.Address.String(), "remote", s.conn.Peer(), "reply", t.full[i].Error())
	}
	if len(left) == 0 {
		return first
	}
	t.env.To = left
	return nil
}
