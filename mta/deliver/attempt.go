package deliver

import (
	"context"
	"net/netip"
	"slices"

	"postrider/mta"
)

// Limits of one attempt.
const (
	maxAddresses = 12  // connections tried, to all hops together
	maxRcpts     = 100 // recipients of one transaction (RFC 5321 section 4.5.3.1.8)
)

// attempt is one run of a Delivery.
type attempt struct {
	c   *Client
	d   *mta.Delivery
	msg content
	out []mta.Outcome // the zero Outcome while nothing is known
	// open lists the recipients whose fate is not known, in order.
	open  []int
	tried int
	// taken counts recipients that a peer took and Partial was not told of.
	taken int
	// lastTemporary and lastPermanent are what failed before a peer answered
	// for a recipient: no connection, or a greeting that refuses.
	lastTemporary, lastPermanent mta.Outcome
	// session is where the last transaction ended well; it waits for Record.
	session *session
}

// failure ends the use of a connection.
type failure struct {
	reply  *mta.Reply // for recipients that got none of their own
	peer   bool       // the peer said it
	stale  bool       // no answer at all on a connection used before
	unsure bool       // the message was sent whole and nobody knows what became of it
	full   bool       // the connection has carried all the messages it may
}

func (f *failure) Error() string { return f.reply.Error() }

// begin opens the content and settles what no peer need be asked for.
func (a *attempt) begin() {
	a.open = make([]int, len(a.d.To))
	for i := range a.open {
		a.open[i] = i
	}
	if len(a.d.Hops) == 0 {
		a.lastTemporary.Reply = mta.Errorf(451, "4.4.4", "No host to deliver to was found")
		return
	}
	a.msg.open(a.c, a.d)
}

func (a *attempt) close() {
	a.msg.close(a.c)
}

// run tries the hops. A nil error means that outcomes are to be recorded.
func (a *attempt) run(ctx context.Context) error {
	if a.msg.err != nil {
		a.c.o.Log.Error("message content cannot be read", "id", a.d.ID, "err", a.msg.err)
		a.lastTemporary.Reply = errContent()
		return nil
	}
	if len(a.open) == 0 {
		return nil
	}
	for h := range a.d.Hops {
		hop := &a.d.Hops[h]
		for _, addr := range hop.Addrs {
			if a.tried == maxAddresses {
				return nil
			}
			a.tried++
			f, err := a.try(ctx, hop, addr)
			switch {
			case err != nil:
				return err
			case len(a.open) == 0:
				return nil
			case ctx.Err() != nil:
				return a.interrupted(ctx)
			case a.stop(f):
				return nil
			}
			if err := a.partial(); err != nil {
				return err
			}
			if a.session != nil {
				a.c.release(a.session, nil)
				a.session = nil
			}
			if f == nil { // the host spoke for itself: its other addresses would say the same
				break
			}
		}
	}
	return nil
}

// stop tells whether no other address may be tried now.
func (a *attempt) stop(f *failure) bool {
	return f != nil && f.unsure || a.taken > 0 && a.d.Partial == nil
}

// interrupted is what run returns when ctx ended.
func (a *attempt) interrupted(ctx context.Context) error {
	if len(a.open) < len(a.d.To) {
		a.lastTemporary = mta.Outcome{Reply: mta.Errorf(451, "4.3.2", "The attempt was interrupted because the server is stopping")}
		return nil
	}
	return ctx.Err()
}

// try delivers what it can to one address. A failure has been noted where it
// belongs; the error is that of Partial.
func (a *attempt) try(ctx context.Context, hop *mta.Hop, addr netip.AddrPort) (*failure, error) {
	k := keyOf(hop, addr)
	s, f := a.c.session(ctx, k, true)
	ask := slices.Clone(a.open)
	for f == nil {
		var err error
		ask, f, err = a.talk(s, ask)
		switch {
		case f == nil && err == nil:
			if s.detach() {
				a.session = s
			}
			return nil, nil
		case err == nil && f.full && s.detach():
			a.c.release(s, nil)
		default:
			s.detach()
			s.discard()
		}
		if err != nil {
			return nil, err
		}
		if f.stale || f.full {
			s, f = a.c.session(ctx, k, false)
		}
	}
	o := mta.Outcome{Reply: f.reply}
	if f.peer {
		o.Host, o.Addr = hop.Host, addr
	}
	if f.reply.Temporary() {
		a.lastTemporary = o
	} else {
		a.lastPermanent = o
	}
	return f, nil
}

// talk runs transactions over s until every recipient of ask has had an answer
// from it. After a failure rest are those to ask for over another connection to
// the same host, so that each attempt asks it for a recipient once.
func (a *attempt) talk(s *session, ask []int) (rest []int, f *failure, err error) {
	for {
		n := min(len(ask), s.maxRcpts())
		more, f := a.transaction(s, ask[:n])
		a.settle()
		if f != nil {
			return slices.DeleteFunc(ask, func(i int) bool { return !slices.Contains(a.open, i) }), f, nil
		}
		ask = append(more, ask[n:]...)
		if len(ask) == 0 || a.stop(nil) {
			return nil, nil, nil
		}
		if err := a.partial(); err != nil {
			return nil, nil, err
		}
		if s.spent() {
			return ask, &failure{reply: mta.Errorf(451, "4.5.3", "Left for another connection"), full: true}, nil
		}
	}
}

// settle takes the recipients whose fate is known off the open list.
func (a *attempt) settle() {
	open := a.open[:0]
	for _, i := range a.open {
		switch r := a.out[i].Reply; {
		case r == nil || r.Temporary():
			open = append(open, i)
		case r.Success():
			a.taken++
		}
	}
	a.open = open
}

// partial makes durable what a peer took, before anything else is sent.
func (a *attempt) partial() error {
	if a.taken == 0 {
		return nil
	}
	a.taken = 0
	known := make([]mta.Outcome, len(a.out))
	copy(known, a.out)
	for _, i := range a.open {
		known[i] = mta.Outcome{}
	}
	return a.d.Partial(known)
}

// record fills in what is not known and calls Record.
func (a *attempt) record() error {
	for _, i := range a.open {
		if a.out[i].Reply == nil {
			a.out[i] = a.unanswered()
		}
	}
	return a.d.Record(a.out)
}

// unanswered is the outcome of a recipient that no peer spoke of.
func (a *attempt) unanswered() mta.Outcome {
	switch {
	case a.lastTemporary.Reply != nil:
		return a.lastTemporary
	case len(a.open) < len(a.d.To):
		return mta.Outcome{Reply: mta.Errorf(451, "4.5.3", "Left for the next attempt: the message has more recipients than fit into one transaction")}
	case a.lastPermanent.Reply != nil:
		return a.lastPermanent
	}
	return mta.Outcome{Reply: mta.Errorf(451, "4.4.1", "No address was left to try")}
}
