package recursor

import (
	"context"
	"errors"
	"sync"
	"time"

	miekg "github.com/miekg/dns"
)

type flightKey struct {
	key  key
	cd   bool
	from string // the zone of Ask.Referral; "" for the root
}

// flight is a question that is being worked on, for all who asked it.
type flight struct {
	done   chan struct{}
	pieces []*piece // set before done is closed
	err    error

	mu        sync.Mutex
	steps     []Step
	observers map[int]func(Step)
	next      int
}

// work says how a flight differs from the usual.
type work struct {
	begin *cut // in place of the root; nil: the root
	renew bool // what is near its end counts as over
}

// note hands a step to those who watch.
func (f *flight) note(s Step) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.steps) < maxSteps {
		f.steps = append(f.steps, s)
	}
	for _, o := range f.observers {
		o(s)
	}
}

// watch hands over the steps so far and those to come until leave is called.
func (f *flight) watch(o func(Step)) (leave func()) {
	if o == nil {
		return func() {}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.steps {
		o(s)
	}
	n := f.next
	f.next++
	f.observers[n] = o
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.observers, n)
	}
}

// fly waits for the answer to a question: from the work that is under way, or
// from work that it starts. When that takes long or fails, what was known
// before is given (RFC 8767 section 5).
func (r *Resolver) fly(ctx context.Context, k key, a Ask, start *cut) Answer {
	stale := r.staleFor(k, a)
	if p := r.cache.failure(k); p != nil {
		if stale != nil {
			return r.serveStale(stale, a)
		}
		ans := failureOf(p.err)
		ans.ExtendedErrors = append(ans.ExtendedErrors, ExtendedError{miekg.ExtendedErrorCodeCachedError, ""})
		ans.FromCache = true
		return ans
	}
	fk := flightKey{key: k, cd: a.CheckingDisabled}
	if start != nil {
		fk.from = start.zone
	}
	f, err := r.start(ctx, fk, &work{begin: start})
	if err != nil {
		return failureOf(err)
	}
	leave := f.watch(a.Observe)
	defer leave()
	var impatient <-chan time.Time
	if stale != nil {
		t := r.o.Clock.NewTimer(staleTimer)
		defer t.Stop()
		impatient = t.Chan()
	}
	select {
	case <-f.done:
	case <-impatient:
		return r.serveStale(stale, a)
	case <-ctx.Done():
		return failureOf(ctx.Err())
	}
	switch {
	case f.err == nil:
		return r.assemble(f.pieces, a, r.o.Clock.Now())
	case stale != nil:
		return r.serveStale(stale, a)
	}
	return failureOf(f.err)
}

// start joins the flight for a question, or starts one. It waits while too
// many are under way.
func (r *Resolver) start(ctx context.Context, fk flightKey, w *work) (*flight, error) {
	if f := r.join(fk); f != nil {
		return f, nil
	}
	select {
	case r.room <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-r.ctx.Done():
		return nil, errClosed
	}
	return r.launch(fk, w)
}

func (r *Resolver) join(fk flightKey) *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flights[fk]
}

// launch starts the work; the caller has taken room for it.
func (r *Resolver) launch(fk flightKey, w *work) (*flight, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f, ok := r.flights[fk]; ok || r.closed {
		<-r.room
		if !ok {
			return nil, errClosed
		}
		return f, nil
	}
	f := &flight{done: make(chan struct{}), observers: map[int]func(Step){}}
	r.flights[fk] = f
	r.wg.Go(func() {
		defer func() {
			r.mu.Lock()
			delete(r.flights, fk)
			r.mu.Unlock()
			close(f.done)
			<-r.room
		}()
		r.work(f, fk, w)
	})
	return f, nil
}

// work finds the pieces of an answer, alias by alias.
func (r *Resolver) work(f *flight, fk flightKey, w *work) {
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	timer := r.o.Clock.AfterFunc(patience, func() { cancel(context.DeadlineExceeded) })
	defer timer.Stop()
	r.refresh()
	t := &task{r: r, f: f, queries: maxQueries, fetches: maxFetches, renew: w.renew, begin: w.begin}
	k := fk.key
	for range maxAliases {
		p, err := t.lookup(ctx, k)
		if err == nil && !fk.cd {
			p, err = t.secured(ctx, p)
		}
		if err != nil {
			if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
				err = cause
			}
			f.pieces, f.err = nil, err
			if r.ctx.Err() == nil {
				ttl := failureTTL
				if !r.o.NoStale && r.staleFor(fk.key, Ask{}) != nil {
					ttl = staleRecheck
				}
				r.cache.fail(&piece{key: fk.key, err: err, ttl: ttl, stored: r.o.Clock.Now()})
			}
			return
		}
		f.pieces = append(f.pieces, p)
		if !p.follows(k) || w.begin != nil && !miekg.IsSubDomain(w.begin.zone, p.target) {
			return
		}
		k.name = p.target
	}
	f.pieces, f.err = nil, errAliases
	r.cache.fail(&piece{key: fk.key, err: f.err, ttl: failureTTL, stored: r.o.Clock.Now()})
}

