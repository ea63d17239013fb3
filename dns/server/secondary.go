package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	miekg "github.com/miekg/dns"
)

// Bounds on what a SOA record can make a secondary do.
const (
	minRefresh = 5 * time.Second
	maxRefresh = 28 * 24 * time.Hour
	minRetry   = 2 * time.Second
	maxRetry   = 24 * time.Hour
	minExpire  = 10 * time.Second
	// firstRetry and lastRetry are the waits of a zone that was never loaded.
	firstRetry = 5 * time.Second
	lastRetry  = 5 * time.Minute
)

func between(seconds uint32, low, high time.Duration) time.Duration {
	return min(max(time.Duration(seconds)*time.Second, low), high)
}

// follow keeps a secondary zone up to date until the zone stops: after the times
// of its SOA record, and at once when a primary notifies (RFC 1034 section 4.3.5,
// RFC 1996 section 4.3).
func (z *served) follow() {
	wait := time.Duration(0)
	failures := 0
	for {
		t := z.s.clock.NewTimer(wait)
		select {
		case <-t.Chan():
		case <-z.poke:
			t.Stop()
		case <-z.ctx.Done():
			t.Stop()
			return
		}
		err := z.refresh(z.ctx)
		if z.ctx.Err() != nil {
			return
		}
		if err != nil {
			failures++
			z.s.log.Warn("zone not refreshed", "zone", shown(z.name), "err", err)
		} else {
			failures = 0
		}
		z.note(err)
		wait = z.nextTry(failures)
	}
}

// nextTry is how long to wait; where all tries failed for too long the zone is
// expired first.
func (z *served) nextTry(failures int) time.Duration {
	version := z.current.Load()
	if version == nil {
		return min(firstRetry<<min(failures-1, 10), lastRetry)
	}
	soa := version.SOA()
	if failures == 0 {
		return z.s.jitter(between(soa.Refresh, minRefresh, maxRefresh))
	}
	wait := z.s.jitter(between(soa.Retry, minRetry, maxRetry))
	left := z.expires(soa).Sub(z.s.clock.Now())
	if left <= 0 {
		if !z.expired.Swap(true) {
			z.s.log.Error("zone has expired: no primary has answered for too long", "zone", shown(z.name))
		}
		return wait
	}
	return min(wait, left)
}

// expires is when a zone's data are too old to be given out.
func (z *served) expires(soa *miekg.SOA) time.Time {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.checked.Add(between(soa.Expire, minExpire, 10*365*24*time.Hour))
}

// refresh asks the primaries in turn whether they have a newer version, and
// fetches it from the first that has.
func (z *served) refresh(ctx context.Context) error {
	var errs []error
	for _, r := range z.conf().Primaries {
		err := z.refreshFrom(ctx, r)
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", r.Addr, err))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func (z *served) refreshFrom(ctx context.Context, r Remote) error {
	key := z.s.setup.Load().keys[miekg.CanonicalName(r.Key)]
	have := z.current.Load()
	m := new(miekg.Msg)
	m.SetQuestion(z.name, miekg.TypeSOA)
	m.RecursionDesired = false
	reply, err := z.s.ask(ctx, r.Addr, m, key)
	if err != nil {
		return err
	}
	soa, err := soaOf(reply, z.name)
	if err != nil {
		return err
	}
	if have != nil && !newer(soa.Serial, have.Serial()) {
		if newer(have.Serial(), soa.Serial) {
			return fmt.Errorf("its version %d is older than ours, %d", soa.Serial, have.Serial())
		}
		return z.confirm()
	}
	got, err := z.s.fetch(ctx, r, key, z.name, have)
	if err != nil && have != nil && ctx.Err() == nil {
		// RFC 1995 section 4: whoever cannot do IXFR can do AXFR.
		z.s.log.Debug("no incremental transfer", "zone", shown(z.name), "primary", r.Addr, "err", err)
		got, err = z.s.fetch(ctx, r, key, z.name, nil)
	}
	if err != nil {
		return err
	}
	err = z.take(got)
	if err != nil && len(got.diffs) > 0 && ctx.Err() == nil {
		z.s.log.Warn("the differences do not fit our version: fetching the whole zone", "zone", shown(z.name), "primary", r.Addr, "err", err)
		if got, err = z.s.fetch(ctx, r, key, z.name, nil); err == nil {
			err = z.take(got)
		}
	}
	return err
}

// soaOf finds the zone's SOA in a primary's answer, which has to be
// authoritative.
func soaOf(m *miekg.Msg, name string) (*miekg.SOA, error) {
	if m.Rcode != miekg.RcodeSuccess {
		return nil, rcodeError(m.Rcode)
	}
	for _, rr := range m.Answer {
		if soa, ok := rr.(*miekg.SOA); ok && miekg.CanonicalName(soa.Hdr.Name) == name && m.Authoritative {
			return soa, nil
		}
	}
	return nil, errors.New("it is not authoritative for the zone")
}

// take makes what was fetched durable, then visible, then known.
func (z *served) take(got *fetched) error {
	z.changing.Lock()
	defer z.changing.Unlock()
	switch {
	case got.whole != nil:
		if err := z.replaceLocked(got.whole); err != nil {
			return err
		}
	case len(got.diffs) > 0:
		next := z.current.Load()
		for _, d := range got.diffs {
			var err error
			if next, err = next.Apply(d); err != nil {
				return err
			}
		}
		if err := z.appendLocked(next, got.diffs...); err != nil {
			return err
		}
	}
	return z.confirm()
}

// confirm notes that a primary has said that our version is the present one.
func (z *served) confirm() error {
	now := z.s.clock.Now()
	z.mu.Lock()
	z.checked = now
	z.mu.Unlock()
	if z.expired.Swap(false) {
		z.s.log.Info("zone is good again", "zone", shown(z.name))
	}
	return z.files.saveChecked(now)
}

// notified takes a NOTIFY (RFC 1996). It is believed from the primaries of a
// secondary zone, by address or signature; what changed is asked of them.
func (s *Server) notified(at *setup, w *work) {
	question := w.q.question()
	z := at.zones[question.Name]
	switch {
	case z == nil:
		s.fail(w, miekg.RcodeNotAuth)
		return
	case question.Qtype != miekg.TypeSOA || question.Qclass != miekg.ClassINET:
		s.fail(w, miekg.RcodeNotImplemented) // no other type has a meaning yet
		return
	case !z.fromPrimary(w):
		s.log.Info("notification refused: not from a primary", "zone", shown(z.name), "client", w.addr.String())
		w.fate.reason = "not from a primary of the zone"
		s.fail(w, miekg.RcodeRefused) // section 3.10 says to ignore it; this tells who made a mistake
		return
	}
	z.hurry()
	e := w.failure(&w.q, miekg.RcodeSuccess)
	e.flags |= flagAA
	s.reply(w, e)
}

func (z *served) fromPrimary(w *work) bool {
	for _, r := range z.conf().Primaries {
		if w.signed != nil && r.Key != "" && miekg.CanonicalName(r.Key) == w.signed.key.Name {
			return true
		}
		// A notification is a hint alone: from the right address it needs no
		// signature, since what follows has one.
		if r.addr() == w.addr {
			return true
		}
	}
	return false
}

// hurry makes follow look now.
func (z *served) hurry() {
	select {
	case z.poke <- struct{}{}:
	default:
	}
}
