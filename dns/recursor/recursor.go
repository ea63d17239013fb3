package recursor

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/dnssec"
	"postrider/dns/exchange"
	"postrider/dns/names"
	"postrider/internal/clock"
)

// Options has what a Resolver needs; the zero value asks the public root and
// validates nothing.
type Options struct {
	Hints *Hints // nil: built in
	// Validator judges signatures; nil: every answer is Indeterminate.
	Validator *dnssec.Validator
	// Chained makes each server ask the next one on behalf of who asks it:
	// recursive queries go to the root's servers. For the lab only.
	Chained bool

	// Port is where name servers listen; 0 = 53.
	Port uint16
	// Local are the private and loopback networks in which name servers may
	// be asked; queries to others are not sent.
	Local []netip.Prefix
	// NoIPv6 leaves servers' IPv6 addresses alone.
	NoIPv6 bool
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error)

	// CacheBytes is how much the cache may hold; 0 = DefaultCacheBytes.
	CacheBytes int
	// NoAggressive asks about each name, also where validated proofs about its
	// neighbours deny it (RFC 8198).
	NoAggressive bool
	// NoStale turns RFC 8767 off, NoPrefetch the renewal of popular answers
	// ahead of their end.
	NoStale, NoPrefetch bool

	Clock clock.Clock
	Rand  io.Reader // nil: crypto/rand
	Log   *slog.Logger
	// Observe is called for each step of each question. It must not block.
	Observe func(Step)
}

// Resolver finds answers. Close it.
type Resolver struct {
	o       Options
	log     *slog.Logger
	hints   *Hints
	rand    *lockedReader
	cache   *cache
	servers *servers
	slots   chan struct{} // one for each exchange under way
	room    chan struct{} // one for each flight
	ctx     context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup

	generation atomic.Uint64

	mu         sync.Mutex
	closed     bool
	flights    map[flightKey]*flight
	calls      map[callKey]*call
	primeAfter time.Time
	noIPv6     time.Time // until then there is no way to IPv6 addresses

	anchorsDue  time.Time // of RFC 5011
	anchorsDone bool      // anchors do not change
	refreshing  bool
}

