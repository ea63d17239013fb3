package recursor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/exchange"
	"postrider/dns/names"
)

// The reasons why there is no answer.
var (
	errLoop     = errors.New("its name servers lead back to the question")
	errBudget   = errors.New("it would take too many queries")
	errDepth    = errors.New("its name servers are too many steps away")
	errNoServer = errors.New("no name server of the zone answers")
	errAliases  = errors.New("too many aliases, or a loop of them")
)

// task is the work on one question, with what it may still cost.
type task struct {
	r       *Resolver
	f       *flight
	queries int // how many may still be sent
	fetches int // how many lookups of name servers' addresses may still be made
	stack   []key
	nested  int       // what is being validated
	renew   bool      // what is near its end counts as over
	begin   *cut      // in place of the root; nil: the root
	avoid   []address // servers whose answers did not validate
}

// lookup finds one piece, from the cache or from the servers. The error says
// why there is none.
func (t *task) lookup(ctx context.Context, k key) (*piece, error) {
	switch {
	case slices.Contains(t.stack, k):
		return nil, errLoop
	case len(t.stack) >= maxDepth:
		return nil, errDepth
	}
	now := t.r.o.Clock.Now()
	if p := t.r.cache.piece(k); p != nil && p.left(now) > t.margin(p) {
		t.step(Step{Kind: StepCached, Question: k.question(), Zone: p.zone, TTL: p.left(now), Reply: p.message(), Security: p.security})
		return p, nil
	}
	if p := t.r.cache.prove(k); p != nil {
		t.step(Step{Kind: StepProved, Question: k.question(), Zone: p.zone, TTL: p.left(now), Reply: p.message(), Security: p.security})
		return p, nil
	}
	if len(t.stack)+t.nested > 0 {
		if p := t.r.cache.failure(k); p != nil {
			return nil, p.err
		}
	}
	t.stack = append(t.stack, k)
	p, err := t.walk(ctx, k)
	t.stack = t.stack[:len(t.stack)-1]
	if err != nil {
		// What failed for want of budget may work for others.
		if errors.Is(err, errNoServer) {
			t.r.cache.fail(&piece{key: k, err: err, ttl: failureTTL, stored: t.r.o.Clock.Now()})
		}
		return nil, err
	}
	return p, nil
}

// margin is how much time a piece must have left to be used.
func (t *task) margin(p *piece) time.Duration {
	if t.renew && len(t.stack) == 0 && t.nested == 0 {
		return p.ttl / prefetchPart
	}
	return 0
}

// keep stamps a piece and puts it into the cache.
func (t *task) keep(p *piece) *piece {
	p.stored = t.r.o.Clock.Now()
	t.r.cache.put(p)
	return p
}

// walk follows delegations from the closest one that is known to the answer.
func (t *task) walk(ctx context.Context, k key) (*piece, error) {
	c, err := t.closest(ctx, k)
	if err != nil {
		return nil, err
	}
	m := newMinimiser(k, c.zone, t.r.o.Chained)
	for range maxReferrals {
		q := m.next()
		if q != k {
			if p := t.r.cache.piece(q); p != nil && p.left(t.r.o.Clock.Now()) > 0 {
				m.answered(p.kind)
				continue
			}
		}
		res, err := t.askZone(ctx, c, q)
		switch {
		case err != nil && q != k && ctx.Err() == nil && !errors.Is(err, errBudget) && !errors.Is(err, exchange.ErrTimeout):
			m.giveUp() // RFC 9156 section 3: some servers only know full names
		case err != nil:
			return nil, err
		case res.cut != nil:
			if res.ds != nil {
				t.keep(res.ds)
			}
			c = res.cut
			c.stored = t.r.o.Clock.Now()
			t.r.cache.delegate(c)
			m.enter(c.zone)
		case q == k:
			return t.keep(res.piece), nil
		default:
			t.keep(res.piece)
			m.answered(res.piece.kind)
		}
	}
	return nil, errDepth
}

