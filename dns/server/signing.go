package server

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
	"postrider/dns/recursor"
	"postrider/dns/zone"
)

const (
	// signEvery is how often at least the keys are looked at, and the parent is
	// asked which of them it names.
	signEvery = 6 * time.Hour
	// signRetry is the wait after a failure, and the least wait at all.
	signRetry = time.Minute
)

// signer holds the keys of a zone that we sign ourselves.
type signer struct {
	ring *dnssec.Ring

	mu  sync.Mutex
	due time.Time // the next signature ends soon
}

// openSigner returns nil for a zone that is not signed here. Keys are in the
// folder keys below dir.
func (s *Server) openSigner(c *ZoneConfig) (*signer, error) {
	switch {
	case c.Sign == nil:
		return nil, nil
	case c.secondary():
		return nil, fmt.Errorf("a secondary zone is signed by its primary")
	case s.dir == "":
		return nil, fmt.Errorf("there is no folder for the keys")
	}
	ring, err := dnssec.OpenRing(s.keyDir(), c.Name, *c.Sign, dnssec.RingOptions{Clock: s.clock})
	if err != nil {
		return nil, err
	}
	return &signer{ring: ring}, nil
}

func (s *Server) keyDir() string { return filepath.Join(s.dir, "keys") }

// abandoned tells of a zone that is not to be signed that it was signed here, and
// not made unsigned in the way that keeps it valid (Ring.Unsign).
func (s *Server) abandoned(c *ZoneConfig) bool {
	if c.Sign != nil || c.secondary() || s.dir == "" {
		return false
	}
	had, err := dnssec.HasKeys(s.keyDir(), c.Name)
	if err != nil { // no reason not to serve it
		s.log.Warn("it is not known whether a zone was signed", "zone", shown(c.Name), "err", err)
	}
	return had
}

// stillSigned is what a zone's parent says when the zone is no longer signed.
const stillSigned = "the parent still has DS records of the zone, which is not signed any more: whoever validates takes its answers for forged; " +
	"sign it again, and make it unsigned with `postrider dns keys ZONE --unsign`, or have the parent delete the DS records"

// watchParent warns, until the zone stops, as long as its parent says that it is
// signed.
func (z *served) watchParent() {
	for {
		if seen, known := z.parentDS(); known {
			if len(seen) > 0 {
				z.s.log.Warn(stillSigned, "zone", shown(z.name), "key", seen[0].KeyTag)
			}
			z.mu.Lock()
			z.forged = len(seen) > 0
			z.mu.Unlock()
		}
		if !z.wait(signEvery) {
			return
		}
	}
}

// abandonedAdvice is what there is to say about the keys of a zone that was
// signed here.
func (z *served) abandonedAdvice() []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.forged {
		return []string{stillSigned + "."}
	}
	return []string{"The zone is not signed any more; its keys are kept. No DS record of it is known at the parent."}
}

// sign makes the signed version of one that was changed; old is what is served
// now, or nil. Of a zone that is not signed here it is the version itself.
func (z *served) sign(next, old *zone.Zone, scan bool) (*zone.Zone, error) {
	if z.signer == nil {
		return next, nil
	}
	how, step, err := z.signer.ring.Step()
	if err != nil {
		return nil, err
	}
	signed, due, err := next.Sign(zone.SignOptions{Signing: how, Old: old, Scan: scan})
	if err != nil {
		return nil, err
	}
	if due.IsZero() || !step.IsZero() && step.Before(due) {
		due = step
	}
	z.signer.mu.Lock()
	defer z.signer.mu.Unlock()
	if scan || old == nil || z.signer.due.IsZero() || !due.IsZero() && due.Before(z.signer.due) {
		z.signer.due = due
	}
	return signed, nil
}

// keepSigned signs again what is about to end, and lets keys follow each other,
// until the zone stops.
func (z *served) keepSigned() {
	wait := signEvery
	if have := z.current.Load(); have != nil && !have.Signed() {
		wait = 0 // until now it was not to be signed
	}
	for failed := false; ; wait = signEvery {
		z.signer.mu.Lock()
		due := z.signer.due
		z.signer.mu.Unlock()
		if !due.IsZero() {
			wait = min(wait, max(due.Sub(z.s.clock.Now()), signRetry))
		}
		if failed {
			wait = signRetry
		}
		if !z.wait(wait) {
			return
		}
		err := z.signAgain()
		if failed = err != nil; failed && z.ctx.Err() == nil {
			z.s.log.Error("zone not signed again", "zone", shown(z.name), "err", err)
		}
	}
}

func (z *served) signAgain() error {
	if err := z.askParent(); err != nil {
		return err
	}
	z.changing.Lock()
	defer z.changing.Unlock()
	have := z.current.Load()
	if have == nil {
		return nil
	}
	next, err := z.sign(have, have, true)
	if err != nil {
		return err
	}
	diff := zone.Between(have, next)
	if diff.Empty() {
		return nil
	}
	return z.appendLocked(next, diff)
}

// askParent tells the ring which DS records the world sees. What cannot be
// known is not told.
func (z *served) askParent() error {
	if seen, known := z.parentDS(); known {
		return z.signer.ring.ParentDS(seen)
	}
	return nil
}

// parentDS are the DS records of the zone that the world sees, if that can be
// known.
func (z *served) parentDS() (seen []*miekg.DS, known bool) {
	if z.s.recursor == nil || z.name == "." {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(z.ctx, workTime)
	defer cancel()
	r := z.s.recursor.Resolve(ctx, miekg.Question{Name: z.name, Qtype: miekg.TypeDS, Qclass: miekg.ClassINET}, recursor.Ask{})
	if r.Rcode != miekg.RcodeSuccess || r.Err != nil || r.Stale {
		return nil, false
	}
	for _, rr := range r.Answer {
		if ds, ok := rr.(*miekg.DS); ok && miekg.CanonicalName(ds.Hdr.Name) == z.name {
			seen = append(seen, ds)
		}
	}
	return seen, true
}

// Keys tells which DS records the zone above is to have for a zone that we sign,
// none while it is too early, and in sentences where its keys are. An error
// wraps ErrNoZone, also for a zone that is not signed here.
func (s *Server) Keys(name string) (ds []*miekg.DS, advice []string, err error) {
	z := s.setup.Load().zones[name]
	if z == nil || z.signer == nil {
		return nil, nil, fmt.Errorf("keys of %s: %w", shown(name), ErrNoZone)
	}
	return z.signer.ring.DS(), z.signer.ring.Advice(), nil
}