// New returns a resolver. It sends nothing before it is asked.
func New(o Options) (*Resolver, error) {
	if o.Hints == nil {
		o.Hints = BuiltinHints()
	}
	if o.Port == 0 {
		o.Port = 53
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.CacheBytes < 0 {
		return nil, errors.New("recursor: a cache of less than nothing")
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Resolver{
		o: o, log: o.Log, hints: o.Hints, rand: &lockedReader{r: o.Rand},
		cache: newCache(o.CacheBytes, o.Clock), servers: newServers(o.Clock),
		slots: make(chan struct{}, maxExchanges), room: make(chan struct{}, maxFlights),
		flights: map[flightKey]*flight{}, calls: map[callKey]*call{},
	}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r, nil
}

// Close ends what is under way and returns after the last goroutine.
func (r *Resolver) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop()
	r.wg.Wait()
}

// Ask is how a question is to be answered; the zero value is the usual way.
type Ask struct {
	// CheckingDisabled gives what the servers say without a look at the
	// signatures (the CD bit).
	CheckingDisabled bool
	// NoRecursion answers from the cache alone: with the answer, else with the
	// closest delegation that is known.
	NoRecursion bool
	// Referral, of a chained resolver, is where to begin in place of the root:
	// NS records of a zone and addresses of its servers, as a name server has
	// them for a zone below its own. An alias that leads out of that zone ends
	// the answer; whoever asked follows it.
	Referral []miekg.RR
	// Observe is called for each step, those before the caller joined
	// included, until Resolve returns. It must not block.
	Observe func(Step)
}

// Answer is what Resolve found. Its records are the caller's.
type Answer struct {
	Rcode int // SERVFAIL when nobody could tell: Err says why
	// Answer holds the records, aliases first, with the TTLs that remain and
	// with signatures; Ns holds the SOA record and proofs of a negative answer,
	// or the servers of a zone after NoRecursion.
	Answer, Ns, Extra []miekg.RR
	Security          Security
	// Authenticated tells that all of the answer is Secure (the AD bit).
	Authenticated  bool
	ExtendedErrors []ExtendedError
	FromCache      bool
	Stale          bool
	// FreshUntil is until when a copy may be given to others with its TTLs
	// counted down; the zero time if it may not.
	FreshUntil time.Time
	Err        error
}

// ExtendedError is one of RFC 8914.
type ExtendedError struct {
	Code uint16
	Text string
}

// Resolve answers a question of class IN. It returns after a bounded time, or
// when ctx is over.
func (r *Resolver) Resolve(ctx context.Context, q miekg.Question, a Ask) Answer {
	k := key{miekg.CanonicalName(q.Name), q.Qtype}
	switch {
	case q.Qclass != miekg.ClassINET:
		return refusal(miekg.RcodeRefused, "only class IN is resolved")
	case !askable(q.Qtype):
		return refusal(miekg.RcodeNotImplemented, "questions of this type are not resolved")
	}
	if _, ok := miekg.IsDomainName(k.name); !ok {
		return refusal(miekg.RcodeFormatError, "not a domain name")
	}
	if ans, ok := local(k); ok {
		return ans
	}
	now := r.o.Clock.Now()
	if pieces, ok := r.fromCache(k, a, now); ok {
		ans := r.assemble(pieces, a, now)
		ans.FromCache = true
		r.prefetch(k, a, pieces, now, &ans)
		return ans
	}
	if a.NoRecursion {
		return r.closestKnown(k.name)
	}
	var start *cut
	if r.o.Chained && len(a.Referral) > 0 {
		c, err := readCut(".", k.name, &miekg.Msg{Ns: a.Referral, Extra: a.Referral})
		if err != nil || c == nil {
			return refusal(miekg.RcodeServerFailure, "the referral does not lead to the name")
		}
		start = c
	}
	return r.fly(ctx, k, a, start)
}

// askable tells whether a type can be asked for: not transfers, nor what is no
// data (RFC 6895 section 3.1).
func askable(typ uint16) bool {
	return typ == miekg.TypeANY || typ != miekg.TypeNone && typ != miekg.TypeOPT && (typ < 128 || typ >= 256)
}

func refusal(rcode int, text string) Answer {
	return Answer{Rcode: rcode, Err: errors.New(text)}
}

// fromCache collects the pieces of an answer if all are known and none is over.
func (r *Resolver) fromCache(k key, a Ask, now time.Time) ([]*piece, bool) {
	var list []*piece
	for range maxAliases {
		p := r.cache.piece(k)
		if p == nil || p.left(now) <= 0 {
			p = r.cache.prove(k)
		}
		if p == nil || r.o.Validator != nil && !p.checked && !a.CheckingDisabled {
			return nil, false
		}
		r.observeCached(p, a, now)
		list = append(list, p)
		if !p.follows(k) {
			return list, true
		}
		k.name = p.target
	}
	return nil, false
}

// follows tells that a piece is an alias that leads on from the question k.
func (p *piece) follows(k key) bool {
	return p.kind == alias && k.typ != miekg.TypeCNAME && k.typ != miekg.TypeANY
}

func (r *Resolver) observeCached(p *piece, a Ask, now time.Time) {
	if a.Observe == nil && r.o.Observe == nil {
		return
	}
	kind := StepCached
	if p.stored.Equal(now) && p.addr == (address{}) {
		kind = StepProved
	}
	s := Step{
		Time: now, Kind: kind, Question: p.key.question(), Depth: 1, Zone: p.zone, Server: p.server,
		Reply: p.message(), TTL: p.left(now), Security: p.security,
	}
	for _, f := range []func(Step){a.Observe, r.o.Observe} {
		if f != nil {
			f(s)
		}
	}
}

// closestKnown is the answer to a question without recursion about a name that
// is not in the cache: whom one might ask.
func (r *Resolver) closestKnown(name string) Answer {
	now := r.o.Clock.Now()
	for {
		if c := r.cache.delegation(name); c != nil {
			ans := Answer{}
			ttl := uint32(c.expires().Sub(now) / time.Second)
			for _, s := range c.servers {
				ans.Ns = append(ans.Ns, &miekg.NS{Hdr: miekg.RR_Header{Name: c.zone, Rrtype: miekg.TypeNS, Class: miekg.ClassINET, Ttl: ttl}, Ns: s})
				for _, a := range c.glue[s] {
					ans.Extra = append(ans.Extra, addressRecord(s, a, ttl))
				}
			}
			return ans
		}
		if name == "." {
			return Answer{Rcode: miekg.RcodeServerFailure, Err: errors.New("nothing is known of it without asking")}
		}
		name = names.Parent(name)
	}
}

func addressRecord(name string, a address, ttl uint32) miekg.RR {
	h := miekg.RR_Header{Name: name, Rrtype: miekg.TypeA, Class: miekg.ClassINET, Ttl: ttl}
	if a.Is4() {
		return &miekg.A{Hdr: h, A: a.AsSlice()}
	}
	h.Rrtype = miekg.TypeAAAA
	return &miekg.AAAA{Hdr: h, AAAA: a.AsSlice()}
}

// Flush forgets what is known of a name and of all below it, and returns how
// many entries that were.
func (r *Resolver) Flush(name string) int {
	name = miekg.CanonicalName(name)
	r.generation.Add(1)
	if r.o.Validator != nil {
		r.o.Validator.Flush()
	}
	return r.cache.flush(func(n string) bool { return miekg.IsSubDomain(name, n) })
}

// Generation changes with each Flush; copies of older answers are not to be
// given any more.
func (r *Resolver) Generation() uint64 {
	return r.generation.Load()
}

// families are the types of addresses that servers are asked at.
func (r *Resolver) families() []uint16 {
	if r.hasFamily(netip.IPv6Unspecified()) {
		return []uint16{miekg.TypeA, miekg.TypeAAAA}
	}
	return []uint16{miekg.TypeA}
}

func (r *Resolver) hasFamily(a address) bool {
	if a.Is4() {
		return true
	}
	if r.o.NoIPv6 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.o.Clock.Now().Before(r.noIPv6)
}

// noWay remembers that there is no route to IPv6 addresses at all.
func (r *Resolver) noWay(a address, err error) {
	if a.Is4() || !errors.Is(err, syscall.ENETUNREACH) && !errors.Is(err, syscall.EAFNOSUPPORT) && !errors.Is(err, syscall.EADDRNOTAVAIL) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noIPv6 = r.o.Clock.Now().Add(plainFor)
}

// mayPrime tells whether it is time to ask for the root's servers.
func (r *Resolver) mayPrime() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.o.Clock.Now()
	if now.Before(r.primeAfter) {
		return false
	}
	r.primeAfter = now.Add(primeRetry)
	return true
}