// closest returns the deepest delegation known on the way to a name; that of
// the root at least. DS records are in the zone above their name (RFC 4035
// section 3.1.4.1).
func (t *task) closest(ctx context.Context, k key) (*cut, error) {
	name := k.name
	if k.typ == dsType && name != "." {
		name = names.Parent(name)
	}
	if t.begin != nil && miekg.IsSubDomain(t.begin.zone, name) {
		return t.begin, nil
	}
	for !t.r.o.Chained && name != "." {
		if c := t.r.cache.delegation(name); c != nil {
			t.stepCut(c)
			return c, nil
		}
		name = names.Parent(name)
	}
	return t.root(ctx, k)
}

// root returns the servers of the root: the set that they name themselves, else
// the hints (RFC 8109).
func (t *task) root(ctx context.Context, k key) (*cut, error) {
	if c := t.r.cache.delegation("."); c != nil {
		t.stepCut(c)
		return c, nil
	}
	hints := t.r.hints.cut()
	prime := key{".", miekg.TypeNS}
	if t.r.o.Chained || k == prime || slices.Contains(t.stack[:max(0, len(t.stack)-1)], prime) || !t.r.mayPrime() {
		return hints, nil
	}
	t.stack = append(t.stack, prime)
	res, err := t.askZone(ctx, hints, prime)
	t.stack = t.stack[:len(t.stack)-1]
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, errBudget) {
			return nil, err
		}
		return hints, nil
	}
	if res.piece == nil || res.piece.kind != positive {
		return hints, nil
	}
	t.keep(res.piece)
	c := res.root
	for _, name := range c.servers { // who answers briefly leaves out what the hints may know
		if len(c.glue[name]) == 0 && len(hints.glue[name]) > 0 {
			c.glue[name] = hints.glue[name]
		}
	}
	if len(c.glue) == 0 {
		return hints, nil
	}
	c.stored = t.r.o.Clock.Now()
	t.r.cache.delegate(c)
	t.r.primed()
	return c, nil
}

