package server

import (
	"context"
	"net/netip"
	"time"

	miekg "github.com/miekg/dns"
)

const (
	// notifyTries and notifyWait: a notification that nobody confirms is sent
	// again, after twice the time each (RFC 1996 section 3.6).
	notifyTries = 5
	notifyWait  = 15 * time.Second
	// notifyDelay gathers the changes of a moment in one notification.
	notifyDelay = 200 * time.Millisecond
)

// addr is the address of another server, without its port.
func (r Remote) addr() netip.Addr {
	ap, err := netip.ParseAddrPort(r.Addr)
	if err != nil {
		return netip.Addr{} // cannot be: Configure has checked it
	}
	return unmapped(ap.Addr())
}

// tell notifies those who have a copy of the zone, at each change, until the
// zone stops.
func (z *served) tell() {
	for {
		select {
		case <-z.changed:
		case <-z.ctx.Done():
			return
		}
		if !z.wait(notifyDelay) {
			return
		}
		select {
		case <-z.changed:
		default:
		}
		for _, r := range z.conf().Notify {
			z.notifyOne(r)
		}
	}
}

// announce makes tell notify, soon.
func (z *served) announce() {
	select {
	case z.changed <- struct{}{}:
	default:
	}
}

// wait is false when the zone stops.
func (z *served) wait(d time.Duration) bool {
	t := z.s.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.Chan():
		return true
	case <-z.ctx.Done():
		return false
	}
}

// notifyOne notifies one server, again and again if need be, beside others. A
// newer change ends it: that is told then.
func (z *served) notifyOne(r Remote) {
	z.mu.Lock()
	if stop := z.telling[r.Addr]; stop != nil {
		stop()
	}
	ctx, cancel := context.WithCancel(z.ctx)
	z.telling[r.Addr] = cancel
	z.mu.Unlock()
	z.wg.Go(func() {
		defer cancel()
		key := z.s.setup.Load().keys[miekg.CanonicalName(r.Key)]
		wait := notifyWait
		for try := 1; ; try++ {
			version := z.current.Load()
			if version == nil {
				return
			}
			m := new(miekg.Msg)
			m.SetNotify(z.name)
			m.Answer = []miekg.RR{version.SOA()}
			reply, err := z.s.askOnce(ctx, "udp", r.Addr, m, key)
			switch {
			case ctx.Err() != nil:
				return
			case err == nil && reply.Rcode != miekg.RcodeSuccess:
				z.s.log.Warn("notification refused", "zone", shown(z.name), "secondary", r.Addr, "rcode", miekg.RcodeToString[reply.Rcode])
				return
			case err == nil:
				z.s.log.Info("secondary notified", "zone", shown(z.name), "secondary", r.Addr, "serial", version.Serial())
				return
			case try == notifyTries:
				z.s.log.Warn("a secondary does not answer notifications", "zone", shown(z.name), "secondary", r.Addr, "err", err)
				return
			}
			t := z.s.clock.NewTimer(wait)
			select {
			case <-t.Chan():
			case <-ctx.Done():
				t.Stop()
				return
			}
			wait *= 2
		}
	})
}
