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
	"time"

	miekg "github.com/miekg/dns"

	"postrider/dns/zone"
)

// world is a little Internet in memory: name servers by address.
type world struct {
	t  testing.TB
	wg sync.WaitGroup

	mu     sync.Mutex
	hosts  map[netip.Addr]*host
	asked  []asking
	mangle func(b []byte) []byte // of all answers, unless nil
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
	zones map[string]*zone.Zone
	twist func(q asking, m *miekg.Msg) []*miekg.Msg
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

func newWorld(t testing.TB) *world {
	w := &world{t: t, hosts: map[netip.Addr]*host{}}
	t.Cleanup(w.wg.Wait)
	return w
}

// serve puts a zone, as text, on a host.
func (w *world) serve(addr, origin, text string) *host {
	w.t.Helper()
	a := netip.MustParseAddr(addr)
	z, err := zone.Read(strings.NewReader("$TTL 300\n"+text), zone.Options{Origin: origin})
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hosts[a] == nil {
		w.hosts[a] = &host{zones: map[string]*zone.Zone{}}
	}
	w.hosts[a].zones[origin] = z
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

// twistAll is twist of all hosts.
func (w *world) twistAll(f func(q asking, m *miekg.Msg) []*miekg.Msg) {
	for a := range w.hosts {
		w.twist(a.String(), f)
	}
}

// late is a twist: each answer takes its time.
func late(d time.Duration) func(asking, *miekg.Msg) []*miekg.Msg {
	return func(_ asking, m *miekg.Msg) []*miekg.Msg {
		<-time.After(d) // the bubble's time
		return []*miekg.Msg{m}
	}
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
		if w.mangle != nil {
			b = w.mangle(b)
		}
		out = append(out, b)
	}
	return out
}

// answer is that of the deepest zone that the host has.
func (h *host) answer(m *miekg.Msg, q asking) {
	var z *zone.Zone
	for origin, candidate := range h.zones {
		if miekg.IsSubDomain(origin, q.name) && (z == nil || len(origin) > len(z.Origin())) &&
			!(q.typ == miekg.TypeDS && origin == q.name && origin != ".") {
			z = candidate
		}
	}
	if z == nil {
		m.Rcode = miekg.RcodeRefused
		return
	}
	r := z.Answer(miekg.Question{Name: q.name, Qtype: q.typ, Qclass: miekg.ClassINET}, zone.AnswerOptions{DNSSEC: true})
	m.Rcode, m.Authoritative, m.Answer, m.Ns = r.Rcode, r.Authoritative, r.Answer, r.Ns
	m.Extra = append(m.Extra, r.Extra...)
}