// askZone puts a question to the servers of a zone, one after the other, until
// one gives an answer.
func (t *task) askZone(ctx context.Context, c *cut, q key) (*result, error) {
	s := newSelection(t, c)
	last := errNoServer
	for range maxTries {
		name, addr, err := s.next(ctx)
		if err != nil {
			if errors.Is(err, errNoServer) && last != errNoServer {
				err = fmt.Errorf("%w: %s: %w", errNoServer, c.zone, last)
			}
			return nil, err
		}
		if t.queries <= 0 {
			return nil, errBudget
		}
		t.queries--
		step := Step{Question: q.question(), Zone: c.zone, Server: name, Addr: t.r.serverText(addr), Depth: len(t.stack) + t.nested}
		step.Kind = StepAsked
		t.step(step)
		reply, err := t.r.ask(ctx, addr, q)
		var res *result
		if err == nil {
			step.Reply, step.Wire, step.Network, step.Took = reply.Msg, reply.Wire, reply.Network, reply.Took
			res, err = read(c.zone, q, reply.Msg, t.r.o.Chained)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		step.Kind, step.Err = StepAnswered, err
		if err != nil {
			step.Kind = StepFailed
			last = err
			s.failed(addr, err)
		} else if res.cut != nil {
			step.Kind, step.Cut = StepReferral, res.cut.zone
		}
		t.step(step)
		if err == nil {
			return t.finish(res, reply.Msg, name, addr), nil
		}
	}
	return nil, fmt.Errorf("%w: %s: %w", errNoServer, c.zone, last)
}

// finish says of a result where it comes from, and reads what a root server
// says of the root's servers.
func (t *task) finish(res *result, m *miekg.Msg, name string, addr address) *result {
	for _, p := range []*piece{res.piece, res.ds} {
		if p != nil {
			p.server, p.addr = name, addr
		}
	}
	if p := res.piece; p != nil && p.key == (key{".", miekg.TypeNS}) && p.kind == positive {
		res.root = readRoot(p, m)
	}
	return res
}

// selection is the choice among the servers of a zone for one question.
type selection struct {
	t       *task
	c       *cut
	names   map[address]string
	tried   map[address]int
	unknown []string // servers whose addresses are not known
	fetched int
}

func newSelection(t *task, c *cut) *selection {
	s := &selection{t: t, c: c, names: map[address]string{}, tried: map[address]int{}}
	for _, name := range c.servers {
		if !s.know(name) && !miekg.IsSubDomain(c.zone, name) {
			s.unknown = append(s.unknown, name)
		}
	}
	// Whoever made a delegation to many names of others should not choose whom
	// we ask first.
	t.r.shuffle(len(s.unknown), func(i, j int) { s.unknown[i], s.unknown[j] = s.unknown[j], s.unknown[i] })
	return s
}

// know collects the addresses of a server: those that its own zone says, which
// outrank glue (RFC 2181 section 5.4.1), else those of the parent.
func (s *selection) know(name string) bool {
	now := s.t.r.o.Clock.Now()
	own, ended := false, 0
	for _, typ := range s.t.r.families() {
		p := s.t.r.cache.piece(key{name, typ})
		if p == nil || p.left(now) <= 0 || p.kind == alias {
			continue
		}
		ended++
		for _, rr := range p.answer {
			if a := addressOf(rr); a.IsValid() {
				s.add(name, a)
				own = true
			}
		}
	}
	if own {
		return true
	}
	glue := false
	for _, a := range s.c.glue[name] {
		glue = s.add(name, a) || glue
	}
	return glue || ended == len(s.t.r.families())
}

func (s *selection) add(name string, a address) bool {
	a = a.Unmap()
	if !mayAsk(a, s.t.r.o.Local) || !s.t.r.hasFamily(a) {
		return false
	}
	s.names[a] = name
	return true
}

// next chooses the address to ask, and looks addresses up when none is left.
func (s *selection) next(ctx context.Context) (string, address, error) {
	for {
		var open []address
		fewest := maxTriesEach
		for a := range s.names {
			if n := s.tried[a]; n < fewest && !slices.Contains(s.t.avoid, a) {
				fewest, open = n, append(open[:0], a)
			} else if n == fewest && n < maxTriesEach && !slices.Contains(s.t.avoid, a) {
				open = append(open, a)
			}
		}
		// A server of the second try comes after one whose address is unknown.
		if len(open) > 0 && (fewest == 0 || !s.more()) {
			slices.SortFunc(open, address.Compare) // maps have no order, and runs shall repeat
			a := s.t.r.servers.choose(open, s.c.zone, s.t.r.random)
			s.tried[a]++
			return s.names[a], a, nil
		}
		if !s.more() {
			return "", address{}, errNoServer
		}
		if err := s.fetch(ctx); err != nil {
			return "", address{}, err
		}
	}
}

// more tells whether addresses can be looked up.
func (s *selection) more() bool {
	return len(s.unknown) > 0 && s.fetched < maxFetchesPerCut && s.t.fetches > 0
}

// fetch looks up the addresses of one server (RFC 9156 calls such lookups the
// resolver's own).
func (s *selection) fetch(ctx context.Context) error {
	name := s.unknown[0]
	s.unknown = s.unknown[1:]
	s.fetched++
	for _, typ := range s.t.r.families() {
		if s.t.fetches <= 0 {
			return nil
		}
		s.t.fetches--
		p, err := s.t.lookup(ctx, key{name, typ})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errBudget):
			return err
		case err != nil || p.kind == notExist:
			return nil
		}
		found := false
		for _, rr := range p.answer {
			if a := addressOf(rr); a.IsValid() && p.kind == positive {
				found = s.add(name, a) || found
			}
		}
		if found {
			return nil
		}
	}
	return nil
}

// failed notes what a server's failure means for the zone.
func (s *selection) failed(a address, err error) {
	if errors.Is(err, errLame) {
		s.tried[a] = maxTriesEach
		s.t.r.servers.note(a, func(st *server, now time.Time) { st.markLame(s.c.zone, now) })
		return
	}
	if errors.Is(err, errServer) || errors.Is(err, errForbidden) {
		s.tried[a] = maxTriesEach
	}
}
