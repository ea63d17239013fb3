package dnssec

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/miekg/dns"

	"postrider/dns/names"
)

// Times of RFC 5011 sections 2.3 and 2.4. A new key is trusted once it has stood
// in the zone, signed by a trusted one, for addHoldDown; one that was revoked is
// remembered as such for removeHoldDown, and as removed after that.
const (
	addHoldDown    = 30 * 24 * time.Hour
	removeHoldDown = 30 * 24 * time.Hour
	minRefresh     = time.Hour
	maxRefresh     = 15 * 24 * time.Hour
	maxRetry       = 24 * time.Hour
)

// keyState is a state of RFC 5011 section 4; Start is a key that is not kept.
type keyState string

const (
	statePending keyState = "pending" // AddPend
	stateValid   keyState = "valid"
	stateMissing keyState = "missing"
	stateRevoked keyState = "revoked"
	stateRemoved keyState = "removed"
)

func (s keyState) trusted() bool { return s == stateValid || s == stateMissing }
func (s keyState) gone() bool    { return s == stateRevoked || s == stateRemoved }

// anchorKey is a key of a trust point that has been seen. The REVOKE bit of the
// record is always clear, so that a key is the same before and after.
type anchorKey struct {
	key   *dns.DNSKEY
	state keyState
	since time.Time // when the state was entered
}

// trustPoint is a zone with anchors of its own.
type trustPoint struct {
	configured []dns.RR // DS and DNSKEY, in the order of the options
	keys       []*anchorKey
	due        time.Time // when its keys are to be looked at again
}

// anchors are the trust points by name, guarded by the Validator's lock.
type anchors struct {
	state  string // file; "" = anchors do not change
	points map[string]*trustPoint
}

func openAnchors(rrs []dns.RR, state string) (*anchors, error) {
	a := &anchors{state: state, points: make(map[string]*trustPoint)}
	for _, rr := range rrs {
		rr, err := checkAnchor(rr)
		if err != nil {
			return nil, fmt.Errorf("trust anchors: %w", err)
		}
		name := rr.Header().Name
		if a.points[name] == nil {
			a.points[name] = &trustPoint{}
		}
		a.points[name].configured = append(a.points[name].configured, rr)
	}
	if state == "" {
		return a, nil
	}
	if err := a.load(); err != nil {
		return nil, fmt.Errorf("trust anchors: %w", err)
	}
	return a, nil
}

// trusted are the records that stand for the zone's keys now: what was
// configured, but not what has been revoked since, and the keys that came later.
func (p *trustPoint) trusted() []dns.RR {
	var list []dns.RR
	for _, rr := range p.configured {
		if k := p.keyOf(rr); k == nil || !k.state.gone() {
			list = append(list, rr)
		}
	}
	for _, k := range p.keys {
		if k.state.trusted() && !p.isConfigured(k.key) {
			list = append(list, k.key)
		}
	}
	return list
}

// keyOf is the known key that a configured record stands for, or nil.
func (p *trustPoint) keyOf(rr dns.RR) *anchorKey {
	for _, k := range p.keys {
		if trusts(rr, key{k.key, k.key.KeyTag()}) {
			return k
		}
	}
	return nil
}

func (p *trustPoint) isConfigured(k *dns.DNSKEY) bool {
	tagged := key{k, k.KeyTag()}
	return slices.ContainsFunc(p.configured, func(rr dns.RR) bool { return trusts(rr, tagged) })
}

// closestAnchor is the deepest zone at or above name that has an anchor. Where
// all anchors of a zone were revoked it counts as never configured, and with
// none above it names are insecure (RFC 5011 section 5).
func (v *Validator) closestAnchor(name string) (zone string, trust []dns.RR, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	revoked := ""
	for up := name; ; up = names.Parent(up) {
		if p := v.anchors.points[up]; p != nil {
			if trust := p.trusted(); len(trust) > 0 {
				return up, trust, nil
			}
			revoked = up
		}
		if up == "." {
			break
		}
	}
	if revoked != "" {
		return "", nil, insecure(0, "all trust anchors of %s were revoked", revoked)
	}
	return "", nil, &failure{security: Indeterminate, code: dns.ExtendedErrorCodeDNSSECIndeterminate, text: "no trust anchor is above " + name}
}

