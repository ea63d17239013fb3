package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"slices"
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/exchange"
	"postrider/dns/recursor"
)

// chain is recursion from server to server, as pictures show it: a name server
// that is asked about a zone below its own asks that zone's server and passes its
// answer on. No name server of the world does that, for strangers at least; it is
// here to be compared, and for chained resolvers alone.
type chain struct {
	lab     *Lab
	machine *machine
}

const (
	chainPatience = 3 * time.Second
	chainServers  = 3 // of a zone that are tried
)

// chained has the addresses of the resolvers that have others ask for them, and
// of the servers that do so on the way; nil where the world has none.
func (l *Lab) chained() []netip.Prefix {
	w := l.World()
	if !slices.ContainsFunc(w.Hosts, func(h Host) bool { return h.Chained }) {
		return nil
	}
	var out []netip.Prefix
	for _, h := range w.Hosts {
		if h.Chained || h.Kind == KindRoot || h.Kind == KindTLD || h.Kind == KindName {
			out = append(out, netip.PrefixFrom(h.Address, h.Address.BitLen()))
		}
	}
	return out
}

// Generation never changes: nothing is kept.
func (c *chain) Generation() uint64 { return 0 }

// Resolve asks a server of the zone below that the question leads to.
func (c *chain) Resolve(ctx context.Context, q miekg.Question, ask recursor.Ask) recursor.Answer {
	fail := func(err error) recursor.Answer { return recursor.Answer{Rcode: miekg.RcodeServerFailure, Err: err} }
	if ask.NoRecursion {
		return recursor.Answer{Rcode: miekg.RcodeRefused}
	}
	servers := c.below(q)
	if len(servers) == 0 {
		return fail(errors.New("no zone of this server leads there"))
	}
	t := exchange.Transport{Dial: c.lab.network.dialer(c.machine.host), Clock: c.lab.clock}
	err := errors.New("none of its servers answers")
	for _, s := range servers[:min(len(servers), chainServers)] {
		var query *exchange.Query
		query, err = exchange.Pack(rand.Reader, q.Name, q.Qtype, func(m *miekg.Msg) { m.RecursionDesired = true; m.CheckingDisabled = true })
		if err != nil {
			return fail(err)
		}
		for _, network := range []string{"udp", "tcp"} {
			var reply *exchange.Reply
			if reply, err = t.Do(ctx, network, s, query, chainPatience); err != nil || reply.Truncated {
				continue
			}
			return recursor.Answer{Rcode: reply.Rcode, Answer: reply.Answer, Ns: reply.Ns}
		}
	}
	return fail(err)
}

// below has the addresses of the servers to which this server's zones delegate
// the name.
func (c *chain) below(q miekg.Question) []string {
	c.machine.mu.Lock()
	ns := c.machine.server
	c.machine.mu.Unlock()
	if ns == nil {
		return nil
	}
	var out []string
	for _, status := range ns.server.Zones() {
		if !miekg.IsSubDomain(miekg.Fqdn(status.Name), q.Name) {
			continue
		}
		z, err := ns.server.Zone(miekg.CanonicalName(status.Name))
		if err != nil {
			continue
		}
		w := c.lab.World()
		for at := miekg.CanonicalName(q.Name); miekg.IsSubDomain(z.Origin(), at) && at != z.Origin(); {
			for _, rr := range z.Find(at, miekg.TypeNS) {
				if h, ok := w.Host(hostOf(rr.(*miekg.NS).Ns)); ok {
					out = append(out, netip.AddrPortFrom(h.Address, 53).String())
				}
			}
			i, end := miekg.NextLabel(at, 0)
			if end {
				break
			}
			at = at[i:]
		}
	}
	return out
}

// hostOf is a name of the DNS as the world writes it.
func hostOf(name string) string {
	name = miekg.CanonicalName(name)
	return name[:max(len(name)-1, 0)]
}
