package recursor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
)

// Security is what is known about the truth of an answer.
type Security = dnssec.Security

// What an answer can be (RFC 4035 section 4.3).
const (
	Indeterminate = dnssec.Indeterminate
	Insecure      = dnssec.Insecure
	Secure        = dnssec.Secure
	Bogus         = dnssec.Bogus
)

// worse is the security of two things together.
func worse(a, b Security) Security {
	if a == Bogus || b == Bogus {
		return Bogus
	}
	return min(a, b)
}

// secured is the piece with a verdict on it, which the cache keeps. A bogus one
// is asked for once more, of another server.
func (t *task) secured(ctx context.Context, p *piece) (*piece, error) {
	if t.r.o.Validator == nil || p.checked {
		return p, nil
	}
	q, err := t.judge(ctx, p)
	if err != nil || q.security != Bogus {
		return q, err
	}
	again, err := t.again(ctx, p.key, p.addr)
	if err != nil {
		return q, nil // the first verdict stands
	}
	other, err := t.judge(ctx, again)
	if err != nil {
		return q, nil
	}
	return other, nil
}

// judge has the validator look at a piece.
func (t *task) judge(ctx context.Context, p *piece) (*piece, error) {
	q := p.key
	if p.kind == alias {
		q.typ = cnameType // the piece says no more; what else was in the answer is asked for again
	}
	t.nested++
	v := t.r.o.Validator.Validate(ctx, q.question(), p.message(), t)
	t.nested--
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	t.step(Step{Kind: StepValidated, Question: p.key.question(), Zone: p.zone, Reply: p.message(), Security: v.Security, Chain: v.Chain, Err: textError(v.Text)})
	if v.Unreachable {
		return nil, fmt.Errorf("%w: the keys of the zone can't be had: %s", errNoServer, v.Text)
	}
	n := *p
	n.checked, n.security, n.ede, n.edeText = true, v.Security, v.ExtendedError, v.Text
	switch {
	case v.Security == Bogus:
		n.ttl = min(n.ttl, bogusTTL)
	case v.Security == Secure:
		n.ttl = min(n.ttl, v.Lifetime)
		if !t.r.o.NoAggressive {
			t.r.cache.learn(v.Zone, &n, v.Proofs)
		}
	}
	t.r.cache.validated(p, &n)
	return &n, nil
}

// textError is nil for no text.
func textError(s string) error {
	if s == "" {
		return nil
	}
	return errors.New(s)
}

// again asks past the cache, and not the server that gave the first answer if
// there is another.
func (t *task) again(ctx context.Context, k key, except address) (*piece, error) {
	before := t.avoid
	if except.IsValid() {
		t.avoid = append(slices.Clone(before), except)
	}
	t.stack = append(t.stack, k)
	p, err := t.walk(ctx, k)
	t.stack = t.stack[:len(t.stack)-1]
	t.avoid = before
	return p, err
}

// Fetch gives a validator what it needs of the chain of trust.
func (t *task) Fetch(ctx context.Context, name string, typ uint16) (*miekg.Msg, error) {
	p, err := t.lookup(ctx, key{miekg.CanonicalName(name), typ})
	if err != nil {
		return nil, err
	}
	return p.message(), nil
}

// Refetch is Fetch past the cache.
func (t *task) Refetch(ctx context.Context, name string, typ uint16) (*miekg.Msg, error) {
	k := key{miekg.CanonicalName(name), typ}
	var except address
	if p := t.r.cache.piece(k); p != nil {
		except = p.addr
	}
	p, err := t.again(ctx, k, except)
	if err != nil {
		return nil, err
	}
	return p.message(), nil
}

// refresh follows the trust anchors that come and go (RFC 5011) when that is
// due. It is called with each question: a resolver that nobody asks needs no
// anchors.
func (r *Resolver) refresh() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.o.Validator == nil || r.closed || r.refreshing || r.anchorsDone || r.o.Clock.Now().Before(r.anchorsDue) {
		return
	}
	r.refreshing = true
	r.wg.Go(func() {
		next, err := r.o.Validator.Refresh(r.ctx, &task{r: r, queries: maxQueries, fetches: maxFetches, nested: 1})
		if err != nil && r.ctx.Err() == nil {
			r.log.Warn("the trust anchors of DNSSEC were not looked up", "error", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.refreshing, r.anchorsDue, r.anchorsDone = false, next, next.IsZero()
	})
}