// Refresh looks at the keys of the trust points that are due, follows those that
// come and go (RFC 5011), and writes the state file. It returns when the next is
// due; the zero time if anchors do not change, since Options.State is "". One
// call of Refresh must end before the next. An error is about points that could
// not be asked, which are due again at the time returned, or about the file.
func (v *Validator) Refresh(ctx context.Context, f Fetcher) (next time.Time, err error) {
	if v.anchors.state == "" {
		return time.Time{}, nil
	}
	now := v.clock.Now()
	v.mu.Lock()
	names := slices.Sorted(maps.Keys(v.anchors.points))
	v.mu.Unlock()
	var errs []error
	for _, name := range names {
		if err := v.refreshPoint(ctx, f, name, now); err != nil {
			errs = append(errs, fmt.Errorf("trust anchors of %s: %w", name, err))
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range v.anchors.points {
		if next.IsZero() || p.due.Before(next) {
			next = p.due
		}
	}
	return next, errors.Join(errs...)
}

// refreshPoint asks for the keys of one trust point if it is time.
func (v *Validator) refreshPoint(ctx context.Context, f Fetcher, name string, now time.Time) error {
	v.mu.Lock()
	p := v.anchors.points[name]
	if now.Before(p.due) {
		v.mu.Unlock()
		return nil
	}
	p.due = now.Add(minRefresh) // unless the answer says more
	trust := p.trusted()
	v.mu.Unlock()

	get := f.Fetch
	if r, ok := f.(Refetcher); ok {
		get = r.Refetch
	}
	m, err := get(ctx, name, dns.TypeDNSKEY)
	if err != nil {
		return err
	}
	set := find(groupSets(m.Answer), name, dns.TypeDNSKEY)
	if set == nil {
		return errors.New("the answer has no DNSKEY records")
	}
	r := v.newRun(f)
	r.now = now
	c, valid := r.checkKeys(set, trust, true)
	revoked := r.revokedKeys(set)

	v.mu.Lock()
	defer v.mu.Unlock()
	changed := p.revoke(now, revoked)
	if valid == nil {
		changed = p.observe(now, set, c.sig.OrigTtl) || changed
		p.due = now.Add(interval(now, c.sig, 2, maxRefresh))
	} else if len(set.sigs) > 0 {
		p.due = now.Add(interval(now, set.sigs[0], 10, maxRetry))
	}
	if changed {
		v.zones.flush()
		if err := v.anchors.save(); err != nil {
			return errors.Join(valid, err)
		}
	}
	return valid
}

// interval is a part of the TTL and of the time that the signature has left, but
// not under an hour (RFC 5011 section 2.3).
func interval(now time.Time, sig *dns.RRSIG, part time.Duration, most time.Duration) time.Duration {
	left := time.Duration(int32(sig.Expiration-uint32(now.Unix()))) * time.Second
	return max(minRefresh, min(most, time.Duration(sig.OrigTtl)*time.Second/part, left/part))
}

// revokedKeys are the keys of a set that say themselves that they are revoked:
// REVOKE is set, and the key has signed the set so (RFC 5011 section 2.1). The
// bit is cleared in what is returned.
func (r *run) revokedKeys(set *rrset) []*dns.DNSKEY {
	var list []*dns.DNSKEY
	for i, rr := range set.rrs {
		k, ok := rr.(*dns.DNSKEY)
		if !ok || i >= maxKeys || k.Flags&dns.REVOKE == 0 {
			continue
		}
		clear := dns.Copy(k).(*dns.DNSKEY)
		clear.Flags &^= dns.REVOKE
		if !usableKey(clear) {
			continue
		}
		if _, err := verifySet(&r.budget, r.now, set, set.name, []key{{k, k.KeyTag()}}); err == nil {
			list = append(list, clear)
		}
	}
	return list
}

// revoke notes keys that revoked themselves. A key that was never trusted is
// forgotten rather than kept.
func (p *trustPoint) revoke(now time.Time, revoked []*dns.DNSKEY) (changed bool) {
	for _, k := range revoked {
		known := p.known(k)
		switch {
		case known == nil && p.isConfigured(k):
			p.keys = append(p.keys, &anchorKey{k, stateRevoked, now})
			changed = true
		case known != nil && known.state == statePending:
			p.forget(known)
			changed = true
		case known != nil && !known.state.gone():
			known.state, known.since = stateRevoked, now
			changed = true
		}
	}
	return changed
}

func (p *trustPoint) known(k *dns.DNSKEY) *anchorKey {
	for _, a := range p.keys {
		if a.key.Algorithm == k.Algorithm && a.key.PublicKey == k.PublicKey {
			return a
		}
	}
	return nil
}

func (p *trustPoint) forget(k *anchorKey) {
	p.keys = slices.DeleteFunc(p.keys, func(o *anchorKey) bool { return o == k })
}

// observe moves the keys of a point by the table of RFC 5011 section 4.2, given a
// set of keys that is validated. Only keys with the SEP bit become anchors.
func (p *trustPoint) observe(now time.Time, set *rrset, ttl uint32) (changed bool) {
	present := make(map[*anchorKey]bool)
	for _, k := range zoneKeys(set) {
		if k.Flags&dns.SEP == 0 {
			continue
		}
		known := p.known(k.DNSKEY)
		if known == nil {
			if len(p.keys) == maxAnchors {
				continue
			}
			state := statePending
			if p.isConfigured(k.DNSKEY) {
				state = stateValid
			}
			known = &anchorKey{k.DNSKEY, state, now}
			p.keys = append(p.keys, known)
			changed = true
		}
		present[known] = true
	}
	hold := max(addHoldDown, time.Duration(ttl)*time.Second)
	for _, k := range slices.Clone(p.keys) {
		changed = p.step(k, present[k], now, hold) || changed
	}
	return changed
}

// step is one row of the table.
func (p *trustPoint) step(k *anchorKey, present bool, now time.Time, hold time.Duration) (changed bool) {
	next := k.state
	switch {
	case k.state == statePending && !present:
		p.forget(k)
		return true
	case k.state == statePending && (now.Sub(k.since) >= hold || p.isConfigured(k.key)),
		k.state == stateMissing && present:
		next = stateValid
	case k.state == stateValid && !present:
		next = stateMissing
	case k.state == stateRevoked && now.Sub(k.since) >= removeHoldDown:
		next = stateRemoved
	}
	if next == k.state {
		return false
	}
	k.state, k.since = next, now
	return true
}