func (r *Resolver) primed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.primeAfter = time.Time{}
}

// lockedReader lets several use a source of random octets.
type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedReader) Read(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(b)
}

// fill makes b random. Without random octets nothing can be asked safely, so
// that is a bug of the machine.
func (r *Resolver) fill(b []byte) {
	if _, err := io.ReadFull(r.rand, b); err != nil {
		panic(fmt.Sprintf("recursor: no random numbers: %v", err))
	}
}

// random is a number below n.
func (r *Resolver) random(n int) int {
	var b [4]byte
	r.fill(b[:])
	return int(binary.BigEndian.Uint32(b[:]) % uint32(n))
}

func (r *Resolver) shuffle(n int, swap func(i, j int)) {
	for i := n - 1; i > 0; i-- {
		swap(i, r.random(i+1))
	}
}

// failureOf is a failure as an answer.
func failureOf(err error) Answer {
	return Answer{Rcode: miekg.RcodeServerFailure, Err: err, ExtendedErrors: []ExtendedError{extended(err)}}
}

// extended is the extended error that a client gets to see for ours.
func extended(err error) ExtendedError {
	switch {
	case errors.Is(err, errNoServer) && errors.Is(err, exchange.ErrTimeout):
		return ExtendedError{miekg.ExtendedErrorCodeNoReachableAuthority, "no name server of the zone answers"}
	case errors.Is(err, errNoServer):
		return ExtendedError{miekg.ExtendedErrorCodeNoReachableAuthority, "no name server of the zone gives an answer"}
	case errors.Is(err, context.DeadlineExceeded):
		return ExtendedError{miekg.ExtendedErrorCodeNoReachableAuthority, "the name servers take too long"}
	case errors.Is(err, errClosed):
		return ExtendedError{miekg.ExtendedErrorCodeNotReady, ""}
	}
	return ExtendedError{miekg.ExtendedErrorCodeOther, err.Error()}
}