// assemble makes an answer of pieces, with the TTLs that remain.
func (r *Resolver) assemble(list []*piece, a Ask, now time.Time) Answer {
	ans := Answer{Security: Secure}
	for i, p := range list {
		ans.Security = worse(ans.Security, p.security)
		if p.security == Bogus && !a.CheckingDisabled {
			code := p.ede
			return Answer{
				Rcode: miekg.RcodeServerFailure, Security: Bogus, Err: errors.New(p.edeText),
				ExtendedErrors: []ExtendedError{{code, p.edeText}},
			}
		}
		ans.Answer = append(ans.Answer, aged(p.answer, p, now)...)
		if p.kind == notExist {
			ans.Rcode = miekg.RcodeNameError
		}
		if i == len(list)-1 || p.security == Secure {
			ans.Ns = append(ans.Ns, aged(p.ns, p, now)...)
		}
		until := p.expires()
		if p.ttl <= 0 {
			until = time.Time{}
		}
		if i == 0 || until.Before(ans.FreshUntil) {
			ans.FreshUntil = until
		}
	}
	ans.Authenticated = ans.Security == Secure && r.o.Validator != nil
	if a.CheckingDisabled {
		ans.FreshUntil = time.Time{}
	}
	return ans
}

// aged copies records with the TTL that remains of the piece.
func aged(rrs []miekg.RR, p *piece, now time.Time) []miekg.RR {
	ttl := uint32(max(0, p.left(now)+time.Second-1) / time.Second)
	return withTTL(rrs, ttl)
}

func withTTL(rrs []miekg.RR, ttl uint32) []miekg.RR {
	list := make([]miekg.RR, 0, len(rrs))
	for _, rr := range rrs {
		rr = miekg.Copy(rr)
		rr.Header().Ttl = ttl
		list = append(list, rr)
	}
	return list
}

// staleFor returns the pieces of an answer that may be used after their end,
// nil if there are none.
func (r *Resolver) staleFor(k key, a Ask) []*piece {
	if r.o.NoStale {
		return nil
	}
	var list []*piece
	for range maxAliases {
		p := r.cache.piece(k)
		if p == nil || r.o.Validator != nil && !p.checked && !a.CheckingDisabled {
			return nil
		}
		list = append(list, p)
		if !p.follows(k) {
			return list
		}
		k.name = p.target
	}
	return nil
}

// serveStale answers with what is over (RFC 8767 section 5): a short TTL, and
// a word about it.
func (r *Resolver) serveStale(list []*piece, a Ask) Answer {
	now := r.o.Clock.Now()
	ans := r.assemble(list, a, now)
	ans.Stale, ans.FromCache, ans.FreshUntil = true, true, time.Time{}
	ttl := uint32(staleTTL / time.Second)
	ans.Answer, ans.Ns = withTTL(ans.Answer, ttl), withTTL(ans.Ns, ttl)
	e := ExtendedError{Code: miekg.ExtendedErrorCodeStaleAnswer}
	if ans.Rcode == miekg.RcodeNameError {
		e.Code = miekg.ExtendedErrorCodeStaleNXDOMAINAnswer
	}
	ans.ExtendedErrors = append(ans.ExtendedErrors, e)
	last := list[len(list)-1]
	s := Step{Time: now, Kind: StepStale, Question: last.key.question(), Depth: 1, Zone: last.zone, Reply: last.message(), TTL: staleTTL, Security: ans.Security}
	for _, o := range []func(Step){a.Observe, r.o.Observe} {
		if o != nil {
			o(s)
		}
	}
	return ans
}

// prefetch renews an answer that is near its end and asked for often, so that
// nobody waits for it.
func (r *Resolver) prefetch(k key, a Ask, list []*piece, now time.Time, ans *Answer) {
	if r.o.NoPrefetch || len(list) == 0 || a.NoRecursion || len(a.Referral) > 0 {
		return
	}
	for _, p := range list {
		margin := p.ttl / prefetchPart
		if p.ttl < prefetchLeast {
			continue
		}
		if early := p.expires().Add(-margin); early.Before(ans.FreshUntil) {
			ans.FreshUntil = early // who keeps copies asks us in time
		}
		if p.left(now) > margin || !r.cache.popular(p) {
			continue
		}
		fk := flightKey{key: k, cd: a.CheckingDisabled}
		if r.join(fk) != nil {
			return
		}
		select {
		case r.room <- struct{}{}:
		default:
			return // there is more urgent work
		}
		if _, err := r.launch(fk, &work{renew: true}); err != nil {
			r.log.Debug("an answer is not renewed", "name", k.name, "error", err)
		}
		return
	}
}
