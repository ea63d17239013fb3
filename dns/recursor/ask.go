package recursor

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/exchange"
)

var (
	errCookie    = errors.New("its answer lacks our cookie")
	errBadCookie = errors.New("it wants a new cookie")
	errForbidden = errors.New("queries are not sent to this address")
	errOtherwise = errors.New("it answers twice and says different things")
)

// call is one question to one server under way, for all who want it.
type call struct {
	done  chan struct{}
	reply *exchange.Reply
	err   error
}

type callKey struct {
	addr address
	key  key
}

// ask puts a question to one server. Those who ask the same meanwhile get the
// same answer.
func (r *Resolver) ask(ctx context.Context, addr address, k key) (*exchange.Reply, error) {
	if !mayAsk(addr, r.o.Local) {
		return nil, errForbidden
	}
	ck := callKey{addr, k}
	r.mu.Lock()
	c, running := r.calls[ck]
	if !running {
		if r.closed {
			r.mu.Unlock()
			return nil, errClosed
		}
		c = &call{done: make(chan struct{})}
		r.calls[ck] = c
		r.wg.Go(func() {
			defer func() {
				r.mu.Lock()
				delete(r.calls, ck)
				r.mu.Unlock()
				close(c.done)
			}()
			c.reply, c.err = r.exchange(addr, k)
		})
	}
	r.mu.Unlock()
	select {
	case <-c.done:
		return c.reply, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// exchange gets the answer, and notes what that teaches about the server.
func (r *Resolver) exchange(addr address, k key) (*exchange.Reply, error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-r.ctx.Done():
		return nil, errClosed
	}
	reply, err := r.attempt(addr, k)
	r.noWay(addr, err)
	if err == nil && reply.Network == "udp" {
		r.servers.note(addr, func(st *server, _ time.Time) { st.measured(reply.Took) })
	}
	switch {
	case r.ctx.Err() != nil:
		return nil, errClosed
	case err == nil || errors.Is(err, exchange.ErrHeader) || errors.Is(err, exchange.ErrMalformed):
		r.servers.note(addr, func(st *server, _ time.Time) { st.timeouts = 0 })
	default:
		r.servers.note(addr, func(st *server, now time.Time) {
			st.timedOut(now)
			if st.timeouts == deadAfter {
				r.log.Debug("a name server does not answer", "server", addr, "error", err)
			}
		})
	}
	return reply, err
}

// way is how a query is sent: what the server was found not to know is left
// out.
type way struct {
	network string
	edns    bool
	mixed   bool // 0x20
	size    uint16
}

// attempt asks over UDP, and by other ways as far as the server makes it
// needed: without EDNS, over TCP, without mixed case. Each is taken once.
func (r *Resolver) attempt(addr address, k key) (*exchange.Reply, error) {
	st := r.servers.get(addr)
	now := r.o.Clock.Now()
	w := way{network: "udp", edns: !now.Before(st.noEDNS), mixed: !now.Before(st.noCase), size: exchange.Size}
	if now.Before(st.small) || st.timeouts > 0 {
		w.size = miekg.MinMsgSize // larger answers may be lost on the way: RFC 6891 section 6.2.5
	}
	newCookie, overTCP := true, true
	for {
		reply, err := r.once(addr, k, w, st.rto())
		switch {
		case err == nil:
			return reply, nil
		case errors.Is(err, exchange.ErrNoEDNS) && w.edns:
			w.edns = false
			r.servers.note(addr, func(st *server, now time.Time) { st.noEDNS = now.Add(plainFor) })
		case errors.Is(err, errBadCookie) && newCookie && w.network == "udp":
			newCookie = false // the answer brought the cookie: RFC 7873 section 5.3
		case w.network == "udp" && overTCP && (errors.Is(err, exchange.ErrTruncated) || errors.Is(err, exchange.ErrForged) ||
			errors.Is(err, exchange.ErrCase) || errors.Is(err, errCookie) || errors.Is(err, errBadCookie)):
			reply, tcp := r.overTCP(addr, k, w, st.rto(), err)
			if tcp == nil || !errors.Is(err, exchange.ErrCase) {
				return reply, tcp
			}
			return r.lowerCase(addr, k, w, st.rto())
		default:
			return nil, err
		}
	}
}

// overTCP asks again where nobody can slip in an answer. What made UDP fail is
// then known to be the server's way.
func (r *Resolver) overTCP(addr address, k key, w way, rto time.Duration, why error) (*exchange.Reply, error) {
	w.network, w.mixed = "tcp", false
	reply, err := r.once(addr, k, w, max(2*rto, time.Second))
	if err != nil {
		return nil, err
	}
	r.servers.note(addr, func(st *server, now time.Time) {
		switch {
		case errors.Is(why, exchange.ErrCase):
			st.noCase = now.Add(plainFor)
		case errors.Is(why, errCookie):
			st.cookie = nil
		}
	})
	return reply, nil
}

// lowerCase serves a name server that changes the case of names and knows no
// TCP: it is asked twice, with ports and identifiers that differ, and must say
// the same both times.
func (r *Resolver) lowerCase(addr address, k key, w way, rto time.Duration) (*exchange.Reply, error) {
	w.mixed = false
	first, err := r.once(addr, k, w, rto)
	if err != nil {
		return nil, err
	}
	second, err := r.once(addr, k, w, rto)
	if err != nil {
		return nil, err
	}
	if !sameRecords(first.Answer, second.Answer) || !sameRecords(first.Ns, second.Ns) || first.Rcode != second.Rcode {
		return nil, errOtherwise
	}
	r.servers.note(addr, func(st *server, now time.Time) { st.noCase = now.Add(plainFor) })
	return first, nil
}

// sameRecords compares without order and TTL.
func sameRecords(a, b []miekg.RR) bool {
	if len(a) != len(b) || len(a) > maxRecords {
		return false
	}
	count := map[string]int{}
	text := func(rr miekg.RR) string { rr = miekg.Copy(rr); rr.Header().Ttl = 0; return rr.String() }
	for i := range a {
		count[text(a[i])]++
		count[text(b[i])]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// once sends one query.
func (r *Resolver) once(addr address, k key, w way, rto time.Duration) (*exchange.Reply, error) {
	name := k.name
	if w.mixed {
		name = r.mixCase(name)
	}
	var client, known []byte
	q, err := exchange.Pack(r.rand, name, k.typ, func(m *miekg.Msg) {
		m.RecursionDesired = r.o.Chained
		m.CheckingDisabled = r.o.Chained // we validate
		if !w.edns {
			return
		}
		m.SetEdns0(w.size, true)
		client, known = r.cookies(addr)
		opt := m.IsEdns0()
		opt.Option = append(opt.Option, &miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: hex.EncodeToString(append(bytes.Clone(client), known...))})
	})
	if err != nil {
		return nil, err
	}
	q.Exact = w.mixed
	if w.edns {
		q.Accept = func(m *miekg.Msg) error { return r.checkCookie(addr, m, client, known, w.network) }
	}
	to := netip.AddrPortFrom(addr, r.o.Port).String()
	return exchange.Transport{Dial: r.o.Dial, Clock: r.o.Clock}.Do(r.ctx, w.network, to, q, rto)
}

// cookies returns ours for a server, made at random once (RFC 9018 section 3),
// and the server's as far as we have it.
func (r *Resolver) cookies(addr address) (client, known []byte) {
	r.servers.note(addr, func(st *server, _ time.Time) {
		for st.client == [8]byte{} {
			r.fill(st.client[:])
		}
		client, known = bytes.Clone(st.client[:]), bytes.Clone(st.cookie)
	})
	return client, known
}

// checkCookie drops answers that a guesser made: those with another cookie than
// ours (RFC 7873 section 5.3). One without, from a server that had sent one,
// is asked for again over TCP.
func (r *Resolver) checkCookie(addr address, m *miekg.Msg, client, known []byte, network string) error {
	var got []byte
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if c, ok := o.(*miekg.EDNS0_COOKIE); ok {
				b, err := hex.DecodeString(c.Cookie)
				if err != nil || len(b) < 16 || len(b) > 40 || !bytes.Equal(b[:8], client) {
					return exchange.ErrStray
				}
				got = b[8:]
			}
		}
	}
	if got == nil {
		if known != nil && network == "udp" {
			return errCookie
		}
		return nil
	}
	r.servers.note(addr, func(st *server, _ time.Time) { st.cookie = bytes.Clone(got) })
	if m.Rcode == miekg.RcodeBadCookie {
		return errBadCookie
	}
	return nil
}

// mixCase gives each letter of a name a random case: 0x20
// (draft-vixie-dnsext-dns0x20).
func (r *Resolver) mixCase(name string) string {
	b := []byte(name)
	bits := make([]byte, (len(b)+7)/8)
	r.fill(bits)
	for i, c := range b {
		if 'a' <= c && c <= 'z' && bits[i/8]>>(i%8)&1 == 1 {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

func (r *Resolver) serverText(addr address) string {
	return netip.AddrPortFrom(addr, r.o.Port).String()
}

var errClosed = fmt.Errorf("the resolver is closed: %w", context.Canceled)
