package recursor

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	miekg "github.com/miekg/dns"
)

// world is a little Internet in memory: name servers by address.
type world struct {
	t  testing.TB
	wg sync.WaitGroup

	mu    sync.Mutex
	hosts map[netip.Addr]*host
	asked []asking
}

// asking is a query that arrived somewhere.
type asking struct {
	addr    netip.Addr
	name    string
	typ     uint16
	network string
	query   *miekg.Msg
}

func (a asking) String() string {
	return fmt.Sprintf("%v %s %s", a.addr, a.name, miekg.Type(a.typ))
}

// host is one name server with its zones. Twist, unless nil, changes what it
// says or how: nil drops the answer.
type host struct {
	zones map[string][]miekg.RR
	twist func(q asking, m *miekg.Msg) []*miekg.Msg
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, hosts: map[netip.Addr]*host{}}
	t.Cleanup(w.wg.Wait)
	return w
}

// serve puts a zone, as text, on a host.
func (w *world) serve(addr, origin, text string) *host {
	w.t.Helper()
	a := netip.MustParseAddr(addr)
	p := miekg.NewZoneParser(strings.NewReader(text), origin, "")
	p.SetDefaultTTL(300)
	var rrs []miekg.RR
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		rr.Header().Name = miekg.CanonicalName(rr.Header().Name)
		rrs = append(rrs, rr)
	}
	if p.Err() != nil {
		w.t.Fatal(p.Err())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hosts[a] == nil {
		w.hosts[a] = &host{zones: map[string][]miekg.RR{}}
	}
	w.hosts[a].zones[origin] = rrs
	return w.hosts[a]
}

func (w *world) twist(addr string, f func(q asking, m *miekg.Msg) []*miekg.Msg) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := netip.MustParseAddr(addr)
	if w.hosts[a] == nil {
		w.hosts[a] = &host{}
	}
	w.hosts[a].twist = f
}

// queries returns what was asked since the last call.
func (w *world) queries() []asking {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.asked
	w.asked = nil
	return list
}

func (w *world) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ap := netip.MustParseAddrPort(addr)
	w.mu.Lock()
	h := w.hosts[ap.Addr()]
	w.mu.Unlock()
	ours, theirs := net.Pipe()
	w.wg.Go(func() {
		defer ours.Close()
		buf := make([]byte, 64<<10)
		for {
			b, err := readQuery(ours, network, buf)
			if err != nil {
				return
			}
			for _, out := range w.handle(h, ap.Addr(), network, b) {
				if network == "tcp" {
					out = append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)
				}
				if _, err := ours.Write(out); err != nil {
					return
				}
			}
		}
	})
	return theirs, nil
}

func readQuery(c net.Conn, network string, buf []byte) ([]byte, error) {
	if network == "udp" {
		n, err := c.Read(buf)
		return buf[:n], err
	}
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(c, b)
	return b, err
}

func (w *world) handle(h *host, addr netip.Addr, network string, b []byte) [][]byte {
	query := new(miekg.Msg)
	if err := query.Unpack(b); err != nil {
		w.t.Errorf("a query that can't be read: %v", err)
		return nil
	}
	q := asking{addr, miekg.CanonicalName(query.Question[0].Name), query.Question[0].Qtype, network, query}
	w.mu.Lock()
	w.asked = append(w.asked, q)
	var twist func(q asking, m *miekg.Msg) []*miekg.Msg
	if h != nil {
		twist = h.twist
	}
	w.mu.Unlock()
	if h == nil {
		return nil // silence
	}
	m := new(miekg.Msg).SetReply(query)
	m.Compress = true
	size := miekg.MinMsgSize
	if opt := query.IsEdns0(); opt != nil {
		m.SetEdns0(1232, true)
		size = int(opt.UDPSize())
	}
	h.answer(m, q)
	list := []*miekg.Msg{m}
	if twist != nil {
		list = twist(q, m)
	}
	var out [][]byte
	for _, m := range list {
		if network == "udp" {
			m.Truncate(size)
		}
		b, err := m.Pack()
		if err != nil {
			w.t.Errorf("pack: %v", err)
		}
		out = append(out, b)
	}
	return out
}

// answer is RFC 1034 section 4.3.2 without wildcards.
func (h *host) answer(m *miekg.Msg, q asking) {
	origin := ""
	for o := range h.zones {
		if miekg.IsSubDomain(o, q.name) && len(o) > len(origin) && !(q.typ == miekg.TypeDS && o == q.name && o != ".") {
			origin = o
		}
	}
	if origin == "" {
		m.Rcode = miekg.RcodeRefused
		return
	}
	zone := h.zones[origin]
	at := func(name string, typ uint16) (list []miekg.RR) {
		for _, rr := range zone {
			if rr.Header().Name == name && rr.Header().Rrtype == typ {
				list = append(list, rr)
			}
		}
		return list
	}
	for name := q.name; name != origin; name = parent(name) {
		ns := at(name, miekg.TypeNS)
		if len(ns) == 0 || name == q.name && q.typ == miekg.TypeDS {
			continue
		}
		m.Ns = ns
		for _, rr := range ns {
			host := miekg.CanonicalName(rr.(*miekg.NS).Ns)
			m.Extra = append(m.Extra, at(host, miekg.TypeA)...)
			m.Extra = append(m.Extra, at(host, miekg.TypeAAAA)...)
		}
		return
	}
	m.Authoritative = true
	if m.Answer = at(q.name, q.typ); len(m.Answer) > 0 {
		if q.name == "." && q.typ == miekg.TypeNS {
			for _, rr := range m.Answer {
				m.Extra = append(m.Extra, at(rr.(*miekg.NS).Ns, miekg.TypeA)...)
			}
		}
		return
	}
	if m.Answer = at(q.name, miekg.TypeCNAME); len(m.Answer) > 0 {
		return
	}
	m.Ns = at(origin, miekg.TypeSOA)
	for _, rr := range zone {
		if miekg.IsSubDomain(q.name, rr.Header().Name) {
			return
		}
	}
	m.Rcode = miekg.RcodeNameError
}
